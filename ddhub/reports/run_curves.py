"""Curves of a run's metrics.jsonl as a picture: a chart per value, a line per phase."""

from pathlib import Path

from ddhub.artifact.run_state import STATE
from ddhub.base import files, strict_json
from ddhub.base.errors import UserError
from ddhub.base.log import TITLES, say
from ddhub.base.units import counted, listed
from ddhub.reports import charts

METRICS, PICTURE = "metrics.jsonl", "metrics.png"
SHOWN = 10  # damaged lines that are named
BESIDE = ("step", "seconds")  # numbers of a line that are not plotted as values

Curves = dict[str, dict[str, list[tuple[float, float]]]]  # value, phase: (step, number)


def plot(folder: Path, out: Path | None = None) -> Path:
    """Draw the logged values of a run against its steps. Return the picture's path.

    Args:
        folder: the folder of the run's set.
        out: the picture's file; None takes one beside the metrics, which is never pushed.

    Raises:
        UserError: if nothing was logged.
    """
    found = curves(folder)
    if not found:
        next = "ddhub distill RECIPE, which logs from its first step on"
        raise UserError(f"{folder}: holds no metrics of a run ({STATE}/{METRICS})", next=next)
    path = out or folder / STATE / PICTURE
    files.write_bytes(path, _drawn(found))
    return path


def curves(folder: Path) -> Curves:
    """The values of a run and of its groups. Damaged lines are skipped with a message."""
    found: Curves = {}
    for path in sorted((folder / STATE).rglob(METRICS)):
        group = next((part.removesuffix(".run") for part in path.parts if part.endswith(".run")), "")
        damaged = []
        for at, line in enumerate(strict_json.every_line(path), 1):
            if line is None or not isinstance(line.get("step"), int):
                damaged.append(str(at))
                continue
            for name, number in line.items():
                if name not in BESIDE and isinstance(number, int | float):
                    phase = f"{line.get('phase')} {group}".strip()
                    found.setdefault(name, {}).setdefault(phase, []).append((line["step"], number))
        if damaged:
            say(f"{path}: left out {counted(len(damaged), 'damaged line')}: {listed(damaged, SHOWN)}")
    return found


def _drawn(found: Curves) -> bytes:
    """A PNG with a chart for each value."""
    import io

    from matplotlib.figure import Figure

    file = io.BytesIO()
    with charts.styled():
        figure = Figure(figsize=(7, 2.6 * len(found)), dpi=110, layout="constrained")
        grid = figure.subplots(len(found), 1, squeeze=False).flatten().tolist()
        for axes, (name, phases) in zip(grid, found.items(), strict=True):
            for number, (phase, points) in enumerate(phases.items()):
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=charts.COLOURS[number % len(charts.COLOURS)], label=phase)
            axes.set_ylabel(TITLES[name][1] if name in TITLES else charts.label_of(name))
        grid[-1].set_xlabel("step")
        grid[0].legend(ncols=4)
        figure.savefig(file, format="png", facecolor="white", metadata={"Software": None})
    return file.getvalue()
