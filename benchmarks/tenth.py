"""What a tenth of CIFAR-10 can teach by labels of every view: validation accuracy, by length and settings of training.

python benchmarks/tenth.py --source CIFAR10_FOLDER --log tenth.jsonl --try epochs=40 --try epochs=150 batch=100 lr=0.05
python benchmarks/tenth.py --log tenth.jsonl --print > benchmarks/results/tenth.json

500 random real images per class, whose views two teachers of `cifar10_ipc50_small` label that had 60 epochs. Each
`--try` is a training of the own network with settings of the protocol. Only validation data score it. Lines that LOG
has already are not made again.
"""

import argparse
import time
from functools import partial

import torch
import yaml
from every_network_trials import add_log, document, lines, note, prepared

from ddhub.base import seeds
from ddhub.base.resources import Resources
from ddhub.data import held_out
from ddhub.distillation.task import Task
from ddhub.training import fit

RECIPE, IPC = "cifar10_ipc50_small", 500
OVERRIDES = [f"ipc={IPC}", "teachers.epochs=60", "teachers.count=2"]


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        print(document(asked.log, f"python benchmarks/tenth.py --source FOLDER --log LOG{tries(lines(asked.log))}"))
        return
    done = [(row["settings"], row["training"]) for row in lines(asked.log)]
    with prepared(RECIPE, asked.source, OVERRIDES, Resources(threads=1)) as (task, _):
        for pairs in asked.tries:
            settings = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in pairs)}
            for number in asked.trainings:
                if (settings, number) not in done:
                    note(asked.log, {"settings": settings, "training": number, **trained(task, settings, number)})


def tries(rows: list[dict]) -> str:
    """The options of the trainings that a log holds."""
    every = {" ".join(f"{key}={value}" for key, value in row["settings"].items()): None for row in rows}
    return "".join(f" --try {each}" for each in every)


def trained(task: Task, settings: dict, number: int) -> dict:
    """A training of the own network on random images: its validation accuracy, steps and seconds."""
    labels, classes = task.source.labels[task.training], task.source.classes
    rows = task.training[held_out.stratified(labels, classes, [IPC] * len(classes), 0, "tenth")]
    inputs = task.preprocess.inputs(task.source.images[rows])
    network = task.network("convnet3_w32")
    protocol = task.protocol.model_copy(update=settings)
    examples = fit.Examples(inputs, task.source.labels[rows], targets=task.soft_labels(inputs))
    epochs, steps = fit.plan(len(examples), protocol, fit.family_of(network, protocol))
    teach = partial(task.need_teachers().label, check=False)
    begun = time.monotonic()
    weights = fit.fit(network, examples, protocol, seeds.derive(number, "tenth"), teach=teach)[-1]
    seconds = time.monotonic() - begun
    top1 = fit.accuracy(network, weights, task.validation_examples())
    return {"top1": round(top1, 4), "steps": epochs * steps, "seconds": round(seconds, 1)}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_log(parser)
    parser.add_argument("--try", dest="tries", nargs="+", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--trainings", type=int, nargs="+", default=[0])
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
