"""Real images: any Hub id or folder that `datasets.load_dataset` reads, decoded once into a memory-mapped uint8 array.

The train split and the test split have separate doors. `load_train` never opens the test split; `load_test` is called
by evaluation alone (a test holds both).
Shapes: N images, C channels, H W sides (equal).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddhub.base import files, seeds
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn_once
from ddhub.data import columns, image_cache, opening, splits, survey
from ddhub.data.catalog import Shape
from ddhub.data.encoded import Encoded
from ddhub.data.spec import SourceSpec

TESTS = ("test", "validation", "valid", "val")  # what a split to test on is called
DECODING = 3  # version of the decoding rules below; a change makes new cache files


@dataclass(frozen=True)
class Split:
    """Decoded images of one split."""

    images: Tensor  # uint8 (N, C, H, W), memory-mapped from the cache
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]  # names, in label order
    fingerprint: str  # `sha256:...` of pixels, labels and class names
    spec: SourceSpec  # with revision, columns, resolution and channels filled in

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """How many images and classes there are, of which size."""
        return Shape(len(self), len(self.classes), *self.images.shape[1:3])


def load_train(spec: SourceSpec, limit: int | None = None) -> tuple[Split, Tensor, Tensor]:
    """The whole train split, and the indices of its training part and of its held-out validation part.

    Args:
        limit: bytes of pixels that it may have, where it is a stranger's.

    Raises:
        UserError: when the source cannot be read as labelled images; says what is missing.
    """
    split = _load(spec, spec.train, limit)
    training, validation = hold_out(split.labels, spec.validation, spec.split_seed)
    return split, training, validation


def check_test(spec: SourceSpec) -> None:
    """Say that a source has no split to test on, before hours go into a set that could not be scored on it.

    Raises:
        UserError: where another split may be meant, or the train split is.
    """
    if spec.test == spec.train:
        raise UserError(f"source.test: '{spec.test}' is the split that is trained on", next="--set source.test=test")
    names = opening.split_names(spec)
    if names is None or {spec.train.partition("[")[0], spec.test.partition("[")[0]} <= set(names):
        return
    if spec.train.partition("[")[0] not in names:
        raise UserError(
            f"source: {spec.dataset}: has no split '{spec.train}', only {', '.join(names)}",
            next=splits.missing(spec.train, spec.test, spec.train, names),
        )
    others = [name for name in names if name != spec.train.partition("[")[0]]
    if others:
        raise UserError(
            f"source: {spec.dataset}: has no split '{spec.test}' to test on, only {', '.join(names)}",
            next=splits.missing(spec.train, spec.test, spec.test, names),
        )
    warn_once(
        f"{spec.dataset} has no split to test on, only {', '.join(names)}: the set can be made, and evaluated with "
        "ddhub evaluate SET --test FOLDER (or a Hub id) of test images"
    )


def find_test(spec: SourceSpec) -> SourceSpec:
    """The spec with the split that is tested on: its own, one of the usual names, or the only one there is.

    Raises:
        UserError: where none can be meant.
    """
    if spec.dataset == "digits" and spec.path is None:
        return spec
    if not opening.is_local(spec):
        spec = spec.model_copy(
            update={"revision": opening.resolve_revision(spec.dataset, spec.revision)}
        )  # one commit for all
    names = opening.split_names(spec)
    if names is None:
        return spec
    usual = [name for name in (spec.test, *TESTS) if name in names] or (names if len(names) == 1 else [])
    if not usual:
        raise UserError(
            f"{spec.path or spec.dataset}: has no split to test on, only {', '.join(names)}",
            next=splits.missing(spec.train, spec.test, spec.test, names),
        )
    return spec.model_copy(update={"test": usual[0]})


def load_test(spec: SourceSpec) -> Split:
    """The test split; for evaluation only."""
    return _load(spec, spec.test)


def hold_out(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Stratified split of indices: (kept, held out), both sorted.

    Every class holds out at least one image, and keeps at least one: a class of one image is trained on.
    """
    held = []
    found, counts = labels.unique(return_counts=True)
    by_class = labels.argsort(stable=True).split(counts.tolist())  # each class's indices, in order
    for label, members in zip(found.tolist(), by_class, strict=True):
        order = torch.randperm(len(members), generator=seeds.generator(seed, "validation", label))
        held.append(members[order[: min(max(1, round(share * len(members))), len(members) - 1)]])
    validation = torch.cat(held).sort().values
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[validation] = False
    return keep.nonzero().flatten(), validation


def stratified(
    labels: Tensor, classes: tuple[str, ...], ipc: int | Sequence[int], seed: int, *purpose: str | int
) -> Tensor:
    """Indices of random images of every class, class by class.

    Args:
        ipc: how many of every class, or of each.

    Raises:
        UserError: when a class has fewer.
    """
    chosen, counts = [], [ipc] * len(classes) if isinstance(ipc, int) else ipc
    for label, name in enumerate(classes):
        members, count = (labels == label).nonzero().flatten(), counts[label]
        if not len(members) and count:
            raise UserError(f"class '{name}' has no image in the training part", next="leave it out of the class names")
        if len(members) < count:
            raise UserError(
                f"ipc: {count} images per class asked for, but class '{name}' has {len(members)} in the training part",
                next=f"--set ipc={max(1, len(members))}, or a smaller source.validation",
            )
        order = torch.randperm(len(members), generator=seeds.generator(seed, "real", *purpose, label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen)


def _load(spec: SourceSpec, split: str, limit: int | None = None) -> Split:
    if spec.dataset == "digits" and spec.path is None:
        return _digits(spec, split)
    dataset, revision = opening.rows(spec, split, (spec.train, spec.test), theirs=limit is not None)
    dataset, found = columns.find(spec, dataset)
    asked = spec.model_copy(update={"revision": revision, **found})
    images = Encoded.of(dataset, asked, split)
    spec = asked.model_copy(update=_surveyed(images))
    assert spec.channels and spec.resolution
    bytes_of_pixels = len(dataset) * spec.channels * spec.resolution**2
    if limit is not None and bytes_of_pixels > limit:
        raise UserError(f"source: {spec.dataset}: holds {bytes_of_pixels} bytes of pixels", next="--max-bytes BYTES")
    folder = files.home() / "images" / files.digest([spec.resolution, spec.channels, spec.range, _key(images)])[:32]
    with files.locked(folder.with_suffix(".lock")):
        meta = image_cache.read(folder, asked)
        if meta is None:
            labels = _labelled(images)
            read = replace(images, spec=spec, rows=labels.rows)
            meta = image_cache.write(read, asked, folder, labels.numbers, labels.names)
    for warning in meta["warnings"]:
        warn_once(f"{spec.dataset} {split}: {warning}")
    spec = spec.model_copy(update={"background": spec.background or meta["background"]})
    # Copy-on-write mapping: pages are read on demand and never written back.
    pixels = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    numbers = torch.from_numpy(np.load(folder / "labels.npy"))
    return Split(pixels, numbers, tuple(meta["classes"]), meta["fingerprint"], spec)


def _surveyed(images: Encoded) -> dict[str, Any]:
    """What the survey found of a source's pictures; remembered beside the decoded ones."""
    spec = images.spec
    path = (
        files.home()
        / "images"
        / f"{files.digest([_key(images), spec.resolution, spec.channels, spec.range])[:32]}.json"
    )
    if not path.exists():
        files.write_json(path, survey.survey(images))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _labelled(images: Encoded) -> columns.Labels:
    """The labels of the rows that have one; those that have none are counted."""
    spec, split = images.spec, images.split
    labels = columns.labels(images.dataset, spec)
    if hasattr(images.dataset.features[spec.label], "names"):
        own = splits.relabelled(
            labels, str(spec.label), opening.data_files(spec, split), f"source: {spec.dataset}: {split}"
        )
        if own is not labels:
            say(f"{spec.dataset} {split}: its files number the classes in another order; matched by name")
        labels = own
    left = len(images) - len(labels.rows)
    if left:
        say(f"{spec.dataset} {split}: {left} of {len(images)} rows have no label (-1, or empty) and are left out")
    return labels


def _digits(spec: SourceSpec, split: str) -> Split:
    """scikit-learn's digits: 1,797 grey 8x8 images, of which a fixed stratified fifth is the test split."""
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise UserError(f"source: digits has no split '{split}'; it has train and test")
    data = load_digits()
    images = torch.from_numpy((data.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(data.target.astype(np.int64))
    train, test = hold_out(labels, 0.2, seed=0)
    index = train if split == "train" else test
    images, labels = images[index], labels[index]
    classes = tuple(str(name) for name in data.target_names)
    if spec.resolution not in (None, 8) or spec.channels == 3:
        raise UserError("source: digits are 8x8 with one channel and are kept so; drop resolution and channels")
    found = spec.model_copy(update={"resolution": 8, "channels": 1, "image": "image", "label": "label"})
    content = image_cache.fingerprint([images.numpy()], images.shape, labels.numpy(), classes)
    return Split(images, labels, classes, content, found)


def _key(images: Encoded) -> list[Any]:
    """Changes whenever the files behind a split, or the rules of decoding, do."""
    spec, rules = images.spec, survey.rules_of(images.spec)
    stats = [(entry["filename"], Path(entry["filename"]).stat()) for entry in images.dataset.cache_files]
    return [
        DECODING,
        spec.dataset,
        images.split,
        spec.image,
        spec.label,
        rules.background,
        spec.skip_damaged,
        [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
    ]
