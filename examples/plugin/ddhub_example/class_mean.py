"""The method `class_mean`: images of a class move towards the mean of its real ones.

Shapes: M synthetic images, K classes.
"""

import torch
from pydantic import Field

from ddhub.base.schema import Strict
from ddhub.distillation.method import Method
from ddhub.distillation.plan.work import Outline, Phase
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training.loop import Run


class Config(Strict):
    """The knobs of the method."""

    iterations: int = Field(default=10, ge=0)
    rate: float = Field(default=0.1, gt=0, le=1)  # share of the way to the mean that an image moves in one iteration


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop; it resumes at any iteration, because all that it needs is in `state`."""
    images, labels = task.start("real")
    means = class_means(task).to(images.device)
    state = {"images": images}
    for _ in run.steps(task.config.iterations, state):
        state["images"] = state["images"].lerp(means[labels], task.config.rate)
        run.log(distance=(state["images"] - means[labels]).square().mean())
    return SyntheticSet(state["images"], labels, task.soft_labels(state["images"]))


def class_means(task: Task) -> torch.Tensor:
    """The mean training image of every class, (K, C, H, W)."""
    labels = task.source.labels[task.training]
    rows = [task.training[labels == label] for label in range(len(task.source.classes))]
    return torch.stack([task.preprocess.inputs(task.as_stored(task.source.images[row])).mean(0) for row in rows])


def work(outline: Outline) -> Phase:
    """What `ddhub plan` counts: no network is asked, so nothing to speak of."""
    return Phase([])


METHOD = Method(config=Config, distill=distill, work=work)
