"""The variables of the card's training script (templates cards/train.py.j2, cards/dynamic.py.j2)."""

from typing import Any

import torch

from ddhub.artifact.manifest import Manifest
from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.training import architectures
from ddhub.training.field_networks import ConvNet, usual_depth
from ddhub.training.protocol import DSA_OPERATIONS

PLACEHOLDER = "OWNER/NAME"  # the id of a set that was never pushed


def context(manifest: Manifest) -> dict[str, Any]:
    """The variables of the templates.

    Strings come from strangers. The templates write them through the filter `literal`, and never write class names.
    """
    source, labels, protocol = manifest.source.model_dump(), manifest.labels, manifest.protocol
    depth, width, exact = convnet(manifest)
    shipped = [teacher.file for teacher in manifest.teachers]
    digits = source["dataset"] == "digits"
    source = {"range": None, "background": None, "config": None, **source}  # a manifest has no unset keys
    return {
        "set": manifest.repo_id or PLACEHOLDER,
        "source": source,
        "digits": digits,
        "test_seeds": _test_seeds(manifest),
        "classes": len(manifest.classes),
        "home": manifest.home_arch,
        "depth": depth,
        "width": width,
        "exact": exact,
        "protocol": protocol,
        "loss": protocol.loss,
        "operations": operations(protocol.augment),
        "zca": manifest.preprocess.zca,
        "factor": manifest.preprocess.factor,
        "per_image": manifest.preprocess.per_image,
        "mean": [round(value, 6) for value in manifest.preprocess.mean],
        "std": [round(value, 6) for value in manifest.preprocess.std],
        "pixels": manifest.preprocess.pixels_space is not None,
        "form": labels.form,
        "temperature": labels.temperature,
        "top_k": labels.top_k,
        "rest": labels.rest,
        # Labels are made on the fly if the script's ConvNet is the teachers' architecture.
        "teachers": shipped if exact and all(t.arch == manifest.home_arch for t in manifest.teachers) else [],
    }


def _test_seeds(manifest: Manifest) -> list[int]:
    """The seeds that draw the test images of each class, for a source without a test split."""
    source = manifest.source
    if source.dataset == "digits":
        return [seeds.derive(0, "validation", label) for label in range(10)]
    labels = range(len(manifest.classes) if source.hold_out is not None else 0)
    return [seeds.derive(source.split_seed, "test", label) for label in labels]


def convnet(manifest: Manifest) -> tuple[int, int, bool]:
    """Depth and width of the script's ConvNet, and whether it is the home architecture or only of similar size."""
    side, channels = manifest.source.resolution, manifest.source.channels
    try:
        with torch.device("meta"):
            net = architectures.build(manifest.home_arch, len(manifest.classes), channels, side, seed=0)
    except UserError:
        net = None
    if isinstance(net, ConvNet):
        layers = [layer for layer in net.features if isinstance(layer, torch.nn.Conv2d)]
        return len(layers), layers[0].out_channels, True
    return usual_depth(side), 128, False


def operations(augment: str) -> list[str]:
    """The augmentations that a protocol names. Unknown words of a stranger do not get into the script."""
    return [word for word in (DSA_OPERATIONS if augment == "dsa" else augment.split("_")) if word in DSA_OPERATIONS]
