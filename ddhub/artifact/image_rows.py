"""Some rows of a set in memory, as tensors or as arrays. Arrays need no torch.

Shapes: B rows, C H W image, K classes, T labels kept of each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Some rows of a set with their columns."""

    images: Tensor  # uint8 (B, C, H, W), the display pixels
    labels: Tensor  # int64 (B,)
    soft: Tensor | None = None  # float16 or float32 (B, K), or (B, T) with the classes in `index`
    index: Tensor | None = None  # int16 or int32 (B, T)
    pixels: Tensor | None = None  # float16 or float32 (B, C, H, W), network inputs
    group: Tensor | None = None  # int64 (B,), the group of each image; stored as int16

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Rows:
        """The rows from `start` up to `stop`."""
        return Rows(*(None if column is None else column[start:stop] for column in self.columns()))  # type: ignore[arg-type]

    def columns(self) -> tuple[Tensor | None, ...]:
        """The columns, in order."""
        return (self.images, self.labels, self.soft, self.index, self.pixels, self.group)


@dataclass(frozen=True)
class Arrays:
    """As `Rows`, with arrays as read from the file."""

    images: np.ndarray
    labels: np.ndarray
    soft: np.ndarray | None = None
    index: np.ndarray | None = None
    pixels: np.ndarray | None = None
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self) -> Rows:
        """The rows as tensors that share the arrays' memory."""
        import torch

        return Rows(**{name: torch.from_numpy(found) for name, found in vars(self).items() if found is not None})
