"""Whether pixels can be pictures at all: nothing is wrong with their files, and yet they show nothing.

Shapes: B images of a batch, N images, C channels, H W image.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ddhub.base.errors import UserError
from ddhub.base.log import warn_once
from ddhub.data.preprocess import Preprocess

MANY = 0.1  # share of images of one colour above which a warning is due
EPS = 1e-3  # rounding
LOOKED = 1000  # float images that are looked at
FAR, SHARE = 2.0, 0.5  # beyond [0, 1], and of values: more of them lie so far out in no set of pictures


@dataclass
class Extremes:
    """The least and the largest value of each channel, and how many images are of one colour all over."""

    count: int = 0
    uniform: int = 0
    least: np.ndarray = field(default_factory=lambda: np.full(0, 255, np.uint8))
    most: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    def add(self, batch: np.ndarray) -> None:
        """Look at uint8 images (B, C, H, W)."""
        if not len(batch):
            return
        flat = batch.reshape(*batch.shape[:2], -1)
        low, high = flat.min(2), flat.max(2)  # (B, C)
        if not self.count:
            self.least, self.most = low[0], high[0]
        self.count += len(batch)
        self.uniform += int((low == high).all(1).sum())
        self.least, self.most = np.minimum(self.least, low.min(0)), np.maximum(self.most, high.max(0))

    @property
    def blank(self) -> str | None:
        """What is wrong where all pixels of all images are one colour."""
        if not self.count or (self.least != self.most).any():
            return None
        value = ", ".join(map(str, self.least.tolist()))
        return f"all {self.count} images are blank: every pixel is {value}"

    @property
    def warnings(self) -> list[str]:
        """What is odd about images that are not all blank."""
        if not self.count or self.blank:
            return []
        flat = [number for number in range(len(self.least)) if self.least[number] == self.most[number]]
        told = [f"channel {number} is {self.least[number]} in every pixel of every image" for number in flat]
        if self.uniform > MANY * self.count:
            told.append(f"{self.uniform} of {self.count} images are of one colour all over")
        return told


def extremes(images: Tensor) -> Extremes:
    """Look at uint8 images (N, C, H, W)."""
    found = Extremes()
    for part in images.split(1000):
        found.add(part.numpy())
    return found


def check(images: Tensor, fitted: Preprocess, where: str, affirmed: bool) -> None:
    """Refuse a set that shows nothing, or is not in the space that is claimed for it; say loudly what is odd.

    Args:
        images: uint8 pixels or float inputs (N, C, H, W).
        fitted: what is claimed to have made the inputs of pixels.
        affirmed: the user gave its statistics.

    Raises:
        UserError: with the statistics that fit, where pixels were taken for network inputs.
    """
    if images.is_floating_point():
        blank, told = _of_inputs(images)
        if blank is None and fitted.zca is None:
            told += _of_space(images, fitted, where, affirmed)
    else:
        seen = extremes(images)
        blank, told = seen.blank, seen.warnings
    if blank is not None:
        raise UserError(f"{where}: {blank}", next="look at its files")
    for warning in told:
        warn_once(f"{where}: {warning}")


def _of_inputs(images: Tensor) -> tuple[str | None, list[str]]:
    """What is wrong, or odd, where channels of float images have one value in every pixel of every image."""
    low, high = torch.amin(images, (0, 2, 3)), torch.amax(images, (0, 2, 3))
    flat = (low == high).nonzero().flatten().tolist()
    if len(flat) == len(low):
        return f"all {len(images)} images are blank: each channel has one value", []
    return None, [f"channel {number} is {low[number]:.4g} in every pixel of every image" for number in flat]


def _of_space(images: Tensor, fitted: Preprocess, where: str, affirmed: bool) -> list[str]:
    """Warnings of statistics that cannot have made the inputs; refused where the inputs show that they are pixels."""
    some = images[torch.linspace(0, len(images) - 1, min(len(images), LOOKED)).long()]
    wrong, certain = misplaced(some, fitted.unit(some))
    white, channels = 1 if float(some.max()) <= 1 + EPS else 255, images.shape[1]
    as_pixels = all(mean == 0 for mean in fitted.mean) and all(abs(std * white - 1) < EPS for std in fitted.std)
    if wrong is None or as_pixels:
        return []
    if affirmed and not certain:
        return [wrong]
    mean, std = ",".join(["0"] * channels), ",".join([f"{1 / white:.8g}"] * channels)
    raise UserError(f"{where}: {wrong}", next=f"--mean {mean} --std {std}, if these are its pixels")


def misplaced(images: Tensor, unit: Tensor) -> tuple[str | None, bool]:
    """Why network inputs cannot be what the statistics that were given for them say; None where they can.

    Args:
        images: float inputs (N, C, H, W), as files have them.
        unit: the pixels that they become under the statistics, of which [0, 1] can be displayed.

    Returns:
        The reason, and whether it is beyond doubt.
    """
    low, high = float(images.min()), float(images.max())
    span = f"values from {low:.4g} to {high:.4g}"
    far = float(((unit < -FAR) | (unit > 1 + FAR)).float().mean())
    if far > SHARE:
        return (
            f"{span} are no normalised pixels: {100 * far:.0f}% of them would lie far outside of black and white",
            True,
        )
    if low >= 0 and 1 < high <= 255 and float((images - images.round()).abs().max()) < EPS:
        return f"{span} are whole numbers, as 8-bit pixels are: they were never normalised", False
    if low >= 0 and 0.5 < high <= 1 + EPS:
        return f"{span} are pixels in [0, 1]: normalised ones have negative values too", False
    return None, False
