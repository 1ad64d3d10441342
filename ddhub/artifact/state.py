"""The running state beside a set: `.ddhub`, which is never pushed, verified or loaded."""

from pathlib import Path

from ddhub.base import strict_json


def remembered(folder: Path) -> str | None:
    """Where the run that made a set here was told to read its source, if it was told."""
    local = folder / ".ddhub" / "run.json"
    found = strict_json.read(local) if local.exists() else None
    path = found.get("source_path") if isinstance(found, dict) else None
    return path if isinstance(path, str) else None


STATE = ".ddhub"  # running state, beside the artifact: never pushed, verified or loaded
