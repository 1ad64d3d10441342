"""Preprocessing from uint8 pixels to network inputs and back: mean and std per channel, or ZCA whitening.

ZCA follows arXiv:2312.08912. It is fitted on training images in [0, 1] with eps 0.1. A whitened input is W (x - m)
without further normalisation. Kernel inducing points (arXiv:2107.13034) whiten differently, see `fit_per_image`.
Shapes: N images, C H W image, D = C*H*W.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor

from ddhub.base.mapped_tensors import Allocate, in_memory
from ddhub.data import whitening

# Constants for normalisation in the code of DD_APM 53c8847, mtt-distillation 0c42493 and DATM 97ae510.
# Those of MNIST, FashionMNIST and SVHN are from DatasetCondensation 53f63a6.
# The std for CIFAR-10 is smaller than that of its pixels (.247, .243, .262). CIFAR-100 has the same constants.
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MNIST = ((0.1307,), (0.3081,))
FASHION = ((0.2861,), (0.3530,))
SVHN = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
FIELD: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR10,
    "tiny": IMAGENET,
    "imagenet": IMAGENET,
    "mnist": MNIST,
    "fashion": FASHION,
    "svhn": SVHN,
}
ZCA_EPS = 0.1
CHUNK = 4 << 20  # values per piece of work; their sums take eight bytes each
PER_IMAGE_REGULARISER = 0.1  # times the mean of the covariance's diagonal


@dataclass(frozen=True)
class Preprocess:
    """The map between pixels and network inputs."""

    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    zca_mean: Tensor | None = None  # (D,)
    zca: Tensor | None = None  # (D, D), symmetric
    per_image: bool = False  # mean and std, then each image centred and scaled to norm 1, then `zca`
    # Origin of mean and std: fitted on the training part, or constants of the field.
    statistics: Literal["fitted", "field"] = "fitted"

    @cached_property
    def dewhitening(self) -> Tensor:
        """The inverse of the whitening matrix, (D, D). It is computed on the CPU and kept on the matrix's device."""
        assert self.zca is not None
        return torch.linalg.inv(self.zca.cpu().double()).float().to(self.zca.device)

    @cached_property
    def _elsewhere(self) -> dict[torch.device, "Preprocess"]:
        return {}

    def on(self, device: torch.device) -> "Preprocess":
        """The preprocessing with its matrix on a device. It is cached there, because the matrix has 38 MB at 32 px."""
        if self.zca is None or self.zca_mean is None or self.zca.device == device:
            return self
        if device not in self._elsewhere:
            moved = replace(self, zca_mean=self.zca_mean.to(device), zca=self.zca.to(device))
            self._elsewhere[device] = moved
        return self._elsewhere[device]

    def inputs(self, images: Tensor) -> Tensor:
        """Turn uint8 pixels (N, C, H, W) into float32 network inputs of the same shape."""
        return self.inputs_from_unit(images.float() / 255)

    def inputs_from_unit(self, unit: Tensor) -> Tensor:
        """Turn float pixels (N, C, H, W) in [0, 1] into network inputs."""
        here = self.on(unit.device)
        if here.zca is not None and here.zca_mean is not None:
            flat = self._alike(unit).flatten(1) if self.per_image else unit.flatten(1)
            return ((flat - here.zca_mean) @ here.zca).view_as(unit)
        mean, std = self._statistics(unit)
        return (unit - mean) / std

    def unit(self, inputs: Tensor) -> Tensor:
        """Turn network inputs (N, C, H, W) into float pixels. [0, 1] can be displayed; the rest is clipped later."""
        here = self.on(inputs.device)
        if here.zca is not None and here.zca_mean is not None:
            flat = inputs.flatten(1) @ here.dewhitening + here.zca_mean
            if not self.per_image:
                return flat.view_as(inputs)
            # The brightness and contrast of single images are lost. Those of the mean image replace them.
            inputs = (flat * flat.shape[1] ** 0.5).view_as(inputs)
        mean, std = self._statistics(inputs)
        return inputs * std + mean

    def project(self, inputs: Tensor) -> Tensor:
        """The displayable inputs nearest to `inputs`, by channel. Whitened inputs are clipped as pixels."""
        return self.inputs_from_unit(self.unit(inputs).clamp(0, 1))

    def pixels(self, inputs: Tensor, allocate: Allocate = in_memory) -> tuple[Tensor, float]:
        """Network inputs as uint8 pixels, and the share of values that were clipped to [0, 1]."""
        shown, clipped = allocate(inputs.shape, torch.uint8), 0
        half = 0.5 / 255  # values that round into the range do not count as clipped
        for part, into in zip(_pieces(inputs), _pieces(shown), strict=True):
            unit = self.unit(part)
            clipped += int(((unit < -half) | (unit > 1 + half)).sum())
            into.copy_((unit.clamp(0, 1) * 255).round())
        return shown, clipped / inputs.numel()

    def inputs_into(self, images: Tensor, into: Tensor) -> Tensor:
        """Write the `inputs` of uint8 pixels (N, C, H, W) into a tensor of their shape, and return it."""
        for part, kept in zip(_pieces(images), _pieces(into), strict=True):
            kept.copy_(self.inputs(part))
        return into

    def _alike(self, unit: Tensor) -> Tensor:
        """Standardised images (N, C, H, W), each shifted to mean 0 and scaled to norm 1."""
        mean, std = self._statistics(unit)
        flat = ((unit - mean) / std).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        return (flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)).view_as(unit)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (_per_channel(values, like.dtype, like.device) for values in (self.mean, self.std))
        return mean, std

    def to_bytes(self) -> bytes:
        """The whitening as a safetensors file: `mean` (D,) and `matrix` (D, D)."""
        assert self.zca is not None and self.zca_mean is not None
        return bytes(save({"mean": self.zca_mean, "matrix": self.zca}))


@lru_cache(maxsize=64)
def _per_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """One number per channel as (1, C, 1, 1), cached on a device."""
    return torch.tensor(values, dtype=dtype).view(1, -1, 1, 1).to(device)


def fit(images: Tensor, index: Tensor, *, zca: bool, unbiased: bool = False) -> Preprocess:
    """Fit channel statistics, or a whitening, on the uint8 images (N, C, H, W) at `index`.

    Args:
        unbiased: divide the covariance by N - 1, which is the default of kornia's ZCAWhitening.
    """
    mean, std = _channel_statistics(images, index)
    if not zca:
        return Preprocess(mean, std)
    zca_mean, matrix = _whitening(images, index, unbiased)
    return Preprocess(mean, std, zca_mean, matrix)


def field(dataset: str | None) -> Preprocess | None:
    """The constants of the field for a dataset, by its name in FIELD; None if there are none."""
    return Preprocess(*FIELD[dataset], statistics="field") if dataset in FIELD else None


def fit_per_image(images: Tensor, index: Tensor) -> Preprocess:
    """Fit the whitening of kernel inducing points (arXiv:2107.13034) on the uint8 images (N, C, H, W) at `index`.

    Channels are standardised, and each image is centred and scaled to norm 1. The covariance is not centred. A tenth of
    its mean diagonal regularises it (google-research/kip, nn_training.ipynb).
    """
    size = images[0].numel()
    alike = Preprocess(*_channel_statistics(images, index))
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for chunk in _chunks(images, index):
        flat = alike._alike(chunk.double() / 255).flatten(1)
        covariance += flat.T @ flat
    values, vectors = torch.linalg.eigh(covariance / len(index))
    scale = (values.clamp(min=0) + PER_IMAGE_REGULARISER * values.mean()).rsqrt()
    matrix = ((vectors * scale) @ vectors.T).float().contiguous()
    return Preprocess(alike.mean, alike.std, torch.zeros(size), matrix, per_image=True)


def load_whitening(path: Path, size: int) -> tuple[Tensor, Tensor]:
    """Read `preprocess.safetensors`: mean (D,) and matrix (D, D), float32.

    Args:
        size: the expected D, checked before the tensors are read.

    Raises:
        UserError: if the file holds no such whitening.
    """
    mean, matrix = whitening.read(path, size)
    return torch.from_numpy(mean), torch.from_numpy(matrix)


def _pieces(images: Tensor) -> Sequence[Tensor]:
    """Images (N, C, H, W) in pieces of bounded memory."""
    return images.split(max(1, CHUNK // images[0].numel()))


def _chunks(images: Tensor, index: Tensor) -> Iterator[Tensor]:
    for part in index.split(max(1, CHUNK // images[0].numel())):
        yield images[part]


def _channel_statistics(images: Tensor, index: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # Integer sums are exact, in any order.
    channels, side = images.shape[1], images.shape[2]
    total, squares = torch.zeros(channels, dtype=torch.int64), torch.zeros(channels, dtype=torch.int64)
    for chunk in _chunks(images, index):
        wide = chunk.long()
        total += wide.sum((0, 2, 3))
        squares += (wide * wide).sum((0, 2, 3))
    count = len(index) * side * side
    mean = total.double() / count
    std = (squares.double() / count - mean * mean).clamp(min=0).sqrt()
    return tuple((mean / 255).tolist()), tuple((std / 255).clamp(min=1e-6).tolist())


def _whitening(images: Tensor, index: Tensor, unbiased: bool) -> tuple[Tensor, Tensor]:
    size = images[0].numel()
    total, products = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for chunk in _chunks(images, index):
        flat = chunk.flatten(1).double() / 255
        total += flat.sum(0)
        products += flat.T @ flat
    mean = total / len(index)
    covariance = products / len(index) - mean.outer(mean)
    if unbiased:
        covariance *= len(index) / (len(index) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    scale = (values.clamp(min=0) + ZCA_EPS).rsqrt()
    return mean.float(), ((vectors * scale) @ vectors.T).float().contiguous()
