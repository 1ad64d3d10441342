"""Cached files that were compared with their hash: once a process, and again where size or time have changed."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ddhub.base import files, limits, strict_json
from ddhub.base.errors import UserError

LARGE = 2**30  # bytes from which a file is believed that has the size and time of when it was written

_proven: set[tuple[tuple[object, ...], ...]] = set()


def stamp(path: Path) -> list[int]:
    """Size and time of a file: what changes with whoever writes it again, though not with a bit that rots."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def hold(paths: Sequence[Path], check: Callable[[], bool], written: Any = None) -> bool:
    """Whether files are still what they were.

    Args:
        check: compares them with their hash, which reads them whole.
        written: their stamps when they were written; files of more than LARGE bytes that have them are not read.
    """
    try:
        key, stamps = _key(paths), [stamp(path) for path in paths]
    except OSError:  # one is gone
        return False
    believed = stamps == written and max(size for size, _ in stamps) > LARGE
    if key in _proven or believed or check():
        _proven.add(key)
        return True
    return False


def trust(paths: Sequence[Path]) -> None:
    """Take files for what they are: this process has just written them."""
    _proven.add(_key(paths))


def _key(paths: Sequence[Path]) -> tuple[tuple[object, ...], ...]:
    return tuple((str(path), *stamp(path)) for path in paths)


def note(path: Path, content: Any) -> None:
    """Write a small JSON value to the cache, with its hash."""
    files.write_json(path, {"content": content, "sha256": files.digest(content)})


def noted(path: Path) -> Any:
    """A value that `note` wrote; None where there is none, or where it is damaged."""
    found = None
    with contextlib.suppress(UserError):
        found = strict_json.read(path, limits.JSON_BYTES) if path.exists() else None
    sound = isinstance(found, dict) and found.get("sha256") == files.digest(found.get("content"))
    return found["content"] if sound and isinstance(found, dict) else None
