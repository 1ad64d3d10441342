"""Threads of one process: each gets what it would get alone."""

import contextlib
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from conftest import CLASSES, SIDE, examples

from ddhub.training import architectures, device
from ddhub.training import network as networks


class Meeting:
    """Lets two threads wait for each other, if they can both come."""

    def __init__(self):
        self.both = threading.Barrier(2)

    def __call__(self, *_):
        with contextlib.suppress(threading.BrokenBarrierError):
            self.both.wait(0.3)


def in_two_threads(work, *given):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, *given))


def test_threads_that_call_one_network_get_answers_by_their_own_weights():
    """A call puts its weights into the skeleton, where another call would find them."""
    network = networks.network("convnet2_w8", CLASSES, 1, SIDE, device.Decisions())
    weights, images = [network.init(seed) for seed in (0, 1)], examples().images
    calls = {
        "forward": lambda own: network.forward(own, images),
        "train": lambda own: network.forward(own, images, train=True),
        "embed": lambda own: network.embed(own, images),
        "many": lambda own: network.forward_many(networks.stack([own]), images.unsqueeze(0)),
        "together": lambda own: network._forward_together([own, own], images),
    }
    alone = {name: [call(own) for own in weights] for name, call in calls.items()}
    for name, call in calls.items():
        hook = network.skeleton.features[0].register_forward_pre_hook(Meeting())
        found = in_two_threads(call, weights)
        hook.remove()
        assert all(torch.equal(one, other) for one, other in zip(found, alone[name], strict=True)), name


def test_a_deep_copy_of_what_holds_a_network_holds_the_same():
    """A process shares it; the lock of its turns cannot be copied."""
    network = networks.network("convnet2_w8", CLASSES, 1, SIDE, device.Decisions())
    assert copy.deepcopy([network])[0] is network


def test_networks_that_threads_build_at_once_are_those_of_their_seeds(monkeypatch):
    """Layers draw from torch's global generator, which is as it was afterwards."""
    arch, seeds = "convnet2_w8", (0, 1)
    alone = [architectures.build(arch, CLASSES, 1, SIDE, seed).state_dict() for seed in seeds]
    builder, meeting, before = architectures.resolve(arch), Meeting(), torch.get_rng_state()

    def build(*sizes):
        meeting()
        return builder(*sizes)

    monkeypatch.setattr(architectures, "resolve", lambda arch: build)
    found = in_two_threads(lambda seed: architectures.build(arch, CLASSES, 1, SIDE, seed).state_dict(), seeds)
    for one, other in zip(found, alone, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_that_drop_values_drop_those_of_their_seeds():
    """Training with dropout draws from the global generator too."""
    network = copy.copy(networks.network("convnet2_w8", CLASSES, 1, SIDE, device.Decisions()))
    network.draws, meeting = True, Meeting()

    def drawn(seed):
        with network.seeded(seed):
            meeting()
            return torch.rand(3)

    alone = [torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert all(torch.equal(one, other) for one, other in zip(in_two_threads(drawn, (0, 1)), alone, strict=True))
