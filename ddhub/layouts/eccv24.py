"""The ECCV 2024 dataset distillation challenge's submissions: `cifar100.pt`, `tinyimagenet.pt`.

One float tensor (10 K, C, H, W), normalised; the classes come one after another, ten images of each.
"""

from pathlib import Path

from torch import Tensor

from ddhub import families, foreign
from ddhub.artifact import Artifact
from ddhub.errors import UserError
from ddhub.foreign import Foreign, Reading

IPC = 10
HOLDS = ("hard",)
NAMES = {"cifar100": "cifar100", "tiny": "tinyimagenet"}


def detect(path: Path, how: Reading) -> bool:
    """A torch file that is one tensor of images, and not half of another layout."""
    if path.suffix not in (".pt", ".pth") or not path.is_file() or path.name.startswith(foreign.HALVES):
        return False
    content = foreign.load(path, how)
    return isinstance(content, Tensor) and content.dim() == 4 and content.is_floating_point()


def read(path: Path, how: Reading) -> Foreign:
    """Read the tensor; the class of an image is its place."""
    images = foreign.pictures(foreign.load(path, how), path.name, how)
    return Foreign("eccv24", images, None, foreign.records([path], path.parent), ipc=IPC)


def write(found: Artifact, folder: Path) -> None:
    """Write the tensor, class by class."""
    record = found.manifest
    if record.ipc != IPC:
        raise UserError(
            f"{found.folder}: has {record.ipc} images per class, and the layout eccv24 has exactly {IPC}",
            next="--layout mtt",
        )
    name = NAMES.get(families.dataset(record.source.dataset) or "", families.spelling(record.source.dataset).lower())
    foreign.save(folder / f"{name}.pt", found.inputs[found.labels.argsort(stable=True)].clone())
