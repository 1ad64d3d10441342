"""Checks of real images against a set: their classes, their fingerprint, and training images among test images."""

import hashlib
from dataclasses import replace

import torch

from ddhub.artifact.file_names import RECIPE
from ddhub.artifact.folder import Artifact
from ddhub.artifact.recipe import EvaluateSpec
from ddhub.base import strict_yaml
from ddhub.base.errors import UserError
from ddhub.base.log import warn_once
from ddhub.base.schema import check
from ddhub.data import classes
from ddhub.data.source import Split

LOOKED, FEW, MOST = 2000, 0.01, 0.5  # test images compared, and shares found in the train split: warned of, refused


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
            check_classes(found, split, what)
        split = replace(split, labels=torch.tensor(order)[split.labels], classes=tuple(ours))
    held = split.labels.bincount(minlength=len(ours)) > 0
    lacking = [name for name, there in zip(ours, held.tolist(), strict=True) if not there]
    if lacking:
        few = ", ".join(lacking[:5]) + ", ..." * (len(lacking) > 5)
        warn_once(f"{what}: has no images of {len(lacking)} of {len(ours)} classes ({few}): scored on the others")
    return split, len(ours) - len(lacking)


def warn_of_another(found: Artifact, train: Split, what: str) -> None:
    """Warn if the real images here differ from the manifest's fingerprint."""
    if train.fingerprint != found.manifest.source.fingerprint:
        warn_once(
            f"{what}: is not what {found.manifest.name} says that it was made from (source.fingerprint); "
            "baselines and tuning use what was read here"
        )


def refuse_training_images(found: Artifact, test: Split, train: Split | None, what: str, allowed: bool) -> bool:
    """Whether most test images are training images of the set. That is refused unless allowed.

    Raises:
        UserError: if they are and it is not allowed.
    """
    seen = 1.0 if test.fingerprint == found.manifest.source.fingerprint else _share(test, train)
    if seen <= FEW:
        return False
    told = f"{what}: {100 * seen:.3g}% of its images are training images of the set's source"
    if seen > MOST and not allowed:
        raise UserError(told, next="--test FOLDER (or a Hub id) of other images, or --allow-train to test on these")
    warn_once(told)
    return seen > MOST


def _share(test: Split, train: Split | None) -> float:
    """The share of test images that are also training images, pixel by pixel, in a sample of LOOKED images."""
    if train is None or test.images.shape[1:] != train.images.shape[1:]:
        return 0.0
    some = torch.linspace(0, len(test) - 1, min(LOOKED, len(test))).long()
    wanted = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in test.images[some]]
    there = {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in train.images.numpy()}
    return sum(digest in there for digest in wanted) / max(1, len(wanted))


def check_classes(found: Artifact, split: Split, what: str) -> None:
    """Refuse real images with other classes, or another class order, than the set's; `what` names them."""
    if list(split.classes) != found.manifest.classes:
        pairs = zip(found.manifest.classes, split.classes, strict=False)
        first = next((f"'{a}' against '{b}'" for a, b in pairs if a != b), "another number of classes")
        raise UserError(f"{what}: its classes are not those of the set, in its order ({first})")
