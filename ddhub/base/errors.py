"""UserError, and the translation of disk and memory faults into it."""

import contextlib
import errno
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from ddhub.base.redact import shown

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file may not grow so large here (ulimit -f)",
}
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_PLACE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def quoted(path: object) -> str:
    """A path or name as one word of a shell command, for `next`: `rm -r` of a path with a space would remove others."""
    return shlex.quote(str(path))


class UserError(Exception):
    """A fault that the user can mend. It states what is wrong, where, and the next command to type.

    The command line prints it without a traceback and exits with 1. ddhub's own faults stay other exceptions.
    """

    def __init__(self, message: str, *, next: str | None = None) -> None:
        super().__init__(shown(message))
        self.next = next and shown(next)

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  next: {self.next}" if self.next else message


def as_user_error(fault: OSError, where: Path | None = None, doing: str = "") -> UserError | None:
    """Translate a fault of the disk into a UserError; None if the user cannot mend it.

    Args:
        where: the file or folder at work, for faults that name none.
        doing: the work, as a phrase for the message.
    """
    named = fault.filename if isinstance(fault.filename, str) else None
    place = where or (Path(named) if named else None)
    during = f" ({doing})" if doing else ""
    if fault.errno in FULL:
        room = f"free some space (df -h {quoted(_disk(place))})"
        return UserError(
            f"{f'{place}: ' if place else ''}{FULL[fault.errno]}{during}; what was saved before is whole",
            next=f"{'ulimit -f unlimited' if fault.errno == errno.EFBIG else room}, then run the same command again",
        )
    if fault.errno in (errno.EMFILE, errno.ENFILE):
        return UserError(f"too many files are open{during} (ulimit -n)", next="ulimit -n 1024, then the same command")
    if fault.errno == errno.ENOENT and named is None and not _stands():
        return UserError("the folder that this command was started in is gone", next="cd to another folder")
    if place is None:  # not a file's fault: a socket can refuse too
        return None
    if fault.errno in CLOSED:
        return UserError(f"{place}: no permission{during}", next=f"ls -ld {quoted(place.parent)} {quoted(place)}")
    if fault.errno == errno.ENAMETOOLONG:
        return UserError(f"{place}: is longer than the name of a file can be", next="a shorter name")
    if fault.errno in NO_PLACE:
        return UserError(f"{place}: cannot be written there ({fault.strerror})", next=f"ls -ld {quoted(place.parent)}")
    return None


def _disk(place: Path | None) -> str:
    """The mount point of a path's disk. It stays, while a new folder goes with the fault."""
    path = (place or Path()).resolve() if _stands() else Path("/")
    return str(next(each for each in (path, *path.parents) if os.path.ismount(each)))


def at_least(lowest: int, **given: float | None) -> None:
    """Refuse smaller numbers and NaN, by the names of their arguments. The command line does so by itself."""
    for name, value in given.items():
        if value is not None and not value >= lowest:
            raise UserError(f"{name}={value}: at least {lowest}", next=f"{name}={lowest}")


@contextlib.contextmanager
def next_step(command: str) -> Iterator[None]:
    """Give the UserErrors of a block this next command. Of nested blocks the inner one wins, as does a fault's own."""
    try:
        yield
    except UserError as fault:
        fault.next = fault.next or shown(command)
        raise


def _stands() -> bool:
    """Whether the current folder exists."""
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def memory_errors(doing: str, budget: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Turn running out of CPU or device memory into a UserError.

    Args:
        budget: returns the next smaller `--memory`, if the work keeps to a budget.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        # The name identifies torch's error, so that torch need not be imported.
        if not isinstance(fault, MemoryError) and type(fault).__name__ != "OutOfMemoryError":
            raise
        smaller = budget()
        cut = "a smaller batch (teachers.batch, evaluate.batch, method.chunk), or --device cpu"
        raise UserError(
            f"{doing}: out of memory", next=f"--memory {smaller}, and another --out" if smaller else cut
        ) from fault
