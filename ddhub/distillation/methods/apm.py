"""Adversarial prediction matching: move images to where students trained on them still disagree with the teachers.

Chen, Huang, Lu, Li, Wang, Cheng, Wang, "Dataset Distillation via Adversarial Prediction Matching", arXiv:2312.08912,
section 3. Single-level: students are trained, never differentiated through.
Differs from the authors' code: teachers and the final set are chosen by nothing, or by validation, never by test data;
a teacher is asked once per update, not once per snapshot, and no weight gradients are computed; the images updated
between two refreshes are those that the students were trained on, and one optimiser holds all of them, so that images
outside the batch go on moving on their decaying momentum, as the authors' do; iterations count exactly.
Only the batch is held in memory. All images lie in files, and the moves that momentum alone makes are made up for, as
one power of a 3x3 matrix, when an image comes into a batch again.
Shapes: M synthetic images, B of them in a batch, C H W image, K classes, S snapshots.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ddhub.base import mapped, seeds
from ddhub.base.schema import Strict
from ddhub.distillation.plan.work import Outline, Phase, moving, scoring, training
from ddhub.distillation.task import SyntheticSet, Task, own_protocol
from ddhub.training import fit
from ddhub.training.image_store import Store, Values
from ddhub.training.loop import Run, State
from ddhub.training.network import Network, Weights
from ddhub.training.protocol import Protocol

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

    iterations: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"  # updates of the images; auto: by their number
    batch: int | None = Field(default=None, gt=0)  # images that a student learns and that its updates move; null: all
    chunk: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"  # images whose gradient is computed at once
    refresh_every: int = Field(default=3, gt=0)  # updates between two fresh students
    snapshots: int = Field(default=5, gt=0)  # of a student, at equal distances of its training; at most one an epoch
    student: Student = Student()
    students: int = Field(default=1, gt=0)  # fresh ones at a refresh, whose mean counts; a GPU trains them together
    lr_images: float = Field(default=1.0, gt=0)  # SGD rate of the images, in network-input space
    momentum: float = Field(default=0.5, ge=0, lt=1)
    alpha: float = Field(default=0.1, ge=0)  # weight of the teachers' cross-entropy
    decay: float = Field(default=0.3, gt=0, le=1)  # factor on lr_images after half of the iterations, or on a plateau
    teacher: Literal["random", "mean"] = "random"  # whom one student learns from: one drawn teacher, or all
    init: Literal["real", "noise"] = "real"
    project: bool = False  # keep images displayable, so that 8-bit pixels lose nothing but rounding
    average: float = Field(default=0.0, ge=0, lt=1)  # ships a moving average of the images with this decay; 0: the last
    stopping: Stopping | None = None  # null: decay at half of the iterations, ship the last set

    def updates(self, images: int) -> int:
        """Updates of a whole set: as many for each image as the paper's 2500 for 500, between 100 and 2500."""
        return self.iterations if self.iterations != "auto" else min(max(5 * images, 100), 2500)


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop; resumable at any update."""
    config: Config = task.config
    labels, device = task.initial_labels(), task.decisions.device
    iterations = config.updates(len(labels) * task.parts)
    store = Store(run.folder / f"{run.phase}-images", (len(labels), *task.image_shape), partial(initial, task))
    student = task.network(config.student.arch)
    state: State = {
        "rows": torch.arange(0),  # (B,) the batch of this refresh, and its columns of the store:
        "batch": {name: value.to(device) for name, value in store.read(torch.arange(0)).items()},
        "moved": torch.zeros(len(labels), dtype=torch.int32),  # (M,) updates that the store's rows have seen
        "lr": config.lr_images,
        "teacher": None,  # None: the mean of all
        "snapshots": [],  # S weights of each of this refresh's students
        "best": None,
        "best_top1": -1.0,
        "bad": 0,
        "decays": 0,
    }
    for step in run.steps(iterations, state, store):
        if step % config.refresh_every == 0:
            refresh(state, store, student, labels, task, step)
        batch, rows = state["batch"], state["rows"]
        gradient, disagreement = adversarial_gradient(
            batch["images"], labels[rows].to(device), student, state["snapshots"], state["teacher"], task
        )
        update(batch, gradient, state["lr"], config, task)
        # The largest value speaks for all images: a step that spoilt them must not be saved as a good one.
        run.log(disagreement=disagreement, largest=batch["images"].abs().max(), lr=state["lr"])
        if config.stopping is not None:
            if (step + 1) % config.stopping.every == 0 or step + 1 == iterations:
                choose(state, store, labels, task, step + 1)
        elif step + 1 == (iterations + 1) // 2:
            settle(state, store, task, step + 1)
            state["lr"] *= config.decay
    settle(state, store, task, iterations)
    chosen = candidate(store, config) if state["best"] is None else state["best"]
    return SyntheticSet(
        chosen, labels, task.soft_labels(chosen, partial(mapped.tensor, store.folder / "soft_labels.f32"))
    )


def initial(task: Task, rows: Tensor) -> Values:
    """What the store holds of some rows at first."""
    images = task.initial_images(rows, task.config.init)
    values = {"images": images, "velocity": torch.zeros_like(images)}
    return {**values, "average": images.clone()} if task.config.average else values


def refresh(state: State, store: Store, student: Network, labels: Tensor, task: Task, step: int) -> None:
    """Draw a batch and a teacher, and train a fresh student on the batch with the teacher's logits."""
    config, seed, teachers = task.config, task.recipe.seed, task.need_teachers()
    take(state, store, drawn(len(labels), task, step), task, step)
    which = None
    if config.teacher == "random":
        which = int(torch.randint(len(teachers), (), generator=seeds.generator(seed, "teacher", step)))
    images, rows = state["batch"]["images"], state["rows"]
    examples = fit.Examples(images, labels[rows].to(images.device), targets=teachers.label(images, which))
    epochs, protocol = config.student.epochs, student_protocol(config, task.recipe.augment)
    kept = {max(1, round(epochs * (k + 1) / config.snapshots)) for k in range(config.snapshots)}
    several = [seeds.derive(seed, "student", step)]  # the only one's, as ever; others are numbered
    several += [seeds.derive(seed, "student", step, number) for number in range(1, config.students)]
    students = fit.fit_many(student.together(config.students), [examples] * len(several), protocol, several, keep=kept)
    if None in students:
        raise fit.Diverged(
            f"step {step}: the training of a student diverged", next="--set method.student.lr=... and another --out"
        )
    state.update(teacher=which, snapshots=[weights for kept in students for weights in (kept or [])[:-1]])


def student_protocol(config: Config, augment: str) -> Protocol:
    """How a student learns."""
    spec = config.student
    return Protocol(loss="l1_logits", augment=augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)


def drawn(total: int, task: Task, step: int) -> Tensor:
    """The rows (B,) of a refresh, in order."""
    batch = task.config.batch
    if batch is None or batch >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=seeds.generator(task.recipe.seed, "batch", step))[:batch].sort().values


def take(state: State, store: Store, rows: Tensor, task: Task, step: int) -> None:
    """Put the batch back into the store and take other rows out, moved as far as momentum has carried them since."""
    if torch.equal(rows, state["rows"]):
        return
    put_back(state, store, step)
    values = coasted(store.read(rows), step - state["moved"][rows], state["lr"], task)
    state.update(rows=rows, batch={name: value.to(task.decisions.device) for name, value in values.items()})


def put_back(state: State, store: Store, step: int) -> None:
    """Write the batch as it is after `step` updates; it is gone on with all the same."""
    store.write(state["rows"], state["batch"])
    state["moved"][state["rows"]] = step


def settle(state: State, store: Store, task: Task, step: int) -> None:
    """Bring all of the store to where `step` updates have carried it."""
    put_back(state, store, step)
    for rows in store.parts():
        waiting = rows[state["moved"][rows] < step]
        if len(waiting):
            store.write(waiting, coasted(store.read(waiting), step - state["moved"][waiting], state["lr"], task))
    state["moved"].fill_(step)


def coasted(values: Values, updates: Tensor, lr: float, task: Task) -> Values:
    """Rows (B, C, H, W) after `updates` (B,) more updates without a gradient: velocity decays, images and average move.

    (average, images, velocity) of a row change by one 3x3 matrix at every such update, so by a power of it at many.
    """
    config: Config = task.config
    if not updates.any():
        return values
    beta, step = config.average, -lr * config.momentum
    once = torch.tensor(
        [[beta, 1 - beta, (1 - beta) * step], [0, 1, step], [0, 0, config.momentum]], dtype=torch.double
    )
    powers = {int(k): torch.linalg.matrix_power(once, int(k)) for k in updates.unique()}
    power = torch.stack([powers[int(k)] for k in updates]).float().view(-1, 3, 3, 1, 1, 1)
    images, velocity = values["images"], values["velocity"]
    moved = {"images": images + power[:, 1, 2] * velocity, "velocity": power[:, 2, 2] * velocity}
    if config.project:
        moved["images"] = task.preprocess.project(moved["images"])
    if "average" in values:
        moved["average"] = power[:, 0, 0] * values["average"] + power[:, 0, 1] * images + power[:, 0, 2] * velocity
    return moved


def adversarial_gradient(
    images: Tensor, labels: Tensor, student: Network, snapshots: list[Weights], which: int | None, task: Task
) -> tuple[Tensor, Tensor]:
    """Gradient of the mean loss over a batch with respect to its images (B, C, H, W), and the mean disagreement.

    The teacher is asked once for all snapshots; `chunk` images at a time bound the memory. Of a group, the mean is over
    the batches of all its groups: divided by its own few images, an image would move many times as fast in a group.
    """
    size = task.decisions.chunk or chunk_size(task.config, images.shape[-1])
    teacher, alpha = partial(task.need_teachers().logits, which=which), task.config.alpha
    pieces, disagreement = [], torch.zeros((), device=images.device)
    for part, target in zip(images.split(size), labels.split(size), strict=True):
        gradient, gap = disagree(part, target, student, snapshots, teacher, alpha, 1 / task.config.students)
        pieces.append(gradient / (len(images) * task.parts))
        disagreement += gap / (len(images) * len(snapshots))
    return torch.cat(pieces), disagreement


def disagree(
    images: Tensor,
    labels: Tensor,
    student: Network,
    snapshots: list[Weights],
    teacher: Callable[[Tensor], Tensor],
    alpha: float,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Gradient of the summed loss of some images, and their summed disagreement over all snapshots.

    A snapshot's disagreement counts by its student's share of the loss.

    The teacher is asked once, and its graph used once: the snapshots' gradients meet in its logits. So one snapshot's
    graph is held beside it at a time, however many there are; on a GPU those of as many as make one call worth it.
    """
    images = images.detach().requires_grad_()
    wanted = teacher(images)
    logits = wanted.detach().requires_grad_()
    of_images, of_logits = torch.zeros_like(images), torch.zeros_like(logits)
    disagreement = torch.zeros((), device=images.device)
    for several in student.portions(snapshots, images):
        total = (student.forward_each(several, images) - logits).abs().mean(2).sum()
        gradients = torch.autograd.grad(total * share, (images, logits))
        of_images, of_logits = of_images - gradients[0], of_logits - gradients[1]
        disagreement += total.detach()
    typical = alpha * F.cross_entropy(wanted, labels, reduction="sum")
    ones = torch.ones_like(typical)
    return of_images + torch.autograd.grad((typical, wanted), images, (ones, of_logits))[0], disagreement


def work(outline: Outline) -> Phase:
    """What a run comes to: a student and its teacher's labels at every refresh, updates, scores of whole sets."""
    config, total, image = outline.config, outline.synthetic, 4 * outline.shape.values
    batch, teachers = min(config.batch or total, total), outline.recipe.teachers
    iterations = config.updates(outline.whole)
    refreshes = ceil(iterations / config.refresh_every)
    asked = 1 if config.teacher == "random" else teachers.count
    arch, columns = config.student.arch, 3 if config.average else 2
    held = image * batch * (columns + 2) + config.snapshots * config.students * outline.forward(arch).weights
    protocol, chunk = student_protocol(config, outline.recipe.augment), chunk_size(config, outline.shape.side)
    rehearsed = partial(rehearse, config, outline.network, teachers.arch)
    networks = [(arch, config.snapshots * config.students), (teachers.arch, asked)]
    works = [
        training(outline, "students", arch, batch, protocol, refreshes * config.students, held=held),
        scoring(outline, "their labels", teachers.arch, batch, refreshes * asked),
        moving(outline, "updates", networks, batch, iterations, rehearsed, chunk=chunk, held=held),
    ]
    if config.stopping is not None:
        times = ceil(iterations / config.stopping.every) * config.stopping.networks
        brief = own_protocol(outline.recipe).model_copy(update={"epochs": config.stopping.epochs})
        works.append(training(outline, "choosing", teachers.arch, total, brief, times, held=2 * image * total))
        works.append(scoring(outline, "choosing: marks", teachers.arch, outline.held_out, times, pixels=True))
    return Phase(works, disk=image * total * columns)


def rehearse(
    config: Config, network: Callable[[str], Network], teacher_arch: str, images: int, updates: int = 1
) -> None:
    """The work of updates of so many images of noise, with networks as they are initialised."""
    student, teacher = network(config.student.arch), network(teacher_arch)
    noise = torch.zeros(images, student.channels, student.side, student.side, device=student.decisions.device)
    labels = torch.zeros(images, dtype=torch.int64, device=noise.device)
    snapshots = [student.init(seed) for seed in range(config.snapshots * config.students)]
    weights = teacher.init(0)
    for _ in range(updates):
        disagree(noise, labels, student, snapshots, partial(teacher.forward, weights), config.alpha)


def chunk_size(config: Config, side: int) -> int:
    """The chunk of a recipe; `auto` is the paper's smallest setting at 64 px and above, all of a small batch below."""
    if config.chunk != "auto":
        return int(config.chunk)
    return 100 if side >= 64 else 500


def update(batch: Values, gradient: Tensor, lr: float, config: Config, task: Task) -> None:
    """SGD with momentum on the batch's columns (B, C, H, W)."""
    batch["velocity"] = config.momentum * batch["velocity"] + gradient
    batch["images"] = batch["images"] - lr * batch["velocity"]
    if config.project:
        batch["images"] = task.preprocess.project(batch["images"])
    if config.average:
        batch["average"] = batch["average"].lerp(batch["images"], 1 - config.average)


def candidate(store: Store, config: Config) -> Tensor:
    """The images as they would be shipped now: their moving average, or as they are where none is kept."""
    return store.column("average" if config.average else "images")


def choose(state: State, store: Store, labels: Tensor, task: Task, step: int) -> None:
    """Score the set on validation data; keep the best, decay from it on a plateau, stop after the last decay.

    The best set is kept in memory: choosing is for sets that one can afford to score.
    """
    config, stopping = task.config, task.config.stopping
    settle(state, store, task, step)
    images = candidate(store, config)
    synthetic = SyntheticSet(images, labels, task.soft_labels(images))
    scores = [task.validate(synthetic, seed=k, epochs=stopping.epochs) for k in range(stopping.networks)]
    top1 = sum(scores) / len(scores)
    if top1 > state["best_top1"]:
        state.update(best=images.clone(), best_top1=top1, bad=0)
        return
    state["bad"] += 1
    if state["bad"] >= stopping.patience:
        go_back(state, store)
        state.update(lr=state["lr"] * config.decay, decays=state["decays"] + 1, bad=0)
        state["stop"] = state["decays"] > stopping.decays


def go_back(state: State, store: Store) -> None:
    """Put the best images in the place of all, at rest."""
    best, device = state["best"], state["batch"]["images"].device
    for rows in store.parts():
        values = {"images": best[rows], "average": best[rows], "velocity": torch.zeros_like(best[rows])}
        store.write(rows, {name: values[name] for name in state["batch"]})
    state["batch"] = {name: value.to(device) for name, value in store.read(state["rows"]).items()}
