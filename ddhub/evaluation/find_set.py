"""Sets that are no ddhub artifacts: imported beside the rows of their evaluation, never into their own folder."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddhub.artifact import hub, manifest
from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.set_name import NAME_LENGTH
from ddhub.base import files, hub_client, limits, new_folder, strict_json
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.data import spec
from ddhub.evaluation import find_results
from ddhub.evaluation.find_results import IMPORTED
from ddhub.interop.options import ImportOptions

if TYPE_CHECKING:
    from ddhub.interop.importing import ImportRequest

VERSION = 2  # of what is imported how; a change imports anew


@dataclass(frozen=True)
class Brought:
    """A set that was imported for an evaluation."""

    out: Path  # where its evaluation goes
    name: str  # what rows call it: `owner/name@commit` for a Hub dataset
    fresh: bool  # whether it was imported just now

    @property
    def folder(self) -> Path:
        """The artifact that it became."""
        return self.out / "set"


def split(reference: str) -> tuple[str, str | None]:
    """A path or Hub id, and the revision that is asked for."""
    if not hub_client.is_id(reference):
        return reference, None
    repo_id, _, revision = reference.partition("@")
    return repo_id, revision or None


def refuse_unsaid(reference: str) -> None:
    """Ask for the source of what lies here and is no artifact.

    Raises:
        UserError: with what to type.
    """
    path = Path(reference)
    if path.exists() and not (path / MANIFEST).is_file():
        if (path.parent / MANIFEST).is_file():
            raise manifest.no_set(path)
        raise UserError(
            f"{reference}: is no ddhub artifact (it holds no ddhub.json), so its source has to be said",
            next=f"ddhub evaluate {reference} --source DATASET (what it was made from: a Hub id, digits or a folder)",
        )


def bring(reference: str, out: Path | None, asked: "ImportRequest") -> Brought:
    """Import a set into `out`/set, or take what was imported there before of the same files in the same way.

    Args:
        reference: a Hub dataset, pinned to one commit here, or a file or folder in any layout.
        out: by default `ddhub-evaluations/NAME`.

    Raises:
        UserError: for an artifact, for an `out` inside the set's own folder, and whatever importing.import_set refuses.
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
        raise UserError(f"{reference}: no such file or folder, and no Hub id owner/name")
    label = _label(where, asked.reading.config)
    out = out if out is not None else find_results.evaluations(label)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{out}: lies in the set's own folder, where nothing is written", next="choose another --out")
    identity = files.digest([VERSION, commit or _listing(path), _options(asked)])
    name = f"{where}@{commit}" if commit else asked.name or label
    with new_folder.no_stub(out, out / "set" / MANIFEST, (IMPORTED,)), files.locked(out / ".import.lock"):
        if _imported(out) == identity:
            return Brought(out, name, fresh=False)
        _clear(out)
        say(f"{reference}: importing it into {out / 'set'}")
        files.write_json(out / IMPORTED, {"identity": None})
        with files.disk_errors(out, "importing"), new_folder.whole(out / "set") as staging:
            importing.import_set(path, staging, dataclasses.replace(asked, name=asked.name or label))
        files.write_json(out / IMPORTED, {"identity": identity, "set": name})
    return Brought(out, name, fresh=True)


def _label(where: str, config: str | None) -> str:
    """A name for folders: OWNER--NAME of a Hub id, otherwise that of the file or folder."""
    path = Path(where).absolute()
    name = where.replace("/", "--") if hub_client.is_id(where) else path.stem if path.is_file() else path.resolve().name
    name = files.safe_name(f"{name}--{config}" if config else name)
    return name.strip("-._")[:NAME_LENGTH] or "set"


def _imported(out: Path) -> str | None:
    """The identity of what lies in `out`/set, where that is whole."""
    path = out / IMPORTED
    if not path.is_file() or not (out / "set" / MANIFEST).is_file():
        return None
    identity = strict_json.known(path).get("identity")
    return str(identity) if identity else None


def _clear(out: Path) -> None:
    """Take away an earlier import, of other files or in another way; what is not ours stays."""
    folder = out / "set"
    if not folder.exists():
        return
    imported = strict_json.known(folder / MANIFEST, limits.JSON_BYTES).get("imported")
    if not (out / IMPORTED).is_file() or not imported:
        raise UserError(f"{folder}: holds something else", next="choose another --out")
    say(f"{folder}: imported anew, from other files or with other options than before")
    shutil.rmtree(folder)


def _listing(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file of a set."""
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
    """What the user said, as plain values; a file of class names by what it says."""
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
    name: str | None  # what rows call it; None: its manifest's name
    reference: str  # how other processes fetch it
    fresh: bool = False  # it was imported just now, and has no card yet

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
        out: where rows go; None takes the artifact's folder, or `ddhub-evaluations/NAME`.
        source: what a set was distilled from that is no ddhub artifact.
        options: what the files of such a set do not say.

    Raises:
        UserError: for what is no set, or cannot be imported.
    """
    if source is not None:
        from ddhub.interop import importing

        brought = bring(reference, None if out is None else Path(out), importing.ask(source, **options))
        return EvaluationPlace(brought.folder, brought.out, brought.name, str(brought.folder), brought.fresh)
    if options:
        raise UserError(
            f"{', '.join(sorted(options))}: for sets that are no ddhub artifacts", next="--source DATASET too"
        )
    refuse_unsaid(reference)
    place = hub.fetch(reference)
    if place.repo_id is None and out is None:
        return EvaluationPlace(place.folder, place.folder, None, place.name)
    return EvaluationPlace(
        place.folder, Path(out or find_results.evaluations(place.repo_id or place.name)), place.name, place.name
    )
