"""Statistics of rows: means with intervals, differences, share of full data, ranking of architectures.

All functions take rows (ddhub/evaluation/rows.py). Accuracies are fractions, and intervals are 95%.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ddhub.artifact import doubts
from ddhub.base import files, intervals
from ddhub.evaluation.rows import Row
from ddhub.reports.documents import DDRanking, Difference, Moments, RankFidelity, Recovery, Score

ALIKE = ("settings", "family", "protocol_version", "weights", "code", "train")  # keys that rows of one mean share
MOST_RANKED = 300  # most architectures ranked; each resample compares every pair
RESAMPLES = 2000  # of the bootstrap behind the interval of Kendall's tau
SCORE_WEIGHT = 0.5  # DD-Ranking's default weight of each of its two components


def summarise(rows: Sequence[Row]) -> list[Score]:
    """Mean, sample standard deviation, n and 95% interval (Student's t) per architecture, protocol, data and test set.

    An overridden protocol counts as another protocol, named with its overrides: `native epochs=50`. A precision is
    named where the rows of an architecture have several.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row.arch, row.protocol_title, row.data, row.test_set, row.test, _circumstances(row))
        groups.setdefault(key, []).append(row)
    mixed = {arch for arch in {row.arch for row in rows} if len(precisions(rows, arch=arch)) > 1}
    return [_score(here, named=here[0].arch in mixed) for here in groups.values()]


def precisions(rows: Sequence[Row], **where: str) -> set[str]:
    """The precisions of the trainings whose row has these values."""
    return {row.precision for row in rows if all(getattr(row, key) == value for key, value in where.items())}


def _circumstances(row: Row) -> str:
    """A digest of what must be equal in rows that are averaged, whatever their names."""
    return files.digest([*(row.content.get(key) for key in ALIKE), row.precision])


def _score(rows: Sequence[Row], named: bool) -> Score:
    """The mean accuracy of rows that differ only by seed, and their accuracy on corrupted images if there is any.

    Args:
        named: whether the precision is named.
    """
    first, corrupted = rows[0], [row.corrupted.mean for row in rows if row.corrupted is not None]
    also: dict[str, Any] = {"corrupted": moments(corrupted)} if corrupted else {}
    also |= {"precision": first.precision} if named else {}
    return Score(
        arch=first.arch,
        protocol=first.protocol_title,
        data=first.data,
        test_set=first.test_set,
        **dict(moments([row.top1 for row in rows])),
        **also,
    )


def compare(rows: Sequence[Row], a: str = "distilled", b: str = "random") -> list[Difference]:
    """The difference in accuracy between data `a` and `b`, per architecture, protocol and test set.

    Rows are paired by seed. A seed gives both the same initial weights and order of augmentation, whose effects cancel
    in the difference. `differs` says whether the 95% interval of the mean difference excludes zero. It is None
    for fewer than two pairs. `disjoint` says whether the 95% intervals of both means are disjoint.
    """
    found = []
    places: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        places.setdefault((row.arch, row.protocol_title, row.test_set), []).append(row)
    for (arch, protocol, test_set), here in places.items():
        ours, theirs = ({row.seed: row.top1 for row in here if row.data == data} for data in (a, b))
        pairs = [ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))]
        if not pairs:
            continue
        difference = moments(pairs)
        interval = difference.ci95
        differs = None if interval is None else not interval[0] <= 0 <= interval[1]
        first, second = moments(list(ours.values())).ci95, moments(list(theirs.values())).ci95
        disjoint = None if first is None or second is None else first[0] > second[1] or second[0] > first[1]
        where: dict[str, Any] = {"arch": arch, "protocol": protocol, "test_set": test_set, "a": a, "b": b}
        found.append(Difference(**where, **dict(difference), differs=differs, disjoint=disjoint))
    return found


def moments(values: Sequence[float]) -> Moments:
    """Mean, sample standard deviation, n and Student's 95% interval of the mean. A single value has no interval."""
    return Moments(n=len(values), **intervals.of_mean(values)._asdict())


def recovery(rows: Sequence[Row]) -> list[Recovery]:
    """The set's share of the full-data accuracy per architecture and protocol, with a 95% interval (delta method).

    Full data is what `_whole` takes, in the same precision. The interval treats both means as independent. It is None
    if either has a single row.
    """
    from scipy import special

    scores, kept = summarise(rows), _whole(rows)
    full = {(score.arch, score.test_set): score for score in summarise(kept)}
    found = []
    for score in scores:
        whole = full.get((score.arch, score.test_set))
        if score.data != "distilled" or whole is None or whole.mean == 0:
            continue
        here = {"arch": score.arch, "test_set": score.test_set}
        if precisions(rows, **here, protocol_title=score.protocol, data=score.data) != precisions(kept, **here):
            continue
        share, interval = score.mean / whole.mean, None
        if score.std is not None and whole.std is not None:
            errors = [((e.std or 0.0) / e.mean) ** 2 / e.n for e in (score, whole) if e.mean > 0]
            freedom = min(score.n, whole.n) - 1
            half = share * math.sqrt(sum(errors)) * float(special.stdtrit(freedom, intervals.QUANTILE))
            interval = (share - half, share + half)
        found.append(
            Recovery(**here, protocol=score.protocol, data=score.data, share=share, ci95=interval, n=(score.n, whole.n))
        )
    return found


def _whole(rows: Sequence[Row]) -> list[Row]:
    """The rows of full data by which others are measured, per architecture and test set.

    These are rows without changes of the protocol; without such rows, those with the only kind of changes.
    """
    kinds: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.data == "full":
            kinds.setdefault((row.arch, row.test_set), {}).setdefault(row.protocol_title, []).append(row)
    found = []
    for here in kinds.values():
        unchanged = [kind for kind in here.values() if not kind[0].overrides]
        chosen = unchanged or list(here.values())
        found += chosen[0] if len(chosen) == 1 else []
    return found


def rank_fidelity(rows: Sequence[Row], protocol: str, test_set: str, data: str = "distilled") -> RankFidelity | None:
    """Kendall's tau-b between architectures ranked by accuracy on a set and on full data; None below 3 and above 300.

    The interval resamples each architecture's rows (percentile bootstrap). It covers the uncertainty of the two
    rankings for these architectures only. It is None if an architecture has a single row, which resampling cannot vary.
    The result is None if a ranking is one tie. Architectures of two precisions are left out.

    Args:
        rows: rows that were all tested on `test_set`.
    """
    import numpy as np

    kept = [row for row in rows if (row.data, row.protocol_title) == (data, protocol)]
    whole = _whole(rows)
    ours, full = _by_arch(kept), _by_arch(whole)
    archs = sorted(a for a in set(ours) & set(full) if precisions(kept, arch=a) == precisions(whole, arch=a))
    if not 3 <= len(archs) <= MOST_RANKED:
        return None
    tau = float(_kendall(*(np.array([[np.mean(values[arch]) for arch in archs]]) for values in (ours, full)))[0])
    if math.isnan(tau):
        return None
    draw = np.random.default_rng(0)

    def resampled(values: dict[str, list[float]]) -> Any:
        means = [draw.choice(values[arch], (RESAMPLES, len(values[arch]))).mean(1) for arch in archs]
        return np.stack(means, 1)

    first, second = resampled(ours), resampled(full)
    parts = [slice(start, start + 50) for start in range(0, RESAMPLES, 50)]  # each pair of architectures is a column
    drawn = np.concatenate([_kendall(first[part], second[part]) for part in parts])
    drawn = drawn[~np.isnan(drawn)]
    n = min(len(values[arch]) for values in (ours, full) for arch in archs)
    known = n > 1 and len(drawn) > 0
    interval = (
        (float(np.quantile(drawn, 1 - intervals.QUANTILE)), float(np.quantile(drawn, intervals.QUANTILE)))
        if known
        else None
    )
    classes = {row.arch: row.classes for row in kept if row.classes is not None}
    low = [arch for arch in archs if arch in classes and doubts.near_chance(float(np.mean(ours[arch])), classes[arch])]
    return RankFidelity(
        protocol=protocol, test_set=test_set, data=data, archs=archs, tau=tau, ci95=interval, n=n, near_chance=low
    )


def _kendall(a: Any, b: Any) -> Any:
    """Kendall's tau-b between the rows of two arrays (R, k), all at once: (R,); NaN for a row that is one tie."""
    import numpy as np

    first, second = np.triu_indices(a.shape[1], 1)
    x, y = (np.sign(values[:, first] - values[:, second]) for values in (a, b))
    with np.errstate(invalid="ignore"):
        return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))


def _by_arch(rows: Iterable[Row]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.arch, []).append(row.top1)
    return found


def dd_ranking(rows: Sequence[Row], arch: str, test_set: str) -> DDRanking:
    """DD-Ranking's label-robust and augmentation-robust scores from fractions, with their components.

    HLR is the deficit of hard labels against full data; smaller is better. IOR is the lead of the set's own protocol
    over random images. LRS weighs the two. ARS averages the lead over random images with and without augmentation.
    Both scores are mapped by (e^x - e^-1) / (e - e^-1): 0.269 is no lead and no loss
    (github.com/NUS-HPC-AI-Lab/DD-Ranking).
    A score is None if a component was not run, or if components differ in precision. Learning rates are those of the
    protocols, not chosen on test data.

    Args:
        rows: rows that were all tested on `test_set`.
    """
    here = [row for row in rows if row.arch == arch]
    here = here if len(precisions(here)) == 1 else []
    means = {(score.protocol, score.data): score.mean for score in summarise(here)}
    full = next((score.mean for score in summarise(_whole(here))), None)

    def lead(name: str) -> float | None:
        ours, theirs = means.get((name, "distilled")), means.get((name, "random"))
        return None if ours is None or theirs is None else ours - theirs

    hard = means.get(("hard", "distilled"))
    hlr = None if full is None or hard is None else full - hard
    ior, bare = lead("native"), lead("unaugmented")
    alpha = None if hlr is None or ior is None else SCORE_WEIGHT * ior - (1 - SCORE_WEIGHT) * hlr
    beta = None if ior is None or bare is None else SCORE_WEIGHT * ior + (1 - SCORE_WEIGHT) * bare
    return DDRanking(
        arch=arch,
        protocol="native",
        test_set=test_set,
        lrs=_mapped(alpha),
        ars=_mapped(beta),
        hlr=hlr,
        ior=ior,
        lead_unaugmented=bare,
    )


def _mapped(value: float | None) -> float | None:
    return None if value is None else (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))
