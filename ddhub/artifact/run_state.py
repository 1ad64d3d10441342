"""The state of a run, in `.ddhub` beside a set. It is never pushed, verified or loaded.

Checkpoints and metrics (ddhub/training/loop.py) and groups lie there too.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ddhub.artifact.file_names import RECIPE
from ddhub.base import files, strict_json
from ddhub.base.document import Document
from ddhub.base.errors import UserError, quoted

STATE = ".ddhub"
RUN = "run.json"


class RunState(Document):
    """The start conditions of a run, in run.json. A resume compares them."""

    recipe_hash: str
    recipe: dict[str, Any]
    source_path: str | None  # the local folder of the source
    revision: str | None  # the commit of the source on the Hub
    fingerprint: str  # the hash of the source's images
    decisions: dict[str, Any]  # as in ddhub/training/device.py


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds a run that has packaged no set yet."""
    return (folder / STATE / RUN).is_file() and not (folder / RECIPE).exists()


def begun(folder: Path) -> RunState | None:
    """The start conditions of the run in a folder; None if there is no run.

    Raises:
        UserError: if run.json cannot be read.
    """
    path = folder / STATE / RUN
    if not path.exists():
        return None
    try:
        return RunState.model_validate(strict_json.read(path))
    except ValidationError as fault:
        wrong = ".".join(map(str, fault.errors()[0]["loc"]))
        raise UserError(
            f"{path}: not how a run began ({wrong})", next=f"start over with: rm -r {quoted(folder)}"
        ) from fault


def begin(folder: Path, run: RunState) -> None:
    """Write down the start conditions of a run."""
    files.write_json(folder / STATE / RUN, run.to_dict())
