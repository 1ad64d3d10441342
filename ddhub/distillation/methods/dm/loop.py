"""Distribution matching: move the mean features of synthetic images towards those of real ones, in random networks.

Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, arXiv:2110.04181, section 3.
Shapes: M synthetic images, K classes, R real images per class and step, F features.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ddhub.base import seeds
from ddhub.data import enlarge
from ddhub.distillation.methods.dm import Config
from ddhub.distillation.plan.work import Outline, Phase, moving
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training import augment
from ddhub.training import device as devices
from ddhub.training.batches import Examples
from ddhub.training.loop import Run, State
from ddhub.training.network import Network, Weights


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop. It can be resumed at any step."""
    config: Config = task.config
    images, labels = task.start(config.init)
    network, where = task.network(config.arch), task.decisions.device
    real = Examples(task.source.images, task.source.labels, task.preprocess, index=task.training).on(task.decisions)
    members = rows_of(task.source.labels[task.training], network.classes)
    mine = [rows.to(where) for rows in rows_of(task.initial_labels(), network.classes)]
    state: State = {"images": images, "velocity": torch.zeros_like(images)}
    for step in run.steps(config.iterations, state):
        weights = network.init(seeds.derive(task.recipe.seed, "network", step))
        pixels = state["images"].detach().requires_grad_()
        pairs = zip(drawn(members, real, task, step), mine, strict=True)
        gaps = [gap(network, weights, batch, pixels[rows], moves) for (batch, moves), rows in pairs]
        loss = torch.stack(gaps).sum()
        gradient = torch.autograd.grad(loss, pixels)[0] / task.parts  # the mean over the images of all groups
        state["velocity"] = config.momentum * state["velocity"] + gradient
        state["images"] = state["images"] - config.lr_images * state["velocity"]
        run.log(loss=loss)
    return SyntheticSet(state["images"], labels, task.soft_labels(state["images"]))


def rows_of(labels: Tensor, classes: int) -> list[Tensor]:
    """The rows of each class."""
    return [(labels == label).nonzero().flatten() for label in range(classes)]


def drawn(members: list[Tensor], real: Examples, task: Task, step: int) -> Iterator[tuple[Tensor, augment.Moves]]:
    """For each class some real images (R, C, H, W), and the augmentation of both batches, sent at once.

    Args:
        members: the numbers of the real examples of each class.
    """
    seed, where = task.recipe.seed, task.decisions.device
    rows, moves = [], []
    for label, numbers in enumerate(members):
        order = torch.randperm(len(numbers), generator=seeds.generator(seed, "match", step, label))
        rows.append(real.rows(numbers[order[: task.config.real]]))
        draw = seeds.generator(seed, "augment", step, label)
        moves.append(augment.drawn(task.recipe.augment, 1, draw, siamese=True))
    for chosen, after in zip(devices.send(rows, real.images.device), augment.sent(moves, where), strict=True):
        yield real.batch(chosen, where)[0], after


def gap(network: Network, weights: Weights, real: Tensor, images: Tensor, moves: augment.Moves) -> Tensor:
    """Squared distance between the mean features of one class's real and synthetic images, augmented alike."""
    both = (real, enlarge.enlarged(images, network.side))
    means = [network.embed(weights, augment.moved(batch, moves)).mean(0) for batch in both]
    return (means[0].detach() - means[1]).square().sum()


def work(outline: Outline) -> Phase:
    """The work of a run: steps over all synthetic images and `real` real images of each class."""
    config, total = outline.config, outline.synthetic
    batch = total + min(config.real * outline.shape.classes, outline.training)
    run = partial(steps_on_noise, outline, total / batch)
    return Phase([moving(outline, "steps", [(config.arch, 1)], batch, config.iterations, run)])


def steps_on_noise(outline: Outline, share: float, images: int, steps: int) -> None:
    """The work of steps on so many images of noise, of which a share is synthetic."""
    network, moved = outline.network(outline.config.arch), max(1, round(share * images))
    for seed in range(steps):
        weights, noise = network.init(seed), outline.noise(images)
        pixels = noise[:moved].requires_grad_()
        gap = network.embed(weights, noise[moved:]).mean(0) - network.embed(weights, pixels).mean(0)
        torch.autograd.grad(gap.square().sum(), pixels)
