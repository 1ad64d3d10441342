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


ON_THE_FLY = ("teachers", "teacher")  # labels that are made of every augmented view
Fraction = Annotated[float, Field(ge=0, le=1)]
Groups = Annotated[int, Field(gt=0, le=MOST_GROUPS)]


class SourceRecord(Strict):
    """Which real data the set was made from."""

    dataset: str = Field(min_length=1, description="Hub id, `digits`, or the folder as the recipe names it.")
    revision: str | None = Field(description="Commit of the Hub repo.")
    config: str | None = Field(default=None, description="Subset of a Hub dataset that has several.")
    fingerprint: str = Field(description="Hash of the decoded images and labels.")
    image: str = Field(description="Column of the images.")
    label: str = Field(description="Column of the classes.")
    train: str = Field(description="Split that was distilled.")
    test: str = Field(description="Split to test on.")
    validation: float = Field(gt=0, lt=0.9, description="Share of `train` that was held out.")
    split_seed: int = Field(description="Draws that share.")
    resolution: int = Field(ge=4, le=limits.SIDE, description="Side in pixels.")
    channels: Literal[1, 3] = Field(description="1 is grey, 3 is RGB.")
    license: str | None = Field(description="Licence of the source, where it is known.")

    @field_validator("test")
    @classmethod
    def _splits_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("train"):
            raise ValueError(f"trains and tests on the same split, {value[:60]!r}")
        return value


class PreprocessRecord(Strict):
    """How pixels become network inputs: (x - mean) / std, or the whitening in the file named by `zca`."""

    mean: list[float] = Field(description="Mean of each channel, of pixels in [0, 1].")
    std: list[float] = Field(description="Standard deviation of each channel, of pixels in [0, 1].")
    statistics: Literal["fitted", "field"] = Field(
        default="fitted",
        description="Mean and standard deviation: of the training images, or the constants of published numbers.",
    )
    zca: str | None = Field(default=None, description="File of the whitening, with `mean` and `matrix`.")
    per_image: bool = Field(
        default=False, description="After mean and std, every image is centred and of norm 1, then whitened (KIP)."
    )
    pixels_space: Literal["input"] | None = Field(
        default=None, description="Space of column `pixels`, where there is one: network inputs."
    )
    clipped: Fraction = Field(description="Share of values that 8-bit pixels clip.")


class LabelRecord(Strict):
    """What column `soft_label` holds; `regression` are targets that are neither logits nor probabilities (KIP's)."""

    form: Literal["logits", "probabilities", "regression", "hard"] = Field(
        description="Kind of the values. With `hard` there is no column `soft_label`."
    )
    temperature: float = Field(default=1.0, gt=0, description="Divides logits before a softmax.")
    teachers: Literal["mean", "one"] | None = Field(default=None, description="Whose logits are stored.")
    top_k: int | None = Field(
        default=None, gt=0, description="Classes that `soft_index` names of an image. null: all are stored."
    )
    rest: float | None = Field(default=None, description="What the other classes count as: their mean over the set.")


class TeacherRecord(Strict):
    """One shipped teacher."""

    arch: str = Field(description="Architecture.")
    file: str = Field(description="File of the weights (safetensors).")
    validation_top1: Fraction = Field(description="Accuracy on the validation part.")


class Packaging(Strict):
    """Validation accuracy of the set before and after packaging, mean over `seeds` networks."""

    arch: str = Field(description="Architecture that was trained.")
    seeds: int = Field(description="Trainings per number.")
    validation_top1_float: Fraction = Field(description="Accuracy with the floats in memory.")
    validation_top1_8bit: Fraction | None = Field(default=None, description="Accuracy with 8-bit pixels alone.")
    validation_top1_packaged: Fraction = Field(description="Accuracy with what is shipped.")


class Made(Strict):
    """Where, with what and how fast the set was made."""

    ddhub: str = Field(description="Version of ddhub.")
    torch: str = Field(description="Version of torch.")
    device: str | None = Field(default=None, description="Hardware. null, as all that follows, of imported sets.")
    seconds: float | None = Field(default=None, description="Seconds of the whole run.")
    phases: dict[str, float] = Field(
        default_factory=dict, description="Seconds of each phase. Cached teachers count as they took when trained."
    )
    peak_bytes: int | None = Field(default=None, description="Most resident memory, or most memory of the GPU.")
    recipe_hash: str | None = Field(default=None, description="Hash of the recipe, before revision and columns.")
    overrides: list[str] = Field(default_factory=list, description="What `--set` changed in the recipe.")
    decisions: dict[str, Any] = Field(
        default_factory=dict, description="What the machine decided: device, threads, precision, chunks."
    )


class FileRecord(Strict):
    """Hash and size of one payload file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the content.")
    bytes: int = Field(ge=0, description="Size.")


class Imported(Strict):
    """Where a set that was made elsewhere came from."""

    layout: str = Field(description="Layout of the files.")
    files: dict[str, FileRecord] = Field(description="What was read, by name.")
    notes: list[str] = Field(default_factory=list, description="What the importer knew that the files do not say.")


class Nearness(Strict):
    """How far synthetic images are from their nearest training image, beside held-out real images' distances."""

    median: float = Field(description="Median distance of synthetic images.")
    median_held_out: float = Field(description="Median distance of the validation part's real images.")
    copies: Fraction = Field(description="Share of synthetic images nearer than 99% of the held-out ones.")


class Memorisation(Strict):
    """The nearest-training-image check; `assets/nearest.png` shows the nearest pairs."""

    checked: int = Field(description="Synthetic images that were looked at.")
    pixels: Nearness = Field(description="By root mean square difference of pixels in [0, 1].")
    features: Nearness | None = Field(default=None, description="By cosine distance of the first teacher's features.")


# How many images each class has, in the order of the classes; None where all have `ipc`.
Unequal = Annotated[list[int] | None, Field(max_length=limits.CLASSES)]


class Part(Strict):
    """One of the sets that a set was merged of: what its own manifest said."""

    name: str = Field(description="Name of the set.")
    hub: str | None = Field(default=None, description="`owner/name@commit`, where it came from the Hub.")
    payload: str = Field(description="Digest of its files' hashes.")
    ipc: int = Field(gt=0, description="Images of every class; where they differ, of the largest.")
    unequal: Unequal = Field(default=None, description="Images of every class, where they differ.")
    groups: Groups = Field(default=1, description="Parts that were made apart.")
    seed: int | None = Field(default=None, description="Seed of its recipe.")
    init: str | None = Field(default=None, description="What its images started as.")
    method: dict[str, Any] = Field(description="Method and settings.")
    packaging: Packaging | None = Field(default=None, description="What packaging cost.")
    memorisation: Memorisation | None = Field(default=None, description="Check for copies.")
    made: Made = Field(description="Where and with what it was made.")


class ByteCounts(Strict):
    """Storage by purpose, in bytes."""

    images: int = Field(description="Images, `pixels` and classes.")
    labels: int = Field(description="Soft labels.")
    preprocess: int = Field(description="Whitening.")
    teachers: int = Field(description="Teachers.")


class Manifest(Strict):
    """The whole manifest, format 1."""

    format: Literal[1] = Field(default=1, description="Version of the format.")
    name: str = Field(description="Name of the set.")
    ipc: int = Field(gt=0, description="Images of every class; where they differ, of the largest.")
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
    init: str | None = Field(default=None, description="What the images started as: `real` or `noise`.")
    groups: Groups = Field(default=1, description="Parts that were made apart. Column `group` numbers them.")
    merged: list[Part] | None = Field(
        default=None, max_length=MOST_GROUPS, description="Sets that this one was joined of."
    )
    packaging: Packaging | None = Field(default=None, description="What packaging cost.")
    memorisation: Memorisation | None = Field(default=None, description="Check for copies of training images.")
    imported: Imported | None = Field(default=None, description="Origin of a set that others made.")
    repo_id: str | None = Field(default=None, description="Hub repo that it was last pushed to.")
    made: Made = Field(description="Where and with what it was made.")
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
    if min(known.std, default=0) <= 0:
        found.append("preprocess.std: must be positive")
    return found


def dump(record: Manifest) -> bytes:
    """A manifest's bytes, as `ddhub.json` holds them."""
    return json_bytes(record.model_dump(mode="json"))


def identity(records: dict[str, FileRecord]) -> str:
    """What a row was measured on: the payload's hashes."""
    return files.digest({name: record.sha256 for name, record in records.items()})
