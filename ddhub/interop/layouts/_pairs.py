"""Images and labels in separate files: `images_best.pt`, `labels_best.pt`, perhaps `lr_best.pt` (MTT and DATM).

Other pairs of names are `images.pt`, `labels.pt`, `lr.pt` (DD-Ranking), and `CIFAR10_IPC10_images.pt` with its labels
(DC-BENCH). Soft labels may lie in a file of their own, `soft_labels.pt`, without hard ones or beside them.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddhub.base.errors import UserError
from ddhub.base.units import listed
from ddhub.interop import reading
from ddhub.interop.reading import Reading

IMAGES, LABELS, RATE = (
    re.compile(rf"(?<![a-z]){word}(?![a-z])", re.IGNORECASE) for word in ("images?", "labels?", "lr")
)
SOFT = re.compile(r"(?<![a-z])soft[-_ ]?labels?(?![a-z])", re.IGNORECASE)
# DC-BENCH's file names of random and k-means images: CIFAR10_IPC10_normalize_images.pt.
BENCH = re.compile(r"[A-Za-z0-9]+_IPC\d+_(?:normalize_)?images\.pt")


@dataclass(frozen=True)
class Pairs:
    """The files of one set. A set may be split into several."""

    images: list[Path]
    labels: list[Path]
    lr: Path | None
    soft: list[Path] = field(default_factory=list)  # soft labels, if there are hard ones in `labels` too

    @property
    def files(self) -> list[Path]:
        """All files of the set."""
        return [*self.images, *self.labels, *self.soft, *([self.lr] if self.lr else [])]

    @property
    def bench(self) -> bool:
        """Whether the names are those of DC-BENCH."""
        return BENCH.fullmatch(self.images[0].name) is not None


def find(path: Path) -> Pairs | None:
    """The files of the set at a folder or at one of its image files; None if there are none.

    Raises:
        UserError: for unwhitened images for viewing, for several sets or iterations, or for missing labels.
    """
    if path.is_dir():
        return _of_stems(path, _stems(path)) or _only(path)
    if not reading.is_torch(path):
        return None
    given = re.fullmatch(r"images_(.+)\.pt", path.name)
    if given:
        return _of_stems(path.parent, [given.group(1)])
    images = _beside(path, LABELS, IMAGES) or _beside(path, SOFT, IMAGES)
    if images:
        raise UserError(f"{path.name}: holds the labels alone", next=f"name the images: {images}")
    return _pair(path)


def _of_stems(folder: Path, stems: list[str]) -> Pairs | None:
    """The files `images_STEM.pt` of a set, with their labels and rate."""
    if not stems:
        return None
    if any(stem.startswith("zca_") for stem in stems):
        raise UserError(
            f"images_{stems[0]}.pt: holds images with the whitening undone, for viewing; nothing was trained on them",
            next=f"import images_{stems[0].removeprefix('zca_')}.pt, which lies beside it in its author's folder",
        )
    labels, soft = (_of_word(folder, stems, word) for word in ("labels", "soft_labels"))
    soft = soft if all(path.is_file() for path in soft) else []
    if soft and not any(label.exists() for label in labels):
        labels, soft = soft, []
    missing = next((label for label in labels if not label.is_file()), None)
    if missing:
        raise UserError(
            f"{missing.name}: no such file beside images_{stems[0]}.pt", next=f"fetch it too, into {folder}"
        )
    lr = folder / f"lr_{stems[0]}.pt"
    return Pairs([folder / f"images_{stem}.pt" for stem in stems], labels, lr if lr.is_file() else None, soft)


def _of_word(folder: Path, stems: list[str], word: str) -> list[Path]:
    """The files of labels that belong to the image files; one file, if only the images were split."""
    parts, whole = [folder / f"{word}_{stem}.pt" for stem in stems], folder / f"{word}_best.pt"
    return [whole] if len(stems) > 1 and not any(part.exists() for part in parts) else parts


def _only(folder: Path) -> Pairs | None:
    """The only pair of files in a folder whose names differ just in `images` and `labels`."""
    found = [pair for path in sorted(folder.iterdir()) if path.suffix in reading.TORCH and (pair := _pair(path))]
    if len(found) > 1:
        names = [pair.images[0].name for pair in found]
        raise UserError(
            f"{folder.name}: holds {len(found)} sets ({listed(names, 3)})",
            next=f"name one of them, as {found[0].images[0]}",
        )
    return found[0] if found else None


def _pair(path: Path) -> Pairs | None:
    """An image file with its labels, such as `images.pt` and `labels.pt`, or `A_images.pt` and `A_labels.pt`."""
    labels, soft = _beside(path, IMAGES, LABELS), _beside(path, IMAGES, SOFT)
    if labels is None and soft is None:
        return None
    both = [soft] if labels is not None and soft is not None else []
    return Pairs([path], [path for path in (labels or soft,) if path], _beside(path, IMAGES, RATE), both)


def _beside(path: Path, own: re.Pattern[str], other: re.Pattern[str]) -> Path | None:
    """The file whose name differs in one word only, in upper or lower case."""
    wanted = own.sub("*", path.name)
    names = sorted(path.parent.iterdir()) if own.search(path.name) else []
    return next(
        (p for p in names if other.search(p.name) and other.sub("*", p.name).lower() == wanted.lower() and p != path),
        None,
    )


def _stems(folder: Path) -> list[str]:
    """The words in place of `best` in the names of the set's image files, in order."""
    names = [
        match.group(1) for file in folder.glob("images_*.pt") if (match := re.match(r"images_(.+)\.pt$", file.name))
    ]
    if "best" in names:
        return ["best"]
    parts = sorted((name for name in names if re.fullmatch(r"best_\d+", name)), key=_number)
    plain = sorted((name for name in names if name.isdigit()), key=_number)
    chosen = parts or plain
    if [_number(name) for name in chosen] == list(range(len(chosen))) or len(chosen) == 1:
        return chosen or sorted(name for name in names if name.startswith("zca_"))
    if parts:
        gap = next(number for number in range(_number(parts[-1])) if f"best_{number}" not in parts)
        raise UserError(
            f"images_best_{gap}.pt: a part of the set is missing beside images_{parts[-1]}.pt",
            next=f"fetch it too, into {folder}",
        )
    raise UserError(
        f"{folder.name}: holds {len(plain)} iterations of one run, images_{plain[0]}.pt to images_{plain[-1]}.pt",
        next=f"name one of them, as {folder.name}/images_{plain[-1]}.pt",
    )


def _number(stem: str) -> int:
    return int(stem.removeprefix("best_"))


def images(pairs: Pairs, how: Reading) -> Tensor:
    """All images, (N, C, H, W)."""
    parts = [reading.pictures(reading.load(path, how), path.name, how) for path in pairs.images]
    odd = next(
        (path for path, part in zip(pairs.images, parts, strict=True) if part.shape[1:] != parts[0].shape[1:]), None
    )
    if odd:
        raise UserError(
            f"{odd.name}: its images are not of the size of those in {pairs.images[0].name}",
            next="fetch all parts of one run again",
        )
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def labels(pairs: Pairs, how: Reading) -> tuple[Tensor | None, Tensor | None]:
    """Hard labels (N,) as int64 and soft labels (N, K) as float32, at least one of the two.

    Raises:
        UserError: for a file of hard labels and one of soft labels that both hold soft ones, or both hard ones.
    """
    found = [_joined(paths, how) for paths in (pairs.labels, pairs.soft) if paths]
    hard = [each for each in found if each.dim() == 1]
    soft = [each for each in found if each.dim() == 2]
    if max(len(hard), len(soft)) > 1:
        names = f"{pairs.labels[0].name} and {pairs.soft[0].name}"
        kind = "soft labels" if soft else "class numbers"
        raise UserError(f"{names}: both hold {kind}", next="move the one away that is not to be used")
    return hard[0] if hard else None, soft[0] if soft else None


def _joined(paths: list[Path], how: Reading) -> Tensor:
    """The labels of all parts: (N,) or (N, K)."""
    parts: list[Any] = [reading.load(path, how) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        alike = isinstance(part, Tensor) and part.dim() in (1, 2) and part.shape[1:] == parts[0].shape[1:]
        if not alike or part.dtype != parts[0].dtype:
            raise UserError(
                f"{path.name}: expected class numbers (N,) or soft labels (N, K), found {reading.describe(part)}",
                next=reading.AS_PAIR,
            )
    check = reading.matrix if parts[0].dim() == 2 else reading.numbers
    return torch.cat([check(part, path.name, how) for path, part in zip(paths, parts, strict=True)])


def has_logits(pairs: Pairs, how: Reading) -> bool:
    """Whether a first label file holds a row of numbers per image that are no probabilities."""
    firsts = [paths[0] for paths in (pairs.labels, pairs.soft) if paths]
    parts = ((path, reading.load(path, how)) for path in firsts)
    soft = [
        (path, part)
        for path, part in parts
        if isinstance(part, Tensor) and part.dim() == 2 and part.is_floating_point()
    ]
    return any(not are_probabilities(reading.matrix(part, path.name, how)) for path, part in soft)


def are_probabilities(soft: Tensor) -> bool:
    """Whether rows (N, K) are probabilities: not negative, with sums of 1."""
    return not bool((soft < 0).any()) and torch.allclose(soft.sum(1), torch.ones(len(soft)), atol=1e-3)


def rate(pairs: Pairs, how: Reading) -> float | None:
    """The learned rate, if there is a file for it."""
    if pairs.lr is None:
        return None
    value = reading.load(pairs.lr, how)
    try:
        plain = isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
        value = float(value) if plain else -1.0
    except (ArithmeticError, RuntimeError, TypeError, ValueError):  # for tensors without numbers, or odd ones
        value = -1.0
    if not 0 < value < float("inf"):
        raise UserError(f"{pairs.lr.name}: is not one positive learning rate", next="--lr RATE, without this file")
    return value
