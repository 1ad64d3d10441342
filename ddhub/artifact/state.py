"""The running state beside a set: `.ddhub`, which is never pushed, verified or loaded."""

from pathlib import Path

from ddhub.artifact import manifest
from ddhub.artifact.manifest import Manifest
from ddhub.base import files, strict_json
from ddhub.data.spec import absolute

STATE = ".ddhub"  # running state, beside the artifact: never pushed, verified or loaded


def remember(record: Manifest, path: str | None) -> None:
    """Note in the cache that a set was made on this machine from a local folder, so that it is found there again.

    What a set's own folder says of that is not asked: the folder may be a stranger's.
    """
    if path is not None:
        files.write_json(_note(record), {"set": record.name, "path": absolute(path)})


def remembered(record: Manifest) -> str | None:
    """The folder that `remember` noted for a set of this very payload and source, wherever it lies now."""
    note = _note(record)
    found = strict_json.read(note) if note.is_file() else None
    path = found.get("path") if isinstance(found, dict) else None
    return path if isinstance(path, str) else None


def _note(record: Manifest) -> Path:
    known = [manifest.identity(record.files), record.source.model_dump(mode="json")]
    return files.home() / "origins" / f"{files.digest(known)[:32]}.json"
