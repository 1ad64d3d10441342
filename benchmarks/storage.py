"""What each way to store a set costs in bytes, and what it is worth in validation accuracy.

    ddhub distill cifar10_ipc40_half_small --set method.blend=1
    python benchmarks/storage.py distilled/cifar10_ipc40_half_small > benchmarks/results/storage.json

The folder must be the one that the set was distilled in: the images before packaging come from its last checkpoint.
Every choice is written to disk and read back before it is trained on; the same seeds train every choice.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

from ddhub.artifact import folder as folders
from ddhub.artifact import parquet, recipe
from ddhub.artifact.parquet import Rows
from ddhub.artifact.run_state import STATE
from ddhub.base import files, seeds
from ddhub.base.resources import Resources
from ddhub.distillation import pipeline
from ddhub.distillation.recipes import method_of
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training import device, fit
from ddhub.training.loop import Run
from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class Choice:
    """One way to store the same images."""

    images: str  # png, float16 or float32 (beside the PNG)
    labels: str  # float16, float32, hard, topN, one (teacher, float16), dynamic (no labels: teachers are shipped)


CHOICES = [
    Choice("png", "float16"),
    Choice("png", "float32"),
    Choice("float16", "float16"),
    Choice("float32", "float32"),
    Choice("png", "top5"),
    Choice("png", "top3"),
    Choice("png", "top1"),
    Choice("png", "one"),
    Choice("png", "hard"),
    Choice("png", "dynamic"),
]


def rows_of(choice: Choice, synthetic: SyntheticSet, task: Task) -> tuple[Rows, float | None]:
    """The rows to write, and what classes without a label count as."""
    shown, _ = task.preprocess.pixels(synthetic.images)
    exact = None if choice.images == "png" else synthetic.images.to(getattr(torch, choice.images))
    if choice.labels in ("hard", "dynamic"):
        return Rows(shown, synthetic.labels, pixels=exact), None
    inputs = task.preprocess.inputs(shown) if exact is None else exact.float()
    soft = task.need_teachers().label(inputs, 0 if choice.labels == "one" else None)
    if choice.labels.startswith("top"):
        values, index, rest = folders.keep_top(soft, int(choice.labels.removeprefix("top")))
        return Rows(shown, synthetic.labels, values.half(), index, exact), rest
    kind = torch.float32 if choice.labels == "float32" else torch.float16
    return Rows(shown, synthetic.labels, soft.to(kind), None, exact), None


def measure(choice: Choice, synthetic: SyntheticSet, task: Task, networks: int) -> dict:
    """Bytes by purpose, and validation accuracy of networks trained on what was read back."""
    rows, rest = rows_of(choice, synthetic, task)
    channels, side, _ = task.image_shape
    with tempfile.TemporaryDirectory() as folder:
        parquet.write(Path(folder), rows, task.source.classes)
        data = sum(path.stat().st_size for path in parquet.shards(Path(folder)))
        found = folders.read_data(Path(folder), (channels, side, side), len(task.source.classes), rest)
    inputs = task.preprocess.inputs(found.images) if found.pixels is None else found.pixels
    protocol, teach = task.protocol, None
    if choice.labels == "hard":
        protocol = protocol.model_copy(update={"loss": "ce"})
    if choice.labels == "dynamic":
        teach = task.need_teachers().label
    examples = fit.Examples(inputs, found.labels, targets=found.soft, side=task.side)
    network = task.network(task.home_arch)
    scores = []
    for number in range(networks):
        seed = seeds.derive(task.recipe.seed, "storage", number)
        weights = fit.fit(network, examples, protocol, seed, teach=teach)[-1]
        scores.append(fit.accuracy(network, weights, task.validation_examples()))
    labels = sum(column.nbytes for column in (rows.soft, rows.index) if column is not None)
    teachers = sum(path.stat().st_size for path in task.need_teachers().files) if teach else 0
    return {
        "images": choice.images,
        "labels": choice.labels,
        "bytes": {"data_files": data, "of_which_labels": labels, "teachers": teachers},
        "validation_top1": {"mean": statistics.mean(scores), "std": statistics.stdev(scores), "all": scores},
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--networks", default=3, show_default=True, type=click.IntRange(2))
@click.option("--epochs", type=click.IntRange(1), help="[default: the recipe's]")
def main(folder: Path, networks: int, epochs: int | None) -> None:
    """Measure every choice on one distilled set."""
    begun = json.loads((folder / STATE / "run.json").read_text())
    original = recipe.Recipe.model_validate(begun["recipe"])
    source = original.source.model_copy(update={"path": begun["source_path"]})
    task, _ = pipeline.prepare(original.model_copy(update={"source": source}), folder, Resources(), 120)
    synthetic = method_of(original).distill(task, Run(folder / STATE, "distill"))
    if epochs:
        shorter: Protocol = task.protocol.model_copy(update={"epochs": epochs})
        task = replace(task, protocol=shorter)
    side, channels = task.source.images.shape[-1], task.source.images.shape[1]
    zca = 4 * (channels * side**2) ** 2
    choices: list[dict[str, Any]] = []
    result = {
        "command": f"python benchmarks/storage.py FOLDER --networks {networks}"
        + (f" --epochs {epochs}" if epochs else ""),
        "set": f"{original.name}, recipe {original.hash[:12]}, {len(synthetic.labels)} images",
        "hardware": device.hardware(task.decisions.device),
        "versions": {"torch": version("torch"), "datasets": version("datasets")},
        "epochs": task.protocol.epochs,
        "n": networks,
        "validation_images": len(task.validation),
        "zca_matrix_bytes": zca,
        "choices": choices,
    }
    for choice in CHOICES:
        choices.append(measure(choice, synthetic, task, networks))
        print(json.dumps(choices[-1]), file=sys.stderr)
    sys.stdout.buffer.write(files.json_bytes(result))


if __name__ == "__main__":
    main()
