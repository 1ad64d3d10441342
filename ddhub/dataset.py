"""`ddhub.load`: a distilled set as plain tensors, with all that it takes to train on it as it was meant.

Shapes: M synthetic images, B batch, C H W image, K classes, D = C*H*W.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ddhub.artifact import folder, hub
from ddhub.artifact.folder import Artifact
from ddhub.artifact.manifest import Manifest
from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.data.preprocess import Preprocess
from ddhub.training import augment, device, teachers
from ddhub.training.protocol import Protocol


class Preprocessing(nn.Module):
    """Pixels to network inputs; for test images as for the set's own."""

    zca_mean: Tensor | None  # buffers, so that `.to(device)` and `state_dict()` know them
    zca: Tensor | None

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self._preprocess = preprocess
        self.register_buffer("zca_mean", preprocess.zca_mean)
        self.register_buffer("zca", preprocess.zca)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 pixels, or floats in [0, 1], (B, C, H, W), to float32 network inputs of the same shape."""
        unit = images.float() / 255 if images.dtype == torch.uint8 else images
        return replace(self._preprocess, zca_mean=self.zca_mean, zca=self.zca).inputs_from_unit(unit)


@dataclass(frozen=True)
class DistilledSet:
    """A distilled set in memory. Nothing in it is a view of a file: change what you like."""

    name: str  #: the folder, or owner/name@commit
    images: Tensor  #: uint8 (M, C, H, W), the display pixels
    inputs: Tensor  #: float32 (M, C, H, W), what networks are trained on
    labels: Tensor  #: int64 (M,)
    soft_labels: Tensor | None  #: float32 (M, K); `manifest.labels.form` says of what kind
    classes: list[str]
    preprocess: Preprocessing
    protocol: Protocol  #: how the set is meant to be trained on
    manifest: Manifest
    groups: Tensor | None  #: int64 (M,), which independently made group, where there are several
    _artifact: Artifact

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, epochs: int = 1, batch: int | None = None, seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Augmented training batches, shuffled anew each epoch.

        Args:
            batch: images in each; None takes the protocol's. The last one of an epoch may be smaller.

        Yields:
            Inputs (B, C, H, W), labels (B,), and soft labels (B, K) where the set has them.
        """
        size, step = batch or self.protocol.batch, 0
        for epoch in range(epochs):
            order = torch.randperm(len(self), generator=seeds.generator(seed, "order", epoch))
            for rows in order.split(size):
                draws = seeds.generator(seed, "augment", step)
                inputs = augment.augment(self.inputs[rows], self.protocol.augment, draws)
                soft = () if self.soft_labels is None else (self.soft_labels[rows],)
                yield inputs, self.labels[rows], *soft
                step += 1

    @cached_property
    def teach(self) -> Callable[[Tensor], Tensor]:
        """The shipped teachers as a function of network inputs (B, C, H, W), which gives their mean logits (B, K).

        Raises:
            UserError: when the set ships none.
        """
        if not self.manifest.teachers:
            raise UserError(f"{self.name}: ships no teachers")
        return teachers.load(
            self._artifact.teacher_files,
            decisions=device.Decisions("cpu", torch.get_num_threads()),
            of=self._artifact.sizes,
        ).label

    def dataset(self) -> Any:
        """The rows as a `datasets.Dataset` in torch format: `image` uint8 (C, H, W), `label`, `soft_label`, ..."""
        import datasets

        from ddhub.artifact.parquet import shards
        from ddhub.data.opening import quiet

        paths = [str(path) for path in shards(self._artifact.folder)]
        with quiet():
            rows = datasets.load_dataset("parquet", data_files={"train": paths}, split="train")
        return rows.with_format("torch")


def load(reference: str) -> DistilledSet:
    """Load a distilled set from a folder or by its Hub id (`owner/name`, `owner/name@revision`), checked and cached.

    Raises:
        UserError: when there is no such set, or a file of it is missing or damaged.
    """
    place = hub.fetch(str(reference))
    found = folder.read(place.folder)
    return DistilledSet(
        name=place.name,
        images=found.images,
        inputs=found.inputs,
        labels=found.labels,
        soft_labels=found.soft_labels,
        classes=list(found.manifest.classes),
        preprocess=Preprocessing(found.preprocess),
        protocol=found.manifest.protocol,
        manifest=found.manifest,
        groups=found.groups,
        _artifact=found,
    )
