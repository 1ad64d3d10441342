"""Room on the disk and in memory, looked at before work."""

import resource
import shutil
from pathlib import Path

from ddhub.base.errors import UserError
from ddhub.base.log import warn
from ddhub.base.units import size

MAPPED = 8 * 10**9  # bytes of address space that torch with its threads may map


def need_room(path: Path, needed: int, what: str) -> None:
    """Refuse to write more bytes than the disk of `path` has free.

    Raises:
        UserError: saying how much is needed, and how much is free.
    """
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{there}: {what} take {size(needed)}, and {size(free)} are free",
            next=f"df -h {there}, then free some space",
        )


def address_space() -> int | None:
    """The bytes that this process may map (`ulimit -v`), where that is less than torch and its threads take."""
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if allowed == resource.RLIM_INFINITY or allowed >= MAPPED else allowed


def warn_of_limit() -> None:
    """Say before torch is loaded that it may be ended in the middle of its work, without another word."""
    allowed = address_space()
    if allowed is not None:
        warn(
            f"ulimit -v allows {size(allowed)} of address space: torch maps more than it uses, and is aborted where it"
            " may not; `ulimit -v unlimited`, and a container's limit of memory, do no such thing"
        )
