"""The wide convolutions' fast algorithm computes what a convolution does."""

import pytest
import torch
import torch.nn.functional as F

from ddhub.training import device, winograd
from ddhub.training import network as networks
from ddhub.training.field_networks import ConvNet


@pytest.fixture(autouse=True)
def plain_transforms(monkeypatch):
    """The formulas are what is tested here; compiling them takes longer than all else."""
    monkeypatch.setattr(winograd, "_compiled", lambda function: function)


@pytest.mark.parametrize(("channels", "outputs", "height", "width"), [(5, 7, 8, 8), (64, 3, 4, 12), (1, 1, 16, 4)])
def test_result_and_gradients_are_those_of_a_convolution(channels, outputs, height, width):
    """Result, images' and weights' gradients within 1e-5 of the largest value, at any shape of whole tiles."""
    generator = torch.Generator().manual_seed(height)
    images = torch.randn(3, channels, height, width, generator=generator, dtype=torch.float32).requires_grad_()
    weight = torch.randn(outputs, channels, 3, 3, generator=generator).requires_grad_()
    towards = torch.randn(3, outputs, height, width, generator=generator)
    expected, found = F.conv2d(images, weight, padding=1), winograd.convolution(images, weight)[0]
    wanted = torch.autograd.grad(expected, (images, weight), towards)
    gradients = torch.autograd.grad(found, (images, weight), towards)
    for exact, value in zip((expected, *wanted), (found, *gradients), strict=True):
        assert (exact - value).abs().max() < 1e-5 * exact.abs().max()


def test_operators_keep_torchs_contract():
    """Shapes, strides and gradients are told to the compiler as they are."""
    images = torch.randn(2, 3, 8, 4, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    torch.library.opcheck(winograd.convolution, (images, weight), test_utils=("test_schema", "test_faketensor"))
    gradient = torch.randn(2, 4, 8, 4)
    tiles = winograd.convolution(images, weight)[1].detach()
    torch.library.opcheck(winograd.gradient_of_images, (gradient, weight.detach()), test_utils=("test_faketensor",))
    torch.library.opcheck(winograd.gradient_of_weight, (gradient, tiles), test_utils=("test_faketensor",))


def test_only_wide_layers_of_whole_tiles_are_done_so():
    """Of a ConvNet-3 for 32 px the second and third layer; of one for 24 px the second alone; of a narrow one none."""
    for width, side, expected in [(128, 32, [1, 2]), (128, 24, [1]), (32, 32, [])]:
        net = ConvNet(3, width, 10, 3, side)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        winograd.adopt(net, side)
        convolutions = [layer for layer in net.features if isinstance(layer, torch.nn.Conv2d)]
        assert [k for k, layer in enumerate(convolutions) if isinstance(layer, winograd.Conv2d)] == expected
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_wide_compiled_network_is_that_network(monkeypatch):
    """What `fast` runs compiled in float32 gives the logits and gradients of the plain network."""
    monkeypatch.setattr(networks.torch, "compile", lambda function, **_: function)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for compiled in (False, True):
        network = networks.Network("convnet3", 10, 3, 16, device.Decisions(compile=compiled))
        weights = network.init(0)
        inputs = images.clone().requires_grad_()
        logits = network.forward(weights, inputs)
        found.append((logits, torch.autograd.grad(logits.square().sum(), inputs)[0]))
        assert any(isinstance(layer, winograd.Conv2d) for layer in network.skeleton.modules()) == compiled
    for exact, value in zip(*found, strict=True):
        assert (exact - value).norm() < 1e-3 * exact.norm()  # a rectifier that flips on rounding changes a few pixels
