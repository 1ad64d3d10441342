"""Local worker processes. They are fresh interpreters, because a fork breaks torch's threads.

A worker takes one job at a time. If it dies, its job runs again. All workers end with this process.
"""

import contextlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from ddhub.base import log, progress, same_folder, stopping
from ddhub.base.errors import UserError
from ddhub.base.jobs.board import LEFT, POLL, Board, attempt_pickled
from ddhub.base.log import warn
from ddhub.base.units import counted, listed

ATTEMPTS = 3  # deaths of a job's workers after which the job is reported as failed

# multiprocessing's own spawn runs the caller's script again. Scripts need a guard against that, and notebooks have
# none.
CODE = """
import signal
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from ddhub.base.jobs import workers
workers.main()
"""


@dataclass
class Worker:
    """A process, the pipe to it, and its current job."""

    index: int
    process: subprocess.Popen[bytes]
    pipe: Connection
    path: Path | None = None
    doing: str = "starting"

    @classmethod
    def start(cls, index: int) -> "Worker":
        """Start a process. LOCAL_RANK tells it its GPU."""
        ours, theirs = Pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(theirs.fileno()), json.dumps(sys.path), str(log.ROOT.getEffectiveLevel())],
            stdin=subprocess.PIPE,  # never written to: it closes when this process ends
            pass_fds=[theirs.fileno()],
            env={"LOCAL_RANK": str(index), **os.environ},  # torchrun's own value wins
        )
        theirs.close()
        return cls(index, process, ours)

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        assert self.process.stdin is not None
        self.process.stdin.close()


def work(board: Board, count: int) -> None:
    """Run the jobs of a board in `count` processes."""
    with _team(min(count, len(board.open))) as team, progress.busy(lambda: _doing(team)):
        deaths: dict[Path, int] = {}
        while board.open or any(worker.path for worker in team):
            for worker in team:
                if worker.path is None and (path := board.take()) is not None:
                    _give(worker, board, path)
            if not any(worker.path for worker in team):
                board.wait()
                continue
                # The time limit: children of a dead worker may keep its end of the pipe open.
            wait([worker.pipe for worker in team if worker.path], timeout=POLL)
            for place, worker in enumerate(team):
                if worker.path is not None and not _settle(worker, board):
                    team[place] = _replace(worker, board, deaths)


def _doing(team: list[Worker]) -> str:
    """What the processes at work do, each thing once; nothing where all of them say it themselves."""
    told = list(dict.fromkeys(worker.doing for worker in team if worker.path and worker.doing))
    return f"{counted(len(team), 'worker process')}: {listed(told, 3)}" if told else ""


@contextlib.contextmanager
def _team(count: int) -> Iterator[list[Worker]]:
    team: list[Worker] = []
    try:
        for index in range(count):
            team.append(Worker.start(index))
        yield team
    except KeyboardInterrupt:
        _ask_to_end(team)
        raise
    finally:
        for worker in team:
            worker.stop()


def _ask_to_end(team: list[Worker]) -> None:
    """Let workers save their work; after a time limit they are ended."""
    stopping.goes_on(LEFT)
    for worker in team:
        worker.process.terminate()
    until = time.monotonic() + stopping.PATIENCE + 1
    for worker in team:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, until - time.monotonic()))
        with contextlib.suppress(EOFError, OSError):
            while worker.pipe.poll():
                if isinstance(message := worker.pipe.recv(), logging.LogRecord):
                    log.receive(message)


def _give(worker: Worker, board: Board, path: Path) -> None:
    worker.path = path
    with contextlib.suppress(OSError):  # it is dead, which _settle finds
        worker.pipe.send((pickle.dumps(board.jobs[path]), path, same_folder.number_of(path.parent)))


def _settle(worker: Worker, board: Board) -> bool:
    """Handle a worker's message, if there is one; False if the worker is dead."""
    ended = worker.process.poll() is not None  # asked first, because its last message may still be in the pipe
    try:
        while worker.pipe.poll():
            fault = worker.pipe.recv()
            if isinstance(fault, logging.LogRecord):
                log.receive(fault)
                continue
            if isinstance(fault, str):
                worker.doing = fault
                continue
            assert worker.path is not None
            board.settle(worker.path, fault)
            worker.path = None
            return True
    except (EOFError, OSError):
        return False
    return not ended


def _replace(worker: Worker, board: Board, deaths: dict[Path, int]) -> Worker:
    """Start another worker for a dead one. Its job returns to the board, or fails after too many deaths."""
    path = worker.path
    assert path is not None
    worker.stop()
    deaths[path] = deaths.get(path, 0) + 1
    how = f"its worker process ended by {_ending(worker.process.returncode)}"
    if deaths[path] < ATTEMPTS:
        warn(f"{path.name}: {how}; it is run again")
        board.put_back(path)
    else:
        advice = "fewer --workers: the system ends processes when memory runs out"
        board.settle(path, UserError(f"{path.name}: {how}, {ATTEMPTS} times", next=advice))
    return Worker.start(worker.index)


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def main() -> None:
    """Run as a worker: do the jobs that come through the pipe until it closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe = Connection(int(sys.argv[1]))
    lock = threading.RLock()  # reentrant: a signal handler may log in the middle of a message

    def send(message: object) -> None:
        with lock:
            pipe.send(message)

    log.through(send, int(sys.argv[3]))
    try:
        with stopping.heeded(), contextlib.suppress(EOFError, OSError), progress.passed_on(send):
            while True:
                send(attempt_pickled(*pipe.recv()))
    except stopping.Stopped as fault:  # by the parent, or by a cluster that stops its processes
        sys.exit(stopping.exit_code(fault))


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)
