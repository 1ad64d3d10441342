"""Other ways to move images: validation accuracy of sets whose updates are changed in one place.

python benchmarks/other_moves.py --source CIFAR10_FOLDER --log other_moves.jsonl --ways plain blended agreeing
python benchmarks/other_moves.py --log other_moves.jsonl --print > benchmarks/results/other_moves.json
python benchmarks/other_moves.py --source CIFAR10_FOLDER --log featured.jsonl --ways featured --blends 0 0.25 1

Every set is made by `cifar10_ipc40_half_small` with one change of adversarial prediction matching:

- plain: none.
- blended: an update uses points on the way from a student's initial to its last weights in place of snapshots, as NCFM
  does (arXiv:2502.20653, section 4.2.3).
- agreeing: each refresh trains a student of each family, and an update keeps the elements of the gradient that have the
  same sign in both (arXiv:2009.00329).
- featured: a second gradient, as large as the first, moves the mean features of each class in the teacher to those of
  real training images, as distribution matching does with random networks (arXiv:2110.04181).

Every network trains once, as in half_size.py, on points of the way as in blend.py: 0 is the start, 1 the moved images.
The teachers label each point. Only validation data score it. Lines that LOG has already are not made again.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from blend import add_points
from every_network_trials import add_log, distilled, document, lines, note, prepared, values
from half_size import RECIPE, score
from torch import Tensor

from ddhub.base.resources import Resources
from ddhub.data import enlarge
from ddhub.distillation.methods.apm import loop
from ddhub.distillation.task import Task
from ddhub.training import fit
from ddhub.training.network import Network, Weights

chunked, taught = loop.chunked, loop.taught
Gradient = tuple[Tensor, Tensor]


def blended(task: Task, arch: str, examples: fit.Examples, several: list[int], step: int) -> list[Weights]:
    """In place of snapshots: points on the way from the initial to the last weights of each student."""
    network, config = task.network(arch), task.config
    ended = taught(task, arch, examples, several, step)[config.snapshots - 1 :: config.snapshots]
    pairs = [(network.init(seed), last) for seed, last in zip(several, ended, strict=True)]
    shares = [(number + 1) / config.snapshots for number in range(config.snapshots)]
    return [
        {name: first[name].lerp(last[name], share) if name in network.trainable else last[name] for name in last}
        for first, last in pairs
        for share in shares
    ]


def agreeing(images: Tensor, labels: Tensor, students: loop.Students, which: int | None, task: Task) -> Gradient:
    """The gradients of all families where their signs agree, and zero elsewhere."""
    each = [chunked(images, labels, [family], which, task) for family in students]
    gradients = torch.stack([gradient for gradient, _ in each])
    agreed = gradients.sign().sum(0).abs() == len(each)
    return gradients.sum(0) * agreed, torch.stack([gap for _, gap in each]).sum()


def featured(images: Tensor, labels: Tensor, students: loop.Students, which: int | None, task: Task) -> Gradient:
    """The gradient, plus one as large that brings the mean features of classes to those of real images."""
    gradient, gap = chunked(images, labels, students, which, task)
    teachers, number = task.need_teachers(), which or 0
    network, weights = teachers.networks[number], teachers.weights[number]
    real = _real_features(task.recipe.hash, number, lambda: _class_means(task, network, weights))
    moving = images.detach().requires_grad_()
    features = network.embed(weights, moving)
    gaps = [(features[labels == label].mean(0) - real[label]).square().sum() for label in labels.unique().tolist()]
    own = torch.autograd.grad(torch.stack(gaps).sum(), moving)[0]
    return gradient + own * (gradient.norm() / own.norm()), gap


_known: dict[tuple[str, int], Tensor] = {}


def _real_features(recipe: str, teacher: int, make: Callable[[], Tensor]) -> Tensor:
    """The mean features of real images, computed once for each teacher of a recipe."""
    if (recipe, teacher) not in _known:
        _known[recipe, teacher] = make()
    return _known[recipe, teacher]


def _class_means(task: Task, network: Network, weights: Weights) -> Tensor:
    """The mean features of 500 real images of each class, (K, F)."""
    images, labels = task.real(500, "features")
    with torch.no_grad():
        features = torch.cat([network.embed(weights, part) for part in images.split(500)])
    return torch.stack([features[labels == label].mean(0) for label in range(network.classes)])


@contextmanager
def changed(way: str) -> Iterator[None]:
    """The method with the change of a way."""
    name, function = {
        "plain": ("chunked", chunked),
        "blended": ("taught", blended),
        "agreeing": ("chunked", agreeing),
        "featured": ("chunked", featured),
    }[way]
    with patch.object(loop, name, function):
        yield


# Both families learn at each refresh. So the students of a refresh are as many as the families.
OVERRIDES: dict[str, list[str]] = {"agreeing": ["method.students=2"]}


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        rows = [row for row in lines(asked.log) if "way" in row]
        ways, blends = values(rows, "way"), values(rows, "blend")
        told = f"python benchmarks/other_moves.py --source FOLDER --log LOG --ways {ways} --blends {blends}"
        print(document(asked.log, told))
        return
    for way in asked.ways:
        for seed in asked.seeds:
            one_set(way, seed, asked)


def one_set(way: str, seed: int, asked: argparse.Namespace) -> None:
    """Make the set of a way, or read it, and train on points from its start to its end."""
    done = {(row["way"], row["seed"], row["blend"], row["arch"]) for row in lines(asked.log)}
    overrides = [f"seed={seed}", "method.blend=1", *OVERRIDES.get(way, [])]
    with prepared(RECIPE, asked.source, overrides, Resources(threads=1)) as (task, folder), changed(way):
        labels = task.initial_labels()
        start = task.initial_images(torch.arange(len(labels)), task.config.init)
        moved = distilled(task, asked.out / f"{way}-{seed}.pt", folder, way, asked.log).images
        for blend in asked.blends:
            inputs = enlarge.enlarged(start.lerp(moved, blend), task.side)
            for arch in asked.archs:
                if (way, seed, blend, arch) not in done:
                    about: dict[str, Any] = {"way": way, "seed": seed, "blend": blend}
                    note(asked.log, {**about, **score(task, inputs, labels, arch)})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_log(parser)
    parser.add_argument("--ways", nargs="+", choices=["plain", "blended", "agreeing", "featured"], default=["plain"])
    add_points(parser, [0.25, 1.0])
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
