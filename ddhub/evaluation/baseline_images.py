"""The real images of a baseline, chosen at random, by bytes, or by selection methods of the field.

Images are chosen for each class from the training part alone.
Shapes: N images of one class, n some of them, F features, C H W image.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddhub.artifact import parquet
from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.data import enlarge, held_out, selection

LABEL_BYTES = 2  # bytes of a hard label
SOFT_BYTES = 2  # bytes of a soft label's value, in half precision
ROUNDING = 1e-9  # so that a share of 12/3 of 3 images is 12
PROBED = 256  # number of images whose PNG size is measured


@dataclass(frozen=True)
class Pool:
    """The real images from which a baseline may choose."""

    images: Tensor  # uint8 (N, C, H, W), the whole train split
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]
    training: Tensor  # rows of the training part
    embed: Callable[[Tensor], Tensor]  # uint8 images (n, C, H, W) to float32 features (n, F)
    score: Callable[[Tensor, int], Tensor]  # uint8 images (n, C, H, W) of a class to their EL2N scores (n,)
    factor: int = 1  # the factor by which the set's images are smaller, per side

    @functools.cached_property
    def bytes_each(self) -> float:
        """Bytes of an image as PNG with a hard label: the mean over PROBED random images."""
        return self._bytes(1)

    @functools.cached_property
    def reduced_bytes_each(self) -> float:
        """The same of images that are reduced as the set's."""
        return self._bytes(self.factor)

    def _bytes(self, factor: int) -> float:
        order = torch.randperm(len(self.training), generator=seeds.generator(0, "random_bytes"))[:PROBED]
        probed = enlarge.reduced(self.images[self.training[order]], factor)
        return sum(len(parquet.png(image)) for image in probed) / len(probed) + LABEL_BYTES


def choose(name: str, pool: Pool, counts: Sequence[int], seed: int) -> Tensor:
    """The rows of a baseline's images, ordered by class. Another seed changes random choices.

    Args:
        counts: the number of images of each class.

    Raises:
        UserError: if a class has too few images.
    """
    labels = pool.labels[pool.training]
    if name in ("random", "random_bytes"):
        return pool.training[held_out.stratified(labels, pool.classes, counts, seed, "baseline")]
    chosen = []
    for label, title in enumerate(pool.classes):
        members, count = pool.training[labels == label], counts[label]
        if len(members) < count:
            raise UserError(
                f"baseline {name}: class '{title}' has {len(members)} real images, {count} are needed",
                next=f"--baselines without {name}",
            )
        if count:
            images, drawn = pool.images[members], seeds.derive(seed, name, label)
            seen = pool.score(images, label) if name in selection.SCORED else pool.embed(images)
            chosen.append(members[selection.SELECT[name](seen, count, drawn)])
    return torch.cat(chosen)


def affordable(pool: Pool, budget: int, counts: Sequence[int]) -> list[int]:
    """The number of real images of each class, as PNG with a hard label, that fits into `budget` bytes.

    Classes keep their shares of `counts`. A class with a share gets at least 1 image. Classes with equal shares get
    equally many, at most the number of the smallest of them.
    """
    there = pool.labels[pool.training].bincount(minlength=len(pool.classes)).tolist()
    most = min(here / count for here, count in zip(there, counts, strict=True) if count)
    share = min(most, int(budget / pool.bytes_each) / sum(counts))
    return [max(1, int(count * share + ROUNDING)) if count else 0 for count in counts]
