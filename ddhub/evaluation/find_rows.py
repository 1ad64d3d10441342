"""Finding the rows of a set: in its folder or repo, and in the folder of an evaluation elsewhere."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ddhub.artifact import hub, manifest, run_state
from ddhub.artifact.file_names import MANIFEST
from ddhub.base import files, hub_client, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.evaluation import rows as results
from ddhub.evaluation.probe.outcome import Outcome
from ddhub.evaluation.rows import Row

IMPORTED = "import.json"  # in an evaluation's folder: the set that was imported for it


@dataclass(frozen=True)
class SetRows:
    """A set and its rows."""

    label: str  # its name for people
    rows: list[Row]
    place: hub.SetPlace | None = None  # of the artifact, if there is one
    added: list[Path] = field(default_factory=list)  # files of rows outside of the artifact
    probed: Outcome | None = None  # the outcome of a probe of this set, if it lies beside the rows


def evaluations(name: str) -> Path:
    """The default folder of `ddhub evaluate` for rows that do not belong into the set's own folder.

    Args:
        name: a Hub id, or the name of an imported set.
    """
    return Path("ddhub-evaluations") / files.safe_name(name.replace("/", "--"))


def read(reference: str, rows_from: Path | None = None) -> list[SetRows]:
    """The sets of a reference with their rows. An evaluation's folder may have rows of several sets.

    Args:
        reference: an artifact's folder, a Hub id, or the folder of an evaluation.
        rows_from: an evaluation's folder with more rows of the set; None takes the default folder of a Hub id.

    Raises:
        UserError: if there is no set, or no row of it.
    """
    folder = Path(reference)
    if folder.is_dir() and not (folder / MANIFEST).exists():
        return _of_evaluation(reference, folder)
    foreign = _foreign(reference)
    if foreign is not None:
        return _of_evaluation(reference, foreign)
    place = hub.fetch(reference)
    record = manifest.read(place.folder)
    own = results.of(record, place.folder / "evaluation")
    elsewhere = rows_from
    if elsewhere is None and place.repo_id is not None:
        elsewhere = evaluations(place.repo_id)
    if rows_from is not None and not (rows_from / "evaluation").is_dir():
        raise UserError(f"{rows_from}: holds no folder evaluation/", next=f"ddhub evaluate {quoted(reference)}")
    added = _added(place.folder, record, elsewhere) if elsewhere is not None else {}
    if added:
        say(f"{reference}: {len(own)} rows of its own, {len(added)} more from {elsewhere}")
    if not own and not added:
        raise UserError(f"{reference}: not evaluated yet, it has no rows", next=f"ddhub evaluate {quoted(reference)}")
    label = str(folder) if place.repo_id is None else reference
    places = [place.folder, *([elsewhere] if added and elsewhere is not None else [])]
    probes = [Outcome.beside(each, manifest.identity(record.files)) for each in places]
    return [SetRows(label, [*own, *added.values()], place, list(added), next(filter(None, probes), None))]


def _foreign(reference: str) -> Path | None:
    """The folder of a local evaluation of a Hub dataset that is no ddhub artifact; None if there is none."""
    if not hub_client.is_id(reference):
        return None
    repo_id, _, revision = reference.partition("@")
    out = evaluations(repo_id)
    told = strict_json.known(out / IMPORTED).get("set")
    of, _, commit = told.partition("@") if isinstance(told, str) else ("", "", "")
    return out if of == repo_id and commit.startswith(revision) and (out / "evaluation").is_dir() else None


def _added(artifact: Path, record: manifest.Manifest, elsewhere: Path) -> dict[Path, Row]:
    """Rows of the set in an evaluation's folder, except files that the set has under the same name."""
    payload = manifest.identity(record.files)
    paths = results.paths(elsewhere / "evaluation")
    found = {path: results.read(path) for path in paths if not (artifact / "evaluation" / path.name).exists()}
    return {path: row for path, row in found.items() if row.payload == payload}


def _of_evaluation(reference: str, folder: Path) -> list[SetRows]:
    """The sets in an evaluation's folder, one per payload."""
    groups: dict[str, list[Row]] = {}
    for path in results.paths(folder / "evaluation"):
        row = results.read(path)
        groups.setdefault(row.payload, []).append(row)
    if not groups:
        if run_state.is_unfinished(folder) or any((above / MANIFEST).is_file() for above in folder.absolute().parents):
            raise manifest.no_set(folder)
        raise UserError(
            f"{reference}: neither a set (no ddhub.json) nor an evaluation of one (no rows in evaluation/)",
            next="ddhub report SET, or: ddhub evaluate SET --out NEW_FOLDER",
        )
    name = str(folder)
    several = len(groups) > 1
    return [
        SetRows(f"{name} ({payload[:8]})" if several else name, found, probed=Outcome.beside(folder, payload))
        for payload, found in groups.items()
    ]


def destination(found: SetRows) -> tuple[str, str | None]:
    """The repo to which a set's results belong, and the requested branch.

    Raises:
        UserError: if there is none, or it cannot be changed.
    """
    if found.place is None:
        raise UserError(
            f"{found.label}: holds rows, and no set to push",
            next=f"ddhub report OWNER/NAME --from {quoted(found.label)} --push",
        )
    if found.place.repo_id is None:
        folder = found.place.folder
        known = manifest.read(folder).repo_id
        if known is None:
            raise UserError(
                f"{folder}: was never pushed, so it has no repo", next=f"ddhub push {quoted(folder)} OWNER/NAME"
            )
        return known, None
    repo_id, _, revision = found.label.partition("@")
    if hub_client.COMMIT.fullmatch(revision):
        raise UserError(
            f"{found.label}: a commit is not changed any more", next=f"ddhub report {quoted(repo_id)} --push"
        )
    return repo_id, revision or None


def gathered(found: SetRows, staging: Path) -> Path:
    """A folder with the set and all of its rows: its own, or `staging` if the set is a read-only copy."""
    assert found.place is not None
    folder = found.place.folder
    if found.place.repo_id is not None:
        for name, path in hub.published(folder).items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / name)
        folder = staging
    for path in found.added:
        files.write_bytes(folder / "evaluation" / path.name, path.read_bytes())
    return folder
