"""New folders: they are completed or not made, and a failed start leaves nothing."""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddhub.base import files, same_folder, stopping
from ddhub.base.errors import UserError, quoted

PARTIAL = ".partial"  # suffix of unfinished folders


def untaken(out: str | Path) -> Path:
    """The path of a missing or empty folder.

    Raises:
        UserError: if the folder holds something, or is no folder.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already", next="choose another folder")
    return out


@contextlib.contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Fill a hidden folder beside `out`, and rename it to `out` at the end. After a fault nothing is left of it."""
    files.make_folder(out.parent)
    with contextlib.ExitStack() as made:
        staging = _staging(out, made)
        try:
            with same_folder.kept(staging):
                yield staging
            staging.chmod(0o755)
            _rename(staging, out)
        except UserError as fault:  # the message names `out`, because the user does not know the hidden folder
            message, advice = (text.replace(str(staging), str(out)) for text in (fault.args[0], fault.next or ""))
            raise UserError(message, next=advice or None) from fault


def _staging(out: Path, made: contextlib.ExitStack) -> Path:
    """A new hidden folder beside `out`, locked. Folders that killed processes left for `out` are removed.

    Args:
        made: removes the folder in the end.
    """
    with contextlib.ExitStack() as stack:
        parent = os.open(out.parent, os.O_RDONLY)
        stack.callback(os.close, parent)
        files.hold(parent)  # nobody removes the new folder before it is locked
        files.sweep(out.parent, f".{glob.escape(out.name)}.*{PARTIAL}")
        with stopping.held_back():  # a folder that nobody knows yet would stay
            with files.places(out):
                staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=PARTIAL))
            held = os.open(staging, os.O_RDONLY)
            made.callback(_remove, staging, held)
            files.hold(held)
    return staging


def _remove(staging: Path, held: int) -> None:
    with stopping.held_back():
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held)


def _rename(staging: Path, out: Path) -> None:
    """Rename a folder to `out`. An empty folder there is replaced."""
    try:
        staging.replace(out)
    except OSError as fault:
        if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise UserError(
            f"{out}: is there already, made by another process meanwhile", next=f"ls {quoted(out)}"
        ) from fault


@contextlib.contextmanager
def no_stub(folder: Path, begun: Path, notes: Sequence[str] = ()) -> Iterator[None]:
    """After a failed start, remove a new folder that holds only locks and notes, with its new parents.

    Args:
        begun: a file that exists once there is work to resume. The folder then stays.
        notes: names of files that are useless without `begun`.
    """
    made = [each for each in (folder.absolute(), *folder.absolute().parents) if not each.exists()]
    try:
        yield
    except BaseException:
        with stopping.held_back():
            _remove_stub(folder, begun, notes, made)
        raise


def _remove_stub(folder: Path, begun: Path, notes: Sequence[str], made: Sequence[Path]) -> None:
    stub = made and folder.is_dir() and not begun.exists() and all(_is_nothing(p, notes) for p in folder.rglob("*"))
    if stub and not files.in_use(folder):  # another process may have just begun there
        shutil.rmtree(folder, ignore_errors=True)
    if made and not folder.exists():
        with contextlib.suppress(OSError):  # a parent that is no longer empty stays
            for parent in made[1:]:
                parent.rmdir()


def _is_nothing(path: Path, notes: Sequence[str]) -> bool:
    return path.is_dir() or path.name in notes or path.stat().st_size == 0
