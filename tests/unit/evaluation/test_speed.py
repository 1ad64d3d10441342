"""How rows are trained is measured once, frozen beside them and replayed; rows repeat to the bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ddhub.artifact import folder as folders
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.evaluation import grid, speed
from ddhub.evaluation.request import EvaluationRequest, Grid
from ddhub.evaluation.rows import Row
from ddhub.evaluation.workbench import network as bench_network
from ddhub.training import batches, step_time
from ddhub.training import device as devices
from ddhub.training import network as networks

pytestmark = pytest.mark.slow

ARCH = "convnet2_w8"


def request(folder, **asked) -> EvaluationRequest:
    return EvaluationRequest(str(folder), Path, "set", resources=Resources(**{"threads": 1, **asked}))


def rows(folder, seeds: int, **asked) -> list[Row]:
    wanted = Grid([ARCH], seeds=seeds)
    done = grid.evaluate(folders.read(folder), folder / "evaluation", wanted, request(folder, **asked))
    return sorted(done, key=lambda row: (row.data, row.seed))


def tops(found: list[Row]) -> list[float]:
    return [row.top1 for row in found]


def told(seconds: dict[str, float]):
    """A clock: what each way takes, by its title."""
    return lambda bench, arch, way: seconds[way.title]


@pytest.fixture
def measured(monkeypatch):
    """Every grid is worth measuring, and three at once are fastest."""
    monkeypatch.setattr(speed, "FROM_STEPS", 1)
    monkeypatch.setattr(speed, "_seconds", told({"float32": 1.0, "float32, 3 at once": 0.5}))


def test_what_is_measured_is_frozen_and_replayed(folder, measured, monkeypatch):
    """A resumed grid, also a larger one, measures nothing, and a row that is trained again has the same number."""
    first = rows(folder, 3)
    assert len(first) == 6
    assert {row.decisions["together"] for row in first} == {3}
    (frozen,) = (folder / "evaluation" / "decisions").glob("*.json")
    assert json.loads(frozen.read_text())["decisions"] == {"compile": False, "precision": "float32", "together": 3}
    monkeypatch.setattr(speed, "_seconds", None)
    kept = (folder / "evaluation").glob("*-s2-*.json")
    times = {path: path.stat().st_mtime_ns for path in kept}
    next((folder / "evaluation").glob("*-distilled-s1-*.json")).unlink()
    more = rows(folder, 4)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {row.decisions["together"] for row in more} == {3}
    assert tops([row for row in more if row.seed < 3]) == tops(first)


def test_one_program_and_one_by_one_agree(folder, measured):
    """The evaluator's numbers do not hang on the way beyond a few test images."""
    together = rows(folder, 3)
    for path in (folder / "evaluation").glob("*.json"):
        path.unlink()
    alone = rows(folder, 3, together=1)
    assert {row.decisions["together"] for row in alone} == {1}  # what is asked for wins
    assert tops(alone) == pytest.approx(tops(together), abs=3 / 359)


def test_rows_from_before_are_not_mixed_with_another_way(folder, measured):
    """Where no file of decisions lies, the rows that are there say how the others are trained."""
    rows(folder, 1, together=1)
    for path in (folder / "evaluation" / "decisions").iterdir():
        path.unlink()
    for path in (folder / "evaluation").glob("*.json"):
        row = json.loads(path.read_text())
        old = {key: row["decisions"][key] for key in ("device", "threads", "compile")}
        path.write_text(json.dumps({**row, "decisions": old}))
    assert [row.decisions.get("together", 1) for row in rows(folder, 3)] == [1] * 6


def test_small_grids_are_not_measured(folder, monkeypatch):
    """It would take longer than they do."""
    monkeypatch.setattr(speed, "_seconds", None)
    assert {row.decisions["together"] for row in rows(folder, 2)} == {1}
    assert not list((folder / "evaluation" / "decisions").glob("*.json"))


def test_steps_are_really_timed(folder, monkeypatch):
    """Each way runs, and takes some time."""
    monkeypatch.setattr(speed, "FROM_STEPS", 1)
    assert len(rows(folder, 2, precision="auto")) == 4
    (frozen,) = (folder / "evaluation" / "decisions").glob("*.json")
    times = json.loads(frozen.read_text())["milliseconds_per_step"]
    assert set(times) == {"float32", "bfloat16", "float32, 2 at once", "bfloat16, 2 at once"}
    assert all(time > 0 for time in times.values())


@pytest.mark.parametrize(("arch", "tried"), [("convnet2_w8", True), ("resnet18_w8", False)])
def test_long_grids_of_convnets_try_bfloat16_unasked(folder, monkeypatch, arch, tried):
    """What was measured for ConvNets says nothing about other networks."""
    monkeypatch.setattr(speed, "FROM_STEPS", 1)
    monkeypatch.setattr(speed, "BFLOAT16_FROM", 1)
    usual = speed.candidates

    def only_candidates(bench, arch) -> None:
        raise UserError(" or ".join(way.precision for way in usual(bench, arch)))

    monkeypatch.setattr(speed, "candidates", only_candidates)
    with pytest.raises(UserError, match="float32") as told:
        grid.evaluate(folders.read(folder), folder / "evaluation", Grid([arch], seeds=2), request(folder))
    assert ("bfloat16" in str(told.value)) == tried


def test_another_way_must_win_clearly():
    """By a tenth: measured times are noisy."""
    first, other = devices.Decisions(), devices.Decisions(together=5)
    assert step_time.fastest({first: 1.0, other: 0.95}) == first
    assert step_time.fastest({first: 1.0, other: 0.85}) == other


@pytest.mark.parametrize("shared", [True, False])
def test_shards_on_unlike_machines_do_every_row(folder, measured, monkeypatch, shared):
    """The second has other hardware, on which one at a time is fastest: it does as the first, or rows would be left."""
    if shared:
        rows(folder, 3, shard="0/2")
    monkeypatch.setattr(devices, "hardware", lambda device: "another machine")
    monkeypatch.setattr(speed, "_seconds", told({"float32": 1.0, "float32, 3 at once": 2.0}))
    done = rows(folder, 3, shard="1/2")
    assert {row.decisions["together"] for row in done} == {3 if shared else 1}
    assert len(done) == (6 if shared else 3)


def test_a_way_that_the_network_cannot_be_trained_in_is_left_out(folder, measured, monkeypatch):
    """Some networks' operations have no rule in vmap; asked for by name, that is said before any work."""

    def refuse(network: networks.Network) -> None:
        raise UserError("--together: no")

    monkeypatch.setattr(networks.Network, "_try_together", refuse)
    networks.network.cache_clear()
    monkeypatch.setattr(speed, "_seconds", lambda bench, arch, way: len(bench_network(bench.set, arch, way).trainable))
    assert {row.decisions["together"] for row in rows(folder, 3)} == {1}
    with pytest.raises(UserError, match="--together: no"):
        rows(folder, 3, together=3)


@pytest.mark.parametrize("together", [1, 2])
def test_a_training_that_ends_early_goes_on_in_the_middle(folder, monkeypatch, together):
    """A row in progress was lost. The one that goes on has the same accuracy, and no checkpoint stays."""
    found, place, begun, epoch = folders.read(folder), folder / "evaluation", [], batches.epoch
    wanted = Grid([ARCH], ["hard"], baselines=[], seeds=2)
    asked = replace(request(folder, together=together), overrides=("epochs=40", "lr=0.1"))

    def evaluated() -> list[float]:
        return tops(grid.evaluate(found, place, wanted, asked))

    def ended(*given):
        begun.append(given[4])
        if given[4] == 30:
            raise KeyboardInterrupt
        return epoch(*given)

    monkeypatch.setattr(grid, "CHECKPOINT", 0.0)
    first = evaluated()
    for path in place.glob("*-s1-*.json"):
        path.unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batches, "epoch", ended)
        evaluated()
    assert len(list((place / ".ddhub").iterdir())) == 1
    begun.clear()
    monkeypatch.setattr(batches, "epoch", lambda *given: begun.append(given[4]) or epoch(*given))
    assert evaluated() == first and min(first) > 0.2
    assert begun[0] == 30 and not (place / ".ddhub").exists()


def test_no_checkpoint_of_another_way_of_training_stays(folder, monkeypatch):
    """A row was begun with two threads and is finished with one."""
    monkeypatch.setattr(grid, "CHECKPOINT", 0.0)
    found, place, epoch = folders.read(folder), folder / "evaluation", batches.epoch
    wanted = Grid([ARCH], ["hard"], baselines=[], seeds=1)

    def ended(*given):
        if given[4] == 3:
            raise KeyboardInterrupt
        return epoch(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batches, "epoch", ended)
        grid.evaluate(found, place, wanted, replace(request(folder, threads=2), overrides=("epochs=9",)))
    assert len(list((place / ".ddhub").iterdir())) == 1
    grid.evaluate(found, place, wanted, replace(request(folder), overrides=("epochs=9",)))
    assert not (place / ".ddhub").exists()
