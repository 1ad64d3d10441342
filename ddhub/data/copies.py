"""Copies, byte for byte, among the pictures of a dataset. The test leaves out copies of training pictures."""

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddhub.base import checked_files, files
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.units import counted

if TYPE_CHECKING:  # folders are checked before any library is imported
    import numpy as np

    from ddhub.data.encoded_images import Content, Encoded

AT_ONCE = 256  # stored images that are read at once


def left_out(images: "Encoded", kept: "np.ndarray", held: "np.ndarray", noted: Path) -> list[int]:
    """The held-out rows whose picture is also a training picture. Their number is reported.

    Args:
        noted: the cache file of the result.

    Raises:
        UserError: if all held-out pictures are copies.
    """
    found: list[int] | None = checked_files.read_note(noted)
    if found is None:
        found = _seen(images, kept.tolist(), held.tolist())
        checked_files.write_note(noted, found)
    told = f"{images.spec.dataset}: {len(found)} of {counted(len(held), 'held-out picture')}"
    if len(found) == len(held):
        raise UserError(f"{told} are copies of training pictures", next="remove copies from the source")
    if found:
        say(f"{told} are left out of the test: they are copies, byte for byte, of training pictures", once=True)
    return found


def _seen(images: "Encoded", kept: Sequence[int], tested: Sequence[int]) -> list[int]:
    """The tested rows whose picture is also in a kept row. Kept rows of other lengths are not read."""
    rows: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row, content in _contents(images, tested):
        rows[_length(content), _hash(content)].append(row)
    lengths = {length for length, _ in rows}
    found: set[int] = set()
    for _, content in _contents(images, kept):
        if (length := _length(content)) in lengths:
            found.update(rows.get((length, _hash(content)), ()))
    return sorted(found)


def repeated(paths: Iterable[Path]) -> int:
    """The number of files that are copies of other files. Files whose length no other file has are not read."""
    lengths: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        with contextlib.suppress(OSError):  # the reader of the file reports it
            lengths[path.stat().st_size].append(path)
    alike = [group for group in lengths.values() if len(group) > 1]
    return sum(len(group) - len({_hash(str(path)) for path in group}) for group in alike)


def _contents(images: "Encoded", rows: Sequence[int]) -> Iterable[tuple[int, "Content"]]:
    """Rows and their stored content. Rows without an image are left out."""
    import numpy as np

    from ddhub.data.decode import Damaged

    for row, item in images.only(np.asarray(rows)).items(AT_ONCE):
        with contextlib.suppress(Damaged):
            yield row, images.content(row, item)


def _length(content: "Content") -> int:
    return len(content) if isinstance(content, bytes) else _size(content)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # decoding reports it
        return -1


def _hash(content: "Content") -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    try:
        return files.sha256(Path(content))
    except OSError:
        return content  # the path, which is unique
