"""Room on the disk, looked at before work; and what a start that failed leaves of it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ddhub.base.errors import UserError
from ddhub.base.units import size


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


@contextlib.contextmanager
def no_stub(folder: Path, begun: Path) -> Iterator[None]:
    """Take away what a failed start leaves of a folder: locks alone, and the parents that were made for it.

    Args:
        begun: the file whose presence says that there is work to go on with.
    """
    made = [each for each in (folder.absolute(), *folder.absolute().parents) if not each.exists()]
    try:
        yield
    except BaseException:
        only_locks = all(path.is_dir() or path.stat().st_size == 0 for path in folder.rglob("*"))
        if made and folder.is_dir() and not begun.exists() and only_locks:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # a parent that holds something by now stays
                for parent in made[1:]:
                    parent.rmdir()
        raise
