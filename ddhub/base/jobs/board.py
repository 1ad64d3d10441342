"""The board on which every engine finds its next job: not done, and claimed by nobody else."""

import pickle
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from ddhub.base.errors import UserError, explained, memory_errors
from ddhub.base.jobs.claims import Claims, holder
from ddhub.base.log import say

# Writes the file that it is given, atomically, and last where it writes others beside it. Several processes: pickled.
Job = Callable[[Path], None]

POLL = 0.5  # seconds between two looks at what others are doing


class Board:
    """The jobs of one call of `run_all`."""

    def __init__(self, jobs: Mapping[Path, Job], claims: Claims) -> None:
        self.jobs, self.claims = jobs, claims
        self.open = dict.fromkeys(path for path in jobs if not path.exists())  # neither done nor handed out
        self.faults: list[tuple[Path, Exception]] = []
        self._said = False

    def take(self) -> Path | None:
        """Hand out a job, claimed; None while others work on all that are open."""
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
        """Give others time for what they claimed, having said so once."""
        if not self._said and self.open:
            say(f"waiting for {len(self.open)} done elsewhere, the first by {holder(next(iter(self.open)))}")
            self._said = True
        time.sleep(POLL)

    def put_back(self, path: Path) -> None:
        """Take back a job that was not done, to be handed out again; others may take it too."""
        self.claims.release(path)
        self.open[path] = None

    def settle(self, path: Path, fault: Exception | None = None) -> None:
        """Take back a job, done or failed."""
        self.claims.release(path)
        if fault is not None:
            say(f"failed: {path.name}: {fault}")
            self.faults.append((path, fault))


def attempt(job: Job, path: Path) -> Exception | None:
    """Run a job; what it raised, without the tensors that its frames hold."""
    try:
        with memory_errors(path.stem):
            job(path)
    except Exception as fault:
        held: BaseException | None = fault
        while held is not None:
            traceback.clear_frames(held.__traceback__)
            held = held.__cause__ or held.__context__
        return (isinstance(fault, OSError) and explained(fault)) or fault
    return None


def attempt_pickled(job: bytes, path: Path) -> Exception | None:
    """The same in another process: faults that are not the user's come back as their traceback's text."""

    def unpacked(path: Path) -> None:
        pickle.loads(job)(path)

    fault = attempt(unpacked, path)
    if fault is None or isinstance(fault, UserError):
        return fault and UserError(*fault.args, next=fault.next)
    return RuntimeError(f"{path.name}:\n{''.join(traceback.format_exception(fault))}")
