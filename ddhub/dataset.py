"""`ddhub.load`: a distilled set as plain tensors, with its preprocessing, protocol and teachers.

Shapes: M synthetic images, B batch, C H W image, K classes, D = C*H*W.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddhub import outcomes
from ddhub.artifact import folder, hub
from ddhub.artifact.folder import Artifact
from ddhub.artifact.manifest import Manifest
from ddhub.base import progress, seeds
from ddhub.base.arguments import checked
from ddhub.base.errors import UserError, at_least
from ddhub.data import enlarge
from ddhub.data.preprocess import Preprocess
from ddhub.training import augment, losses, teachers
from ddhub.training import device as devices
from ddhub.training.protocol import Protocol

OVERSHOT = 0.5  # distance from [0, 1] at which floats are no pixels


class Preprocessing(nn.Module):
    """A module that turns pixels into network inputs. It serves test images and the set's own.

    A set with `preprocess.factor` stores smaller images. They are enlarged, and images of other sizes are not.
    """

    zca_mean: Tensor | None  # buffers, so that `.to(device)` and `state_dict()` include them
    zca: Tensor | None

    def __init__(self, preprocess: Preprocess, stored: int, side: int) -> None:
        super().__init__()
        self._preprocess, self._stored, self._side = preprocess, stored, side
        self.register_buffer("zca_mean", preprocess.zca_mean)
        self.register_buffer("zca", preprocess.zca)

    def forward(self, images: Tensor) -> Tensor:
        """Turn pixels (B, C, H, W), as uint8 or as floats in [0, 1], into float32 network inputs.

        Raises:
            UserError: for other tensors, such as network inputs. Values of floats are checked on the CPU alone.
        """
        _check_pixels(images, len(self._preprocess.mean))
        unit = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        inputs = replace(self._preprocess, zca_mean=self.zca_mean, zca=self.zca).inputs_from_unit(unit)
        return enlarge.enlarged(inputs, self._side) if inputs.shape[-1] == self._stored else inputs


def _check_pixels(images: Tensor, channels: int) -> None:
    """Refuse what cannot be pixels of a set with so many channels. It would become wrong inputs without a word.

    A little outside of [0, 1] is allowed, because resizing overshoots.
    """
    if not isinstance(images, Tensor):
        raise UserError("preprocess: takes a torch.Tensor", next="preprocess(torch.as_tensor(images))")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise UserError(f"preprocess: takes uint8, or floats in [0, 1], and not {images.dtype}", next="images.byte()")
    if images.dim() < 3 or images.shape[-3] != channels:
        grey = images.dim() >= 3 and images.shape[-3] == 1
        raise UserError(
            f"preprocess: takes images of shape (B, {channels}, H, W), and not {tuple(images.shape)}",
            next=f"images.expand(-1, {channels}, -1, -1)" if grey else "images.permute(0, 3, 1, 2), of (B, H, W, C)",
        )
    if images.is_floating_point() and _are_readable(images):
        low, high = (value.item() for value in images.aminmax())
        if not (low >= -OVERSHOT and high <= 1 + OVERSHOT):
            raise UserError(
                f"preprocess: takes uint8, or floats in [0, 1], and these go from {low:.4g} to {high:.4g}",
                next="images / 255, of pixels up to 255; network inputs are preprocessed already",
            )


def _are_readable(images: Tensor) -> bool:
    """Whether values can be read, and without a wait: not on a GPU, in a traced program, or under `torch.func`."""
    if images.device.type != "cpu" or not images.numel() or torch.compiler.is_compiling():
        return False
    try:
        images.flatten()[0].item()
    except RuntimeError:  # `torch.func.vmap` forbids it
        return False
    return True


def _check_device(device: str | torch.device) -> None:
    """Refuse a device that is not there, with advice for Python in place of the command line's `--device cpu`."""
    try:
        devices.check_device(device)
    except UserError as fault:
        raise UserError(f"device={str(device)!r}: not available here", next="device='cpu'") from fault


@dataclass(frozen=True, repr=False)
class DistilledSet:
    """A distilled set in memory. It works as a `torch.utils.data.Dataset`. Its tensors own their memory."""

    name: str  #: the folder, or owner/name@commit
    images: Tensor  #: uint8 (M, C, h, h), the stored pixels; h is H / `manifest.preprocess.factor`
    inputs: Tensor  #: float32 (M, C, H, W), what networks are trained on
    labels: Tensor  #: int64 (M,)
    soft_labels: Tensor | None  #: float32 (M, K); `manifest.labels.form` names their kind
    classes: list[str]
    preprocess: Preprocessing
    protocol: Protocol  #: how to train on the set
    manifest: Manifest
    groups: Tensor | None  #: int64 (M,), the group of each image, if the set has groups
    _artifact: Artifact

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> tuple[Tensor, ...]:
        """Return inputs (C, H, W), label and, if the set has it, soft label (K,). Several rows give stacked tensors."""
        return tuple(part[index] for part in self._columns)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        labels = "hard labels" if self.soft_labels is None else f"soft labels ({self.manifest.labels.form})"
        return f"<DistilledSet {self.name}: {len(self)} images of {shape}, {len(self.classes)} classes, {labels}>"

    def _repr_html_(self) -> str:
        return outcomes.pictured(repr(self), self._artifact.folder / "assets" / "images.png")

    @property
    def _columns(self) -> tuple[Tensor, ...]:
        soft = () if self.soft_labels is None else (self.soft_labels,)
        return self.inputs, self.labels, *soft

    @checked
    def to(self, device: str | torch.device) -> "DistilledSet":
        """Return the set with tensors, preprocessing and teachers on a device. This set does not move.

        Raises:
            UserError: for a device that this machine or torch has not.
        """
        _check_device(device)
        moved = {name: getattr(self, name) for name in ("images", "inputs", "labels", "soft_labels", "groups")}
        moved = {name: None if tensor is None else tensor.to(device) for name, tensor in moved.items()}
        return replace(self, **moved, preprocess=copy.deepcopy(self.preprocess).to(device))

    def loss(self, logits: Tensor, labels: Tensor, soft: Tensor | None = None) -> Tensor:
        """Compute the loss of the set's protocol, a scalar: `loss(net(inputs), *rest)` for a batch `inputs, *rest`.

        Args:
            logits: the network's output, (B, K).
            labels: the classes, (B,).
            soft: soft labels (B, K), as stored or as `teach` makes them; None if the protocol has hard labels.

        Raises:
            UserError: if the protocol needs soft labels and there are none, or if shapes do not fit each other.
        """
        _check_shapes(self.name, len(self.classes), logits, labels, soft)
        if soft is None and self.protocol.loss != "ce":
            raise UserError(
                f"{self.name}: the loss {self.protocol.loss} learns from soft labels, and none were given",
                next="loss(logits, labels, soft), as batches gives them; teach(inputs) makes them",
            )
        stored = self.manifest.labels
        targets = losses.targets(soft, self.protocol, stored.form, stored.temperature)
        return losses.loss_of(self.protocol)(logits, labels, targets)

    @checked
    def batches(
        self, epochs: int = 1, batch: int | None = None, seed: int = 0, device: str | torch.device | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Iterate over augmented batches of one size, shuffled each epoch, as ddhub and the card's script make them.

        An epoch has as few batches as fit. The images left over, fewer than the number of batches, are skipped in it.

        Args:
            epochs: the number of passes over the set.
            batch: the largest batch; None takes the protocol's.
            seed: the seed of order and augmentation. The same seed gives the same batches.
            device: the device of the batches; None takes the set's.

        Returns:
            An iterator of inputs (B, C, H, W), labels (B,) and, if the set has them, soft labels (B, K).

        Raises:
            UserError: at the call, for numbers that are too small and for a device that this machine or torch has not.
        """
        at_least(1, batch=batch)
        at_least(0, epochs=epochs)
        place = self.inputs.device if device is None else device
        _check_device(place)
        return self._batches(epochs, math.ceil(len(self) / (batch or self.protocol.batch)), seed, place)

    def _batches(self, epochs: int, count: int, seed: int, place: str | torch.device) -> Iterator[tuple[Tensor, ...]]:
        """So many batches an epoch. It is a generator of its own, so that `batches` checks when it is called."""
        for epoch in range(epochs):
            order = torch.randperm(len(self), generator=seeds.generator(seed, "order", epoch))
            rows = devices.send(order.split(len(self) // count)[:count], self.inputs.device)
            draws = (seeds.generator(seed, "augment", epoch * count + number) for number in range(count))
            moves = [augment.drawn(self.protocol.augment, len(self) // count, draw) for draw in draws]
            for chosen, after in zip(rows, augment.sent(moves, place), strict=True):
                inputs, *rest = self._batch(chosen, place)
                yield augment.moved(inputs, after), *rest

    def _batch(self, rows: Tensor, place: str | torch.device) -> Sequence[Tensor]:
        """Some rows on a device, moved in one transfer."""
        if self.inputs.device.type == "cpu":
            return devices.send(self[rows], place)
        return [part.to(place) for part in self[rows]]

    @cached_property
    def teach(self) -> Callable[[Tensor], Tensor]:
        """The shipped teachers as a function from network inputs (B, C, H, W) to their mean logits (B, K).

        Raises:
            UserError: if the set ships no teachers.
        """
        if not self.manifest.teachers:
            raise UserError(
                f"{self.name}: ships no teachers", next="use the labels of the set, DistilledSet.soft_labels"
            )
        found = teachers.load(
            self._artifact.teacher_files,
            decisions=devices.Decisions(str(self.inputs.device), torch.get_num_threads()),
            of=self._artifact.sizes,
        )

        def label(inputs: Tensor) -> Tensor:
            if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
                kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
                raise UserError(f"teach: takes network inputs, and not {kind}", next="teach(preprocess(images))")
            if inputs.dim() != 4 or inputs.shape[1] != self.inputs.shape[1]:
                shape = f"(B, {', '.join(map(str, self.inputs.shape[1:]))})"
                raise UserError(
                    f"teach: takes inputs of shape {shape}, and not {tuple(inputs.shape)}",
                    next="teach(preprocess(images)), of a batch of images",
                )
            return found.label(inputs, check=self.inputs.device.type == "cpu")  # a check would wait for a GPU

        return label

    def dataset(self) -> Any:
        """The rows as a `datasets.Dataset` in torch format: `image` uint8 (C, H, W), `label`, `soft_label`, ..."""
        import datasets

        from ddhub.artifact.parquet import shards

        paths = [str(path) for path in shards(self._artifact.folder)]
        with progress.bars_hidden(datasets.utils):
            rows = datasets.load_dataset("parquet", data_files={"train": paths}, split="train")
        return rows.with_format("torch")


def _check_shapes(name: str, classes: int, logits: Tensor, labels: Tensor, soft: Tensor | None) -> None:
    """Refuse a batch whose parts do not fit. Torch would repeat some of them and return a wrong number."""
    batch = len(logits) if isinstance(logits, Tensor) and logits.dim() else 0
    wanted = {"logits": (batch, classes), "labels": (batch,), "soft": (batch, classes)}
    for part, value in (("logits", logits), ("labels", labels), ("soft", soft)):
        if part == "soft" and value is None:
            continue
        if not isinstance(value, Tensor) or tuple(value.shape) != wanted[part]:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(
                f"{name}: loss: {part} are {found}, and {classes} classes and a batch of {batch} need {wanted[part]}",
                next="loss(net(inputs), *rest), for a batch inputs, *rest of batches()",
            )


def load(reference: str | Path) -> DistilledSet:
    """Load a distilled set from a folder or a Hub id (`owner/name`, `owner/name@revision`). It is checked and cached.

    Raises:
        UserError: if there is no such set, or if a file of it is missing or damaged.
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
        preprocess=Preprocessing(found.preprocess, found.manifest.stored_side, found.manifest.source.resolution),
        protocol=found.manifest.protocol,
        manifest=found.manifest,
        groups=found.groups,
        _artifact=found,
    )
