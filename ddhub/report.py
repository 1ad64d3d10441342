"""From rows to what people read: report.json, a terminal table, Markdown, and pictures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddhub import files
from ddhub import rows as row_files
from ddhub.artifact import Artifact
from ddhub.manifest import Manifest

DATA = ("distilled", "random", "full")
# What starts something in Markdown, HTML or a formula; an underscore inside a word does not.
MARKUP = re.compile(r"[<>&|`*\[\]{}#\\~$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
TITLES = {"distilled": "distilled", "random": "random real", "full": "full data"}


def build(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report of `ddhub evaluate --json`: rows and their summary."""
    ordered = sorted(rows, key=lambda r: (r["arch"], r["protocol"], r["data"], r["seed"]))
    return {"format": row_files.FORMAT, "set": name, "rows": ordered, "summary": row_files.summarise(ordered)}


def save(record: Manifest, rows_folder: Path, path: Path) -> dict[str, Any]:
    """Write the report of every kept row of a set to `path`, and return it."""
    report = build(record.name, row_files.of(record, rows_folder))
    files.write_json(path, report)
    return report


def table(report: dict[str, Any]) -> list[dict[str, str]]:
    """One line per architecture, test set and protocol: accuracy of each kind of data and how they compare, as text."""
    groups: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    full: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in report["summary"]:
        if entry["data"] == "full":
            full[entry["arch"], entry["test_set"]] = entry
        else:
            groups.setdefault((entry["arch"], entry["test_set"], entry["protocol"]), {})[entry["data"]] = entry
    for arch, test_set in full:  # full data alone, with nothing beside it yet
        if not any(key[:2] == (arch, test_set) for key in groups):
            groups[arch, test_set, "-"] = {}
    several = len({test_set for _, test_set, _ in groups}) > 1
    lines = []
    for (arch, test_set, protocol), found in groups.items():
        cells = {**found, **({"full": full[arch, test_set]} if (arch, test_set) in full else {})}
        line = {"arch": arch, "test_set": test_set if several else "-", "protocol": protocol}
        line |= {data: accuracy(cells[data]) if data in cells else "-" for data in DATA}
        line["gap"] = _difference(cells, "distilled", "random")
        line["share"] = _share(cells)
        lines.append(line)
    return lines


def accuracy(entry: dict[str, Any]) -> str:
    """`48.5 ± 0.4 (n=5)` in per cent; without a spread where n is 1."""
    spread = "" if entry["std"] is None else f" ± {100 * entry['std']:.1f}"
    return f"{100 * entry['mean']:.1f}{spread} (n={entry['n']})"


def _difference(cells: dict[str, dict[str, Any]], a: str, b: str) -> str:
    return f"{100 * (cells[a]['mean'] - cells[b]['mean']):+.1f}" if a in cells and b in cells else "-"


def _share(cells: dict[str, dict[str, Any]]) -> str:
    if "full" not in cells or "distilled" not in cells:
        return "-"
    return f"{100 * cells['distilled']['mean'] / cells['full']['mean']:.1f}%"


HEADINGS = {
    "arch": "architecture",
    "test_set": "test set",
    "protocol": "protocol",
    **TITLES,
    "gap": "over random",
    "share": "share of full",
}


def columns(lines: Sequence[dict[str, str]]) -> list[str]:
    """The columns of a table that say something."""
    return [key for key in HEADINGS if key in ("arch", "protocol") or any(line[key] != "-" for line in lines)]


def markdown(report: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = table(report)
    keys = columns(lines)
    head = ["| " + " | ".join(HEADINGS[key] for key in keys) + " |", "|" + " --- |" * len(keys)]
    return "\n".join(head + ["| " + " | ".join(plain(line[key]) for key in keys) + " |" for line in lines])


def plain(text: str) -> str:
    """A stranger's words, inert in Markdown and HTML: no markup, no links, no formulas, one line."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return MARKUP.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), line)


def show(report: dict[str, Any], *, stderr: bool = False) -> None:
    """Print the table for people."""
    from rich.console import Console
    from rich.table import Table

    lines = table(report)
    shown = Table(title=f"{report['set']}: test accuracy in per cent, mean ± standard deviation", title_justify="left")
    for key in columns(lines):
        shown.add_column(HEADINGS[key], justify="left" if key in ("arch", "protocol") else "right", no_wrap=True)
    for line in lines:
        shown.add_row(*(line[key] for key in columns(lines)))
    console = Console(stderr=stderr)
    # A pipe has no width; a cut table would lose numbers.
    Console(stderr=stderr, width=max(console.width, 110)).print(shown)


def image_grid(found: Artifact, path: Path, per_class: int = 10, classes: int = 20) -> None:
    """Write a PNG of the first synthetic images: a row per class, class names at the left."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

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
    figure, axes = plt.subplots(figsize=size, dpi=110)
    axes.imshow(canvas.squeeze(-1) if canvas.shape[-1] == 1 else canvas, cmap="gray", vmin=0, vmax=255, aspect="equal")
    # Names come from strangers' files; a dollar sign must not start a formula.
    axes.set_yticks([row * (side + 1) + side / 2 for row in range(len(names))], [n.replace("$", r"\$") for n in names])
    axes.set_xticks([])
    axes.tick_params(length=0)
    for edge in axes.spines.values():
        edge.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(
        path, lambda file: figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
    )
    plt.close(figure)
