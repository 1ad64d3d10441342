"""Difficulty-aligned trajectory matching's files (DATM, github.com/NUS-HPC-AI-Lab/DATM): images, logits and a rate.

`images_best.pt` float32 (N, C, H, W), whitened; `labels_best.pt` float32 (N, K), learned logits; `lr_best.pt` a scalar.
Networks learn softmax(logits). DD-Ranking uses these tensors unchanged.
"""

from pathlib import Path

import torch

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.layouts import _pairs
from ddhub.interop.reading import Foreign, Reading


def detect(path: Path, how: Reading) -> bool:
    """Accept files of images, logits and rate in one folder."""
    pairs = _pairs.find(path)
    return pairs is not None and pairs.lr is not None and _pairs.has_logits(pairs, how)


def read(path: Path, how: Reading) -> Foreign:
    """Read images, logits and, if there is one, the rate."""
    pairs = _pairs.find(path)
    if pairs is None:
        raise UserError(f"{path.name}: holds no images_best.pt, as the layout datm has it", next=reading.ANY_LAYOUT)
    images, (hard, soft) = _pairs.images(pairs, how), _pairs.labels(pairs, how)
    if soft is None:
        raise UserError(f"{pairs.labels[0].name}: holds classes, not logits", next="--layout mtt")
    if _pairs.are_probabilities(soft):
        where = (pairs.soft or pairs.labels)[0].name
        raise UserError(f"{where}: holds probabilities, not logits", next="--layout mtt")
    records = reading.records(pairs.files, path if path.is_dir() else path.parent)
    lr = _pairs.rate(pairs, how)
    return Foreign("datm", images, hard, records, soft, "logits", lr=lr, method="datm")


def write(found: Artifact, folder: Path) -> None:
    """Write images_best.pt, labels_best.pt and lr_best.pt."""
    assert found.soft_labels is not None
    reading.save(folder / "images_best.pt", found.inputs.clone())
    reading.save(folder / "labels_best.pt", found.soft_labels.clone())
    reading.save(folder / "lr_best.pt", torch.tensor(found.manifest.protocol.lr, dtype=torch.float32))


LAYOUT = Layout(detect=detect, read=read, write=write, uses=(), by_place=("logits",), holds=("logits",))
