"""The board of jobs: every engine takes its next job here, one that is neither done nor claimed."""

import pickle
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from ddhub.base import progress, same_folder, stopping
from ddhub.base.errors import UserError, as_user_error, memory_errors, quoted
from ddhub.base.jobs.claims import EXPIRY, Claims, holder, path_of, pulse
from ddhub.base.log import say, warn
from ddhub.base.units import duration

# Writes the given file atomically, after any files beside it. It is pickled for other processes.
Job = Callable[[Path], None]

POLL = 0.5  # seconds between two looks at what others are doing
LEFT = "with what is left"
PATIENCE = 3 * EXPIRY  # seconds of waiting for a claim that does not change


class Board:
    """The jobs of one call of `run_all`.

    Args:
        look: called when new outputs may exist.
    """

    def __init__(self, jobs: Mapping[Path, Job], claims: Claims, look: Callable[[], None]) -> None:
        self.jobs, self.claims, self.look = jobs, claims, look
        self.open = dict.fromkeys(path for path in jobs if not path.exists())  # jobs neither done nor handed out
        if len(self.open) < len(jobs):
            stopping.goes_on(LEFT)
        self.faults: list[tuple[Path, Exception]] = []
        self._said = False
        self._seen: dict[Path, tuple[object, float]] = {}  # the pulse of a claim, and the time of its last change

    def take(self) -> Path | None:
        """Claim a job and hand it out; None while others work on all open jobs."""
        for path in list(self.open):
            if self.claims.take(path):
                del self.open[path]
                if not path.exists():
                    return path
                self.claims.release(path)  # another process finished it while we asked
            elif path.exists():
                del self.open[path]
        return None

    def wait(self) -> None:
        """Wait for jobs that others claimed, and say so once."""
        if not self._said and self.open:
            say(f"waiting for {len(self.open)} done elsewhere, the first by {holder(next(iter(self.open)))}")
            self._said = True
        for path in self.open:
            self._refuse_dead(path)
        time.sleep(POLL)
        self.look()

    def _refuse_dead(self, path: Path) -> None:
        """Stop waiting for a claim whose heartbeat stopped. This process's own clock decides, not file times."""
        beaten, now = pulse(path), time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if beaten is None or beaten != known:
            self._seen[path] = (beaten, now)
        elif now - since > PATIENCE:
            raise UserError(
                f"{path}: claimed by {holder(path)}, of which nothing was seen for {duration(now - since)}",
                next=f"rm {quoted(path_of(path))}, if that process is gone; then the same command again",
            )

    def put_back(self, path: Path) -> None:
        """Return an unfinished job to the board, so that any process can take it."""
        self.claims.release(path)
        self.open[path] = None

    def settle(self, path: Path, fault: Exception | None = None) -> None:
        """Return a finished or failed job."""
        self.claims.release(path)
        if fault is None:
            stopping.goes_on(LEFT)
        else:
            warn(f"failed: {path.name}: {fault}")
            self.faults.append((path, fault))
        self.look()


def attempt(job: Job, path: Path, number: same_folder.Number | None = None) -> Exception | None:
    """Run a job and return what it raised, without the tensors in its frames.

    Args:
        number: the identity of the output's folder, as known to the process that hands out the job.
    """
    try:
        with same_folder.kept(path.parent, number), memory_errors(path.stem):
            job(path)
    except Exception as fault:
        if (stopped := stopping.in_place_of(fault)) is not None:
            raise stopped from fault
        held: BaseException | None = fault
        while held is not None:
            traceback.clear_frames(held.__traceback__)
            held = held.__cause__ or held.__context__
        return (isinstance(fault, OSError) and as_user_error(fault)) or fault
    finally:
        if path.exists():  # said here too, because a signal may come before the board settles the job
            stopping.goes_on(LEFT)
    return None


def attempt_pickled(job: bytes, path: Path, number: same_folder.Number | None = None) -> Exception | None:
    """Run a pickled job in another process. Faults that are not UserErrors return as the text of their traceback."""

    def unpacked(path: Path) -> None:
        with progress.busy("loading libraries"):  # those of its functions
            call = pickle.loads(job)
        call(path)

    fault = attempt(unpacked, path, number)
    if fault is None or isinstance(fault, UserError):
        return fault and UserError(*fault.args, next=fault.next)
    return RuntimeError(f"{path.name}:\n{''.join(traceback.format_exception(fault))}")
