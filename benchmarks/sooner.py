"""Less work for the same result: validation accuracy against seconds of distilling, variants beside a cold schedule.

python benchmarks/sooner.py --source CIFAR10_FOLDER --threads 1 --out sooner > benchmarks/results/sooner.json

Every variant is the recipe (cifar10_ipc10_small) with overrides (benchmarks/sooner.yaml, or --variant), distilled by
adversarial prediction matching on the real source with cached teachers. At given seconds its set, as it would be
shipped then, is scored on validation data alone: fresh networks trained on it for some epochs, the same seeds for all.
A variant with --plain is distilled by the plain loop of benchmarks/plain_loop.py, which has the habits of the
method's public code, from the same start images and teachers.
Seconds are those of the method's loop; scoring, loading, teachers, the choice of first images and a first cycle that
compiles are not counted. Every variant is a process of its own; within a seed all take turns from mark to mark, so that
a busy machine is equally busy for all.

The reference is the best of the variants named cold*: the best mean accuracy over seeds at any mark. Of each variant
the seconds to reach that accuracy are reported, and a little less, since the best of many marks is lucky, and the
accuracy at the reference's end. They are reported for the mean curve and for every seed, whose targets are of its own
reference. `null` is never, and counts as a ratio of 0. Finished seeds are files of OUT and are not run again.
"""

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import plain_loop
import torch
from distilling import Over, Paced, Worker, clock, command, distill, facts, waited

from ddhub.base.errors import UserError
from ddhub.base.strict_yaml import parse_yaml
from ddhub.distillation.task import SyntheticSet, Task

MARKS = (10, 20, 30, 45, 60, 90, 120, 180)
REFERENCE = "cold"
VARIANTS = Path(__file__).with_suffix(".yaml")
SCORING = 1000  # the seeds of scores begin here, apart from those that a method may use to choose
Curve = list[tuple[float, float]]  # seconds, accuracy
Point = dict[str, Any]  # seconds, updates, top1 (one of each network)


def highest(curve: Curve) -> float:
    """The best accuracy of a curve."""
    return max(top1 for _, top1 in curve)


# What is to be reached of a reference's curve. Its best accuracy is the best of many marks and so lucky.
TARGETS: dict[str, Callable[[Curve], float]] = {
    "end": lambda curve: curve[-1][1],
    "best": highest,
    "best - 0.5 points": lambda curve: highest(curve) - 0.005,
    "best - 1 points": lambda curve: highest(curve) - 0.01,
}


def serve(asked: argparse.Namespace) -> None:
    """One variant and seed in this process: every line of standard input is a number of seconds to go on to."""
    from ddhub.base.resources import Resources
    from ddhub.distillation import pipeline, recipes
    from ddhub.distillation.methods.apm import momentum

    resolved = recipes.read(asked.recipe, [*asked.overrides, f"seed={asked.seed}"])
    how = Resources(asked.device, asked.threads, asked.compile, asked.precision)
    with tempfile.TemporaryDirectory() as name:
        task, _ = pipeline.prepare(resolved, Path(name) / "set", how, 1e9)
        warm, until = 0.0 if asked.plain else warm_up(task, Path(name)), 0.0

        def shipped(state: dict, step: int) -> torch.Tensor:
            if state["best"] is not None:
                return state["best"]
            momentum.settle(state, run.store, task, step)
            return momentum.candidate(run.store, task)

        def between(step: int, state: dict) -> bool:
            nonlocal until
            over = step == task.config.iterations or bool(state.get("stop"))
            if step and not over and run.seconds < until:
                return True
            point: Point = {"seconds": round(run.seconds, 2), "updates": step, "over": over}
            if step:
                point["top1"] = accuracies(task, shipped(state, step), asked)
            else:
                point["warm_up_seconds"] = round(warm, 1)
            told = waited(point)
            until = float(told or 0)
            return told is not None

        run = Paced(Path(name), task.decisions.device, between)
        if not asked.plain:
            distill(task, run)
            return
        with contextlib.suppress(Over):  # it compiles nothing and needs no warming up
            plain_loop.distill(task, run)


def warm_up(task: Task, folder: Path) -> float:
    """Seconds of a first cycle and one more refresh, which compile what the loop runs."""
    begun = clock(task.decisions.device)
    distill(task, Paced(folder / "warm", task.decisions.device, lambda step, _: step <= task.config.refresh_every))
    return clock(task.decisions.device) - begun


def accuracies(task: Task, images: torch.Tensor, asked: argparse.Namespace) -> list[float]:
    """Validation accuracy of fresh float32 networks trained on a set; 0 where it teaches nothing but divergence."""
    made = SyntheticSet(images, task.initial_labels(), task.soft_labels(images))
    exact = replace(task, decisions=task.decisions.exact())
    try:
        return [exact.validate(made, seed=SCORING + k, epochs=asked.epochs) for k in range(asked.networks)]
    except UserError:
        return [0.0] * asked.networks


def variants(asked: argparse.Namespace) -> dict[str, list[str]]:
    """Overrides by name: those of the command line, otherwise a file's."""
    if not asked.variant:
        found = parse_yaml(asked.variants.read_text(), str(asked.variants))
        return {name: [str(text) for text in changes or []] for name, changes in found.items()}
    named = (text.partition(":") for text in asked.variant)
    # A comma parts overrides, unless it stands inside braces or brackets.
    return {name: [text for text in re.split(r",(?![^{\[]*[}\]])", rest) if text] for name, _, rest in named}


def run_seed(asked: argparse.Namespace, seed: int, chosen: dict[str, list[str]]) -> dict[str, list[Point]]:
    """All variants with one seed, in turn from mark to mark; those that OUT has already are read."""
    files = {name: asked.out / f"seed{seed}-{name}.json" for name in chosen}
    kept = {name: _kept(path, chosen[name]) for name, path in files.items()}
    curves = {name: curve or [] for name, curve in kept.items()}
    missing = [name for name, curve in kept.items() if curve is None]
    workers = {}
    for name in missing:  # one after the other: the first one trains the teachers, and none compiles beside another
        workers[name] = Worker(command_of(asked, seed, chosen[name]))
        print(f"seed {seed}, {name}: {workers[name].read()}", file=sys.stderr)
    for mark in asked.marks:
        for name in missing:
            curve = curves[name]
            if curve and (curve[-1]["over"] or curve[-1]["seconds"] >= mark):
                continue
            curve.append(workers[name].ask(str(mark)))
            print(f"seed {seed}, {name}: {curve[-1]}", file=sys.stderr)
    for name in missing:
        workers[name].end()
        files[name].write_text(json.dumps({"overrides": chosen[name], "curve": curves[name]}))
    return curves


def _kept(path: Path, changes: list[str]) -> list[Point] | None:
    """The curve of an earlier run of the same overrides."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    return list(kept["curve"]) if kept["overrides"] == changes else None


def command_of(asked: argparse.Namespace, seed: int, changes: list[str]) -> list[str]:
    """The worker of one variant and seed."""
    command = [__file__, "--worker", "--recipe", asked.recipe, "--seed", str(seed), "--threads", str(asked.threads)]
    command += ["--epochs", str(asked.epochs), "--networks", str(asked.networks), "--device", asked.device]
    command += [] if asked.compile is None else ["--compile" if asked.compile else "--no-compile"]
    source = [f"source.path={asked.source}"] if asked.source else []
    command += [text for text in changes if text.startswith("--")]  # of how it runs, as --precision=bfloat16
    sets = [*source, *asked.overrides, *(text for text in changes if not text.startswith("--"))]
    return [*command, *(word for text in sets for word in ("--set", text))]


def compared(cold: Sequence[Curve], other: Sequence[Curve], targets: Sequence[float]) -> dict[str, Any]:
    """Seconds and ratios to a target. The curve of the mean comes first, then those of the seeds.

    The reference's own seconds are those when it first reaches the target, even if that is its end.
    """
    pairs = [(reach(a, top1), reach(b, top1)) for a, b, top1 in zip(cold, other, targets, strict=True)]
    ratios = [0.0 if b is None else round((a or 0.0) / b, 2) for a, b in pairs]
    return {
        "top1": round(targets[0], 4),
        "seconds": pairs[0][1] and round(pairs[0][1], 1),
        "ratio": ratios[0] or None,
        "seconds_of_seeds": [b for _, b in pairs[1:]],
        "ratio_of_seeds": {"median": round(statistics.median(ratios[1:]), 2), "all": ratios[1:], "n": len(ratios) - 1},
    }


def reach(curve: Curve, target: float) -> float | None:
    """The first seconds at which an accuracy is reached."""
    return next((seconds for seconds, top1 in curve if top1 >= target), None)


def means(curves: list[list[Point]]) -> Curve:
    """Mean seconds and accuracy over seeds, mark by mark; a run that is over stays where it ended."""
    found = []
    for number in range(max(map(len, curves))):
        points = [curve[min(number, len(curve) - 1)] for curve in curves]
        top1 = statistics.mean(statistics.mean(point["top1"]) for point in points)
        found.append((statistics.mean(point["seconds"] for point in points), top1))
    return found


def summary(found: dict[str, list[list[Point]]]) -> dict:
    """The reference, and of every variant its mean curve and its seconds to the reference's best accuracy."""
    curves = {name: means(seeds) for name, seeds in found.items()}
    each = {name: [means([seed]) for seed in seeds] for name, seeds in found.items()}
    best = {name: highest(curve) for name, curve in curves.items()}
    reference = max((name for name in found if name.startswith(REFERENCE)), key=lambda name: best[name])
    cold = (curves[reference], *each[reference])
    result: dict[str, Any] = {"reference": reference, "reference_best_top1": round(best[reference], 4), "variants": {}}
    for name, curve in curves.items():
        reached = {
            aim: compared(cold, (curve, *each[name]), [target(own) for own in cold]) for aim, target in TARGETS.items()
        }
        shown = [[round(seconds, 1), round(top1, 4)] for seconds, top1 in curve]
        result["variants"][name] = {"best_top1": round(best[name], 4), "curve": shown, "reaches": reached}
    return result


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cifar10_ipc10_small")
    parser.add_argument("--source", type=Path, help="a local copy of the recipe's dataset")
    parser.add_argument("--variants", type=Path, default=VARIANTS, help="YAML: name, then a list of overrides")
    parser.add_argument("--variant", action="append", metavar="NAME:KEY=VALUE,...", help="in place of --variants")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="an override of all variants")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="others than those that variants were chosen by")
    parser.add_argument("--marks", type=float, nargs="+", default=list(MARKS), help="seconds of the loop")
    parser.add_argument("--epochs", type=int, default=300, help="of the networks that score")
    parser.add_argument("--networks", type=int, default=3, help="that score at a mark")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="of students")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="[default: by the work]")
    parser.add_argument("--out", type=Path, default=Path("sooner"), help="folder of finished seeds")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--plain", action="store_true", help="by the plain loop; of a variant")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run one variant, or compare all."""
    asked = options().parse_args()
    torch.set_num_threads(asked.threads)
    if asked.worker:
        serve(asked)
        return
    chosen = variants(asked)
    if not any(name.startswith(REFERENCE) for name in chosen):
        raise SystemExit(f"no variant's name begins with '{REFERENCE}': there is nothing to compare with")
    asked.out.mkdir(parents=True, exist_ok=True)
    seeds = [run_seed(asked, asked.first_seed + number, chosen) for number in range(asked.seeds)]
    found = {name: [curves[name] for curves in seeds] for name in chosen}
    result = {
        **facts(asked.device, command(), asked.note),
        "units": "seconds of the method's loop; top-1 on validation data, mean of the networks, then of the seeds",
        "seeds": asked.seeds,
        **summary(found),
        "overrides": chosen,
        "points": found,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
