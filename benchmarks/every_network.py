"""What sets teach networks of every family, beside random real images with the same labels and protocol: test accuracy.

python benchmarks/every_network.py SET... --source CIFAR10_FOLDER --threads 1 > benchmarks/results/every_network.json

Runs `ddhub evaluate` on sets of one recipe that differ by their seed: each network, protocol and kind of data as often
as there are seeds. Rows that a set's folder has already are not trained again, so that the command can be cut off.

A row of a set holds its mean accuracies, and the mean difference with the 95% interval of Student's t over trainings,
paired by seed. Rows of the set `all` take every set as one observation: n is the number of sets, and the interval is
that of the sets' mean differences. Accuracies and differences are fractions.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
from collections.abc import Iterator
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from typing import Any

from scipy import stats

from ddhub import api

ARCHS = ("convnet3_w32", "resnet18_in_w16", "resnet18_w16", "vgg11_in_w16", "alexnet_in_w32", "vit_tiny_w64")
PACKAGES = ("torch", "timm", "datasets", "huggingface-hub", "numpy")
Row = dict[str, Any]


def main() -> None:
    """Evaluate every set and print the table."""
    asked = arguments()
    found = [row for folder in asked.sets for row in rows_of_set(folder, asked)]
    manifests = [json.loads((folder / "ddhub.json").read_text()) for folder in asked.sets]
    document = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": sorted({name for row in found for name in row.pop("hardware")}),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "sets": [{"name": each["name"], "recipe_hash": each["made"]["recipe_hash"]} for each in manifests],
        "rows": [*found, *over_sets(found)],
    }
    print(json.dumps(document, indent=1))


def rows_of_set(folder: Path, asked: argparse.Namespace) -> Iterator[Row]:
    """The rows of one set, network by network and protocol by protocol."""
    report = api.evaluate(
        str(folder),
        asked.archs,
        protocols=asked.protocols,
        baselines=("random",),
        seeds=asked.seeds,
        source_path=asked.source,
        threads=asked.threads,
        compile=asked.compile,
        workers=asked.workers,
        probe=False,
    ).to_dict()
    for arch in asked.archs:
        for protocol in asked.protocols:
            here = [row for row in report["rows"] if row["arch"] == arch and row["protocol"] == protocol]
            yield {
                **{"set": folder.name, "arch": arch, "protocol": protocol},
                **paired(*(top1(here, data, asked.seeds) for data in ("distilled", "random"))),
                "hardware": {row["hardware"] for row in here},
            }


def top1(rows: list[Row], data: str, seeds: int) -> list[float]:
    """The accuracies of one kind of data, in the order of their seeds."""
    by_seed = {row["seed"]: row["top1"] for row in rows if row["data"] == data}
    return [by_seed[seed] for seed in range(seeds)]


def paired(distilled: list[float], random: list[float]) -> Row:
    """n, both means, and the mean of the paired differences with its 95% interval."""
    differences = [ours - theirs for ours, theirs in zip(distilled, random, strict=True)]
    n, mean, half = len(differences), statistics.fmean(differences), None
    if n > 1:
        half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / sqrt(n)
    means = {"distilled": statistics.fmean(distilled), "random": statistics.fmean(random), "difference": mean}
    interval = (None, None) if half is None else (mean - half, mean + half)
    return {"n": n, **means, "low": interval[0], "high": interval[1]}


def over_sets(rows: list[Row]) -> list[Row]:
    """One row for every network and protocol, each set an observation."""
    places: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        places.setdefault((row["arch"], row["protocol"]), []).append(row)
    return [
        {
            **{"set": "all", "arch": arch, "protocol": protocol},
            **paired([row["distilled"] for row in here], [row["random"] for row in here]),
        }
        for (arch, protocol), here in places.items()
    ]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--source", help="a local copy of the sets' source")
    parser.add_argument("--archs", nargs="+", default=list(ARCHS))
    parser.add_argument("--protocols", nargs="+", default=["native", "dynamic"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--workers", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
