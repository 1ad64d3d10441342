"""Submissions to the ECCV 2024 dataset distillation challenge: `cifar100.pt`, `tinyimagenet.pt`.

One float tensor (10 K, C, H, W), normalised, ordered by class, ten images per class.
"""

from pathlib import Path

from torch import Tensor

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.data import catalog
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading

IPC = 10
NAMES = {"cifar100": "cifar100", "tiny": "tinyimagenet"}


def detect(path: Path, how: Reading) -> bool:
    """Accept a torch file with one tensor of images that is not half of another layout."""
    if not reading.is_torch(path) or reading.is_half(path):
        return False
    content = reading.load(path, how)
    return isinstance(content, Tensor) and content.dim() == 4 and content.is_floating_point()


def read(path: Path, how: Reading) -> Foreign:
    """Read the tensor. The class of an image follows from its position."""
    images = reading.pictures(reading.load(path, how), path.name, how)
    return Foreign("eccv24", images, None, reading.records([path], path.parent), ipc=IPC)


def write(found: Artifact, folder: Path) -> None:
    """Write the tensor, ordered by class."""
    record = found.manifest
    if record.counts != [IPC] * len(record.classes):
        raise UserError(
            f"{found.folder}: has {record.ipc_text} images per class, and the layout eccv24 has exactly {IPC}",
            next="--layout mtt",
        )
    name = NAMES.get(catalog.dataset(record.source.dataset) or "", catalog.spelling(record.source.dataset).lower())
    reading.save(folder / f"{name}.pt", found.inputs.clone())


LAYOUT = Layout(detect=detect, read=read, write=write, uses=())
