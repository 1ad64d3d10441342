"""Corruptions of test images, for the robustness of networks: six of Hendrycks and Dietterich, arXiv:1903.12261.

They are the ones that need only Pillow and scipy, at severity 3 of 5, with the constants of CIFAR-10-C for all image
sizes. Every row sees the same corrupted images, because one seed draws the noise.
Shapes: N images, C H W image.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddhub.base import seeds

VERSION = 1  # version of the corruptions; rows record it
SEVERITY = 3
CHUNK = 500  # images converted to floats at once

Floats = NDArray[Any]  # (n, C, H, W), pixels in [0, 1]
Corruption = Callable[[Floats, int], Floats]  # takes images and the number of the first one


def _gaussian_noise(images: Floats, first: int) -> Floats:
    draw = seeds.generator(0, "corruptions", first)
    return images + (0.08 * torch.randn(images.shape, generator=draw)).numpy()


def _gaussian_blur(images: Floats, first: int) -> Floats:
    from scipy import ndimage

    blurred: Floats = ndimage.gaussian_filter(images, (0, 0, 0.7, 0.7), mode="nearest")
    return blurred


def _contrast(images: Floats, first: int) -> Floats:
    means = images.mean((2, 3), keepdims=True)
    return 0.4 * (images - means) + means


def _brightness(images: Floats, first: int) -> Floats:
    """Increase HSV's value at the same hue and saturation."""
    value = images.max(1, keepdims=True)
    more = np.minimum(value + 0.15, 1)
    return np.where(value > 0, images * more / np.maximum(value, 1e-6), more)


def _pixelate(images: Floats, first: int) -> Floats:
    def smaller_and_back(picture: Image.Image) -> Image.Image:
        small = (int(0.85 * picture.width), int(0.85 * picture.height))
        return picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

    return _each(images, smaller_and_back)


def _jpeg(images: Floats, first: int) -> Floats:
    def compressed(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=58)
        return Image.open(file)

    return _each(images, compressed)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "gaussian_blur": _gaussian_blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}


def apply(name: str, images: Tensor) -> Tensor:
    """Images (N, C, H, W) with a corruption of `CORRUPTIONS`, uint8 as before."""
    found = torch.empty(images.shape, dtype=torch.uint8)
    for first in range(0, len(images), CHUNK):
        clean = images[first : first + CHUNK].numpy().astype(np.float32) / 255
        corrupted = CORRUPTIONS[name](clean, first)
        found[first : first + CHUNK] = torch.from_numpy(np.rint(corrupted.clip(0, 1) * 255).astype(np.uint8))
    return found


def _each(images: Floats, change: Callable[[Image.Image], Image.Image]) -> Floats:
    """Apply a change of 8-bit pictures to images."""
    pixels = np.rint(images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    grey = pixels.shape[3] == 1
    changed = [np.asarray(change(Image.fromarray(each[..., 0] if grey else each))) for each in pixels]
    return np.stack(changed).reshape(pixels.shape).transpose(0, 3, 1, 2).astype(np.float32) / 255
