"""Distribution matching: move the mean features of synthetic images onto those of real ones, in random networks.

Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, arXiv:2110.04181, section 3.
Shapes: M synthetic images, K classes, R real images per class and step, F features.
"""

from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ddhub.base import seeds
from ddhub.base.schema import Strict
from ddhub.distillation.method import Method
from ddhub.distillation.plan.work import Outline, Phase, moving
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training.augment import augment
from ddhub.training.loop import Run, State

PAPER = "https://arxiv.org/abs/2110.04181"


class Config(Strict):
    """Knobs of distribution matching; defaults are the paper's."""

    iterations: int = Field(default=20000, ge=0, description="Updates, each with a fresh random network.")
    arch: str = Field(default="convnet", description="Architecture of the random networks.")
    real: int = Field(default=256, gt=0, description="Real images per class and update.")
    lr_images: float = Field(default=1.0, gt=0, description="SGD rate of the images, as network inputs.")
    momentum: float = Field(default=0.5, ge=0, lt=1, description="SGD momentum of the images.")
    init: Literal["real", "noise"] = Field(default="real", description="What the images start as.")


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop; resumable at any step."""
    config: Config = task.config
    images, labels = task.start(config.init)
    network = task.network(config.arch)
    state: State = {"images": images, "velocity": torch.zeros_like(images)}
    for step in run.steps(config.iterations, state):
        weights = network.init(seeds.derive(task.recipe.seed, "network", step))
        pixels = state["images"].detach().requires_grad_()
        loss = torch.stack([gap(pixels, labels, k, weights, task, step) for k in range(network.classes)]).sum()
        gradient = torch.autograd.grad(loss, pixels)[0] / task.parts  # a mean over the images of all groups
        state["velocity"] = config.momentum * state["velocity"] + gradient
        state["images"] = state["images"] - config.lr_images * state["velocity"]
        run.log(loss=loss)
    return SyntheticSet(state["images"], labels, task.soft_labels(state["images"]))


def gap(images: Tensor, labels: Tensor, label: int, weights: dict[str, Tensor], task: Task, step: int) -> Tensor:
    """Squared distance between the mean features of one class's real and synthetic images, augmented alike."""
    config, seed = task.config, task.recipe.seed
    members = task.training[task.source.labels[task.training] == label]
    order = torch.randperm(len(members), generator=seeds.generator(seed, "match", step, label))[: config.real]
    real = task.preprocess.inputs(task.source.images[members[order]]).to(images.device)
    means = []
    for batch in (real, images[labels == label]):
        moved = augment(batch, task.recipe.augment, seeds.generator(seed, "augment", step, label), siamese=True)
        means.append(task.network(config.arch).embed(weights, moved).mean(0))
    return (means[0].detach() - means[1]).square().sum()


def work(outline: Outline) -> Phase:
    """What a run comes to: steps over all synthetic images and `real` ones of every class."""
    config, total = outline.config, outline.synthetic
    batch = total + min(config.real * outline.shape.classes, outline.training)
    run = partial(steps_on_noise, outline, total / batch)
    return Phase([moving(outline, "steps", [(config.arch, 1)], batch, config.iterations, run)])


def steps_on_noise(outline: Outline, share: float, images: int, steps: int) -> None:
    """The work of steps on so many images of noise, of which a share are synthetic."""
    network, moved = outline.network(outline.config.arch), max(1, round(share * images))
    for seed in range(steps):
        weights, noise = network.init(seed), outline.noise(images)
        pixels = noise[:moved].requires_grad_()
        gap = network.embed(weights, noise[moved:]).mean(0) - network.embed(weights, pixels).mean(0)
        torch.autograd.grad(gap.square().sum(), pixels)


METHOD = Method(config=Config, distill=distill, work=work, architectures=("arch",))
