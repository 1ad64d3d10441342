"""The batches of a training. All random draws of an epoch are made before its first step and sent at once.

If the images lie on the training device, no step of an epoch waits for the host.
Shapes: N images, B batch, C H W image, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddhub.base import seeds
from ddhub.data import enlarge
from ddhub.data.preprocess import Preprocess
from ddhub.training import augment, device
from ddhub.training.device import Decisions
from ddhub.training.protocol import Protocol

PIECE = 64 << 20  # bytes of images per transfer to a device

Batch = tuple[Tensor, Tensor, Tensor | None]  # network inputs (B, C, H, W), labels (B,), targets (B, K)


@dataclass(frozen=True)
class Examples:
    """Images for training or scoring. uint8 pixels are converted when a batch is drawn."""

    images: Tensor  # uint8 pixels or float32 network inputs, (N, C, H, W)
    labels: Tensor  # int64 (N,)
    preprocess: Preprocess | None = None  # None if the images are network inputs
    targets: Tensor | None = None  # float32 (N, K), the targets of soft losses
    index: Tensor | None = None  # the rows that belong to the examples; None for all
    side: int | None = None  # network inputs of a smaller side are enlarged to it when a batch is drawn

    def __len__(self) -> int:
        return len(self.labels if self.index is None else self.index)

    def rows(self, chosen: Tensor) -> Tensor:
        """The rows of `images` for these example numbers."""
        return chosen if self.index is None else self.index[chosen]

    def batch(self, rows: Tensor, where: str) -> Batch:
        """Inputs, labels and targets of rows, on a device."""
        parts = [self.images[rows], self.labels[rows], *([] if self.targets is None else [self.targets[rows]])]
        if self.images.device.type == "cpu":
            parts = device.send(parts, where)
        images, labels, *targets = parts
        inputs = images if self.preprocess is None else self.preprocess.inputs(images)
        inputs = inputs if self.side is None else enlarge.enlarged(inputs, self.side)
        return inputs, labels, targets[0] if targets else None

    def on(self, decisions: Decisions) -> "Examples":
        """The examples on the training device, as far as they may stay there.

        If whitened inputs may stay there, pixels are whitened only once. They take four times the memory.
        """
        if decisions.device == "cpu" or self.images.device.type != "cpu":
            return self
        size = len(self) * self.images[0].numel()
        if size * self.images.itemsize > decisions.resident:
            return self
        whole = self.preprocess is not None and self.preprocess.zca is not None and 4 * size <= decisions.resident
        raw = replace(self if whole else replace(self, preprocess=None), side=None)
        pieces = self.rows(torch.arange(len(self))).split(max(1, PIECE * len(self) // (4 * size)))
        parts = [raw.batch(rows, decisions.device) for rows in pieces]
        images, labels, *targets = (torch.cat(column) for column in zip(*parts, strict=True) if column[0] is not None)
        known, soft = None if whole else self.preprocess, targets[0] if targets else None
        return Examples(images, labels, known, soft, side=self.side)


def stacked(several: Sequence[Batch]) -> Batch:
    """The batches of J networks stacked into one, (J, B, ...)."""
    inputs, labels, targets = zip(*several, strict=True)
    soft = [each for each in targets if each is not None]
    return torch.stack(inputs), torch.stack(labels), torch.stack(soft) if soft else None


def order(examples: int, steps: int, seed: int, epoch: int) -> list[Tensor]:
    """The batches of one epoch as example numbers: `steps` batches of one size.

    One size needs one compiled program. At most steps - 1 images, different ones each epoch, are skipped.
    """
    if steps == 1:
        return [torch.arange(examples)]
    size = examples // steps
    drawn = torch.randperm(examples, generator=seeds.generator(seed, "order", epoch))
    return list(drawn[: steps * size].split(size))


def epoch(
    examples: Examples,
    protocol: Protocol,
    steps: int,
    seed: int,
    number: int,
    where: str,
    teach: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Batch]:
    """Yield the augmented batches of one epoch, on a device.

    Args:
        steps: the number of batches.
        number: the number of the epoch, from 0.
        teach: computes the targets of each augmented batch of inputs, in place of the stored ones.
    """
    rows = [examples.rows(chosen) for chosen in order(len(examples), steps, seed, number)]
    draws = (seeds.generator(seed, "augment", number * steps + step) for step in range(steps))
    moves = [augment.drawn(protocol.augment, len(rows[0]), draw) for draw in draws]
    rows = device.send(rows, examples.images.device)
    for chosen, after in zip(rows, augment.sent(moves, where), strict=True):
        inputs, labels, targets = examples.batch(chosen, where)
        inputs = augment.moved(inputs, after)
        yield inputs, labels, targets if teach is None else teach(inputs)
