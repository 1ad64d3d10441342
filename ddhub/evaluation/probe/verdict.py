"""Verdicts from a teacher's predictions on a set: whether its space and its class order are right.

There are three tests, each at ALPHA divided by the number of spaces tried. Recognition: more hits than chance
(binomial). A better space: an exact McNemar test on images that only one reading gets right. Another class order: the
best assignment on one half of each class's images is scored on the other half, so that it cannot fit noise.
A teacher that normalises its inputs recognises images of any contrast. Then the pixels' own statistics decide.
Shapes: N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ALPHA = 0.001  # probability that a set of noise is called recognised
SURE = 0.95  # least power of a test whose negative result counts
HALF = 0.5  # share of the teacher's accuracy on real images that distilled ones must reach
MARGIN = 0.1  # share of the same accuracy; smaller gains of another space are harmless
# Distances of the set's pixels from the source's, in standard deviations of the mean and logarithms of the contrast.
NEAR, APART, FAR = 0.1, 0.3, 1.0  # a sure match; a contrast off by a third; more than distilling explains


@dataclass(frozen=True)
class SpaceReading:
    """A set read in one space, as a teacher sees it."""

    space: str  # in words
    option: str | None  # the options for it
    predicted: Tensor  # int64 (N,)
    distance: float | None = None  # of the pixels' mean and contrast from the source's; None if unknown
    named: bool = True  # False if it was fitted to the set itself


@dataclass(frozen=True)
class Judgement:
    """The finding about a set."""

    verdict: str  # fine, wrong space, permuted classes, unrecognised or unknown
    why: str
    best: SpaceReading | None = None  # the space that explains the set
    order: list[int] | None = None  # class shown by the images of each label, if the order differs


@dataclass(frozen=True)
class _Scored:
    """A reading scored with one order of the classes."""

    reading: SpaceReading
    hits: Tensor  # bool (N,)
    trials: int  # number of independent trials
    chance: float
    order: Tensor | None = None  # (K,); None for the labelled order

    @cached_property
    def rate(self) -> float:
        return float(self.hits.float().mean())

    def recognised(self, bar: float, level: float) -> bool:
        from scipy import stats

        hits = int(self.rate * self.trials)
        return self.rate >= bar and float(stats.binom.sf(hits - 1, self.trials, self.chance)) < level

    def beats(self, other: "_Scored", level: float) -> bool:
        return mcnemar(other.hits, self.hits) < level


def judge(labels: Tensor, classes: int, readings: Sequence[SpaceReading], top1: float) -> Judgement:
    """The verdict on a set.

    Args:
        labels: (N,).
        readings: the set as it is fed, followed by other spaces.
        top1: the teacher's accuracy on held-out real images.
    """
    level = ALPHA / (2 * len(readings))
    fed, *others = (_scored(labels, classes, reading) for reading in readings)
    gain = top1 - fed.chance
    bar = fed.chance + HALF * gain
    recognised = fed.recognised(bar, level)
    better = _better(labels, classes, fed, others, bar, level, recognised, gain)
    if better is not None:
        return _explained(better, fed)
    if not recognised and not could_tell(len(labels), fed.chance, bar, level):
        return Judgement("unknown", f"{len(labels)} images and a teacher of {top1:.0%} accuracy are too little to tell")
    if not recognised:
        part = "in part" if fed.recognised(0, level) else "near chance"
        return Judgement("unrecognised", f"{part}, in every space and class order that was tried")
    return _doubts(labels, classes, fed, others, gain)


def could_tell(count: int, chance: float, bar: float, level: float) -> bool:
    """Whether so many images, recognised at the rate `bar`, would almost surely differ from chance."""
    from scipy import stats

    needed = int(stats.binom.isf(level, count, min(chance, 1.0))) + 1
    return bool(bar > chance and stats.binom.sf(needed - 1, count, bar) >= SURE)


def mcnemar(before: Tensor, after: Tensor) -> float:
    """The one-sided exact p-value that `after` hits no more than `before`; both are bool (N,)."""
    from scipy import stats

    wins, losses = int((after & ~before).sum()), int((before & ~after).sum())
    return float(stats.binom.sf(wins - 1, wins + losses, 0.5)) if wins > losses else 1.0


def order(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """The predicted class of each label, one to one (K,): the assignment with the most hits."""
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes).double()
    counts += torch.eye(classes, dtype=counts.dtype) * 0.5 / classes  # prefers the given order among equals
    return torch.from_numpy(linear_sum_assignment(counts.numpy(), maximize=True)[1])


def _scored(labels: Tensor, classes: int, reading: SpaceReading) -> _Scored:
    shares = [values.bincount(minlength=classes).double() / len(labels) for values in (labels, reading.predicted)]
    chance = max(1 / classes, float(shares[0] @ shares[1]))
    return _Scored(reading, reading.predicted == labels, len(labels), chance)


def _reordered(labels: Tensor, classes: int, scored: _Scored) -> _Scored | None:
    """A reading with its best class order, where each half is scored by the other; None if the order is unchanged."""
    predicted = scored.reading.predicted
    whole = order(labels, predicted, classes)
    if bool((whole == torch.arange(classes)).all()):
        return None
    second = _halves(labels)
    hits = torch.zeros(len(labels), dtype=torch.bool)
    for half in (second, ~second):
        if bool(half.any()) and bool((~half).any()):
            fitted = order(labels[~half], predicted[~half], classes)
            hits[half] = fitted[labels[half]] == predicted[half]
    # The two halves are not independent, so they count as one.
    return _Scored(scored.reading, hits, max(1, len(labels) // 2), scored.chance, whole)


def _halves(labels: Tensor) -> Tensor:
    """A mask of every other image of each class, bool (N,)."""
    second = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        second[members[1::2]] = True
    return second


def _better(
    labels: Tensor,
    classes: int,
    fed: _Scored,
    others: Sequence[_Scored],
    bar: float,
    level: float,
    recognised: bool,
    gain: float,
) -> _Scored | None:
    """The space or order with clearly better recognition than the set as it is fed; None if there is none."""
    found = []
    for scored in (fed, *others):
        if scored is not fed and scored.rate - fed.rate >= MARGIN * gain and (scored.reading.named or not recognised):
            found.append(scored)
        again = _reordered(labels, classes, scored)
        if again is not None and _moved_gain(labels, fed, again) >= HALF * gain:
            found.append(again)
    found = [s for s in found if s.recognised(bar, level) and s.beats(fed, level)]
    if not found:
        return None
    best = max(s.rate for s in found)
    # Among equals: the given order first, then a known space before a fitted one, then the nearer pixels.
    return min(
        (s for s in found if s.rate >= best - MARGIN * gain),
        key=lambda s: (s.order is not None, s.reading is not fed.reading, not s.reading.named, _far(s)),
    )


def _moved_gain(labels: Tensor, fed: _Scored, again: _Scored) -> float:
    """The share of additional hits among images of classes that move."""
    assert again.order is not None
    moved = again.order[labels] != labels
    return float((again.hits[moved].float() - fed.hits[moved].float()).mean()) if bool(moved.any()) else 0.0


def _far(scored: _Scored) -> float:
    return float("inf") if scored.reading.distance is None else scored.reading.distance


def _explained(found: _Scored, fed: _Scored) -> Judgement:
    count = len(fed.hits)
    moved = None if found.order is None else found.order.tolist()
    shown = f"a teacher recognises {int(fed.hits.sum())} of {count} images as they are fed, {int(found.hits.sum())}"
    if found.reading is fed.reading:
        return Judgement("permuted classes", f"{shown} with the classes in another order", found.reading, moved)
    also = " and the classes in another order" if moved is not None else ""
    return Judgement("wrong space", f"{shown} when read as {found.reading.space}{also}", found.reading, moved)


def _doubts(labels: Tensor, classes: int, fed: _Scored, others: Sequence[_Scored], gain: float) -> Judgement:
    """The judgement of a set that is recognised as it is fed: fine, unless another reading could be right."""
    count = len(labels)
    shown = f"a teacher recognises {int(fed.hits.sum())} of {count} images as they are fed"
    matching = [s for s in others if s.reading.named and _far(s) < NEAR and s.rate >= fed.rate - MARGIN * gain]
    if fed.reading.distance is not None and fed.reading.distance > APART and matching:
        best = min(matching, key=_far).reading
        why = f"{shown}, but their brightness and contrast are the source's only when they are read as {best.space}"
        return Judgement("wrong space", why, best)
    maybe = next((s for s in others if s.reading.named and s.rate - fed.rate >= MARGIN * gain), None)
    if maybe is not None:
        why = f"{shown}, {int(maybe.hits.sum())} when read as {maybe.reading.space}: too few images to tell"
        return Judgement("unknown", why, maybe.reading)
    whole = order(labels, fed.reading.predicted, classes)
    in_order = float((whole[labels] == fed.reading.predicted).float().mean())
    if in_order - fed.rate >= 2 * MARGIN * gain:
        return Judgement(
            "unknown", f"{shown}, more in another class order: too few images to tell", order=whole.tolist()
        )
    if fed.reading.distance is not None and fed.reading.distance > FAR:
        why = f"{shown}, but their brightness or contrast is far from the source's, in every space that was tried"
        return Judgement("unknown", why)
    return Judgement("fine", shown)
