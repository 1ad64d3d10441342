"""The folder of a command's work: once it is deleted, renamed or replaced, nothing is written into it.

Device and inode identify a folder. The folder is held open, so that no other folder gets the same numbers. Threads that
work in one folder share it, and the last of them closes it.

The garbage collector may end an abandoned block during any call here, in the same thread. So the lock is reentrant, and
what a call found may be closed after the next one.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddhub.base import stopping
from ddhub.base.errors import UserError

Number = tuple[int, int]  # device and inode


@dataclass
class _Held:
    """A folder in use."""

    descriptor: int | None  # None for a folder that is not made yet
    number: Number | None  # of what is open
    users: int = 1  # blocks that keep it; 0 once it is closed


_held: dict[Path, _Held] = {}
_lock = threading.RLock()  # of `_held`


@contextlib.contextmanager
def kept(folder: Path, number: Number | None = None) -> Iterator[None]:
    """While the block runs, let writers refuse the folder if it is no longer the original one.

    A missing folder is known from the moment when the first writer makes it.

    Args:
        number: the folder's number in another process that also works there.

    Raises:
        UserError: if the folder was lost. It replaces other faults of the loss, such as a missing file.
    """
    path = folder.absolute()
    first: bool | None = None
    try:
        with stopping.held_back():  # a use that nobody ends would keep the folder for good
            first = _taken(path)
        if first and number is not None and number_of(path) != number:
            raise _other(path)
        yield
    except UserError:
        raise
    except Exception as fault:
        if first:
            _blame(path, fault)
        raise
    finally:
        if first is not None:
            _left(path)


def _blame(path: Path, fault: Exception) -> None:
    """Raise the loss of a folder in place of a fault that came of it."""
    try:
        refuse_other(path / "any")
    except UserError as reason:
        raise reason from fault


def _taken(path: Path) -> bool:
    """Begin to use a folder, and return whether nobody used it before."""
    with _lock:
        if known := _held.get(path):
            known.users += 1
            if known.users > 1:  # otherwise its last use ended since it was found
                return False
        _held[path] = _Held(*_opened(path))
        return True


def _left(path: Path) -> None:
    """End the use of a folder. The last user closes it."""
    with stopping.held_back(), _lock:
        held = _held[path]
        held.users -= 1
        if not held.users:
            del _held[path]
            if held.descriptor is not None:
                os.close(held.descriptor)


def refuse_other(path: Path) -> None:
    """Refuse to write a file into a folder that was deleted, renamed or replaced since the beginning.

    Raises:
        UserError: naming the folder.
    """
    with _lock:
        known = [(folder, held.number) for folder in path.absolute().parents if (held := _held.get(folder))]
        lost = [folder for folder, number in known if number is not None and number_of(folder) != number]
    if lost:
        raise _other(lost[0])


def number_of(folder: Path) -> Number | None:
    """Device and inode of a folder; None if there is none."""
    try:
        return _number(os.stat(folder))
    except OSError:
        return None


def note_made(path: Path) -> None:
    """Open the newly made folders on the path of a file, so that they are known from now on."""
    with _lock:
        for folder in path.absolute().parents:
            held = _held.get(folder)
            if held is not None and held.descriptor is None:
                descriptor, number = _opened(folder)
                if held.users and held.descriptor is None:
                    held.descriptor, held.number = descriptor, number
                elif descriptor is not None:  # nobody would close it
                    os.close(descriptor)


def _opened(folder: Path) -> tuple[int, Number] | tuple[None, None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # missing, no folder, or not readable: the writer reports it
        return None, None
    return descriptor, _number(os.fstat(descriptor))


def _number(status: os.stat_result) -> Number:
    return status.st_dev, status.st_ino


def _other(folder: Path) -> UserError:
    happened = "was deleted or renamed during the work; it is not made again"
    if os.path.lexists(folder):
        happened = "was replaced by another folder during the work; nothing is written into the new one"
    return UserError(f"{folder}: {happened}", next="give a renamed folder its name back; then the same command")
