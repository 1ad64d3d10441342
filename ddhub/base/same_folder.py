"""The folder that a command works in, which stays the same one: deleted, renamed or replaced, it is not written into.

A folder is told by its device and inode. It is held open meanwhile, so that no other folder gets its number.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ddhub.base.errors import UserError

Number = tuple[int, int]  # device and inode
_held: dict[Path, int | None] = {}  # a folder's descriptor by its path; None: it is yet to be made


@contextlib.contextmanager
def kept(folder: Path, number: Number | None = None) -> Iterator[None]:
    """Let writers refuse, while the block runs, a folder that is no longer the one of the beginning.

    One that is not there yet is known from its making on, by the first writer.

    Args:
        number: of the folder, as another process knows it, which keeps it too.

    Raises:
        UserError: in place of a fault of ours that comes of the folder's loss, as of a file that is read.
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
    """Refuse to write a file into a folder that was deleted, renamed or replaced meanwhile.

    Raises:
        UserError: naming the folder.
    """
    for folder in path.absolute().parents:
        descriptor = _held.get(folder)
        if descriptor is not None and number_of(folder) != _number(os.fstat(descriptor)):
            raise _other(folder)


def number_of(folder: Path) -> Number | None:
    """What a folder is told by, on this machine; None where there is none."""
    try:
        return _number(os.stat(folder))
    except OSError:
        return None


def note_made(path: Path) -> None:
    """A file's folder has been made: from now on those on the way to it are known."""
    for folder in path.absolute().parents:
        if folder in _held and _held[folder] is None:
            _held[folder] = _opened(folder)


def _opened(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # not there, no folder, or not to be read: whoever writes there says so
        return None


def _number(status: os.stat_result) -> Number:
    return status.st_dev, status.st_ino


def _other(folder: Path) -> UserError:
    happened = "was deleted or renamed in the middle of the work; it is not made again"
    if os.path.lexists(folder):
        happened = "was replaced by another folder in the middle of the work; nothing is written into that one"
    return UserError(f"{folder}: {happened}", next="give a renamed folder its name back; then the same command")
