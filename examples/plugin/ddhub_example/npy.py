"""The layout `npy`: a folder with `images.npy`, float32 (N, C, H, W), and `labels.npy`, int64 (N,)."""

import io
from pathlib import Path

import numpy as np
import torch

from ddhub.artifact.folder import Artifact
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading


def detect(path: Path, how: Reading) -> bool:
    """A folder with both files."""
    return (path / "images.npy").is_file() and (path / "labels.npy").is_file()


def read(path: Path, how: Reading) -> Foreign:
    """Read both files, without pickles."""
    images = reading.pictures(array(path / "images.npy"), "images.npy", how)
    labels = reading.numbers(array(path / "labels.npy"), "labels.npy", how)
    records = reading.records([path / "images.npy", path / "labels.npy"], path)
    return Foreign("mtt", images, labels, records)  # as sets of the family mtt are normalised and trained on


def array(path: Path) -> torch.Tensor:
    """The array in a file.

    Raises:
        UserError: for a file that is none.
    """
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, TypeError) as fault:
        raise UserError(f"{path.name}: is no array ({fault})") from fault


def write(found: Artifact, folder: Path) -> None:
    """Write both files."""
    for name, values in (("images", found.inputs), ("labels", found.labels)):
        content = io.BytesIO()
        np.save(content, values.numpy())
        files.write_bytes(folder / f"{name}.npy", content.getvalue())


LAYOUT = Layout(detect=detect, read=read, write=write)
