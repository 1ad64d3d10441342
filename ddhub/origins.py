"""What an evaluation finds elsewhere than in the set: its source, another test set, the settings of its recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddhub import classorder, strictjson, strictyaml
from ddhub.artifact import Artifact
from ddhub.errors import UserError
from ddhub.recipe import EvaluateSpec, SourceSpec
from ddhub.schema import check
from ddhub.sources import Split


def own_settings(found: Artifact) -> EvaluateSpec:
    """The `evaluate` section of the set's recipe; what it says of its method is none of our business."""
    path = found.folder / "recipe.yaml"
    data = strictyaml.read(path)
    settings, faults = check(EvaluateSpec, data.get("evaluate", {}) if isinstance(data, dict) else data, "evaluate.")
    if settings is None:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return settings


def source_spec(found: Artifact, source_path: str | None) -> SourceSpec:
    """Where the set's own source is read from here: as told, as the run that made it was told, or the Hub."""
    known = found.manifest.source.model_dump(include=set(SourceSpec.model_fields))
    return SourceSpec.model_validate({**known, "path": source_path or remembered(found.folder)})


def remembered(folder: Path) -> str | None:
    """Where the run that made a set here was told to read its source, if it was told."""
    local = folder / ".ddhub" / "run.json"
    found = strictjson.read(local) if local.exists() else None
    path = found.get("source_path") if isinstance(found, dict) else None
    return path if isinstance(path, str) else None


def absolute(place: str) -> str:
    """A local path from the root, because other processes may start elsewhere; a Hub id as it is."""
    return str(Path(place).expanduser().absolute()) if _is_local(place) else place


def _is_local(place: str) -> bool:
    return Path(place).is_dir() or place.startswith((".", "/", "~"))


def elsewhere(test: str) -> dict[str, Any]:
    """A spec's changes that read the test split from another Hub id or folder, its columns found anew."""
    dataset, _, revision = test.partition("@")
    where = {"path": test} if _is_local(test) else {"dataset": dataset, "path": None, "revision": revision or None}
    return {**where, "config": None, "image": None, "label": None}


def aligned(found: Artifact, split: Split, what: str) -> Split:
    """Test data with its classes numbered as the set's, where names or WordNet ids tell which is which.

    Raises:
        UserError: where they do not; `what` names the data.
    """
    order = classorder.match(split.classes, found.manifest.classes)
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
