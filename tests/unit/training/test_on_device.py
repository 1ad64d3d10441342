"""On an accelerator no step waits for the host: nothing is read, and what steps need is sent ahead of them.

tests/support/fake_gpu.py stands for the accelerator. Counts are of what further epochs or updates add.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from apm_tasks import task_of
from augmented import augmented
from fake_gpu import DEVICE, FakeGpu

import ddhub
from ddhub.data import enlarge, preprocess
from ddhub.distillation.methods.apm import loop as apm
from ddhub.distillation.methods.apm import momentum
from ddhub.distillation.methods.dm import loop as dm
from ddhub.training import device, fit, losses
from ddhub.training import network as networks
from ddhub.training.loop import Run
from ddhub.training.protocol import DSA_OPERATIONS, Protocol

pytestmark = pytest.mark.slow

CLASSES, SIDE, IMAGES = 4, 16, 12
PROTOCOL = Protocol(loss="l1_logits", augment="dsa", lr=0.02, epochs=2, batch=6)
FREE = {"read": 0, "copied": 0}


@pytest.fixture
def gpu():
    with FakeGpu() as gpu:
        yield gpu


def network(arch="convnet2_w8", together=1, where="meta"):
    made = networks.Network(arch, CLASSES, 3, SIDE, device.Decisions(threads=1, together=together))
    made.decisions = replace(made.decisions, device=where, resident=1 << 20)
    return made


def examples(where=DEVICE):
    draw = torch.Generator().manual_seed(0)
    images, targets = torch.randn(IMAGES, 3, SIDE, SIDE, generator=draw), torch.randn(IMAGES, CLASSES, generator=draw)
    return fit.Examples(images.to(where), torch.arange(IMAGES).to(where) % CLASSES, targets=targets.to(where))


def pixels(zca):
    shown = torch.randint(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator())
    rows = torch.arange(IMAGES - 1)
    return fit.Examples(shown, torch.arange(IMAGES) % CLASSES, preprocess.fit(shown, rows, zca=zca), index=rows)


def seen(gpu, train):
    """What an epoch more costs: of waits nothing, and so many sends."""
    found = []
    for epochs in (1, 1, 3):  # constants are copied by the first training, once
        gpu.seen.clear()
        train(PROTOCOL.model_copy(update={"epochs": epochs}))
        found.append(dict(gpu.seen))
    return {name: (found[2].get(name, 0) - found[1].get(name, 0)) / 2 for name in ("read", "copied", "sent")}


def test_reads_and_copies_would_be_seen(gpu):
    """The instrument itself."""
    value = torch.ones(2).to(DEVICE)
    assert gpu.seen["copied"] == 1
    assert value.sum().item() == 2 and bool((value > 0).all()) and value.tolist() == [1, 1]
    assert gpu.seen["read"] == 3
    assert value[value > 0].shape == (2,) and value[torch.tensor([0])].shape == (1,)
    assert (gpu.seen["read"], gpu.seen["copied"]) == (4, 2)
    torch.ones(2).to(DEVICE, non_blocking=True)
    assert gpu.seen["sent"] == 1
    with pytest.raises(RuntimeError, match="two devices"):
        value + torch.ones(2)
    with pytest.raises(AssertionError, match="out of Python's numbers"):
        value.new_tensor([1.0]) + 1


@pytest.mark.parametrize("arch", ["convnet2_w8", "vgg11_w8"])
def test_a_student(gpu, arch):
    """Two steps an epoch with snapshots, all operations of the augmentation drawn at one step or another."""
    trained, some = network(arch), examples()
    assert seen(gpu, lambda protocol: fit.fit(trained, some, protocol, seed=3, keep=[1])) == {**FREE, "sent": 2}


def test_students_trained_together(gpu):
    trained, some = network(together=2), [examples()] * 2
    assert seen(gpu, lambda protocol: fit.fit_many(trained, some, protocol, [1, 2], keep=[1])) == {**FREE, "sent": 4}


@pytest.mark.parametrize("zca", [False, True])
def test_a_teacher(gpu, zca):
    """Real images are whitened once, where they and the matrix lie on the device, and never sent again."""
    protocol, real = {"loss": "ce", "batch": 4}, pixels(zca)
    trained = network()
    waits = seen(gpu, lambda each: fit.fit(trained, real, each.model_copy(update=protocol), seed=1))
    assert waits == {**FREE, "sent": 2}


@pytest.mark.parametrize("zca", [False, True])
def test_a_teacher_whose_images_do_not_fit(gpu, zca):
    """They are sent batch by batch, ahead; the whitening stays."""
    trained, real = network(), pixels(zca)
    trained.decisions = replace(trained.decisions, resident=0)
    waits = seen(gpu, lambda each: fit.fit(trained, real, each.model_copy(update={"loss": "ce"}), seed=1))
    assert waits == {**FREE, "sent": 1 + 2}


def test_what_is_sent_is_what_the_cpu_has(gpu):
    """Weights on the device are those of a CPU, to the bit: the same draws, rows and images at every step."""
    for there, here in ((examples(), examples("cpu")), (pixels(False), pixels(False))):
        protocol = PROTOCOL if there.targets is not None else PROTOCOL.model_copy(update={"loss": "ce"})
        ((away,), (home,)) = (
            fit.fit(network(where=where), some, protocol, seed=5) for where, some in (("meta", there), ("cpu", here))
        )
        assert all(torch.equal(away[name].cpu(), value) for name, value in home.items())


def test_scores(gpu):
    """One read for all of them; a GPU's convolutions do not round then, as in training."""
    trained, some, rounded = network(), examples("cpu"), []
    forward = trained.forward

    def watched(*given):
        rounded.append(torch.backends.cudnn.allow_tf32)
        return forward(*given)

    weights, trained.forward, usual = trained.init(0), watched, torch.backends.cudnn.allow_tf32
    gpu.seen.clear()
    fit.accuracy(trained, weights, some)
    assert gpu.seen["read"] == 1 and gpu.seen["copied"] == 0
    assert rounded == [False] and torch.backends.cudnn.allow_tf32 == usual


@pytest.mark.parametrize("operation", [*DSA_OPERATIONS, "rrc+flip+cutmix"])
def test_every_augmentation(gpu, operation):
    images = examples().images
    gpu.seen.clear()
    found = augmented(images, operation, torch.Generator().manual_seed(0))
    assert found.device == DEVICE and +gpu.seen == {"sent": 1}


@pytest.fixture
def no_matrix():
    """No matrix that enlarges images is on the device yet, nor stays for other tests."""
    enlarge._weights.cache_clear()
    yield
    enlarge._weights.cache_clear()


@pytest.mark.parametrize(
    ("average", "views", "project", "factor"),
    [(0.0, 0, False, 1), (0.9, 0, True, 1), (0.9, 2, True, 1), (0.9, 2, False, 2)],
)
def test_an_update(gpu, no_matrix, average, views, project, factor):
    """The gradient over all snapshots at once, chunk by chunk, and the step of images, momentum and average.

    Images of half the side are enlarged on the device, by a matrix that the first update sends.
    """
    config = apm.Config(average=average, views=views, chunk=5, project=project)
    student, teacher, batch = network(), network(), examples()
    weights, snapshots = teacher.init(0), [student.init(seed) for seed in range(3)]
    task = SimpleNamespace(
        config=config,
        decisions=device.Decisions("meta", chunk=5),
        recipe=SimpleNamespace(seed=0, augment="dsa"),
        parts=1,
        side=SIDE,
        need_teachers=lambda: SimpleNamespace(logits=lambda images, which: teacher.forward(weights, images)),
        preprocess=pixels(zca=True).preprocess,
    )
    stored = batch.images[..., ::factor, ::factor].contiguous()
    values = {name: stored for name in ("images", "velocity", "average")}
    for step in range(2):
        gpu.seen.clear()
        gradient, _ = apm.adversarial_gradient(values["images"], batch.labels, [(student, snapshots)], 0, task, step)
        momentum.update(values, gradient, 1.0, task)
    assert +gpu.seen == ({"sent": 1} if views else {})


def test_as_many_snapshots_at_once_as_a_device_is_busy_with(gpu, monkeypatch):
    """Few images: all of them; many: one after another, so that memory does not grow with the snapshots."""
    student, images = network(), examples().images
    snapshots = [student.init(seed) for seed in range(5)]
    for busy, sizes in ((10**9, [5]), (2 * IMAGES * SIDE**2, [2, 2, 1]), (1, [1] * 5)):
        monkeypatch.setattr(networks, "BUSY_PIXELS", busy)
        assert [len(part) for part in student.portions(snapshots, images)] == sizes
        assert student.forward_each(snapshots, images).shape == (5, IMAGES, CLASSES)


@pytest.mark.parametrize("name", ["l1_logits", "ce"])
def test_a_loss(gpu, name):
    some = examples()
    gpu.seen.clear()
    loss = losses.loss_of(PROTOCOL.model_copy(update={"loss": name}))(some.targets, some.labels, some.targets)
    assert loss.device == DEVICE and not +gpu.seen


def test_a_set_is_learned_on_the_device(finished, gpu):
    """`ddhub.load(...).to(device)`: batches of an epoch, the teachers' labels, preprocessing of other images."""
    home = ddhub.load(finished)
    away = home.to("meta")
    for place in (away, home):
        away.teach, gpu.seen.clear()
        several = list(place.batches(epochs=3, batch=4, device="meta"))
        assert len(several) == 9 and all(part.device == DEVICE for batch in several for part in batch)
        assert gpu.seen["copied"] == gpu.seen["read"] == 0 and gpu.seen["sent"] in (6, 12)
        for batch, usual in zip(several, home.batches(epochs=3, batch=4), strict=True):
            assert all(torch.equal(part.cpu(), other) for part, other in zip(batch, usual, strict=True))
    away.preprocess(away.images), gpu.seen.clear()  # constants are copied once
    assert away.teach(away.inputs).device == away.preprocess(away.images).device == DEVICE and not +gpu.seen


class Unsaved(Run):
    """A run without checkpoints and lines of metrics, which are read now and then."""

    def _save(self, state, store) -> None:
        pass

    def _look(self, clock, line, live) -> None:
        self._pending.clear()


def result(task, method, folder):
    made = method.distill(task, Unsaved(folder, "distill", device=task.decisions.device))
    return made.images.cpu()


def test_a_whole_run_of_the_method(gpu, tmp_path, monkeypatch):
    """Refreshes and updates on the device end with the images of a CPU; an update more waits for nothing."""
    monkeypatch.setattr(networks, "BUSY_PIXELS", 1)  # a CPU takes snapshots one by one
    settings = {"batch": 6, "refresh_every": 3, "average": 0.9, "project": True, "views": 1}
    waits = []
    for number, iterations in enumerate((1, 7, 8)):
        task = task_of(iterations=iterations, **settings)
        away = elsewhere(task)
        gpu.seen.clear()
        found = result(away, apm, tmp_path / f"away{number}")
        waits.append(+gpu.seen)
        assert torch.equal(found, result(task, apm, tmp_path / f"home{number}"))
    assert waits[2] - waits[1] == {"sent": 1}  # what moves its view


def test_distribution_matching(gpu, tmp_path):
    """Real images of every class, their moves and fresh weights are sent; the labels are looked at once."""
    waits = []
    for iterations in (2, 2, 4):
        task = replace(task_of(), config=dm.Config(iterations=iterations, arch="convnet2_w4", real=5))
        gpu.seen.clear()
        found = result(elsewhere(task), dm, tmp_path / f"away{len(waits)}")
        waits.append(+gpu.seen)
    assert torch.equal(found, result(task, dm, tmp_path / "home"))
    assert waits[2] - waits[1] == {"sent": 2 * 3}


def elsewhere(task):
    """The task on the device, its teachers too."""
    decisions = device.Decisions("meta", resident=1 << 20)
    own = networks.network(task.teachers.network.arch, 3, 1, 8, decisions)
    teachers = replace(
        task.teachers, networks=[own] * len(task.teachers), weights=[own.place(each) for each in task.teachers.weights]
    )
    return replace(task, teachers=teachers, decisions=decisions)
