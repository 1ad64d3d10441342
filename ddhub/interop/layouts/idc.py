"""Files of IDC and its relatives (IDC, DREAM, DANCE, IDM, NCFM): `data.pt`, `data_best.pt`.

A list [images float32 (N, C, H, W), labels int64 (N,)], or a dict with these names. Pixels are in [0, 1], not
normalised. With a factor f, an image holds f x f tiles, and networks train on each tile, enlarged to the image's size
(github.com/snu-mllab/Efficient-Dataset-Condensation, decoding "single"). The files do not state the factor.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.data import enlarge
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading

FACTOR = "--factor 2 (2 x 2 tiles, the usual), or --factor 1 (whole images), as its author ran it"
EMPTY = 0.5  # fills a side that the factor does not divide


def detect(path: Path, how: Reading) -> bool:
    """Accept a torch file with one pair of images in [0, 1] and labels."""
    if not reading.is_torch(path):
        return False
    found = reading.pair(reading.load(path, how))
    return found is not None and reading.is_unit(found[0])


def read(path: Path, how: Reading) -> Foreign:
    """Read the pair and cut the images into tiles. The user must state the factor."""
    content = reading.load(path, how)
    found = reading.pair(content)
    if found is None:
        held = reading.describe(content)
        raise UserError(
            f"{path.name}: is not [images, labels], as the layout idc has it, but {held}", next=reading.ANY_LAYOUT
        )
    images = reading.pictures(found[0], f"{path.name}: images", how)
    labels = reading.numbers(found[1], f"{path.name}: labels", how)
    if not reading.is_unit(images):
        low, high = float(images.min()), float(images.max())
        raise UserError(f"{path.name}: values from {low:.4g} to {high:.4g} are no pixels in [0, 1]", next="--layout dc")
    if how.factor is None:
        raise UserError(
            f"{path.name}: an image of this layout may hold several tiles, and the file does not say how many",
            next=FACTOR,
        )
    if not 1 <= how.factor <= images.shape[-1] // 2:
        raise UserError(
            f"--factor {how.factor}: images of {images.shape[-1]} pixels have no tiles of that size",
            next=FACTOR,
        )
    tiles = how.factor**2
    if tiles > 1 and len(labels) == len(images):
        images, labels = cut(images, how.factor), labels.repeat_interleave(tiles)
    notes = [f"{len(images) // tiles} images of {tiles} tiles each, enlarged bilinearly"] if tiles > 1 else []
    return Foreign("idc", images, labels, reading.records([path], path.parent), notes=notes, unit=True)


def cut(images: Tensor, factor: int) -> Tensor:
    """The tiles of images (N, C, S, S), by rows, each enlarged to S: (N * factor^2, C, S, S)."""
    channels, side = images.shape[1:3]
    tile = -(-side // factor)
    room = tile * factor - side
    whole = F.pad(images, (0, room, 0, room), value=EMPTY)
    tiles = whole.unfold(2, tile, tile).unfold(3, tile, tile).permute(0, 2, 3, 1, 4, 5)
    return enlarge.enlarged(tiles.reshape(-1, channels, tile, tile), side)


def write(found: Artifact, folder: Path) -> None:
    """Write `data.pt` with whole images, which factor 1 reads."""
    assert found.inputs.dtype == torch.float32
    reading.save(folder / "data.pt", [found.inputs.clone(), found.labels.clone()])


LAYOUT = Layout(detect=detect, read=read, write=write, uses=("factor",))
