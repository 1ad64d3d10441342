"""The manifest (`ddhub.json`): what nobody can guess about a distilled set afterwards. Validated on read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.records import (
    MOST_GROUPS,
    ON_THE_FLY,
    ByteCounts,
    FileRecord,
    Groups,
    Imported,
    LabelRecord,
    Making,
    Memorisation,
    Packaging,
    Part,
    PreprocessRecord,
    SourceRecord,
    TeacherRecord,
    Unequal,
)
from ddhub.base import files, limits, redact, strict_json
from ddhub.base.errors import UserError
from ddhub.base.files import json_bytes
from ddhub.base.schema import Count, Strict, check
from ddhub.data.catalog import LICENSES
from ddhub.training.protocol import AUGMENTATIONS, Protocol


class Manifest(Strict):
    """The whole manifest, format 1."""

    format: Literal[1] = Field(default=1, description="Version of the format.")
    name: str = Field(description="Name of the set.")
    ipc: Count = Field(description="Images of every class; where they differ, of the largest.")
    unequal: Unequal = Field(default=None, description="Images of every class, where they differ.")
    classes: list[str] = Field(
        min_length=1, max_length=limits.CLASSES, description="Names of the classes, in the order of `label`."
    )
    wnids: list[str] | None = Field(default=None, description="WordNet ids of the classes, of ImageNet's family.")
    source: SourceRecord = Field(description="The real images.")
    preprocess: PreprocessRecord = Field(description="From pixels to network inputs.")
    labels: LabelRecord = Field(description="Meaning of column `soft_label`.")
    teachers: list[TeacherRecord] = Field(description="The shipped teachers.")
    protocol: Protocol = Field(description="How the set is meant to be trained on.")
    method: dict[str, Any] = Field(description="`name` of the method, and its settings.")
    seed: int | None = Field(default=None, description="Seed of the recipe.")
    init: str | None = Field(default=None, description="What the images started as: `real`, `easy` or `noise`.")
    groups: Groups = Field(default=1, description="Parts that were made apart. Column `group` numbers them.")
    merged: list[Part] | None = Field(
        default=None, max_length=MOST_GROUPS, description="Sets that this one was joined of."
    )
    packaging: Packaging | None = Field(default=None, description="What packaging cost.")
    memorisation: Memorisation | None = Field(default=None, description="Check for copies of training images.")
    imported: Imported | None = Field(default=None, description="Origin of a set that others made.")
    repo_id: str | None = Field(default=None, description="Hub repo that it was last pushed to.")
    made: Making = Field(description="Where and with what it was made.")
    files: dict[str, FileRecord] = Field(description="Hash and size of every payload file.")
    bytes: ByteCounts = Field(description="Storage by purpose.")

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
    def license(self) -> str:
        """The licence of the source, `unknown` where nobody said."""
        return self.source.license or LICENSES.get(self.source.dataset, "unknown")

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
    path = folder / MANIFEST
    if not path.is_file():
        raise no_set(folder)
    return _validated(strict_json.read(path), str(path))


def no_set(place: Path) -> UserError:
    """Why a path is no set: it is a part of one, something else, or nothing; with the next command."""
    around = [above for above in place.absolute().parents if (above / MANIFEST).is_file()][:1]
    if place.exists() and around:
        kind = "folder" if place.is_dir() else "file"
        return UserError(f"{place}: is a {kind} of the set {around[0]}", next=f"the same command with {around[0]}")
    if place.is_dir():
        return UserError(
            f"{place}: holds no ddhub.json, so it is no ddhub artifact", next="ddhub distill RECIPE makes one"
        )
    if place.exists():
        return UserError(f"{place}: is a file, not the folder of a set", next=f"ls {place.absolute().parent}")
    return UserError(f"{place}: no such folder", next="a folder, or the id of a Hub dataset, owner/name")


def parse(content: bytes, where: str = MANIFEST) -> Manifest:
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
    listed = [part.unequal for part in record.parts if part.unequal is not None]
    alike = sum(part.ipc for part in record.parts if part.unequal is None)
    if not found and (listed or record.unequal):
        sums = [sum(column) + alike for column in zip(*listed, strict=True)] or [alike] * len(record.classes)
        if sums != record.counts:
            found.append("unequal: its parts do not add up to the images of every class")
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
    return found


def dump(record: Manifest) -> bytes:
    """A manifest's bytes, as `ddhub.json` holds them."""
    return json_bytes(record.model_dump(mode="json"))


def identity(records: dict[str, FileRecord]) -> str:
    """What a row was measured on: the payload's hashes."""
    return files.digest({name: record.sha256 for name, record in records.items()})
