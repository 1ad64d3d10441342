"""The folder of a command's work: once it is deleted, renamed or replaced, nothing is written into it.

Device and inode identify a folder. The folder is held open, so that no other folder gets the same numbers.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ddhub.base.errors import UserError

Number = tuple[int, int]  # device and inode
_held: dict[Path, int | None] = {}  # descriptors of folders by path; None for a folder that is not made yet


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
    if path in _held:
        yield
        return
    _held[path] = _opened(path)
    try:
        if number is not None and number_of(path) != number:
            raise _other(path)
        yield
    except UserError:
        raise
    except Exception as fault:
        try:
            refuse_other(path / "any")
        except UserError as reason:
            raise reason from fault
        raise
    finally:
        descriptor = _held.pop(path)
        if descriptor is not None:
            os.close(descriptor)


def refuse_other(path: Path) -> None:
    """Refuse to write a file into a folder that was deleted, renamed or replaced since the beginning.

    Raises:
        UserError: naming the folder.
    """
    for folder in path.absolute().parents:
        descriptor = _held.get(folder)
        if descriptor is not None and number_of(folder) != _number(os.fstat(descriptor)):
            raise _other(folder)


def number_of(folder: Path) -> Number | None:
    """Device and inode of a folder; None if there is none."""
    try:
        return _number(os.stat(folder))
    except OSError:
        return None


def note_made(path: Path) -> None:
    """Open the newly made folders on the path of a file, so that they are known from now on."""
    for folder in path.absolute().parents:
        if folder in _held and _held[folder] is None:
            _held[folder] = _opened(folder)


def _opened(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # missing, no folder, or not readable: the writer reports it
        return None


def _number(status: os.stat_result) -> Number:
    return status.st_dev, status.st_ino


def _other(folder: Path) -> UserError:
    happened = "was deleted or renamed during the work; it is not made again"
    if os.path.lexists(folder):
        happened = "was replaced by another folder during the work; nothing is written into the new one"
    return UserError(f"{folder}: {happened}", next="give a renamed folder its name back; then the same command")
