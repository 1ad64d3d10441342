"""Adversarial prediction matching: move images to where students trained on them still disagree with the teachers.

Chen, Huang, Lu, Li, Wang, Cheng, Wang, "Dataset Distillation via Adversarial Prediction Matching", arXiv:2312.08912,
section 3. Single-level: students are trained, never differentiated through.
Differs from the authors' code:
- Teachers and the final set are chosen by nothing, or by validation, never by test data.
- A teacher is asked once per view, not once per snapshot. No weight gradients are computed.
- The images updated between two refreshes are those that the students were trained on.
- Iterations count exactly.
Beyond the authors' code: gradients through augmented views, and students of several architectures (`views`,
`student.arch`). Both keep the images from what a single network sees in them on the bare pixels.
Only the batch is held in memory (momentum.py).
Shapes: M synthetic images, B of them in a batch, C H W image, K classes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from ddhub.base import mapped, progress, seeds
from ddhub.distillation.methods.apm.config import Config
from ddhub.distillation.methods.apm.momentum import candidate, go_back, initial, settle, take, update
from ddhub.distillation.plan.work import Outline, Phase, moving, scoring, training
from ddhub.distillation.task import SyntheticSet, Task, own_protocol
from ddhub.training import augment, fit, graph
from ddhub.training.image_store import Store
from ddhub.training.loop import Run, State
from ddhub.training.network import Network, Weights
from ddhub.training.protocol import Protocol


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop; resumable at any update."""
    config: Config = task.config
    labels, device = task.initial_labels(), task.decisions.device
    iterations = config.updates(len(labels) * task.parts)
    store = Store(run.folder / f"{run.phase}-images", (len(labels), *task.image_shape), partial(initial, task))
    state: State = {
        "rows": torch.arange(0),  # (B,) the batch of this refresh, and its columns of the store:
        "batch": {name: value.to(device) for name, value in store.read(torch.arange(0)).items()},
        "classes": labels[:0].to(device),  # (B,) of the batch
        "moved": torch.zeros(len(labels), dtype=torch.int32),  # (M,) updates that the store's rows have seen
        "lr": config.lr_images,
        "teacher": None,  # None: the mean of all
        "snapshots": {},  # by architecture, the weights of this refresh's students
        "best": None,
        "best_top1": -1.0,
        "bad": 0,
        "decays": 0,
    }
    for step in run.steps(iterations, state, store):
        if step % config.refresh_every == 0:
            refresh(state, store, labels, task, step)
        batch = state["batch"]
        students = [(task.network(arch), several) for arch, several in state["snapshots"].items()]
        gradient, disagreement = adversarial_gradient(
            batch["images"], state["classes"], students, state["teacher"], task, step
        )
        update(batch, gradient, state["lr"], task)
        # The largest value speaks for all images: a step that spoilt them must not be saved as a good one.
        run.log(disagreement=disagreement, largest=batch["images"].abs().max(), lr=state["lr"])
        if config.stopping is not None:
            if (step + 1) % config.stopping.every == 0 or step + 1 == iterations:
                choose(state, store, labels, task, step + 1)
        elif step + 1 == (iterations + 1) // 2:
            settle(state, store, task, step + 1)
            state["lr"] *= config.decay
    settle(state, store, task, iterations)
    chosen = candidate(store, task) if state["best"] is None else state["best"]
    return SyntheticSet(
        chosen, labels, task.soft_labels(chosen, partial(mapped.tensor, store.folder / "soft_labels.f32"))
    )


def refresh(state: State, store: Store, labels: Tensor, task: Task, step: int) -> None:
    """Draw a batch and a teacher, and train fresh students on the batch with the teacher's logits."""
    config, seed, teachers = task.config, task.recipe.seed, task.need_teachers()
    take(state, store, task, step)
    which = None
    if config.teacher == "random":
        which = int(torch.randint(len(teachers), (), generator=seeds.generator(seed, "teacher", step)))
    images, classes = state["batch"]["images"], labels[state["rows"]].to(task.decisions.device)
    examples = fit.Examples(images, classes, targets=teachers.label(images, which))
    archs, several = turn(config, step // config.refresh_every), student_seeds(config, seed, step)
    snapshots = {}
    for arch in dict.fromkeys(archs):
        own = [number for own_arch, number in zip(archs, several, strict=True) if own_arch == arch]
        snapshots[arch] = taught(task, arch, examples, own, step)
    state.update(teacher=which, snapshots=snapshots, classes=classes)


def turn(config: Config, number: int) -> list[str]:
    """The architectures of a refresh's students, where refreshes are numbered from 0."""
    archs, first = config.student.archs, number * config.students
    return [archs[(first + student) % len(archs)] for student in range(config.students)]


def student_seeds(config: Config, seed: int, step: int) -> list[int]:
    """The seed of each student of a refresh: the first one's, as ever; others are numbered."""
    others = [seeds.derive(seed, "student", step, number) for number in range(1, config.students)]
    return [seeds.derive(seed, "student", step), *others]


def taught(task: Task, arch: str, examples: fit.Examples, several: list[int], step: int) -> list[Weights]:
    """The snapshots of fresh students of one architecture, trained from these seeds.

    Raises:
        Diverged: when the training of one does.
    """
    config, network = task.config, task.network(arch)
    kept = {max(1, round(config.student.epochs * (k + 1) / config.snapshots)) for k in range(config.snapshots)}
    protocol = student_protocol(config, task.recipe.augment)
    with progress.busy("students"):
        students = fit.fit_many(network, [examples] * len(several), protocol, several, keep=kept)
    if None in students:
        raise fit.Diverged(
            f"step {step}: the training of a student diverged", next="--set method.student.lr=... and another --out"
        )
    return [weights for moments in students for weights in (moments or [])[:-1]]


def student_protocol(config: Config, augment: str) -> Protocol:
    """How a student learns."""
    spec = config.student
    return Protocol(loss="l1_logits", augment=augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)


Students = Sequence[tuple[Network, Sequence[Weights]]]  # by architecture, their snapshots


def adversarial_gradient(
    images: Tensor, labels: Tensor, students: Students, which: int | None, task: Task, step: int
) -> tuple[Tensor, Tensor]:
    """Gradient of the mean loss over a batch with respect to its images (B, C, H, W), and the mean disagreement.

    Of a group, the mean is over the batches of all its groups: divided by its own few images, an image would move many
    times as fast in a group.
    """
    images = images.detach().requires_grad_()
    gradient, disagreement = torch.zeros_like(images), torch.zeros((), device=images.device)
    views = viewed(images, task, step)
    for view in views:
        of_view, gap = chunked(view.detach(), labels, students, which, task)
        gradient = gradient + torch.autograd.grad(view, images, of_view)[0]
        disagreement += gap
    count = sum(len(several) for _, several in students) * len(views) * len(images)
    return gradient / (len(views) * len(images) * task.parts), disagreement / count


def viewed(images: Tensor, task: Task, step: int) -> list[Tensor]:
    """What an update sees of its images (B, C, H, W): augmented views, differentiable, or the images as they are."""
    draws = (seeds.generator(task.recipe.seed, "view", step, view) for view in range(task.config.views))
    moves = [augment.drawn(task.recipe.augment, len(images), draw) for draw in draws]
    return [augment.moved(images, each) for each in augment.sent(moves, images.device)] or [images.clone()]


def chunked(images: Tensor, labels: Tensor, students: Students, which: int | None, task: Task) -> tuple[Tensor, Tensor]:
    """`disagree` of all images, `chunk` of them at a time, which bounds the memory."""
    size = task.decisions.chunk or chunk_size(task.config, images.shape[-1])
    teacher, config = partial(task.need_teachers().logits, which=which), task.config
    move: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = partial(
        disagree, students=students, teacher=teacher, alpha=config.alpha, share=1 / config.students
    )
    if task.decisions.graph:
        move = graph.graphed(move, task.decisions.device, ceil(len(images) / size))
    found, gap = torch.empty_like(images), torch.zeros((), device=images.device)
    for into, part, target in zip(found.split(size), images.split(size), labels.split(size), strict=True):
        gradient, own = move(part, target)
        into.copy_(gradient)
        gap += own
    return found, gap


def disagree(
    images: Tensor,
    labels: Tensor,
    students: Students,
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
    portions = ((net, several) for net, snapshots in students for several in net.portions(snapshots, images))
    for network, several in portions:
        total = (network.forward_each(several, images) - logits).abs().mean(2).sum()
        gradients = torch.autograd.grad(total * share, (images, logits))
        of_images, of_logits = of_images - gradients[0], of_logits - gradients[1]
        disagreement += total.detach()
    typical = alpha * F.cross_entropy(wanted, labels, reduction="sum")
    ones = torch.ones_like(typical)
    return of_images + torch.autograd.grad((typical, wanted), images, (ones, of_logits))[0], disagreement


def work(outline: Outline) -> Phase:
    """What a run comes to: students and their teacher's labels at every refresh, updates, scores of whole sets."""
    config, total, image = outline.config, outline.synthetic, 4 * outline.shape.values
    batch, teachers = min(config.batch or total, total), outline.recipe.teachers
    iterations = config.updates(outline.whole)
    refreshes = ceil(iterations / config.refresh_every)
    asked = 1 if config.teacher == "random" else teachers.count
    columns, views = 3 if config.average else 2, max(1, config.views)
    held = image * batch * (columns + 2 + config.views) + weights_held(outline)
    protocol, chunk = student_protocol(config, outline.recipe.augment), chunk_size(config, outline.shape.side)
    works = [scoring(outline, "their labels", teachers.arch, batch, refreshes * asked)]
    turns = [turn(config, number) for number in range(len(config.student.archs))]  # then the first one again
    for archs in turns:
        for arch in dict.fromkeys(archs):
            times = refreshes * archs.count(arch) / len(turns)
            works.append(training(outline, "students", arch, batch, protocol, times, held=held))
        networks = [(arch, config.snapshots * archs.count(arch)) for arch in sorted(set(archs))]
        run = partial(rehearse, config, outline.network, teachers.arch, archs=archs)
        steps, networks = iterations * views / len(turns), [*networks, (teachers.arch, asked)]
        works.append(moving(outline, "updates", networks, batch, steps, run, chunk=chunk, held=held))
    if config.stopping is not None:
        times = ceil(iterations / config.stopping.every) * config.stopping.networks
        brief = own_protocol(outline.recipe).model_copy(update={"epochs": config.stopping.epochs})
        works.append(training(outline, "choosing", teachers.arch, total, brief, times, held=2 * image * total))
        works.append(scoring(outline, "choosing: marks", teachers.arch, outline.held_out, times, pixels=True))
    return Phase(works, disk=image * total * columns)


def weights_held(outline: Outline) -> int:
    """Bytes of a refresh's snapshots, where its students are of the largest architecture."""
    config = outline.config
    largest = max(outline.forward(arch).weights for arch in config.student.archs)
    return int(config.snapshots * config.students * largest)


def rehearse(
    config: Config,
    network: Callable[[str], Network],
    teacher_arch: str,
    images: int,
    updates: int = 1,
    archs: Sequence[str] = (),
) -> None:
    """The work of updates of so many images of noise, with networks as they are initialised.

    Args:
        archs: of the students of a refresh; none: every one that a refresh may draw.
    """
    teacher, own = network(teacher_arch), archs or config.student.archs * config.students
    noise = torch.zeros(images, teacher.channels, teacher.side, teacher.side, device=teacher.decisions.device)
    labels = torch.zeros(images, dtype=torch.int64, device=noise.device)
    students = [
        (network(arch), [network(arch).init(seed) for seed in range(config.snapshots * own.count(arch))])
        for arch in dict.fromkeys(own)
    ]
    weights = teacher.init(0)
    for _ in range(updates):
        disagree(noise, labels, students, partial(teacher.forward, weights), config.alpha)


def chunk_size(config: Config, side: int) -> int:
    """The chunk of a recipe; `auto` is the paper's smallest setting at 64 px and above, all of a small batch below."""
    if config.chunk != "auto":
        return int(config.chunk)
    return 100 if side >= 64 else 500


def choose(state: State, store: Store, labels: Tensor, task: Task, step: int) -> None:
    """Score the set on validation data; keep the best, decay from it on a plateau, stop after the last decay.

    The best set is kept in memory: choosing is for sets that one can afford to score.
    """
    config, stopping = task.config, task.config.stopping
    settle(state, store, task, step)
    images = candidate(store, task)
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
