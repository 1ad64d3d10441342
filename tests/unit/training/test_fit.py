"""Training one network: reproducible, resumable, equal to plain torch; and the fast path equal to the plain one."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import CLASSES, SIDE, examples

from ddhub.base.errors import UserError
from ddhub.data import preprocess
from ddhub.training import architectures, batches, device, fit, losses, optimisation
from ddhub.training import network as networks
from ddhub.training.loop import Run
from ddhub.training.protocol import Protocol

pytestmark = pytest.mark.slow


class Crash(Exception):
    """Stands for a kill."""


def network(arch: str = "convnet2_w8", compile: bool = False) -> networks.Network:
    """One that trains as long as its protocol says, whatever its family."""
    found = copy.copy(networks.network(arch, CLASSES, 1, SIDE, device.Decisions(compile=compile)))
    found.family = replace(found.family, patient=False)
    return found


def protocol(**values) -> Protocol:
    return Protocol(**{"loss": "l1_logits", "augment": "dsa", "lr": 0.05, "epochs": 4, "batch": 8, **values})


def same(one: networks.Weights, other: networks.Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("arch", ["convnet2_w8", "resnet18_w8"])
def test_training_repeats_to_the_bit(arch):
    """The seed alone decides; torch's own state is not read."""
    brief = protocol(epochs=2 if arch == "convnet2_w8" else 1)
    first = fit.fit(network(arch), examples(), brief, seed=1)[-1]
    torch.randn(3)
    assert same(first, fit.fit(network(arch), examples(), brief, seed=1)[-1])
    assert not same(first, fit.fit(network(arch), examples(), brief, seed=2)[-1])


@pytest.mark.parametrize("arch", ["timm:repghostnet_050", "timm:rexnet_100"])
def test_what_a_network_draws_comes_from_the_seed(arch):
    """Dropout (0.2) and dropped paths (0.1): torch's own state is neither read nor moved, and scores draw nothing."""
    data, brief = examples(), protocol(epochs=2, augment="none")
    assert network(arch).draws
    first = fit.fit(network(arch), data, brief, seed=1)[-1]
    torch.randn(3)
    before = torch.get_rng_state()
    assert same(first, fit.fit(network(arch), data, brief, seed=1)[-1])
    assert torch.equal(before, torch.get_rng_state())
    logits = network(arch).forward(first, data.images)
    assert torch.equal(logits, network(arch).forward(first, data.images))
    with network(arch).seeded(1):
        drawn = network(arch).forward(first, data.images, train=True)
    with network(arch).seeded(2):
        assert not torch.equal(drawn, network(arch).forward(first, data.images, train=True))


@pytest.mark.parametrize(
    ("arch", "epochs", "every"), [("convnet2_w8", 5, 0), ("convnet2_w8", 5, 1e9), ("vit_tiny_w12", 2, 0)]
)
def test_a_broken_training_ends_as_an_unbroken_one(tmp_path, arch, epochs, every):
    """Momentum and AdamW's moments come back too; a finished training gives its weights again at once."""
    data, how = examples(), protocol(epochs=epochs)
    calls = []

    def zeros(inputs):
        return torch.zeros(len(inputs), CLASSES)

    def teach(inputs):
        calls.append(len(inputs))
        if len(calls) == 5:  # in the second epoch; each has three steps
            raise Crash
        return zeros(inputs)

    def run():
        return Run(tmp_path / "run", "teacher", checkpoint_seconds=every)

    with pytest.raises(Crash):
        fit.fit(network(arch), data, how, seed=1, run=run(), teach=teach)
    resumed = fit.fit(network(arch), data, how, seed=1, run=run(), teach=teach)[-1]
    whole = fit.fit(network(arch), data, how, seed=1, teach=zeros)[-1]
    assert same(resumed, whole)
    assert len(calls) == 5 + 3 * (epochs - (1 if every == 0 else 0))
    assert same(resumed, fit.fit(network(arch), data, how, seed=1, run=run(), teach=teach)[-1])


def test_snapshots_are_the_weights_of_their_epochs():
    """In order, not changed by what follows; those before the rate drops are a shorter training's."""
    three, four = protocol(epochs=3), protocol(epochs=4)  # both at the full rate for two epochs
    kept = fit.fit(network(), examples(), four, seed=1, keep=[2, 4, 1])
    assert len(kept) == 4 and same(kept[2], kept[3]) and not same(kept[1], kept[2])
    assert same(kept[0], fit.fit(network(), examples(), protocol(epochs=1), seed=1)[-1])
    assert same(kept[1], fit.fit(network(), examples(), three, seed=1, keep=[2])[0])
    assert same(kept[3], fit.fit(network(), examples(), four, seed=1)[-1])
    assert not any(value.requires_grad for weights in kept for value in weights.values())


@pytest.mark.parametrize("loss", ["l1_logits", "ce"])
def test_training_is_plain_sgd(loss):
    """Without augmentation and in one batch: module, loss and torch.optim.SGD as anyone would write them."""
    data, how = examples(), protocol(loss=loss, augment="none", epochs=5, batch=32, lr=0.1)
    found = fit.fit(network(), data, how, seed=1)[-1]
    net = architectures.build("convnet2_w8", CLASSES, 1, SIDE, seed=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for epoch in range(5):
        optimizer.param_groups[0]["lr"] = 0.1 if epoch < 3 else 0.01
        logits = net(data.images)
        value = F.l1_loss(logits, data.targets) if loss == "l1_logits" else F.cross_entropy(logits, data.labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_losses_equal_their_references():
    """L1 is the mean over batch and classes; cross-entropy is with the hard class."""
    logits, labels = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), torch.tensor([1, 2])
    targets = torch.tensor([[0.0, 2.0, -1.0], [0.0, 1.0, 0.0]])
    assert losses.LOSSES["l1_logits"](logits, labels, targets).item() == pytest.approx((1 + 0 + 1 + 0 + 1 + 3) / 6)
    soft = [math.log(sum(math.exp(v) for v in row)) for row in logits.tolist()]
    assert losses.LOSSES["ce"](logits, labels, None).item() == pytest.approx((soft[0] - 2 + soft[1] - 3) / 2)


@pytest.mark.parametrize(
    ("name", "epochs", "steps", "expected"),
    [
        ("half", 4, 2, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]),
        ("half", 3, 1, [1, 1, 0.1]),
        ("half", 1, 3, [1, 1, 1]),
        ("cosine", 10, 2, [0.5, 1, 1, *[0.5 * (1 + math.cos(math.pi * k / 18)) for k in range(1, 18)]]),
        ("cosine", 2, 2, [1, 1, 0.75, 0.25]),
        ("cosine", 1, 1, [1]),
    ],
)
def test_a_schedule_has_its_values(name, epochs, steps, expected):
    """half: a tenth after half of the epochs; cosine: linear over the first tenth, then down towards zero."""
    found = [optimisation.rate_factor(name, step, steps, epochs) for step in range(steps * epochs)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("count", "steps"), [(10, 1), (20, 3), (257, 2), (1000, 4), (7, 4), (503, 101)])
def test_batches_have_one_size_and_cover(count, steps):
    """As many as asked; no image twice in an epoch, fewer left out than there are batches, other ones each epoch."""
    seen = set()
    for epoch in range(12):
        parts = list(batches.order(count, steps, 0, epoch))
        assert [len(part) for part in parts] == [count // steps] * steps
        chosen = torch.cat(parts).tolist()
        assert len(set(chosen)) == len(chosen) > count - steps
        seen |= set(chosen)
    assert seen == set(range(count))


@pytest.mark.parametrize(("count", "batch", "steps"), [(20, 8, 3), (8, 8, 1), (9, 8, 2), (7, 2, 4)])
def test_an_epoch_has_as_few_batches_as_fit(count, batch, steps):
    """None larger than the protocol's."""
    sizes = []

    def teach(inputs):
        sizes.append(len(inputs))
        return torch.zeros(len(inputs), CLASSES)

    fit.fit(network(), examples(count), protocol(batch=batch, epochs=2), seed=0, teach=teach)
    assert sizes == [count // steps] * steps * 2


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "expected"),
    [
        (130, 50, 100, (100, 3)),  # 300 steps are asked for, and enough
        (130, 50, 99, (99, 4)),  # 297 are not: a smaller batch
        (130, 130, 20, (60, 5)),  # no smaller than 26, then more epochs
        (10, 50, 200, (300, 1)),
        (10, 4, 1, (100, 3)),  # a protocol's own batch may be smaller
        (1000, 250, 100, (100, 4)),
    ],
)
def test_a_family_gets_the_steps_that_it_needs(count, batch, epochs, expected):
    """Batches of fewer images first, then more epochs; a protocol that asks for enough steps is followed."""
    asked = protocol(batch=batch, epochs=epochs, min_steps=300)
    assert fit.plan(count, asked, optimisation.FAMILIES["transformer"]) == expected
    plain = fit.plan(count, asked, optimisation.FAMILIES["convnet"])
    assert plain == (epochs, math.ceil(count / batch))


def test_a_longer_training_keeps_its_snapshots_at_the_same_parts(monkeypatch):
    """A student that needs four times the epochs is kept at four times the numbers."""
    found = network()
    found.family = replace(found.family, patient=True)
    monkeypatch.setattr(fit, "SMALL_BATCH", 7)  # 20 images: 3 steps an epoch, 16 epochs
    kept = fit.fit(found, examples(), protocol(epochs=4, min_steps=48), seed=1, keep=[1, 2])
    longer = fit.fit(network(), examples(), protocol(epochs=16), seed=1, keep=[4, 8])
    assert len(kept) == 3 and all(same(mine, other) for mine, other in zip(kept, longer, strict=True))


def test_pixels_are_preprocessed_and_rows_chosen():
    """Only the rows of the index take part, as inputs, with the labels and targets that are theirs."""
    pixels = torch.randint(0, 256, (6, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prepared = preprocess.fit(pixels, torch.arange(6), zca=False)
    targets = torch.arange(18.0).view(6, 3)
    data = fit.Examples(pixels, torch.arange(6), prepared, targets, index=torch.tensor([5, 0, 3]))
    inputs, labels, found = data.batch(data.rows(torch.tensor([2, 0])), "cpu")
    assert len(data) == 3 and labels.tolist() == [3, 5] and torch.equal(found, targets[[3, 5]])
    assert torch.equal(inputs, prepared.inputs(pixels[[3, 5]]))


@pytest.mark.parametrize("count", [1, 499, 500, 503])
def test_accuracy_counts_every_example_once(count):
    """A last batch that is filled up by repetition does not count twice."""
    data, weights = examples(count), network().init(0)
    expected = network().forward(weights, data.images).argmax(1)
    labels = torch.where(torch.arange(count) >= 490, (expected + 1) % 3, expected)  # the last ones are all wrong
    marked = fit.Examples(data.images, labels)
    assert fit.accuracy(network(), weights, marked) == pytest.approx(min(count, 490) / count)


def test_predictions_come_in_order():
    """Whatever the batch, and with fewer examples than one."""
    data, weights = examples(10), network().init(0)
    whole = network().forward(weights, data.images)
    for batch in (4, 10, 500):
        logits, labels = (torch.cat(part) for part in zip(*fit.predict(network(), weights, data, batch), strict=True))
        torch.testing.assert_close(logits, whole)
        assert torch.equal(labels, data.labels) and not logits.requires_grad


@pytest.mark.parametrize("resumable", [False, True])
def test_divergence_is_said(tmp_path, resumable):
    """A rate far too high ends in a UserError that says to lower it."""
    run = Run(tmp_path, "teacher") if resumable else None
    with pytest.raises(UserError, match=r"nan|inf") as caught:
        fit.fit(network(), examples(), protocol(lr=1e6), seed=0, run=run)
    assert "lower" in str(caught.value) and "rate" in str(caught.value)


@pytest.mark.parametrize("arch", ["resnet18_w8", "vgg11_w8"])
def test_the_functional_path_equals_the_module(arch):
    """Logits, gradients and running statistics of a batch-norm net, in training mode and out of it."""
    net, found = architectures.build(arch, CLASSES, 1, SIDE, seed=3), network(arch)
    weights, images = found.init(3), examples(6).images
    leaves = [weights[name].requires_grad_() for name in found.trainable]
    for _ in range(2):
        expected, logits = net.train()(images), found.forward(weights, images, train=True)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(logits.square().sum(), leaves)
    plain = torch.autograd.grad(expected.square().sum(), list(net.parameters()))
    noise = 1e-5 * max(float(value.abs().max()) for value in plain)  # biases before a batch norm have no true gradient
    for mine, value in zip(gradients, plain, strict=True):
        torch.testing.assert_close(mine, value, rtol=1e-3, atol=noise)
    statistics = dict(net.named_buffers())
    assert any(name.endswith("running_var") for name in statistics)
    for name, value in statistics.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    frozen = {name: weights[name].clone() for name in statistics}
    torch.testing.assert_close(found.forward(weights, images), net.eval()(images), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(weights[name], frozen[name]) for name in frozen)


def test_compiled_equals_plain():
    """The fast path changes speed, not numbers: logits and gradients to float32 rounding."""
    assert device.has_compiler()
    plain, compiled = network(), network(compile=True)
    weights, data = plain.init(0), examples(16)
    found = []
    for each in (plain, compiled):
        leaves = [weights[name].detach().clone().requires_grad_() for name in each.trainable]
        logits = each.forward(dict(zip(each.trainable, leaves, strict=True)), data.images, train=True)
        found.append([logits, *torch.autograd.grad((logits - data.targets).abs().mean(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_features_feed_the_classifier():
    """`embed` gives what the linear layer reads; a network that has none says so."""
    weights, images = network().init(0), examples(4).images
    features = network().embed(weights, images)
    logits = features @ weights["classifier.weight"].T + weights["classifier.bias"]
    torch.testing.assert_close(logits, network().forward(weights, images), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="features are read from ConvNets only"):
        network("vit_tiny").embed({}, images)


def test_decisions_are_made_once_and_recorded(monkeypatch):
    """Compiling needs work ahead and a compiler; a device that is not there is refused."""
    small, large = device.decide("cpu", 1, flops=1e9), device.decide("cpu", 1, flops=1e15)
    assert (small.compile, large.compile) == (False, True)
    assert large.record() == {
        **{"device": "cpu", "threads": 1, "compile": True, "precision": "float32", "together": 1},
        **{"micro_batch": 0, "chunk": 0, "graph": False, "resident": 0},
        **{"channels_last": True, "tf32": False, "deterministic": False},
    }
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not device.decide("cpu", flops=1e15).compile
    with pytest.raises(UserError, match=r"no C\+\+ compiler found"):
        device.decide("cpu", compile=True)
    with pytest.raises(UserError, match="--device cuda:99: not available here"):
        device.decide("cuda:99")
