"""Links that lead out of a folder. They are refused, because strangers can make them."""

import os
from pathlib import Path

from ddhub.base.errors import UserError, quoted


def refuse_led_out(path: Path) -> None:
    """Refuse to write to a path in a set if a link on the way leads out of the set.

    Raises:
        UserError: naming the folder.
    """
    for root in path.absolute().parents:
        if _is_set(root) and leads_out(root, path.parent.absolute()):
            raise UserError(
                f"{path.parent}: is a link, or lies behind one, that leads out of the folder {root}; refused",
                next=f"ls -l {quoted(root)}, and remove the link",
            )


def _is_set(folder: Path) -> bool:
    """Whether a folder holds a set or an evaluation."""

    def holds(name: str) -> bool:
        return os.path.lexists(folder / name)

    evaluated = holds("evaluation") and (holds("report.json") or holds("probe.json"))
    return holds("ddhub.json") or holds("import.json") or evaluated


def leads_out(folder: Path, path: Path) -> bool:
    """Whether a path inside a folder leads out of the folder by a link.

    In the Hub client's cache, files of a set are links from `snapshots/COMMIT` to `blobs`. These are allowed.
    """
    try:
        root, place = folder.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return True
    cache = root.parent.parent / "blobs"
    return not (place.is_relative_to(root) or (root.parent.name == "snapshots" and place.is_relative_to(cache)))
