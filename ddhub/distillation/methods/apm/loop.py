"""Adversarial prediction matching: move images to where students trained on them still disagree with the teachers.

Chen, Huang, Lu, Li, Wang, Cheng, Wang, "Dataset Distillation via Adversarial Prediction Matching", arXiv:2312.08912,
section 3. Students are trained, and never differentiated through.
Differences from the authors' code:
- Teachers and the final set are chosen by nothing or by validation, never by test data.
- A teacher labels each view once, not once per snapshot. Weight gradients are not computed.
- The images updated between two refreshes are those on which the students were trained.
- The number of iterations is exact.
Additions to the authors' code: gradients through augmented views, students of several architectures (`views`,
`student.arch`), and images that go only part of the way (`blend`). All keep the images from fitting a single network.
Only the batch is held in memory (momentum.py).
Shapes: M synthetic images, B of them in a batch, C H W synthetic image, S the networks' side, K classes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from ddhub.base import mapped_tensors, progress, seeds
from ddhub.data import enlarge
from ddhub.distillation.methods.apm.config import Config
from ddhub.distillation.methods.apm.momentum import blended, candidate, go_back, initial, settle, take, update
from ddhub.distillation.plan.work import Outline, Phase, labelling, moving, scoring, training
from ddhub.distillation.task import SyntheticSet, Task, own_protocol
from ddhub.training import augment, cuda_graph, fit
from ddhub.training.image_store import Store
from ddhub.training.loop import Run, State
from ddhub.training.network import Network, Weights
from ddhub.training.protocol import Protocol


def distill(task: Task, run: Run) -> SyntheticSet:
    """Run the loop. It can be resumed at any update."""
    config: Config = task.config
    labels, device = task.initial_labels(), task.decisions.device
    iterations = config.updates(len(labels) * task.parts)
    store = Store(run.folder / f"{run.phase}-images", (len(labels), *task.image_shape), partial(initial, task))
    state: State = {
        "rows": torch.arange(0),  # (B,) the batch of this refresh, followed by its columns of the store
        "batch": {name: value.to(device) for name, value in store.read(torch.arange(0)).items()},
        "classes": labels[:0].to(device),  # (B,) classes of the batch
        "moved": torch.zeros(len(labels), dtype=torch.int32),  # (M,) updates applied to each row of the store
        "lr": config.lr_images,
        "teacher": None,  # None for the mean of all
        "snapshots": {},  # weights of this refresh's students, by architecture
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
        # A non-finite largest value stops the loop, so that spoilt images are never saved.
        run.log(disagreement=disagreement, largest=batch["images"].abs().max(), lr=state["lr"])
        if config.stopping is not None:
            if (step + 1) % config.stopping.every == 0 or step + 1 == iterations:
                choose(state, store, labels, task, step + 1)
        elif step + 1 == (iterations + 1) // 2:
            settle(state, store, task, step + 1)
            state["lr"] *= config.decay
    settle(state, store, task, iterations)
    chosen = blended(candidate(store, task) if state["best"] is None else state["best"], store, task)
    return SyntheticSet(
        chosen, labels, task.soft_labels(chosen, partial(mapped_tensors.tensor, store.folder / "soft_labels.f32"))
    )


def refresh(state: State, store: Store, labels: Tensor, task: Task, step: int) -> None:
    """Draw a batch and a teacher, and train new students on the batch with the teacher's logits."""
    config, seed, teachers = task.config, task.recipe.seed, task.need_teachers()
    take(state, store, task, step)
    which = None
    if config.teacher == "random":
        which = int(torch.randint(len(teachers), (), generator=seeds.generator(seed, "teacher", step)))
    images, classes = state["batch"]["images"], labels[state["rows"]].to(task.decisions.device)
    examples = fit.Examples(images, classes, targets=teachers.label(images, which), side=task.side)
    archs, several = turn(config, step // config.refresh_every), student_seeds(config, seed, step)
    snapshots = {}
    for arch in dict.fromkeys(archs):
        own = [number for own_arch, number in zip(archs, several, strict=True) if own_arch == arch]
        snapshots[arch] = taught(task, arch, examples, own, step)
    state.update(teacher=which, snapshots=snapshots, classes=classes)


def turn(config: Config, number: int) -> list[str]:
    """The architectures of the students of a refresh. Refreshes count from 0."""
    archs, first = config.student.archs, number * config.students
    return [archs[(first + student) % len(archs)] for student in range(config.students)]


def student_seeds(config: Config, seed: int, step: int) -> list[int]:
    """The seed of each student of a refresh. The first keeps its old seed, the others are numbered."""
    others = [seeds.derive(seed, "student", step, number) for number in range(1, config.students)]
    return [seeds.derive(seed, "student", step), *others]


def taught(task: Task, arch: str, examples: fit.Examples, several: list[int], step: int) -> list[Weights]:
    """The snapshots of new students of one architecture, trained from these seeds.

    Raises:
        Diverged: if a training diverges.
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
    """The protocol of the students."""
    spec = config.student
    return Protocol(loss="l1_logits", augment=augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)


Students = Sequence[tuple[Network, Sequence[Weights]]]  # networks by architecture, with their snapshots


def adversarial_gradient(
    images: Tensor, labels: Tensor, students: Students, which: int | None, task: Task, step: int
) -> tuple[Tensor, Tensor]:
    """The gradient of the mean loss over a batch with respect to its images (B, C, H, W), and the mean disagreement.

    For a group, the mean is over the batches of all groups. A mean over its own few images would move each image many
    times as fast.
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
    """The images that an update uses, (B, C, S, S), of those of the batch, (B, C, H, W).

    They are enlarged, where that is needed. They are differentiable augmented views, or no views at all.
    """
    if not task.config.views:
        return [enlarge.enlarged(images, task.side).clone()]
    draws = (seeds.generator(task.recipe.seed, "view", step, view) for view in range(task.config.views))
    moves = augment.sent([augment.drawn(task.recipe.augment, len(images), draw) for draw in draws], images.device)
    # Enlarged for each view, because the gradient of one frees what it passed through.
    return [augment.moved(enlarge.enlarged(images, task.side), each) for each in moves]


def chunked(images: Tensor, labels: Tensor, students: Students, which: int | None, task: Task) -> tuple[Tensor, Tensor]:
    """`disagree` of all images, by `chunk` images at a time to bound the memory."""
    size = task.decisions.chunk or chunk_size(task.config, images.shape[-1])
    teacher, config = partial(task.need_teachers().logits, which=which), task.config
    move: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = partial(
        disagree, students=students, teacher=teacher, alpha=config.alpha, share=1 / config.students
    )
    if task.decisions.graph:
        move = cuda_graph.graphed(move, task.decisions.device, ceil(len(images) / size))
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
    """The gradient of the summed loss of some images, and their summed disagreement over all snapshots.

    A snapshot's disagreement is weighted by its student's share of the loss.

    The teacher runs once forward and once backward, because the gradients of all snapshots add up in its logits. Memory
    holds the graph of one snapshot at a time. On a GPU it holds as many as are worth one call.
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
    """The work of a run: students and their labels at every refresh, updates, scores of whole sets."""
    config, total, image = outline.config, outline.synthetic, 4 * outline.stored_values
    batch, teachers = min(config.batch or total, total), outline.recipe.teachers
    iterations = config.updates(outline.whole)
    refreshes = ceil(iterations / config.refresh_every)
    asked = 1 if config.teacher == "random" else teachers.count
    columns, views = 3 if config.average else 2, max(1, config.views)
    whole = 4 * outline.shape.values
    held = batch * (image * (columns + 2) + whole * config.views) + weights_held(outline)
    protocol, chunk = student_protocol(config, outline.recipe.augment), chunk_size(config, outline.shape.side)
    works = labelling(outline, "their labels", batch, refreshes, asked)
    turns = [turn(config, number) for number in range(len(config.student.archs))]  # then it repeats
    for archs in turns:
        for arch in dict.fromkeys(archs):
            times = refreshes * archs.count(arch) / len(turns)
            works.append(training(outline, "students", arch, batch, protocol, times, held=held))
        networks = [(arch, config.snapshots * archs.count(arch)) for arch in sorted(set(archs))]
        for teacher in teachers.archs:  # drawn alike often, or all at every update
            run = partial(rehearse, config, outline.network, teacher, archs=archs)
            steps = iterations * views / len(turns) / len(teachers.archs)
            of_turn = [*networks, (teacher, asked)]
            works.append(moving(outline, "updates", of_turn, batch, steps, run, chunk=chunk, held=held))
    if config.stopping is not None:
        times = ceil(iterations / config.stopping.every) * config.stopping.networks
        brief = own_protocol(outline.recipe).model_copy(update={"epochs": config.stopping.epochs})
        works.append(training(outline, "choosing", teachers.home, total, brief, times, held=2 * image * total))
        works.append(scoring(outline, "choosing: scores", teachers.home, outline.held_out, times, pixels=True))
    return Phase(works, disk=image * total * (columns + (config.blend < 1)))  # a blend has a file of its own


def weights_held(outline: Outline) -> int:
    """Bytes of a refresh's snapshots, for students of the largest architecture."""
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
    """The work of updates on so many images of noise, with untrained networks.

    Args:
        archs: architectures of a refresh's students; none tries all that a refresh may have.
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
    """The chunk of a recipe. `auto` takes the paper's smallest at 64 px and above, and a small batch whole below."""
    if config.chunk != "auto":
        return int(config.chunk)
    return 100 if side >= 64 else 500


def choose(state: State, store: Store, labels: Tensor, task: Task, step: int) -> None:
    """Score the set on validation data. Keep the best, decay from it on a plateau, stop after the last decay.

    The best set is kept in memory, so this suits only sets of moderate size.
    """
    config, stopping = task.config, task.config.stopping
    settle(state, store, task, step)
    images = candidate(store, task)
    shipped = blended(images, store, task)
    synthetic = SyntheticSet(shipped, labels, task.soft_labels(shipped))
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
