"""Checks of real images against a set: their classes, their fingerprint, and training images among test images."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from ddhub.artifact import source_location
from ddhub.artifact.file_names import RECIPE
from ddhub.artifact.folder import Artifact
from ddhub.artifact.recipe import EvaluateSpec
from ddhub.base import checked_files, strict_yaml
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn_once
from ddhub.base.schema import check
from ddhub.base.units import listed
from ddhub.data import classes, image_cache, opening
from ddhub.data import source as sources
from ddhub.data.source import Split
from ddhub.evaluation.rows import FEW_COPIES

SHOWN = 5  # class names in a sentence
MOST = 0.5  # share of test images that are training images, above which they are refused
DECODED = 200_000  # most training images of a Hub repo that are decoded only to compare test images with them


def own_settings(found: Artifact) -> EvaluateSpec:
    """The `evaluate` section of the set's recipe. Its method's settings are not read."""
    path = found.folder / RECIPE
    data = strict_yaml.read(path)
    settings, faults = check(EvaluateSpec, data.get("evaluate", {}) if isinstance(data, dict) else data, "evaluate.")
    if settings is None:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return settings


def aligned(found: Artifact, split: Split, what: str) -> tuple[Split, int]:
    """Test data with the set's class numbers, by names or WordNet ids, and the number of its classes.

    A warning names missing classes. The score covers the others.

    Raises:
        UserError: if it has other classes, or names are ambiguous; `what` names the data.
    """
    ours = found.manifest.classes
    if list(split.classes) != ours:
        order = classes.match(split.classes, ours, some=True)
        if order is None:
            _refuse_classes(split, ours, what)
        split = replace(split, labels=torch.tensor(order)[split.labels], classes=tuple(ours))
    held = split.labels.bincount(minlength=len(ours)) > 0
    lacking = [name for name, there in zip(ours, held.tolist(), strict=True) if not there]
    if lacking:
        few = f"{len(lacking)} of {len(ours)} classes ({listed(lacking, SHOWN)})"
        warn_once(f"{what}: has no images of {few}: scored on the others")
    return split, len(ours) - len(lacking)


def _refuse_classes(split: Split, ours: Sequence[str], what: str) -> NoReturn:
    """Refuse test data whose classes are not those of the set.

    Raises:
        UserError: naming the first of them.
    """
    strange = [name for name in split.classes if classes.match([name], ours, some=True) is None]
    told = f"it has classes that the set has not: {listed(strange, SHOWN)}" if strange else "its names are ambiguous"
    raise UserError(
        f"{what}: its classes are not those of the set ({told}; the set has {listed(ours, SHOWN)})",
        next="rename them as in the set, or leave their images out; --test FOLDER tests on other images",
    )


def is_another(found: Artifact, train: Split) -> bool:
    """Whether the real images here differ from those that the set was made from. A warning says so."""
    differs = train.fingerprint != found.manifest.source.fingerprint
    if differs:
        warn_once(
            f"the train split of {train.spec.path or train.spec.dataset}: is not what {found.manifest.name} says that "
            "it was made from (source.fingerprint); baselines, tuning and the count of training images among test "
            "images use what was read here"
        )
    return differs


def refuse_drawn_anew(found: Artifact, what: str, allowed: bool) -> None:
    """Refuse a held-out test part of changed pictures, unless allowed.

    One picture more or less in a class draws its part anew. Images that the set was made from then get into it, and
    nothing tells which.

    Raises:
        UserError: if it is not allowed.
    """
    told = (
        f"{what}: the pictures there have changed since {found.manifest.name} was made, so its test part is drawn"
        " anew, and can hold images that the set was distilled from"
    )
    if not allowed:
        raise UserError(
            told,
            next="put the pictures back as they were, or distill them again; --test FOLDER (or a Hub id) tests on other"
            " images, and --allow-train on these",
        )
    warn_once(told)


def training_images(found: Artifact, source_path: str | None, own: bool) -> Split | None:
    """The train split to compare test images with, if it is on this machine's disk.

    With the test split of a Hub repo, `datasets` has fetched its train split too. A large one is not decoded for this.

    Args:
        own: whether the test images are the source's own.
    """
    try:
        spec = source_location.source_spec(found, source_path)
        here = spec.dataset == "digits" or opening.is_local(spec)
        if not here and own:
            here = len(sources.encoded(spec, spec.train)) <= DECODED
        return sources.load_train(spec)[0] if here else None
    except UserError:
        return None


def refuse_training_images(found: Artifact, test: Split, train: Split | None, what: str, allowed: bool) -> int | None:
    """The number of test images that are training images of the set's source, pixel by pixel; None if it is unknown.

    The test splits of some benchmarks hold a few, so a few are only reported. A test split that consists mostly of
    training images is no test. It is refused unless allowed, also where the source declares it.

    Args:
        train: the train split, if it is here. Without it, an earlier count of the same images is taken.
        what: the name of the test images, for messages.

    Raises:
        UserError: if most of them are training images and it is not allowed.
    """
    same = test.fingerprint == found.manifest.source.fingerprint
    copies = len(test) if same else _counted(found, test) if train is None else _copies(test, train)
    if copies is None:
        say(f"{what}: not compared with the training images of the set's source, which were not read", once=True)
    if not copies:
        return copies
    share = f"{100 * copies / len(test):.3g}% of its images are training images of the set's source"
    told = f"{what}: {share} ({copies} of {len(test)})"
    if mostly(copies, test) and not allowed:
        raise UserError(told, next="--test FOLDER (or a Hub id) of other images, or --allow-train to test on these")
    if copies > FEW_COPIES * len(test):
        warn_once(told)
    else:
        say(told, once=True)
    return copies


def mostly(copies: int | None, test: Split) -> bool:
    """Whether most test images are training images."""
    return (copies or 0) > MOST * len(test)


def _copies(test: Split, train: Split) -> int:
    """The number of test images that are also training images, pixel by pixel. It is kept in the cache."""
    if test.images.shape[1:] != train.images.shape[1:]:
        return 0
    noted = _note(test.fingerprint, train.fingerprint)
    found: int | None = checked_files.read_note(noted)
    if found is None:
        found = _shared(test.images, train.images)
        with contextlib.suppress(UserError):  # a cache without a place: the images are compared again next time
            checked_files.write_note(noted, found)
    return found


def _counted(found: Artifact, test: Split) -> int | None:
    """An earlier count for these test images and the set's own training images; None if there is none."""
    known = checked_files.read_note(_note(test.fingerprint, found.manifest.source.fingerprint))
    return known if type(known) is int else None


def _note(test: str, train: str) -> Path:
    """The cache file of the count for two fingerprints."""
    return image_cache.place(["test images in train", test, train], ".json")


def _shared(test: Tensor, train: Tensor) -> int:
    """The number of images (C, H, W) of `test` that `train` holds too.

    One line of pixels tells most images apart, so few training images are read whole.
    """
    middle = test.shape[2] // 2
    lines = {image[:, middle].tobytes() for image in test.numpy()}
    alike = (image for image in train.numpy() if image[:, middle].tobytes() in lines)
    there = {hashlib.blake2b(image.tobytes()).digest() for image in alike}
    return sum(hashlib.blake2b(image.tobytes()).digest() in there for image in test.numpy())


def check_classes(found: Artifact, split: Split, what: str) -> None:
    """Refuse real images with other classes, or another class order, than the set's; `what` names them."""
    if list(split.classes) != found.manifest.classes:
        pairs = zip(found.manifest.classes, split.classes, strict=False)
        first = next((f"'{a}' against '{b}'" for a, b in pairs if a != b), "another number of classes")
        raise UserError(f"{what}: its classes are not those of the set, in its order ({first})")
