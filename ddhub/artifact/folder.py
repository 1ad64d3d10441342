"""The artifact: a folder that is a Hub dataset repo. It is written once and checked on every read.

All later steps use what is read back here. Every score of ddhub thus includes 8-bit pixels, label storage and
packaging.
Shapes: M synthetic images, C H W stored image, K classes.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ddhub.artifact import manifest as manifests
from ddhub.artifact import parquet, payload_hashes
from ddhub.artifact.file_names import WHITENING
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.manifest_parts import ByteCounts, FileRecord, PreprocessRecord, SourceRecord
from ddhub.artifact.parquet import Rows
from ddhub.base import limits
from ddhub.base.errors import UserError, next_step, quoted
from ddhub.base.mapped_tensors import Allocate, in_memory
from ddhub.base.units import size
from ddhub.data import enlarge
from ddhub.data.preprocess import Preprocess, load_whitening
from ddhub.data.source import Split


@dataclass(frozen=True)
class Artifact:
    """A distilled set, read back from its folder."""

    folder: Path
    manifest: Manifest
    images: Tensor  # uint8 (M, C, H, W), the display pixels
    labels: Tensor  # int64 (M,)
    soft_labels: Tensor | None  # float32 (M, K)
    pixels: Tensor | None  # float32 (M, C, H, W) network inputs, if 8 bits were not enough
    preprocess: Preprocess
    groups: Tensor | None = None  # int64 (M,), the group of each image, if the set has groups

    @cached_property
    def inputs(self) -> Tensor:
        """Network inputs for training: float32 (M, C, S, S), S being the networks' side."""
        stored = self.preprocess.inputs(self.images) if self.pixels is None else self.pixels
        return enlarge.enlarged(stored, self.manifest.source.resolution)

    def whole(self) -> "Artifact":
        """The set as if it stored images of the networks' side: enlarged, with pixels rounded to 8 bits."""
        record, side = self.manifest, self.manifest.source.resolution
        if record.preprocess.factor == 1:
            return self
        images = enlarge.enlarged_pixels(self.images, side)
        pixels = None if self.pixels is None else self.inputs
        known = record.preprocess.model_copy(update={"factor": 1})
        return replace(self, manifest=record.model_copy(update={"preprocess": known}), images=images, pixels=pixels)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Classes, channels and side, from which networks for this set are built."""
        return len(self.manifest.classes), self.manifest.source.channels, self.manifest.source.resolution

    @property
    def teacher_files(self) -> list[Path]:
        """The shipped teachers, in the manifest's order."""
        return [self.folder / teacher.file for teacher in self.manifest.teachers]


def keep_top(soft: Tensor, top_k: int) -> tuple[Tensor, Tensor, float]:
    """The `top_k` largest soft labels of each image, their classes, and the value of the others.

    Args:
        soft: all soft labels, (M, K).

    Returns:
        Values (M, T), int16 or int32 classes (M, T), and the mean of all values left out.
    """
    values, index = soft.topk(top_k, dim=1)
    left_out = soft.numel() - values.numel()
    rest = float((soft.sum(dtype=torch.double) - values.sum(dtype=torch.double)) / left_out) if left_out else 0.0
    return values, index.to(torch.int16 if soft.shape[1] <= 2**15 else torch.int32), rest


def source_record(split: Split, license: str | None) -> SourceRecord:
    """The real images that a set was made from, for its manifest."""
    known = split.spec.model_dump(include=set(SourceRecord.model_fields))
    return SourceRecord(**known, fingerprint=split.fingerprint, license=license)


def preprocess_record(fitted: Preprocess, rows: Rows, clipped: float, factor: int = 1) -> PreprocessRecord:
    """How the pixels of a set's rows become network inputs, for its manifest.

    Args:
        clipped: share of values that 8-bit pixels clip.
        factor: how many times smaller the stored images are, per side.
    """
    return PreprocessRecord(
        mean=list(fitted.mean),
        std=list(fitted.std),
        statistics=fitted.statistics,
        zca=WHITENING if fitted.zca is not None else None,
        factor=factor,
        per_image=fitted.per_image,
        pixels_space=None if rows.pixels is None else "input",
        clipped=clipped,
    )


def byte_counts(records: dict[str, FileRecord], rows: Rows) -> ByteCounts:
    """Storage by purpose. Soft labels count by their type's size, the rest of the parquet files as images."""
    labels = sum(column.nbytes for column in (rows.soft, rows.index) if column is not None)
    total = {"data": 0, "teachers": 0, WHITENING: 0}
    for name, record in records.items():
        part = name.split("/")[0]
        if part in total:
            total[part] += record.bytes
    return ByteCounts(
        images=max(0, total["data"] - labels),
        labels=labels,
        preprocess=total[WHITENING],
        teachers=total["teachers"],
    )


def read(folder: Path, lasting: str | None = None) -> Artifact:
    """Read an artifact and check the hashes of its payload.

    Args:
        lasting: the set that the user verifies after a fault, if the folder does not stay.

    Raises:
        UserError: naming the missing, damaged or contradicting file.
    """
    with next_step(f"ddhub verify {quoted(lasting or folder)}"):
        return _read(folder)


def _read(folder: Path) -> Artifact:
    record = manifests.read(folder)
    check_files(folder, record)
    shape = record.stored_shape
    zca_mean, zca = (None, None)
    if record.preprocess.zca:
        zca_mean, zca = load_whitening(folder / record.preprocess.zca, math.prod(shape))
    known = record.preprocess
    preprocess = Preprocess(tuple(known.mean), tuple(known.std), zca_mean, zca, known.per_image, known.statistics)
    rows = read_data(folder, shape, len(record.classes), record.labels.rest, factor=known.factor)
    _check_columns(folder, record, rows)
    return Artifact(folder, record, rows.images, rows.labels, rows.soft, rows.pixels, preprocess, rows.group)


def _check_columns(folder: Path, record: Manifest, found: Rows) -> None:
    """Refuse a set without a column, or the images per class, of its manifest. `ddhub verify` lists all faults."""
    missing = [
        name
        for name, wanted, column in (
            ("soft_label", record.labels.form != "hard", found.soft),
            ("pixels", record.preprocess.pixels_space is not None, found.pixels),
        )
        if wanted and column is None
    ]
    if missing:
        raise UserError(f"{folder}/data: column '{missing[0]}' is missing")
    if torch.bincount(found.labels.long(), minlength=len(record.classes)).tolist() != list(record.counts):
        raise UserError(f"{folder}/data: holds other numbers of images per class than its manifest says")


def read_data(
    folder: Path,
    shape: tuple[int, int, int],
    classes: int,
    rest: float | None = None,
    allocate: Allocate = in_memory,
    factor: int = 1,
) -> Rows:
    """All rows of a set's data files, with soft labels (M, K) and pixels as float32.

    Args:
        shape: (C, H, W) of every image.
        rest: the soft label of classes that are not stored; needed if there is a column `soft_index`.
        allocate: allocates the tensors of the rows.
        factor: how many times larger networks see the images, per side. The limit on a set counts them enlarged.

    Raises:
        UserError: naming the file, row or column that does not fit a set of this shape.
    """
    whole, start, count = None, 0, parquet.count(folder)
    for part in parquet.read(folder, shape):
        part = _dense(part, folder, classes, rest)
        each = sum(column[0].nbytes for column in part.columns() if column is not None)
        if count * (each + (factor**2 - 1) * part.images[0].nbytes) > limits.SET_BYTES:
            raise UserError(f"{folder}/data: {count} rows are more than is read ({size(limits.SET_BYTES)} of memory)")
        whole = whole or _empty(part, count, allocate)
        for kept, new in zip(whole.columns(), part.columns(), strict=True):
            if (kept is None) != (new is None):
                raise UserError(f"{folder}/data: the files do not have the same columns")
            if kept is not None and new is not None:
                if kept[start : start + len(part)].shape != new.shape:
                    raise UserError(f"{folder}/data: the files do not have rows of one shape, {count} in all")
                kept[start : start + len(part)] = new
        start += len(part)
    if start != count:
        raise UserError(f"{folder}/data: holds {start} rows, and its files say {count}")
    if whole is None:
        raise UserError(f"{folder}/data: holds no images")
    return whole


def _dense(part: Rows, folder: Path, classes: int, rest: float | None) -> Rows:
    """Rows with a soft label for every class, and floats as float32."""
    if part.labels.min() < 0 or part.labels.max() >= classes:
        raise UserError(f"{folder}/data: column 'label' has values outside 0..{classes - 1}")
    soft = None if part.soft is None else part.soft.float()
    if soft is not None and part.index is not None:
        index = part.index.long()
        if rest is None or index.shape != soft.shape or index.min() < 0 or index.max() >= classes:
            raise UserError(f"{folder}/data: soft_index does not name {soft.shape[1]} classes for each soft_label")
        soft = torch.full((len(part), classes), rest).scatter_(1, index, soft)
    if soft is not None and (soft.shape != (len(part), classes) or not soft.isfinite().all()):
        raise UserError(f"{folder}/data: soft_label is not {classes} finite numbers per image")
    pixels = None if part.pixels is None else part.pixels.float()
    if pixels is not None and not pixels.isfinite().all():
        raise UserError(f"{folder}/data: pixels holds values that are not finite")
    return Rows(part.images, part.labels, soft, None, pixels, part.group)


def _empty(like: Rows, rows: int, allocate: Allocate) -> Rows:
    """Allocated tensors for `rows` rows with the columns of `like`."""
    return Rows(*(None if c is None else allocate((rows, *c.shape[1:]), c.dtype) for c in like.columns()))  # type: ignore[arg-type]


def check_files(folder: Path, record: Manifest) -> None:
    """Check the manifest for contradictions, and every payload file against the manifest.

    Raises:
        UserError: with one line per fault.
    """
    faults = manifests.contradictions(record, f"{folder}/ddhub.json") + payload_hashes.file_faults(folder, record)
    if faults:
        raise UserError("\n".join(faults), next="fetch the set again, or make it again with ddhub distill")
