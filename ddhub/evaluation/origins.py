"""What an evaluation finds elsewhere than in the set: its source, another test set, the settings of its recipe."""

from dataclasses import replace

import torch

from ddhub.artifact.folder import Artifact
from ddhub.artifact.recipe import EvaluateSpec
from ddhub.base import strict_yaml
from ddhub.base.errors import UserError
from ddhub.base.schema import check
from ddhub.data import classes
from ddhub.data.source import Split


def own_settings(found: Artifact) -> EvaluateSpec:
    """The `evaluate` section of the set's recipe; what it says of its method is none of our business."""
    path = found.folder / "recipe.yaml"
    data = strict_yaml.read(path)
    settings, faults = check(EvaluateSpec, data.get("evaluate", {}) if isinstance(data, dict) else data, "evaluate.")
    if settings is None:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return settings


def aligned(found: Artifact, split: Split, what: str) -> Split:
    """Test data with its classes numbered as the set's, where names or WordNet ids tell which is which.

    Raises:
        UserError: where they do not; `what` names the data.
    """
    order = classes.match(split.classes, found.manifest.classes)
    if order is None or list(split.classes) == found.manifest.classes:
        check_classes(found, split, what)
        return split
    return replace(split, labels=torch.tensor(order)[split.labels], classes=tuple(found.manifest.classes))


def check_classes(found: Artifact, split: Split, what: str) -> None:
    """Refuse real images whose classes are not those of the set, in its order; `what` names them."""
    if list(split.classes) != found.manifest.classes:
        pairs = zip(found.manifest.classes, split.classes, strict=False)
        first = next((f"'{a}' against '{b}'" for a, b in pairs if a != b), "another number of classes")
        raise UserError(f"{what}: its classes are not those of the set, in its order ({first})")
