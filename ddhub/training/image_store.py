"""Synthetic images with what their optimiser remembers, in files: a run's memory does not grow with its set.

Rows are read when a student is to learn them and written back when others take their turn. Between two
checkpoints, a row's old values are put aside before they are first overwritten. So a run that was killed at any moment
finds the files as its checkpoint knows them.
Shapes: M images, B rows of them, C H W image.
"""

import shlex
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ddhub.base import files, mapped
from ddhub.base.errors import UserError

PART = 16 << 20  # bytes of one column that are worked on at once where all rows are
Values = dict[str, Tensor]  # columns by name, float32 (B, C, H, W)


class Store:
    """Columns of M images each (`images`, `velocity`, ...), float32, mapped from files into memory."""

    def __init__(self, folder: Path, shape: tuple[int, ...], fill: Callable[[Tensor], Values]) -> None:
        """Open or make the files; `rewind` gives them their content.

        Args:
            folder: of its own; made if need be.
            shape: (M, C, H, W).
            fill: the initial values of some rows (B,), for every column.

        Raises:
            UserError: when the disk has no room for them.
        """
        self.folder, self.shape, self.step = folder, shape, 0
        self._fill, self._made = fill, False
        self._columns = {name: self._open(name) for name in fill(torch.arange(1))}
        self._aside = torch.zeros(shape[0], dtype=torch.bool)  # rows whose values at the checkpoint are put aside

    def column(self, name: str) -> Tensor:
        """All of a column (M, C, H, W), to be read only; its pages are the file's."""
        return self._columns[name]

    def read(self, rows: Tensor) -> Values:
        """Copies of some rows (B,), on the CPU."""
        return {name: column[rows] for name, column in self._columns.items()}

    def write(self, rows: Tensor, values: Values) -> None:
        """Overwrite columns of rows (B,), all different, having put aside what the checkpoint knows of them."""
        fresh = rows[~self._aside[rows]]
        if self.step and len(fresh):  # the beginning can be made again
            number = len(list(self.folder.glob(f"undo-{self.step:08d}-*")))
            path = self.folder / f"undo-{self.step:08d}-{number:06d}.safetensors"
            files.write_bytes(path, save({"rows": fresh, **self.read(fresh)}))
            self._aside[fresh] = True
        for name, value in values.items():
            self._columns[name][rows] = value.cpu()

    def parts(self) -> Iterator[Tensor]:
        """All rows in order, so many at a time as a bounded memory holds."""
        each = max(1, PART // (4 * prod(self.shape[1:])))
        yield from torch.arange(self.shape[0]).split(each)

    def flush(self) -> None:
        """Bring what was written to the disk, ahead of the checkpoint that counts on it."""
        for name in self._columns:
            with files.disk_errors(self._path(name), "writing"):
                files.flush(self._path(name))

    def mark(self, step: int, oldest: int) -> None:
        """A checkpoint of `step` has been written; nothing before `oldest`, the first one kept, is gone back to."""
        self.step = step
        self._aside.zero_()
        for path in self._undo():
            if _step(path) < oldest:
                path.unlink()

    def rewind(self, step: int) -> None:
        """Bring every row back to its values at the checkpoint of `step`; at 0 to the initial ones.

        Raises:
            UserError: where there is a checkpoint, but not the files that it counts on.
        """
        if step and self._made:
            checkpoints = shlex.quote(str(self.folder.parent)) + "/*.pt"
            raise UserError(
                f"{self.folder}: files that the checkpoint of step {step} counts on are gone",
                next=f"bring them back, or begin anew with: rm {checkpoints}",
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
        self._made = self._made or not mapped.holds(path, self.shape)  # and empty
        return mapped.tensor(path, self.shape)


def _step(path: Path) -> int:
    return int(path.stem.split("-")[1])
