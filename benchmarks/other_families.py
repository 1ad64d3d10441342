"""The best training of networks of other families than the set's own: loss, optimiser, rate and steps, on validation.

python benchmarks/other_families.py distilled/digits_ipc1 --steps 200 1000 2000 --out FOLDER \
    --archs vgg11_in_w16 alexnet_in_w32 resnet18_w16 > benchmarks/results/other_families.json

Every way also trains on random real images with the teachers' labels, so that each choice is compared on both.
Every training is a file in `--out`, so that a killed run goes on. Several runs may share the work.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from ddhub.artifact import folder, source_location
from ddhub.artifact.folder import Artifact
from ddhub.base import files, seeds
from ddhub.data import source
from ddhub.evaluation import baseline_images
from ddhub.training import device, fit, teachers
from ddhub.training import network as networks
from ddhub.training.fit import Examples
from ddhub.training.optimisation import Family

ARCHS = ["resnet18_w16", "resnet18_in_w16", "vgg11_in_w16", "alexnet_in_w32", "vit_tiny_w64"]
BATCH = 50


@dataclass(frozen=True)
class Way:
    """A way of training. Its schedule covers the whole number of steps."""

    optimizer: str
    lr: float
    loss: str
    schedule: str
    weight_decay: float

    @property
    def family(self) -> Family:
        """The way as a family, for `fit`."""
        return Family(self.optimizer, self.lr, self.weight_decay, self.schedule, source="")


WAYS = {
    "sgd l1": Way("sgd", 0.02, "l1_logits", "half", 5e-4),  # the training of the set's own network
    "adamw l1": Way("adamw", 1e-3, "l1_logits", "cosine", 0.05),
    "adamw kl": Way("adamw", 1e-3, "kl", "cosine", 0.05),
}


@dataclass(frozen=True)
class Case:
    """One training."""

    arch: str
    data: str  # distilled or random
    way: str
    steps: int
    number: int  # number of the seed

    @property
    def file(self) -> str:
        """The name of the result's file."""
        return f"{self.arch}-{self.data}-{self.way.replace(' ', '_')}-{self.steps}-{self.number}.json"


def _unscored(images: Tensor, label: int) -> Tensor:
    raise NotImplementedError("random images are drawn without scores")


@dataclass(frozen=True)
class Material:
    """The images to train on and to score on."""

    found: Artifact
    real: source.Split
    training: Tensor
    held_out: Examples
    shipped: teachers.Teachers
    decisions: device.Decisions

    def examples(self, case: Case) -> Examples:
        """The set, or as many random real images with labels of the same teachers."""
        found = self.found
        if case.data == "distilled":
            return Examples(found.inputs, found.labels, targets=found.soft_labels)
        pool = baseline_images.Pool(
            self.real.images, self.real.labels, self.real.classes, self.training, lambda x: x, _unscored
        )
        drawn = baseline_images.choose("random", pool, found.manifest.counts, case.number)
        inputs = found.preprocess.inputs(self.real.images[drawn])
        targets = self.shipped.label(inputs, None).half().float()
        return Examples(inputs, self.real.labels[drawn], targets=targets)

    def network(self, arch: str) -> networks.Network:
        """A network of this set's dimensions."""
        channels, side = self.found.inputs.shape[1:3]
        return networks.network(arch, len(self.found.manifest.classes), channels, side, self.decisions)


def material(asked: argparse.Namespace) -> Material:
    """Read the set and its source."""
    found = folder.read(asked.folder)
    real, training, validation = source.load_train(source_location.source_spec(found, asked.source))
    decisions = device.decide("cpu", asked.threads, compile=False)
    held_out = Examples(real.images, real.labels, found.preprocess, index=validation)
    return Material(found, real, training, held_out, teachers.load(found.teacher_files, decisions=decisions), decisions)


def score(known: Material, case: Case) -> dict:
    """Train once, and score on validation data."""
    way, network, examples = WAYS[case.way], known.network(case.arch), known.examples(case)
    network.family = way.family
    batch = min(BATCH, len(examples))
    epochs = -(-case.steps // -(-len(examples) // batch))
    changes = {"loss": way.loss, "batch": batch, "epochs": epochs, "lr": way.lr}
    protocol = known.found.manifest.protocol.model_copy(update=changes)
    begun = time.perf_counter()
    try:
        weights = fit.fit(network, examples, protocol, seeds.derive(case.number, "other families"))[-1]
        seconds = time.perf_counter() - begun
        top1 = fit.accuracy(network, weights, known.held_out)
    except fit.Diverged:
        top1, seconds = 0.0, time.perf_counter() - begun
    return {**asdict(case), "validation_top1": top1, "seconds": round(seconds, 1)}


def cases(asked: argparse.Namespace) -> Iterator[Case]:
    """The grid of trainings. The first seed of every choice comes first."""
    for number in range(asked.first_seed, asked.first_seed + asked.networks):
        for steps in asked.steps:
            for way in asked.ways:
                for arch in asked.archs:
                    for data in ("distilled", "random"):
                        yield Case(arch, data, way, steps, number)


def summary(results: list[dict]) -> list[dict]:
    """The accuracies of each choice over its seeds."""
    groups: dict[tuple, list[float]] = {}
    for row in results:
        key = (row["arch"], row["way"], row["steps"], row["data"])
        groups.setdefault(key, []).append(row["validation_top1"])
    return [
        {
            **dict(zip(("arch", "way", "steps", "data"), key, strict=True)),
            "n": len(found),
            "mean": round(statistics.mean(found), 4),
            "all": [round(value, 4) for value in found],
        }
        for key, found in sorted(groups.items())
    ]


def main() -> None:
    """Do the trainings without a file, then print the summary of all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", help="a local copy of what the set was distilled from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archs", nargs="+", default=ARCHS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--steps", nargs="+", type=int, default=[1000])
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    known = material(asked)
    for case in cases(asked):
        path = asked.out / case.file
        if not path.exists():
            found = score(known, case)
            files.write_json(path, found)
            print(found, file=sys.stderr, flush=True)
    results = [json.loads(path.read_text()) for path in sorted(asked.out.glob("*.json"))]
    record = known.found.manifest
    result = {
        "command": "python benchmarks/other_families.py FOLDER --out FOLDER (archs, ways and steps as in the results)",
        "set": f"{record.name}, {len(known.found.labels)} images",
        "hardware": device.hardware("cpu"),
        "versions": {"torch": version("torch")},
        "batch": BATCH,
        "validation_images": len(known.held_out),
        "ways": {name: asdict(way) for name, way in WAYS.items()},
        "results": summary(results),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
