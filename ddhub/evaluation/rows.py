"""Rows of an evaluation: one JSON file per training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from ddhub.artifact.manifest import Manifest, identity
from ddhub.base import files, limits, links, redact, strict_json
from ddhub.base.document import Document
from ddhub.base.errors import UserError, quoted
from ddhub.base.schema import check
from ddhub.base.units import listed, size
from ddhub.evaluation import protocols

FORMAT = 1
# The keys that decide a row's accuracy. All but the user's changes of the protocol make its file's name (row_names.py).
TRAINING = (
    *("payload", "arch", "protocol", "protocol_version", "overrides", "data", "seed", "settings", "family"),
    *("test_set", "test", "train", "weights", "code"),
)
USUAL_PRECISION = "float32"  # of rows that do not name theirs


def _name(value: str) -> str:
    if not 0 < len(value) <= limits.NAME or not redact.is_text(value):
        raise ValueError(f"no text of one line, 1 to {limits.NAME} characters")
    return value


Name = Annotated[str, AfterValidator(_name)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Corrupted(Document):
    """Test accuracies on corrupted images, as ddhub/evaluation/corruptions.py makes them."""

    version: int = Field(description="Version of the corruptions.")
    severity: int = Field(description="Severity, of 5.")
    mean: Fraction = Field(description="Mean test accuracy over the corruptions, a fraction.")
    top1: dict[str, Fraction] = Field(description="Test accuracy by corruption.")


ANEW = "(test part drawn anew)"  # ends the name of test images that can hold images the set was distilled from
FEW_COPIES = 0.01  # share of test images that are training images, above which there is a warning


class Row(Document):
    """One training: architecture, data, protocol, seed, and accuracy on the test images."""

    format: int = Field(default=FORMAT, description="Version of the format.")
    set: str = Field(default="", description="Name of the set, or `owner/name@commit`.")
    payload: Name = Field(default="", description="Identity of the set's files.")
    arch: Name = Field(description="Architecture.")
    protocol: Name = Field(description="Protocol by name.")
    protocol_version: int | None = Field(default=None, description="Version of the protocol. null in older rows.")
    data: Name = Field(description="`distilled`, a baseline, or `full`.")
    seed: int = Field(strict=True, description="Seed of initial weights, order and augmentation.")
    top1: Fraction = Field(description="Test accuracy, a fraction.")
    corrupted: Corrupted | None = Field(default=None, description="Result of `--corruptions`. null if not tested.")
    test_set: Name = Field(description="Name of the test images.")
    test: Name = Field(description="Fingerprint of the test images.")
    test_images: int | None = Field(default=None, description="Number of test images.")
    classes: int | None = Field(default=None, gt=0, description="Number of classes. null in older rows.")
    test_copies: int | None = Field(
        default=None,
        ge=0,
        description="Number of test images that are also training images of the source, pixel by pixel. null: unknown.",
    )
    train_images: int | None = Field(default=None, description="Number of training images.")
    epochs: int | None = Field(default=None, description="Passes over the images.")
    lr: float | None = Field(default=None, description="Learning rate.")
    optimizer: str | None = Field(default=None, description="Optimiser.")
    overrides: list[Name] = Field(default_factory=list, description="Changes of the protocol by `--set`.")
    seconds: Amount | None = Field(default=None, description="Seconds of the training.")
    flops: Amount | None = Field(default=None, description="Estimated FLOPs of the training, without teachers.")
    train_bytes: int | None = Field(default=None, ge=0, description="Stored bytes of the training images and labels.")
    device: str | None = Field(default=None, description="Device of torch.")
    hardware: Name | None = Field(default=None, description="Processor or GPU.")
    decisions: dict[str, Any] = Field(
        default_factory=dict, description="Choices of ddhub: threads, compiling, precision."
    )
    train: str | None = Field(default=None, description="Fingerprint of the train split, if it was trained on.")
    settings: dict[str, Any] = Field(default_factory=dict, description="The whole protocol.")
    family: dict[str, Any] = Field(default_factory=dict, description="Optimiser settings of the architecture's family.")
    weights: str | None = Field(default=None, description="Hash of a frozen backbone's weights.")
    code: str | None = Field(default=None, description="Hash of the file that defines a package's architecture.")
    tuned: dict[str, Any] | None = Field(default=None, description="Choice of `--tune`.")
    versions: dict[str, Any] = Field(default_factory=dict, description="Versions of libraries.")
    _content: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_content(cls, value: Any, build: ModelWrapValidatorHandler["Row"]) -> "Row":
        row = build(value)
        if isinstance(value, dict):
            row._content = value
        return row

    @property
    def content(self) -> dict[str, Any]:
        """Keys and values of the row's file, in its order."""
        return self._content

    @property
    def outdated(self) -> bool:
        """Whether its protocol has another version at present. Rows without a version are older than all."""
        present = protocols.version(self.protocol)
        return present is not None and self.protocol_version != present

    @property
    def protocol_title(self) -> str:
        """The protocol with the user's overrides, `native epochs=50`, and its version if that is an older one."""
        told = self.outdated and self.protocol_version is not None
        return " ".join([self.protocol, *([f"version {self.protocol_version}"] if told else []), *self.overrides])

    @property
    def precision(self) -> str:
        """The precision of the training."""
        return str(self.decisions.get("precision", USUAL_PRECISION))

    @property
    def training(self) -> str:
        """A hash of all that decides the accuracy. Rows that share it are copies of one training."""
        return files.digest({"precision": self.precision, **{key: getattr(self, key) for key in TRAINING}})

    def __repr__(self) -> str:
        return f"<Row {self.arch} {self.protocol} {self.data} seed {self.seed}: {100 * self.top1:.1f}%>"


def read(path: Path) -> Row:
    """Read one row.

    Raises:
        UserError: naming a file that is not one.
    """
    try:
        row, faults = check(Row, strict_json.read(path, limits.ROW_BYTES, limits.ROW_VALUES))
    except UserError as unreadable:
        row, faults = None, [unreadable.args[0].removeprefix(f"{path}: ")]
    if row is None:
        raise UserError(f"{path}: not an evaluation row ({faults[0]})", next=f"rm {quoted(path)}, then evaluate again")
    return row


def paths(folder: Path) -> list[Path]:
    """The row files in a folder, sorted.

    Raises:
        UserError: for too many rows, or a row file that is a link out of the set.
    """
    links.refuse_led_out(folder / "row.json")
    found = sorted(folder.glob("*.json"))
    linked = next((path for path in found if path.is_symlink() and links.leads_out(folder.parent, path)), None)
    if linked is not None:
        raise UserError(f"{linked}: is a link that leads out of the folder; refused", next=f"rm {quoted(linked)}")
    if len(found) > limits.ROWS:
        raise UserError(f"{folder}: {len(found)} rows, more than the {limits.ROWS} that are read")
    total = sum(path.lstat().st_size for path in found)
    if total > limits.ROWS_BYTES:
        raise UserError(f"{folder}: its rows have {size(total)}, more than the {size(limits.ROWS_BYTES)} that are read")
    return found


def of(record: Manifest, folder: Path) -> list[Row]:
    """All rows in a folder that belong to a set's current payload."""
    payload = identity(record.files)
    found = [read(path) for path in paths(folder)]
    return [row for row in found if row.payload == payload]


def each_once(rows: Sequence[Row]) -> tuple[list[Row], str | None]:
    """The first row of every training, and a sentence on copies, which would feign more seeds; None without copies.

    Files are copied by hand or by a cloud drive.
    """
    kept: dict[str, Row] = {}
    copies = [row for row in rows if kept.setdefault(row.training, row) is not row]
    names = list(dict.fromkeys(f"{row.arch} {row.protocol} {row.data} seed {row.seed}" for row in copies))
    told = f"{len(copies)} of {len(rows)} rows are copies of others, and are not counted ({listed(names, 3)})"
    return list(kept.values()), told if copies else None
