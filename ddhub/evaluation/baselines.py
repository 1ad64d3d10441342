"""Real images to stand beside a distilled set: chosen at random, by bytes, or by the field's selection methods.

Every choice is made class by class from the training part alone.
Shapes: N images of one class, F features, C H W image.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddhub.artifact import parquet
from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.data import source

SELECTIONS = ("herding", "kcenter", "kmeans")  # these need features
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
            features = pool.embed(pool.images[members])
            chosen.append(members[SELECT[name](features, count, seeds.derive(seed, name, label))])
    return torch.cat(chosen)


def herding(features: Tensor, count: int, seed: int) -> Tensor:
    """Greedily add the image that brings the mean of the chosen features nearest to the class's; no chance in it."""
    target, total = features.mean(0), torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool)
    chosen = []
    for number in range(1, count + 1):
        distances = ((total + features) / number - target).norm(dim=1).masked_fill(~free, torch.inf)
        best = int(distances.argmin())
        chosen.append(best)
        free[best] = False
        total = total + features[best]
    return torch.tensor(chosen)


def kcenter(features: Tensor, count: int, seed: int) -> Tensor:
    """Start at a random image, then keep adding the one farthest from all that were chosen."""
    first = int(torch.randint(len(features), (), generator=torch.Generator().manual_seed(seed)))
    chosen, nearest = [first], (features - features[first]).norm(dim=1)
    while len(chosen) < count:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def kmeans(features: Tensor, count: int, seed: int) -> Tensor:
    """The image nearest to each of `count` cluster centres; no image twice."""
    from sklearn.cluster import KMeans

    model = KMeans(count, n_init=1, random_state=seed % 2**32).fit(features.numpy())
    distances = torch.cdist(torch.from_numpy(model.cluster_centers_).float(), features)
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return torch.tensor(chosen)


SELECT: dict[str, Callable[[Tensor, int, int], Tensor]] = {"herding": herding, "kcenter": kcenter, "kmeans": kmeans}


def affordable(pool: Pool, budget: int, counts: Sequence[int]) -> list[int]:
    """How many real images of each class, as PNG with a hard label, fit into `budget` bytes.

    Classes have shares as in `counts`: at least 1 image where those have any, at most the smallest class's number of
    all that have as large a share.
    """
    there = pool.labels[pool.training].bincount(minlength=len(pool.classes)).tolist()
    most = min(here / count for here, count in zip(there, counts, strict=True) if count)
    share = min(most, int(budget / pool.bytes_each) / sum(counts))
    return [max(1, int(count * share + ROUNDING)) if count else 0 for count in counts]
