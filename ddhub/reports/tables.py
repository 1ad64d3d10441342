"""Tables for people: in the terminal, as Markdown, for the HTML page. No number or name is cut."""

import html
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ddhub.reports import summary
from ddhub.reports.documents import Difference, Evaluation, Moments, Recovery, Score
from ddhub.reports.escaping import oneline, plain
from ddhub.reports.summary import DATA, REAL, Line

FOLDS = (10_000, 40, 24, 16)  # widths at which names are broken
WIDTH = 110  # width of output into a pipe


@dataclass(frozen=True)
class TableCell:
    """The text of a cell, and its sort key."""

    text: str = "-"
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A title, lines, and columns, of which the first `lead` identify the line."""

    title: str
    heads: list[str]
    lead: int
    lines: list[list[TableCell]]


def of_report(report: Evaluation, *, brief: bool = False) -> Table:
    """One line per architecture, protocol and test set, without empty columns.

    Args:
        brief: show n once, in the title, if it is the same everywhere.
    """
    found = summary.lines(report)
    counts = {score.n for score in report.summary}
    once = brief and len(counts) == 1
    several = len({line.test_set for line in found}) > 1
    heads = ["architecture", "protocol", *(["test set"] if several else [])]
    columns: list[tuple[str, list[TableCell]]] = []
    for data, title in DATA.items():
        columns.append((title, [_accuracies(line, data, once) for line in found]))
        columns.append((f"{title}, corrupted", [_corrupted(line, data) for line in found]))
        if data in REAL[:1]:
            columns.append(("over random", [over(line) for line in found]))
            columns.append(("intervals", [_apart(line) for line in found]))
    columns.append(("share of full", [share(line.share) for line in found]))
    told = [(title, cells) for title, cells in columns if any(cell.text != "-" for cell in cells)]
    named = [[line.arch, line.protocol, *([line.test_set] if several else [])] for line in found]
    lines = [[*map(TableCell, names), *(cells[row] for _, cells in told)] for row, names in enumerate(named)]
    number = f", n={min(counts)}" if once else ""
    title = f"{report.set}: test accuracy in per cent, mean ± standard deviation{number}"
    return Table(title, [*heads, *(title for title, _ in told)], len(heads), lines)


def accuracy(entry: Score | Moments, bare: bool = False) -> str:
    """`48.5 ± 0.4 (n=5)` in per cent, without spread if n is 1, and without n if `bare`."""
    number = f" (n={entry.n})"
    spread = "" if entry.std is None else f" ± {100 * entry.std:.1f}"
    return f"{100 * entry.mean:.1f}{spread}{'' if bare else number}"


def difference(entry: Difference) -> str:
    """`+5.0 (+2.5 to +7.5) ≠ 0` in points. `≠ 0` means that the interval excludes zero."""
    if entry.ci95 is None:
        return f"{100 * entry.mean:+.1f}"
    low, high = (100 * bound for bound in entry.ci95)
    return f"{100 * entry.mean:+.1f} ({low:+.1f} to {high:+.1f}){' ≠ 0' if entry.differs else ''}"


def _accuracies(line: Line, data: str, bare: bool) -> TableCell:
    """The accuracies of a cell. Rows with different settings but one name are listed, never averaged.

    Full data has its own protocol. Changes of that are named: `full epochs=5: 70.2 ± 0.4`.
    """
    entries = line.scores.get(data, [])
    told = [_kind(entry) + accuracy(entry, bare) for entry in entries]
    return TableCell(" / ".join(told), entries[0].mean) if entries else TableCell()


def _kind(entry: Score) -> str:
    """What a cell says before an accuracy: changes of full data's protocol, and the precision where several are."""
    changed = [entry.protocol] if entry.data == "full" and " " in entry.protocol else []
    told = [*changed, *([entry.precision] if entry.precision else [])]
    return f"{', '.join(told)}: " if told else ""


def _corrupted(line: Line, data: str) -> TableCell:
    """The accuracies on corrupted images, if rows were tested on them, with n if it differs."""
    pairs = [(score, score.corrupted) for score in line.scores.get(data, []) if score.corrupted is not None]
    told = [accuracy(corrupted, corrupted.n == score.n) for score, corrupted in pairs]
    return TableCell(" / ".join(told), pairs[0][1].mean) if pairs else TableCell()


def over(line: Line) -> TableCell:
    """The lead over random real images, in points."""
    entry = line.over.get("random")
    return TableCell() if entry is None else TableCell(difference(entry), entry.mean)


def _apart(line: Line) -> TableCell:
    disjoint = line.over["random"].disjoint if "random" in line.over else None
    return TableCell() if disjoint is None else TableCell("disjoint" if disjoint else "overlap")


def share(entry: Recovery | None) -> TableCell:
    """`99.1% (98.0 to 100.2)` of the accuracy of full data."""
    if entry is None:
        return TableCell()
    bounds = entry.ci95
    sure = "" if bounds is None else f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})"
    return TableCell(f"{100 * entry.share:.1f}%{sure}", entry.share)


def texts(report: Evaluation) -> list[str]:
    """The table as lines of text: `convnet native: distilled 90.2 ± 2.0 (n=5), random real 76.8 ± 8.4 (n=5), ...`."""
    table = of_report(report)
    found = []
    for line in table.lines:
        cells = zip(table.heads[table.lead :], line[table.lead :], strict=True)
        told = ", ".join(f"{head} {cell.text}" for head, cell in cells if cell.text != "-")
        found.append(oneline(f"{' '.join(cell.text for cell in line[: table.lead])}: {told}"))
    return found


def results(report: Evaluation) -> str:
    """The card's results as Markdown: the table and its sentences."""
    return "\n".join([markdown(of_report(report)), "", *(f"- {plain(text)}" for text in summary.sentences(report))])


def markdown(table: Table) -> str:
    """A table as Markdown, without its title."""
    marks = " --- |" * table.lead + " ---: |" * (len(table.heads) - table.lead)
    head = ["| " + " | ".join(map(plain, table.heads)) + " |", "|" + marks]
    return "\n".join(head + ["| " + " | ".join(plain(cell.text) for cell in line) + " |" for line in table.lines])


def html_table(table: Table) -> str:
    """A table as HTML with its title above."""

    def line(tag: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(oneline(text))}</{tag}>" for text in texts) + "</tr>"

    body = "".join(line("td", [cell.text for cell in each]) for each in table.lines)
    caption = f"<caption>{html.escape(oneline(table.title))}</caption>"
    return f"<table>{caption}<thead>{line('th', table.heads)}</thead><tbody>{body}</tbody></table>"


def parts(table: Table, width: int) -> list[list[int]]:
    """The columns of each printed table, where a wide table is printed as several of at most `width`.

    Each part repeats the columns that identify lines. A part that is too wide even so is not cut.
    """
    from rich.cells import cell_len

    texts = [[head, *(line[at].text for line in table.lines)] for at, head in enumerate(table.heads)]
    # Plus two spaces and a border.
    widths = [max(cell_len(oneline(part)) for text in column for part in text.split("\n")) + 3 for column in texts]
    lead = list(range(table.lead))
    found: list[list[int]] = [[]]
    for column in range(table.lead, len(widths)):
        if found[-1] and 1 + sum(widths[at] for at in [*lead, *found[-1], column]) > width:
            found.append([])
        found[-1].append(column)
    return [lead + part for part in found]


def folded(table: Table, width: int) -> Table:
    """A table on one line per cell; where it is wider, the names that identify a line are broken between words.

    Of FOLDS the widest is taken with which the table is printed as the fewest parts.
    """
    whole = replace(table, lines=[[replace(cell, text=oneline(cell.text)) for cell in line] for line in table.lines])
    return min((_fold(whole, most) for most in FOLDS), key=lambda each: len(parts(each, width)))


def _fold(table: Table, most: int) -> Table:
    def fold(cell: TableCell) -> TableCell:
        lines = textwrap.wrap(cell.text, most, break_long_words=False, break_on_hyphens=False)
        return replace(cell, text="\n".join(lines))

    return replace(table, lines=[[*map(fold, line[: table.lead]), *line[table.lead :]] for line in table.lines])


def show(
    tables: Sequence[Table], sentences: Sequence[str] = (), *, first: Sequence[str] = (), stderr: bool = False
) -> None:
    """Print tables and sentences for people.

    Args:
        first: highlighted sentences above the tables.
        sentences: notes below the tables.
    """
    from rich import table as rich_table
    from rich.console import Console

    # Names come from strangers, so markup and emoji are off.
    terminal = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    told = terminal.is_terminal or os.environ.get("COLUMNS", "").isdigit()  # rich uses COLUMNS
    width = terminal.width if told else WIDTH
    for text in first:
        terminal.print(oneline(text), style="bold", soft_wrap=True)
    for table in (folded(each, width) for each in tables):
        terminal.print(oneline(table.title), soft_wrap=True)
        for columns in parts(table, width):
            shown = rich_table.Table()
            for at in columns:
                shown.add_column(oneline(table.heads[at]), justify="left" if at < table.lead else "right", no_wrap=True)
            for line in table.lines:
                shown.add_row(*(line[at].text for at in columns))
            # At full width: a terminal wraps it, and nothing is cut.
            whole = max(width, terminal.measure(shown, options=terminal.options.update(width=10_000)).maximum)
            Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=whole).print(shown)
    for text in sentences:
        lines = textwrap.wrap(oneline(text), width, break_long_words=False, break_on_hyphens=False)
        terminal.print("\n".join(lines), soft_wrap=True)
