"""Rows of an evaluation: one JSON file per training, and what they say together."""

import math
from pathlib import Path
from typing import Any

from pydantic import Field

from ddhub.artifact.manifest import Manifest, identity
from ddhub.base import files, limits, redact, strict_json
from ddhub.base.document import Document
from ddhub.base.errors import UserError
from ddhub.base.schema import check
from ddhub.base.units import size

FORMAT = 1
NAMES = ("arch", "protocol", "data", "test_set", "test")


class Corrupted(Document):
    """Test accuracies on corrupted images; ddhub/evaluation/corruptions.py says which."""

    version: int = Field(description="Version of the corruptions.")
    severity: int = Field(description="Severity, of 5.")
    mean: float = Field(description="Mean test accuracy over the corruptions, a fraction.")
    top1: dict[str, float] = Field(description="Test accuracy by corruption.")


class Row(Document):
    """One training: what was trained on what and how, and its accuracy on the test images."""

    format: int = Field(default=FORMAT, description="Version of the format.")
    set: str = Field(default="", description="Name of the set, or `owner/name@commit`.")
    payload: str = Field(default="", description="Identity of the set's files.")
    arch: str = Field(description="Architecture.")
    protocol: str = Field(description="Protocol by name.")
    protocol_version: int | None = Field(default=None, description="Version of the protocol. null: older than these.")
    data: str = Field(description="`distilled`, a baseline, or `full`.")
    seed: int = Field(description="Seed of initial weights, order and augmentation.")
    top1: float = Field(description="Test accuracy, a fraction.")
    corrupted: Corrupted | None = Field(default=None, description="Of `--corruptions`. null: not tested.")
    test_set: str = Field(description="What people call the test images.")
    test: str = Field(description="Fingerprint of the test images.")
    test_images: int | None = Field(default=None, description="Number of test images.")
    train_images: int | None = Field(default=None, description="Number of images that were trained on.")
    epochs: int | None = Field(default=None, description="Passes over the images.")
    lr: float | None = Field(default=None, description="Learning rate.")
    optimizer: str | None = Field(default=None, description="Optimiser.")
    overrides: list[str] = Field(default_factory=list, description="What `--set` changed in the protocol.")
    seconds: float | None = Field(default=None, description="Seconds of the training.")
    flops: float | None = Field(default=None, description="FLOPs of the training, about. Teachers' are not counted.")
    train_bytes: int | None = Field(
        default=None, description="Bytes of the images and labels that were trained on, as they are stored."
    )
    device: str | None = Field(default=None, description="Device of torch.")
    hardware: str | None = Field(default=None, description="Processor or GPU.")
    decisions: dict[str, Any] = Field(
        default_factory=dict, description="What the machine decided: threads, compiling, precision."
    )
    train: str | None = Field(default=None, description="Fingerprint of the train split, where it was trained on.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Protocol in full.")
    family: dict[str, Any] = Field(default_factory=dict, description="How the architecture's family is optimised.")
    weights: str | None = Field(default=None, description="Hash of a frozen backbone's weights.")
    tuned: dict[str, Any] | None = Field(default=None, description="What `--tune` chose.")
    versions: dict[str, Any] = Field(default_factory=dict, description="Versions of libraries.")

    def __repr__(self) -> str:
        return f"<Row {self.arch} {self.protocol} {self.data} seed {self.seed}: {100 * self.top1:.1f}%>"


def read(path: Path) -> dict[str, Any]:
    """Read one row.

    Raises:
        UserError: naming a file that is not one.
    """
    try:
        row = strict_json.read(path, limits.ROW_BYTES, limits.ROW_VALUES)
        fault = _fault(row)
    except UserError as unreadable:
        fault = unreadable.args[0].removeprefix(f"{path}: ")
    if fault is not None:
        raise UserError(f"{path}: not an evaluation row ({fault})", next=f"rm {path}, then evaluate again")
    found: dict[str, Any] = row
    return found


def _fault(row: Any) -> str | None:
    """What keeps a row from being one; what it says beyond this is nobody's business here."""
    if not isinstance(row, dict):
        return "no keys and values"
    missing = [name for name in ("top1", "seed", *NAMES) if name not in row]
    if missing:
        return f"no '{missing[0]}'"
    if not _number(row["top1"]) or type(row["seed"]) is not int:
        return "top1 or seed is no number"
    if not 0 <= row["top1"] <= 1:
        return f"top1 is {row['top1']}"
    if not all(_is_name(row[name]) for name in (*NAMES, *(name for name in ("hardware", "payload") if name in row))):
        return f"a name is no text of one line, 1 to {limits.NAME} characters"
    overrides = row.get("overrides", [])
    if not isinstance(overrides, list) or not all(map(_is_name, overrides)):
        return "overrides are no list of texts"
    for name in ("seconds", "flops", "train_bytes"):
        if row.get(name) is not None and not (_number(row[name]) and row[name] >= 0):
            return f"{name} is no number"
    return _fault_of_corrupted(row.get("corrupted"))


def _fault_of_corrupted(told: Any) -> str | None:
    """What keeps accuracies on corrupted images from being such."""
    if told is None:
        return None
    model, faults = check(Corrupted, told, "corrupted.")
    if model is None:
        return faults[0]
    values = [told["mean"], *told["top1"].values()]
    return None if all(_number(value) and 0 <= value <= 1 for value in values) else "corrupted: no accuracies"


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limits.NAME and redact.is_text(value)


def paths(folder: Path) -> list[Path]:
    """The row files in a folder, sorted.

    Raises:
        UserError: where there are more than any evaluation makes, or one is a link out of the set.
    """
    files.refuse_led_out(folder / "row.json")
    found = sorted(folder.glob("*.json"))
    linked = next((path for path in found if path.is_symlink() and files.leads_out(folder.parent, path)), None)
    if linked is not None:
        raise UserError(f"{linked}: is a link that leads out of the folder; refused", next=f"rm {linked}")
    if len(found) > limits.ROWS:
        raise UserError(f"{folder}: {len(found)} rows, more than the {limits.ROWS} that are read")
    total = sum(path.lstat().st_size for path in found)
    if total > limits.ROWS_BYTES:
        raise UserError(f"{folder}: its rows have {size(total)}, more than the {size(limits.ROWS_BYTES)} that are read")
    return found


def of(record: Manifest, folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder that belong to a set's payload as it is now."""
    payload = identity(record.files)
    found = [read(path) for path in paths(folder)]
    return [row for row in found if row.get("payload") == payload]
