"""Synthetic images and their optimiser's state in files, so that a run's memory does not grow with its set.

Rows are read for a student and written back afterwards. Between two checkpoints, the old values of a row are saved
before they are first overwritten. A run that was killed at any moment can thus restore the files to its checkpoint.
Shapes: M images, B rows of them, C H W image.
"""

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ddhub.base import files, mapped_tensors
from ddhub.base.errors import UserError, quoted

PART = 16 << 20  # bytes of a column per piece, for work on all rows
Values = dict[str, Tensor]  # columns by name, float32 (B, C, H, W)


class Store:
    """Columns of M images each (`images`, `velocity`, ...), float32, memory-mapped from files."""

    def __init__(self, folder: Path, shape: tuple[int, ...], fill: Callable[[Tensor], Values]) -> None:
        """Open or create the files. `rewind` fills them.

        Args:
            folder: the store's own folder, created if missing.
            shape: (M, C, H, W).
            fill: returns the initial values of some rows (B,), for each column.

        Raises:
            UserError: if the disk has no room for the files.
        """
        self.folder, self.shape, self.step = folder, shape, 0
        self._fill, self._made = fill, False
        self._columns = {name: self._open(name) for name in fill(torch.arange(1))}
        self._aside = torch.zeros(shape[0], dtype=torch.bool)  # rows whose values at the checkpoint are saved

    def column(self, name: str) -> Tensor:
        """A whole column (M, C, H, W), mapped from its file, for reading only."""
        return self._columns[name]

    def read(self, rows: Tensor) -> Values:
        """Copies of some rows (B,), on the CPU."""
        return {name: column[rows] for name, column in self._columns.items()}

    def write(self, rows: Tensor, values: Values) -> None:
        """Overwrite columns of distinct rows (B,). Their values at the checkpoint are saved first."""
        fresh = rows[~self._aside[rows]]
        if self.step and len(fresh):  # initial values need no saving, because `fill` makes them again
            number = len(list(self.folder.glob(f"undo-{self.step:08d}-*")))
            path = self.folder / f"undo-{self.step:08d}-{number:06d}.safetensors"
            files.write_bytes(path, save({"rows": fresh, **self.read(fresh)}))
            self._aside[fresh] = True
        for name, value in values.items():
            self._columns[name][rows] = value.cpu()

    def parts(self) -> Iterator[Tensor]:
        """All rows in order, in parts of bounded memory."""
        each = max(1, PART // (4 * prod(self.shape[1:])))
        yield from torch.arange(self.shape[0]).split(each)

    def flush(self) -> None:
        """Flush all writes to the disk, before the checkpoint that relies on them is written."""
        for name in self._columns:
            with files.disk_errors(self._path(name), "writing"):
                files.flush(self._path(name))

    def mark(self, step: int, oldest: int) -> None:
        """Note that a checkpoint of `step` was written, and that `oldest` is the oldest checkpoint still kept."""
        self.step = step
        self._aside.zero_()
        for path in self._undo():
            if _step(path) < oldest:
                path.unlink()

    def rewind(self, step: int) -> None:
        """Restore every row to its values at the checkpoint of `step`; at step 0 to the initial ones.

        Raises:
            UserError: if the files of a checkpoint are missing.
        """
        if step and self._made:
            checkpoints = quoted(self.folder.parent) + "/*.pt"
            raise UserError(
                f"{self.folder}: files that the checkpoint of step {step} counts on are gone",
                next=f"bring them back, or begin again with: rm {checkpoints}",
            )
        for path in reversed(self._undo()):
            if step and _step(path) >= step:
                old = load_file(path)
                rows = old.pop("rows")
                for name, value in old.items():
                    self._columns[name][rows] = value
            if _step(path) >= step:
                path.unlink()
        self.mark(step, 0)
        files.sweep(self.folder)
        if step == 0:
            for rows in self.parts():
                self.write(rows, self._fill(rows))

    def _undo(self) -> list[Path]:
        return sorted(self.folder.glob("undo-*.safetensors"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.f32"

    def _open(self, name: str) -> Tensor:
        path = self._path(name)
        self._made = self._made or not mapped_tensors.has_size(path, self.shape)  # new files are empty
        return mapped_tensors.tensor(path, self.shape)


def _step(path: Path) -> int:
    return int(path.stem.split("-")[1])
