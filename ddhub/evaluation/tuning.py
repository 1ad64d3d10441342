"""Tuning of learning rate and weight decay per architecture, on validation data.

All kinds of data get the same candidates, so no side of a comparison is tuned more. Test data is not touched.
Candidates are scored on the validation part, on which none of them is trained. A set by ddhub was not
distilled from it, but choices were made on it: `method.stopping` of apm chooses the shipped set. The makers of an
imported set may have distilled from these images.
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddhub.artifact import manifest
from ddhub.artifact.manifest import Manifest
from ddhub.base import files, jobs, progress, seeds, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say, warn
from ddhub.base.units import duration
from ddhub.evaluation import workbench
from ddhub.evaluation.request import Cell, Tuned
from ddhub.evaluation.workbench import Bench
from ddhub.training import architectures, fit, frozen
from ddhub.training.protocol import Protocol

RATES = (0.1, 0.3, 1.0, 3.0, 10.0)  # factors on the untuned rate
DECAYS = (1.0, 0.1, 10.0)  # factors on the weight decay, at the best rate


def tune(bench: Bench, cells: Sequence[Cell], folder: Path, engine: jobs.Engine) -> Bench:
    """The bench with chosen rates and decays for its cells. Each candidate's result is a file in `folder`.

    Rates are tried first, then decays at the best rate. Full data keeps its protocol, which its authors tuned.
    """
    groups = list(dict.fromkeys((cell.arch, cell.protocol, cell.data) for cell in cells if cell.data != "full"))
    assert bench.validation is not None
    say(f"tuning: scored on {len(bench.validation)} real images of the validation part{seen(bench.set.manifest)}")
    choices = []
    for group in groups:
        cell = Cell(*group, seed=0)
        tried = _run(bench, cell, _rates(bench, cell), folder, engine)
        warn_of_edge(group, tried)
        tried += _run(bench, cell, _decays(bench, cell, _best(tried)), folder, engine)
        choices.append(_choice(group, tried))
    for choice in choices:
        where = f"{choice.arch} {choice.protocol} {choice.data}"
        cost = f"{choice.trainings} trainings, {duration(choice.seconds)}"
        say(f"tuned {where}: lr {choice.lr:g}, weight decay {choice.weight_decay:g} ({cost})")
    return replace(bench, request=replace(bench.request, tuned=tuple(choices)))


def seen(record: Manifest) -> str:
    """What the set's maker may have done with the images of the validation part, as the end of a sentence."""
    if record.imported is not None:
        return "; whether the set was distilled from them too is not known"
    if any(method.get("stopping") for method in (record.method, *(part.method for part in record.merged or []))):
        return "; the set was chosen on them too (method.stopping)"
    return ""


def warn_of_edge(group: tuple[str, str, str], tried: list[dict[str, Any]]) -> None:
    """Warn if the best of the tried rates has no neighbour on one side."""
    best, rates = _best(tried)["lr"], [found["lr"] for found in tried]
    for edge, word in ((min(rates), "lowest"), (max(rates), "highest")):
        if best == edge:
            where = " ".join(group)
            warn(f"tuned {where}: the {word} rate that was tried, {best:g}, is the best; better ones may lie beyond")


def _rates(bench: Bench, cell: Cell) -> list[Protocol]:
    protocol, family = bench.protocol(cell), _family(bench, cell)
    base = family.lr if family.lr is not None else protocol.lr
    fixed = {"tuned": True, "weight_decay": family.weight_decay}
    return [protocol.model_copy(update={**fixed, "lr": base * factor}) for factor in RATES]


def _decays(bench: Bench, cell: Cell, best: dict[str, Any]) -> list[Protocol]:
    protocol = bench.protocol(cell).model_copy(update={"tuned": True, "lr": best["lr"]})
    base = _family(bench, cell).weight_decay
    return [protocol.model_copy(update={"weight_decay": base * factor}) for factor in DECAYS if factor != 1.0]


def _family(bench: Bench, cell: Cell) -> Any:
    return fit.family_of(bench.network(cell.arch), bench.protocol(cell))


def _run(
    bench: Bench, cell: Cell, protocols: list[Protocol], folder: Path, engine: jobs.Engine
) -> list[dict[str, Any]]:
    """Make every missing file of a candidate, and read all."""
    paths = {folder / _file_name(bench, cell, protocol): protocol for protocol in protocols}
    made = {path: functools.partial(_work, bench, cell, protocol) for path, protocol in paths.items()}
    jobs.run_all(made, engine, name=f"tuning {cell.arch} {cell.protocol} {cell.data}")
    return [_tried(path) for path in paths]


def _tried(path: Path) -> dict[str, Any]:
    """The result of one candidate.

    Raises:
        UserError: naming a malformed file. The folder may be a stranger's.
    """
    found = strict_json.known(path)
    numbers = [found.get(name) for name in ("lr", "weight_decay", "validation_top1", "seconds")]
    if not all(isinstance(number, int | float) and number >= 0 for number in numbers):
        raise UserError(
            f"{path}: is no candidate that was tried", next=f"rm {quoted(path)}, then the same command again"
        )
    return found


def _file_name(bench: Bench, cell: Cell, protocol: Protocol) -> str:
    key = [manifest.identity(bench.set.manifest.files), cell.arch, cell.data, protocol.model_dump()]
    key += filter(None, [architectures.code_of(cell.arch)])
    if protocol.schedule and protocol.optimizer == "sgd":  # candidates of earlier versions did without it
        key.append(_family(bench, cell).schedule)
    return f"{files.safe_name(frozen.title(cell.arch))}-{cell.protocol}-{cell.data}-{files.digest(key)[:12]}.json"


def _work(bench: Bench, cell: Cell, protocol: Protocol, path: Path) -> None:
    """Train one candidate and score it on validation data."""
    begun = time.monotonic()
    network = bench.network(cell.arch)
    examples = workbench.examples(bench, cell)
    seed = seeds.derive(0, "tune")  # a seed that no row uses
    try:
        with progress.busy(f"{cell.arch} {cell.protocol} {cell.data} lr {protocol.lr:g}"):
            weights = fit.fit(network, examples, protocol, seed, teach=workbench.teach(bench, cell))[-1]
        top1 = fit.accuracy(network, weights, bench.real(cell.arch, bench.train, bench.validation))
    except fit.Diverged:  # a rate that is too high is an answer
        top1 = 0.0
    found = {"lr": protocol.lr, "weight_decay": protocol.weight_decay, "validation_top1": top1}
    files.write_json(path, {**found, "seconds": round(time.monotonic() - begun, 2)})


def _best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """The candidate with the highest validation accuracy; among equals, the first."""
    return max(tried, key=lambda found: found["validation_top1"])


def _choice(group: tuple[str, str, str], tried: list[dict[str, Any]]) -> Tuned:
    best = _best(tried)
    seconds = round(sum(found["seconds"] for found in tried), 1)
    return Tuned(*group, best["lr"], best["weight_decay"], best["validation_top1"], len(tried), seconds)
