"""Checks of free disk space and address space before work begins."""

import resource
import shutil
from pathlib import Path

from ddhub.base import files
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import warn
from ddhub.base.units import size

MAPPED = 8 * 10**9  # bytes of address space that torch with its threads may map


def need_room(path: Path, needed: int, what: str) -> None:
    """Refuse to write more bytes than the disk of `path` has free.

    Raises:
        UserError: with the bytes needed and the bytes free.
    """
    there = files.nearest(path)
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{there}: {what} take {size(needed)}, and {size(free)} are free",
            next=f"df -h {quoted(there)}, then free some space",
        )


def address_space() -> int | None:
    """The limit of this process's address space (`ulimit -v`); None if torch and its threads fit in it."""
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if allowed == resource.RLIM_INFINITY or allowed >= MAPPED else allowed


def warn_of_limit() -> None:
    """Warn, before torch loads, that a low limit of address space can abort the process without a message."""
    allowed = address_space()
    if allowed is not None:
        warn(
            f"ulimit -v allows {size(allowed)} of address space. torch maps more memory than it uses, and can be"
            " aborted. Use `ulimit -v unlimited`, or limit memory with a container."
        )
