"""benchmarks/gpu.py: pieces are done once, in order, within their time; what it measures is tried in small."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu

SAYS = "import json; print('{}'); print(json.dumps({{'n': {}}}, indent=1))"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "_facts", lambda asked: {"hardware": "a GPU"})
    settings = {"out": tmp_path, "minutes": 5, "stages": "ab", "tiny": True, "device": "cpu", "threads": 1}
    return argparse.Namespace(**settings, data=None)


def piece(stage, name, code, limit=60.0):
    return gpu.Piece(stage, name, limit, ("-c", code))


def stage(asked, name):
    return json.loads((asked.out / f"{name}.json").read_text())["pieces"]


def test_what_is_done_is_not_done_again(asked, monkeypatch):
    """A failed piece is told with its log, tried again by the next call, and keeps no other from its turn."""
    broken = piece("a", "second", "import sys; sys.exit('no GPU')")
    several = [piece("a", "first", SAYS.format("a", 1)), broken, piece("b", "third", SAYS.format("b", 3))]
    monkeypatch.setattr(gpu, "pieces", lambda asked: several)
    assert not gpu.run(asked)
    assert [stage(asked, "a")[name]["done"] for name in ("first", "second")] == [True, False]
    assert "no GPU" in stage(asked, "a")["second"]["log"] and stage(asked, "b")["third"]["result"] == {"n": 3}
    assert json.loads((asked.out / "a.json").read_text())["hardware"] == "a GPU"
    several[1] = piece("a", "second", SAYS.format("", 2))
    seen, usual = [], gpu.attempt
    monkeypatch.setattr(gpu, "attempt", lambda piece, *rest: seen.append(piece) or usual(piece, *rest))
    assert gpu.run(asked) and seen == [several[1]]


def test_a_piece_is_told_to_end_at_its_limit_and_goes_on(asked, monkeypatch):
    """As distilling does, which saves when it is told to; its seconds add up."""
    ready = asked.out / "ready"

    class Patient(subprocess.Popen):
        def communicate(self, *given, **named):
            while not ready.exists() and self.poll() is None:  # a start may take longer than the limit
                time.sleep(0.02)
            return super().communicate(*given, **named)

    code = f"""
import pathlib, signal, sys, time
mark = pathlib.Path({str(asked.out / "mark")!r})
if mark.exists():
    print('[1]'), sys.exit(0)
signal.signal(signal.SIGTERM, lambda *_: (mark.touch(), sys.exit(1)))
pathlib.Path({str(ready)!r}).touch()
time.sleep(600)
"""
    monkeypatch.setattr(gpu.subprocess, "Popen", Patient)
    limits = iter((0.5, 200.0))
    monkeypatch.setattr(gpu, "pieces", lambda asked: [piece("a", "long", code, limit=next(limits))])
    assert not gpu.run(asked)
    first = stage(asked, "a")["long"]
    assert first["stopped_at_its_limit"] and not first["done"]
    assert gpu.run(asked) and stage(asked, "a")["long"]["seconds_in_all"] >= first["seconds"]


def test_nothing_begins_that_the_minutes_have_no_room_for(asked, monkeypatch):
    monkeypatch.setattr(gpu, "pieces", lambda asked: [piece("a", "first", SAYS.format("", 1))])
    asked.minutes = 0.1
    assert not gpu.run(asked) and not (asked.out / "a.json").exists()


@pytest.mark.parametrize("tiny", [True, False])
def test_every_command_is_one_that_its_script_knows(asked, tiny):
    """Every stage has pieces, the set of a stage is made before it is evaluated, and scripts know their options."""
    asked.tiny, asked.data, asked.device = tiny, asked.out / "cifar", "cpu" if tiny else "cuda"
    found = gpu.pieces(asked)
    assert sorted({each.stage for each in found}) == list("abcdefgh")
    assert len({(each.stage, each.name) for each in found}) == len(found)
    made = set()
    for each in found:
        if "distill" in each.command:
            made.add(each.command[each.command.index("--out") + 1])
        if "evaluate" in each.command:
            assert each.command[each.command.index("evaluate") + 1] in made
        scripts = [word for word in each.command if word.endswith(".py")]
        for word in each.command if scripts else ():
            assert not word.startswith("--") or word in Path(scripts[0]).read_text()


@pytest.mark.slow
def test_the_first_stage_in_small(asked):
    """The pieces themselves, in this process: the CPU agrees with itself, graph or not."""
    assert gpu.graph(asked)["agree"]
    assert gpu.agree(asked)["agree"]
    assert gpu.facts(asked)["versions"]["torch"]
