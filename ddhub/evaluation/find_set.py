"""Finding the set of an evaluation. Foreign sets are imported beside the rows, never into their own folder."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddhub.artifact import hub, manifest, run_state
from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.set_name import NAME_LENGTH
from ddhub.base import files, hub_client, limits, near_paths, new_folder, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.data import spec
from ddhub.evaluation import find_rows
from ddhub.evaluation.find_rows import IMPORTED
from ddhub.interop.options import ImportOptions

if TYPE_CHECKING:
    from ddhub.interop.importing import ImportRequest

VERSION = 2  # version of the import; a change imports again


@dataclass(frozen=True)
class ImportedSet:
    """A set that was imported for an evaluation."""

    out: Path  # the folder of its evaluation
    name: str  # its name in rows: `owner/name@commit` for a Hub dataset
    fresh: bool  # whether it was imported just now

    @property
    def folder(self) -> Path:
        """The folder of the imported artifact."""
        return self.out / "set"


def split(reference: str) -> tuple[str, str | None]:
    """A path or Hub id, and the requested revision."""
    if not hub_client.is_id(reference):
        return reference, None
    repo_id, _, revision = reference.partition("@")
    return repo_id, revision or None


def require_source(reference: str) -> None:
    """Ask for the source of a local set that is no artifact.

    Raises:
        UserError: with the command to type.
    """
    path = Path(reference)
    if path.exists() and not (path / MANIFEST).is_file():
        if (path.parent / MANIFEST).is_file() or run_state.is_unfinished(path):
            raise manifest.no_set(path)
        raise UserError(
            f"{reference}: is no ddhub artifact (it holds no ddhub.json), so its source has to be said",
            next=f"ddhub evaluate {quoted(reference)} --source DATASET (its origin: a Hub id, digits or a folder)",
        )


def import_beside_rows(reference: str, out: Path | None, asked: "ImportRequest") -> ImportedSet:
    """Import a set into `out`/set, or use an earlier import of the same files with the same options.

    Args:
        reference: a Hub dataset, which is pinned to one commit, or a file or folder in any layout.
        out: None takes `ddhub-evaluations/NAME`.

    Raises:
        UserError: for an artifact, for an `out` inside the set's own folder, and for faults of the import.
    """
    from ddhub.interop import importing

    where, revision = split(reference)
    path, commit = Path(where), None
    if hub_client.is_id(reference):
        commit = hub.pin(where, revision)
        asked = dataclasses.replace(asked, reading=dataclasses.replace(asked.reading, revision=commit))
    elif (path / MANIFEST).is_file():
        raise UserError(f"{reference}: is a ddhub artifact, which names its source itself", next="leave --source out")
    elif not path.exists():
        raise near_paths.no_set(path)
    label = _label(where, asked.reading.config)
    out = out if out is not None else find_rows.evaluations(label)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{out}: lies in the set's own folder, where nothing is written", next="choose another --out")
    identity = files.digest([VERSION, commit or _listing(path), _options(asked)])
    name = f"{where}@{commit}" if commit else asked.name or label
    with new_folder.no_stub(out, out / "set" / MANIFEST, (IMPORTED,)), files.locked(out / ".import.lock"):
        if _imported(out) == identity:
            return ImportedSet(out, name, fresh=False)
        _clear(out)
        say(f"{reference}: importing it into {out / 'set'}")
        files.write_json(out / IMPORTED, {"identity": None})
        with files.disk_errors(out, "importing"), new_folder.whole(out / "set") as staging:
            importing.import_set(path, staging, dataclasses.replace(asked, name=asked.name or label))
        files.write_json(out / IMPORTED, {"identity": identity, "set": name})
    return ImportedSet(out, name, fresh=True)


def _label(where: str, config: str | None) -> str:
    """A name for folders: OWNER--NAME for a Hub id, otherwise the name of the file or folder."""
    path = Path(where).absolute()
    name = where.replace("/", "--") if hub_client.is_id(where) else path.stem if path.is_file() else path.resolve().name
    name = files.safe_name(f"{name}--{config}" if config else name)
    return name.strip("-._")[:NAME_LENGTH] or "set"


def _imported(out: Path) -> str | None:
    """The identity of the import in `out`/set, if it is complete."""
    path = out / IMPORTED
    if not path.is_file() or not (out / "set" / MANIFEST).is_file():
        return None
    identity = strict_json.known(path).get("identity")
    return str(identity) if identity else None


def _clear(out: Path) -> None:
    """Remove an earlier import of other files or with other options. Other content stays."""
    folder = out / "set"
    if not folder.exists():
        return
    imported = strict_json.known(folder / MANIFEST, limits.JSON_BYTES).get("imported")
    if not (out / IMPORTED).is_file() or not imported:
        raise UserError(f"{folder}: holds something else", next="choose another --out")
    say(f"{folder}: imported again, from other files or with other options than before")
    shutil.rmtree(folder)


def _listing(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a set."""
    from ddhub.interop import reading

    if path.is_file():
        found = {path}
        if reading.is_half(path):
            found |= {p for p in path.parent.iterdir() if reading.is_half(p)}
    else:
        found = {p for p in path.rglob("*") if p.is_file()}
    names = {p: str(p.absolute()).encode(errors="backslashreplace").decode() for p in sorted(found)}
    return [(name, p.stat().st_size, p.stat().st_mtime_ns) for p, name in names.items()]


def _options(asked: "ImportRequest") -> dict[str, Any]:
    """The user's statements as plain values. A file of class names counts by its content."""
    said = dataclasses.asdict(asked)
    said["reading"].pop("limit")
    said["source"] = spec.absolute(asked.source)
    if asked.classes is not None and Path(asked.classes).is_file():
        said["classes"] = files.sha256(Path(asked.classes))
    return said


@dataclass(frozen=True)
class EvaluationPlace:
    """Where the set of an evaluation is read, and where its rows go."""

    set: Path
    out: Path
    name: str | None  # its name in rows; None takes the manifest's name
    reference: str  # the reference by which other processes fetch it
    fresh: bool = False  # whether it was imported just now and has no card yet

    @property
    def own(self) -> bool:
        """Whether rows go into the set's own folder."""
        return self.set == self.out


def locate(
    reference: str,
    out: str | Path | None,
    source: str | None,
    options: ImportOptions,
) -> EvaluationPlace:
    """Find, fetch or import the set of an evaluation.

    Args:
        reference: a folder, a file or a Hub id.
        out: the folder for rows; None takes the artifact's folder, or `ddhub-evaluations/NAME`.
        source: the dataset from which a foreign set was distilled.
        options: facts that the files of such a set do not state.

    Raises:
        UserError: if there is no set, or it cannot be imported.
    """
    if source is not None:
        from ddhub.interop import importing

        brought = import_beside_rows(reference, None if out is None else Path(out), importing.ask(source, **options))
        return EvaluationPlace(brought.folder, brought.out, brought.name, str(brought.folder), brought.fresh)
    if options:
        raise UserError(
            f"{', '.join(sorted(options))}: for sets that are no ddhub artifacts", next="--source DATASET too"
        )
    require_source(reference)
    place = hub.fetch(reference)
    if place.repo_id is None and out is None:
        return EvaluationPlace(place.folder, place.folder, None, place.name)
    return EvaluationPlace(
        place.folder, Path(out or find_rows.evaluations(place.repo_id or place.name)), place.name, place.name
    )
