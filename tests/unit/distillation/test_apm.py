"""Adversarial prediction matching: what is saved in work and memory changes nothing but rounding."""

import types
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ddhub.base.errors import UserError
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.distillation import recipes
from ddhub.distillation.methods import apm
from ddhub.distillation.task import Task
from ddhub.training import device, fit
from ddhub.training import network as networks
from ddhub.training.loop import Run
from ddhub.training.protocol import Protocol
from ddhub.training.teachers import Teachers

WITH = partial(device.Decisions, "cpu", 1, False, "float32")  # so many together
ARCH, CLASSES, IPC, SIDE = "convnet2_w4", 3, 4, 8


def task_of(**settings) -> Task:
    """A task on random pixels with two teachers as they are initialised."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, SIDE, SIDE), dtype=torch.uint8, generator=draw)
    method = {"student": {"arch": ARCH, "epochs": 2}, "snapshots": 2, "lr_images": 3.0, **settings}
    data = {
        **{"name": "t", "ipc": IPC, "source": {"dataset": "none"}, "teachers": {"arch": ARCH, "count": 2}},
        "method": {"name": "apm", **method},
    }
    made = recipes.validate(data, "t")
    names = tuple(str(k) for k in range(CLASSES))
    source = Split(pixels, torch.arange(60) % CLASSES, names, "sha256:none", made.source)
    network = networks.network(ARCH, CLASSES, 1, SIDE, device.Decisions())
    teachers = Teachers(network, [network.init(seed) for seed in range(2)], [], [])
    protocol = Protocol(loss="l1_logits", augment="dsa", lr=0.02, epochs=1)
    rows = torch.arange(60)
    preprocess = Preprocess((0.5,), (0.25,))
    config = apm.Config.model_validate(method)
    return Task(made, config, source, rows[:48], rows[48:], preprocess, teachers, protocol, device.Decisions())


def dense(task: Task) -> torch.Tensor:
    """The same loop with all images in one tensor that every update moves, as an optimiser would."""
    config = task.config
    images, labels = task.start("real")
    velocity, average, lr = torch.zeros_like(images), images.clone(), config.lr_images
    student = task.network(ARCH)
    for step in range(config.iterations):
        if step % config.refresh_every == 0:
            rows = apm.drawn(len(labels), task, step)
            store = types.SimpleNamespace(read=lambda rows, now=images: {"images": now[rows]}, write=lambda *_: None)
            state = {"rows": torch.arange(0), "batch": {}, "moved": torch.full((len(labels),), step), "lr": lr}
            apm.refresh(state, store, student, labels, task, step)
        velocity = config.momentum * velocity
        velocity[rows] += readable_gradient(images[rows], labels[rows], state, student, task)
        images = images - lr * velocity
        if config.average:
            average = average.lerp(images, 1 - config.average)
        if step + 1 == (config.iterations + 1) // 2:
            lr *= config.decay
    return average if config.average else images


def readable_gradient(images, labels, state, student, task) -> torch.Tensor:
    """The gradient as the paper writes the loss: snapshot by snapshot, all images at once."""
    images = images.detach().requires_grad_()
    teacher = task.teachers.network.forward(task.teachers.weights[state["teacher"]], images)
    gaps = [(student.forward(weights, images) - teacher).abs().mean(1) for weights in state["snapshots"]]
    loss = (task.config.alpha * F.cross_entropy(teacher, labels, reduction="none") - sum(gaps)).mean()
    return torch.autograd.grad(loss, images)[0]


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("batch", [None, 5])
def test_the_loop_is_that_of_one_optimiser_over_all_images(tmp_path, batch, average):
    """Rows that wait in the store end where momentum would have carried them, across the decay of the rate too."""
    task = task_of(batch=batch, average=average, iterations=13, refresh_every=2)
    found = apm.distill(task, Run(tmp_path, "distill")).images
    expected = dense(task)
    assert (expected - task.start("real")[0]).abs().max() > 0.1  # something happened
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_waiting_rows_are_projected_too():
    """A row that coasts beyond what can be displayed is brought back."""
    task = task_of(project=True)
    values = {"images": torch.full((2, 1, SIDE, SIDE), 1.9), "velocity": torch.full((2, 1, SIDE, SIDE), -1.0)}
    moved = apm.coasted(values, torch.tensor([0, 4]), 3.0, task)["images"]
    assert torch.allclose(moved, torch.tensor([1.9, 2.0]).view(2, 1, 1, 1).expand_as(moved))  # (1 - mean) / std


@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_the_gradient_does_not_depend_on_the_chunk(chunk):
    """Any chunk gives the gradient of the whole batch."""
    task = task_of()
    images, labels = task.start("real")
    student = task.network(ARCH)
    snapshots = [student.init(5), student.init(6)]
    state = {"teacher": 1, "snapshots": snapshots}
    expected = readable_gradient(images, labels, state, student, task)
    for way in (task_of(chunk=chunk), replace(task, decisions=device.Decisions(chunk=chunk))):
        found, gap = apm.adversarial_gradient(images, labels, student, snapshots, 1, way)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max() and gap > 0


def test_a_group_moves_as_fast_as_the_whole_set():
    """The gradient of a group's images is their part of the whole set's, however few they are."""
    task = task_of()
    images, labels = task.start("real")
    student = task.network(ARCH)
    whole, _ = apm.adversarial_gradient(images, labels, student, [student.init(5)], 1, task)
    group = replace(task, parts=3)
    part, _ = apm.adversarial_gradient(images[:IPC], labels[:IPC], student, [student.init(5)], 1, group)
    assert (part - whole[:IPC]).abs().max() < 1e-5 * whole[:IPC].abs().max()


def test_of_several_students_the_mean_counts(monkeypatch):
    """The gradient of two students is the mean of theirs; one program trains them as taking turns does."""
    task = task_of(students=2)
    images, labels = task.start("real")
    student = task.network(ARCH)
    states = []
    for together in (
        lambda self, count: self,
        lambda self, count: networks.network(ARCH, CLASSES, 1, SIDE, WITH(count)),
    ):
        monkeypatch.setattr(networks.Network, "together", together)
        store = types.SimpleNamespace(read=lambda rows: {"images": images[rows]}, write=lambda *_: None)
        state = {"rows": torch.arange(0), "batch": {}, "moved": torch.zeros(len(labels)), "lr": 3.0}
        apm.refresh(state, store, student, labels, task, 0)
        states.append(state)
    first, second = (state["snapshots"] for state in states)
    assert len(first) == len(second) == 4  # two of each
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for a, b in zip(first, second, strict=True) for name in a)
    which, alone = states[0]["teacher"], task_of()
    halves = [apm.adversarial_gradient(images, labels, student, own, which, alone)[0] for own in (first[:2], first[2:])]
    both = apm.adversarial_gradient(images, labels, student, first, which, task)[0]
    assert (both - sum(halves) / 2).abs().max() < 1e-5 * both.abs().max()
    assert (halves[0] - halves[1]).abs().max() > 0.01 * both.abs().max()


def test_a_student_that_diverges_is_named(tmp_path):
    """And what to type."""
    task = task_of(student={"arch": ARCH, "epochs": 3, "lr": 1e30})
    with pytest.raises(UserError, match=r"step 0: the training of a student diverged\n  next: --set method.student.lr"):
        apm.distill(task, Run(tmp_path, "distill"))


@pytest.mark.parametrize("size", [1, 3, 12])
def test_a_micro_batch_changes_only_what_is_held_at_once(size):
    """Training in micro-batches ends with the weights of whole batches, up to rounding."""
    task = task_of()
    images, labels = task.start("real")
    examples = fit.Examples(images, labels, targets=task.teachers.label(images))
    protocol = Protocol(loss="l1_logits", augment="dsa", lr=0.02, epochs=5, batch=256)
    whole = fit.fit(task.network(ARCH), examples, protocol, 1)[-1]
    cut = networks.network(ARCH, CLASSES, 1, SIDE, device.Decisions(micro_batch=size))
    for name, value in fit.fit(cut, examples, protocol, 1)[-1].items():
        assert (value - whole[name]).abs().max() < 1e-4


def test_checkpoints_do_not_grow_with_the_set(tmp_path: Path):
    """A set of three times as many images writes checkpoints of the same size, within their few bytes a row."""
    sizes = []
    for ipc in (4, 12):
        task = task_of(batch=5, iterations=6)
        task = replace(task, recipe=task.recipe.model_copy(update={"ipc": ipc}))
        apm.distill(task, Run(tmp_path / str(ipc), "distill", checkpoint_seconds=0))
        sizes.append(max(path.stat().st_size for path in (tmp_path / str(ipc)).glob("*.pt")))
    assert sizes[1] - sizes[0] <= 4 * 8 * CLASSES + 64
