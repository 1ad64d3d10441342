"""Files of kernel inducing points (github.com/google-research/google-research/tree/master/kip): one .npz.

`images` float32 (N, H, W, C), `labels` float32 (N, K), regression targets (one-hot minus 1/K, or learned).
The file's name says `zca` or `nozca`, and `l` or `nol` for learned labels.
"""

import re
from pathlib import Path

import torch

from ddhub.artifact.folder import Artifact
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.data import catalog
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading


def detect(path: Path, how: Reading) -> bool:
    """Accept an .npz file with images and labels."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    return {"images", "labels"} <= set(reading.arrays(path, how, wanted=()))


def read(path: Path, how: Reading) -> Foreign:
    """Read both arrays. The class of an image is its largest target."""
    found = reading.arrays(path, how, wanted=("images", "labels"))
    if not {"images", "labels"} <= set(found):
        raise UserError(
            f"{path.name}: has no arrays 'images' and 'labels', as the layout kip has them", next=reading.ANY_LAYOUT
        )
    for name, dimensions in (("images", 4), ("labels", 2)):
        if found[name].dtype.kind != "f" or found[name].ndim != dimensions:
            raise UserError(
                f"{path.name}: {name} is {found[name].dtype} with {found[name].ndim} dimensions", next=reading.AS_PAIR
            )
    # (N, H, W, C) to (N, C, H, W)
    images = reading.pictures(torch.from_numpy(found["images"]).permute(0, 3, 1, 2), f"{path.name}: images", how)
    soft = reading.matrix(torch.from_numpy(found["labels"]), f"{path.name}: labels", how)
    words = re.split(r"[_.]", path.name.lower())
    zca = True if "zca" in words else False if "nozca" in words else None
    notes = ["the class of an image is its largest target"]
    notes += ["whitening read off the file's name"] if zca is not None else []
    records = reading.records([path], path.parent)
    return Foreign("kip", images, soft.argmax(1), records, soft, "regression", zca=zca, method="kip", notes=notes)


def write(found: Artifact, folder: Path) -> None:
    """Write `kip_DATASET_ConvNet_ssizeNN_zca_nol_noaug_ckpt1000.npz` (or `nozca`), the name that DC-BENCH expects."""
    import numpy as np

    assert found.soft_labels is not None
    record = found.manifest
    space = "nozca" if record.preprocess.zca is None else "zca"
    net = "ConvNet3" if catalog.dataset(record.source.dataset) == "cifar10" else "ConvNet"
    dataset = catalog.spelling(record.source.dataset).lower()
    name = f"kip_{dataset}_{net}_ssize{len(found.labels)}_{space}_nol_noaug_ckpt1000.npz"
    images = found.inputs.permute(0, 2, 3, 1).contiguous().numpy()
    labels = found.soft_labels.numpy()
    files.write_atomic(folder / name, lambda file: np.savez(file, images=images, labels=labels))


LAYOUT = Layout(detect=detect, read=read, write=write, uses=(), holds=("regression",))
