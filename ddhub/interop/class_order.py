"""Class order: mapping the class numbers or names of a foreign set to the classes of its source.

Shapes: N images, K classes.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean
from ddhub.base.units import counted, listed
from ddhub.data.classes import match
from ddhub.interop.reading import Foreign

SHOWN = 5  # class names in a sentence
SOURCE = "--source DATASET, what the set was made from"
NAMES = "--classes FILE (the source's class names, a line each, in the set's order)"


def settle(
    found: Foreign, classes: Sequence[str], named: Sequence[str] | None, affirmed: bool, where: str
) -> tuple[Foreign, list[str]]:
    """Number the set's classes as in `classes`. Return also notes on how the order was known.

    Args:
        classes: the source's classes, in its order.
        named: the source's names of the set's classes 0, 1, ..., if the user gave them.
        affirmed: whether the user affirmed that the set's order is the source's.
        where: the name of the set, for messages.

    Raises:
        UserError: for labels out of range, or names that the source lacks.
    """
    labels, notes = _numbered(found, len(classes), where)
    order = _order(found, classes, named, affirmed, where)
    if found.soft is not None and found.soft.shape[1] != len(classes):
        raise UserError(
            f"{where}: soft labels of {found.soft.shape[1]} classes, and the source has {len(classes)}", next=SOURCE
        )
    if labels.min() < 0 or labels.max() >= len(order):
        low, high = int(labels.min()), int(labels.max())
        raise UserError(
            f"{where}: labels from {low} to {high}, outside 0..{len(order) - 1} of the source's classes", next=SOURCE
        )
    labels = order[labels]
    counts = labels.bincount(minlength=len(classes))
    if counts.min() != counts.max():
        few, many = int(counts.argmin()), int(counts.argmax())
        least = counted(int(counts[few]), "image")
        shown = f"'{classes[few]}' has {least}, '{classes[many]}' {counts[many]}"
        notes = [*notes, f"classes of different sizes: {shown}"]
    soft = found.soft
    if soft is not None:
        soft = torch.empty_like(soft).index_copy_(1, order, soft)
    how = (
        "as the file given by --classes has it"
        if named is not None
        else "the source's, as affirmed"
        if affirmed
        else "by name"
        if found.groups and not _numeric(found, classes)
        else "taken to be the source's, which the files do not say"
    )
    return replace(found, labels=labels, soft=soft), [*notes, f"class order: {how}"]


def _numeric(found: Foreign, classes: Sequence[str]) -> bool:
    """Whether the files number their classes and do not use the source's names."""
    numbers = all(group.isdecimal() and len(group) < 10 for group in found.groups)
    return not set(found.groups) <= set(classes) and numbers


def _numbered(found: Foreign, classes: int, where: str) -> tuple[Tensor, list[str]]:
    """The files' own class numbers (N,), and notes on them."""
    count = len(found.images)
    for given in (found.labels, found.soft):
        if given is not None and len(given) != count:
            raise _unequal(where, count, len(given))
    if found.labels is not None:
        return found.labels, _against(found.soft, found.labels)
    if count % classes or found.ipc not in (None, count // classes):
        wanted = f"{found.ipc} images" if found.ipc else "as many images"
        raise UserError(
            f"{where}: {count} images for {classes} classes; the layout has {wanted} of each, class by class",
            next=SOURCE,
        )
    labels = torch.arange(count) // (count // classes)
    notes = ["the class of an image is its place: the layout has images class by class"]
    known = found.soft if found.soft is not None and found.soft.shape[1] == classes else None
    return labels, [*notes, *_against(known, labels)]


def _against(soft: Tensor | None, labels: Tensor) -> list[str]:
    """A note on images whose largest soft label (N, K) is not at their class (N,)."""
    odd = 0 if soft is None else int((soft.argmax(1) != labels).sum())
    return [f"{odd} of {len(labels)} images have their largest soft label at another class"] if odd else []


def _unequal(where: str, images: int, labels: int) -> UserError:
    return UserError(f"{where}: {images} images and {labels} labels", next="fetch images and labels of one run again")


def _order(found: Foreign, classes: Sequence[str], named: Sequence[str] | None, affirmed: bool, where: str) -> Tensor:
    """The source's class number for each class number of the files, (K,)."""
    if named is not None:
        lines = _by_name(named, classes, "--classes", NAMES)
        if _numeric(found, classes):
            return lines[_numbers(found, classes, where)]
        _refuse_unordered(found, classes, where)
        return lines
    if not found.groups:
        _refuse_unclear(classes, affirmed, where)
        return torch.arange(len(classes))
    if set(found.groups) <= set(classes):
        return _by_name(found.groups, classes, where, SOURCE)
    if affirmed and not _numeric(found, classes):
        _refuse_unordered(found, classes, where)
        return torch.arange(len(classes))
    if not _numeric(found, classes) and (matched := match(found.groups, classes)) is not None:
        return torch.tensor(matched)
    if _numeric(found, classes):
        _refuse_unclear(classes, affirmed, where)
        return _numbers(found, classes, where)
    unknown = next(group for group in found.groups if group not in classes)
    raise UserError(
        f"{where}: the source has no class '{unknown}'{did_you_mean(unknown, list(classes))}",
        next=f"{NAMES}, or --order source",
    )


def _refuse_unclear(classes: Sequence[str], affirmed: bool, where: str) -> None:
    """Refuse class numbers if the source's classes are numbers in another order, such as 0, 1, 10, 2 by text.

    Raises:
        UserError: asking which of the two is meant.
    """
    other = next((place for place, name in enumerate(classes) if name.isdecimal() and int(name) != place), None)
    if (
        other is not None
        and not affirmed
        and {int(name) for name in classes if name.isdecimal()} == set(range(len(classes)))
    ):
        raise UserError(
            f"{where}: does it number '{classes[other]}' as {classes[other]}, or as {other}, its place in the source?",
            next=f"--order source, if as {other}; or {NAMES}",
        )


def _numbers(found: Foreign, classes: Sequence[str], where: str) -> Tensor:
    """The numbers that name the files' class folders."""
    numbers = torch.tensor([int(group) for group in found.groups])
    if numbers.max() >= len(classes):
        raise UserError(
            f"{where}: class {int(numbers.max())} is outside 0..{len(classes) - 1} of the source", next=SOURCE
        )
    return numbers


def _refuse_unordered(found: Foreign, classes: Sequence[str], where: str) -> None:
    """Refuse names without an order, whatever the user says that it is.

    Fewer names leave open which classes are missing. Folders are listed by text, with class_10 before class_2.

    Raises:
        UserError: if names are missing, or folders have another order by number.
    """
    names, then = list(found.groups), "rename each folder to the name of its class in the source"
    if names and len(names) != len(classes):
        raise UserError(f"{where}: names {len(names)} classes, and the source has {len(classes)}", next=then)
    rising = sorted(names, key=_by_number)
    if found.family == "folder" and names == sorted(names) and names != rising:
        place = next(place for place, (a, b) in enumerate(zip(names, rising, strict=True)) if a != b)
        raise UserError(
            f"{where}: its folders have two orders: class {place} is '{names[place]}' by text, '{rising[place]}' by"
            " number",
            next=then,
        )


def _by_number(name: str) -> list[tuple[bool, int, str]]:
    """A sort key by the numbers in a name."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _by_name(names: Sequence[str], classes: Sequence[str], where: str, then: str) -> Tensor:
    positions = {name: number for number, name in enumerate(classes)}
    unknown = next((name for name in names if name not in positions), None)
    if unknown is not None:
        raise UserError(
            f"{where}: the source has no class '{unknown}'{did_you_mean(unknown, list(classes))}", next=then
        )
    if len(set(names)) != len(names) or len(names) != len(classes):
        lacking = listed([name for name in classes if name not in set(names)], SHOWN)
        told = f"{where}: names {len(set(names))} classes, and the source has {len(classes)}"
        raise UserError(f"{told}; without images: {lacking}" if lacking else told, next=then)
    return torch.tensor([positions[name] for name in names])
