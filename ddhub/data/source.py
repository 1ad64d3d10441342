"""Real images: any Hub id or folder that `datasets.load_dataset` reads, decoded once into a memory-mapped array.

Train and test split have separate functions. `load_train` never opens the test split. Only the evaluation calls
`load_test`. A test checks both. A test split held out of the train split is decoded by `load_test` alone, and the
other images by `load_train` alone.
Shapes: N images, C channels, H W sides (equal).
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddhub.base import checked_files, files
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn_once
from ddhub.data import columns, contents, copies, held_out, image_cache, local_splits, opening, survey
from ddhub.data import labels as label_values
from ddhub.data.catalog import Shape
from ddhub.data.encoded_images import Encoded
from ddhub.data.labels import Labels
from ddhub.data.spec import SourceSpec, whole_split

TESTS = ("test", "validation", "valid", "val")  # usual names of a test split
DECODING = 4  # version of the decoding rules; a change makes new cache files


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
        """Number and size of the images, and number of classes."""
        return Shape(len(self), len(self.classes), *self.images.shape[1:3])


def load_train(spec: SourceSpec, limit: int | None = None) -> tuple[Split, Tensor, Tensor]:
    """Load the train split, with the indices of its training part and of its validation part.

    Args:
        limit: the most bytes of pixels, for a stranger's source.

    Raises:
        UserError: if the source cannot be read as labelled images, with the reason.
    """
    split = _load(spec, spec.train, limit)
    training, validation = held_out.hold_out(split.labels, spec.validation, spec.split_seed)
    return split, training, validation


def check_test(spec: SourceSpec) -> None:
    """Warn that a source has no test split, before hours go into a set that cannot be tested on it.

    Raises:
        UserError: if another split may be meant, or if the train split is named as test split.
    """
    if spec.test == spec.train and spec.hold_out is None:
        raise UserError(f"source.test: '{spec.test}' is the split that is trained on", next="--set source.test=test")
    names = opening.split_names(spec)
    if names is None or {whole_split(spec.train), whole_split(tested_split(spec))} <= set(names):
        return
    if whole_split(spec.train) not in names:
        raise UserError(
            f"source: {spec.dataset}: has no split '{spec.train}', only {', '.join(names)}",
            next=local_splits.missing(spec.train, spec.test, spec.train, names),
        )
    others = [name for name in names if name != whole_split(spec.train)]
    if others:
        raise UserError(
            f"source: {spec.dataset}: has no split '{spec.test}' to test on, only {', '.join(names)}",
            next=local_splits.missing(spec.train, spec.test, spec.test, names),
        )
    warn_once(
        f"{spec.dataset} has no split to test on, only {', '.join(names)}: --set source.hold_out=0.2 holds a share of "
        "it out for testing, or ddhub evaluate SET --test FOLDER (or a Hub id) tests on images from elsewhere"
    )


def find_test(spec: SourceSpec) -> SourceSpec:
    """The spec with its test split filled in: its own, one of the usual names, or the only possible one.

    Raises:
        UserError: if no split is possible.
    """
    if spec.dataset == "digits" and spec.path is None:
        return spec
    if not opening.is_local(spec):
        spec = spec.model_copy(
            update={"revision": opening.resolve_revision(spec.dataset, spec.revision)}
        )  # one commit for all splits
    names = opening.split_names(spec)
    if names is None:
        return spec
    usual = [name for name in usual_tests(spec) if name in names] or (names if len(names) == 1 else [])
    if not usual:
        raise UserError(
            f"{spec.path or spec.dataset}: has no split to test on, only {', '.join(names)}",
            next=local_splits.missing(spec.train, spec.test, spec.test, names),
        )
    return spec.model_copy(update={"test": usual[0]})


def tested_split(spec: SourceSpec) -> str:
    """The split that holds the test images."""
    return spec.test if spec.hold_out is None else spec.train


def is_tested(spec: SourceSpec, names: Sequence[str]) -> bool:
    """Whether a source with these splits has test images."""
    return whole_split(tested_split(spec)) in names


def usual_tests(spec: SourceSpec) -> tuple[str, ...]:
    """The possible names of the test split, the likeliest first."""
    return (spec.test, *TESTS)


def load_test(spec: SourceSpec) -> Split:
    """Load the test split. Only the evaluation may call it."""
    return _load(spec, tested_split(spec), tested=True)


def test_words(spec: SourceSpec) -> str:
    """The test images in words: a split, or the held-out part of one."""
    return spec.test if spec.hold_out is None else f"{spec.train}, {spec.hold_out:.0%} held out"


def _load(spec: SourceSpec, split: str, limit: int | None = None, tested: bool = False) -> Split:
    """Load one split, or its training part, or its test part if `tested`."""
    if spec.dataset == "digits" and spec.path is None:
        return _digits(spec, split)
    images, labels = encoded(spec, split, theirs=limit is not None), None
    asked = images.spec
    if asked.hold_out is not None:
        labels = _part(images, tested)
        images = images.only(labels.rows)
    spec = asked.model_copy(update=_surveyed(images))
    assert spec.channels and spec.resolution
    bytes_of_pixels = len(images) * spec.channels * spec.resolution**2
    if limit is not None and bytes_of_pixels > limit:
        raise UserError(f"source: {spec.dataset}: holds {bytes_of_pixels} bytes of pixels", next="--max-bytes BYTES")
    folder = image_cache.place([spec.resolution, spec.channels, spec.range, _key(images)])
    with files.locked(folder.with_suffix(".lock")):
        meta = image_cache.read(folder, asked)
        if meta is None:
            labels = labels or labelled(images)
            read = replace(images, spec=spec, rows=labels.rows)
            meta = image_cache.write(read, asked, folder, labels.numbers, labels.names)
    for warning in meta["warnings"]:
        warn_once(f"{spec.dataset} {split}: {warning}")
    spec = spec.model_copy(update={"background": spec.background or meta["background"]})
    # Copy-on-write mapping: pages are read on demand and never written back.
    pixels = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    numbers = torch.from_numpy(np.load(folder / "labels.npy"))
    return Split(pixels, numbers, tuple(meta["classes"]), meta["fingerprint"], spec)


def encoded(spec: SourceSpec, split: str, theirs: bool = False) -> Encoded:
    """The stored images of a split, and the spec with revision and columns filled in.

    Args:
        theirs: whether a stranger wrote a local folder. Such a folder may read no outside files.
    """
    dataset, revision = opening.rows(spec, split, (spec.train, spec.test), theirs=theirs)
    found = columns.find(spec, dataset)
    return Encoded.of(dataset, spec.model_copy(update={"revision": revision, **found}), split)


def _surveyed(images: Encoded) -> dict[str, Any]:
    """The survey of a source's pictures, cached beside the decoded images."""
    spec = images.spec
    path = image_cache.place([_key(images), spec.resolution, spec.channels, spec.range], ".json")
    found: dict[str, Any] | None = checked_files.read_note(path)
    if found is None:
        found = survey.survey(images)
        checked_files.write_note(path, found)
    return found


def labelled(images: Encoded) -> Labels:
    """The labels of the labelled rows. A message counts the others."""
    spec, split = images.spec, images.split
    labels = label_values.read(images.dataset, spec)
    if hasattr(images.dataset.features[spec.label], "names"):
        paths, where = opening.data_files(spec, split), f"source: {spec.dataset}: {split}"
        own = local_splits.relabelled(labels, str(spec.label), paths, where, whole="[" not in split)
        if own is not labels:
            say(f"{spec.dataset} {split}: its files number the classes in another order; matched by name")
        labels = own
    else:
        _say_unlisted(images)
    label_values.check(labels, spec)
    left = len(images) - len(labels.rows)
    if left:
        without = f"{left} of {len(images)} rows have no label (a negative number, or empty)"
        say(f"{spec.dataset} {split}: {without} and are left out")
    return labels


def _say_unlisted(images: Encoded) -> None:
    """Count the pictures of a local folder that its table of labels leaves out, as `datasets` does without a word."""
    spec = images.spec
    saved = local_splits.saved(Path(spec.path or spec.dataset).expanduser())  # rows can be of any folder
    if not saved and (left := contents.beside(images.files)):
        told = f"{left} pictures lie beside the others, and have no row in its metadata: they are left out"
        say(f"{spec.dataset} {images.split}: {told}", once=True)


def _part(images: Encoded, tested: bool) -> Labels:
    """Labels and rows of the training part of a train split, or of its test part if `tested`.

    The test leaves out held-out pictures that are copies of training images.

    Raises:
        UserError: for a class that is too small to divide, and where all held-out pictures are copies.
    """
    whole, spec = labelled(images), images.spec
    assert spec.hold_out is not None
    held_out.refuse_small(whole.names, np.bincount(whole.numbers).tolist())
    numbers = torch.from_numpy(whole.numbers)
    kept, held = (part.numpy() for part in held_out.hold_out(numbers, spec.hold_out, spec.split_seed, "test"))
    if tested:
        noted = image_cache.place(["copies", _key(images.only(whole.rows[held]))], ".json")
        held = held[~np.isin(whole.rows[held], copies.left_out(images, whole.rows[kept], whole.rows[held], noted))]
    part = held if tested else kept
    return Labels(whole.numbers[part], whole.names, whole.rows[part])


def _digits(spec: SourceSpec, split: str) -> Split:
    """scikit-learn's digits: 1,797 grey 8x8 images. A fixed stratified fifth is the test split."""
    if spec.hold_out is not None:
        raise UserError("source.hold_out: digits has a test split", next="drop source.hold_out")
    if split not in ("train", "test"):
        raise UserError(f"source: digits has no split '{split}'; it has train and test")
    table = _digits_table()
    pixels = (table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    images, labels = torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(table[:, -1].astype(np.int64))
    train, test = held_out.hold_out(labels, 0.2, seed=0)
    index = train if split == "train" else test
    images, labels = images[index], labels[index]
    classes = tuple(str(digit) for digit in range(10))
    if spec.resolution not in (None, 8) or spec.channels == 3:
        raise UserError("source: digits are 8x8 with one channel and are kept so; drop resolution and channels")
    found = spec.model_copy(update={"resolution": 8, "channels": 1, "image": "image", "label": "label"})
    content = image_cache.fingerprint([images.numpy()], images.shape, labels.numpy(), classes)
    return Split(images, labels, classes, content, found)


def _digits_table() -> np.ndarray:
    """The table behind scikit-learn's `load_digits`, (1797, 65): 64 pixels from 0 to 16 and a label.

    The file is read directly, because importing scikit-learn takes two seconds.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not path.is_file():  # another release of scikit-learn
        from sklearn.datasets import load_digits

        data = load_digits()
        return np.column_stack([data.data, data.target])
    return np.loadtxt(path, delimiter=",")


def _key(images: Encoded) -> list[Any]:
    """The cache key of a split. It changes with its files, the part that is read, and the decoding rules."""
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
        *([] if spec.hold_out is None else [hashlib.sha256(images.rows.tobytes()).hexdigest()]),
    ]
