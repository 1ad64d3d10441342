"""Tries on noise: each kind of call of a run, or briefly those that take most of its time."""

import importlib
from collections.abc import Sequence

from ddhub.base import files
from ddhub.base.log import say
from ddhub.distillation.plan import costs, evaluations, forecast
from ddhub.distillation.plan.work import Outline, Phase, Work
from ddhub.training.device import Decisions

LIBRARIES = ("datasets", "matplotlib.pyplot", "scipy.stats", "sklearn.datasets")  # loaded late and kept
SMALL = 0.05  # share of a run's time below which an estimate will do
BRIEF = 0.5  # about the seconds of a series of calls that is tried briefly


def measure(outline: Outline, threads: int, asked: evaluations.Evaluations | None) -> None:
    """Measure each kind of call of a run and of some evaluations on noise, and store its cost.

    Args:
        threads: CPU threads of one group.
    """
    for library in LIBRARIES:
        importlib.import_module(library)
    after = [(outline.decisions, phase) for _, phase in evaluations.phases(outline, asked)]
    kinds = _kinds([*_phases(outline, threads), *after])
    say(f"measuring {len(kinds)} kinds of calls on noise, each compiled before where runs are")
    for decisions, works in kinds:
        fit = costs.measure(works, decisions)
        say(f"{works[0].name}: {1000 * fit.image:.3g} ms an image, {1000 * fit.call:.3g} ms a call")


def try_out(outline: Outline, threads: int) -> None:
    """Measure briefly the kinds of calls that take most of a run by the estimates, unless they were measured before.

    Args:
        threads: CPU threads of one group.
    """
    kinds = _kinds(_phases(outline, threads))
    shares = [sum(_estimated(work, decisions) for work in works) for decisions, works in kinds]
    for (decisions, works), seconds in zip(kinds, shares, strict=True):
        if seconds >= SMALL * sum(shares) and costs.stored(works[0], decisions) is None:
            costs.measure(works, decisions, series=BRIEF)


def _phases(outline: Outline, threads: int) -> list[tuple[Decisions, Phase]]:
    """The phases of a run that are known, with the decisions of each."""
    found = forecast.phases(outline).items()
    return [(forecast.decisions_of(outline, name, threads), phase) for name, phase in found if phase]


def _kinds(phases: Sequence[tuple[Decisions, Phase]]) -> list[tuple[Decisions, list[Work]]]:
    """The works of some phases, those with one key together."""
    alike: dict[str, tuple[Decisions, list[Work]]] = {}
    for decisions, phase in phases:
        for work in phase.works:
            alike.setdefault(files.digest(costs.key(work, decisions)), (decisions, []))[1].append(work)
    return list(alike.values())


def _estimated(work: Work, decisions: Decisions) -> float:
    return costs.rough(work, decisions).seconds(work.series, work.calls, work.images)
