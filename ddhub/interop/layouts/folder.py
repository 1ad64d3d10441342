"""Folders of image files, one folder per class: SRe2L and CDA `newNNN/classNNN_idNNN.jpg`, RDED `syn_data/NNNNN/...`.

A class folder is named by the class's number or by its name. Labels beside them (FKD) belong to augmented views of a
training run and are no part of the set.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddhub.artifact import parquet
from ddhub.artifact.folder import Artifact
from ddhub.base import files, limits
from ddhub.base.errors import UserError
from ddhub.data import decode as decodes
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def _root(path: Path) -> Path:
    return path / "syn_data" if (path / "syn_data").is_dir() else path


def _class_folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "FKD_")))


def _pictures(folder: Path) -> list[Path]:
    """The image files of a class in the order of their numbers."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted(found, key=lambda path: [int(t) if t.isdecimal() else t for t in re.split(r"(\d+)", path.name)])


def detect(path: Path, how: Reading) -> bool:
    """A folder of folders of images."""
    folders = _class_folders(_root(path)) if path.is_dir() else []
    return bool(folders) and all(any(p.suffix.lower() in SUFFIXES for p in folder.iterdir()) for folder in folders)


def read(path: Path, how: Reading) -> Foreign:
    """Decode every image as it is; they must all have one size."""
    if not path.is_dir():
        raise UserError(f"{path.name}: is no folder of class folders; unpack archives first")
    root = _root(path)
    folders = _class_folders(root)
    everything = {folder: _pictures(folder) for folder in folders}
    paths = [picture for found in everything.values() for picture in found]
    if not paths:
        raise UserError(f"{path.name}: holds no class folders with images")
    _refuse_links([root, *folders, *paths], path)
    reading.check_names(folder.name for folder in folders)
    if len(folders) > limits.CLASSES:
        raise UserError(f"{path.name}: {len(folders)} classes, more than the {limits.CLASSES} that are read")
    images = _decoded(paths, path, how)
    labels = torch.tensor([number for number, found in enumerate(everything.values()) for _ in found])
    groups = tuple(re.sub(r"^new(?=\d+$)", "", folder.name) for folder in folders)
    lossy = any(picture.suffix.lower() in (".jpg", ".jpeg") for picture in paths)
    notes = ["JPEG files are kept as the pixels they decode to"] if lossy else []
    notes += ["FKD labels beside the images are left out"] if any(root.glob("FKD_*")) else []
    return Foreign("folder", images, labels, reading.records(paths, path), groups=groups, notes=notes)


def _refuse_links(paths: list[Path], root: Path) -> None:
    # A stranger's archive could point at the reader's own pictures, which would then be published.
    for path in paths:
        if path.is_symlink():
            raise UserError(f"{path.relative_to(root)}: is a symbolic link; refused", next="put the file itself there")


def _decoded(paths: list[Path], root: Path, how: Reading) -> torch.Tensor:
    """All images as uint8 (N, C, H, W); grey only where all of them are."""
    arrays: list[np.ndarray] = []
    for path in paths:
        array = _opened(path, str(path.relative_to(root)), arrays[0].shape[:2] if arrays else None)
        if not arrays and array.nbytes * len(paths) > how.limit:
            raise UserError(f"{root.name}: {len(paths)} images are more than is read", next="--max-bytes BYTES")
        arrays.append(array)
    if not all(array.ndim == 2 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[..., None], 3, 2) for array in arrays]
    stacked = torch.from_numpy(np.stack(arrays))
    return stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2).contiguous()


def _opened(path: Path, where: str, shape: tuple[int, ...] | None) -> np.ndarray:
    """One image, (H, W) where it is grey and (H, W, 3) otherwise; its size is looked at before it is decoded."""

    def decode(image: Any) -> np.ndarray:
        width, height = image.size
        if max(width, height) > limits.SIDE:
            raise UserError(f"{where}: claims {width}x{height} pixels; refused")
        if width != height or shape not in (None, (height, width)):
            wanted = "a square" if shape is None else f"{shape[1]}x{shape[0]} as the others"
            raise UserError(f"{where}: is {width}x{height}, not {wanted}")
        return np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))

    found: np.ndarray = decodes.picture(path, where, decode)
    return found


def write(found: Artifact, folder: Path) -> None:
    """Write `NNNNN/classNNNNN_idNNNNN.png`; PNG, because JPEG would change the pixels."""
    seen = [0] * len(found.manifest.classes)
    for image, label in zip(found.images, found.labels.tolist(), strict=True):
        name = f"{label:05d}/class{label:05d}_id{seen[label]:05d}.png"
        files.write_bytes(folder / name, parquet.png(image))
        seen[label] += 1


LAYOUT = Layout(detect=detect, read=read, write=write)
