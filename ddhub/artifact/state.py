"""The running state beside a set, in `.ddhub`: never pushed, verified or loaded.

Checkpoints and metrics lie there too (ddhub/training/loop.py), and the groups of a set of several.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ddhub.base import files, strict_json
from ddhub.base.document import Document
from ddhub.base.errors import UserError

STATE = ".ddhub"
RUN = "run.json"


class RunState(Document):
    """How a run began, in run.json: what a resume must find as it was."""

    recipe_hash: str
    recipe: dict[str, Any]
    source_path: str | None  # the local folder that the source is read from
    revision: str | None  # of the source on the Hub
    fingerprint: str  # of the source's images
    decisions: dict[str, Any]  # of ddhub/training/device.py


def begun(folder: Path) -> RunState | None:
    """How the run in a folder began; None where none has.

    Raises:
        UserError: for a run.json that cannot be read.
    """
    path = folder / STATE / RUN
    if not path.exists():
        return None
    try:
        return RunState.model_validate(strict_json.read(path))
    except ValidationError as fault:
        wrong = ".".join(map(str, fault.errors()[0]["loc"]))
        raise UserError(f"{path}: not how a run began ({wrong})", next=f"start over with: rm -r {folder}") from fault


def begin(folder: Path, run: RunState) -> None:
    """Write down how a run began."""
    files.write_json(folder / STATE / RUN, run.to_dict())
