"""The artifact: a folder that is already a Hub dataset repo, written once, checked on every read.

What is read back here is what everything downstream uses: a number that ddhub prints has 8-bit pixels, label storage
and packaging inside it.
Shapes: M synthetic images, C H W image, K classes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddhub import files, manifest
from ddhub.errors import UserError
from ddhub.manifest import ByteCounts, FileRecord, Manifest
from ddhub.preprocess import Preprocess, load_whitening
from ddhub.sources import quiet

SHARD_ROWS = 10_000
PAYLOAD = ("data/*.parquet", "preprocess.safetensors", "teachers/*.safetensors", "recipe.yaml")


@dataclass(frozen=True)
class Artifact:
    """A distilled set as read back from its folder."""

    folder: Path
    manifest: Manifest
    images: Tensor  # uint8 (M, C, H, W), the display pixels
    labels: Tensor  # int64 (M,)
    soft_labels: Tensor | None  # float32 (M, K)
    pixels: Tensor | None  # float32 (M, C, H, W) network inputs, where 8 bits were not enough
    preprocess: Preprocess

    @cached_property
    def inputs(self) -> Tensor:
        """What a network is trained on: float32 (M, C, H, W)."""
        return self.preprocess.inputs(self.images) if self.pixels is None else self.pixels

    @property
    def teacher_files(self) -> list[Path]:
        """The shipped teachers, in the manifest's order."""
        return [self.folder / teacher.file for teacher in self.manifest.teachers]


def write_data(
    folder: Path, images: Tensor, labels: Tensor, classes: Sequence[str], soft: Tensor | None, pixels: Tensor | None
) -> None:
    """Write `data/train-*.parquet`.

    Args:
        images: uint8 (M, C, H, W).
        labels: int64 (M,).
        soft: (M, K) logits, stored as float16; or None.
        pixels: (M, C, H, W) network inputs, stored as float16; or None.
    """
    import datasets

    features: dict[str, Any] = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))}
    if soft is not None:
        features["soft_label"] = datasets.List(datasets.Value("float16"), length=soft.shape[1])
    if pixels is not None:
        features["pixels"] = datasets.Array3D(shape=tuple(pixels.shape[1:]), dtype="float16")
    shards = -(-len(images) // SHARD_ROWS)
    with files.disk_errors(folder, "writing the set"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for shard in range(shards):
            rows = slice(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)
            columns: dict[str, Any] = {
                "image": [{"bytes": png(image), "path": None} for image in images[rows]],
                "label": labels[rows].tolist(),
            }
            if soft is not None:
                columns["soft_label"] = list(soft[rows].half().cpu().numpy())
            if pixels is not None:
                columns["pixels"] = list(pixels[rows].half().cpu().numpy())
            table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
            with quiet():
                table.to_parquet(folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet")


def png(image: Tensor) -> bytes:
    """One uint8 image (C, H, W) with one or three channels as PNG bytes."""
    from PIL import Image

    array = image.cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Hash and size of every payload file in a folder."""
    paths = sorted(path for pattern in PAYLOAD for path in folder.glob(pattern))
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=files.sha256(path), bytes=path.stat().st_size)
        for path in paths
    }


def byte_counts(records: dict[str, FileRecord], soft: Tensor | None) -> ByteCounts:
    """Storage by purpose; soft labels count as float16 and are taken out of the parquet files' size."""
    labels = 0 if soft is None else soft.numel() * 2
    total = {"data": 0, "teachers": 0, "preprocess.safetensors": 0}
    for name, record in records.items():
        part = name.split("/")[0]
        if part in total:
            total[part] += record.bytes
    return ByteCounts(
        images=max(0, total["data"] - labels),
        labels=labels,
        preprocess=total["preprocess.safetensors"],
        teachers=total["teachers"],
    )


def read(folder: Path) -> Artifact:
    """Read an artifact back, after checking the hashes of its payload.

    Raises:
        UserError: naming the file that is missing, damaged or not as the manifest says.
    """
    record = manifest.read(folder)
    check_files(folder, record)
    zca_mean, zca = (None, None)
    if record.preprocess.zca:
        zca_mean, zca = load_whitening(folder / record.preprocess.zca)
    preprocess = Preprocess(tuple(record.preprocess.mean), tuple(record.preprocess.std), zca_mean, zca)
    return Artifact(folder, record, *read_data(folder, len(record.classes)), preprocess)


def read_data(folder: Path, classes: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Images, labels, soft labels and pixels from `data/*.parquet`, through `datasets`.

    The files are named, so that a README gone astray cannot make `datasets` look at something else.
    """
    import datasets

    shards = sorted(str(path) for path in (folder / "data").glob("train-*.parquet"))
    try:
        with quiet():
            table = datasets.load_dataset("parquet", data_files={"train": shards}, split="train")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as fault:
        raise UserError(f"{folder}/data: cannot be read: {' '.join(str(fault).split())[:300]}") from fault
    arrays = [np.asarray(image) for image in table["image"]]
    images = torch.from_numpy(np.stack([a[None] if a.ndim == 2 else a.transpose(2, 0, 1) for a in arrays]))
    labels = torch.tensor(table["label"][:], dtype=torch.int64)
    soft = pixels = None
    if "soft_label" in table.features:
        soft = torch.from_numpy(np.asarray(table["soft_label"][:], dtype=np.float32))
        if soft.shape != (len(labels), classes) or not soft.isfinite().all():
            raise UserError(f"{folder}/data: soft_label is not {classes} finite numbers per image")
    if "pixels" in table.features:
        pixels = torch.from_numpy(np.asarray(table["pixels"][:], dtype=np.float32))
    return images, labels, soft, pixels


def check_files(folder: Path, record: Manifest) -> None:
    """Compare every payload file with the manifest.

    Raises:
        UserError: with one line per fault.
    """
    faults = []
    for name, expected in record.files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            faults.append(f"{folder}/ddhub.json: files: '{name}' leads out of the folder")
        elif not path.is_file():
            faults.append(f"{path}: missing")
        elif path.stat().st_size != expected.bytes:
            faults.append(f"{path}: damaged: {path.stat().st_size} bytes, {expected.bytes} expected")
        elif files.sha256(path) != expected.sha256:
            faults.append(f"{path}: damaged: its sha256 is not the manifest's")
    named = [teacher.file for teacher in record.teachers] + [n for n in [record.preprocess.zca] if n]
    faults += [f"{folder}/ddhub.json: '{name}' is not among its files" for name in named if name not in record.files]
    if faults:
        raise UserError("\n".join(faults), next="fetch the set again, or make it again with ddhub distill")
