"""A first look at a source: its splits, classes and sizes. No image is decoded, and no test split is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddhub.base.errors import UserError, quoted
from ddhub.data import opening, source, survey
from ddhub.data.classes import plain
from ddhub.data.spec import SourceSpec, whole_split


@dataclass(frozen=True)
class Holdings:
    """The facts about a source on which choices depend."""

    spec: SourceSpec  # splits and columns filled in
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # images of each class in the train split
    side: int  # median of the probed images' shorter sides, in pixels
    uniform: bool  # whether the probed images are squares of one size
    channels: int  # 1 if every probed image is grey, otherwise 3
    tested: bool  # whether there is a test split

    @property
    def images(self) -> int:
        """Images of the train split."""
        return sum(self.counts)

    @property
    def smallest(self) -> int:
        """Images of the smallest class."""
        return min(self.counts)


def look(spec: SourceSpec) -> Holdings:
    """Look at a source without decoding images.

    Raises:
        UserError: if it cannot be read as labelled images.
    """
    if spec.dataset == "digits" and spec.path is None:
        split = source.load_train(spec)[0]
        counts = np.bincount(split.labels.numpy()).tolist()
        return Holdings(split.spec, split.classes, tuple(counts), 8, True, 1, tested=True)
    names = opening.split_names(spec)
    spec = spec if names is None else spec.model_copy(update=_splits(spec, names))
    images = source.encoded(spec, spec.train)
    if not len(images):
        raise UserError(
            f"source: {spec.path or spec.dataset}: the split is empty", next=f"ls {quoted(spec.path or '.')}"
        )
    spec, labels = images.spec, source.labelled(images)
    if len(set(labels.numbers.tolist())) < 2:
        raise UserError(
            f"source: {spec.path or spec.dataset}: split '{spec.train}' has images of one class, '{labels.names[0]}'",
            next="a set needs two classes or more",
        )
    headers = survey.headers(images.only(labels.rows)).values()
    sizes = {header.size for header in headers}
    side = int(np.median([min(header.size) for header in headers]))
    grey = all(header.grey for header in headers)
    counts = np.bincount(labels.numbers, minlength=len(labels.names)).tolist()
    tested = names is None or source.is_tested(spec, names)
    uniform = len(sizes) == 1 and len(set(*sizes)) == 1
    return Holdings(spec, labels.names, tuple(counts), side, uniform, 1 if grey else 3, tested)


def _splits(spec: SourceSpec, names: Sequence[str]) -> dict[str, str]:
    """The splits to train and to test on: the named ones, or substitutes."""
    train = spec.train if whole_split(spec.train) in names or len(names) != 1 else names[0]
    others = [name for name in source.usual_tests(spec) if whole_split(name) in names and name != train]
    return {"train": train, **({"test": others[0]} if others else {})}


def refuse_empty(held: Holdings) -> None:
    """Refuse classes without an image to train on. Other splits can name them.

    Raises:
        UserError: naming the class, and one whose name is almost the same.
    """
    for name, count in zip(held.classes, held.counts, strict=True):
        if not count:
            twin = next((each for each in held.classes if each != name and plain(each) == plain(name)), "")
            raise UserError(
                f"class '{name}' is named, perhaps by another split, and has no image in the split '{held.spec.train}'"
                f"{f'; is it {twin!r}?' if twin else ''}",
                next=f"add images of '{name}' there, or rename it or take it out in all splits",
            )
