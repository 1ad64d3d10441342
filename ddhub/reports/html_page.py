"""The report as one self-contained HTML file with style, script and charts (template in cards/).

Names come from strangers. Jinja escapes them, and the page's own policy allows only its one script.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ddhub import __version__
from ddhub.artifact import folder as folders
from ddhub.base import files
from ddhub.reports import charts, compare, escaping, headlines, image_grid, summary, tables, templates
from ddhub.reports.documents import Evaluation, Report

CHARTS = {
    "accuracy": "Accuracy by architecture, with 95% intervals; none where n is 1",
    "cost": "Accuracy against time, compute and bytes",
}
CHARTED = 8  # number of sets with charts of their own, which are slow to draw; overview and tables have all sets


def write(document: Report, path: Path, places: Mapping[str, Path]) -> None:
    """Write the page of a document of compare.build.

    Args:
        places: folders of local sets, by their names in the document. Their images are shown.
    """
    shown = {name: image_grid.of_classes(folders.read(place)) for name, place in places.items()}
    files.write_bytes(path, render(document, shown).encode())


def render(document: Report, shown: Mapping[str, list[image_grid.Pictured]] | None = None) -> str:
    """The page of a document of compare.build: an overview of all sets, then a section per set.

    Args:
        shown: images of sets, by their names in the document.
    """
    style, script = (_shipped(f"report.{kind}") for kind in ("css", "js"))
    found = document.sets
    names = " and ".join(each.set for each in found) if len(found) < 3 else f"{len(found)} distilled sets"
    return _template().render(
        title=f"ddhub report: {names}",
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        warnings=document.warnings,
        together=compare.tables(document) if len(found) > 1 else [],
        pairs=compare.PAIRS,
        overview=_drawn("sets", charts.draw_accuracy, compare.panels(document)) if len(found) > 1 else [],
        charted=CHARTED,
        sets=_sections(found, shown or {}),
    )


@cache
def _template() -> jinja2.Template:
    return templates.environment(autoescape=True, finalize=_inert).get_template("report.html.j2")


def _inert(value: Any) -> Any:
    """A stranger's text on one line. Jinja escapes it afterwards."""
    return escaping.oneline(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shipped(name: str) -> str:
    return (files.shipped("cards") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash of an inline style or script for a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _drawn(salt: str, draw: Callable[..., None], panels: Sequence[charts.Panel]) -> list[Markup]:
    """Panels as SVG with unique ids. matplotlib escapes their texts."""
    return [Markup(charts.svg(draw, panel, f"{salt} {number}")) for number, panel in enumerate(panels)]


def _sections(found: Sequence[Evaluation], shown: Mapping[str, list[image_grid.Pictured]]) -> list[dict[str, Any]]:
    """For each set its sentences, images, table and charts. Charts of one kind share the axis of accuracy."""
    drawn = _charts(found)
    return [
        {
            "name": each.set,
            "verdict": headlines.first(each),
            "warnings": headlines.warnings(each),
            "pictures": shown.get(each.set, []),
            "table": tables.of_report(each),
            "sentences": summary.sentences(each),
            "charts": [{"title": CHARTS[name], "panels": panels[number]} for name, panels in drawn if panels[number]],
            "rows": len(each.rows),
            "hardware": ", ".join(sorted({row.hardware for row in each.rows if row.hardware})),
        }
        for number, each in enumerate(found)
    ]


def _charts(found: Sequence[Evaluation]) -> list[tuple[str, list[list[Markup]]]]:
    """The drawn panels of every set, by kind of chart; none for sets beyond CHARTED."""
    kinds = [charts.charts(each) for each in found[:CHARTED]]
    drawn = []
    for name in CHARTS:
        draw = kinds[0][name][0]
        aligned = iter(charts.on_one_axis([panel for kind in kinds for panel in kind[name][1]]))
        panels = [[next(aligned) for _ in kind[name][1]] for kind in kinds]
        panels += [[] for _ in found[CHARTED:]]
        drawn.append((name, [_drawn(f"{number} {name}", draw, each) for number, each in enumerate(panels)]))
    return drawn
