"""Ray as an engine: each job is a task. Ray runs it again when its process or node dies.

A task returns the bytes of its files and this process writes them, so nodes need not share the output folder. Every
node needs the same version of ddhub and must be able to read a job's inputs.
"""

import contextlib
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ddhub import __version__
from ddhub.base import files, log
from ddhub.base.errors import UserError
from ddhub.base.jobs.board import POLL, Board, attempt, attempt_pickled
from ddhub.base.log import warn

RETRIES = 3  # tries of a task whose process or node died


def work(board: Board, address: str, *, cpus: int, gpus: bool) -> None:
    """Run the jobs of a board as tasks of a Ray cluster.

    Args:
        address: the address of the cluster; `local` starts one here.
        cpus: the CPUs of a task.
        gpus: whether a task takes a GPU, if the cluster has any.

    Raises:
        UserError: if the cluster cannot be reached.
    """
    if not board.open:
        return
    import ray

    with _connected(address):
        submit = _submitter(cpus, gpus)
        running: dict[Any, Path] = {}
        level = log.ROOT.getEffectiveLevel()
        try:
            while board.open or running:
                while (path := board.take()) is not None:
                    running[submit(pickle.dumps(board.jobs[path]), path.name, __version__, level)] = path
                if not running:
                    board.wait()
                    continue
                for task in ray.wait(list(running), timeout=POLL)[0]:
                    path = running.pop(task)
                    board.settle(path, attempt(_receiver(task), path))
        finally:
            for task in running:
                ray.cancel(task, force=True)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connect to a cluster, or start one here. A connection of the caller is used and stays open."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics, unless the user allows them
    how = {"include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address=address, logging_level="warning", **how)
    except (OSError, RuntimeError, ValueError) as fault:
        reason = next(iter(str(fault).splitlines()), type(fault).__name__)
        raise UserError(f"--ray {address}: cannot connect: {reason}", next="ray status, or --ray local") from fault
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at the address. Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _submitter(cpus: int, gpus: bool) -> Callable[..., Any]:
    import ray

    taken = int(gpus and ray.cluster_resources().get("GPU", 0) >= 1)
    largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if largest < cpus:
        warn(f"jobs wait for a node with {cpus} CPUs; the largest has {largest:g} (see --threads)")
    submit: Callable[..., Any] = ray.remote(_task).options(num_cpus=cpus, num_gpus=taken, max_retries=RETRIES).remote
    return submit


def _task(job: bytes, name: str, version: str, level: int) -> tuple[dict[str, bytes], Exception | None]:
    """Run a job on a node. Return the files that it wrote and the exception that it raised."""
    log.to_stderr(level)  # Ray forwards it to the command's stderr
    if version != __version__:
        return {}, UserError(f"{socket.gethostname()}: has ddhub {__version__}, and the command ddhub {version}")
    with tempfile.TemporaryDirectory(prefix="ddhub-") as folder:
        path = Path(folder) / name
        fault = attempt_pickled(job, path)
        return {found.name: found.read_bytes() for found in Path(folder).iterdir() if found.is_file()}, fault


def _receiver(task: Any) -> Callable[[Path], None]:
    """A job that writes the files of a finished task."""
    import ray

    def receive(path: Path) -> None:
        try:
            given, fault_there = ray.get(task)
        except ray.exceptions.RayError as fault:
            reason = next(iter(str(fault).splitlines()), type(fault).__name__)
            raise UserError(f"{path.name}: Ray gave it up: {reason}", next="ray status") from fault
        for name in sorted(given, key=lambda name: name == path.name):  # the job's own file last: it marks the end
            if not path.with_name(name).exists():
                files.write_bytes(path.with_name(name), given[name])
        if fault_there is not None:
            raise fault_there

    return receive
