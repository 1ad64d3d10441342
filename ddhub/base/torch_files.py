"""Torch files of strangers, checked before they are loaded: pickles are simulated and tensor sizes added up.

The claimed sizes are compared with the file's own size and the limit, before any such memory is allocated.
"""

import functools
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from ddhub.base import files, limits, pickles
from ddhub.base.errors import UserError
from ddhub.base.units import size


def check(path: Path, limit: int, advice: str = "ask its author for a file of tensors alone") -> None:
    """Refuse a torch file of more than `limit` bytes, or one with more than tensors, numbers, texts and lists.

    Args:
        advice: the next command for the error.

    Raises:
        UserError: naming the forbidden content or the size.
        Exception: any exception of the readers for a broken file.
    """
    try:
        stat = path.stat()
        total = _claimed(path, stat.st_size, stat.st_mtime_ns)
    except pickles.Refused as fault:
        raise UserError(f"{path.name}: {fault}; refused, and nothing in it was run", next=advice) from fault
    if total > limit:
        raise UserError(
            f"{path.name}: its tensors take {size(total)}, more than the {size(limit)} that are read",
            next=f"--max-bytes {total}, if you trust it",
        )


@functools.lru_cache(maxsize=16)  # every layout checks the same file
def _claimed(path: Path, length: int, changed: int) -> int:
    """The bytes of all storages of a file with this length and time."""
    with files.regular(path) as file:
        packed = file.read(4) == b"PK\x03\x04"
    return _packed(path) if packed else _plain(path)


def _packed(path: Path) -> int:
    """The bytes of all storages in a zip archive, as torch writes it, by torch's own reader."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if len(set(names)) < len(names):
        raise pickles.Refused("holds a member twice")
    reader: Any = torch._C.PyTorchFileReader(str(path))
    if reader.get_record_size("data.pkl") > limits.PICKLE_BYTES:
        raise pickles.Refused(f"its pickle is larger than {size(limits.PICKLE_BYTES)}")
    found = pickles.walk(io.BytesIO(reader.get_record("data.pkl")))
    for storage in found.storages.values():
        if storage.bytes > reader.get_record_size(f"data/{storage.key}"):
            raise pickles.Refused(f"claims {storage.count} numbers, more than its file holds")
    return sum(storage.bytes for storage in found.storages.values())


def _plain(path: Path) -> int:
    """The bytes of all storages in a file from before torch 1.6: five pickles, then the values."""
    if tarfile.is_tarfile(path):
        raise pickles.Refused("is a tar archive, as torch wrote before 2017")
    with files.regular(path) as file:
        content = io.BytesIO(file.read(limits.PICKLE_BYTES))
    for _ in range(3):  # magic number, version, sizes of the machine's integers
        if pickles.walk(content).storages:
            raise pickles.Refused("holds tensors where none belong")
    storages = pickles.walk(content).storages
    keys = pickles.walk(content).value
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages) or len(keys) != len(storages):
        raise pickles.Refused("does not list the numbers of all of its tensors")
    total = sum(storage.bytes for storage in storages.values())
    if total > path.stat().st_size - content.tell():
        raise pickles.Refused(f"claims {total} bytes of numbers, more than its file holds")
    return total
