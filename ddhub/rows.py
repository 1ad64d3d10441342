"""Rows of an evaluation: one JSON file per training, and what they say together."""

import json
import math
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
        if not math.isfinite(row["top1"]) or not isinstance(row["seed"], int):
            raise ValueError("top1 or seed is no number")
        if not all(isinstance(row[name], str) for name in ("arch", "protocol", "data", "test_set", "test")):
            raise ValueError("a name is no text")
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UserError(f"{path}: not an evaluation row ({fault})", next=f"rm {path}, then evaluate again") from fault
    return row


def of(record: Manifest, folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder that belong to a set's payload as it is now."""
    payload = identity(record.files)
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return [row for row in found if row.get("payload") == payload]
