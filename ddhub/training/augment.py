"""Differentiable siamese augmentation (DSA) as batched tensor operations, in network-input space.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021, arXiv:2102.08259, with the
strengths of trajectory matching and of arXiv:2312.08912. One operation is drawn per batch, and a magnitude per image.
`siamese=True` draws one magnitude for the whole batch, so that two batches can be augmented alike.
Shapes: B images, C H W image; every draw u is uniform in [0, 1), shape (B,).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ddhub.training import device
from ddhub.training.protocol import DSA_OPERATIONS

CROP, CUTOUT, SCALE, ROTATE_DEGREES = 0.125, 0.5, 1.2, 15.0
RRC_AREA = 0.08
RRC_TRIES = 10  # draws of a crop that fits; after them, the whole image is taken
PATCHES = 2  # patches per side of an image that consists of patches

Moves = list[tuple[str, Tensor]]  # operations in order, with their draws u (n, B), or (n, 1) for a whole batch


def drawn(strategy: str, count: int, generator: torch.Generator, *, siamese: bool = False) -> Moves:
    """Draw one operation, or those of a chain, with their magnitudes, for a batch of so many images.

    Args:
        strategy: `dsa`, `none`, operations joined by underscores (one is drawn) or by plus signs (all, in order).
        generator: a CPU generator. The same state gives the same draws on every device.
        siamese: draw one magnitude for the whole batch.
    """
    if strategy == "none":
        return []
    names = strategy.split("+") if strategy in CHAINS or "+" in strategy else [_drawn(strategy, generator)]
    across = 1 if siamese else count
    return [(name, torch.rand(DRAWS.get(name, 3), across, generator=generator)) for name in names]


def sent(several: Sequence[Moves], where: torch.device | str) -> list[Moves]:
    """Move the draws of several batches to a device, in one transfer."""
    draws = iter(device.send([draws for moves in several for _, draws in moves], where))
    return [[(name, next(draws)) for name, _ in moves] for moves in several]


def moved(images: Tensor, moves: Moves) -> Tensor:
    """Apply drawn moves to a batch (B, C, H, W) on the same device."""
    for name, draws in moves:
        images = FORMULAS[name](images, draws.expand(len(draws), len(images)))
    return images


def _drawn(strategy: str, generator: torch.Generator) -> str:
    operations = DSA_OPERATIONS if strategy == "dsa" else tuple(strategy.split("_"))
    return operations[int(torch.randint(len(operations), (), generator=generator))]


def color(x: Tensor, u: Tensor) -> Tensor:
    """Brightness x + (u - 1/2), then saturation about the channel mean, then contrast about the image mean."""
    brightness, saturation, contrast = u.view(3, -1, 1, 1, 1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def crop(x: Tensor, u: Tensor) -> Tensor:
    """Shift by up to an eighth of the side in each direction. Zeros fill the gap."""
    side = x.shape[-1]
    reach = int(side * CROP + 0.5)
    shift = (u[:2] * (2 * reach + 1)).long().clamp(max=2 * reach)  # (2, B), 0..2*reach into the padded image
    steps = torch.arange(side, device=x.device)
    rows = shift[0].view(-1, 1, 1) + steps.view(1, -1, 1)
    columns = shift[1].view(-1, 1, 1) + steps.view(1, 1, -1)
    batch = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    padded = F.pad(x, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    return padded[batch, rows, columns].permute(0, 3, 1, 2)


def cutout(x: Tensor, u: Tensor) -> Tensor:
    """Zero a square of half the side, with its centre anywhere, clipped at the border."""
    side = x.shape[-1]
    size = int(side * CUTOUT + 0.5)
    start = (u[:2] * (side + 1 - size % 2)).long() - size // 2  # (2, B)
    steps = torch.arange(side, device=x.device)
    inside = (steps >= start.unsqueeze(-1)) & (steps < start.unsqueeze(-1) + size)  # (2, B, side)
    hole = inside[0].unsqueeze(-1) & inside[1].unsqueeze(-2)  # (B, H, W)
    return x * (~hole).unsqueeze(1)


def flip(x: Tensor, u: Tensor) -> Tensor:
    """Mirror left and right with probability 1/2."""
    return torch.where((u[0] < 0.5).view(-1, 1, 1, 1), x.flip(3), x)


def scale(x: Tensor, u: Tensor) -> Tensor:
    """Stretch the sampling grid by sx and sy, drawn independently from [1/1.2, 1.2]."""
    low = 1 / SCALE
    factors = u[:2] * (SCALE - low) + low
    zero = torch.zeros_like(factors[0])
    return _sample(x, [factors[0], zero, zero, factors[1]])


def rotate(x: Tensor, u: Tensor) -> Tensor:
    """Rotate by up to 15 degrees in either direction."""
    angle = (u[0] - 0.5) * 2 * math.radians(ROTATE_DEGREES)
    return _sample(x, [angle.cos(), -angle.sin(), angle.sin(), angle.cos()])


def rrc(x: Tensor, u: Tensor, least: float = RRC_AREA) -> Tensor:
    """Crop a random part of `least` to 100% of the area and 3/4 to 4/3 of the aspect, resized to the image's size.

    It equals torchvision's RandomResizedCrop with bilinear sampling. A part that does not fit is drawn again, at most
    ten times.
    """
    area = u[:RRC_TRIES] * (1 - least) + least
    ratio = torch.exp((u[RRC_TRIES : 2 * RRC_TRIES] * 2 - 1) * math.log(4 / 3))
    widths, heights = (area * ratio).sqrt(), (area / ratio).sqrt()  # (tries, B), in sides
    fits = (widths <= 1) & (heights <= 1)
    first = fits.int().argmax(0, keepdim=True)
    whole = ~fits.any(0)
    width, height = (sizes.gather(0, first)[0].masked_fill(whole, 1.0) for sizes in (widths, heights))
    zero = torch.zeros_like(width)
    across, down = ((place * 2 - 1) * (1 - size) for place, size in zip(u[-2:], (width, height), strict=True))
    return _sample(x, [width, zero, zero, height], [across, down])


def shuffle(x: Tensor, u: Tensor) -> Tensor:
    """Swap the left and right halves of an image, then top and bottom, each with probability 1/2 (RDED)."""
    half = x.shape[-1] // PATCHES
    x = torch.where((u[0] < 0.5).view(-1, 1, 1, 1), torch.cat([x[..., half:], x[..., :half]], 3), x)
    return torch.where((u[1] < 0.5).view(-1, 1, 1, 1), torch.cat([x[:, :, half:], x[:, :, :half]], 2), x)


def cutmix(x: Tensor, u: Tensor) -> Tensor:
    """Paste a box of another image of the batch, one box for all (arXiv:1905.04899). Teachers must give the labels.

    The area of the box is uniform in [0, 1), with its centre anywhere, clipped at the border.
    """
    side = x.shape[-1]
    half = (u[0, 0].sqrt() * side / 2).round()
    steps = torch.arange(side, device=x.device)
    starts = [(centre * side).floor() - half for centre in (u[1, 0], u[2, 0])]
    rows, columns = ((steps >= start) & (steps < start + 2 * half) for start in starts)
    box = rows.unsqueeze(1) & columns.unsqueeze(0)  # (H, W)
    return torch.where(box, x[u[3].argsort()], x)


def _sample(x: Tensor, matrix: list[Tensor], shift: list[Tensor] | None = None) -> Tensor:
    """Sample bilinearly through a 2x2 matrix and a shift per image, with zeros outside.

    Args:
        matrix: its entries by rows, each (B,).
        shift: across and down, (B,) each, in half sides; None for no shift.
    """
    across, down = shift or [torch.zeros_like(matrix[0])] * 2
    rows = [matrix[0], matrix[1], across, matrix[2], matrix[3], down]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3).to(x.dtype)
    grid = F.affine_grid(theta, list(x.shape), align_corners=True)
    if x.requires_grad and torch.are_deterministic_algorithms_enabled():
        return _gathered(x, grid)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _gathered(x: Tensor, grid: Tensor) -> Tensor:
    """As grid_sample. Its gradient is computed pixel by pixel, in one order, which is deterministic on a GPU.

    Args:
        grid: (B, H, W, 2), across and down, -1 to 1.
    """
    side = x.shape[-1]
    places = (grid + 1) * (side - 1) / 2
    corner, found = places.floor(), torch.zeros_like(x)
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = corner[..., 0] + right, corner[..., 1] + below
        weight = (1 - (places[..., 0] - column).abs()) * (1 - (places[..., 1] - row).abs())
        inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        pixel = row.clamp(0, side - 1) * side + column.clamp(0, side - 1)
        index = pixel.long().flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
        found = found + x.flatten(2).gather(2, index).view_as(x) * (weight * inside).unsqueeze(1)
    return found


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
assert tuple(FORMULAS) == DSA_OPERATIONS
CHAINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "shuffle": shuffle,
    "rrc": rrc,
    "rrc50": partial(rrc, least=0.5),
    "cutmix": cutmix,
}  # not part of DSA; protocols of the field chain them
FORMULAS |= CHAINS
DRAWS = {"rrc": 2 * RRC_TRIES + 2, "rrc50": 2 * RRC_TRIES + 2, "cutmix": 4}
