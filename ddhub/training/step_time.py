"""The time of a training step in different ways, tried on this machine. Times are noisy, so a way must win clearly."""

import contextlib
import time
from collections.abc import Callable, Iterable

from ddhub.base.errors import UserError
from ddhub.training.device import Decisions

STEPS, ROUNDS = 2, 3
GPU_STEPS = 30  # a graph is recorded after the first few
MARGIN = 0.9  # another way must take less than this share of the first way's time


def measured(ways: Iterable[Decisions], seconds: Callable[[Decisions], float]) -> dict[Decisions, float]:
    """Seconds of a step in each way. Ways in which a network or this machine cannot train are left out."""
    found = {}
    for way in ways:
        with contextlib.suppress(UserError, RuntimeError):  # RuntimeError comes from a compiler or a full GPU memory
            found[way] = seconds(way)
    return found


def fastest(seconds: dict[Decisions, float]) -> Decisions:
    """The first way, unless another is faster by more than the margin."""
    first, best = next(iter(seconds)), min(seconds, key=lambda way: seconds[way])
    return best if seconds[best] < MARGIN * seconds[first] else first


def step_seconds(train: Callable[[int], object], device: str) -> float:
    """Seconds of a step: the best of some rounds, after a round that compiles.

    Args:
        train: trains a new network for so many steps, and waits for the end.
    """

    def run(steps: int) -> float:
        begun = time.perf_counter()
        train(steps)
        return time.perf_counter() - begun

    if device == "cpu":
        run(1)
        return min(run(STEPS) for _ in range(ROUNDS)) / STEPS
    run(GPU_STEPS)
    # The start of a training, such as recording its graph, is in both.
    return (
        min(run(2 * GPU_STEPS) for _ in range(ROUNDS)) / GPU_STEPS
        - min(run(GPU_STEPS) for _ in range(ROUNDS)) / GPU_STEPS
    )
