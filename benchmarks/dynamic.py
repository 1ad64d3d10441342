"""What labelling every augmented view with the shipped teachers is worth: teachers, loss, temperature and epochs.

python benchmarks/dynamic.py distilled/cifar10_ipc10_small --source FOLDER > benchmarks/results/dynamic.json

Validation accuracy of the set's own architecture, trained on the packaged set; the same seeds train every choice, and
`static`, the stored labels, stands beside them. Choices take turns, so that a busy machine is equally busy for all.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from ddhub.artifact import folder, source_location
from ddhub.base import seeds
from ddhub.data import source
from ddhub.training import device, fit
from ddhub.training import network as networks
from ddhub.training import teachers as teaching
from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class Choice:
    """One way to label."""

    teachers: int  # whose mean logits label a view; 0: the stored labels
    loss: str = "l1_logits"
    temperature: float = 1.0
    epochs: int = 500


CHOICES = [
    *(Choice(count) for count in (0, 1, 2, 3)),
    Choice(3, "kl", 1.0),
    Choice(3, "kl", 4.0),
    Choice(3, "mse"),
    Choice(0, epochs=1500),
    Choice(3, epochs=250),
    Choice(3, epochs=1000),
    Choice(3, epochs=1500),
]


def main() -> None:
    """Measure every choice on one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", help="a local copy of what the set was distilled from")
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    found = folder.read(asked.folder)
    record = found.manifest
    real, _, validation = source.load_train(source_location.source_spec(found, asked.source))
    decisions = device.decide("cpu", asked.threads, compile=device.has_compiler())
    channels, side = found.inputs.shape[1:3]
    network = networks.network(record.home_arch, len(record.classes), channels, side, decisions)
    shipped = teaching.load(found.teacher_files, decisions=decisions)
    examples = fit.Examples(found.inputs, found.labels, targets=found.soft_labels)
    held_out = fit.Examples(real.images, real.labels, found.preprocess, index=validation)
    fit.fit(network, examples, record.protocol.model_copy(update={"epochs": 1}), 0)  # compiles
    scores: dict[Choice, list[tuple[float, float]]] = {choice: [] for choice in CHOICES}
    for number in range(asked.networks):
        for choice in CHOICES:
            begun = time.perf_counter()
            teach = labelling(shipped, choice.teachers)
            seed = seeds.derive(number, "dynamic")
            weights = fit.fit(network, examples, protocol(record.protocol, choice), seed, teach=teach)[-1]
            seconds = time.perf_counter() - begun
            scores[choice].append((fit.accuracy(network, weights, held_out), seconds))
            print(choice, scores[choice][-1], file=sys.stderr, flush=True)
    size = sum(path.stat().st_size for path in shipped.files) // len(shipped)
    result = {
        "command": f"python benchmarks/dynamic.py FOLDER --source FOLDER --networks {asked.networks}",
        "set": f"{record.name}, {len(found.labels)} images",
        "hardware": device.hardware("cpu"),
        "decisions": decisions.record(),
        "versions": {"torch": version("torch")},
        "validation_images": len(validation),
        "n": asked.networks,
        "bytes_a_teacher": size,
        "choices": [summary(choice, scores[choice]) for choice in CHOICES],
    }
    print(json.dumps(result, indent=1))


def labelling(shipped: teaching.Teachers, count: int) -> Callable[[Tensor], Tensor] | None:
    """The mean logits of the first so many teachers."""
    return replace(shipped, weights=shipped.weights[:count]).label if count else None


def protocol(native: Protocol, choice: Choice) -> Protocol:
    """The set's own protocol with a choice's loss and epochs."""
    return native.model_copy(update={"loss": choice.loss, "temperature": choice.temperature, "epochs": choice.epochs})


def summary(choice: Choice, scores: list[tuple[float, float]]) -> dict:
    """A choice with what it gave."""
    accuracies, seconds = [top1 for top1, _ in scores], [round(value, 1) for _, value in scores]
    return {
        **vars(choice),
        "validation_top1": {"mean": statistics.mean(accuracies), "all": accuracies},
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
