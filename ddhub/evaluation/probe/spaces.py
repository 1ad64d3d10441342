"""Known input spaces: the ways in which network inputs may have been made from pixels.

Shapes: N images, C H W image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddhub.artifact.folder import Artifact
from ddhub.data import catalog, held_out
from ddhub.data import preprocess as preprocessing
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.interop import conventions

LARGEST_WHITENING = 4096  # values per image; larger eigenproblems take too long for a probe
FIT_ON = 10_000  # number of images for fitting a whitening


@dataclass(frozen=True)
class Space:
    """One way in which inputs may have been made from pixels."""

    words: str
    option: str | None
    preprocess: Preprocess
    named: bool = True


def others(found: Artifact, split: Split, own: Preprocess) -> Iterator[Space]:
    """The known spaces other than the one that the manifest claims."""
    claimed = found.preprocess
    undo = "--no-zca " if claimed.zca is not None else ""
    for words, mean, std in _affine(found, own):
        if claimed.zca is not None or not _same(claimed, mean, std):
            yield Space(words, f"{undo}--mean {_list(mean)} --std {_list(std)}", Preprocess(mean, std))
    if split.images[0].numel() <= LARGEST_WHITENING:
        some = held_out.spread(len(split), FIT_ON)
        if claimed.zca is None or claimed.per_image:
            # Kornia divides the covariance by N - 1 and ddhub by N. A teacher cannot tell the difference.
            yield Space("whitened by ZCA", "--zca", preprocessing.fit(split.images, some, zca=True, unbiased=True))
        layout = None if found.manifest.imported is None else found.manifest.imported.layout
        if not claimed.per_image and layout == "kip":
            yield Space("whitened as KIP does", "--zca", preprocessing.fit_per_image(split.images, some))
    if found.pixels is not None:
        yield _fitted(found.pixels, own, undo)


def _affine(found: Artifact, own: Preprocess) -> Iterator[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Known means and standard deviations, without repetition."""
    channels = len(own.mean)
    yield "normalised by the source's own mean and standard deviation", own.mean, own.std
    known = catalog.dataset(found.manifest.source.dataset)
    listed = {(s.mean, s.std): s.source for (_, name), s in conventions.STATISTICS.items() if name == known and s.mean}
    for (mean, std), where in listed.items():
        if mean is not None and std is not None and len(mean) == channels:
            yield f"normalised as by {where.partition(';')[0]}", mean, std
    if channels == 3 and conventions.IMAGENET not in listed:
        yield "normalised by ImageNet's statistics", *conventions.IMAGENET
    yield "pixels from -1 to 1", (0.5,) * channels, (0.5,) * channels
    yield "pixels in [0, 1], not normalised", (0.0,) * channels, (1.0,) * channels
    yield "pixels from 0 to 255, not normalised", (0.0,) * channels, (1 / 255,) * channels


def _same(claimed: Preprocess, mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    pairs = zip((*claimed.mean, *claimed.std), (*mean, *std), strict=True)
    return all(abs(a - b) <= 0.01 * max(abs(a), abs(b), 0.01) for a, b in pairs)


def _fitted(inputs: Tensor, own: Preprocess, undo: str) -> Space:
    """The statistics with which the set's pixels have the source's mean and contrast."""
    mean, std = inputs.mean((0, 2, 3)), inputs.std((0, 2, 3)).clamp(min=1e-9)
    scale = torch.tensor(own.std) / std
    shift = torch.tensor(own.mean) - mean * scale
    fitted = Preprocess(tuple(shift.tolist()), tuple(scale.tolist()))
    option = f"{undo}--mean {_list(fitted.mean)} --std {_list(fitted.std)}, if its author has no better ones"
    return Space("normalised by statistics that nobody wrote down", option, fitted, named=False)


def _list(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def distance(unit: Tensor, own: Preprocess | None) -> float | None:
    """The distance of pixels (N, C, H, W) from the source's: of means in deviations, or of log contrasts, if larger."""
    if own is None:
        return None
    mean, std = unit.mean((0, 2, 3)).double(), unit.std((0, 2, 3)).double().clamp(min=1e-9)
    wanted, spread = torch.tensor(own.mean).double(), torch.tensor(own.std).double()
    return float(torch.maximum((mean - wanted).abs() / spread, (std / spread).log().abs()).max())


def claimed_distance(claimed: Preprocess, own: Preprocess | None) -> float | None:
    """The distance of a set's claimed statistics from the source's, on the same scale; None for a whitening."""
    if own is None or claimed.zca is not None:
        return None
    pairs = zip(claimed.mean, claimed.std, own.mean, own.std, strict=True)
    return max(max(abs(m - wanted) / spread, abs(math.log(s / spread))) for m, s, wanted, spread in pairs)
