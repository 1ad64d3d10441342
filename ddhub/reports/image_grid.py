"""A set's images for people: as one picture for the card, and by classes for a page."""

import base64
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddhub.artifact import parquet
from ddhub.base import files
from ddhub.reports import charts

if TYPE_CHECKING:
    from torch import Tensor

    from ddhub.artifact.folder import Artifact

CLASSES, OF_EACH = 20, 10  # most classes and images of each that are shown
PIXELS = 2**20  # most pixels on a page that shows several images per class
PICTURE = 0.85  # inches per image
FEW, ACROSS = 3, 10  # up to FEW images per class stand below its name, ACROSS images per row


@dataclass(frozen=True)
class Pictured:
    """The first images of a class as data addresses."""

    name: str
    addresses: list[str]


def of_classes(found: "Artifact") -> list[Pictured]:
    """The first images of the first classes, as PNG in data addresses."""
    names = found.manifest.classes[:CLASSES]
    each = max(1, min(OF_EACH, PIXELS // (len(names) * found.images[0, 0].numel())))
    return [Pictured(name, list(map(address, found.images[found.labels == k][:each]))) for k, name in enumerate(names)]


def address(image: "Tensor") -> str:
    """A uint8 image (C, H, W) as PNG in a data address."""
    return f"data:image/png;base64,{base64.b64encode(parquet.png(image)).decode()}"


def image_grid(found: "Artifact", path: Path) -> None:
    """Write a PNG of the first synthetic images by class: few per class stand below its name, many beside it."""
    from matplotlib.figure import Figure

    names = found.manifest.classes[:CLASSES]
    count = max(1, min(OF_EACH, found.manifest.ipc))
    across = min(len(names), ACROSS // count) if count <= FEW else 1
    above = 0.3 if across > 1 else 0.0  # inches for a class name
    wide, high = PICTURE * count + 0.1, PICTURE + 0.1 + above
    size = (wide * across, high * -(-len(names) // across))
    with charts.styled(**{"axes.grid": False}):
        figure = Figure(figsize=size, dpi=110)
        axes = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
        for label, name in enumerate(names):
            left, top = label % across * wide, size[1] - label // across * high - above
            strip = _strip(found.images[found.labels == label][:count], count)
            place = (left, left + PICTURE * count, top - PICTURE, top)
            axes.imshow(strip, cmap="gray", vmin=0, vmax=255, extent=place)
            if across > 1:
                wrapped = "\n".join(textwrap.wrap(charts.label_of(name), 11 * count)[:2])
                axes.text((place[0] + place[1]) / 2, top + 0.05, wrapped, ha="center", va="bottom", linespacing=0.9)
            else:
                axes.text(-0.1, top - PICTURE / 2, charts.label_of(name), ha="right", va="center")
        axes.set(xlim=(0, size[0]), ylim=(0, size[1]))
        files.write_atomic(
            path, lambda file: figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
        )


def _strip(images: "Tensor", count: int) -> Any:
    """Images (n, C, H, W) in a row on white, with space for `count`: (H, W', C), or (H, W') for grey ones."""
    import numpy as np

    side = images.shape[-1]
    gap = max(1, side // 16)
    canvas = np.full((side, count * (side + gap) - gap, images.shape[1]), 255, np.uint8)
    for column, image in enumerate(images):
        left = column * (side + gap)
        canvas[:, left : left + side] = image.permute(1, 2, 0).numpy()
    return canvas.squeeze(-1) if canvas.shape[-1] == 1 else canvas
