"""How long a step takes in one way and another, tried on this machine; times are noisy, so a way must win clearly."""

import contextlib
import time
from collections.abc import Callable, Iterable

from ddhub.base.errors import UserError
from ddhub.training.device import Decisions

STEPS, ROUNDS = 2, 3
CARD_STEPS = 30  # a graph is recorded after a few
MARGIN = 0.9  # another way must take less than this part of the first one's time


def measured(ways: Iterable[Decisions], seconds: Callable[[Decisions], float]) -> dict[Decisions, float]:
    """Seconds of a step of each way; those that a network or this machine cannot train in are left out."""
    found = {}
    for way in ways:
        with contextlib.suppress(UserError, RuntimeError):  # the second is a compiler's, or of a card's memory
            found[way] = seconds(way)
    return found


def fastest(seconds: dict[Decisions, float]) -> Decisions:
    """The first way, unless another is faster by more than the margin."""
    first, best = next(iter(seconds)), min(seconds, key=lambda way: seconds[way])
    return best if seconds[best] < MARGIN * seconds[first] else first


def step_seconds(train: Callable[[int], object], device: str) -> float:
    """Seconds of a step: the best of some rounds, after one that compiles.

    Args:
        train: trains anew for so many steps, and waits for its end.
    """

    def run(steps: int) -> float:
        begun = time.perf_counter()
        train(steps)
        return time.perf_counter() - begun

    if device == "cpu":
        run(1)
        return min(run(STEPS) for _ in range(ROUNDS)) / STEPS
    run(CARD_STEPS)
    # What a training begins with, as recording its graph, is in both.
    return (
        min(run(2 * CARD_STEPS) for _ in range(ROUNDS)) / CARD_STEPS
        - min(run(CARD_STEPS) for _ in range(ROUNDS)) / CARD_STEPS
    )
