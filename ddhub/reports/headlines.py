"""The first sentences of a report: whether the set is better than random real images, and reasons to doubt it."""

import re
from collections.abc import Sequence

from ddhub.artifact import doubts, manifest
from ddhub.artifact.manifest import Manifest
from ddhub.base.log import warn
from ddhub.base.units import listed
from ddhub.evaluation.find_rows import SetRows
from ddhub.evaluation.rows import FEW_COPIES
from ddhub.reports import summary
from ddhub.reports.documents import Evaluation, Report
from ddhub.reports.summary import Line

LACKING = re.compile(r"\((\d+) of (\d+) classes\)")  # as `evaluate` writes it into the name of the test images


def first(report: Evaluation) -> str:
    """The result of the comparison with random real images, in one sentence."""
    ours = [line for line in summary.lines(report) if "distilled" in line.scores]
    if not ours:
        return "No network was trained on the set itself."
    tried = [line for line in ours if "random" in line.scores]
    if not tried:
        return "Random real images were not run, so it is unknown whether the set is better."
    won = [line for line in tried if summary.why_not(line, "random") is None]
    lost = _lost(tried)
    places = "lines" if len({line.protocol for line in tried}) > 1 else "architectures"
    if len(won) == len(tried):
        gains = sorted(line.over["random"].mean for line in won)
        points = " to ".join(dict.fromkeys(f"{100 * gain:.1f}" for gain in (gains[0], gains[-1])))
        where = f"on {won[0].arch}" if len(won) == 1 else f"on all {len(won)} {places}"
        return f"The set is better than random real images {where}, by {points} points."
    if lost:
        told = f"random real images on {_names(lost)} ({len(lost)} of {len(tried)} {places})"
        once = all(line.over["random"].n == 1 for line in lost)
        return f"In one training of each, the set is below {told}." if once else f"The set is worse than {told}."
    if won:
        return (
            f"The set is better than random real images on {len(won)} of {len(tried)} {places}. On the others it is"
            " not shown to be better."
        )
    return f"The set is not shown to be better than random real images{_undecided(tried, places)}."


def _undecided(lines: Sequence[Line], places: str) -> str:
    """The reason why nothing is shown on any of these lines; for several lines, the range of their differences."""
    if len(lines) == 1:
        return f": {summary.why_not(lines[0], 'random')}"
    gains = sorted(100 * line.over["random"].mean for line in lines if "random" in line.over)
    told = f" on any of {len(lines)} {places}"
    if not gains:
        return f"{told}: {summary.why_not(lines[0], 'random')}"
    points = " to ".join(dict.fromkeys(f"{round(gain, 1) + 0.0:+.1f}" for gain in (gains[0], gains[-1])))
    some = "" if len(gains) == len(lines) else f" on {len(gains)} of them"
    return f"{told}. It differs from them by {points} points{some}, and intervals overlap or are missing"


def above(report: Evaluation) -> list[str]:
    """The sentences above the table: the verdict, then warnings."""
    return [first(report), *(f"WARNING: {text}" for text in warnings(report))]


def warnings(report: Evaluation) -> list[str]:
    """Warnings about the scores: the probe's, lines below random images, tested training images, untested classes."""
    ours = [line for line in summary.lines(report) if "distilled" in line.scores]
    said = [] if report.probe is None or not report.probe.bad else [f"{report.probe.verdict}: {report.probe.sentence}."]
    for line in _lost([line for line in ours if "random" in line.scores]):
        said.append(f"{line.arch} {line.protocol}: {summary.distance(line.over['random'].mean)} random real images.")
    said += [*summary.copied(report.rows, above=FEW_COPIES), *summary.drawn_anew(report.rows)]
    for test_set in dict.fromkeys(line.test_set for line in ours):
        if (found := LACKING.search(test_set)) is not None:
            said.append(f"The test images have {found[1]} of {found[2]} classes: the others are not tested.")
    return said


def of_set(record: Manifest, report: Evaluation) -> list[str]:
    """Reasons to doubt a set, from its manifest and its scores."""
    classes = len(record.classes)
    scores = [score for score in report.summary if score.data == "distilled"]
    told = [
        f"{score.arch} {score.protocol} learned next to nothing from the set: it reaches"
        f" {doubts.guessing(score.mean, classes)}."
        for score in scores
        if doubts.near_chance(score.mean, classes)
    ]
    return [*doubts.of_set(record), *told]


def warn_of(record: Manifest, report: Evaluation) -> None:
    """Warn of the reasons to doubt a set."""
    for text in of_set(record, report):
        warn(f"WARNING: {report.set}: {text}")


def warn_of_all(sets: Sequence[SetRows], document: Report) -> None:
    """Warn of the reasons to doubt the sets of a report. Sets of which only rows exist are skipped."""
    places = {each.label: each.place for each in sets}
    for report in document.sets:
        if (place := places[report.set]) is not None:
            warn_of(manifest.read(place.folder), report)


def _lost(lines: Sequence[Line]) -> list[Line]:
    """The lines on which random real images are clearly better, or better in the only comparison."""
    found = []
    for line in lines:
        entry = line.over.get("random")
        if entry is not None and entry.mean < 0 and (entry.differs or entry.n == 1):
            found.append(line)
    return found


def _names(lines: Sequence[Line]) -> str:
    return listed(list(dict.fromkeys(line.arch for line in lines)), 5)
