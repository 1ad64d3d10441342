"""Independent jobs as a dict {output file: function}. A job is done if its file exists, so a rerun skips it.

A failed job does not stop the others. Processes and machines that share a folder claim a job before they begin it, so
the same command can run many times at once. The engines:

    a loop                 the default
    worker processes       `--workers N`; one that dies loses its own job, which is run again
    shards                 `--shard i/n`, as in a SLURM array, or RANK and WORLD_SIZE as torchrun sets them
    Ray                    `--ray local` or its address; outputs travel back, so nodes need not share the folder

For worker processes and Ray a job must be picklable: a function of a module with small arguments
(`functools.partial`), not a closure.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ddhub.base import same_folder
from ddhub.base.errors import UserError
from ddhub.base.jobs.board import Board, Job, attempt
from ddhub.base.jobs.claims import Claims
from ddhub.base.jobs.tally import Tally

__all__ = ["Engine", "Job", "choose", "run_all"]


@dataclass(frozen=True)
class Engine:
    """How jobs are spread over processes and machines."""

    workers: int = 1  # processes on this machine
    shard: tuple[int, int] = (0, 1)  # (index, number of shards)
    ray: str | None = None  # an address, or `local`
    cpus: int = 1  # of one Ray task
    gpus: bool = True  # whether a Ray task takes a GPU, where the cluster has any

    def part(self, jobs: Mapping[Path, Job]) -> dict[Path, Job]:
        """The jobs of this shard, in the order given: every n-th of the sorted outputs, done or not."""
        index, count = self.shard
        mine = set(sorted(jobs)[index::count])
        return {path: job for path, job in jobs.items() if path in mine}


def choose(workers: int | None = None, shard: str | None = None, ray: str | None = None) -> Engine:
    """Choose the engine for these options. Without --shard and --ray, torchrun's RANK and WORLD_SIZE are a shard.

    Raises:
        UserError: if options contradict each other, or if Ray is not installed.
    """
    if ray is not None:
        if shard is not None or (workers or 1) > 1:
            raise UserError("--ray: spreads the jobs by itself", next="leave --shard and --workers out")
        if importlib.util.find_spec("ray") is None:
            raise UserError("--ray: Ray is not installed", next="pip install ray")
        return Engine(ray=ray)
    return Engine(workers=workers or 1, shard=_shard(shard) if shard is not None else _torchrun())


def run_all(
    jobs: Mapping[Path, Job],
    engine: Engine = Engine(),
    *,
    name: str = "jobs",
    costs: Mapping[Path, float] | None = None,
) -> None:
    """Run every job of this shard whose file does not exist, and wait for jobs that others have claimed.

    Args:
        name: the noun for the outputs in progress messages.
        costs: the cost of each output in any unit, for the estimate of time left; None counts them alike.

    Raises:
        UserError: after all jobs were tried, with the message of each failed job; at once if their folder is gone.
        ExceptionGroup: if several jobs failed by ddhub's own faults; a single such fault is raised as it is. A note
            says what was kept.
    """
    part = engine.part(jobs)
    with contextlib.ExitStack() as stack:
        for folder in {path.parent for path in part}:
            stack.enter_context(same_folder.kept(folder))
        claims = stack.enter_context(Claims())
        tally = stack.enter_context(Tally(name, costs or dict.fromkeys(jobs, 1.0), engine.workers))
        board = Board(part, claims, tally.look)
        if engine.ray is not None:
            from ddhub.base.jobs import ray_cluster

            ray_cluster.work(board, engine.ray, cpus=engine.cpus, gpus=engine.gpus)
        elif engine.workers > 1:
            from ddhub.base.jobs import workers

            workers.work(board, engine.workers)
        else:
            _loop(board)
    _report(board, len(part))


def _loop(board: Board) -> None:
    while board.open:
        path = board.take()
        if path is None:
            board.wait()
        else:
            board.settle(path, attempt(board.jobs[path], path))


def _report(board: Board, total: int) -> None:
    order = list(board.jobs)
    board.faults.sort(key=lambda found: order.index(found[0]))  # in the order of jobs, not of their ends
    faults = [fault for _, fault in board.faults]
    summary = f"{len(faults)} of {total} jobs failed"
    if any(not isinstance(fault, UserError) for fault in faults):
        ours = faults[0] if len(faults) == 1 else ExceptionGroup(summary, faults)
        ours.add_note(f"{summary}; what the others wrote is kept, and the same command goes on from it")
        raise ours
    if len(faults) == 1:
        raise faults[0]
    if faults:
        named = (str(fault) if path.stem in str(fault) else f"{path.name}: {fault}" for path, fault in board.faults)
        raise UserError("\n".join([f"{summary}:", *named]))


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise UserError(f"--shard {text}: expected i/n with i from 0 to n - 1", next="--shard 0/4")
    return int(found[1]), int(found[2])


def _torchrun() -> tuple[int, int]:
    rank, count = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
        return (0, 1)
    return int(rank), int(count)
