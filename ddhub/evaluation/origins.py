"""What an evaluation finds elsewhere than in the set: its source, another test set, the settings of its recipe."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import torch

from ddhub.artifact.folder import Artifact
from ddhub.artifact.recipe import EvaluateSpec
from ddhub.artifact.state import STATE, remembered
from ddhub.base import hub_client, strict_json, strict_yaml
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.schema import check
from ddhub.data import classes
from ddhub.data.source import Split
from ddhub.data.spec import SourceSpec


def own_settings(found: Artifact) -> EvaluateSpec:
    """The `evaluate` section of the set's recipe; what it says of its method is none of our business."""
    path = found.folder / "recipe.yaml"
    data = strict_yaml.read(path)
    settings, faults = check(EvaluateSpec, data.get("evaluate", {}) if isinstance(data, dict) else data, "evaluate.")
    if settings is None:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return settings


def source_spec(found: Artifact, source_path: str | None) -> SourceSpec:
    """Where the set's own source is read from here: as told, as the run that made it here was told, or the Hub.

    Raises:
        UserError: for a set from elsewhere that names a folder; no manifest chooses what is read here.
    """
    path = source_path or remembered(found.manifest)
    if path is None:
        _refuse_local(found)
    return recorded_spec(found).model_copy(update={"path": path})


def recorded_spec(found: Artifact) -> SourceSpec:
    """The source as the manifest records it, with no local path."""
    return SourceSpec.model_validate(found.manifest.source.model_dump(include=set(SourceSpec.model_fields)))


def _refuse_local(found: Artifact) -> None:
    """Refuse to follow a manifest to a folder; a name that could be a folder's or a repo's is asked about."""
    dataset, where = found.manifest.source.dataset, f"{found.folder}/ddhub.json"
    here = "--set source.path=FOLDER, where its images lie here"
    if dataset == "digits":
        return
    if not hub_client.REPO_ID.fullmatch(dataset) and not re.fullmatch(r"\w[\w.-]{0,95}", dataset, re.ASCII):
        said = _said(found.folder)
        note = f"; its {STATE}/run.json says {said!r}" if said else ""
        raise UserError(
            f"{where}: its source {dataset[:200]!r} is no Hub id, and a set is not followed to folders of yours{note}",
            next=here,
        )
    if Path(dataset).exists():
        raise UserError(
            f"{where}: its source '{dataset}' is a Hub id, and a folder here has the same name",
            next=f"--set source.path={dataset} reads that folder; the command in another folder asks the Hub",
        )
    said = _said(found.folder)
    if said:
        say(f"{found.folder}: made elsewhere, or by an older ddhub: its {STATE}/run.json names {said!r}; not read")


def _said(folder: Path) -> str | None:
    """Where the run that made a set says that its source was; for people to see, not to be followed."""
    path = folder / STATE / "run.json"
    found = None
    with contextlib.suppress(UserError):
        found = strict_json.read(path) if path.is_file() else None
    said = found.get("source_path") if isinstance(found, dict) else None
    return said[:200] if isinstance(said, str) else None


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
