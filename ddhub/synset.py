"""The synthetic set in memory, and everything that a method may see while it makes one.

Shapes: M synthetic images, C H W image, K classes.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SyntheticSet:
    """Synthetic images in network-input space with their labels."""

    images: Tensor  # float32 (M, C, H, W)
    labels: Tensor  # int64 (M,)
    soft_labels: Tensor | None  # float32 (M, K) logits, where teachers label the set
