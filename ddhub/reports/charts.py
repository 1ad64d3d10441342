"""Pictures: a set's images, accuracy with its intervals, accuracy against cost; as PNG, and as SVG for a page.

The same report gives the same bytes (with one version of matplotlib). Colours are Okabe and Ito's, which the
colour-blind tell apart; every series has a marker of its own too.
"""

import contextlib
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddhub.base import files
from ddhub.reports import stats
from ddhub.reports.summary import DATA, Line, lines
from ddhub.reports.tables import oneline

if TYPE_CHECKING:
    from ddhub.artifact.folder import Artifact

COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#8A8A8A", "#6A3D9A", "#B15928", "#222223", "#009E73")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
INK = "#222223"  # in a page, the colour of its text
SHOWN = ("distilled", "random", "full")  # with intervals
MOST_PANELS, MOST_ARCHS = 8, 100  # of a picture, which could not be drawn at any size; the table has all
LONGEST = 96  # characters of a name
STYLE = {
    **{"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False, "svg.fonttype": "none"},
    **{"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.titlesize": 10},
    **{"axes.grid": True, "grid.color": INK, "grid.alpha": 0.15, "grid.linewidth": 0.8, "legend.frameon": False},
}


@dataclass(frozen=True)
class Series:
    """One colour of a chart: what it is, and a value per architecture."""

    title: str
    colour: str
    points: dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One chart: a protocol on a test set."""

    title: str
    archs: list[str]
    series: list[Series]


def accuracy_panels(report: dict[str, Any]) -> list[Panel]:
    """Per protocol and test set: the summary's entries of distilled, random and full data, by architecture."""

    def entry(line: Line, data: str) -> Any:
        found = line.cells.get(data, [])
        return found[0] if len(found) == 1 else None  # several under one name: in the table alone

    return _panels(report, SHOWN, entry)


def cost_panels(report: dict[str, Any]) -> list[Panel]:
    """Per protocol and test set: (seconds of one training, accuracy), both means, by architecture; all data."""
    seconds: dict[tuple[str, ...], list[float]] = {}
    for row in report["rows"]:
        if isinstance(row.get("seconds"), int | float):
            key = (row["arch"], stats.protocol_of(row), row["test_set"], row["data"])
            seconds.setdefault(key, []).append(float(row["seconds"]))

    def point(line: Line, data: str) -> Any:
        found = line.cells.get(data, [])
        spent = seconds.get((line.arch, "full" if data == "full" else line.protocol, line.test_set, data))
        return (max(sum(spent) / len(spent), 0.01), found[0]["mean"]) if spent and len(found) == 1 else None

    return _panels(report, tuple(DATA), point)


def _panels(report: dict[str, Any], kinds: Sequence[str], value: Callable[[Line, str], Any]) -> list[Panel]:
    every = lines(report)
    several = len({line.test_set for line in every}) > 1
    found = []
    for protocol, test_set in dict.fromkeys((line.protocol, line.test_set) for line in every):
        here = [line for line in every if (line.protocol, line.test_set) == (protocol, test_set)]
        more = f" ({MOST_ARCHS} of {len(here)} architectures)" if len(here) > MOST_ARCHS else ""
        here = here[:MOST_ARCHS]
        series = []
        for data, colour in zip(DATA, COLOURS, strict=True):
            points = {line.arch: value(line, data) for line in here} if data in kinds else {}
            points = {arch: point for arch, point in points.items() if point is not None}
            series += [Series(DATA[data], colour, points)] if points else []
        name = "full data" if protocol == "-" else f"protocol {protocol}"
        archs = [line.arch for line in here if any(line.arch in each.points for each in series)]
        found += [Panel(name + (f", {test_set}" if several else "") + more, archs, series)] if series else []
    return found[:MOST_PANELS]


def save(report: dict[str, Any], folder: Path) -> list[str]:
    """Write accuracy.png and cost.png of a report into `folder`, or remove those that say nothing; their names."""
    written = []
    for name, (draw, panels) in charts(report).items():
        path = folder / f"{name}.png"
        if panels:
            files.write_bytes(path, png(draw, panels))
            written.append(path.name)
        else:
            files.refuse_led_out(path)
            path.unlink(missing_ok=True)
    return written


def charts(report: dict[str, Any]) -> dict[str, tuple[Callable[..., None], list[Panel]]]:
    """How each chart of a report is drawn, and what is in it; no panels where there is nothing to show."""
    return {"accuracy": (draw_accuracy, accuracy_panels(report)), "cost": (draw_cost, cost_panels(report))}


def draw_accuracy(axes: Any, panel: Panel) -> None:
    """A dot and its 95% interval per architecture and series; no interval where n is 1."""
    step = 0.7 / len(panel.series)
    ends = []
    for number, series in enumerate(panel.series):
        shift = (number - (len(panel.series) - 1) / 2) * step
        for arch, entry in series.points.items():
            middle = 100 * entry["mean"]
            low, high = (100 * bound for bound in entry["ci95"] or (entry["mean"], entry["mean"]))
            ends += [max(low, 0), min(high, 100), middle]
            y = panel.archs.index(arch) + shift
            axes.plot([max(low, 0), min(high, 100)], [y, y], color=series.colour, linewidth=2)
            axes.plot([middle], [y], MARKERS[number % len(MARKERS)], color=series.colour, markersize=6)
    pad = max(1.0, 0.04 * (max(ends) - min(ends)))
    axes.set_xlim(min(ends) - pad, max(ends) + pad)
    axes.set_ylim(len(panel.archs) - 0.5, -0.5)
    axes.set_yticks(range(len(panel.archs)), [_label(arch) for arch in panel.archs])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("test accuracy in per cent, 95% interval")


def draw_cost(axes: Any, panel: Panel) -> None:
    """Colour says what was trained on, the marker which architecture."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for series in panel.series:
        for arch, (seconds, top1) in series.points.items():
            mark = MARKERS[panel.archs.index(arch) % len(MARKERS)]
            axes.plot([seconds], [100 * top1], mark, color=series.colour, markersize=7, alpha=0.9)
    spent = [seconds for series in panel.series for seconds, _ in series.points.values()]
    axes.set_xscale("log")
    axes.set_xlim(min(spent) / 1.6, max(spent) * 1.6)
    many = max(spent) > 100 * min(spent)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if many else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds of one training")
    axes.set_ylabel("test accuracy in per cent")


def _label(text: str) -> str:
    """A name of a stranger's; matplotlib would hide one that opens with an underscore."""
    shown = oneline(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")
    return f" {shown}" if shown.startswith("_") else shown


def _legend(panels: Sequence[Panel], by_arch: bool) -> dict[str, tuple[str, str]]:
    """Colour and marker of every series, once, and, where markers say architectures, of those, in the colour of ink."""
    found: dict[str, tuple[str, str]] = {}
    for panel in panels:
        for number, series in enumerate(panel.series):
            mark = "o" if by_arch else MARKERS[number % len(MARKERS)]
            found.setdefault(_label(series.title), (series.colour, mark))
    for panel in panels if by_arch else ():
        for number, arch in enumerate(panel.archs):
            found.setdefault(_label(arch), (INK, MARKERS[number % len(MARKERS)]))
    return found


def _figure(draw: Callable[..., None], panels: Sequence[Panel], across: int) -> Any:
    """A figure of panels, `across` side by side; to be called in the style of the house."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    by_arch = draw is draw_cost
    columns = min(across, len(panels))
    rows = -(-len(panels) // columns)
    names = max(len(_label(arch)) for panel in panels for arch in panel.archs)
    most = max(len(panel.archs) * len(panel.series) for panel in panels)
    legend = _legend(panels, by_arch)
    # Inches, for text of 10 points; the legend takes as many lines as it needs below the panels.
    width = columns * (4.6 if by_arch else max(4.6, 3.4 + 0.075 * names))
    side_by_side = max(1, int(width / (0.5 + 0.09 * max(map(len, legend)))))
    below = 0.25 + 0.22 * -(-len(legend) // side_by_side)
    height = rows * (3.0 if by_arch else 1.1 + 0.2 * most) + below
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, panel in zip(grid, panels, strict=False):
        draw(axes, panel)
        axes.set_title("\n".join(textwrap.wrap(_label(panel.title), 52)), loc="left")
    for axes in grid[len(panels) :]:
        axes.remove()
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=title) for title, (c, m) in legend.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=side_by_side)
    return figure


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing of letters that the font lacks: the table has every name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield


def png(draw: Callable[..., None], panels: Sequence[Panel]) -> bytes:
    """Panels as one PNG, two side by side."""
    import matplotlib.style

    file = io.BytesIO()
    with matplotlib.style.context(["default", STYLE]), _quiet():
        figure = _figure(draw, panels, 2)
        figure.savefig(file, format="png", facecolor="white", metadata={"Software": None})
    return file.getvalue()


def svg(draw: Callable[..., None], panel: Panel, salt: str) -> str:
    """One panel as SVG to stand in a page: no inline style, ids of its own by `salt`, ink in the colour of the text."""
    import matplotlib.style

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.style.context(["default", STYLE, {"svg.hashsalt": salt}]), _quiet():
        _figure(draw, [panel], 1).savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z.\d]+_\d+"', "", text)  # figure_1, axes_2: nothing refers to them
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" {XLINK}>', text, count=1)
    return re.sub(r'(<[^>]*?) style="([^"]*)"', _attributes, text).strip()


XLINK = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" stroke-linejoin="round"'


def _attributes(found: re.Match[str]) -> str:
    """A `style` as attributes, because the page forbids inline styles; the page chooses fonts."""
    pairs = [part.partition(":") for part in found[2].split(";") if part.strip()]
    kept = [(name.strip(), value.strip()) for name, _, value in pairs if not name.strip().startswith("font")]
    # A name may hold anything, but a style is matplotlib's alone; quotes cannot come out of an attribute here.
    return found[1] + "".join(f' {name}="{value}"' for name, value in kept)


def image_grid(found: "Artifact", path: Path, per_class: int = 10, classes: int = 20) -> None:
    """Write a PNG of the first synthetic images: a row per class, class names at the left."""
    import matplotlib.style
    import numpy as np
    from matplotlib.figure import Figure

    names = found.manifest.classes[:classes]
    count = min(per_class, found.manifest.ipc)
    side = found.images.shape[-1]
    canvas = np.full((len(names) * (side + 1) - 1, count * (side + 1) - 1, found.images.shape[1]), 255, np.uint8)
    for row in range(len(names)):
        chosen = found.images[found.labels == row][:count]
        for column, image in enumerate(chosen):
            top, left = row * (side + 1), column * (side + 1)
            canvas[top : top + side, left : left + side] = image.permute(1, 2, 0).numpy()
    cell = 0.55  # inches a picture
    size = (cell * count + 1.6, cell * len(names) + 0.2)
    with matplotlib.style.context(["default", STYLE, {"axes.grid": False}]), _quiet():
        figure = Figure(figsize=size, dpi=110)
        axes = figure.add_subplot(frame_on=False)
        axes.imshow(canvas.squeeze(-1) if canvas.shape[-1] == 1 else canvas, cmap="gray", vmin=0, vmax=255)
        axes.set_yticks([row * (side + 1) + side / 2 for row in range(len(names))], [_label(name) for name in names])
        axes.set_xticks([])
        axes.tick_params(length=0)
        files.write_atomic(
            path, lambda file: figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
        )
