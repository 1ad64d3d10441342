"""The manifest (`ddhub.json`): the facts about a set that its files do not show. It is validated on reading."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ddhub.artifact import run_state
from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.manifest_parts import (
    MOST_GROUPS,
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
from ddhub.base import files, limits, near_paths, redact, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.files import json_bytes
from ddhub.base.schema import Count, Strict, check
from ddhub.data.catalog import LICENSES
from ddhub.training.protocol import AUGMENTATIONS, Protocol


class Manifest(Strict):
    """The whole manifest, format 1."""

    format: Literal[1] = Field(default=1, description="Version of the format.")
    name: str = Field(description="Name of the set.")
    ipc: Count = Field(description="Images per class. If classes differ, the largest count.")
    unequal: Unequal = Field(default=None, description="Images of each class, if classes differ.")
    classes: list[str] = Field(
        min_length=1, max_length=limits.CLASSES, description="Names of the classes, in the order of `label`."
    )
    wnids: list[str] | None = Field(default=None, description="WordNet ids of the classes, for sets of ImageNet.")
    source: SourceRecord = Field(description="The real images.")
    preprocess: PreprocessRecord = Field(description="Preprocessing of pixels for networks.")
    labels: LabelRecord = Field(description="Meaning of column `soft_label`.")
    teachers: list[TeacherRecord] = Field(description="The shipped teachers.")
    protocol: Protocol = Field(description="How to train on the set.")
    method: dict[str, Any] = Field(
        description="`name` of the method, and its settings. Of a merged set: the names, and the settings that all "
        "parts share. `merged` has all settings of each."
    )
    seed: int | None = Field(default=None, description="Seed of the recipe.")
    init: str | None = Field(default=None, description="Start of the images: `real`, `easy` or `noise`.")
    groups: Groups = Field(default=1, description="Parts that were made independently. Column `group` numbers them.")
    merged: list[Part] | None = Field(
        default=None, max_length=MOST_GROUPS, description="Sets that were merged into this one."
    )
    packaging: Packaging | None = Field(default=None, description="Accuracy before and after packaging.")
    memorisation: Memorisation | None = Field(default=None, description="Check for copies of training images.")
    imported: Imported | None = Field(default=None, description="Origin of a set that others made.")
    repo_id: str | None = Field(default=None, description="Hub repo of the last push.")
    title: str | None = Field(
        default=None,
        description="Title of the card, if the recipe got another one after the set was made.",
        exclude_if=lambda title: title is None,  # key is newer than published manifests
    )
    made: Making = Field(description="Machine and software that made it.")
    files: dict[str, FileRecord] = Field(description="Hash and size of every payload file.")
    bytes: ByteCounts = Field(description="Storage by purpose.")

    @property
    def home_arch(self) -> str:
        """The default architecture for evaluation: that of the teachers, or that of packaging."""
        if self.teachers:
            return self.teachers[0].arch
        known = [self.packaging, *(part.packaging for part in self.merged or [])]
        return next((packaging.arch for packaging in known if packaging), "convnet")

    @property
    def parts(self) -> Sequence["Part | Manifest"]:
        """The sets that were distilled as a whole: the merged sets, or this one."""
        return self.merged or [self]

    @property
    def counts(self) -> list[int]:
        """Images of each class, in the order of the classes."""
        return self.unequal or [self.ipc] * len(self.classes)

    @property
    def stored_side(self) -> int:
        """The side of the stored images in pixels. Networks see them enlarged to `source.resolution`."""
        return self.source.resolution // self.preprocess.factor

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of a stored image."""
        return self.source.channels, self.stored_side, self.stored_side

    @property
    def license(self) -> str:
        """The licence of the source, `unknown` if none is recorded."""
        return self.source.license or LICENSES.get(self.source.dataset, "unknown")

    @property
    def ipc_text(self) -> str:
        """Images per class in words: `10`, or `3 to 12`."""
        return ipc_text(self.counts)

    @property
    def counts_of_groups(self) -> list[list[int]]:
        """Images of each class in each group."""
        each = [part.unequal or [part.ipc // part.groups] * len(self.classes) for part in self.parts]
        return [counts for part, counts in zip(self.parts, each, strict=True) for _ in range(part.groups)]


def ipc_text(counts: Sequence[int]) -> str:
    """Images per class in words: `10`, or `3 to 12`."""
    low, high = min(counts), max(counts)
    return str(high) if low == high else f"{low} to {high}"


def read(folder: Path) -> Manifest:
    """Read and validate the manifest of an artifact folder.

    Raises:
        UserError: if there is none, or listing every fault in it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise no_set(folder)
    return _validated(strict_json.read(path), str(path))


def no_set(place: Path) -> UserError:
    """The error for a path that is no set: it may be a part of a set, another file, or missing."""
    around = [above for above in place.absolute().parents if (above / MANIFEST).is_file()][:1]
    if place.exists() and around:
        kind = "folder" if place.is_dir() else "file"
        return UserError(f"{place}: is a {kind} of the set {around[0]}", next=f"the same command with {around[0]}")
    if run_state.is_unfinished(place):
        return UserError(
            f"{place}: holds a run that is not finished, and no set yet",
            next=f"ddhub distill RECIPE --out {quoted(place)}, as it was begun: it goes on",
        )
    if place.is_dir():
        return UserError(
            f"{place}: holds no ddhub.json, so it is no ddhub artifact", next="ddhub distill RECIPE makes one"
        )
    if place.exists():
        return UserError(f"{place}: is a file, not the folder of a set", next=f"ls {quoted(place.absolute().parent)}")
    then = near_paths.next_command(place, "a folder, or the id of a Hub dataset, owner/name")
    return UserError(f"{place}: no such folder{near_paths.instead(place)}", next=then)


def parse(content: bytes, where: str = MANIFEST) -> Manifest:
    """Validate a manifest's bytes.

    Raises:
        UserError: listing every fault. Each line opens with `where`.
    """
    return _validated(strict_json.parse(content, where), where)


def _validated(data: Any, where: str) -> Manifest:
    manifest, faults = check(Manifest, data)
    if manifest is None:
        raise UserError("\n".join(f"{where}: {fault}" for fault in faults))
    return manifest


def contradictions(record: Manifest, where: str) -> list[str]:
    """Contradictions within a manifest, one line each, opening with `where`."""
    found = [*_counts(record), *_training(record), *_preprocessing(record)]
    if len(set(record.classes)) != len(record.classes):
        found.append("classes: a name is there twice")
    if record.wnids is not None and len(record.wnids) != len(record.classes):
        found.append(f"wnids: {len(record.wnids)} for {len(record.classes)} classes")
    if record.wnids is not None and len(set(record.wnids)) != len(record.wnids):
        found.append("wnids: one is there twice")
    methods = {"": record.method} | {f"merged: '{part.name}': ": part.method for part in record.merged or []}
    nameless = [place for place, method in methods.items() if not isinstance(method.get("name"), str)]
    found += [f"{place}method.name: missing, or no text" for place in nameless]
    odd = next((n for n in record.classes if not redact.is_text(n) or len(n) > limits.CLASS_NAME), None)
    if odd is not None:
        found.append(f"classes: {odd[:60]!r} is no text of one line of {limits.CLASS_NAME} characters or less")
    return [f"{where}: {fault}" for fault in found]


def _counts(record: Manifest) -> list[str]:
    """Contradictions between counts of images, groups and bytes."""
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
    """Contradictions between unequal counts of classes."""
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
    """Contradictions in the protocol."""
    protocol, found = record.protocol, []
    if protocol.loss in ("l1_logits", "soft_ce", "mse") and record.labels.form == "hard":
        found.append(f"protocol.loss '{protocol.loss}' needs soft labels, and labels.form is hard")
    elif protocol.loss == "kl" and record.labels.form == "hard" and protocol.labels == "stored":
        found.append("protocol.loss 'kl' needs soft labels, and labels.form is hard")
    if protocol.labels == "hard" and protocol.loss != "ce":
        found.append(f"protocol.loss '{protocol.loss}' needs soft labels, and protocol.labels is hard")
    if protocol.on_the_fly and not record.teachers:
        found.append("protocol.labels: no teachers are shipped to label with")
    if protocol.augment not in ("dsa", "none"):
        words = protocol.augment.split("+" if "+" in protocol.augment else "_")
        found += [f"protocol.augment: no operation {word[:60]!r}" for word in words if word not in AUGMENTATIONS][:1]
    return found


def _preprocessing(record: Manifest) -> list[str]:
    """Statistics that do not fit the number of channels, and a factor that does not fit the resolution."""
    known, channels, found = record.preprocess, record.source.channels, []
    if record.source.resolution % known.factor:
        found.append(f"preprocess.factor: {known.factor} does not divide source.resolution {record.source.resolution}")
    if known.factor > 1 and known.zca is not None:
        found.append("preprocess.factor: a whitening is of whole images")
    if len(known.mean) != channels or len(known.std) != channels:
        found.append(f"preprocess: mean and std need {channels} values, one per channel")
    return found


def dump(record: Manifest) -> bytes:
    """The manifest as the bytes of `ddhub.json`."""
    return json_bytes(record.model_dump(mode="json"))


def identity(records: dict[str, FileRecord]) -> str:
    """The identity of a set: the digest of its payload's hashes. Rows record it."""
    return files.digest({name: record.sha256 for name, record in records.items()})
