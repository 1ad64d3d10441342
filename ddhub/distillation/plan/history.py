"""Errors of forecasts: seconds and bytes of each finished run, beside those that the fits of this machine predict.

Each run adds one JSON line under DDHUB_HOME. That takes no noticeable time and never fails a run.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from ddhub.base import files, strict_json
from ddhub.base.units import counted
from ddhub.distillation.plan import costs, forecast
from ddhub.distillation.plan.work import Outline
from ddhub.distillation.task import Task
from ddhub.training import device as devices
from ddhub.training import memory

COMPARED = ("teachers", "distill", "packaging", "memorisation")  # the time to fetch a source has no forecast
EVERY = 0.2  # seconds between two samples of the memory
ENOUGH = 3  # runs of a method above which it gets a summary of its own


class Watch:
    """Measures memory and time of a run from a thread."""

    def __init__(self) -> None:
        self.begun, self.elsewhere = time.monotonic(), set[str]()
        self.peak = memory.Peak("cpu", EVERY)

    def __enter__(self) -> "Watch":
        self.peak.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.peak.__exit__(kind, fault, at)

    def prepared(self, seconds: dict[str, float]) -> None:
        """Compare the seconds of the phases before the method with the clock. Longer ones come from cached teachers."""
        if seconds.get("teachers", 0) > time.monotonic() - self.begun:
            self.elsewhere.add("teachers")

    def bytes(self, device: str) -> int:
        """The peak bytes, as memory.Peak counts them."""
        return devices.peak_bytes(device) if devices.is_gpu(device) else self.peak.bytes


def note(task: Task, seconds: dict[str, float], watch: Watch, threads: int | None = None) -> None:
    """Record the cost of a run, if stored fits can predict it.

    Args:
        seconds: the seconds of each phase.
        watch: the watch of the run, which has ended.
        threads: CPU threads of one group, for recipes of several. The memory of their processes is unknown here.
    """
    if not (files.home() / "plan" / "fits").is_dir():
        return
    outline, device = Outline(task.recipe, task.source.shape, task.decisions), task.decisions.device
    rows = forecast.predict(outline, threads or task.decisions.threads, costs.stored)
    known = [row for row in rows if row["seconds"] is not None and row["phase"] in seconds and row["phase"] in COMPARED]
    known = [row for row in known if row["phase"] not in watch.elsewhere]
    if not known:
        return
    entry = {
        "recipe": task.recipe.name,
        "hash": task.recipe.hash,
        "method": task.recipe.method["name"],
        "machine": costs.machine(device),
        "predicted": {row["phase"]: round(max(0.001, row["seconds"]), 3) for row in known},
        "actual": {row["phase"]: round(seconds[row["phase"]], 3) for row in known},
        "predicted_peak_bytes": None if threads else max(row["peak_bytes"] for row in known),
        "peak_bytes": None if threads else watch.bytes(device),
    }
    with contextlib.suppress(OSError), _path().open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def past(device: str, method: str) -> dict[str, Any]:
    """The errors of forecasts on this machine: over all runs, and over a method's runs if there are enough.

    Returns:
        `runs`, and median and range of actual over predicted `seconds` and `peak_bytes`. `of_method` has the same keys.
    """
    entries = [entry for entry in _read() if entry["machine"] == costs.machine(device)]
    own = [entry for entry in entries if entry["method"] == method]
    apart = ENOUGH <= len(own) < len(entries)
    return {**_summary(entries), "of_method": {"method": method, **_summary(own)} if apart else None}


def _summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = [sum(entry["actual"].values()) / sum(entry["predicted"].values()) for entry in entries]
    peaks = [entry["peak_bytes"] / entry["predicted_peak_bytes"] for entry in entries if entry["predicted_peak_bytes"]]
    return {"runs": len(entries), "seconds": _spread(seconds), "peak_bytes": _spread(peaks)}


def _spread(ratios: Sequence[float]) -> dict[str, float] | None:
    return {"median": median(ratios), "low": min(ratios), "high": max(ratios)} if ratios else None


def sentences(found: dict[str, Any]) -> list[str]:
    """The result of `past` as sentences."""
    if not found["runs"]:
        return ["past predictions: none yet; runs of recipes that were measured here are compared with them."]
    told = [f"past predictions: {_summary_text(found)}"]
    return told + (
        [f"of {found['of_method']['method']}: {_summary_text(found['of_method'])}"] if found["of_method"] else []
    )


def _summary_text(found: dict[str, Any]) -> str:
    runs = counted(found["runs"], "run")
    ratios = [("seconds", found["seconds"]), ("bytes", found["peak_bytes"])]
    return ", ".join(
        [runs, *(f"actual/predicted {name} median {r['median']:.2f} ({_range(r)})" for name, r in ratios if r)]
    )


def _range(ratio: dict[str, float]) -> str:
    return f"{ratio['low']:.2f} to {ratio['high']:.2f}"


def _read() -> list[dict[str, Any]]:
    """The entries that can be compared with others."""
    return [entry for entry in strict_json.lines(_path()) if _sound(entry)]


def _sound(entry: dict[str, Any]) -> bool:
    """Whether an entry can be compared with others."""
    if not {"machine", "method"} <= entry.keys():
        return False
    peaks = [entry.get("peak_bytes"), entry.get("predicted_peak_bytes")]
    times = [each.values() for key in ("actual", "predicted") if isinstance(each := entry.get(key), dict) and each]
    timed = len(times) == 2 and all(_is_count(number) for each in times for number in each) and sum(times[1]) > 0
    return timed and (peaks == [None, None] or (all(map(_is_count, peaks)) and bool(peaks[1])))


def _is_count(number: Any) -> bool:
    """Whether a value is a number of seconds or bytes."""
    return isinstance(number, int | float) and number >= 0


def _path() -> Path:
    return files.home() / "plan" / "history.jsonl"
