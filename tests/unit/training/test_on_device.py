"""On an accelerator no step waits for the host, and no tensor is on the wrong device; seen without an accelerator.

Fake tensors know their device and shape and hold no values: reading one, as `.item()`, `bool()` and `nonzero()` do,
raises, and so does an operation on tensors of two devices. `meta` stands for the accelerator.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
    unset_fake_temporarily,
)

from ddhub.distillation import momentum
from ddhub.distillation.methods import apm
from ddhub.training import architectures, augment, device, fit, losses
from ddhub.training import network as networks
from ddhub.training.protocol import DSA_OPERATIONS, Protocol

DEVICE, CLASSES, SIDE, IMAGES = "meta", 4, 16, 12
PROTOCOL = Protocol(loss="l1_logits", augment="dsa", lr=0.02, epochs=8, batch=6)


class Faked(networks.Network):
    """A network whose fresh weights are fake, on the device."""

    def init(self, seed):
        with unset_fake_temporarily():
            fresh = architectures.build(self.arch, self.classes, self.channels, self.side, seed).state_dict()
        return self.place({name: self.mode.from_tensor(value) for name, value in fresh.items()})


@pytest.fixture
def mode(monkeypatch):
    """The mode, with the reads left out that come once after a whole training, and draws on the host as they are."""
    drawn = augment._drawn

    def on_host(*arguments):
        with unset_fake_temporarily():
            return drawn(*arguments)

    monkeypatch.setattr(augment, "_drawn", on_host)
    monkeypatch.setattr(fit, "_check", lambda *_: None)
    monkeypatch.setattr(fit, "_finite", lambda _: True)
    reads = []

    def read(tensor):
        reads.append(tensor)
        return [True] * len(tensor)

    monkeypatch.setattr(FakeTensor, "tolist", read)
    yield FakeTensorMode()
    assert len(reads) <= 1  # whether the last losses were finite


def network(mode, arch="convnet2_w8", together=1):
    made = Faked(arch, CLASSES, 3, SIDE, device.Decisions(threads=1, together=together))
    made.mode, made.decisions = mode, replace(made.decisions, device=DEVICE)
    return made


def examples():
    images, labels = torch.randn(IMAGES, 3, SIDE, SIDE, device=DEVICE), torch.zeros(IMAGES, dtype=torch.int64)
    return fit.Examples(images, labels.to(DEVICE), targets=torch.randn(IMAGES, CLASSES, device=DEVICE))


def on_device(weights):
    return {value.device.type for value in weights.values()} == {DEVICE}


def test_reading_a_value_or_mixing_devices_would_be_seen(mode):
    """The instrument itself: it raises at what the other tests say is not done."""
    with mode:
        value = torch.ones(2, device=DEVICE)
        with pytest.raises(DataDependentOutputException):
            value.sum().item()
        with pytest.raises((RuntimeError, UnsupportedOperatorException), match=r"device"):
            value + torch.ones(2)


@pytest.mark.parametrize("arch", ["convnet2_w8", "resnet18"])
def test_a_training_leaves_the_device_alone(mode, arch):
    """Two batches an epoch, snapshots, every operation of the augmentation drawn at one step or another."""
    trained = network(mode, arch)
    with mode:
        kept = fit.fit(trained, examples(), PROTOCOL, seed=3, keep=[1, 4])
    assert len(kept) == 3 and all(map(on_device, kept))


def test_networks_trained_together_leave_it_alone(mode):
    trained = network(mode, together=2)
    with mode:
        kept = fit.fit_many(trained, [examples()] * 2, PROTOCOL, [1, 2], keep=[1])
    assert [len(each) for each in kept] == [2, 2] and all(on_device(weights) for each in kept for weights in each)


@pytest.mark.parametrize("operation", [*DSA_OPERATIONS, "rrc+flip+cutmix"])
def test_every_augmentation_leaves_it_alone(mode, operation):
    with mode:
        found = augment.augment(examples().images, operation, torch.Generator().manual_seed(0))
    assert found.device.type == DEVICE


@pytest.mark.parametrize(("average", "views"), [(0.0, 0), (0.9, 0), (0.9, 2)])
def test_an_update_leaves_it_alone(mode, average, views):
    """The gradient over all snapshots at once, chunk by chunk, and the step of images, momentum and average."""
    config = apm.Config(average=average, views=views, chunk=5, project=False)
    student, teacher = network(mode), network(mode)
    with mode:
        weights, batch = teacher.init(0), examples()
        teachers = SimpleNamespace(logits=lambda images, which: teacher.forward(weights, images))
        decisions = SimpleNamespace(chunk=5)
        recipe = SimpleNamespace(seed=0, augment="dsa")
        task = SimpleNamespace(
            config=config, decisions=decisions, recipe=recipe, parts=1, need_teachers=lambda: teachers
        )
        snapshots = [student.init(seed) for seed in range(3)]
        gradient, gap = apm.adversarial_gradient(batch.images, batch.labels, [(student, snapshots)], 0, task, 0)
        values = {name: batch.images for name in ("images", "velocity", "average")}
        momentum.update(values, gradient, 1.0, task)
    assert gradient.device.type == gap.device.type == DEVICE and on_device(values)


def test_as_many_snapshots_at_once_as_a_device_is_busy_with(mode, monkeypatch):
    """Few images: all of them; many: one after another, so that memory does not grow with the snapshots."""
    student = network(mode)
    with mode:
        snapshots, images = [student.init(seed) for seed in range(5)], examples().images
        for pixels, sizes in ((10**9, [5]), (2 * IMAGES * SIDE**2, [2, 2, 1]), (1, [1] * 5)):
            monkeypatch.setattr(networks, "BUSY_PIXELS", pixels)
            assert [len(part) for part in student.portions(snapshots, images)] == sizes
            assert student.forward_each(snapshots, images).shape == (5, IMAGES, CLASSES)


@pytest.mark.parametrize("name", ["l1_logits", "ce"])
def test_a_loss_leaves_it_alone(mode, name):
    with mode:
        some = examples()
        loss = losses.loss_of(PROTOCOL.model_copy(update={"loss": name}))(some.targets, some.labels, some.targets)
    assert loss.device.type == DEVICE
