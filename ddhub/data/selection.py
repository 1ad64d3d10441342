"""Selection of real images that represent their class, by the methods of the field.

A method takes a teacher's features (N, F) or scores (N,) of the images, and returns the rows of `count` images.
Shapes: N images of one class, F features, K classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SELECTIONS = ("herding", "kcenter", "kmeans")  # these need features
SCORED = ("el2n", "ccs", "easy")  # these need scores from teachers
HARDEST = 0.3  # share of highest scores that CCS drops: its rate for CIFAR-10 at 90% pruning
EASY = 10  # images drawn for each image kept, the easiest
STRATA = 50  # intervals of equal width into which CCS divides the other scores


def herding(features: Tensor, count: int, seed: int) -> Tensor:
    """Add the image that brings the mean of the chosen features nearest to the class's mean. It is deterministic."""
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
    """Start at a random image, then always add the image farthest from all chosen ones."""
    first = int(torch.randint(len(features), (), generator=torch.Generator().manual_seed(seed)))
    chosen, nearest = [first], (features - features[first]).norm(dim=1)
    while len(chosen) < count:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def kmeans(features: Tensor, count: int, seed: int) -> Tensor:
    """Take the image nearest to each of `count` cluster centres, none twice."""
    from sklearn.cluster import KMeans

    model = KMeans(count, n_init=1, random_state=seed % 2**32).fit(features.numpy())
    distances = torch.cdist(torch.from_numpy(model.cluster_centers_).float(), features)
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return torch.tensor(chosen)


def el2n_scores(guesses: Sequence[Tensor], right: Tensor) -> Tensor:
    """EL2N scores (n,): the norm of probabilities minus the one-hot label (arXiv:2107.07075, section 2).

    Args:
        guesses: the probabilities (n, K) of each teacher. The score is the mean over the teachers.
        right: the one-hot label (K,).
    """
    return torch.stack([(guess - right).norm(dim=1) for guess in guesses]).mean(0)


def el2n(scores: Tensor, count: int, seed: int) -> Tensor:
    """Take the images with the highest scores (n,), as in arXiv:2107.07075. It is deterministic."""
    return scores.argsort(descending=True, stable=True)[:count]


def easy(scores: Tensor, count: int, seed: int) -> Tensor:
    """Draw EASY times as many random images, and keep those with the lowest scores (n,), in the order of the draw."""
    drawn = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))[: EASY * count]
    return drawn[scores[drawn].argsort(stable=True)[:count].sort().values]


def ccs(scores: Tensor, count: int, seed: int) -> Tensor:
    """Coverage-centric selection (arXiv:2210.15809, algorithm 1): drop the hardest images, then sample score intervals.

    The non-empty intervals share the budget, smallest first. Within an interval, images are drawn at random.
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
