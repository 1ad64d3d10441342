"""The report as one HTML file that asks for nothing: style, script and charts are inside (template in cards/).

Names are strangers': Jinja escapes every one, and the page's own policy runs its one script and nothing else.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ddhub import __version__
from ddhub.base import files
from ddhub.reports import charts, compare, summary, tables

CHARTS = {
    "accuracy": "Accuracy by architecture, with 95% intervals; none where n is 1",
    "cost": "Accuracy against the seconds of one training",
}


def write(document: dict[str, Any], path: Path) -> None:
    """Write the page of a document of compare.build."""
    files.write_bytes(path, render(document).encode())


def render(document: dict[str, Any]) -> str:
    """The page of a document of compare.build: a section per set, and before them all of them side by side."""
    style, script = (_shipped(f"report.{kind}") for kind in ("css", "js"))
    found = document["sets"]
    names = " and ".join(each["set"] for each in found) if len(found) < 3 else f"{len(found)} distilled sets"
    return _template().render(
        title=f"ddhub report: {names}",
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        warnings=document["warnings"],
        together=compare.tables(document) if len(found) > 1 else [],
        pairs=compare.PAIRS,
        overview=_drawn("sets", charts.draw_accuracy, compare.panels(document)) if len(found) > 1 else [],
        sets=[_section(each, number) for number, each in enumerate(found)],
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


def _section(each: dict[str, Any], number: int) -> dict[str, Any]:
    """One set: its table, what it says, its charts."""
    drawn = {name: _drawn(f"{number} {name}", draw, panels) for name, (draw, panels) in charts.charts(each).items()}
    return {
        "name": each["set"],
        "table": tables.of_report(each),
        "sentences": summary.sentences(each),
        "charts": [{"title": CHARTS[name], "panels": found} for name, found in drawn.items() if found],
        "rows": len(each["rows"]),
        "hardware": ", ".join(sorted({str(row["hardware"]) for row in each["rows"] if row.get("hardware")})),
    }
