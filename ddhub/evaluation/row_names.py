"""The file names of rows: architecture, protocol, data and seed, with a hash of all that decides the accuracy."""

from dataclasses import asdict
from typing import Any

from ddhub.artifact import manifest
from ddhub.base import files
from ddhub.evaluation import protocols as named
from ddhub.evaluation.request import Cell
from ddhub.evaluation.rows import FORMAT
from ddhub.evaluation.workbench import Bench
from ddhub.training import architectures, fit, frozen


def key(bench: Bench, cell: Cell) -> dict[str, Any]:
    """Everything on which a row's accuracy depends, except the machine."""
    protocol = bench.protocol(cell)
    return {
        "format": FORMAT,
        "payload": manifest.identity(bench.set.manifest.files),
        "arch": frozen.title(cell.arch),
        "protocol": cell.protocol,
        "protocol_version": named.version(cell.protocol),
        "data": cell.data,
        "seed": cell.seed,
        "settings": protocol.model_dump(),
        "family": asdict(fit.family_of(bench.network(cell.arch), protocol)),
        "test": bench.test.fingerprint,
        "train": bench.train.fingerprint if bench.train and cell.data != "distilled" else None,
        **({"code": code} if (code := architectures.code_of(cell.arch)) else {}),
        **({"weights": frozen.load(cell.arch).weights} if frozen.is_frozen(cell.arch) else {}),
    }


def file_name(bench: Bench, cell: Cell) -> str:
    """The name of a row's file. It ends with a hash of the row's key."""
    name = files.safe_name(frozen.title(cell.arch))
    return f"{name}-{cell.protocol}-{cell.data}-s{cell.seed}-{files.digest(key(bench, cell))[:8]}.json"
