"""Images of a part of the resolution: how a set stores them, and how networks see them.

A set with `preprocess.factor` f stores images of 1/f of the resolution per side. f^2 of them take the pixels of one
whole image. Networks see them enlarged (Kim et al., "Dataset Condensation via Efficient Synthetic-Data
Parameterization", arXiv:2205.14959: multi-formation, which stores f^2 of them as one image).
Shapes: B images, C channels, S the networks' side, s the stored side.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def enlarged(images: Tensor, side: int) -> Tensor:
    """Network inputs (B, C, s, s), enlarged to (B, C, S, S) by bilinear interpolation. Larger inputs stay.

    It equals `torch.nn.functional.interpolate(images, S, mode="bilinear", align_corners=False)`, whose backward pass
    has no deterministic form on a GPU.
    """
    if images.shape[-1] >= side:
        return images
    weights = _weights(images.shape[-1], side, images.dtype, images.device)
    return weights @ images @ weights.T


def enlarged_pixels(images: Tensor, side: int) -> Tensor:
    """uint8 pixels (B, C, s, s), enlarged to (B, C, S, S) and rounded. Larger ones stay."""
    if images.shape[-1] >= side:
        return images
    return enlarged(images.float(), side).round().clamp(0, 255).to(torch.uint8)


def reduced(images: Tensor, factor: int) -> Tensor:
    """uint8 pixels (B, C, S, S), reduced to (B, C, S / factor, S / factor): means of squares of pixels, rounded."""
    if factor == 1:
        return images
    return functional.avg_pool2d(images.float(), factor).round().to(torch.uint8)


@lru_cache(maxsize=16)
def _weights(small: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (S, s) that interpolates a column of pixels. Pixel centres of both grids span the same square."""
    places = ((torch.arange(side, dtype=torch.double) + 0.5) * small / side - 0.5).clamp(0, small - 1)
    distances = (places[:, None] - torch.arange(small, dtype=torch.double)).abs()
    return (1 - distances).clamp(min=0).to(dtype).to(device)
