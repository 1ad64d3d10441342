"""Adversarial prediction matching: what is saved in work and memory changes nothing but rounding."""

import types
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from apm_tasks import ARCH, CLASSES, IPC, OTHER, SIDE, task_of
from augmented import augmented

from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.distillation.methods.apm import loop as apm
from ddhub.distillation.methods.apm import momentum
from ddhub.distillation.task import Task
from ddhub.training import device, fit
from ddhub.training import network as networks
from ddhub.training.loop import Run
from ddhub.training.protocol import Protocol

WITH = partial(device.Decisions, "cpu", 1, False, "float32")  # so many together


def dense(task: Task) -> torch.Tensor:
    """The same loop with all images in one tensor that every update moves, as an optimiser would."""
    config = task.config
    images, labels = task.start("real")
    velocity, average, lr = torch.zeros_like(images), images.clone(), config.lr_images
    for step in range(config.iterations):
        if step % config.refresh_every == 0:
            store = types.SimpleNamespace(read=lambda rows, now=images: {"images": now[rows]}, write=lambda *_: None)
            state = {"rows": torch.arange(0), "batch": {}, "moved": torch.full((len(labels),), step), "lr": lr}
            apm.refresh(state, store, labels, task, step)
        rows = state["rows"]
        velocity = config.momentum * velocity
        velocity[rows] += readable_gradient(images[rows], labels[rows], state, task, step)
        images = images - lr * velocity
        if config.average:
            average = average.lerp(images, 1 - config.average)
        if step + 1 == (config.iterations + 1) // 2:
            lr *= config.decay
    return average if config.average else images


def readable_gradient(images, labels, state, task, step=0) -> torch.Tensor:
    """The gradient as the paper writes the loss, snapshot by snapshot, all images at once; the mean over views."""
    images, views = images.detach().requires_grad_(), task.config.views
    draws = [seeds.generator(task.recipe.seed, "view", step, view) for view in range(views)]
    losses = []
    for seen in [augmented(images, "dsa", draw) for draw in draws] or [images]:
        teacher = task.teachers.network.forward(task.teachers.weights[state["teacher"]], seen)
        gaps = [
            (task.network(arch).forward(weights, seen) - teacher).abs().mean(1)
            for arch, several in state["snapshots"].items()
            for weights in several
        ]
        typical = task.config.alpha * F.cross_entropy(teacher, labels, reduction="none")
        losses.append((typical - sum(gaps) / task.config.students).mean())
    return torch.autograd.grad(sum(losses) / len(losses), images)[0]


@pytest.mark.parametrize("more", [{}, {"views": 2}, {"students": 2, "student": {"arch": [ARCH, OTHER], "epochs": 2}}])
@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("batch", [None, 5])
def test_the_loop_is_that_of_one_optimiser_over_all_images(tmp_path, batch, average, more):
    """Rows that wait in the store end where momentum would have carried them, across the decay of the rate too."""
    task = task_of(batch=batch, average=average, iterations=13, refresh_every=2, **more)
    found = apm.distill(task, Run(tmp_path, "distill")).images
    expected = dense(task)
    assert (expected - task.start("real")[0]).abs().max() > 0.1  # something happened
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("init", ["real", "noise"])
def test_a_blend_ships_a_point_of_the_way(tmp_path, init):
    """The path is the same; images, and the labels of them, are those of the point on it. A resumed end is too."""
    ends = {share: task_of(iterations=5, blend=share, init=init) for share in (1.0, 0.25)}
    whole, part = (apm.distill(task, Run(tmp_path / str(share), "distill")) for share, task in ends.items())
    again = apm.distill(ends[0.25], Run(tmp_path / "0.25", "distill"))
    start = ends[1.0].start(init)[0]
    expected = start + 0.25 * (whole.images - start)
    assert (whole.images - start).abs().max() > 0.1
    assert (part.images - expected).abs().max() < 1e-6 and torch.equal(part.images, again.images)
    assert torch.equal(part.soft_labels, ends[0.25].soft_labels(part.images))


def test_a_score_on_the_way_is_of_the_blend(tmp_path, monkeypatch):
    """What `stopping` scores is what would be shipped, and what it goes back to is not."""
    task = task_of(iterations=4, blend=0.5, stopping={"every": 2, "epochs": 1, "networks": 1})
    scored, start = [], task.start("real")[0]
    monkeypatch.setattr(Task, "validate", lambda _, made, **__: scored.append(made.images.clone()) or len(scored) / 9)
    made = apm.distill(task, Run(tmp_path, "distill"))
    assert len(scored) == 2 and torch.equal(made.images, scored[-1])
    plain = apm.distill(replace(task, config=task.config.model_copy(update={"blend": 1.0})), Run(tmp_path / "1", "x"))
    assert (made.images - (start + plain.images) / 2).abs().max() < 1e-6


def test_waiting_rows_are_projected_too():
    """A row that coasts beyond what can be displayed is brought back."""
    task = task_of(project=True)
    values = {"images": torch.full((2, 1, SIDE, SIDE), 1.9), "velocity": torch.full((2, 1, SIDE, SIDE), -1.0)}
    moved = momentum.coasted(values, torch.tensor([0, 4]), 3.0, task)["images"]
    assert torch.allclose(moved, torch.tensor([1.9, 2.0]).view(2, 1, 1, 1).expand_as(moved))  # (1 - mean) / std


@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_the_gradient_does_not_depend_on_the_chunk(chunk, views):
    """Any chunk gives the gradient of the whole batch, as it is or in views."""
    task = task_of(views=views)
    images, labels = task.start("real")
    student = task.network(ARCH)
    snapshots = [student.init(5), student.init(6)]
    state = {"teacher": 1, "snapshots": {ARCH: snapshots}}
    expected = readable_gradient(images, labels, state, task, 3)
    for way in (task_of(chunk=chunk, views=views), replace(task, decisions=device.Decisions(chunk=chunk))):
        found, gap = apm.adversarial_gradient(images, labels, [(student, snapshots)], 1, way, 3)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max() and gap > 0


def test_a_group_moves_as_fast_as_the_whole_set():
    """The gradient of a group's images is their part of the whole set's, however few they are."""
    task = task_of()
    images, labels = task.start("real")
    students = [(task.network(ARCH), [task.network(ARCH).init(5)])]
    whole, _ = apm.adversarial_gradient(images, labels, students, 1, task, 0)
    group = replace(task, parts=3)
    part, _ = apm.adversarial_gradient(images[:IPC], labels[:IPC], students, 1, group, 0)
    assert (part - whole[:IPC]).abs().max() < 1e-5 * whole[:IPC].abs().max()


def test_of_several_students_the_mean_counts():
    """The gradient of two students is the mean of theirs; one program trains them as taking turns does."""
    task = task_of(students=2)
    images, labels = task.start("real")
    student = task.network(ARCH)
    states = []
    for together in (1, 2):
        store = types.SimpleNamespace(read=lambda rows: {"images": images[rows]}, write=lambda *_: None)
        state = {"rows": torch.arange(0), "batch": {}, "moved": torch.zeros(len(labels)), "lr": 3.0}
        apm.refresh(state, store, labels, replace(task, decisions=WITH(together)), 0)
        states.append(state)
    first, second = (state["snapshots"][ARCH] for state in states)
    assert len(first) == len(second) == 4  # two of each
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for a, b in zip(first, second, strict=True) for name in a)
    which, alone = states[0]["teacher"], task_of()
    found = partial(apm.adversarial_gradient, images, labels, which=which, step=0)
    halves = [found([(student, own)], task=alone)[0] for own in (first[:2], first[2:])]
    both = found([(student, first)], task=task)[0]
    assert (both - sum(halves) / 2).abs().max() < 1e-5 * both.abs().max()
    assert (halves[0] - halves[1]).abs().max() > 0.01 * both.abs().max()


def test_a_student_that_diverges_is_named(tmp_path):
    """And what to type."""
    task = task_of(student={"arch": ARCH, "epochs": 3, "lr": 1e6})
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


MIXED = {"views": 2, "students": 1, "student": {"arch": [ARCH, OTHER], "epochs": 2}, "refresh_every": 2}


@pytest.mark.parametrize(
    ("students", "turns"),
    [
        (1, [["a"], ["b"], ["c"], ["a"]]),
        (2, [["a", "b"], ["c", "a"], ["b", "c"], ["a", "b"]]),
        (3, [["a", "b", "c"], ["a", "b", "c"]]),
    ],
)
def test_families_of_students_take_turns(students, turns):
    """One student after another, and one refresh after another."""
    config = apm.Config.model_validate({"students": students, "student": {"arch": ["a", "b", "c"]}})
    assert [apm.turn(config, number) for number in range(len(turns))] == turns


def test_a_refresh_keeps_the_snapshots_of_its_families(tmp_path):
    """The first refresh's students are of the first family alone, the second's of the second; of two, one each."""
    seen = []

    class Seen(Run):
        def log(self, **values) -> None:
            seen.append({arch: len(several) for arch, several in self.state["snapshots"].items()})

        def steps(self, n, state, store=None):
            self.state = state
            yield from super().steps(n, state, store)

    apm.distill(task_of(iterations=4, **MIXED), Seen(tmp_path / "one", "distill"))
    apm.distill(task_of(iterations=1, **{**MIXED, "students": 2}), Seen(tmp_path / "two", "distill"))
    assert seen == [{ARCH: 2}, {ARCH: 2}, {OTHER: 2}, {OTHER: 2}, {ARCH: 2, OTHER: 2}]


def test_a_run_of_views_and_families_resumes_to_the_bit(tmp_path, monkeypatch):
    """It dies between two refreshes and goes on with the students that it had."""
    whole = apm.distill(task_of(iterations=6, **MIXED), Run(tmp_path / "whole", "distill")).images
    moved, updates = momentum.update, []

    def dies(*given) -> None:
        if len(updates) == 3:
            raise KeyboardInterrupt
        updates.append(moved(*given))

    monkeypatch.setattr(apm, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        apm.distill(task_of(iterations=6, **MIXED), Run(tmp_path / "cut", "distill", checkpoint_seconds=0))
    monkeypatch.setattr(apm, "update", moved)
    refresh, refreshed = apm.refresh, []
    monkeypatch.setattr(apm, "refresh", lambda *given: refreshed.append(given[-1]) or refresh(*given))
    assert torch.equal(apm.distill(task_of(iterations=6, **MIXED), Run(tmp_path / "cut", "distill")).images, whole)
    assert refreshed == [4]  # the students of step 2 were in the checkpoint


def test_views_move_the_images_otherwise():
    """The mean over augmented views is another gradient than that of the bare images."""
    bare, seen = task_of(), task_of(views=2)
    images, labels = bare.start("real")
    students = [(bare.network(ARCH), [bare.network(ARCH).init(5)])]
    first, second = (apm.adversarial_gradient(images, labels, students, 1, task, 0)[0] for task in (bare, seen))
    assert (first - second).abs().max() > 0.1 * first.abs().max()
    again = apm.adversarial_gradient(images, labels, students, 1, seen, 0)[0]
    other = apm.adversarial_gradient(images, labels, students, 1, seen, 1)[0]
    assert torch.equal(again, second) and not torch.equal(other, second)


@pytest.mark.parametrize(
    ("arch", "fault"),
    [
        ([], "names no architecture"),
        ("", "names no architecture"),
        (3, "expected text or list of text, got 3"),
    ],
)
def test_a_student_of_no_architecture_is_refused(arch, fault):
    """In one line that opens with the key."""
    with pytest.raises(UserError, match=f"method.student.arch: {fault}"):
        task_of(student={"arch": arch})


def test_a_recipe_without_views_or_families_is_what_it_was():
    """Its content, which is hashed, knows neither; with them it is another recipe."""
    plain, views = task_of().recipe, task_of(views=2).recipe
    several = task_of(student={"arch": [ARCH, OTHER], "epochs": 2}).recipe
    assert "views" not in plain.content()["method"] and plain.content()["method"]["student"]["arch"] == ARCH
    assert len({plain.hash, views.hash, several.hash, task_of(views=0).recipe.hash}) == 3
    assert several.content()["method"]["student"]["arch"] == [ARCH, OTHER]
