"""Benchmark scripts name what is there: a move that breaks one is seen at once. Results say how they were made."""

import ast
import contextlib
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import apm_tasks
import bfloat16
import distilling
import plain_loop
import pytest
import sooner
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))


def missing(tree: ast.Module) -> list[str]:
    """The names of ddhub that a script uses and that are not there."""
    modules: dict[str, ModuleType] = {}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "ddhub":
            continue
        for alias in node.names:
            value = _part(node.module or "", alias.name)
            if value is None:
                found.append(f"{node.module}.{alias.name}")
            elif isinstance(value, ModuleType):
                modules[alias.asname or alias.name] = value
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            found += [] if hasattr(module, node.attr) else [f"{module.__name__}.{node.attr}"]
    return found


def _part(module: str, name: str) -> object:
    """A module of a package, or what a module defines; None where there is neither."""
    whole = importlib.import_module(module)
    if not hasattr(whole, name):
        try:
            return importlib.import_module(f"{module}.{name}")
        except ModuleNotFoundError:
            return None
    return getattr(whole, name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_names_what_is_there(path):
    assert missing(ast.parse(path.read_text())) == []


def test_every_result_says_how_it_was_made():
    """The command, the hardware and the versions; README.md names those that lack one."""
    kept = {path.name: path.read_text() for path in sorted((BENCHMARKS / "results").glob("*.json"))}
    facts = ("command", "hardware", "versions")
    lacking = {(name, fact) for name, text in kept.items() for fact in facts if f'"{fact}' not in text}
    assert lacking == {("demo_trials.json", "command"), ("foreign_trials.json", "command")}


def test_a_comparison_of_variants_says_all_that_it_was_asked(tmp_path, monkeypatch, capsys):
    """Marks and the file of variants too, and no folder of this machine."""
    asked = ["--variants", str(sooner.VARIANTS), "--marks", "4", "8", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr(sys, "argv", ["benchmarks/sooner.py", *asked, "--out", str(tmp_path / "done")])
    point = {"seconds": 1.0, "updates": 1, "top1": [0.5]}
    monkeypatch.setattr(sooner, "run_seed", lambda asked, seed, chosen: {name: [point] for name in chosen})
    sooner.main()
    said = json.loads(capsys.readouterr().out)["command"]
    wanted = f"--variants sooner.yaml --marks 4 8 --threads {torch.get_num_threads()} --out done"
    assert said == f"python benchmarks/sooner.py {wanted}"


def test_bfloat16_beside_float32_says_the_hardware(tmp_path, capsys):
    """It is that of the trainings."""
    about = {"data": "cifar10", "arch": "convnet3_w32", "epochs": 1, "hardware": "a machine"}
    rows = [
        {**about, "seed": seed, "precision": precision, "top1": 0.1 * seed}
        for seed in range(2)
        for precision in ("float32", "bfloat16")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bfloat16.summarise(str(tmp_path / "rows.jsonl"))
    assert json.loads(capsys.readouterr().out)["hardware"] == ["a machine"]


def test_seconds_to_what_a_reference_reaches():
    """The mean curve, then those of seeds. A target that is never reached counts as a ratio of 0."""
    cold = [[(10.0, 0.3), (20.0, 0.5), (40.0, 0.4)], [(10.0, 0.3), (40.0, 0.6)]]
    other = [[(2.0, 0.2), (4.0, 0.45)], [(2.0, 0.2), (4.0, 0.45)]]
    end, best = sooner.TARGETS["end"], sooner.TARGETS["best"]
    found = sooner.compared(cold, other, [end(curve) for curve in cold])
    assert (found["top1"], found["seconds"], found["ratio"]) == (0.4, 4.0, 5.0)
    assert found["seconds_of_seeds"] == [None]
    assert found["ratio_of_seeds"] == {"median": 0.0, "all": [0.0], "n": 1}
    assert sooner.compared(cold, other, [best(curve) for curve in cold])["seconds"] is None


def test_the_plain_loop_has_a_tasks_teachers_and_start(tmp_path):
    """Its teachers give the task's labels, its images start as the task's and move, and the same seed does it again."""
    task = apm_tasks.task_of(iterations=2, refresh_every=1, average=0.5, init="real")
    teachers, (images, _) = task.need_teachers(), task.start("real")
    net = plain_loop.PlainLoop(apm_tasks.ARCH, apm_tasks.CLASSES, images, images, 1, teachers=teachers.weights).teachers
    assert torch.allclose(net[-1](images), teachers.logits(images, len(teachers) - 1), atol=1e-5)
    curves = [shipped(task, tmp_path / name) for name in ("once", "again")]
    assert torch.equal(curves[0][0], images) and not torch.equal(curves[0][-1], images)
    assert torch.equal(curves[0][-1], curves[1][-1])


def shipped(task, folder):
    """What the plain loop would ship before each update and after the last."""
    seen = []
    run = distilling.Paced(folder, "cpu", lambda step, state: seen.append(state["best"].clone()) or True)
    with contextlib.suppress(distilling.Over):
        plain_loop.distill(task, run)
    return seen
