"""Memory as a setting: as many images at once as a budget allows, and an honest refusal."""

import json
from functools import partial

import pytest
import torch

from ddhub import api
from ddhub.base import units
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.data.catalog import Shape
from ddhub.distillation import recipes
from ddhub.distillation.plan import budget
from ddhub.distillation.plan.work import Outline
from ddhub.training import architectures, memory
from ddhub.training import device as devices

pytestmark = pytest.mark.slow


def test_amounts_are_read_as_people_write_them():
    """Powers of ten and of two; anything else is refused where the recipe is read."""
    assert units.memory_bytes("6.5GB") == 6_500_000_000 and units.memory_bytes("500 mb") == 500_000_000
    assert units.memory_bytes("2GiB") == 2 << 30
    for wrong in ("lots", "0GB", "4", "-1GB", "1e3GB"):
        with pytest.raises(UserError, match=r"memory: .*write it as 4GB or 500MB"):
            recipes.read("digits_ipc1", [f"memory={wrong!r}"])


@pytest.fixture
def held(monkeypatch):
    """A machine whose memory is a number: works write it, `Peak` reads it."""
    now = {"bytes": 0, "tried": []}

    class Peak:
        def __init__(self, device):
            self.bytes = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.bytes = now["bytes"]

    monkeypatch.setattr(memory, "Peak", Peak)

    def work(images, each=10, fixed=100):
        now["tried"].append(images)
        now["bytes"] = fixed + each * images

    return work, now


@pytest.mark.parametrize(("budget", "expected"), [(10**6, 400), (2100, 150), (500, 25), (130, 1)])
def test_the_largest_size_within_the_budget_is_chosen_and_none_beyond_it_tried(held, budget, expected):
    """What is tried takes 100 bytes and 10 an image, of nine tenths of the budget."""
    work, now = held
    assert memory.fitted(budget, "cpu", {"chunk": work}, {"chunk": 400}) == {"chunk": expected}
    assert all(100 + 10 * size <= 0.9 * budget for size in now["tried"][2:])  # two are needed to foretell


def test_a_budget_too_small_for_one_image_says_what_is_needed(held):
    """The number in the advice is one that works."""
    with pytest.raises(UserError, match="more than the budget") as fault:
        memory.fitted(10**8, "cpu", {"chunk": lambda n: held[0](n, fixed=10**9)}, {"chunk": 5})
    needed = units.memory_bytes(fault.value.next.removeprefix("--memory "))
    assert memory.fitted(needed, "cpu", {"chunk": lambda n: held[0](n, fixed=10**9)}, {"chunk": 5})


def test_peaks_are_what_was_held_and_not_what_was_held_before():
    """A 200 MB tensor shows, also after a larger one has gone."""
    devices.keep_freed_memory()
    torch.ones(100 << 20)
    with memory.Peak("cpu") as idle:
        pass
    with memory.Peak("cpu") as busy:
        torch.ones(50 << 20)
    assert 190e6 < busy.bytes - idle.bytes < 260e6


def test_a_budget_is_measured_once_and_frozen(tmp_path, monkeypatch, capfd):
    """A distillation writes what its budget came to into run.json and the manifest; a resume does not measure again."""
    from ddhub import api

    small = ["method.iterations=1", "teachers.epochs=1", "method.student.epochs=1", "evaluate.epochs=1"]
    made = api.distill("digits_ipc1", out=tmp_path / "set", overrides=[*small, "memory=2GB"]).to_dict()
    decisions = made["manifest"]["made"]["decisions"]
    assert 0 < decisions["chunk"] <= 10 and 0 < decisions["micro_batch"] <= 256
    assert json.loads((tmp_path / "set" / ".ddhub" / "run.json").read_text())["decisions"] == decisions
    assert "memory: chunk" in capfd.readouterr().err
    with pytest.raises(UserError, match="more than the budget"):
        api.distill("digits_ipc1", out=tmp_path / "other", overrides=[*small, "memory=1MB"])


@pytest.mark.parametrize(
    "method",
    [
        "method={name: apm, views: 2, student: {arch: [convnet2_w8, convnet2_w4], epochs: 2}}",
        "method={name: dm, arch: convnet2_w8, real: 16}",
        "method={name: random}",
    ],
)
def test_every_method_keeps_to_a_budget(held, method):
    """What it has to try, it can; without chunks of its own, a method has those of the scores of real images."""
    chosen = recipes.read("digits_ipc1", [method, "memory=2GB", "teachers={arch: convnet2_w8, batch: 16}"])
    decisions = budget.measured(Outline(chosen, Shape(1438, 10, 1, 8), devices.Decisions()))
    assert decisions.micro_batch > 0 and decisions.chunk > 0


def test_a_device_that_is_smaller_than_the_budget_ends_the_search():
    """The largest size that there was memory for; where there is none for one image, a sentence."""
    tried = []

    def work(images, most):
        tried.append(images)
        if images > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    found = memory.fitted(10**12, "cpu", {"chunk": partial(work, most=5)}, {"chunk": 100})
    assert found == {"chunk": 5} and tried == [1, 2, 5, 10]
    for search in (
        lambda: memory.fitted(10**12, "cpu", {"chunk": partial(work, most=0)}, {"chunk": 100}),
        lambda: memory.check(10**12, "cpu", "scores", lambda: work(1, 0)),
    ):
        with pytest.raises(UserError, match=r"more than cpu .* has free\n  next: a smaller network"):
            search()


def test_an_evaluation_keeps_to_a_budget_by_what_layers_put_out():
    """Scores are cut for every network; steps where that changes nothing but rounding, or where it is asked for."""
    usual = devices.Decisions("cpu", 1)
    small = memory.fit_to_budget(usual, "convnet3", 3, 32, batch=256, budget=None)
    assert small == usual  # nothing of the field's usual sizes is cut
    large = memory.fit_to_budget(usual, "convnet6", 3, 224, batch=50, budget=None)
    assert 1 <= large.chunk < 20 and 1 <= large.micro_batch < 20
    normed = memory.fit_to_budget(usual, "resnet18", 3, 224, batch=256, budget=None)
    assert normed.chunk and not normed.micro_batch  # batch norms see the whole batch, unless somebody asks
    assert memory.fit_to_budget(usual, "resnet18", 3, 224, batch=256, budget=10**9).micro_batch
    assert memory.fit_to_budget(devices.Decisions("cuda", 1), "convnet6", 3, 224, batch=50, budget=None).chunk == 0
    with pytest.raises(UserError, match="more than the budget") as caught:
        memory.fit_to_budget(usual, "convnet6", 3, 224, batch=50, budget=10**8)
    assert "--memory 0." in str(caught.value)
    with pytest.raises(UserError, match="--memory lots"):
        Resources(memory="lots")


def test_rows_within_a_budget_are_those_without(folder, tmp_path):
    """The same accuracy from batches that are cut; the row says how."""
    how = {"archs": ["convnet2_w8"], "baselines": [], "seeds": 1, "threads": 1, "probe": False, "compile": False}
    put_out = architectures.activation_bytes("convnet2_w8", 1, 8)
    budget = f"{max(2 * put_out.every, 3 * put_out.largest) * 3 / 1000:.0f}KB"
    (cut,) = api.evaluate(str(folder), out=tmp_path / "cut", memory=budget, **how).rows
    (whole,) = api.evaluate(str(folder), out=tmp_path / "whole", **how).rows
    assert 0 < cut.decisions["micro_batch"] < 10 and 0 < cut.decisions["chunk"] < 10
    assert (whole.decisions["micro_batch"], whole.decisions["chunk"]) == (0, 0)
    assert cut.top1 == pytest.approx(whole.top1, abs=0.02)
