"""The work of evaluations of a set that is not made yet, by network and protocol."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ddhub.distillation.plan.work import Outline, Phase, Work, labelling, scoring, training
from ddhub.distillation.task import own_protocol
from ddhub.training import architectures, optimisation
from ddhub.training.protocol import Protocol, refuse_untaught

TESTED = 0.2  # assumed test images, as a share of the train split; the test split is not opened


@dataclass(frozen=True)
class Evaluations:
    """The evaluations to forecast. The evaluator's protocols are handed in, because this package knows none."""

    archs: Sequence[str]  # none: that of the teachers
    protocols: Sequence[str]
    changed: Callable[[str, Protocol, int, int, int], Protocol]  # of a name, the set's own, ipc, classes, side
    own: Callable[[str], bool]  # whether networks of other families follow optimisation.py's rules


def phases(outline: Outline, asked: Evaluations | None) -> Iterator[tuple[dict[str, Any], Phase]]:
    """What an evaluation trains and tests, for each architecture and protocol: on set and random real images.

    Raises:
        UserError: if a protocol needs teachers, and the recipe has none.
    """
    if asked is None:
        return
    rows, tested = 2 * outline.recipe.evaluate.seeds, max(1, round(TESTED * outline.shape.images))
    for arch in asked.archs or [outline.recipe.teachers.home]:
        for name in asked.protocols:
            protocol = _protocol(outline, arch, name, asked)
            refuse_untaught(name, protocol, outline.recipe.teachers.count, "the recipe has")
            works = [training(outline, "trainings", arch, outline.synthetic, protocol, rows)]
            if protocol.on_the_fly:
                works += _views(outline, protocol, works[0])
            works.append(scoring(outline, "tests", arch, tested, rows, pixels=True))
            yield {"phase": "evaluate", "arch": arch, "protocol": name, "rows": rows}, Phase(works)


def _protocol(outline: Outline, arch: str, name: str, asked: Evaluations) -> Protocol:
    """How an evaluation trains an architecture on the set."""
    chosen, shape = outline.recipe, outline.shape
    found = asked.changed(name, own_protocol(chosen), chosen.ipc, shape.classes, shape.side)
    if asked.own(name) and architectures.family(arch) != architectures.family(chosen.teachers.home):
        return optimisation.for_other_family(found, outline.network(arch).skeleton)
    return found


def _views(outline: Outline, protocol: Protocol, learning: Work) -> list[Work]:
    """Teachers' labels of the augmented views of some trainings."""
    name, count = "labels of views", outline.recipe.teachers.count
    times = learning.images / learning.batch
    if protocol.labels == "teacher":
        return [scoring(outline, name, outline.recipe.teachers.home, learning.batch, times)]
    return labelling(outline, name, learning.batch, times, count)
