"""Real images to stand beside a distilled set: chosen at random, by bytes, or by the field's selection methods.

Every choice is made class by class from the training part alone.
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
from ddhub.data import selection, source

LABEL_BYTES = 2  # of a hard label
SOFT_BYTES = 2  # of a soft label's value, in half precision
ROUNDING = 1e-9  # so that a share of 12/3 of 3 images is 12
PROBED = 256  # images whose size as PNG stands for all


@dataclass(frozen=True)
class Pool:
    """The real images that a baseline may choose from."""

    images: Tensor  # uint8 (N, C, H, W), all of the train split
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]
    training: Tensor  # rows that the set was distilled from
    embed: Callable[[Tensor], Tensor]  # uint8 images (n, C, H, W) to float32 features (n, F)
    score: Callable[[Tensor, int], Tensor]  # uint8 images (n, C, H, W) of a class to their EL2N scores (n,)

    @functools.cached_property
    def bytes_each(self) -> float:
        """Bytes of an image as PNG with a hard label: the mean over PROBED random ones."""
        order = torch.randperm(len(self.training), generator=seeds.generator(0, "random_bytes"))[:PROBED]
        probed = self.images[self.training[order]]
        return sum(len(parquet.png(image)) for image in probed) / len(probed) + LABEL_BYTES


def choose(name: str, pool: Pool, counts: Sequence[int], seed: int) -> Tensor:
    """The rows of a baseline's images, class by class; another seed draws others where chance has a part.

    Args:
        counts: how many images of each class.

    Raises:
        UserError: when a class has too few images.
    """
    labels = pool.labels[pool.training]
    if name in ("random", "random_bytes"):
        return pool.training[source.stratified(labels, pool.classes, counts, seed, "baseline")]
    chosen = []
    for label, title in enumerate(pool.classes):
        members, count = pool.training[labels == label], counts[label]
        if len(members) < count:
            raise UserError(f"baseline {name}: class '{title}' has {len(members)} real images, {count} are needed")
        if count:
            images, drawn = pool.images[members], seeds.derive(seed, name, label)
            seen = pool.score(images, label) if name in selection.SCORED else pool.embed(images)
            chosen.append(members[selection.SELECT[name](seen, count, drawn)])
    return torch.cat(chosen)


def affordable(pool: Pool, budget: int, counts: Sequence[int]) -> list[int]:
    """How many real images of each class, as PNG with a hard label, fit into `budget` bytes.

    Classes have shares as in `counts`: at least 1 image where those have any, at most the smallest class's number of
    all that have as large a share.
    """
    there = pool.labels[pool.training].bincount(minlength=len(pool.classes)).tolist()
    most = min(here / count for here, count in zip(there, counts, strict=True) if count)
    share = min(most, int(budget / pool.bytes_each) / sum(counts))
    return [max(1, int(count * share + ROUNDING)) if count else 0 for count in counts]
