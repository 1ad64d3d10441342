"""Charts of accuracy with intervals, and of accuracy against cost; as PNG, and as SVG for a page.

The same report gives the same bytes (with one version of matplotlib). The colours are Okabe and Ito's, which
colour-blind people can distinguish. Every series also has its own marker.
"""

import contextlib
import io
import math
import re
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddhub.base import files, links
from ddhub.reports.documents import Evaluation, Score
from ddhub.reports.escaping import oneline
from ddhub.reports.summary import DATA, Line, lines

COLOURS = (
    *("#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#8A8A8A"),
    *("#6A3D9A", "#B15928", "#882255", "#222223", "#009E73"),
)  # the keys of DATA
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
INK = "#222223"  # replaced by the text colour in a page
SHOWN = ("distilled", "random", "full")  # data shown with intervals
MOST_PANELS, MOST_ARCHS = 8, 100  # limits of a picture; the table shows all
MARGIN = 1.6  # of a logarithmic axis beyond its points
LONGEST = 96  # most characters of a name
STYLE = {
    **{"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False, "svg.fonttype": "none"},
    **{"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.titlesize": 10},
    **{"axes.grid": True, "grid.color": INK, "grid.alpha": 0.15, "grid.linewidth": 0.8, "legend.frameon": False},
}


Point = Score | tuple[float, float]  # an accuracy with its interval, or a pair of cost and accuracy


@dataclass(frozen=True)
class Series:
    """One colour of a chart: its name, and a value per architecture."""

    title: str
    colour: str
    points: Mapping[str, Point]


@dataclass(frozen=True)
class Cost:
    """The horizontal axis of a cost chart."""

    key: str  # the key in a row
    axis: str
    unit: str = ""
    least: float = 1.0  # smallest value shown on the logarithmic axis


COSTS = (
    Cost("seconds", "seconds of one training", least=0.01),
    Cost("flops", "FLOPs of one training", "FLOP"),
    Cost("train_bytes", "bytes of the training data", "B"),
)


@dataclass(frozen=True)
class Panel:
    """One chart: a protocol on a test set."""

    title: str
    archs: list[str]
    series: list[Series]
    cost: Cost = COSTS[0]
    span: tuple[float, float] = (0.0, 100.0)  # range of accuracy in per cent, shared by all panels
    marks: Mapping[str, str] = field(default_factory=dict)  # marker of each architecture, the same in all panels


def accuracy_panels(report: Evaluation) -> list[Panel]:
    """Per protocol and test set: the scores of distilled, random and full data, by architecture."""

    def entry(line: Line, data: str) -> Score | None:
        found = line.scores.get(data, [])
        return found[0] if len(found) == 1 else None  # several scores are shown only in the table

    return on_one_axis(_panels(report, SHOWN, entry)[:MOST_PANELS])


def cost_panels(report: Evaluation) -> list[Panel]:
    """Per protocol and test set: mean cost and accuracy by architecture, for all data, with a panel for each of COSTS.

    Costs other than seconds get no panel if they are equal for all.
    """
    found = [
        [replace(panel, cost=cost) for panel in _panels(report, tuple(DATA), _point(report, cost))] for cost in COSTS
    ]
    told = [panel for each in found for panel in each if panel.cost is COSTS[0] or len(_spent(panel)) > 1]
    archs = dict.fromkeys(arch for panel in told for arch in panel.archs)
    marks = {arch: MARKERS[number % len(MARKERS)] for number, arch in enumerate(archs)}
    told = [replace(panel, marks=marks) for panel in told]
    order = {title: number for number, title in enumerate(dict.fromkeys(panel.title for panel in told))}
    return on_one_axis(sorted(told, key=lambda panel: order[panel.title])[:MOST_PANELS])


def _point(report: Evaluation, cost: Cost) -> Callable[[Line, str], Point | None]:
    """A function that gives mean cost and accuracy of a line's data, or None."""
    spent: dict[tuple[str, ...], list[float]] = {}
    for row in report.rows:
        value = getattr(row, cost.key)
        if value is not None:
            key = (row.arch, row.protocol_title, row.test_set, row.data)
            spent.setdefault(key, []).append(float(value))

    def point(line: Line, data: str) -> Point | None:
        entries = line.scores.get(data, [])
        if len(entries) != 1:
            return None
        values = spent.get((line.arch, entries[0].protocol, line.test_set, data))
        if not values:
            return None
        return max(sum(values) / len(values), cost.least), entries[0].mean

    return point


def _costs(panel: Panel) -> Iterator[tuple[Series, str, tuple[float, float]]]:
    """Series, architecture, and (cost, accuracy) of each point in a cost panel."""
    for series in panel.series:
        for arch, point in series.points.items():
            assert isinstance(point, tuple)
            yield series, arch, point


def _spent(panel: Panel) -> set[float]:
    """The costs in a panel."""
    return {cost for _, _, (cost, _) in _costs(panel)}


def on_one_axis(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with one axis of accuracy that just spans all of them."""
    ends = [
        100 * end
        for panel in panels
        for series in panel.series
        for point in series.points.values()
        for end in _ends(point)
    ]
    if not ends:
        return []
    low, high = max(min(ends), 0.0), min(max(ends), 100.0)
    pad = max(1.0, 0.04 * (high - low))
    return [replace(panel, span=(low - pad, high + pad)) for panel in panels]


def _ends(point: Point) -> tuple[float, ...]:
    """The values that an axis must include: mean and interval, or the accuracy of a cost pair."""
    return (point.mean, *(point.ci95 or ())) if isinstance(point, Score) else (point[1],)


def _panels(report: Evaluation, kinds: Sequence[str], value: Callable[[Line, str], Point | None]) -> list[Panel]:
    every = lines(report)
    several = len({line.test_set for line in every}) > 1
    found = []
    for protocol, test_set in dict.fromkeys((line.protocol, line.test_set) for line in every):
        here = [line for line in every if (line.protocol, line.test_set) == (protocol, test_set)]
        more = f" ({MOST_ARCHS} of {len(here)} architectures)" if len(here) > MOST_ARCHS else ""
        here = here[:MOST_ARCHS]
        series = []
        for data, colour in zip(DATA, COLOURS, strict=True):
            each = ((line.arch, value(line, data)) for line in here if data in kinds)
            points = {arch: point for arch, point in each if point is not None}
            series += [Series(DATA[data], colour, points)] if points else []
        name = "full data" if protocol == "-" else f"protocol {protocol}"
        archs = [line.arch for line in here if any(line.arch in one.points for one in series)]
        found += [Panel(name + (f", {test_set}" if several else "") + more, archs, series)] if series else []
    return found


def save(report: Evaluation, folder: Path) -> list[str]:
    """Write accuracy.png and cost.png of a report into `folder`, or remove empty ones. Return the written names."""
    written = []
    for name, (draw, panels) in charts(report).items():
        path = folder / f"{name}.png"
        if panels:
            files.write_bytes(path, png(draw, panels))
            written.append(path.name)
        else:
            links.refuse_led_out(path)
            path.unlink(missing_ok=True)
    return written


def charts(report: Evaluation) -> dict[str, tuple[Callable[..., None], list[Panel]]]:
    """The drawing function and panels of each chart of a report. An empty chart has no panels."""
    return {"accuracy": (draw_accuracy, accuracy_panels(report)), "cost": (draw_cost, cost_panels(report))}


def draw_accuracy(axes: Any, panel: Panel) -> None:
    """Draw a dot and its 95% interval per architecture and series, without interval if n is 1."""
    step = 0.7 / len(panel.series)
    for number, series in enumerate(panel.series):
        shift = (number - (len(panel.series) - 1) / 2) * step
        for arch, entry in series.points.items():
            assert isinstance(entry, Score)
            middle = 100 * entry.mean
            low, high = (100 * bound for bound in entry.ci95 or (entry.mean, entry.mean))
            y = panel.archs.index(arch) + shift
            axes.plot([max(low, 0), min(high, 100)], [y, y], color=series.colour, linewidth=2)
            axes.plot([middle], [y], MARKERS[number % len(MARKERS)], color=series.colour, markersize=6)
    axes.set_xlim(*panel.span)
    axes.set_ylim(len(panel.archs) - 0.5, -0.5)
    axes.set_yticks(range(len(panel.archs)), [label_of(arch) for arch in panel.archs])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("test accuracy in per cent, 95% interval")


def draw_cost(axes: Any, panel: Panel) -> None:
    """Draw points: the colour shows the data, the marker the architecture."""
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

    for series, arch, (spent, top1) in _costs(panel):
        axes.plot([spent], [100 * top1], panel.marks[arch], color=series.colour, markersize=7, alpha=0.9)
    least, most = min(_spent(panel)), max(_spent(panel))
    axes.set_xscale("log")
    axes.set_xlim(least / MARGIN, most * MARGIN)
    axes.set_ylim(*panel.span)
    axes.xaxis.set_major_locator(FixedLocator(ticks(least / MARGIN, most * MARGIN)))
    axes.xaxis.set_minor_locator(NullLocator())
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(EngFormatter(panel.cost.unit) if panel.cost.unit else plain)
    axes.set_xlabel(panel.cost.axis)
    axes.set_ylabel("test accuracy in per cent")


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two positive ones, for a logarithmic axis; fewer where there are none."""
    decades = [10.0**power for power in range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)]
    found: list[float] = []
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)):
        found = [decade * step for decade in decades for step in steps if low <= decade * step <= high]
        if len(found) >= 3:
            break
    return found[:: math.ceil(len(found) / 7)] if found else []


def label_of(text: str) -> str:
    """A stranger's name as a label. matplotlib would hide one that opens with an underscore."""
    shown = oneline(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")
    return f" {shown}" if shown.startswith("_") else shown


def _legend(panels: Sequence[Panel], by_arch: bool) -> dict[str, tuple[str, str]]:
    """Colour and marker of every series and, if markers show architectures, of these in the colour of ink."""
    found: dict[str, tuple[str, str]] = {}
    for panel in panels:
        for number, series in enumerate(panel.series):
            mark = "o" if by_arch else MARKERS[number % len(MARKERS)]
            found.setdefault(label_of(series.title), (series.colour, mark))
    for panel in panels if by_arch else ():
        for arch in panel.archs:
            found.setdefault(label_of(arch), (INK, panel.marks[arch]))
    return found


def _figure(draw: Callable[..., None], panels: Sequence[Panel], across: int) -> Any:
    """A figure of panels, `across` per row, to be called within the chart style."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    by_arch = draw is draw_cost
    columns = min(across, len(panels))
    rows = -(-len(panels) // columns)
    names = max(len(label_of(arch)) for panel in panels for arch in panel.archs)
    most = max(len(panel.archs) * len(panel.series) for panel in panels)
    legend = _legend(panels, by_arch)
    # In inches, for text of 10 points. The legend below the panels takes as many lines as it needs.
    each = 4.6 if by_arch else max(4.6, 3.4 + 0.075 * names)
    width = columns * each
    letters = int((each - (0.7 if by_arch else 0.3 + 0.08 * names)) / 0.085)  # of a title above its axes
    titles = ["\n".join(textwrap.wrap(label_of(panel.title), max(20, letters))) for panel in panels]
    more = max(title.count("\n") for title in titles)
    side_by_side = max(1, int(width / (0.5 + 0.09 * max(map(len, legend)))))
    below = 0.25 + 0.22 * -(-len(legend) // side_by_side)
    height = rows * ((3.0 if by_arch else 1.1 + 0.2 * most) + 0.17 * more) + below
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, panel, title in zip(grid, panels, titles, strict=False):
        draw(axes, panel)
        axes.set_title(title, loc="left")
    for axes in grid[len(panels) :]:
        axes.remove()
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=title) for title, (c, m) in legend.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=side_by_side)
    return figure


_turn = threading.RLock()  # matplotlib's settings and warnings are those of the whole process


@contextlib.contextmanager
def styled(**more: Any) -> Iterator[None]:
    """Draw in ddhub's style, with more settings of matplotlib. Threads take turns.

    Warnings about letters that the font lacks are ignored. The table has every name.
    """
    import matplotlib.style

    with _turn, matplotlib.style.context(["default", STYLE, more]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield


def png(draw: Callable[..., None], panels: Sequence[Panel]) -> bytes:
    """Panels as one PNG, two per row."""
    file = io.BytesIO()
    with styled():
        figure = _figure(draw, panels, 2)
        figure.savefig(file, format="png", facecolor="white", metadata={"Software": None})
    return file.getvalue()


def svg(draw: Callable[..., None], panel: Panel, salt: str) -> str:
    """A panel as SVG for a page: without inline styles, with ids made unique by `salt`, and ink in the text colour."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with styled(**{"svg.hashsalt": salt}):
        _figure(draw, [panel], 1).savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z.\d]+_\d+"', "", text)  # ids such as figure_1, which nothing refers to
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" {XLINK}>', text, count=1)
    return re.sub(r'(<[^>]*?) style="([^"]*)"', _attributes, text).strip()


XLINK = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" stroke-linejoin="round"'


def _attributes(found: re.Match[str]) -> str:
    """A `style` as attributes, because the page forbids inline styles. The page sets fonts."""
    pairs = [part.partition(":") for part in found[2].split(";") if part.strip()]
    kept = [(name.strip(), value.strip()) for name, _, value in pairs if not name.strip().startswith("font")]
    # Names can hold anything, but styles come from matplotlib. Quotes cannot leave an attribute here.
    return found[1] + "".join(f' {name}="{value}"' for name, value in kept)
