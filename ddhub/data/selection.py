"""Which real images of a class stand for all of it: the field's selection methods.

A method sees what a teacher makes of the images, features (N, F) or scores (N,), and gives `count` of their rows.
Shapes: N images of one class, F features.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SELECTIONS = ("herding", "kcenter", "kmeans")  # these need features
SCORED = ("el2n", "ccs", "easy")  # these need scores, which teachers give
HARDEST = 0.3  # share of images of the highest scores that CCS leaves out: its rate for CIFAR-10 at 90% pruned
EASY = 10  # times as many images are drawn, of which the easiest are kept
STRATA = 50  # of equal width, that CCS cuts the scores of the others into


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


def easy(scores: Tensor, count: int, seed: int) -> Tensor:
    """Of EASY times as many random images, those of the lowest scores (n,), in the order of the draw."""
    drawn = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))[: EASY * count]
    return drawn[scores[drawn].argsort(stable=True)[:count].sort().values]


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
    "easy": easy,
}
