"""The ECCV 2024 dataset distillation challenge's submissions: `cifar100.pt`, `tinyimagenet.pt`.

One float tensor (10 K, C, H, W), normalised; the classes come one after another, ten images of each.
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
    """A torch file that is one tensor of images, and not half of another layout."""
    if path.suffix not in (".pt", ".pth") or not path.is_file() or reading.is_half(path):
        return False
    content = reading.load(path, how)
    return isinstance(content, Tensor) and content.dim() == 4 and content.is_floating_point()


def read(path: Path, how: Reading) -> Foreign:
    """Read the tensor; the class of an image is its place."""
    images = reading.pictures(reading.load(path, how), path.name, how)
    return Foreign("eccv24", images, None, reading.records([path], path.parent), ipc=IPC)


def write(found: Artifact, folder: Path) -> None:
    """Write the tensor, class by class."""
    record = found.manifest
    if record.counts != [IPC] * len(record.classes):
        raise UserError(
            f"{found.folder}: has {record.ipc_text} images per class, and the layout eccv24 has exactly {IPC}",
            next="--layout mtt",
        )
    name = NAMES.get(catalog.dataset(record.source.dataset) or "", catalog.spelling(record.source.dataset).lower())
    reading.save(folder / f"{name}.pt", found.inputs.clone())


LAYOUT = Layout(detect=detect, read=read, write=write)
