"""Random real images with the teachers' labels: the baseline for every method, itself as a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddhub.base.schema import Strict
from ddhub.distillation.method import Method

if TYPE_CHECKING:
    from ddhub.distillation.plan.work import Outline, Phase
    from ddhub.distillation.task import SyntheticSet, Task
    from ddhub.training.loop import Run


class Config(Strict):
    """Random selection has no settings."""


def distill(task: Task, run: Run) -> SyntheticSet:
    """Draw `ipc` training images of each class and label them."""
    from ddhub.distillation.task import SyntheticSet

    images, labels = task.start("real")
    return SyntheticSet(images, labels, task.soft_labels(images))


def work(outline: Outline) -> Phase:
    """The work of a run, which is negligible."""
    from ddhub.distillation.plan.work import Phase

    return Phase([])


METHOD = Method(config=Config, distill=distill, work=work)
