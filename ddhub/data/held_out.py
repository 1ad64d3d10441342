"""Parts of a split: held-out images for tests and validation, and random images of each class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.base.units import counted

LEAST = 3  # images of a class with a held-out test part: one each for training, validation and test


def size(count: int, share: float) -> int:
    """The number of images held out of a class: at least one, but never the only one."""
    return min(max(1, round(share * count)), max(0, count - 1))


def spread(count: int, most: int) -> Tensor:
    """The numbers of at most so many of `count` rows, spread evenly."""
    return torch.linspace(0, count - 1, min(most, count)).long()


def hold_out(labels: Tensor, share: float, seed: int, purpose: str = "validation") -> tuple[Tensor, Tensor]:
    """Split indices by class into (kept, held out), both sorted.

    Each class holds out at least one image and keeps at least one. A class of a single image keeps it.

    Args:
        purpose: `validation` or `test`; their draws are independent.
    """
    held = []
    found, counts = labels.unique(return_counts=True)
    by_class = labels.argsort(stable=True).split(counts.tolist())  # sorted indices of each class
    for label, members in zip(found.tolist(), by_class, strict=True):
        order = torch.randperm(len(members), generator=seeds.generator(seed, purpose, label))
        held.append(members[order[: size(len(members), share)]])
    validation = torch.cat(held).sort().values
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[validation] = False
    return keep.nonzero().flatten(), validation


def stratified(
    labels: Tensor, classes: tuple[str, ...], ipc: int | Sequence[int], seed: int, *purpose: str | int
) -> Tensor:
    """Indices of random images of each class, in the order of the classes.

    Args:
        ipc: the number for every class, or one number per class.

    Raises:
        UserError: if a class has fewer images.
    """
    chosen, counts = [], [ipc] * len(classes) if isinstance(ipc, int) else ipc
    for label, name in enumerate(classes):
        members, count = (labels == label).nonzero().flatten(), counts[label]
        if not len(members) and count:
            raise UserError(f"class '{name}' has no image in the training part", next="leave it out of the class names")
        if len(members) < count:
            raise UserError(
                f"ipc: {counted(count, 'image')} per class asked for, but class '{name}' has {len(members)}"
                " in the training part",
                next=f"--set ipc={max(1, len(members))}, or a smaller source.validation",
            )
        order = torch.randperm(len(members), generator=seeds.generator(seed, "real", *purpose, label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen)


def refuse_small(names: Sequence[str], counts: Sequence[int]) -> None:
    """Refuse classes that are too small for training, validation and test parts.

    Raises:
        UserError: naming the class.
    """
    for name, count in zip(names, counts, strict=False):
        if 0 < count < LEAST:
            raise UserError(
                f"source.hold_out: class '{name}' has {counted(count, 'image')}; "
                f"training, validation and test take {LEAST}",
                next=f"add images of '{name}', or leave the class out",
            )
