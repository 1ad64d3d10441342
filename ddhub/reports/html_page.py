"""The report as one HTML file that asks for nothing: style, script and charts are inside (template in cards/).

Names are strangers': Jinja escapes every one, and the page's own policy runs its one script and nothing else.
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
from ddhub.reports import charts, compare, image_grid, summary, tables, verdicts
from ddhub.reports.documents import Evaluation, Report

CHARTS = {
    "accuracy": "Accuracy by architecture, with 95% intervals; none where n is 1",
    "cost": "Accuracy against time, compute and bytes",
}
CHARTED = 8  # sets whose own charts are drawn, which is most of the work; all are in the overview and in tables


def write(document: Report, path: Path, places: Mapping[str, Path]) -> None:
    """Write the page of a document of compare.build.

    Args:
        places: folders of the sets that are at hand, by their names in the document; their images are shown.
    """
    shown = {name: image_grid.of_classes(folders.read(place)) for name, place in places.items()}
    files.write_bytes(path, render(document, shown).encode())


def render(document: Report, shown: Mapping[str, list[image_grid.Pictured]] | None = None) -> str:
    """The page of a document of compare.build: a section per set, and before them all of them side by side.

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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(files.shipped("cards")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
        finalize=_inert,
    )
    return environment.get_template("report.html.j2")


def _inert(value: Any) -> Any:
    """A stranger's words on one line; Jinja escapes them after that."""
    return tables.oneline(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shipped(name: str) -> str:
    return (files.shipped("cards") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy knows an inline style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _drawn(salt: str, draw: Callable[..., None], panels: Sequence[charts.Panel]) -> list[Markup]:
    """Panels as SVG, each with ids of its own; matplotlib escapes what stands in them."""
    return [Markup(charts.svg(draw, panel, f"{salt} {number}")) for number, panel in enumerate(panels)]


def _sections(found: Sequence[Evaluation], shown: Mapping[str, list[image_grid.Pictured]]) -> list[dict[str, Any]]:
    """Of each set what it says, its images, its table, its charts; charts of one kind share one axis of accuracy."""
    drawn = _charts(found)
    return [
        {
            "name": each.set,
            "verdict": verdicts.first(each),
            "warnings": verdicts.warnings(each),
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
    """By kind of chart, the drawn panels of every set; of those beyond CHARTED, none."""
    kinds = [charts.charts(each) for each in found[:CHARTED]]
    drawn = []
    for name in CHARTS:
        draw = kinds[0][name][0]
        aligned = iter(charts.on_one_axis([panel for kind in kinds for panel in kind[name][1]]))
        panels = [[next(aligned) for _ in kind[name][1]] for kind in kinds]
        panels += [[] for _ in found[CHARTED:]]
        drawn.append((name, [_drawn(f"{number} {name}", draw, each) for number, each in enumerate(panels)]))
    return drawn
