"""Several seeds in one program: each ends where its own training ends; precision and old decisions."""

import pytest
import torch
from conftest import CLASSES, SIDE, examples

from ddhub.base.errors import UserError
from ddhub.training import device, fit
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol

pytestmark = pytest.mark.slow

SEEDS = [4, 0, 7]


def network(arch: str, **decisions) -> networks.Network:
    return networks.network(arch, CLASSES, 1, SIDE, device.Decisions(**decisions))


def protocol(**values) -> Protocol:
    return Protocol(
        **{"loss": "l1_logits", "augment": "dsa", "lr": 0.02, "epochs": 4, "batch": 8, "min_steps": 0, **values}
    )


def far(one: networks.Weights, other: networks.Weights) -> float:
    """The largest difference of any tensor, in its own scale."""
    gaps = [(one[k] - other[k]).abs().max() / other[k].abs().max().clamp(min=0.01) for k in other]
    return max(float(gap) for gap in gaps)


def differing() -> list[fit.Examples]:
    return [examples(seed=seed) for seed in SEEDS]


def fit_many(*asked, **named) -> list:
    """The final weights of each network."""
    return [moments and moments[-1] for moments in fit.fit_many(*asked, **named)]


@pytest.mark.parametrize(
    ("arch", "tolerance", "values"),
    [
        ("convnet2_w8", 1e-3, {}),
        ("convnet2_w8", 1e-3, {"loss": "ce", "augment": "none", "batch": 32}),
        ("resnet18_w8", 1e-2, {"epochs": 2, "batch": 32, "loss": "ce"}),  # batch norm magnifies rounding
        ("vit_tiny_w12", 1e-3, {"epochs": 2, "batch": 32}),
    ],
)
def test_seeds_trained_together_end_where_each_ends_alone(arch, tolerance, values):
    """Own initialisation, order, draws and images; weights and running statistics to the stated part of their scale."""
    how, data = protocol(**values), differing()
    alone = fit_many(network(arch), data, how, SEEDS)
    together = fit_many(network(arch, together=3), data, how, SEEDS)
    for mine, other in zip(together, alone, strict=True):
        assert mine.keys() == other.keys()
        assert far(mine, other) < tolerance
    assert far(together[0], alone[1]) > 10 * tolerance


def test_a_training_is_the_same_bits_whoever_is_trained_beside_it():
    """A row hangs on its own seed and on how many were trained, not on which."""
    data = differing()
    first = fit_many(network("convnet2_w8", together=3), data, protocol(), SEEDS)
    second = fit_many(network("convnet2_w8", together=3), [data[0], data[0], data[2]], protocol(), [4, 9, 7])
    assert all(torch.equal(first[k][name], second[k][name]) for k in (0, 2) for name in first[0])


def test_one_at_a_time_is_fit():
    """To the bit."""
    found = fit_many(network("convnet2_w8"), differing(), protocol(), SEEDS)
    for weights, data, seed in zip(found, differing(), SEEDS, strict=True):
        alone = fit.fit(network("convnet2_w8"), data, protocol(), seed)[-1]
        assert all(torch.equal(weights[name], alone[name]) for name in alone)


def test_snapshots_are_those_that_each_keeps_alone():
    """At the same epochs, then the end."""
    how, data = protocol(), differing()
    several = fit.fit_many(network("convnet2_w8", together=3), data, how, SEEDS, keep=(1, 2))
    for moments, own, seed in zip(several, data, SEEDS, strict=True):
        alone = fit.fit(network("convnet2_w8"), own, how, seed, keep=(1, 2))
        assert [len(moments), max(map(far, moments, alone)) < 1e-3] == [3, True]
        assert far(moments[0], alone[1]) > 1e-2


def test_dynamic_labels_reach_every_network():
    """The teacher sees each network's own views."""
    how = protocol(epochs=2)

    def teach(inputs):
        return inputs.flatten(1)[:, :CLASSES] * 3

    alone = fit_many(network("convnet2_w8"), differing(), how, SEEDS, teach=teach)
    together = fit_many(network("convnet2_w8", together=3), differing(), how, SEEDS, teach=teach)
    assert max(far(mine, other) for mine, other in zip(together, alone, strict=True)) < 1e-3


@pytest.mark.parametrize("arch", ["convnet2_w8", "resnet18"])
def test_several_answer_in_one_call_what_each_answers_alone(arch):
    """The call that a GPU makes for snapshots and teachers, and its gradient, beside those of one after another."""
    net, images = network(arch), examples(seed=1).images[:9]
    weights = [net.init(seed) for seed in SEEDS]
    found = []
    for call in (net._forward_together, net.forward_each):
        asked = images.clone().requires_grad_()
        logits = call(weights, asked)
        found.append((logits.detach(), torch.autograd.grad(logits.abs().sum(), asked)[0]))
    for together, alone in zip(*found, strict=True):
        assert together.shape == alone.shape and (together - alone).abs().max() < 1e-4 * alone.abs().max()


def test_dropout_is_not_trained_together(monkeypatch):
    """Its draws come from torch's own state; said before any work."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(SIDE**2, CLASSES))
    monkeypatch.setattr(networks.architectures, "try_out", lambda *_: net)
    with pytest.raises(UserError, match="--together: mlp has dropout"):
        networks.Network("mlp", CLASSES, 1, SIDE, device.Decisions(together=2))
    assert networks.Network("mlp", CLASSES, 1, SIDE, device.Decisions()).draws


def test_a_network_that_vmap_cannot_train_is_not_trained_together():
    """The bias of its attention has no gradient there; said before any work too."""
    with pytest.raises(UserError, match=r"--together: timm:test_coatnet cannot be trained so: .*not differentiable"):
        networks.network("timm:test_coatnet", CLASSES, 1, 32, device.Decisions(together=2))


@pytest.mark.parametrize("together", [1, 3])
def test_one_that_diverges_leaves_the_others_as_they_are(together):
    """To the bit."""
    data = differing()
    whole = fit_many(network("convnet2_w8", together=together), data, protocol(), SEEDS)
    data[1] = fit.Examples(data[1].images * float("inf"), data[1].labels, targets=data[1].targets)
    found = fit_many(network("convnet2_w8", together=together), data, protocol(), SEEDS)
    assert found[1] is None
    assert all(torch.equal(found[k][name], whole[k][name]) for k in (0, 2) for name in whole[0])


def test_bfloat16_is_for_the_forward_pass_of_training_alone():
    """Weights and scores stay float32, the training differs a little, and repeats to the bit."""
    half, plain = network("convnet2_w8", precision="bfloat16"), network("convnet2_w8")
    first, again = (fit.fit(half, examples(), protocol(), 1)[-1] for _ in range(2))
    full = fit.fit(plain, examples(), protocol(), 1)[-1]
    assert all(value.dtype == torch.float32 for value in first.values())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert 0 < far(first, full) < 0.2
    assert torch.equal(half.forward(full, examples().images), plain.forward(full, examples().images))


def test_decisions_from_before_precision_and_together_load():
    """What old checkpoints, rows and manifests hold was float32, one after another."""
    old = {"device": "cpu", "threads": 1, "compile": False}
    found = device.Decisions(**old)
    assert (found.precision, found.together) == ("float32", 1)
    assert found == device.decide("cpu", 1, False)
    assert device.Decisions(**found.record()) == found
