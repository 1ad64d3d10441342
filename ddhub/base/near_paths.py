"""Existing paths that a missing one may mean."""

from pathlib import Path

from ddhub.base.errors import UserError, quoted
from ddhub.base.schema import nearest
from ddhub.base.units import listed

SHOWN = 5  # names of a folder that are listed when none is near


def near(path: Path) -> list[Path]:
    """The paths that a missing path may mean: of a like name in its folder, or in a folder of a like name."""
    folder = path.parent
    folders = [folder] if _is_folder(folder) else [folder.with_name(each) for each in _like(folder)]
    found = [place / each for place in folders for each in nearest(path.name, _names(place))]
    return [each for each in found if each != path]  # a link that leads nowhere


def instead(path: Path) -> str:
    """`; did you mean 'sets/first'?`, or what the path's folder holds; empty if it is not known."""
    if found := near(path):
        return f"; did you mean {' or '.join(repr(str(each)) for each in found)}?"
    beside = _names(path.parent) if path.parent != Path() else []
    return f"; {path.parent} holds {listed(beside, SHOWN)}" if beside else ""


def no_set(path: Path) -> UserError:
    """The error for a foreign set that is neither here nor on the Hub."""
    told = f"{path}: no such file or folder, and no Hub id owner/name{instead(path)}"
    return UserError(told, next=next_command(path, f"ls {quoted(_there(path.absolute().parent))}"))


def next_command(path: Path, otherwise: str) -> str:
    """The next command for a missing path: the same with the path that it may mean."""
    found = near(path)
    return f"the same command with {quoted(found[0])}" if found else otherwise


def _there(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    return next(each for each in (folder, *folder.parents) if _is_folder(each) or each == each.parent)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # nobody may look there, or the name is too long
        return False


def _like(folder: Path) -> list[str]:
    """The folders beside a missing folder that it may mean. The last parts of `/`, `.` and `..` have no like."""
    return nearest(folder.name, _names(folder.parent)) if folder.name.strip(".") else []


def _names(folder: Path) -> list[str]:
    """The names in a folder, except hidden ones; none if it cannot be read."""
    try:
        return sorted(
            each.name for each in folder.iterdir() if not each.name.startswith(".") and each.name.isprintable()
        )
    except OSError:
        return []
