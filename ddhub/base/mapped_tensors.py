"""Tensors in memory-mapped files. They can exceed memory, because the system can drop their pages."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddhub.base import files

Allocate = Callable[[Sequence[int], torch.dtype], Tensor]  # returns a tensor of a shape and type with undefined values


def in_memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor in ordinary memory."""
    return torch.empty(tuple(shape), dtype=dtype)


@contextmanager
def in_folder(folder: Path) -> Iterator[Allocate]:
    """Tensors in files of a temporary folder. The folder is deleted at the end, and so are folders of killed runs."""
    numbers = itertools.count()

    def make(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return tensor(folder / f"{next(numbers):02d}.raw", shape, dtype)

    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield make
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tensor(path: Path, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A file as a writable tensor. A file of another size is created again, with undefined values.

    Raises:
        UserError: if the disk has no room for it.
    """
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    if not has_size(path, shape, dtype):
        with files.disk_errors(path, "making room for the images"):
            files.make_parent(path)
            path.unlink(missing_ok=True)
            with path.open("wb") as file:
                _reserve(file.fileno(), prod(shape) * kind.itemsize)
    return torch.from_numpy(np.memmap(path, kind, "r+", shape=tuple(shape)))


def has_size(path: Path, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> bool:
    """Whether the file exists with the size of such a tensor."""
    return path.exists() and path.stat().st_size == prod(shape) * dtype.itemsize


def _reserve(descriptor: int, size: int) -> None:
    """Allocate the disk space now. A disk that is full later would kill the process that writes to the mapping."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
