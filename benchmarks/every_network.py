"""What sets teach every family of networks, beside real images with the same labels and protocol: test accuracy.

python benchmarks/every_network.py SET... --source CIFAR10_FOLDER --threads 1

Runs `ddhub evaluate` on sets of one recipe that differ by their seed: each network, protocol and kind of data as often
as there are seeds. Rows that a set's folder has already are not trained again, so that the command can be cut off.
OUT keeps what other commands have put there: each adds its own network by network, or puts it in the place of older
rows. `--others` changes how networks of other families than the set's own are trained, distilled and random alike.

Real images are random ones and easy ones, which are those that the teachers err on least. Sets of different seeds ship
the same teachers. So a training on real images is one and the same for all of them: it is run for the first set, and
lent to the others.

A row of a set holds its mean accuracies, and the mean difference with the 95% interval of Student's t over trainings,
paired by seed. Rows of the set `all` say what the recipe does: n is the number of sets, each the mean of its trainings,
beside as many draws of real images as there are seeds. Their interval is Welch's. A row says under `beside_easy` what
it says of random images for easy ones. Accuracies and differences are fractions.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from typing import Any

from distilling import command
from scipy import stats

from ddhub import api
from ddhub.artifact import manifest as manifests
from ddhub.base import files
from ddhub.training import architectures

ARCHS = ("convnet3_w32", "resnet18_in_w16", "resnet18_w16", "vgg11_in_w16", "alexnet_in_w32", "vit_tiny_w64")
REAL = ("random", "easy")  # kinds of real images beside a set
PACKAGES = ("torch", "timm", "datasets", "huggingface-hub", "numpy")
Row = dict[str, Any]
# What a row's file is named by: all that its number depends on.
KEY = (
    *("format", "payload", "arch", "protocol", "protocol_version", "data", "seed", "settings", "family", "test"),
    "train",
)


def main() -> None:
    """Evaluate every set, and write the table after each."""
    asked = arguments()
    for folder in asked.sets:
        manifest = manifest_of(folder)
        lend(asked.lender or asked.sets[0], folder)
        home = architectures.family(manifest["teachers"][0]["arch"])
        of_home = [arch for arch in asked.archs if architectures.family(arch) == home]
        others = [arch for arch in asked.archs if arch not in of_home]
        found = [*rows_of_set(folder, of_home, [], asked), *rows_of_set(folder, others, asked.others, asked)]
        write(asked.out, folder.name, manifest, found)


def manifest_of(folder: Path) -> Row:
    """The manifest of a set."""
    found: Row = json.loads((folder / "ddhub.json").read_text())
    return found


def lend(lender: Path, borrower: Path) -> None:
    """Copy rows of real images to a set for which they would be the same trainings: all but its own images agrees."""
    if lender == borrower or labelled_by(lender) != labelled_by(borrower):
        return
    payload = manifests.identity(manifests.read(borrower).files)
    for path in [path for kind in REAL for path in (lender / "evaluation").glob(f"*-{kind}-s*.json")]:
        row = {**json.loads(path.read_text()), "payload": payload}
        key = files.digest({name: row[name] for name in KEY})[:8]
        target = borrower / "evaluation" / f"{path.stem.rpartition('-')[0]}-{key}.json"
        if not target.exists():
            files.write_json(target, row)


def labelled_by(folder: Path) -> list[Any]:
    """What decides on how random images of a set's classes are drawn, prepared, labelled and learnt."""
    record = manifests.read(folder)
    teachers = [record.files[teacher.file] for teacher in record.teachers]
    known = record.preprocess
    prepared = (known.mean, known.std, known.zca, known.factor)
    return [record.source, record.labels, record.protocol, record.classes, record.counts, prepared, teachers]


def rows_of_set(folder: Path, archs: Sequence[str], overrides: Sequence[str], asked: argparse.Namespace) -> list[Row]:
    """The rows of one set and some networks, protocol by protocol."""
    if not archs:
        return []
    report = api.evaluate(
        str(folder),
        archs,
        protocols=asked.protocols,
        baselines=asked.baselines,
        seeds=asked.seeds,
        overrides=overrides,
        source_path=asked.source,
        threads=asked.threads,
        compile=asked.compile,
        precision=asked.precision,
        workers=asked.workers,
        probe=False,
    ).to_dict()
    places = [(arch, protocol) for arch in archs for protocol in asked.protocols]
    return [row_of(folder.name, *place, overrides, report["rows"], asked) for place in places]


def row_of(
    name: str, arch: str, protocol: str, overrides: Sequence[str], rows: list[Row], asked: argparse.Namespace
) -> Row:
    """One row of the table, of the rows of an evaluation."""
    told, seeds = {text.removeprefix(f"{protocol}.") for text in overrides}, asked.seeds
    here = [row for row in rows if row["arch"] == arch and row["protocol"] == protocol and row["seed"] < seeds]
    here = [row for row in here if set(row["overrides"]) == told]
    each = {data: top1(here, data, seeds) for data in ("distilled", *asked.baselines)}
    about = {"set": name, "arch": arch, "protocol": protocol, "n": seeds}
    how = {"overrides": sorted(told), "precision": sorted({row["decisions"]["precision"] for row in here})}
    numbers = beside(paired, {"distilled": each["distilled"]}, each)
    return {**about, **numbers, "each": each, **how, "hardware": here[0]["hardware"]}


def beside(compare: Callable[[list[float], list[float]], Row], sets: Row, real: Row) -> Row:
    """The means of sets and of random images with their difference, and the same beside easy images.

    Args:
        sets: accuracies under `distilled`.
        real: accuracies by kind of real images. Kinds that are not there are left out.
    """
    found = [
        {"distilled": mean(sets["distilled"]), kind: mean(real[kind]), **compare(sets["distilled"], real[kind])}
        for kind in REAL
        if kind in real
    ]
    return {**found[0], **({"beside_easy": found[1]} if len(found) > 1 else {})}


def mean(values: list[float]) -> float:
    """The mean, as the table keeps it."""
    return round(statistics.fmean(values), 5)


def top1(rows: list[Row], data: str, seeds: int) -> list[float]:
    """The accuracies of one kind of data, in the order of their seeds."""
    by_seed = {row["seed"]: row["top1"] for row in rows if row["data"] == data}
    return [by_seed[seed] for seed in range(seeds)]


def paired(distilled: list[float], real: list[float]) -> Row:
    """The mean of the paired differences with its 95% interval, Student's t."""
    differences = [ours - theirs for ours, theirs in zip(distilled, real, strict=True)]
    n, middle = len(differences), statistics.fmean(differences)
    if n < 2:
        return {"difference": round(middle, 5), "low": None, "high": None}
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / sqrt(n)
    return {"difference": round(middle, 5), "low": round(middle - half, 5), "high": round(middle + half, 5)}


def over_sets(rows: list[Row]) -> Iterator[Row]:
    """One row for every network and protocol: sets beside draws of real images, each the mean of its trainings."""
    places: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        places.setdefault((row["arch"], row["protocol"]), []).append(row)
    for (arch, protocol), here in places.items():
        sets, draws = sets_and_draws(here)
        about = {"n": len(sets), "trainings": [row["n"] for row in here], "draws": len(draws["random"])}
        yield {"set": "all", "arch": arch, "protocol": protocol, **about, **beside(apart, {"distilled": sets}, draws)}


def sets_and_draws(rows: list[Row]) -> tuple[list[float], Row]:
    """The mean of each set, and the accuracies of draws, which the rows of sets share: the most that one has."""
    draws = {kind: [row["each"][kind] for row in rows if kind in row["each"]] for kind in REAL}
    return [row["distilled"] for row in rows], {kind: max(each, key=len) for kind, each in draws.items() if each}


def apart(sets: list[float], draws: list[float]) -> Row:
    """The difference of means with Welch's 95% interval."""
    difference = round(statistics.fmean(sets) - statistics.fmean(draws), 5)
    if min(len(sets), len(draws)) < 2:
        return {"difference": difference, "low": None, "high": None}
    interval = stats.ttest_ind(sets, draws, equal_var=False).confidence_interval(0.95)
    return {"difference": difference, "low": round(float(interval.low), 5), "high": round(float(interval.high), 5)}


def write(out: Path, name: str, manifest: Row, found: list[Row]) -> None:
    """Put the rows of a set into the table, and tell again what all sets say."""
    known = json.loads(out.read_text()) if out.exists() else {"commands": [], "sets": [], "rows": []}
    places = {(row["set"], row["arch"], row["protocol"]) for row in found}
    kept = [row for row in known["rows"] if row["set"] != "all"]
    kept = [row for row in kept if (row["set"], row["arch"], row["protocol"]) not in places]
    rows = sorted([*kept, *found], key=lambda row: (row["protocol"], ARCHS.index(row["arch"]), row["set"]))
    about = {"folder": name, "name": manifest["name"], "seed": manifest["seed"]}
    about["recipe_hash"] = manifest["made"]["recipe_hash"]
    document = {
        "commands": list(dict.fromkeys([*known["commands"], command()])),
        "hardware": sorted({row["hardware"] for row in rows}),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "sets": sorted(
            [*(each for each in known["sets"] if each["folder"] != name), about], key=lambda each: each["seed"]
        ),
        "rows": [*over_sets(rows), *rows],
    }
    files.write_json(out, document)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--lender", type=Path, metavar="SET", help="lends rows of real images; the first by default")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/every_network.json"))
    parser.add_argument("--source", help="a local copy of the sets' source")
    parser.add_argument("--archs", nargs="+", choices=ARCHS, default=list(ARCHS))
    parser.add_argument("--protocols", nargs="+", default=["native", "dynamic"])
    parser.add_argument("--baselines", nargs="+", choices=REAL, default=list(REAL))
    parser.add_argument("--others", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for other families")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--precision", choices=["float32", "bfloat16", "auto"])
    parser.add_argument("--workers", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
