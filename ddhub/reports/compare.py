"""Comparison of several sets: equal protocols and tests, differences between two sets, and warnings."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from ddhub.evaluation.probe.outcome import Outcome
from ddhub.evaluation.rows import Row
from ddhub.reports import headlines, stats, summary
from ddhub.reports import tables as printing
from ddhub.reports.charts import COLOURS, Panel, Series, on_one_axis
from ddhub.reports.documents import Difference, Evaluation, Report
from ddhub.reports.summary import Line
from ddhub.reports.tables import Table, TableCell, accuracy, difference, over, share

FORMAT = 1
NOTES = (summary.FEW, summary.NOTE)  # notes that are printed once
Key = tuple[str, str, str]  # architecture, protocol, test set
PAIRS = (
    "Differences between two sets are paired by seed. Each interval stands alone: there is no correction for their "
    "number."
)


def build(sets: Sequence[tuple[str, Sequence[Row]]], probes: Mapping[str, Outcome | None] | None = None) -> Report:
    """The document of `ddhub report --json`: the report of each set, differences of each pair, and warnings.

    Sets are ordered by the number of their training images, and otherwise as given.

    Args:
        sets: the label of each set, and its rows.
        probes: the outcome of a probe, by the label of its set.
    """
    ordered = sorted(sets, key=lambda each: _images(each[1]))
    found = [summary.with_probe(summary.build(name, rows), (probes or {}).get(name)) for name, rows in ordered]
    differences = [each for a, b in itertools.combinations(found, 2) for each in _differences(a, b)]
    return Report(format=FORMAT, sets=found, differences=differences, warnings=list(_warnings(found)))


def _images(rows: Sequence[Row]) -> float:
    """The largest number of training images of a set's own rows; infinite if they do not record it."""
    counts = (row.train_images for row in rows if row.data == "distilled")
    return max((count for count in counts if count is not None), default=math.inf)


def _differences(a: Evaluation, b: Evaluation) -> Iterator[Difference]:
    """The differences of `a` from `b`, paired by seed, wherever both were tested on the same images."""
    both = _clear(a) + _clear(b)
    places: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in both:
        places.setdefault((row.arch, row.protocol_title, row.test_set, row.test), []).append(row)
    for here in places.values():
        alike = len({repr(sorted(_settings(row).items())) for row in here}) == 1
        for each in stats.compare(here, a=a.set, b=b.set):
            yield each.model_copy(update={"same_settings": alike})


def _clear(report: Evaluation) -> list[Row]:
    """A set's own rows, without names that stand for several settings."""
    single = {
        (line.arch, line.protocol, line.test_set)
        for line in summary.lines(report)
        if len(line.scores.get("distilled", [])) == 1
    }
    return [
        row.model_copy(update={"data": report.set})
        for row in _own(report)
        if (row.arch, row.protocol_title, row.test_set) in single
    ]


def _own(report: Evaluation) -> list[Row]:
    return [row for row in report.rows if row.data == "distilled"]


def _settings(row: Row) -> dict[str, str]:
    """The training settings of a row, with its protocol's version and its precision, as text."""
    settings = {"version": row.protocol_version, **row.settings, "precision": row.precision}
    return {key: str(value) for key, value in settings.items()}


def _warnings(found: Sequence[Evaluation]) -> Iterator[str]:
    """Reasons why sets, or lines of them, cannot be compared."""
    tests = {report.set: _tests(report) for report in found}
    if len(set(map(frozenset, tests.values()))) > 1:
        told = "; ".join(f"{name} on {', '.join(map(_named, sorted(those)))}" for name, those in tests.items())
        yield f"not tested on the same images: {told}. Lines with different test images are not comparable."
    for protocol in dict.fromkeys(row.protocol_title for report in found for row in _own(report)):
        known = {report.set: _values(report, protocol) for report in found}
        known = {name: values for name, values in known.items() if values}
        keys = dict.fromkeys(key for values in known.values() for key in values)
        unlike = [key for key in keys if len({frozenset(values.get(key, {"-"})) for values in known.values()}) > 1]
        if unlike:
            told = "; ".join(f"{key} {_each({name: v.get(key, {'-'}) for name, v in known.items()})}" for key in unlike)
            yield f"protocol {protocol} is not the same for all: {told}. The protocol may cause differences."
    sizes = {report.set: _sizes(report) for report in found if _sizes(report)}
    if len(set(map(frozenset, sizes.values()))) > 1:
        yield f"different numbers of training images: {_each(sizes)}."


def _each(values: dict[str, set[str]]) -> str:
    """`100 (a), 1000 (b)`."""
    return ", ".join(f"{' or '.join(sorted(those))} ({name})" for name, those in values.items())


def _tests(report: Evaluation) -> set[tuple[str, str]]:
    return {(row.test_set, row.test) for row in _own(report)}


def _named(test: tuple[str, str]) -> str:
    return f"{test[0]} ({test[1].removeprefix('sha256:')[:12]})"


def _sizes(report: Evaluation) -> set[str]:
    return {str(row.train_images) for row in _own(report) if row.train_images is not None}


def _values(report: Evaluation, protocol: str) -> dict[str, set[str]]:
    """The values of every setting in the rows of a protocol."""
    found: dict[str, set[str]] = {}
    for row in _own(report):
        for key, value in _settings(row).items() if row.protocol_title == protocol else ():
            found.setdefault(key, set()).add(value)
    return found


def tables(document: Report) -> list[Table]:
    """Accuracy with a column per set, the gain over random, the share of full data, and the difference of each pair."""
    keys, lines = _lines(document.sets)
    several = len({test for _, _, test in keys}) > 1
    lead = ["architecture", "protocol", *(["test set"] if several else [])]

    def table(title: str, cell: Callable[[Line], TableCell]) -> Table:
        cells = {key: [cell(line) if line else TableCell() for line in lines[key]] for key in keys}
        told = [key for key in keys if any(each.text != "-" for each in cells[key])]
        names = [report.set for report in document.sets]
        shown = [at for at in range(len(names)) if any(cells[key][at].text != "-" for key in told)]
        body = [[*_lead(key, several), *(cells[key][at] for at in shown)] for key in told]
        return Table(title, [*lead, *(names[at] for at in shown)], len(lead), body)

    found = [
        table("test accuracy in per cent, mean ± standard deviation", _accuracy),
        table("over random real images, in points, with 95% intervals", over),
        table("share of full data, with 95% intervals", lambda line: share(line.share)),
        *_pairs(document.differences, several, lead),
    ]
    return [each for each in found if each.lines]


def panels(document: Report) -> list[Panel]:
    """Per protocol and test set, the accuracy of every set by architecture."""
    names = [report.set for report in document.sets]
    keys, lines = _lines(document.sets)
    several = len({test for _, _, test in keys}) > 1
    found = []
    for protocol, test in dict.fromkeys(key[1:] for key in keys):
        here = [key for key in keys if key[1:] == (protocol, test)]
        series = []
        for number, name in enumerate(names):
            entries = {key[0]: line.scores["distilled"][0] for key in here if (line := lines[key][number])}
            series += [Series(name, COLOURS[number % len(COLOURS)], entries)] if entries else []
        found.append(Panel(f"protocol {protocol}{f', {test}' if several else ''}", [key[0] for key in here], series))
    return on_one_axis(found)


def _lines(found: Sequence[Evaluation]) -> tuple[list[Key], dict[Key, list[Line | None]]]:
    """Every line of any set, with each set's entry. Different test images with one name get separate lines."""
    marks = {test for report in found for test in _tests(report)}
    twice = {name for name, _ in marks if sum(other == name for other, _ in marks) > 1}
    every: list[dict[Key, Line]] = []
    for report in found:
        names = {test[0]: _named(test) if test[0] in twice else test[0] for test in sorted(_tests(report))}
        ours = [line for line in summary.lines(report) if "distilled" in line.scores]
        every.append({(line.arch, line.protocol, names[line.test_set]): line for line in ours})
    keys = sorted({key for lines in every for key in lines})
    return keys, {key: [lines.get(key) for lines in every] for key in keys}


def _lead(key: Key, several: bool) -> list[TableCell]:
    return [TableCell(text) for text in (key if several else key[:2])]


def _accuracy(line: Line) -> TableCell:
    entries = line.scores["distilled"]
    return TableCell(" / ".join(map(accuracy, entries)), entries[0].mean)


def _pairs(differences: Sequence[Difference], several: bool, lead: Sequence[str]) -> list[Table]:
    """A table per pair of sets, with their difference line by line."""
    verdicts = {True: "yes", False: "not shown", None: "no interval"}
    heads = [*lead, "points", "n", "they differ"]
    found: dict[tuple[str, str], list[list[TableCell]]] = {}
    for entry in differences:
        names = _lead((entry.arch, entry.protocol, entry.test_set), several)
        verdict = verdicts[entry.differs] + ("" if entry.same_settings else ", other protocol")
        told = [TableCell(difference(entry), entry.mean), TableCell(str(entry.n), entry.n), TableCell(verdict)]
        found.setdefault((entry.a, entry.b), []).append([*names, *told])
    title = "how {} differs from {}: in points, paired by seed, with 95% intervals"
    return [Table(title.format(*pair), heads, len(lead), lines) for pair, lines in found.items()]


def sentences(document: Report) -> list[str]:
    """Warnings, followed by the sentences of each set with its name."""
    said = [f"Warning: {text}" for text in document.warnings]
    every = [text for report in document.sets for text in _named_sentences(report)]
    notes = [text for text in NOTES if any(text in summary.sentences(report) for report in document.sets)]
    return [*said, *every, *notes, *([PAIRS] if document.differences else [])]


def _named_sentences(report: Evaluation) -> list[str]:
    return [f"{report.set}: {text}" for text in summary.sentences(report) if text not in NOTES]


def show(document: Report) -> None:
    """Print a document for people. A single set is shown by its own report."""
    if len(document.sets) == 1:
        (report,) = document.sets
        printing.show(
            [printing.of_report(report, brief=True)], summary.sentences(report), first=headlines.above(report)
        )
    else:
        told = [f"{report.set}: {text}" for report in document.sets for text in headlines.above(report)]
        printing.show(tables(document), sentences(document), first=told)
