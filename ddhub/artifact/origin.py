"""Where the source of a set is read from here: as its maker's cache remembers, as told, or by its Hub id."""

import contextlib
import re
from pathlib import Path

from ddhub.artifact import manifest
from ddhub.artifact.folder import Artifact
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.state import STATE
from ddhub.base import files, hub_client, strict_json
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.data.spec import SourceSpec, absolute


def remember(record: Manifest, path: str | None) -> None:
    """Note in the cache that a set was made on this machine from a local folder, so that it is found there again.

    What a set's own folder says of that is not asked: the folder may be a stranger's.
    """
    if path is not None:
        files.write_json(_note(record), {"set": record.name, "path": absolute(path)})


def remembered(record: Manifest) -> str | None:
    """The folder that `remember` noted for a set of this very payload and source, wherever it lies now."""
    path = strict_json.known(_note(record)).get("path")
    return path if isinstance(path, str) else None


def _note(record: Manifest) -> Path:
    known = [manifest.identity(record.files), record.source.model_dump(mode="json")]
    return files.home() / "origins" / f"{files.digest(known)[:32]}.json"


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
