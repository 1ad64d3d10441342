"""Random real images with the teachers' labels: the baseline that every method has to beat, as a method of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddhub.base.schema import Strict
from ddhub.distillation.method import Method

if TYPE_CHECKING:
    from ddhub.distillation.plan.work import Outline, Phase
    from ddhub.distillation.task import SyntheticSet, Task
    from ddhub.training.loop import Run


class Config(Strict):
    """Random selection has no knobs."""


def distill(task: Task, run: Run) -> SyntheticSet:
    """Draw `ipc` training images of every class and label them."""
    from ddhub.distillation.task import SyntheticSet

    images, labels = task.start("real")
    return SyntheticSet(images, labels, task.soft_labels(images))


def work(outline: Outline) -> Phase:
    """What a run comes to: nothing to speak of."""
    from ddhub.distillation.plan.work import Phase

    return Phase([])


METHOD = Method(config=Config, distill=distill, work=work)
