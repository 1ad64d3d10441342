"""Files of other tools' layouts, made to each one's description, and files that mean harm."""

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.interop import importing
from ddhub.interop.reading import Reading

MEAN, STD = (0.4, 0.45, 0.5), (0.2, 0.25, 0.3)
PLAIN = {"mean": MEAN, "std": STD}


def inputs(count=6, side=12, seed=0):
    """Network inputs, some of them outside what 8 bits can show."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def soft(count=6, classes=3, seed=1):
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def tree(folder, per_class=2, template="{k:05d}/class{k:05d}_id{i:05d}.png"):
    """A folder of pictures, a colour per class."""
    noise = np.random.default_rng(0)
    for k in range(3):
        for i in range(per_class):
            path = folder / template.format(k=k, i=i)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 90, (12, 12, 3), dtype=np.uint8)
            pixels[..., k] += 120
            Image.fromarray(pixels).save(path)
    return folder


def build(layout, folder):
    """A set of three classes in a layout; returns the path to import and the layout's tensors by file and key."""
    folder.mkdir(parents=True, exist_ok=True)
    images, hard = inputs(), torch.tensor([0, 0, 1, 1, 2, 2])
    if layout == "apm":
        path = folder / "gap1_ce0.1_CIFAR10_ConvNet_2ipc_best.pt"
        torch.save({"data": [images, soft()], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}, path)
        return path
    if layout == "dc":
        path = folder / "res_DM_CIFAR10_ConvNet_2ipc.pt"
        torch.save({"data": [[images, hard]], "accs_all_exps": {"ConvNet": [np.float64(0.5), np.float32(0.4)]}}, path)
        return path
    if layout in ("mtt", "tesla", "datm"):
        torch.save(images, folder / "images_best.pt")
        labels = {"mtt": hard, "tesla": soft().softmax(1), "datm": soft()}[layout]
        torch.save(labels, folder / "labels_best.pt")
        if layout == "datm":
            torch.save(torch.tensor(0.0123), folder / "lr_best.pt")
        return folder
    if layout == "kip":
        path = folder / "kip_colours_ConvNet3_ssize6_nozca_nol_noaug_ckpt1000.npz"
        targets = torch.nn.functional.one_hot(hard, 3).float() - 1 / 3
        np.savez(path, images=images.permute(0, 2, 3, 1).contiguous().numpy(), labels=targets.numpy())
        return path
    if layout == "eccv24":
        torch.save(inputs(30), folder / "cifar100.pt")
        return folder / "cifar100.pt"
    assert layout == "folder"
    return tree(folder, template="syn_data/{k:05d}/class{k:05d}_id{i:05d}.png")


def bring(path, out, source, **told):
    made = api.import_set(path, out=out, source=str(source), **told).to_dict()
    return folders.read(importing.Path(made["folder"]))


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def foreign_read(path: Path, layout: str = "auto") -> object:
    """Read a foreign set as far as its own layout does."""
    found, place = importing.find(path, layout, Reading())
    return importing.read(place, found, Reading())
