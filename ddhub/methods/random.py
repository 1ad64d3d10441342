"""Random real images with the teachers' labels: the baseline that every method has to beat, as a method of its own."""

from ddhub.run import Run
from ddhub.schema import Strict
from ddhub.synset import SyntheticSet
from ddhub.task import Task
from ddhub.workload import Outline, Phase


class Config(Strict):
    """Random selection has no knobs."""


def distill(task: Task, run: Run) -> SyntheticSet:
    """Draw `ipc` training images of every class and label them."""
    images, labels = task.start("real")
    return SyntheticSet(images, labels, task.soft_labels(images))


def work(outline: Outline) -> Phase:
    """What a run comes to: nothing to speak of."""
    return Phase([])
