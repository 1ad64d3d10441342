"""The evaluator: train architectures on what was read back from an artifact, test them, one JSON file per row.

The only file that opens test data. It knows no methods; nothing that it finds flows back into a set, and nothing is
selected: every row is the last epoch of one training.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ddhub import artifact, fast, files, jobs, recipe, rows, seeds, sources, train
from ddhub import teachers as teaching
from ddhub.artifact import Artifact
from ddhub.errors import UserError
from ddhub.fast import Decisions
from ddhub.log import duration, say
from ddhub.manifest import Protocol
from ddhub.recipe import EvaluateSpec, SourceSpec
from ddhub.schema import check, did_you_mean
from ddhub.sources import Split

PROTOCOLS = {
    "native": "the set's own: stored labels, the manifest's loss and epochs",
    "dynamic": "the same epochs, but the mean of the shipped teachers labels every augmented view on the fly",
}
BASELINES = {
    "random": "random real images, as many per class, labelled by the same teachers, under the same protocol",
    "full": "the whole train split with hard labels, trained as the paper trains its teachers",
}
# Full data is trained as the paper trains its teachers (arXiv:2312.08912), for the recipe's `evaluate.full_epochs`.
FULL = {"loss": "ce", "lr": 0.05, "batch": 256}


@dataclass(frozen=True)
class Cell:
    """One row to be: an architecture trained on some data under a protocol, from one seed."""

    arch: str
    protocol: str
    data: str  # distilled, random or full
    seed: int


@dataclass(frozen=True)
class Bench:
    """All that the rows of one evaluation share."""

    set: Artifact
    name: str  # what rows call the set
    test: Split
    test_set: str  # what people call it
    train: Split | None  # the real training data, where a baseline asks for it
    training: torch.Tensor | None  # rows of `train` that the set was distilled from
    teachers: teaching.Teachers | None
    protocols: dict[str, Protocol]  # by name, `full` included
    decisions: dict[str, Decisions]  # by architecture


def evaluate(
    found: Artifact,
    out: Path,
    archs: Sequence[str],
    *,
    name: str | None = None,
    protocols: Sequence[str] = ("native",),
    baselines: Sequence[str] = ("random",),
    seeds: int | None = None,
    test: str | None = None,
    source_path: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
) -> list[dict[str, Any]]:
    """Run every row that has no file yet, and return all rows of this evaluation.

    Args:
        out: the folder that holds the rows.
        name: what rows call the set; None takes the manifest's.
        archs: names as nets.resolve takes them; empty means the architecture of the set's teachers.
        protocols: of PROTOCOLS; baselines: of BASELINES.
        seeds: rows per architecture, protocol and data; None takes the recipe's.
        test: a Hub id or folder whose test split to use instead of the source's.
        source_path: a local copy of the source.

    Raises:
        UserError: before any training, for whatever cannot be evaluated; after it, for rows that failed.
    """
    check_names(protocols, baselines)
    cells = _cells(found, archs, protocols, baselines, _own_settings(found).seeds if seeds is None else seeds)
    bench = _bench(
        found,
        name or found.manifest.name,
        cells,
        test,
        source_path,
        {"device": device, "threads": threads, "compile": compile},
    )
    paths = {out / _file_name(bench, cell): cell for cell in cells}
    missing = [path for path in paths if not path.exists()]
    say(f"{found.manifest.name}: {len(paths)} rows, {len(paths) - len(missing)} done already")

    def job(cell: Cell) -> jobs.Job:
        return lambda path: _work(bench, cell, path)

    jobs.run_all({path: job(cell) for path, cell in paths.items()})
    return [rows.read(path) for path in paths]


def check_names(protocols: Sequence[str], baselines: Sequence[str]) -> None:
    """Refuse protocols and baselines that nobody knows, before anything is read."""
    for kind, given, known in (("protocol", protocols, PROTOCOLS), ("baseline", baselines, BASELINES)):
        for name in given:
            if name not in known:
                raise UserError(f"{kind} '{name}': unknown{did_you_mean(name, list(known))}")


def _cells(
    found: Artifact, archs: Sequence[str], protocols: Sequence[str], baselines: Sequence[str], seeds: int
) -> list[Cell]:
    record = found.manifest
    if "dynamic" in protocols and not record.teachers:
        raise UserError(
            f"{found.folder}: ships no teachers, so nothing can label on the fly", next="--protocols native"
        )
    if seeds < 1:
        raise UserError("--seeds: at least 1")
    home = record.teachers[0].arch if record.teachers else record.packaging.arch if record.packaging else "convnet"
    data = ["distilled", *(name for name in baselines if name != "full")]
    grid = [(protocol, name) for protocol in protocols for name in data]
    if "full" in baselines:
        grid.append(("full", "full"))
    return [
        Cell(arch, protocol, name, seed)
        for arch in dict.fromkeys(archs or [home])
        for protocol, name in dict.fromkeys(grid)
        for seed in range(seeds)
    ]


def _bench(
    found: Artifact,
    name: str,
    cells: list[Cell],
    test: str | None,
    source_path: str | None,
    asked: dict[str, Any],
) -> Bench:
    """Load what the rows need and check that every architecture runs, before any of them starts."""
    record = found.manifest
    needs = {cell.data for cell in cells} & {"random", "full"}
    spec = _source_spec(found, source_path)
    test_spec = spec if test is None else spec.model_copy(update=_elsewhere(test))
    test_split = sources.load_test(test_spec)
    _check_classes(found, test_split, f"the test split of {test_spec.path or test_spec.dataset}")
    real, training = None, None
    if needs:
        real, training, _ = sources.load_train(spec)
        _check_classes(found, real, f"the train split of {spec.path or spec.dataset}")
    protocols = {name: record.protocol for name in PROTOCOLS}
    if found.manifest.teachers:
        # Teachers on the fly teach by logits whatever labels the set stores.
        protocols["dynamic"] = record.protocol.model_copy(update={"loss": "l1_logits"})
    protocols["full"] = record.protocol.model_copy(update={**FULL, "epochs": _own_settings(found).full_epochs})
    decisions = {
        arch: _decide(found, arch, cells, protocols, real, asked) for arch in dict.fromkeys(cell.arch for cell in cells)
    }
    classes, channels, side = len(record.classes), record.source.channels, record.source.resolution
    for arch, decision in decisions.items():
        fast.network(arch, classes, channels, side, decision)
    # Teachers label the random baseline and the views of `dynamic`; where neither is asked for, they stay on the disk.
    soft = record.labels.form != "hard" and "random" in needs
    wanted = record.teachers and (soft or any(cell.protocol == "dynamic" for cell in cells))
    # They are compiled where any row is: the work is there to pay for it, and the choice does not hang on an order.
    how = replace(next(iter(decisions.values())), compile=any(decision.compile for decision in decisions.values()))
    loaded = teaching.load(found.teacher_files, decisions=how) if wanted else None
    if soft and loaded is None:
        raise UserError(f"{found.folder}: ships no teachers to label random images", next="--baselines none")
    where = Path(str(test)).name if test is not None and test_spec.path else test_spec.dataset
    test_name = f"{where} {spec.test}"
    return Bench(found, name, test_split, test_name, real, training, loaded, protocols, decisions)


def _own_settings(found: Artifact) -> EvaluateSpec:
    """The `evaluate` section of the set's recipe; what it says of its method is none of our business."""
    path = found.folder / "recipe.yaml"
    data = recipe.parse_yaml(path.read_text(encoding="utf-8"), str(path))
    settings, faults = check(EvaluateSpec, data.get("evaluate", {}) if isinstance(data, dict) else data, "evaluate.")
    if settings is None:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return settings


def _source_spec(found: Artifact, source_path: str | None) -> SourceSpec:
    """Where the set's own source is read from here: as told, as the run that made it was told, or the Hub."""
    known = found.manifest.source.model_dump(include=set(SourceSpec.model_fields))
    local = found.folder / ".ddhub" / "run.json"
    remembered = json.loads(local.read_text()).get("source_path") if source_path is None and local.exists() else None
    return SourceSpec.model_validate({**known, "path": source_path or remembered})


def _elsewhere(test: str) -> dict[str, Any]:
    """A spec's changes that read the test split from another Hub id or folder, its columns found anew."""
    local = Path(test).is_dir() or test.startswith((".", "/", "~"))
    where = {"path": test} if local else {"dataset": test, "path": None, "revision": None}
    return {**where, "image": None, "label": None}


def _check_classes(found: Artifact, split: Split, what: str) -> None:
    if list(split.classes) != found.manifest.classes:
        pairs = zip(found.manifest.classes, split.classes, strict=False)
        first = next((f"'{a}' against '{b}'" for a, b in pairs if a != b), "another number of classes")
        raise UserError(f"{what}: its classes are not those of the set, in its order ({first})")


def _decide(
    found: Artifact,
    arch: str,
    cells: list[Cell],
    protocols: dict[str, Protocol],
    real: Split | None,
    asked: dict[str, Any],
) -> Decisions:
    """How to run one architecture, from the work of the whole grid, so that a resumed grid decides the same."""
    sizes = {"distilled": len(found.labels), "random": len(found.labels), "full": 0 if real is None else len(real)}
    images = sum(protocols[cell.protocol].epochs * sizes[cell.data] for cell in cells if cell.arch == arch)
    source = found.manifest.source
    return fast.decide(**asked, flops=fast.training_flops(arch, source.channels, source.resolution, images))


def _key(bench: Bench, cell: Cell) -> dict[str, Any]:
    """Everything that a row's number depends on but the machine."""
    return {
        "format": rows.FORMAT,
        "payload": rows.identity(bench.set.manifest.files),
        "arch": cell.arch,
        "protocol": cell.protocol,
        "data": cell.data,
        "seed": cell.seed,
        "settings": bench.protocols[cell.protocol].model_dump(),
        "family": asdict(_network(bench, cell.arch).family),
        "test": bench.test.fingerprint,
        "train": bench.train.fingerprint if bench.train and cell.data != "distilled" else None,
    }


def _file_name(bench: Bench, cell: Cell) -> str:
    arch = cell.arch.replace(":", "_")
    return f"{arch}-{cell.protocol}-{cell.data}-s{cell.seed}-{files.digest(_key(bench, cell))[:8]}.json"


def _network(bench: Bench, arch: str) -> fast.Network:
    source = bench.set.manifest.source
    classes = len(bench.set.manifest.classes)
    return fast.network(arch, classes, source.channels, source.resolution, bench.decisions[arch])


def _work(bench: Bench, cell: Cell, path: Path) -> None:
    """Train, test, write the row."""
    decisions = bench.decisions[cell.arch]
    fast.apply(decisions)
    network = _network(bench, cell.arch)
    protocol = bench.protocols[cell.protocol]
    begun = time.monotonic()
    # Paired: one seed gives one initialisation and one order of augmentations to all the data it is compared on.
    seed = seeds.derive(cell.seed, "evaluate")
    examples = _examples(bench, cell)
    weights = train.fit(network, examples, protocol, seed, teach=_teach(bench, cell))[-1]
    seconds = time.monotonic() - begun
    tested = train.Examples(bench.test.images, bench.test.labels, bench.set.preprocess)
    top1 = train.accuracy(network, weights, tested)
    row = {
        **_key(bench, cell),
        "set": bench.name,
        "top1": top1,
        "test_set": bench.test_set,
        "test_images": len(bench.test),
        "train_images": len(examples),
        "epochs": train.plan(len(examples), protocol, network.family)[0],
        "lr": network.family.lr if network.family.lr is not None else protocol.lr,
        "optimizer": network.family.optimizer,
        "seconds": round(seconds, 2),
        "device": decisions.device,
        "hardware": fast.hardware(decisions.device),
        "versions": {"torch": torch.__version__},
        "decisions": decisions.record(),
    }
    files.write_json(path, row)
    say(f"{cell.arch} {cell.protocol} {cell.data} seed {cell.seed}: {100 * top1:.1f}% in {duration(seconds)}")


def _examples(bench: Bench, cell: Cell) -> train.Examples:
    """The data of one row; hard or soft labels as the set's protocol wants them."""
    record = bench.set.manifest
    if cell.data == "distilled":
        targets = _targets(record, bench.set.soft_labels, bench.protocols[cell.protocol])
        return train.Examples(bench.set.inputs, bench.set.labels, targets=targets)
    assert bench.train is not None and bench.training is not None
    if cell.data == "full":
        return train.Examples(bench.train.images, bench.train.labels, bench.set.preprocess)
    labels = bench.train.labels[bench.training]
    drawn = bench.training[sources.stratified(labels, bench.train.classes, record.ipc, cell.seed, "baseline")]
    inputs, targets = bench.set.preprocess.inputs(bench.train.images[drawn]), None
    if record.labels.form != "hard":
        assert bench.teachers is not None
        logits = bench.teachers.label(inputs, None if record.labels.teachers == "mean" else 0).half().float()
        targets = _targets(record, logits, bench.protocols[cell.protocol])
    return train.Examples(inputs, bench.train.labels[drawn], targets=targets)


def _targets(record: artifact.Manifest, soft: torch.Tensor | None, protocol: Protocol) -> torch.Tensor | None:
    """What the protocol's loss learns from stored soft labels: logits become probabilities for a cross-entropy."""
    if soft is None or protocol.loss != "soft_ce" or record.labels.form != "logits":
        return soft
    return (soft / record.labels.temperature).softmax(1)


def _teach(bench: Bench, cell: Cell) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if cell.protocol != "dynamic":
        return None
    assert bench.teachers is not None
    return bench.teachers.label
