"""Real images and their labels with the losses that a set's own have by being stored.

Baselines would otherwise have more detail, or better labels, than the set beside them.
Shapes: n images, C H W image, K classes.
"""

import torch
from torch import Tensor

from ddhub.artifact import folder
from ddhub.artifact.folder import Artifact
from ddhub.data import enlarge
from ddhub.data.preprocess import Preprocess
from ddhub.training.teachers import Teachers


def inputs(preprocess: Preprocess, images: Tensor, factor: int) -> Tensor:
    """Network inputs (n, C, H, W) of uint8 real images (n, C, H, W).

    A set with `preprocess.factor` stores smaller images, which are enlarged for networks. Factor 1 keeps all detail.
    """
    return enlarge.enlarged(preprocess.inputs(enlarge.reduced(images, factor)), images.shape[-1])


def pixels(images: Tensor, factor: int) -> Tensor:
    """As `inputs`, as uint8 pixels."""
    return enlarge.enlarged_pixels(enlarge.reduced(images, factor), images.shape[-1])


def soft_labels(found: Artifact, teachers: Teachers, inputs: Tensor) -> Tensor:
    """The teachers' logits (n, K) of network inputs (n, C, H, W).

    A set stores them in half precision. With `labels.top_k` only the largest are stored, and the others are their mean.
    """
    labels = found.manifest.labels
    soft = teachers.label(inputs, None if labels.teachers == "mean" else 0)
    if labels.top_k is None:
        return soft.half().float()
    values, index, rest = folder.keep_top(soft, labels.top_k)
    return torch.full_like(soft, rest).scatter_(1, index.long(), values.half().float())
