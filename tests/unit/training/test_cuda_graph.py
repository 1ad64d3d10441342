"""Steps that are recorded and replayed end where plain ones do; a recorder on the CPU stands for CUDA's."""

from dataclasses import replace

import pytest
import torch
from apm_tasks import task_of
from conftest import examples
from recorders import Recorder

from ddhub.distillation.methods.apm import loop as apm
from ddhub.training import cuda_graph, device, fit
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol

PLAIN = device.Decisions()


@pytest.fixture
def recorders(monkeypatch):
    monkeypatch.setattr(cuda_graph, "Recorder", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder.made


def test_calls_are_plain_then_replayed(recorders):
    double = cuda_graph.graphed(lambda x, none: x * 2, "cpu", 100)
    for number in range(6):
        assert double(torch.full((2,), float(number)), None).tolist() == [2 * number] * 2
    assert recorders[0].replays == 6 - cuda_graph.WARM_UP
    assert double(torch.ones(3), None).tolist() == [2, 2, 2]  # another shape
    assert recorders[0].replays == 6 - cuda_graph.WARM_UP


def test_few_calls_are_not_recorded(recorders):
    function = torch.neg
    assert cuda_graph.graphed(function, "cpu", cuda_graph.WORTH - 1) is function and not recorders


def test_a_failed_recording_is_said_and_goes_on(recorders, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorder, "record", fail)
    double = cuda_graph.graphed(lambda x: x * 2, "cpu", 100)
    assert [double(torch.tensor(float(n))).item() for n in range(6)] == [0, 2, 4, 6, 8, 10]
    assert caplog.text.count("CUDA graph: operation not permitted") == 1


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("convnet2_w8", {}),
        ("convnet2_w8", {"optimizer": "adamw"}),
        ("vgg11_w8", {"loss": "ce", "lr": 1e-3}),  # batch norms, whose averages change in place
    ],
)
def test_a_training_ends_where_a_plain_one_does(recorders, arch, settings):
    """Rates that change, snapshots, several batches; up to rounding, since optimisers fuse otherwise."""
    protocol = Protocol(**{"loss": "l1_logits", "lr": 0.01, "epochs": 10, "batch": 10, **settings})
    plain, recorded = (
        fit.fit(networks.Network(arch, 3, 1, 8, decisions), examples(), protocol, seed=2, keep=[4])
        for decisions in (PLAIN, replace(PLAIN, graph=True))
    )
    assert recorders[0].replays == 2 * 10 - cuda_graph.WARM_UP
    for mine, other in zip(plain, recorded, strict=True):
        for name, value in mine.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_trainings_together_end_where_plain_ones_do(recorders):
    protocol = Protocol(loss="l1_logits", lr=0.01, epochs=10, batch=10)
    decisions = replace(PLAIN, together=2)
    plain, recorded = (
        fit.fit_many(networks.Network("convnet2_w8", 3, 1, 8, each), [examples()] * 2, protocol, [1, 2])
        for each in (decisions, replace(decisions, graph=True))
    )
    assert recorders[0].replays == 2 * 10 - cuda_graph.WARM_UP
    for mine, other in zip(plain, recorded, strict=True):
        for name, value in mine[-1].items():
            torch.testing.assert_close(other[-1][name], value, rtol=1e-3, atol=1e-4)


def test_an_update_in_chunks_is_the_plain_one(recorders):
    """12 images one by one, and 12 in chunks of 5, which are too few to record."""
    task = task_of(chunk=1)
    images, labels = task.start("real")
    network = task.network("convnet2_w4")
    students = [(network, [network.init(seed) for seed in range(2)])]
    gradient, gap = apm.chunked(images, labels, students, 0, task)
    graphed = replace(task, decisions=replace(task.decisions, graph=True))
    found, own = apm.chunked(images, labels, students, 0, graphed)
    assert recorders[0].replays == 12 - cuda_graph.WARM_UP
    assert torch.equal(found, gradient) and torch.equal(own, gap)
