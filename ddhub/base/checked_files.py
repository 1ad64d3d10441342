"""Cached files, compared with their hashes once per process and again when size or time change."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ddhub.base import files, limits, strict_json
from ddhub.base.errors import UserError

LARGE = 2**30  # bytes; a larger file with unchanged size and time is not hashed again

_proven: set[tuple[tuple[object, ...], ...]] = set()


def stamp(path: Path) -> list[int]:
    """Size and time of a file. They change with every write, but not when a bit rots."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def unchanged(paths: Sequence[Path], check: Callable[[], bool], written: Any = None) -> bool:
    """Whether files are unchanged.

    Args:
        check: compares the files with their hashes. It reads them whole.
        written: stamps from the time of writing. Files above LARGE bytes with equal stamps are not read.
    """
    try:
        key, stamps = _key(paths), [stamp(path) for path in paths]
    except OSError:  # a file is gone
        return False
    believed = stamps == written and max(size for size, _ in stamps) > LARGE
    if key in _proven or believed or check():
        _proven.add(key)
        return True
    return False


def trust(paths: Sequence[Path]) -> None:
    """Mark files as checked, because this process has just written them."""
    _proven.add(_key(paths))


def _key(paths: Sequence[Path]) -> tuple[tuple[object, ...], ...]:
    return tuple((str(path), *stamp(path)) for path in paths)


def write_note(path: Path, content: Any) -> None:
    """Write a small JSON value to the cache, with its hash."""
    files.write_json(path, {"content": content, "sha256": files.digest(content)})


def read_note(path: Path) -> Any:
    """Read a value that `write_note` wrote; None if it is missing or damaged."""
    found = None
    with contextlib.suppress(UserError):
        found = strict_json.read(path, limits.JSON_BYTES) if path.exists() else None
    sound = isinstance(found, dict) and found.get("sha256") == files.digest(found.get("content"))
    return found["content"] if sound and isinstance(found, dict) else None
