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
SCORED = ("el2n", "ccs")  # these need scores, which teachers give
HARDEST = 0.3  # share of images of the highest scores that CCS leaves out: its rate for CIFAR-10 at 90% pruned
STRATA = 50  # of equal width, that CCS cuts the scores of the others into
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
            seen = pool.score(images, label) if name in SCORED else pool.embed(images)
            chosen.append(members[SELECT[name](seen, count, drawn)])
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


def el2n(scores: Tensor, count: int, seed: int) -> Tensor:
    """The images of the highest scores (n,), as arXiv:2107.07075 keeps them; no chance in it."""
    return scores.argsort(descending=True, stable=True)[:count]


def ccs(scores: Tensor, count: int, seed: int) -> Tensor:
    """Coverage-centric selection (arXiv:2210.15809, algorithm 1): the hardest left out, then strata of scores alike.

    The budget is shared out over the strata that hold images, smallest first; within one, images are drawn at random.
    """
    order = scores.argsort(stable=True)
    kept = order[: max(count, len(order) - int(HARDEST * len(order)))]
    low, high = float(scores[kept].min()), float(scores[kept].max())
    place = ((scores[kept] - low) / max(high - low, 1e-12) * STRATA).long().clamp(max=STRATA - 1)
    strata = sorted((kept[place == number] for number in place.unique()), key=len)
    draw, chosen, open_ = torch.Generator().manual_seed(seed), [], count
    for left, stratum in zip(range(len(strata), 0, -1), strata, strict=True):
        share = min(len(stratum), open_ // left)
        chosen.append(stratum[torch.randperm(len(stratum), generator=draw)[:share]])
        open_ -= share
    return torch.cat(chosen)


SELECT: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "herding": herding,
    "kcenter": kcenter,
    "kmeans": kmeans,
    "el2n": el2n,
    "ccs": ccs,
}


def affordable(pool: Pool, budget: int, counts: Sequence[int]) -> list[int]:
    """How many real images of each class, as PNG with a hard label, fit into `budget` bytes.

    Classes have shares as in `counts`: at least 1 image where those have any, at most the smallest class's number of
    all that have as large a share.
    """
    there = pool.labels[pool.training].bincount(minlength=len(pool.classes)).tolist()
    most = min(here / count for here, count in zip(there, counts, strict=True) if count)
    share = min(most, int(budget / pool.bytes_each) / sum(counts))
    return [max(1, int(count * share + ROUNDING)) if count else 0 for count in counts]
