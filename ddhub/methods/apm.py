"""Adversarial prediction matching: move images to where students trained on them still disagree with the teachers.

Chen, Huang, Lu, Li, Wang, Cheng, Wang, "Dataset Distillation via Adversarial Prediction Matching", arXiv:2312.08912,
section 3. Single-level: students are trained, never differentiated through.
Differs from the authors' code: teachers and the final set are chosen by nothing, or by validation, never by test data;
a teacher is asked once per update, not once per snapshot, and no weight gradients are computed; the images updated
between two refreshes are those that the students were trained on, and one optimiser holds all of them, so that images
outside the batch go on moving on their decaying momentum, as the authors' do; iterations count exactly.
Shapes: M synthetic images, B of them in a batch, C H W image, K classes, S snapshots.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ddhub import seeds, train
from ddhub.fast import Network, Weights
from ddhub.manifest import Protocol
from ddhub.run import Run, State
from ddhub.schema import Strict
from ddhub.synset import SyntheticSet
from ddhub.task import Task

PAPER = "https://arxiv.org/abs/2312.08912"


class Student(Strict):
    """How the students learn the synthetic set: L1 on logits, SGD, rate x0.1 after half."""

    arch: str = "convnet"
    epochs: int = Field(default=250, gt=0)
    lr: float = Field(default=0.02, gt=0)
    batch: int = Field(default=256, gt=1)


class Stopping(Strict):
    """Choosing the set by validation accuracy: score it now and then, keep the best, decay the rate on a plateau."""

    every: int = Field(default=30, gt=0)  # updates between two scores
    epochs: int = Field(default=200, gt=0)  # of the networks that score
    networks: int = Field(default=2, gt=0)
    patience: int = Field(default=1, ge=1)  # scores without a new best before the rate decays
    decays: int = Field(default=2, ge=0)  # so many decays, each from the best set; the next plateau ends the run


class Config(Strict):
    """Knobs of adversarial prediction matching; defaults are the paper's (Table A9) where it gives them."""

    iterations: int = Field(default=2500, ge=0)  # updates of the images
    batch: int | None = Field(default=None, gt=0)  # images that a student learns and that its updates move; null: all
    chunk: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"  # images whose gradient is computed at once
    refresh_every: int = Field(default=3, gt=0)  # updates between two fresh students
    snapshots: int = Field(default=5, gt=0)  # of a student, at equal distances of its training; at most one an epoch
    student: Student = Student()
    lr_images: float = Field(default=1.0, gt=0)  # SGD rate of the images, in network-input space
    momentum: float = Field(default=0.5, ge=0, lt=1)
    alpha: float = Field(default=0.1, ge=0)  # weight of the teachers' cross-entropy
    decay: float = Field(default=0.3, gt=0, le=1)  # factor on lr_images after half of the iterations, or on a plateau
    teacher: Literal["random", "mean"] = "random"  # whom one student learns from: one drawn teacher, or all
    init: Literal["real", "noise"] = "real"
    project: bool = False  # keep images displayable, so that 8-bit pixels lose nothing but rounding
    average: float = Field(default=0.0, ge=0, lt=1)  # ships a moving average of the images with this decay; 0: the last
    stopping: Stopping | None = None  # null: decay at half of the iterations, ship the last set


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop; resumable at any update."""
    config: Config = task.config
    images, labels = task.start(config.init)
    student = task.network(config.student.arch)
    state: State = {
        "images": images,  # (M, C, H, W)
        "average": images.clone() if config.average else None,
        "velocity": torch.zeros_like(images),
        "lr": config.lr_images,
        "rows": None,  # (B,) the batch of this refresh
        "teacher": None,  # None: the mean of all
        "snapshots": [],  # S weights of this refresh's student
        "best": None,
        "best_top1": -1.0,
        "bad": 0,
        "decays": 0,
    }
    for step in run.steps(config.iterations, state):
        if step % config.refresh_every == 0:
            refresh(state, student, labels, task, step)
        rows = state["rows"]
        gradient, disagreement = adversarial_gradient(
            state["images"][rows], labels[rows], student, state["snapshots"], state["teacher"], task
        )
        update(state, rows, gradient, config)
        if config.project:
            state["images"] = task.preprocess.project(state["images"])
        if config.average:
            state["average"] = state["average"].lerp(state["images"], 1 - config.average)
        # The largest value speaks for all images: a step that spoilt them must not be saved as a good one.
        run.log(disagreement=disagreement, largest=state["images"].abs().max(), lr=state["lr"])
        if config.stopping is not None:
            if (step + 1) % config.stopping.every == 0 or step + 1 == config.iterations:
                choose(state, labels, task)
        elif step + 1 == (config.iterations + 1) // 2:
            state["lr"] *= config.decay
    chosen = candidate(state) if state["best"] is None else state["best"]
    return SyntheticSet(chosen, labels, task.soft_labels(chosen))


def refresh(state: State, student: Network, labels: Tensor, task: Task, step: int) -> None:
    """Draw a batch and a teacher, and train a fresh student on the batch with the teacher's logits."""
    config, seed, teachers = task.config, task.recipe.seed, task.need_teachers()
    total = len(labels)
    if config.batch is None or config.batch >= total:
        rows = torch.arange(total)
    else:
        rows = torch.randperm(total, generator=seeds.generator(seed, "batch", step))[: config.batch].sort().values
    which = None
    if config.teacher == "random":
        which = int(torch.randint(len(teachers), (), generator=seeds.generator(seed, "teacher", step)))
    images = state["images"][rows]
    examples = train.Examples(images, labels[rows], targets=teachers.label(images, which))
    spec = config.student
    protocol = Protocol(loss="l1_logits", augment=task.recipe.augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)
    kept = {max(1, round(spec.epochs * (k + 1) / config.snapshots)) for k in range(config.snapshots)}
    snapshots = train.fit(student, examples, protocol, seeds.derive(seed, "student", step), keep=kept)
    state.update(rows=rows, teacher=which, snapshots=snapshots[:-1])


def adversarial_gradient(
    images: Tensor, labels: Tensor, student: Network, snapshots: list[Weights], which: int | None, task: Task
) -> tuple[Tensor, Tensor]:
    """Gradient of the mean loss over a batch with respect to its images (B, C, H, W), and the mean disagreement.

    The teacher is asked once for all snapshots; `chunk` images at a time bound the memory.
    """
    config, teachers = task.config, task.need_teachers()
    pieces, disagreement = [], torch.zeros((), device=images.device)
    for part, target in zip(
        images.split(chunk_size(config, images)), labels.split(chunk_size(config, images)), strict=True
    ):
        part = part.detach().requires_grad_()
        teacher = teachers.logits(part, which)
        gaps = [(student.forward(weights, part) - teacher).abs().mean(1).sum() for weights in snapshots]
        total = torch.stack(gaps).sum()
        loss = config.alpha * F.cross_entropy(teacher, target, reduction="sum") - total
        pieces.append(torch.autograd.grad(loss / len(images), part)[0])
        disagreement += total.detach() / (len(images) * len(snapshots))
    return torch.cat(pieces), disagreement


def chunk_size(config: Config, images: Tensor) -> int:
    """The chunk of a recipe; `auto` is the paper's smallest setting at 64 px and above, all of a small batch below."""
    if config.chunk != "auto":
        return int(config.chunk)
    return 100 if images.shape[-1] >= 64 else 500


def update(state: State, rows: Tensor, gradient: Tensor, config: Config) -> None:
    """SGD with momentum; images outside the batch have no gradient and move on what momentum they have."""
    state["velocity"] *= config.momentum
    state["velocity"][rows] += gradient
    state["images"] = state["images"] - state["lr"] * state["velocity"]


def candidate(state: State) -> Tensor:
    """The images as they would be shipped now: their moving average, or as they are where none is kept."""
    images: Tensor = state["images"] if state["average"] is None else state["average"]
    return images


def choose(state: State, labels: Tensor, task: Task) -> None:
    """Score the set on validation data; keep the best, decay from it on a plateau, stop after the last decay."""
    config, stopping, images = task.config, task.config.stopping, candidate(state)
    synthetic = SyntheticSet(images, labels, task.soft_labels(images))
    scores = [task.validate(synthetic, seed=k, epochs=stopping.epochs) for k in range(stopping.networks)]
    top1 = sum(scores) / len(scores)
    if top1 > state["best_top1"]:
        state.update(best=images.clone(), best_top1=top1, bad=0)
        return
    state["bad"] += 1
    if state["bad"] >= stopping.patience:
        best = state["best"]
        state.update(images=best.clone(), average=best.clone() if config.average else None, bad=0)
        state.update(lr=state["lr"] * config.decay, decays=state["decays"] + 1)
        state["velocity"].zero_()
        state["stop"] = state["decays"] > stopping.decays
