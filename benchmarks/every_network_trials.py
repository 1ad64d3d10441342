"""What a set teaches networks of every family: one variant of a recipe, its sets of several seeds scored on validation.

python benchmarks/every_network_trials.py --source CIFAR10_FOLDER --threads 1 --name views --set method.views=2 \
    --seeds 0 1 2 --archs convnet3_w32 vgg11_in_w16 --log trials.jsonl

Every set is distilled by the recipe's own method on the real source, with cached teachers, and kept in a file of OUT.
Fresh networks of every architecture learn it for some epochs, the same seeds for all sets; only validation data score
them. Every training is a line of LOG: name, overrides, seed of the set, arch, protocol, steps, seed of the network,
top1, seconds. Lines that LOG has already are not made again.
`--condense LOG... > benchmarks/results/every_network_trials.json` prints, of such files, mean and spread over sets for
every variant, architecture and protocol.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.distillation import pipeline, recipes
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training import device, fit
from ddhub.training.loop import Run

# How networks of other families than the teachers' are trained.
OTHERS: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "loss": "kl"}
KEY = ("recipe", "name", "seed", "arch", "protocol", "epochs", "training", "every")


NAMED = ("recipe", "name", "overrides", "arch", "protocol", "steps", "every")


def main() -> None:
    """Make the sets that are missing, score them, and write the lines."""
    asked = arguments()
    if asked.condense:
        rows = condensed([line for log in asked.condense for line in lines(log)])
        versions = {name: version(name) for name in ("torch", "timm", "numpy")}
        about = {"command": __doc__.split("\n\n")[1], "hardware": device.hardware("cpu"), "versions": versions}
        print(json.dumps({**about, "scored_on": "validation", "rows": rows}, indent=1))
        return
    done = {tuple(line[key] for key in KEY) for line in lines(asked.log)}
    for seed in asked.seeds:
        wanted = [cell for cell in cells(asked, seed) if tuple(cell[key] for key in KEY) not in done]
        if wanted or not kept(asked, seed).exists():
            one_set(asked, seed, wanted)


def cells(asked: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """The trainings on the set of a seed."""
    for training in range(asked.trainings):
        for arch in asked.archs:
            where = {
                "recipe": asked.recipe,
                "name": asked.name,
                "overrides": asked.overrides,
                "seed": seed,
                "arch": arch,
            }
            how = {"protocol": asked.protocol, "epochs": asked.epochs, "training": training, "every": asked.every}
            yield where | how


def one_set(asked: argparse.Namespace, seed: int, wanted: list[dict[str, Any]]) -> None:
    """Make the set of a seed, or read it, and do trainings on it."""
    how = Resources(threads=asked.threads, compile=asked.compile)
    with prepared(asked.recipe, asked.source, [*asked.overrides, f"seed={seed}"], how) as (task, folder):
        made = distilled(task, kept(asked, seed), folder, asked.name, asked.log)
        for cell in wanted:
            begun = time.monotonic()
            top1, steps = score(task, made, cell)
            row = {**cell, "steps": steps, "top1": round(top1, 4), "seconds": round(time.monotonic() - begun, 1)}
            note(asked.log, row)


@contextmanager
def prepared(recipe: str, source: str | None, overrides: Sequence[str], how: Resources) -> Iterator[tuple[Task, Path]]:
    """The task of a recipe with overrides, on a local copy of its source if there is one, and a folder for its runs."""
    where = [] if source is None else [f"source.path={source}"]
    resolved = recipes.read(recipe, [*where, *overrides])
    with tempfile.TemporaryDirectory() as folder:
        yield pipeline.prepare(resolved, Path(folder) / "set", how, 1e9)[0], Path(folder)


def kept(asked: argparse.Namespace, seed: int) -> Path:
    """The file of a set."""
    return Path(asked.out) / f"{asked.name}-{seed}.pt"


def distilled(task: Task, path: Path, folder: Path, name: str, log: Path) -> SyntheticSet:
    """The set of a task, from its file where there is one. The seconds of a new one are a line of the log."""
    if not path.exists():
        made, seconds = pipeline.carry_out(task, Run(folder, "distill", device=task.decisions.device))
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"images": made.images.clone(), "labels": made.labels}, path)
        note(log, {"name": name, "seed": task.recipe.seed, "set_seconds": round(seconds, 1)})
    read = torch.load(path)
    return SyntheticSet(read["images"], read["labels"], task.soft_labels(read["images"]))


def score(task: Task, made: SyntheticSet, cell: dict[str, Any]) -> tuple[float, int]:
    """Validation accuracy of a fresh network that learnt a set, and its steps; 0 where its training diverges."""
    arch = cell["arch"]
    changes = {} if arch.startswith("convnet") else OTHERS
    protocol = task.protocol.model_copy(update={"epochs": cell["epochs"], **changes})
    network, teach = task.network(arch), None
    if cell["protocol"] == "dynamic":
        teach = partial(task.need_teachers().label, check=False)
    examples = fit.Examples(made.images, made.labels, targets=made.soft_labels, side=task.side)
    epochs, steps = fit.plan(len(examples), protocol, fit.family_of(network, protocol))
    seed = seeds.derive(cell["training"], "every network")
    try:
        weights = fit.fit(network, examples, protocol, seed, teach=teach)[-1]
        few = replace(task, validation=task.validation[:: cell["every"]])
        return fit.accuracy(network, weights, few.validation_examples()), epochs * steps
    except UserError:
        return 0.0, epochs * steps


def note(log: Path, row: dict[str, Any]) -> None:
    """Add a line, and show it."""
    text = json.dumps(row)
    with log.open("a") as file:
        file.write(text + "\n")
    print(text, file=sys.stderr, flush=True)


def lines(log: Path) -> list[dict[str, Any]]:
    """The trainings of a file."""
    found = [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []
    return [line for line in found if "top1" in line]


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the options of a script that keeps its trainings in a log."""
    parser.add_argument("--source", help="a local copy of CIFAR-10")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--print", action="store_true", help="the log as one document")


def document(log: Path, command: str) -> str:
    """A log as a result file: its lines, with the command, the hardware and the versions."""
    versions = {name: version(name) for name in ("torch", "timm")}
    about = {"command": command, "hardware": device.hardware("cpu"), "versions": versions, "scored_on": "validation"}
    return json.dumps({**about, "rows": lines(log)}, indent=1)


def values(rows: Sequence[dict[str, Any]], name: str) -> str:
    """The values that rows have under a name, in order, as the command line takes them."""
    return " ".join(map(str, sorted({row[name] for row in rows})))


def condensed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over sets of each variant, architecture and protocol; a set counts once, by the mean of its trainings."""
    groups: dict[tuple[Any, ...], dict[int, list[float]]] = {}
    for row in rows:
        key = tuple(json.dumps(row[name]) for name in NAMED)
        groups.setdefault(key, {}).setdefault(row["seed"], []).append(row["top1"])
    found = []
    for key, sets in groups.items():
        about = dict(zip(NAMED, (json.loads(part) for part in key), strict=True))
        means = [statistics.fmean(several) for several in sets.values()]
        numbers = {"sets": len(means), "trainings": sum(map(len, sets.values())), "mean": statistics.fmean(means)}
        spread = statistics.stdev(means) if len(means) > 1 else None
        found.append({**about, **numbers, "std_over_sets": spread, "each": [round(mean, 4) for mean in means]})
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--condense", type=Path, nargs="+", metavar="LOG")
    parser.add_argument("--recipe", default="cifar10_ipc10_small")
    parser.add_argument("--source", help="a local copy of the recipe's source")
    parser.add_argument("--name", default="recipe", help="of the variant")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--archs", nargs="*", default=["convnet3_w32"])
    parser.add_argument("--trainings", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--protocol", choices=["native", "dynamic"], default="native")
    parser.add_argument("--every", type=int, default=1, help="of the validation images, every so many-th is scored")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--out", default="trials", help="folder of the sets")
    parser.add_argument("--log", type=Path, default=Path("trials.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
