"""What a bfloat16 forward pass costs in validation accuracy: the same seeds trained both ways, paired.

python benchmarks/bfloat16.py CIFAR10_FOLDER ARCH EPOCHS SEEDS >> rows.jsonl
python benchmarks/bfloat16.py summarise rows.jsonl > benchmarks/results/bfloat16.json

Trained on the first ten training images of every class of CIFAR-10 with hard labels; DSA, rate 0.01, one batch.
"""

import json
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

from scipy import stats


def train_both(folder: str, arch: str, epochs: int, count: int) -> None:
    """Print one line per seed and precision."""
    import torch

    from ddhub.base import seeds as seeding
    from ddhub.data import preprocess, source
    from ddhub.data.spec import SourceSpec
    from ddhub.training import device, fit
    from ddhub.training import network as networks
    from ddhub.training.protocol import Protocol

    spec = SourceSpec(dataset="uoft-cs/cifar10", path=folder, resolution=32)
    real, training, validation = source.load_train(spec)
    prepared = preprocess.fit(real.images, training[:5000], zca=False)
    labels = real.labels[training]
    rows = torch.cat([training[(labels == label).nonzero()[:10, 0]] for label in range(10)])
    examples = fit.Examples(prepared.inputs(real.images[rows]), real.labels[rows])
    protocol = Protocol(loss="ce", augment="dsa", lr=0.01, epochs=epochs)
    held_out = fit.Examples(real.images, real.labels, prepared, index=validation)
    for seed in range(count):
        for precision in ("float32", "bfloat16"):
            way = device.decide("cpu", compile=True, precision=precision)
            network = networks.network(arch, 10, 3, 32, way)
            weights = fit.fit(network, examples, protocol, seeding.derive(seed, "evaluate"))[-1]
            top1 = fit.accuracy(network, weights, held_out)
            key = {"data": "cifar10", "arch": arch, "epochs": epochs, "seed": seed}
            found = {"precision": precision, "top1": top1, "hardware": device.hardware("cpu")}
            print(json.dumps({**key, **found}), flush=True)


def summarise(path: str) -> None:
    """Paired differences in points with their 95% interval, per kind of training."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    groups: dict[tuple, dict[int, dict[str, float]]] = {}
    for row in rows:
        group = groups.setdefault((row["data"], row["arch"], row["epochs"]), {})
        group.setdefault(row["seed"], {})[row["precision"]] = row["top1"]
    summary = []
    for (data, arch, epochs), seeds in groups.items():
        pairs = [pair for pair in seeds.values() if len(pair) == 2]
        points = [100 * (pair["bfloat16"] - pair["float32"]) for pair in pairs]
        half = float(stats.t.ppf(0.975, len(points) - 1)) * statistics.stdev(points) / len(points) ** 0.5
        summary.append(
            {
                **{"data": data, "arch": arch, "epochs": epochs, "n": len(points)},
                "float32": round(100 * statistics.mean(pair["float32"] for pair in pairs), 2),
                "bfloat16": round(100 * statistics.mean(pair["bfloat16"] for pair in pairs), 2),
                "difference": round(statistics.mean(points), 3),
                "ci95": round(half, 3),
            }
        )
    command = "python benchmarks/bfloat16.py CIFAR10_FOLDER ARCH EPOCHS SEEDS"
    hardware = sorted({row["hardware"] for row in rows})
    facts = {"command": command, "hardware": hardware, "versions": {"torch": version("torch")}, "threads": 1}
    print(json.dumps({**facts, "summary": summary, "rows": rows}, indent=1))


if __name__ == "__main__":
    if sys.argv[1] == "summarise":
        summarise(sys.argv[2])
    else:
        train_both(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
