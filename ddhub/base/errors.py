"""The one exception that users see, and faults of disk and memory in its words."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ddhub.base.redact import shown

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file may not grow so large here (ulimit -f)",
}
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_PLACE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


class UserError(Exception):
    """A fault that the user can mend: what is wrong and where, and the next command to type.

    The command line prints it without a traceback and exits with 1. Errors of ours stay assertions.
    """

    def __init__(self, message: str, *, next: str | None = None) -> None:
        super().__init__(shown(message))
        self.next = next and shown(next)

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  next: {self.next}" if self.next else message


def explained(fault: OSError, where: Path | None = None, doing: str = "") -> UserError | None:
    """What a fault of the disk means to the user, and the next command; None for one that is not the user's to mend.

    Args:
        where: the file or folder that was worked on, where the fault names none.
        doing: what with it.
    """
    named = fault.filename if isinstance(fault.filename, str) else None
    place = where or (Path(named) if named else None)
    during = f" ({doing})" if doing else ""
    if fault.errno in FULL:
        room = f"free some space (df -h {place.parent if place else '.'})"
        return UserError(
            f"{f'{place}: ' if place else ''}{FULL[fault.errno]}{during}; what was saved before is whole",
            next=f"{'ulimit -f unlimited' if fault.errno == errno.EFBIG else room}, then run the same command again",
        )
    if fault.errno in (errno.EMFILE, errno.ENFILE):
        return UserError(f"too many files are open{during} (ulimit -n)", next="ulimit -n 1024, then the same command")
    if fault.errno == errno.ENOENT and named is None and not _stands():
        return UserError("the folder that this command was started in is gone", next="cd to another folder")
    if place is None:  # not of a file: a socket can refuse too
        return None
    if fault.errno in CLOSED:
        return UserError(f"{place}: no permission{during}", next=f"ls -ld {place.parent} {place}")
    if fault.errno in NO_PLACE:
        return UserError(f"{place}: cannot be written there ({fault.strerror})", next=f"ls -ld {place.parent}")
    return None


def _stands() -> bool:
    """Whether the current folder is there."""
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def memory_errors(doing: str, budget: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Turn running out of memory, the CPU's or a device's, into a UserError.

    Args:
        budget: gives the next smaller `--memory`, where the work keeps to one.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        # torch's error is told by its name, so that nobody has to import torch to know it.
        if not isinstance(fault, MemoryError) and type(fault).__name__ != "OutOfMemoryError":
            raise
        smaller = budget()
        cut = "a smaller batch (teachers.batch, evaluate.batch, method.chunk), or --device cpu"
        raise UserError(
            f"{doing}: out of memory", next=f"--memory {smaller}, and another --out" if smaller else cut
        ) from fault
