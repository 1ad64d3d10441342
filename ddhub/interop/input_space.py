"""The input space of a foreign set: the statistics or whitening that turned pixels into its floats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ddhub.base.errors import UserError
from ddhub.data import preprocess
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.interop import conventions
from ddhub.interop.reading import Foreign


@dataclass(frozen=True)
class InputSpace:
    """How the set's network inputs were made from pixels."""

    kind: str  # "fixed", "fitted", "zca" or "per_image"
    because: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class StatedSpace:
    """The user's statements about the space. None leaves a fact to the files and the table."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    zca: bool | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and not _are_numbers(values):
                raise UserError(
                    f"--{name} {values}: expected finite numbers, one per channel, as in 0.49,0.48,0.45",
                    next=f"--{name} 0.49,0.48,0.45",
                )


def _are_numbers(values: Any) -> bool:
    """Whether these are finite numbers in a sequence; a caller in Python can give anything."""
    try:
        return not isinstance(values, str) and all(math.isfinite(value) for value in values)
    except TypeError:
        return False


def settle(asked: StatedSpace, found: Foreign, dataset: str) -> InputSpace:
    """Find statistics and whitening: from the user, from the files' names, or from the table.

    Raises:
        UserError: if none of them states it.
    """
    if (asked.mean is None) != (asked.std is None):
        raise UserError("--mean and --std go together", next="ddhub import --help")
    known = conventions.statistics(found.family, dataset)
    whitened, because = asked.zca, "as told by --zca or --no-zca"
    if whitened is None and found.zca is not None:
        whitened, because = found.zca, "as the files' names say"
    elif whitened is None and asked.mean is not None:
        whitened, because = False, "as told by --mean and --std"
    elif whitened is None and known is not None:
        whitened, because = known.zca, f"as the importer's table has it ({known.source})"
    if whitened and asked.mean is not None:
        raise UserError(
            f"--mean and --std: the images are whitened {because}, which does not use them",
            next="without --mean and --std; or with --no-zca, if the images are only normalised",
        )
    if whitened:
        return InputSpace("per_image" if found.family == "kip" else "zca", because)
    if asked.mean is not None and asked.std is not None:
        if len(asked.mean) != len(asked.std) or len(asked.mean) != found.images.shape[1] or min(asked.std) <= 0:
            raise UserError(
                f"--mean and --std: {found.images.shape[1]} numbers each, standard deviations above 0",
                next="ddhub import --help",
            )
        return InputSpace("fixed", "as told by --mean and --std", tuple(asked.mean), tuple(asked.std))
    if whitened is None and known is not None:
        raise UserError(
            f"sets of the family {found.family} on {dataset} are whitened (ZCA) or normalised; the files do not say",
            next="--zca or --no-zca, as its author ran it",
        )
    if known is None:
        raise UserError(
            f"nobody wrote down how the family {found.family} normalised {dataset}; the files do not say",
            next="--mean A,B,C --std A,B,C, or --zca, as its author ran it",
        )
    because = f"as the importer's table has it ({known.source})"
    if known.mean is None or known.std is None:
        return InputSpace("fitted", because)
    return InputSpace("fixed", because, known.mean, known.std)


def fit(space: InputSpace, split: Split) -> tuple[Preprocess, list[str]]:
    """The map between pixels and the set's inputs, and notes on it."""
    whole, images = torch.arange(len(split)), split.images
    fitted_on = f"fitted on all {len(split)} training images of the source"
    if space.kind == "zca":
        fitted = preprocess.fit(images, whole, zca=True, unbiased=True)
        how = f"ZCA as kornia has it (eps {preprocess.ZCA_EPS}, pixels in [0, 1], covariance over N - 1), {fitted_on}"
    elif space.kind == "per_image":
        fitted = preprocess.fit_per_image(images, whole)
        how = (
            "ZCA as KIP has it (standardised channels, every image centred and of norm 1, regulariser "
            f"{preprocess.PER_IMAGE_REGULARISER} x trace / dimensions), {fitted_on}; its authors leave out 5,000"
        )
    elif space.kind == "fitted":
        fitted, how = preprocess.fit(images, whole, zca=False), f"mean and standard deviation, {fitted_on}"
    else:
        fitted = Preprocess(space.mean, space.std, statistics="field")
        how = f"mean {list(space.mean)}, standard deviation {list(space.std)}"
    if len(fitted.mean) != images.shape[1]:
        raise UserError(
            f"source: has {images.shape[1]} channels, the statistics {len(fitted.mean)}", next="--mean, --std"
        )
    return fitted, [f"preprocessing {space.because}: {how}"]
