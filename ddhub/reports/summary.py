"""The summary of rows: report.json, a line per architecture, protocol and test set, and sentences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddhub.artifact import manifest
from ddhub.artifact.manifest import Manifest
from ddhub.base import files
from ddhub.base.document import Document
from ddhub.base.log import warn_once
from ddhub.evaluation import rows as results
from ddhub.evaluation.probe.outcome import Outcome
from ddhub.evaluation.rows import Row
from ddhub.reports import stats
from ddhub.reports.documents import DDRanking, Difference, Evaluation, RankFidelity, Recovery, Score

# Kinds of training data in the order of columns, with their names for people.
DATA = {
    "distilled": "distilled",
    "random": "random real",
    "random_bytes": "random by bytes",
    "herding": "herding",
    "kcenter": "k-center",
    "kmeans": "k-means",
    "el2n": "EL2N",
    "ccs": "CCS",
    "easy": "easy real",
    "equal_compute": "equal compute",
    "full": "full data",
}
TITLES = {  # names in sentences
    "random": "random real images",
    "random_bytes": "random real images of as many bytes",
    "easy": "real images that are easy for the teachers",
    "equal_compute": "fresh real images at equal compute",
}
REAL = tuple(DATA)[1:-1]  # the baselines that a set must beat
NOTE = (
    "Intervals are 95% (Student's t over seeds). Each stands alone: there is no correction for their number. "
    "≠ 0: the interval of the paired difference excludes zero."
)
FEW = "With n=2, an interval extends 12.7 standard errors to each side. More seeds make it narrower."


@dataclass(frozen=True)
class Line:
    """One line of the table: an architecture with a protocol on a test set."""

    arch: str
    protocol: str  # `-` for a line with only full data
    test_set: str
    scores: dict[str, list[Score]]  # by data; several if rows with different settings share a name
    over: dict[str, Difference]  # paired comparisons with baselines, by baseline
    share: Recovery | None  # the share of full data's accuracy


def build(name: str, rows: Sequence[Row]) -> Evaluation:
    """The report of a set: rows, their summary, and comparisons. Empty parts are left out."""
    in_order = sorted(rows, key=lambda row: (row.arch, row.protocol_title, row.data, row.seed))
    ordered, repeats = results.each_once(in_order)
    if repeats is not None:
        warn_once(f"WARNING: {name}: {repeats}")
    scores = stats.summarise(ordered)
    clear = _clear(ordered, scores)
    present = {row.data for row in clear}
    # Full data by an older version of the protocols is no measure of rows by the present one, nor the other way round.
    eras = [[row for row in clear if row.outdated is outdated] for outdated in (False, True)]
    by_test = [(test, [row for row in era if row.test_set == test]) for era in eras for test in _tests(era)]
    found: dict[str, Sequence[Document]] = {
        "comparisons": [each for b in REAL if b in present for era in eras for each in _compared(era, b)],
        "recovery": [each for era in eras for each in stats.recovery(era)],
        "rank_fidelity": [each for test, here in by_test for each in _fidelity(test, here)],
        "dd_ranking": [each for test, here in by_test for each in _scores(test, here)],
    }
    told: dict[str, Any] = {key: value for key, value in found.items() if value}
    return Evaluation(format=results.FORMAT, set=name, rows=ordered, summary=scores, **told)


def _clear(rows: Sequence[Row], scores: Sequence[Score]) -> list[Row]:
    """The rows with unambiguous names, without names that stand for several settings or test images."""
    counts = Counter((score.arch, score.protocol, score.data, score.test_set) for score in scores)
    return [row for row in rows if counts[row.arch, row.protocol_title, row.data, row.test_set] == 1]


def _tests(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.test_set for row in rows))


def _compared(rows: Sequence[Row], data: str) -> list[Difference]:
    """The differences between the set and a baseline, where both were trained in one precision."""

    def precisions(each: Difference, of: str) -> set[str]:
        where = {"arch": each.arch, "protocol_title": each.protocol, "test_set": each.test_set}
        return stats.precisions(rows, data=of, **where)

    return [each for each in stats.compare(rows, b=data) if precisions(each, "distilled") == precisions(each, data)]


def _fidelity(test_set: str, rows: Sequence[Row]) -> Iterator[RankFidelity]:
    """Per protocol, the agreement of architecture rankings by full data with those by the set and by random images."""
    for protocol in dict.fromkeys(row.protocol_title for row in rows if row.data == "distilled"):
        for data in ("distilled", "random"):
            found = stats.rank_fidelity(rows, protocol, test_set, data)
            if found is not None:
                yield found


def _scores(test_set: str, rows: Sequence[Row]) -> Iterator[DDRanking]:
    """Per architecture, DD-Ranking's scores, if there is one."""
    for arch in dict.fromkeys(row.arch for row in rows):
        found = stats.dd_ranking(rows, arch, test_set)
        if found.lrs is not None or found.ars is not None:
            yield found


def save(record: Manifest, rows_folder: Path, path: Path) -> Evaluation:
    """Write the report of all rows of a set to `path`, with the outcome of a probe beside it. Return the report."""
    probed = Outcome.beside(path.parent, manifest.identity(record.files))
    report = with_probe(build(record.name, results.of(record, rows_folder)), probed)
    files.write_json(path, content(report))
    return report


def with_probe(report: Evaluation, outcome: Outcome | None) -> Evaluation:
    """The report with all keys of a probe's outcome."""
    return report if outcome is None else report.model_copy(update={"probe": Outcome(**outcome.content())})


def content(report: Evaluation) -> dict[str, Any]:
    """The content of report.json: rows as in their own files, and `test_set` where format 1 has it."""
    found = report.to_dict() | {"rows": [row.content for row in report.rows]}
    for key in ("rank_fidelity", "dd_ranking"):
        for entry in found.get(key, []):
            entry["test_set"] = entry.pop("test_set")  # in the last place
    return found


def agrees(kept: Any, built: Evaluation) -> bool:
    """Whether a report.json is that of its rows. The last digits of numbers may differ between machines.

    Intervals of rank fidelity come from random draws, which depend on numpy's version, and are not compared. The
    outcome of a probe is not compared either, because rows do not hold it.
    """
    if isinstance(kept, dict):
        kept = {key: value for key, value in kept.items() if key != "probe"}
    return isinstance(kept, dict) and _alike(_undrawn(kept), _undrawn(content(built)))


def _undrawn(report: dict[str, Any]) -> dict[str, Any]:
    entries = report.get("rank_fidelity")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return report
    return {**report, "rank_fidelity": [{k: v for k, v in entry.items() if k != "ci95"} for entry in entries]}


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return type(a) is type(b) and bool(a == b)


def lines(report: Evaluation) -> list[Line]:
    """The table. Full data appears on each line of its architecture and test set, or on a line of its own."""
    groups: dict[tuple[str, str, str], dict[str, list[Score]]] = {}
    full: dict[tuple[str, str], list[Score]] = {}
    for score in report.summary:
        if score.data == "full":
            full.setdefault((score.arch, score.test_set), []).append(score)
        else:
            groups.setdefault(_place(score), {}).setdefault(score.data, []).append(score)
    for arch, test_set in full:
        if not any((place[0], place[2]) == (arch, test_set) for place in groups):
            groups[arch, "-", test_set] = {}
    found = []
    for place, scores in groups.items():
        whole = sorted(full.get((place[0], place[2]), []), key=lambda score: score.protocol)  # unchanged ones first
        over = {each.b: each for each in report.comparisons if _place(each) == place}
        share = next((each for each in report.recovery if _place(each) == place), None)
        found.append(Line(*place, {**scores, **({"full": whole} if whole else {})}, over, share))
    return found


def _place(entry: Score | Difference | Recovery) -> tuple[str, str, str]:
    return entry.arch, entry.protocol, entry.test_set


def sentences(report: Evaluation) -> list[str]:
    """The table in sentences: where the set is above random images with disjoint intervals, and where it is not."""
    every = lines(report)
    ours = [line for line in every if "distilled" in line.scores]
    several = len({line.test_set for line in every}) > 1
    present = {data for line in ours for data in line.scores}
    said = []
    if ours and "random" not in present:
        said.append("Random real images were not run, so the gain of distilling over selecting images is unknown.")
    for protocol, test_set in dict.fromkeys((line.protocol, line.test_set) for line in ours if "random" in present):
        here = [line for line in ours if (line.protocol, line.test_set) == (protocol, test_set)]
        said.append(f"{_under(protocol, test_set, several)}, {_claim(here, 'random', [line.arch for line in here])}")
    said += [_against(ours, data, several) for data in REAL[1:] if data in present]
    said += [_ranked(entry, several) for entry in report.rank_fidelity]
    said += _scored(report.dd_ranking, several)
    said += [*older(report.rows), *copied(report.rows), *drawn_anew(report.rows), *_uncounted(report.rows)]
    said += corrupted(report.rows)
    if not any(score.ci95 for score in report.summary):
        return said
    few = any(score.n == 2 for score in report.summary)
    return [*said, *([FEW] if few else []), NOTE]


def older(rows: Sequence[Row]) -> list[str]:
    """A sentence if there are rows by other versions of protocols than the present ones."""
    found = sorted(
        {f"{row.protocol} version {row.protocol_version}" for row in rows if row.outdated and row.protocol_version}
    )
    if not found:
        return []
    return [
        f"Rows by other rules: {', '.join(found)}. The present ones can train networks otherwise. So these rows are"
        " compared with each other only. `ddhub evaluate` trains by the present rules beside them."
    ]


def copied(rows: Sequence[Row], above: float = 0.0) -> list[str]:
    """A sentence for each test set of which more than a share `above` are training images."""
    found = {row.test_set: (row.test_copies, row.test_images) for row in rows if row.test_copies and row.test_images}
    return [
        f"{copies} of {images} images of {test_set} ({100 * copies / images:.3g}%) are also training images of the"
        " source, pixel by pixel."
        for test_set, (copies, images) in found.items()
        if copies > above * images
    ]


def drawn_anew(rows: Sequence[Row]) -> list[str]:
    """A sentence for each test set that was held out of other pictures than the set was made from."""
    found = dict.fromkeys(row.test_set for row in rows if row.test_set.endswith(results.ANEW))
    return [
        f"{test_set}: the pictures have changed since the set was made, so images that it was distilled from can be"
        " among the test images."
        for test_set in found
    ]


def _uncounted(rows: Sequence[Row]) -> list[str]:
    """A sentence for each test set whose images were not compared with training images. Older rows do not say it."""
    unknown = {row.test_set for row in rows if "test_copies" in row.content and row.test_copies is None}
    known = {row.test_set for row in rows if row.test_copies is not None}
    return [
        f"It is not known how many images of {test_set} are also training images of the source, which was not read."
        " --baselines random reads it."
        for test_set in sorted(unknown - known)
        if not test_set.endswith(results.ANEW)
    ]


def corrupted(rows: Sequence[Row]) -> list[str]:
    """An explanation of the columns of corrupted images, if there are any."""
    severities = sorted({row.corrupted.severity for row in rows if row.corrupted is not None})
    if not severities:
        return []
    said = "Corrupted: mean accuracy on test images with noise, blur, less contrast, more brightness, pixelate and JPEG"
    return [f"{said}, severity {', '.join(map(str, severities))} of 5 (arXiv:1903.12261)."]


def _under(protocol: str, test_set: str, several: bool) -> str:
    return f"Under {protocol}{f' on {test_set}' if several else ''}"


def _against(ours: Sequence[Line], data: str, several: bool) -> str:
    """The claim for another baseline over all protocols. Many protocols are summed up as counts."""
    tried = [line for line in ours if data in line.scores]
    if len({(line.protocol, line.test_set) for line in tried}) == 1:
        where = _under(tried[0].protocol, tried[0].test_set, several)
        return f"{where}, {_claim(tried, data, [line.arch for line in tried])}"
    above = [line for line in tried if why_not(line, data) is None]
    apart = [line for line in tried if data in line.over and line.over[data].disjoint]
    below = [line for line in apart if line not in above]
    return (
        f"Distilled is above {TITLES.get(data, DATA[data])} with disjoint 95% intervals on {len(above)} of "
        f"{len(tried)} lines, and below with disjoint ones on {len(below)}. On the others they overlap or are missing."
    )


def _claim(here: Sequence[Line], data: str, places: Sequence[str]) -> str:
    """`distilled is above random real with disjoint 95% intervals on A; not on B (why).`"""
    held = [place for line, place in zip(here, places, strict=True) if why_not(line, data) is None]
    failed = [f"{p} ({why_not(line, data)})" for line, p in zip(here, places, strict=True) if why_not(line, data)]
    claim = f"distilled is above {TITLES.get(data, DATA[data])} with disjoint 95% intervals"
    if not failed:
        return f"{claim} on every architecture: {', '.join(held)}."
    if not held:
        return f"{claim} on no architecture: {', '.join(failed)}."
    return f"{claim} on {', '.join(held)}; not on {', '.join(failed)}."


def why_not(line: Line, data: str) -> str | None:
    """The reason why a line does not show the set above a baseline with disjoint 95% intervals; None if it does."""
    if data not in line.scores:
        return f"{TITLES.get(data, DATA[data])} not run"
    if len(line.scores["distilled"]) > 1 or len(line.scores[data]) > 1:
        return "rows of several settings or real images under one name"
    ours, theirs = line.scores["distilled"][0].precision, line.scores[data][0].precision
    if ours != theirs:
        return f"trained in {theirs}, and the set in {ours}"
    entry = line.over.get(data)
    if entry is None:
        return "no seed in common"
    apart = f"n={entry.n}, {distance(entry.mean)}"
    if entry.disjoint is None:
        return f"{apart}, no interval"
    if entry.disjoint:
        return None if entry.mean > 0 else f"{apart}, intervals disjoint"
    return f"{apart}, intervals overlap"


def distance(mean: float) -> str:
    """A difference of accuracies in words: `1.2 points below`, or `equal`."""
    points = abs(100 * mean)
    if points < 1e-9:  # means of equal accuracies differ by rounding
        return "equal"
    return f"{f'{points:.1f}' if points >= 0.05 else 'less than 0.1'} points {'above' if mean > 0 else 'below'}"


def _ranked(entry: RankFidelity, several: bool) -> str:
    bounds, low, count = entry.ci95, len(entry.near_chance), len(entry.archs)
    sure = "" if bounds is None else f"95% interval {bounds[0]:.2f} to {bounds[1]:.2f}, "
    by = "random real images rank" if entry.data == "random" else "the set ranks"
    doubt = f" {low} of {count} are near chance there, so their places are chance too." if 2 * low > count else ""
    return (
        f"{_under(entry.protocol, entry.test_set, several)}, {by} architectures as full data does with "
        f"Kendall's tau {entry.tau:.2f} ({sure}{count} architectures, n={entry.n}).{doubt}"
    )


def _scored(entries: Sequence[DDRanking], several: bool) -> list[str]:
    """DD-Ranking's scores in one sentence."""
    told = []
    for entry in entries:
        scores = (("label-robust", entry.lrs), ("augmentation-robust", entry.ars))
        where = f"{entry.arch}{' on ' + entry.test_set if several else ''}"
        told.append(f"{where} {', '.join(f'{name} {score:.3f}' for name, score in scores if score is not None)}")
    start = "DD-Ranking's scores, from fractions; 0.269 is no lead and no loss"
    return [f"{start}: {'; '.join(told)}."] if told else []
