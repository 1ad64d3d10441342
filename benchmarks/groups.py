"""Groups made by two worker processes against one process, each with one thread, in turn in one run.

python benchmarks/groups.py --repeats 5 > benchmarks/results/groups.json
Teachers are trained first and packaging is left out: what is timed is from the first group's begin to the last one's
end, starting worker processes included. `steady` leaves the starting out: the seconds that groups took by themselves.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from distilling import command

from ddhub.artifact import recipe
from ddhub.base import jobs
from ddhub.base.resources import Resources
from ddhub.distillation import groups, recipes
from ddhub.training import device

RECIPE = "digits_ipc10"


def run(found: recipe.Recipe, folder: Path, workers: int) -> dict[str, float]:
    """Make all groups again; wall seconds, and the groups' own."""
    engine = jobs.Engine(workers=workers)
    shared, _ = groups.begin(found, folder, Resources(device="cpu", threads=1, workers=workers), 120, engine)
    every = groups.jobs_of(shared)
    begun = time.perf_counter()
    jobs.run_all(every, replace(engine, gpus=False))
    seconds = time.perf_counter() - begun
    return {"wall": seconds, "own": sum(groups.read(path).seconds for path in every)}


def summary(values: list[float]) -> dict[str, Any]:
    """Median, range and n."""
    shown = [round(value, 2) for value in values]
    return {"median": round(statistics.median(values), 2), "range": [min(shown), max(shown)], "all": shown}


def main() -> None:
    """Both in turn, as often as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    overrides = ["ipc=20", f"groups={asked.groups}", *asked.overrides]
    found = recipes.read(RECIPE, overrides)
    times: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="ddhub-") as name:
        os.environ["DDHUB_HOME"] = f"{name}/home"
        for repeat in range(asked.repeats):
            for workers in times if repeat % 2 == 0 else reversed(times):
                times[workers].append(run(found, Path(name) / f"{repeat}-{workers}", workers))
    pairs = list(zip(times[1], times[2], strict=True))
    result = {
        "recipe": RECIPE,
        "overrides": overrides,
        "n": asked.repeats,
        "threads_each": 1,
        "wall_seconds": {
            f"workers {count}": summary([each["wall"] for each in every]) for count, every in times.items()
        },
        "speedup": summary([one["wall"] / two["wall"] for one, two in pairs]),
        "steady": summary([2 * one["own"] / two["own"] for one, two in pairs]),
        "hardware": device.hardware("cpu"),
        "load_average": os.getloadavg(),
        "versions": {"torch": torch.__version__, "ddhub": version("ddhub")},
        "command": command(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
