"""3x3 convolutions with 4 times fewer multiplications, for wide layers in float32 on a CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, section 4.3, F(4x4, 3x3). Tiles
of 6x6 inputs that overlap by 2 become tiles of 4x4 outputs, by 36 products in place of 144. The weights' gradient is
computed in the same domain. Results differ from a direct convolution's by rounding (1e-5 of the largest value).
Transforms move memory and save arithmetic, so the layer must be wide. At 128 channels a step of a ConvNet is about 1.3
times as fast (benchmarks/distill_cycle.py). At 32 it is not.
Shapes: N images, C input and O output channels, H W image, T = N * H/4 * W/4 tiles.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE = 4  # outputs of a tile in each direction
WIDE = 64  # number of input and output channels above which the transforms pay


class Conv2d(nn.Conv2d):
    """A suitable convolution (`fits`), computed by tiles. Its parameters and their names are the usual ones."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H, W)."""
        return convolution(images, self.weight)[0]


def adopt(net: nn.Module, side: int) -> None:
    """Convert every suitable convolution of a ConvNet in place. Each is followed by a 2x2 pool."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            if fits(layer, side):
                layer.__class__ = Conv2d
            side //= 2


def fits(layer: nn.Conv2d, side: int) -> bool:
    """Whether a convolution on images of so many pixels can and should be computed by tiles."""
    usual = layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding == (1, 1) and layer.groups == 1
    return usual and layer.bias is None and min(layer.in_channels, layer.out_channels) >= WIDE and side % TILE == 0


@torch.library.custom_op("ddhub::winograd", mutates_args=())
def convolution(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve with zero padding of 1.

    Args:
        images: float32 (N, C, H, W), H and W multiples of 4.
        weight: float32 (O, C, 3, 3).

    Returns:
        The result (N, O, H, W), channels last, and the transformed inputs (36, T, C) for the weights' gradient.
    """
    with torch.no_grad():
        tiles = _compiled(_of_inputs)(_channels_last(images))
        return _result(tiles, _of_weights(weight), images.shape), tiles


@torch.library.custom_op("ddhub::winograd_images", mutates_args=())
def gradient_of_images(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient (N, C, H, W) of `images` from that of the result (N, O, H, W): convolution with flipped weights."""
    with torch.no_grad():
        tiles = _compiled(_of_inputs)(_channels_last(gradient))
        return _result(tiles, _of_weights(weight.flip(2, 3).transpose(0, 1)), gradient.shape)


@torch.library.custom_op("ddhub::winograd_weight", mutates_args=())
def gradient_of_weight(gradient: Tensor, tiles: Tensor) -> Tensor:
    """The gradient (O, C, 3, 3) of `weight` from that of the result (N, O, H, W) and the transformed inputs."""
    with torch.no_grad():
        products = torch.bmm(tiles.transpose(1, 2), _compiled(_of_gradient)(_channels_last(gradient)))
        products = products.view(6, 6, tiles.shape[2], gradient.shape[1])
        return _channels_last(torch.einsum("ai,abco,bj->ocij", _KERNEL, products, _KERNEL))


@convolution.register_fake
def _(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    count, channels, height, width = images.shape
    tiles = images.new_empty(36, count * height * width // TILE**2, channels)
    return images.new_empty(count, height, width, len(weight)).permute(0, 3, 1, 2), tiles


@gradient_of_images.register_fake
def _(gradient: Tensor, weight: Tensor) -> Tensor:
    count, _, height, width = gradient.shape
    return gradient.new_empty(count, height, width, weight.shape[1]).permute(0, 3, 1, 2)


@gradient_of_weight.register_fake
def _(gradient: Tensor, tiles: Tensor) -> Tensor:
    return _channels_last(gradient.new_empty(gradient.shape[1], tiles.shape[2], 3, 3))


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[1], inputs[1])


def _backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    tiles, weight = ctx.saved_tensors  # type: ignore[attr-defined]
    wanted = ctx.needs_input_grad  # type: ignore[attr-defined]
    of_images = gradient_of_images(gradient, weight) if wanted[0] else None
    return of_images, gradient_of_weight(gradient, tiles) if wanted[1] else None


convolution.register_autograd(_backward, setup_context=_keep)

# G of the paper's equation 22; below are its B (`_six_inputs`) and A (`_four_outputs`, and transposed `_six_outputs`).
_KERNEL = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)


def _six_inputs(d: list[Tensor]) -> list[Tensor]:
    return [
        4 * d[0] - 5 * d[2] + d[4],
        d[3] + d[4] - 4 * (d[1] + d[2]),
        d[4] - d[3] + 4 * (d[1] - d[2]),
        d[4] - d[2] + 2 * (d[3] - d[1]),
        d[4] - d[2] - 2 * (d[3] - d[1]),
        4 * d[1] - 5 * d[3] + d[5],
    ]


def _four_outputs(m: list[Tensor]) -> list[Tensor]:
    near, far, near_gap, far_gap = m[1] + m[2], m[3] + m[4], m[1] - m[2], m[3] - m[4]
    return [m[0] + near + far, near_gap + 2 * far_gap, near + 4 * far, near_gap + 8 * far_gap + m[5]]


def _six_outputs(y: list[Tensor]) -> list[Tensor]:
    even, odd, wide_even, wide_odd = y[0] + y[2], y[1] + y[3], y[0] + 4 * y[2], 2 * y[1] + 8 * y[3]
    return [y[0], even + odd, even - odd, wide_even + wide_odd, wide_even - wide_odd, y[3]]


def _of_inputs(images: Tensor) -> Tensor:
    """Overlapping 6x6 tiles of padded images (N, C, H, W), transformed: (36, T, C)."""
    high, wide = images.shape[2] // TILE, images.shape[3] // TILE
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    columns = [
        _six_inputs([padded[:, i : i + TILE * high - 3 : TILE, j : j + TILE * wide - 3 : TILE] for i in range(6)])
        for j in range(6)
    ]
    return _stacked([_six_inputs([columns[j][a] for j in range(6)]) for a in range(6)])


def _of_gradient(gradient: Tensor) -> Tensor:
    """4x4 tiles of a result's gradient (N, O, H, W), transformed: (36, T, O)."""
    rows = gradient.permute(0, 2, 3, 1)
    columns = [_six_outputs([rows[:, i::TILE, j::TILE] for i in range(TILE)]) for j in range(TILE)]
    return _stacked([_six_outputs([columns[j][a] for j in range(TILE)]) for a in range(6)])


def _stacked(values: list[list[Tensor]]) -> Tensor:
    return torch.stack([value for row in values for value in row]).flatten(1, 3)


def _of_weights(weight: Tensor) -> Tensor:
    """Weights (O, C, 3, 3), transformed: (36, C, O)."""
    return torch.einsum("ai,ocij,bj->abco", _KERNEL, weight, _KERNEL).reshape(36, weight.shape[1], len(weight))


def _result(tiles: Tensor, weights: Tensor, shape: torch.Size) -> Tensor:
    """Products of transformed inputs (36, T, C) and weights (36, C, O) as images (N, O, H, W), channels last."""
    return _compiled(_of_products)(torch.bmm(tiles, weights), shape[0], shape[2] // TILE, shape[3] // TILE)


def _of_products(products: Tensor, count: int, high: int, wide: int) -> Tensor:
    grid = products.view(6, 6, count, high, wide, -1)
    rows = [_four_outputs([grid[a, b] for a in range(6)]) for b in range(6)]
    tiles = [torch.stack(_four_outputs([rows[b][y] for b in range(6)]), 3) for y in range(TILE)]
    return torch.stack(tiles, 2).view(count, TILE * high, TILE * wide, -1).permute(0, 3, 1, 2)


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile a transform as a program of its own. Otherwise earlier work would be repeated for each of its reads."""
    return torch.compile(function, dynamic=False)
