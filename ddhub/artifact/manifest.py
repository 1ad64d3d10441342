"""The manifest (`ddhub.json`): what nobody can guess about a distilled set afterwards. Validated on read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ddhub.base import files, limits, redact, strict_json
from ddhub.base.errors import UserError
from ddhub.base.files import json_bytes
from ddhub.base.schema import Strict, check
from ddhub.training.protocol import AUGMENTATIONS, Protocol

MOST_GROUPS = 2**15  # column `group` counts in 16 bits
NAME, NAME_LENGTH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), 96  # what a set may be called
NO_NAME = "{name!r} is no name for a set: letters, digits, . _ and - only, at most 96, the first a letter or a digit"


def check_name(name: str) -> str:
    """A name for a set, as it is.

    Raises:
        UserError: for one that a repo or a folder could not have.
    """
    if not is_name(name):
        raise UserError(NO_NAME.format(name=name), next="--name NAME")
    return name


def is_name(name: str) -> bool:
    """Whether a set may be called so."""
    return NAME.fullmatch(name) is not None and len(name) <= NAME_LENGTH


Fraction = Field(ge=0, le=1)
ON_THE_FLY = ("teachers", "teacher")  # labels that are made of every augmented view
Groups = Field(default=1, gt=0, le=MOST_GROUPS)


class SourceRecord(Strict):
    """Which real data the set was made from."""

    dataset: str = Field(min_length=1)
    revision: str | None
    config: str | None = None
    fingerprint: str
    image: str
    label: str
    train: str
    test: str
    hold_out: float | None = Field(default=None, gt=0, lt=0.9)  # share of `train` that is tested on; null: `test` is
    validation: float = Field(gt=0, lt=0.9)
    split_seed: int
    resolution: int = Field(ge=4, le=limits.SIDE)
    channels: Literal[1, 3]
    license: str | None

    @field_validator("test")
    @classmethod
    def _splits_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("train"):
            raise ValueError(f"trains and tests on the same split, {value[:60]!r}")
        return value


class PreprocessRecord(Strict):
    """How pixels become network inputs: (x - mean) / std, or the whitening in the file named by `zca`."""

    mean: list[float]
    std: list[float]
    statistics: Literal["fitted", "field"] = "fitted"  # mean and std: of the training images, or the field's constants
    zca: str | None = None
    per_image: bool = False  # mean and std first, then every image centred and of norm 1, then `zca` (KIP's whitening)
    pixels_space: Literal["input"] | None = None  # the space of column `pixels`, where there is one
    clipped: float = Fraction  # share of values that 8-bit pixels clip


class LabelRecord(Strict):
    """What column `soft_label` holds; `regression` are targets that are neither logits nor probabilities (KIP's)."""

    form: Literal["logits", "probabilities", "regression", "hard"]
    temperature: float = Field(default=1.0, gt=0)
    teachers: Literal["mean", "one"] | None = None
    top_k: int | None = Field(default=None, gt=0)  # how many classes `soft_index` names, where not all are stored
    rest: float | None = None  # what the others count as: their mean over the whole set


class TeacherRecord(Strict):
    """One shipped teacher."""

    arch: str
    file: str
    validation_top1: float = Fraction


class Packaging(Strict):
    """Validation accuracy of the set before and after packaging, mean over `seeds` networks."""

    arch: str
    seeds: int
    validation_top1_float: float = Fraction  # the floats in memory
    validation_top1_8bit: float | None = Field(default=None, ge=0, le=1)  # 8-bit pixels alone
    validation_top1_packaged: float = Fraction  # what is shipped: those, or column `pixels`


class Made(Strict):
    """Where, with what and how fast the set was made."""

    ddhub: str
    torch: str
    device: str | None = None  # this and what follows is not known of imported sets
    seconds: float | None = None
    phases: dict[str, float] = Field(default_factory=dict)  # seconds of each; teachers as they took when trained
    peak_bytes: int | None = None
    recipe_hash: str | None = None
    overrides: list[str] = Field(default_factory=list)
    decisions: dict[str, Any] = Field(default_factory=dict)


class FileRecord(Strict):
    """Hash and size of one payload file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Imported(Strict):
    """Where a set that was made elsewhere came from."""

    layout: str
    files: dict[str, FileRecord]  # what was read, by name
    notes: list[str] = Field(default_factory=list)  # what the importer's table said that the files do not


class Nearness(Strict):
    """How far synthetic images are from their nearest training image, beside held-out real images' distances."""

    median: float  # of synthetic images
    median_held_out: float  # of real images that are not in the training part
    copies: float = Fraction  # share of synthetic images nearer than 99% of the held-out ones


class Memorisation(Strict):
    """The nearest-training-image check; `assets/nearest.png` shows the nearest pairs."""

    checked: int  # synthetic images that were looked at
    pixels: Nearness  # root mean square difference of pixels in [0, 1]
    features: Nearness | None = None  # cosine distance between features of the first teacher


# How many images each class has, in the order of the classes; None where all have `ipc`.
Unequal = Annotated[list[int] | None, Field(max_length=limits.CLASSES)]


class Part(Strict):
    """One of the sets that a set was merged of: what its own manifest said."""

    name: str
    hub: str | None = None  # owner/name@commit, where it came from the Hub
    payload: str  # digest of its files' hashes, as the rows of its evaluation carry it
    ipc: int = Field(gt=0)
    unequal: Unequal = None
    groups: int = Groups
    seed: int | None = None
    init: str | None = None
    method: dict[str, Any]
    packaging: Packaging | None = None
    memorisation: Memorisation | None = None
    made: Made


class ByteCounts(Strict):
    """Storage by purpose, in bytes."""

    images: int
    labels: int
    preprocess: int
    teachers: int


class Manifest(Strict):
    """The whole manifest, format 1."""

    format: Literal[1] = 1
    name: str
    ipc: int = Field(gt=0)  # images of every class; where they differ, of the largest
    unequal: Unequal = None
    classes: list[str] = Field(min_length=1, max_length=limits.CLASSES)
    wnids: list[str] | None = None
    source: SourceRecord
    preprocess: PreprocessRecord
    labels: LabelRecord
    teachers: list[TeacherRecord]
    protocol: Protocol
    method: dict[str, Any]
    seed: int | None = None
    init: str | None = None
    groups: int = Groups  # made independently; of several, column `group` says which
    # The sets that it was joined of; their groups are numbered through.
    merged: list[Part] | None = Field(default=None, max_length=MOST_GROUPS)
    packaging: Packaging | None = None
    memorisation: Memorisation | None = None
    imported: Imported | None = None
    repo_id: str | None = None  # where it was last pushed, for the card
    made: Made
    files: dict[str, FileRecord]
    bytes: ByteCounts

    @property
    def home_arch(self) -> str:
        """The architecture that a set is scored with when nobody names one: its teachers', or packaging's."""
        if self.teachers:
            return self.teachers[0].arch
        known = [self.packaging, *(part.packaging for part in self.merged or [])]
        return next((packaging.arch for packaging in known if packaging), "convnet")

    @property
    def parts(self) -> Sequence["Part | Manifest"]:
        """The sets that were made as a whole: those that it was joined of, or itself."""
        return self.merged or [self]

    @property
    def counts(self) -> list[int]:
        """Images of every class, in the order of the classes."""
        return self.unequal or [self.ipc] * len(self.classes)

    @property
    def ipc_text(self) -> str:
        """Images per class in words: `10`, or `3 to 12`."""
        return ipc_text(self.counts)

    @property
    def counts_of_groups(self) -> list[list[int]]:
        """Images of every class of every group, in order."""
        each = [part.unequal or [part.ipc // part.groups] * len(self.classes) for part in self.parts]
        return [counts for part, counts in zip(self.parts, each, strict=True) for _ in range(part.groups)]


def ipc_text(counts: Sequence[int]) -> str:
    """Images per class in words: `10`, or `3 to 12`."""
    low, high = min(counts), max(counts)
    return str(high) if low == high else f"{low} to {high}"


def read(folder: Path) -> Manifest:
    """Read and validate the manifest of an artifact folder.

    Raises:
        UserError: where there is none, or with every fault in it.
    """
    path = folder / "ddhub.json"
    if not path.is_file():
        what = "holds no ddhub.json, so it is no ddhub artifact" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {what}", next="ddhub distill RECIPE makes one")
    return _validated(strict_json.read(path), str(path))


def parse(content: bytes, where: str = "ddhub.json") -> Manifest:
    """Validate a manifest's bytes.

    Raises:
        UserError: with every fault, each opening with `where`.
    """
    return _validated(strict_json.parse(content, where), where)


def _validated(data: Any, where: str) -> Manifest:
    manifest, faults = check(Manifest, data)
    if manifest is None:
        raise UserError("\n".join(f"{where}: {fault}" for fault in faults))
    return manifest


def contradictions(record: Manifest, where: str) -> list[str]:
    """The manifest against itself: one line per fault, opening with `where`."""
    found = [*_counts(record), *_training(record), *_preprocessing(record)]
    if len(set(record.classes)) != len(record.classes):
        found.append("classes: a name is there twice")
    if record.wnids is not None and len(record.wnids) != len(record.classes):
        found.append(f"wnids: {len(record.wnids)} for {len(record.classes)} classes")
    if record.wnids is not None and len(set(record.wnids)) != len(record.wnids):
        found.append("wnids: one is there twice")
    if not isinstance(record.method.get("name"), str):
        found.append("method.name: missing, or no text")
    odd = next((n for n in record.classes if not redact.is_text(n) or len(n) > limits.CLASS_NAME), None)
    if odd is not None:
        found.append(f"classes: {odd[:60]!r} is no text of one line of {limits.CLASS_NAME} characters or less")
    return [f"{where}: {fault}" for fault in found]


def _counts(record: Manifest) -> list[str]:
    """Images, groups and bytes, which must add up."""
    found = []
    if any(part.ipc % part.groups for part in record.parts):
        found.append("groups: do not divide ipc")
    equal = all(part.unequal is None for part in record.parts)
    sums = (sum(part.ipc for part in record.parts), sum(part.groups for part in record.parts))
    if sums != (record.ipc if equal else sums[0], record.groups):
        found.append(f"merged: its parts do not add up to {record.ipc} images per class and the groups")
    found += _unequal(record)
    if record.labels.top_k is not None and record.labels.rest is None:
        found.append("labels.rest: missing, with labels.top_k given")
    if (record.labels.top_k or 0) > len(record.classes):
        found.append(f"labels.top_k: {record.labels.top_k} of {len(record.classes)} classes")
    data = sum(file.bytes for name, file in record.files.items() if name.startswith("data/"))
    if record.bytes.images + record.bytes.labels != data:
        found.append(f"bytes: images and labels do not add up to the data files' {data}")
    return found


def _unequal(record: Manifest) -> list[str]:
    """Counts that differ between classes."""
    found = []
    for counts, ipc, groups, where in [
        (record.unequal, record.ipc, 1, "unequal"),
        *((part.unequal, part.ipc, part.groups, f"merged: unequal of '{part.name}'") for part in record.merged or []),
    ]:
        if counts is not None and (len(counts) != len(record.classes) or min(counts) < 0 or max(counts) != ipc):
            found.append(f"{where}: is not one count per class, of which ipc {ipc} is the largest")
        if counts is not None and groups > 1:
            found.append(f"{where}: a set of {groups} groups has as many images of every class")
    if not found and [sum(column) for column in zip(*record.counts_of_groups, strict=True)] != record.counts:
        found.append("unequal: its groups do not add up to the images of every class")
    return found


def _training(record: Manifest) -> list[str]:
    """The protocol, which must be one that can be trained by."""
    protocol, found = record.protocol, []
    if protocol.loss in ("l1_logits", "soft_ce", "mse") and record.labels.form == "hard":
        found.append(f"protocol.loss '{protocol.loss}' needs soft labels, and labels.form is hard")
    elif protocol.loss == "kl" and record.labels.form == "hard" and protocol.labels == "stored":
        found.append("protocol.loss 'kl' needs soft labels, and labels.form is hard")
    if protocol.labels == "hard" and protocol.loss != "ce":
        found.append(f"protocol.loss '{protocol.loss}' needs soft labels, and protocol.labels is hard")
    if protocol.labels in ON_THE_FLY and not record.teachers:
        found.append("protocol.labels: no teachers are shipped to label with")
    if protocol.augment not in ("dsa", "none"):
        words = protocol.augment.split("+" if "+" in protocol.augment else "_")
        found += [f"protocol.augment: no operation {word[:60]!r}" for word in words if word not in AUGMENTATIONS][:1]
    return found


def _preprocessing(record: Manifest) -> list[str]:
    """Statistics, one of each per channel."""
    known, channels, found = record.preprocess, record.source.channels, []
    if len(known.mean) != channels or len(known.std) != channels:
        found.append(f"preprocess: mean and std need {channels} values, one per channel")
    if min(known.std, default=0) <= 0:
        found.append("preprocess.std: must be positive")
    return found


def dump(record: Manifest) -> bytes:
    """A manifest's bytes, as `ddhub.json` holds them."""
    return json_bytes(record.model_dump(mode="json"))


def identity(records: dict[str, FileRecord]) -> str:
    """What a row was measured on: the payload's hashes."""
    return files.digest({name: record.sha256 for name, record in records.items()})
