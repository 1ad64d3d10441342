"""Whether pixels can be pictures at all. Files without a fault can still show nothing.

Shapes: B images of a batch, N images, C channels, H W image.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ddhub.base.errors import UserError
from ddhub.base.log import warn_once
from ddhub.data import held_out
from ddhub.data.preprocess import Preprocess

MANY = 0.1  # share of single-coloured images above which a warning is given
EPS = 1e-3  # rounding
LOOKED = 1000  # number of float images checked
DARK = 16  # of 255: pixels that stay below it are hardly seen, such as 8-bit values in files of 16 bits
FAR, SHARE = 2.0, 0.5  # distance from [0, 1], and share of values: no set of pictures has more values so far out
FLAT = 0.5  # share of the source's contrast below which a set's space is doubted
UNIT, BYTES = 2.0, 100.0  # pixels in 0..1 stay below the first, pixels in 0..255 reach beyond the second


@dataclass
class Extremes:
    """The smallest and largest value of each channel, and the number of single-coloured images."""

    count: int = 0
    uniform: int = 0
    least: np.ndarray = field(default_factory=lambda: np.full(0, 255, np.uint8))
    most: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    def add(self, batch: np.ndarray) -> None:
        """Take uint8 images (B, C, H, W) into account."""
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
        """The fault of images that all have one colour; None if they have more."""
        if not self.count or (self.least != self.most).any():
            return None
        value = ", ".join(map(str, self.least.tolist()))
        return f"all {self.count} images are blank: every pixel is {value}"

    @property
    def warnings(self) -> list[str]:
        """Odd things about images that are not all blank."""
        if not self.count or self.blank:
            return []
        flat = [number for number in range(len(self.least)) if self.least[number] == self.most[number]]
        told = [f"channel {number} is {self.least[number]} in every pixel of every image" for number in flat]
        if self.uniform > MANY * self.count:
            told.append(f"{self.uniform} of {self.count} images are of one colour all over")
        if self.most.max() < DARK:
            told.append(f"nearly black: no pixel of {self.count} images is above {self.most.max()} of 255")
        return told


def extremes(images: Tensor) -> Extremes:
    """The extremes of uint8 images (N, C, H, W)."""
    found = Extremes()
    for part in images.split(1000):
        found.add(part.numpy())
    return found


def check(images: Tensor, fitted: Preprocess, where: str, real: Tensor | None = None) -> None:
    """Refuse a set that shows nothing or is not in its claimed space. Warn of odd things.

    Args:
        images: uint8 pixels or float inputs (N, C, H, W).
        fitted: the preprocessing that is claimed for the inputs.
        real: uint8 images of the source, whose contrast is compared.

    Raises:
        UserError: if the inputs look like pixels, with statistics that fit them.
    """
    if images.is_floating_point():
        check_space(images, fitted, where)
        blank, told = _of_inputs(images)
    else:
        seen = extremes(images)
        blank, told = seen.blank, seen.warnings
    if blank is not None:
        raise UserError(f"{where}: {blank}", next="look at its files")
    for warning in told:
        warn_once(f"{where}: {warning}")
    if real is not None:
        _compare(images, real, fitted, where)


def _of_inputs(images: Tensor) -> tuple[str | None, list[str]]:
    """The fault, and odd things, of float images with one value in every pixel of a channel."""
    low, high = torch.amin(images, (0, 2, 3)), torch.amax(images, (0, 2, 3))
    flat = (low == high).nonzero().flatten().tolist()
    if len(flat) == len(low):
        return f"all {len(images)} images are blank: each channel has one value", []
    return None, [f"channel {number} is {low[number]:.4g} in every pixel of every image" for number in flat]


def check_space(images: Tensor, fitted: Preprocess, where: str) -> None:
    """Refuse network inputs that contradict their claimed statistics.

    Args:
        images: float inputs (N, C, H, W), as in the files.

    Raises:
        UserError: with statistics under which the values are pixels.
    """
    some = images[held_out.spread(len(images), LOOKED)]
    low, high = float(images.min()), float(images.max())
    span, white = f"values from {low:.4g} to {high:.4g}", 255 if high > UNIT else 1
    centred = fitted.zca is not None or any(mean != 0 for mean in fitted.mean)
    black = any(abs(mean - std) < EPS for mean, std in zip(fitted.mean, fitted.std, strict=True))  # whether it is -1
    if centred and fitted.zca is None and not black and abs(low + 1) < EPS and high < 1 + EPS:
        half = ",".join(["0.5"] * images.shape[1])
        told = f"{where}: {span} are pixels stretched to -1..1, and not normalised by {fitted.mean} and {fitted.std}"
        raise UserError(told, next=f"--mean {half} --std {half}, if these are its pixels")
    if centred and low >= -EPS and high > low and (high <= UNIT or high >= BYTES):
        made = "whitened" if fitted.zca is not None else "normalised"
        wrong = f"{span} are pixels in 0..{white}, and inputs that are {made} lie on both sides of 0"
    elif fitted.zca is None and float(_far(fitted.unit(some)).float().mean()) > SHARE:
        wrong = f"{span} are no normalised pixels: most of them would lie far outside of black and white"
    else:
        return
    mean, std = (",".join([value] * images.shape[1]) for value in ("0", repr(1 / white)))
    raise UserError(f"{where}: {wrong}", next=f"--mean {mean} --std {std}, if these are its pixels")


def _compare(images: Tensor, real: Tensor, fitted: Preprocess, where: str) -> None:
    """Warn of a set whose pixels have far less contrast than those of its source: its space may be another."""
    some, others = (each[held_out.spread(len(each), LOOKED)] for each in (images, real))
    unit = fitted.unit(some) if images.is_floating_point() else some / 255
    seen, usual = float(unit.std()), float((others / 255).std())
    if seen < FLAT * usual:
        warn_once(
            f"{where}: its pixels vary by {seen:.2g}, and those of the source by {usual:.2g} (standard deviations in "
            "0..1): check how its images were normalised (--mean and --std, --zca)"
        )


def _far(unit: Tensor) -> Tensor:
    """A mask of pixels far outside of [0, 1], which can be displayed."""
    return (unit < -FAR) | (unit > 1 + FAR)
