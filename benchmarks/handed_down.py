"""What a ConvNet that learnt a set hands down to a ResNet: validation accuracy with and without DropPath.

python benchmarks/handed_down.py SET.pt --source CIFAR10_FOLDER --log handed_down.jsonl
python benchmarks/handed_down.py --log handed_down.jsonl --print > benchmarks/results/handed_down.json

arXiv:2309.04195 trains a large network on a distilled set beside the small one that the set was made for: the small
one, which learnt the set first, labels every augmented view, and the large one drops residual branches. Its schedule of
rates in three phases, its shortcuts and its optimiser are left out.
SET.pt is a set of `cifar10_ipc40_half_small` that went the whole way, as other_moves.py keeps it. A point is a share of
the way: 0 is the start, 1 the moved images. Labels of a training are:

- native: the stored ones, of the recipe's teachers.
- convnet: those of the set's ConvNet for every view.

Every network trains once, as in half_size.py. Only validation data score it. Lines that LOG has already are not made
again.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import half_size
import torch
from every_network_trials import add_log, document, lines, note, prepared
from half_size import RECIPE
from timm.layers import DropPath
from torch import Tensor

from ddhub.base import seeds
from ddhub.base.resources import Resources
from ddhub.data import enlarge
from ddhub.distillation.task import Task
from ddhub.training import fit
from ddhub.training.network import Network

SMALL = "convnet3_w32"
Teach = Callable[[Tensor], Tensor]


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        print(document(asked.log, "python benchmarks/handed_down.py SET.pt --source FOLDER --log LOG"))
        return
    done = {(row["blend"], row["labels"], row["drop_path"], row["arch"]) for row in lines(asked.log)}
    with prepared(RECIPE, asked.source, ["seed=0", "method.blend=1"], Resources(threads=1)) as (task, _):
        labels, moved = task.initial_labels(), torch.load(asked.set)["images"]
        start = task.initial_images(torch.arange(len(labels)), task.config.init)
        for blend in asked.blends:
            inputs = enlarge.enlarged(start.lerp(moved, blend), task.side)
            teach = small_one(task, inputs, labels)
            for arch in asked.archs:
                for name, drop in product(("native", "convnet"), (0.0, asked.drop_path)):
                    if (blend, name, drop, arch) not in done:
                        with dropped(task.network(arch), drop):
                            by = teach if name == "convnet" else None
                            row = half_size.score(task, inputs, labels, arch, teach=by)
                        note(asked.log, {"blend": blend, "labels": name, "drop_path": drop, **row})


def small_one(task: Task, inputs: Tensor, labels: Tensor) -> Teach:
    """The labels of views by a ConvNet that learnt the set with its own protocol."""
    network = task.network(SMALL)
    examples = fit.Examples(inputs, labels, targets=task.soft_labels(inputs))
    weights = fit.fit(network, examples, task.protocol, seeds.derive(0, "small one"))[-1]

    def teach(views: Tensor) -> Tensor:
        with torch.no_grad():
            return network.forward(weights, views)

    return teach


@contextmanager
def dropped(network: Network, rate: float) -> Iterator[None]:
    """The network with residual branches that are dropped in training, rising linearly with depth to a rate."""
    blocks = [layer for layer in network.skeleton.modules() if hasattr(layer, "drop_path")]
    kept, drew = [block.drop_path for block in blocks], network.draws
    for number, block in enumerate(blocks if rate else ()):
        block.drop_path = DropPath(rate * number / (len(blocks) - 1))
    network.draws = drew or rate > 0
    try:
        yield
    finally:
        for block, layer in zip(blocks, kept, strict=True):
            block.drop_path = layer
        network.draws = drew


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, nargs="?", metavar="SET.pt")
    add_log(parser)
    parser.add_argument("--blends", type=float, nargs="+", default=[0.0, 0.25, 1.0])
    parser.add_argument("--archs", nargs="+", default=["resnet18_in_w16"])
    parser.add_argument("--drop-path", type=float, default=0.5)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
