"""What images of the whole, half and a quarter of the side teach each network: validation accuracy.

python benchmarks/half_size.py --source CIFAR10_FOLDER --log half_size.jsonl
python benchmarks/half_size.py --source CIFAR10_FOLDER --log half_size.jsonl --name lr10 --set method.lr_images=10.0
python benchmarks/half_size.py --log half_size.jsonl --print > benchmarks/results/half_size.json

Without --name, real images are trained on: random ones, and the easiest of several times as many by the teachers'
errors. Their number times their pixels is the same everywhere. With --name, a set of `cifar10_ipc40_half_small` with
overrides is distilled, and it and its start images are trained on. It goes the whole way (`method.blend=1`) unless they
say otherwise. All have the labels of the same three teachers. Every network trains once, in its own way of the protocol
`native`. Only validation data score it. Every training is a line of LOG. Lines that LOG has already are not made again.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from every_network_trials import add_log, document, lines, note, prepared
from torch import Tensor

from ddhub.base import seeds
from ddhub.base.resources import Resources
from ddhub.data import enlarge, held_out
from ddhub.distillation import pipeline
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training import fit, optimisation
from ddhub.training.loop import Run

RECIPE = "cifar10_ipc40_half_small"


@dataclass(frozen=True)
class Way:
    """How a network is trained."""

    steps: int
    batch: int


WAYS = {
    "convnet3_w32": Way(2000, 50),
    "vgg11_in_w16": Way(1000, 25),
    "alexnet_in_w32": Way(1000, 25),
    "resnet18_w16": Way(1000, 25),
    "resnet18_in_w16": Way(1000, 25),
    "vit_tiny_w64": Way(1000, 25),
}


@dataclass(frozen=True)
class Real:
    """Real images of each class, stored at 1/factor of the side; the easiest of `pool` times as many."""

    ipc: int
    factor: int
    pool: int


REAL = {
    "random10": Real(10, 1, 1),
    "easy10": Real(10, 1, 10),
    "random40half": Real(40, 2, 1),
    "easy40half": Real(40, 2, 10),
    "easy40half_of_4": Real(40, 2, 4),
    "easy160quarter": Real(160, 4, 5),
}


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        print(document(asked.log, "python benchmarks/half_size.py --source FOLDER --log LOG"))
        return
    overrides = ["method.blend=1", *asked.overrides]
    with prepared(RECIPE, asked.source, overrides, Resources(threads=1)) as (task, folder):
        done = {(row["what"], row["arch"]) for row in lines(asked.log)}
        for what, images, labels in distilled(task, asked, folder) if asked.name else real(task):
            for arch in asked.archs:
                if (what, arch) not in done:
                    note(asked.log, {"what": what, "overrides": asked.overrides, **score(task, images, labels, arch)})


def real(task: Task) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, network inputs and labels of each kind of real images."""
    labels, classes = task.source.labels[task.training], task.source.classes
    for name, kind in REAL.items():
        counts = [kind.pool * kind.ipc] * len(classes)
        drawn = task.training[held_out.stratified(labels, classes, counts, 0, "sketch")].split(counts[0])
        chosen = [easiest(task, rows, label, kind) for label, rows in enumerate(drawn)]
        yield name, torch.cat(chosen), torch.arange(len(classes)).repeat_interleave(kind.ipc)


def easiest(task: Task, rows: Tensor, label: int, kind: Real) -> Tensor:
    """The network inputs of those images of a class on which the teachers err least; with a pool of one, all."""
    stored = task.preprocess.inputs(enlarge.reduced(task.source.images[rows], kind.factor))
    inputs = enlarge.enlarged(stored, task.side)
    if kind.pool == 1:
        return inputs
    return inputs[task.need_teachers().el2n_scores(inputs, label).argsort(stable=True)[: kind.ipc]]


def distilled(task: Task, asked: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """A distilled set and the images that it started as."""
    made: SyntheticSet = pipeline.carry_out(task, Run(folder, "distill", device="cpu"))[0]
    start = task.initial_images(torch.arange(len(made.labels)), task.config.init)
    yield asked.name, enlarge.enlarged(made.images, task.side), made.labels
    yield f"{asked.name}-start", enlarge.enlarged(start, task.side), made.labels


def score(
    task: Task,
    images: Tensor,
    labels: Tensor,
    arch: str,
    soft_labels: Tensor | None = None,
    teach: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Any]:
    """Validation accuracy of a network of one architecture, and its steps.

    Args:
        soft_labels: the targets of the images; None takes the teachers' labels of them.
        teach: labels every view in place of stored targets.
    """
    way, network = WAYS[arch], task.network(arch)
    epochs = max(1, way.steps * way.batch // len(images))
    changes: dict[str, Any] = {"batch": way.batch, "min_steps": way.steps, "epochs": epochs}
    protocol = task.protocol.model_copy(update=changes)
    if not arch.startswith("convnet"):
        protocol = optimisation.for_other_family(protocol, network.skeleton, set(changes))
    examples = fit.Examples(images, labels, targets=task.soft_labels(images) if soft_labels is None else soft_labels)
    epochs, steps = fit.plan(len(examples), protocol, fit.family_of(network, protocol))
    weights = fit.fit(network, examples, protocol, seeds.derive(0, "sketch"), teach=teach)[-1]
    top1 = fit.accuracy(network, weights, task.validation_examples())
    return {"arch": arch, "top1": round(top1, 4), "steps": epochs * steps}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_log(parser)
    parser.add_argument("--name", help="of a set to distill; without it, real images are trained on")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--archs", nargs="+", choices=WAYS, default=["convnet3_w32", "vgg11_in_w16", "alexnet_in_w32"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
