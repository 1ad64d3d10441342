"""Rows of an evaluation: one JSON file per training, and what they say together."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddhub import files
from ddhub.errors import UserError
from ddhub.manifest import FileRecord, Manifest

FORMAT = 1


def identity(records: dict[str, FileRecord]) -> str:
    """What a row was measured on: the payload's hashes."""
    return files.digest({name: record.sha256 for name, record in records.items()})


def read(path: Path) -> dict[str, Any]:
    """Read one row.

    Raises:
        UserError: naming a file that is not one.
    """
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        float(row["top1"]), row["arch"], row["protocol"], row["data"], row["seed"], row["test_set"], row["test"]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UserError(f"{path}: not an evaluation row ({fault})", next=f"rm {path}, then evaluate again") from fault
    return row


def of(record: Manifest, folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder that belong to a set's payload as it is now."""
    payload = identity(record.files)
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return [row for row in found if row.get("payload") == payload]


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, sample standard deviation, n and 95% interval (Student's t) per architecture, protocol, data, test."""
    from scipy import stats

    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ("arch", "protocol", "data", "test_set", "test")), []).append(
            row["top1"]
        )
    summary = []
    for (arch, protocol, data, test_set, _), values in groups.items():
        n, mean = len(values), sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 else None
        half = None if std is None else float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
        interval = None if half is None else [mean - half, mean + half]
        group = {"arch": arch, "protocol": protocol, "data": data, "test_set": test_set}
        summary.append({**group, "mean": mean, "std": std, "n": n, "ci95": interval})
    return summary
