"""Where to read the source of a set: from the folder that the user gave, the one that made it here, or the Hub."""

import contextlib
import re
from pathlib import Path

from ddhub.artifact import manifest
from ddhub.artifact.folder import Artifact
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.run_state import RUN, STATE
from ddhub.base import files, hub_client, strict_json
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.data.spec import SourceSpec, absolute


def remember(record: Manifest, path: str | None) -> None:
    """Remember in the cache which local folder a set was made from.

    The set's own folder does not count as memory, because it may be a stranger's.
    """
    if path is not None:
        files.write_json(_note(record), {"set": record.name, "path": absolute(path)})


def remembered(record: Manifest) -> str | None:
    """The remembered folder for exactly this payload and source."""
    path = strict_json.known(_note(record)).get("path")
    return path if isinstance(path, str) else None


def _note(record: Manifest) -> Path:
    known = [manifest.identity(record.files), record.source.model_dump(mode="json")]
    return files.home() / "origins" / f"{files.digest(known)[:32]}.json"


def source_spec(found: Artifact, source_path: str | None) -> SourceSpec:
    """The source of a set for reading: from the folder given, from the remembered folder, or from the Hub.

    Raises:
        UserError: for a set from elsewhere that names a folder. No manifest chooses files to read.
    """
    path = source_path or remembered(found.manifest)
    if path is None:
        _refuse_local(found)
    return recorded_spec(found).model_copy(update={"path": path})


def recorded_spec(found: Artifact) -> SourceSpec:
    """The source as the manifest records it, without a local path."""
    return SourceSpec.model_validate(found.manifest.source.model_dump(include=set(SourceSpec.model_fields)))


def _refuse_local(found: Artifact) -> None:
    """Refuse to follow a manifest to a folder. A name that fits both a folder and a repo needs a choice."""
    dataset, where = found.manifest.source.dataset, f"{found.folder}/ddhub.json"
    here = "--set source.path=FOLDER, where its images lie here"
    if dataset == "digits":
        return
    if not hub_client.REPO_ID.fullmatch(dataset) and not re.fullmatch(r"\w[\w.-]{0,95}", dataset, re.ASCII):
        said = _recorded_path(found.folder)
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
    said = _recorded_path(found.folder)
    if said:
        say(
            f"{found.folder}: made elsewhere, or by an older ddhub: its {STATE}/run.json names {said!r}; not read",
            once=True,
        )


def _recorded_path(folder: Path) -> str | None:
    """The source path in a run.json, for messages only."""
    path = folder / STATE / RUN
    found = None
    with contextlib.suppress(UserError):
        found = strict_json.read(path) if path.is_file() else None
    said = found.get("source_path") if isinstance(found, dict) else None
    return said[:200] if isinstance(said, str) else None
