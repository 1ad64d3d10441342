"""How networks of other families than a set's learn real half-size images, by optimiser and rate: validation accuracy.

python benchmarks/other_families.py --source CIFAR10_FOLDER --log other_families.jsonl --archs resnet18_w16
python benchmarks/other_families.py --log other_families.jsonl --print > benchmarks/results/other_families.json

The images are those that `cifar10_ipc40_half_small` starts from: easy ones, or with `--images random` as many random
ones. The labels are its teachers' logits. Every training has 1,000 steps of 25 images, seed 0. Only validation data
score it. Every training is a line of LOG. Lines that LOG has already are not made again.
"""

import argparse
from typing import Any

import torch
from every_network_trials import add_log, document, lines, note, prepared
from half_size import RECIPE

from ddhub.base import seeds
from ddhub.base.resources import Resources
from ddhub.data import enlarge
from ddhub.distillation.task import Task
from ddhub.training import fit

BATCH, STEPS = 25, 1000
INIT = {"easy": "easy", "random": "real"}  # how a set starts as such images
ADAMW = {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "tuned": True}
WAYS: dict[str, dict[str, Any]] = {
    **{f"sgd {rate}": {"lr": rate} for rate in (0.02, 0.05, 0.1)},
    "sgd 0.02, kl": {"lr": 0.02, "loss": "kl"},
    **{f"adamw {rate}": {**ADAMW, "lr": rate} for rate in (0.0005, 0.001, 0.003, 0.01)},
}


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        print(document(asked.log, "python benchmarks/other_families.py --source FOLDER --log LOG"))
        return
    start = f"method.init={INIT[asked.images]}"
    with prepared(RECIPE, asked.source, [start], Resources(threads=1)) as (task, _):
        images, labels = task.start(task.config.init)
        examples = fit.Examples(enlarge.enlarged(images, task.side), labels, targets=task.soft_labels(images))
        done = {(row["images"], row["arch"], row["way"]) for row in lines(asked.log)}
        for arch, way in ((arch, way) for arch in asked.archs for way in asked.ways):
            if (asked.images, arch, way) not in done:
                about = {"images": asked.images, "arch": arch, "way": way}
                note(asked.log, {**about, "top1": score(task, examples, arch, WAYS[way])})


def score(task: Task, examples: fit.Examples, arch: str, way: dict[str, Any]) -> float:
    """Validation accuracy of a network that learnt the examples in a way."""
    epochs = max(1, STEPS * BATCH // len(examples))
    changes = {**way, "batch": BATCH, "epochs": epochs, "min_steps": 0, "patient": True}
    network = task.network(arch)
    weights = fit.fit(network, examples, task.protocol.model_copy(update=changes), seeds.derive(0, "sketch"))[-1]
    return round(fit.accuracy(network, weights, task.validation_examples()), 4)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_log(parser)
    parser.add_argument("--images", choices=INIT, default="easy")
    parser.add_argument("--archs", nargs="+", default=["vgg11_in_w16", "resnet18_w16", "resnet18_in_w16"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
