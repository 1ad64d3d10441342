"""On a GPU the fastest way of training is measured once; here on the CPU, with a recorder in place of CUDA's."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from recorders import Recorder

from ddhub.base.errors import UserError, memory_errors
from ddhub.base.resources import Resources
from ddhub.data.catalog import Shape
from ddhub.distillation import recipes, speed
from ddhub.distillation.plan.work import Outline
from ddhub.training import cuda_graph, device, step_time

BASE = device.Decisions(graph=True)


def outline(*changes):
    recipe = recipes.read("digits_ipc1", ["teachers={arch: convnet2_w8, count: 1, epochs: 1, batch: 8}", *changes])
    return Outline(recipe, Shape(100, 10, 1, 8), BASE)


@pytest.fixture
def told(monkeypatch):
    """What each way takes, by its title; 10 seconds unless told otherwise."""
    seconds = {}
    monkeypatch.setattr(speed, "has_compiler", lambda: True)
    monkeypatch.setattr(speed, "_seconds", lambda outline, way: seconds.get(way.title, 10.0))
    return seconds


def test_steps_are_really_timed(monkeypatch):
    monkeypatch.setattr(cuda_graph, "Recorder", Recorder)
    monkeypatch.setattr(step_time, "STEPS", cuda_graph.WORTH)
    seconds = {way: speed._seconds(outline(), way) for way in (BASE, replace(BASE, together=2))}
    assert (
        all(value > 0 for value in seconds.values())
        and Recorder.made[-1].replays == cuda_graph.WORTH - cuda_graph.WARM_UP
    )


def test_the_usual_way_stays_unless_another_wins_clearly(told):
    assert speed.chosen(outline(), Resources(), 0) == BASE
    told["float32"] = 9.5
    assert speed.chosen(outline(), Resources(), 0) == BASE
    told["float32"] = 5.0
    assert speed.chosen(outline(), Resources(), 0) == replace(BASE, graph=False)
    told["float32, graph, contiguous"] = 4.0
    assert speed.chosen(outline(), Resources(), 0) == replace(BASE, channels_last=False)


def test_a_way_that_this_machine_cannot_go_is_left_out(monkeypatch):
    """A compiler that fails ends no run, and neither does a GPU that is full."""

    def seconds(outline, way):
        if way.compile or not way.channels_last:
            raise RuntimeError("no triton")
        return 1.0

    monkeypatch.setattr(speed, "_seconds", seconds)
    assert speed.chosen(outline(), Resources(), 1e18) == BASE
    monkeypatch.setattr(speed, "_seconds", lambda outline, way: seconds(outline, replace(way, compile=True)))
    assert speed.chosen(outline(), Resources(), 1e18) == BASE


def test_compiling_needs_work_ahead_and_students_together_several(told):
    told["float32, graph, compiled"] = 1.0
    assert not speed.chosen(outline(), Resources(), 1e9).compile
    assert not speed.chosen(outline(), Resources(compile=False), 1e18).compile
    assert speed.chosen(outline(), Resources(), 1e18).compile
    several = outline("method.students=3")
    assert speed.chosen(several, Resources(), 0).together == 1
    told["float32, graph, 3 at once"] = 1.0
    assert speed.chosen(several, Resources(), 0).together == 3


def test_out_of_memory_ends_in_the_next_smaller_budget():
    with (
        pytest.raises(UserError, match=r"set: out of memory\n  next: --memory 3.00GB, and another --out"),
        memory_errors("set", partial(device.smaller, 4e9)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
