"""Kill a distillation (-9) at random moments, resume it, and compare its shipped files with those of an unbroken run.

python benchmarks/kill_resume.py --kills 50 > benchmarks/results/kill_resume.json

Every kill has a run of its own. It starts with a cache without teachers and ends with the card, so that the training of
teachers is killed too. The moments are spread over the whole run. An unbroken run gives the time of each phase (source,
teachers, distill, packaging, card), by the files that appear. A phase gets kills by its share of the time, and three at
least. A kill comes at a random fraction of its phase, counted from the phase's start in the killed run itself. Then the
same call is made again, to the end.
All runs are forked from one process that has loaded the libraries, because loading takes longer than the run. With
--compile every run is a new process.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("source", "teachers", "distill", "packaging", "card")
TINY = [
    "teachers={arch: convnet2_w8, count: 2, epochs: 12}",
    "method.student={arch: convnet2_w8, epochs: 10, lr: 0.02}",
    "method.iterations=150",
    "evaluate.epochs=30",
    "evaluate.packaging_seeds=1",
]
LEAST = 3  # kills of each phase, if there are enough


def run(out: Path, home: Path, asked: dict[str, Any]) -> None:
    """Do one `ddhub distill` without output, with a cache of its own."""
    os.environ["DDHUB_HOME"] = str(home)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # compiling processes would outlive a kill
    with (home.parent / "stderr.txt").open("ab") as errors:
        os.dup2(errors.fileno(), 2)
    from ddhub import api

    api.distill(
        asked["recipe"],
        out=out,
        overrides=asked["overrides"],
        threads=1,
        compile=asked["compile"],
        checkpoint_seconds=asked["checkpoint_seconds"],
    )


def phase_of(out: Path, home: Path) -> str:
    """The phase of a run, from its files."""
    state = out / ".ddhub"
    if (out / "ddhub.json").exists():
        return "card"
    if (state / "staging").exists():
        return "packaging"
    if any(state.glob("distill*.pt")) or (state / "metrics.jsonl").exists():
        return "distill"
    teachers = home / "teachers"
    return "teachers" if teachers.is_dir() and any(teachers.iterdir()) else "source"


class Attempt:
    """One run in a process of its own."""

    def __init__(self, folder: Path, asked: dict[str, Any], context: Any) -> None:
        self.out, self.home = folder / "set", folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.process = context.Process(target=run, args=(self.out, self.home, asked))
        self.begun = time.monotonic()
        self.process.start()

    @property
    def phase(self) -> str:
        """The phase of the run."""
        return phase_of(self.out, self.home)

    def kill_when(self, due: Callable[["Attempt"], bool]) -> tuple[float, str] | None:
        """Kill the run as soon as `due` is true. Return the second and the phase; None if the run ended before."""
        while self.process.exitcode is None:
            if due(self):
                os.kill(self.process.pid, signal.SIGKILL)
                moment = (time.monotonic() - self.begun, self.phase)
                self.process.join()
                return moment if self.process.exitcode == -signal.SIGKILL else None
            time.sleep(0.002)
        return None

    def finish(self) -> dict[str, str]:
        """Wait for the end. Return name and sha256 of every file that the set ships.

        Raises:
            SystemExit: if the run failed, with its messages.
        """
        from ddhub.artifact import manifest

        self.process.join()
        if self.process.exitcode:
            raise SystemExit(f"exit code {self.process.exitcode}\n{(self.home.parent / 'stderr.txt').read_text()}")
        return {name: record.sha256 for name, record in manifest.read(self.out).files.items()}


def unbroken(folder: Path, asked: dict[str, Any], context: Any) -> tuple[dict[str, str], dict[str, float]]:
    """The hashes of an unbroken run, and the seconds of each phase."""
    seconds = dict.fromkeys(PHASES, 0.0)
    attempt = Attempt(folder, asked, context)
    before = time.monotonic()
    while attempt.process.exitcode is None:
        phase, now = attempt.phase, time.monotonic()
        seconds[phase] += now - before
        before = now
        time.sleep(0.002)
    return attempt.finish(), seconds


def plan(kills: int, seconds: dict[str, float], draw: random.Random) -> list[tuple[str, float]]:
    """The phase of every kill and a fraction of it. Phases get kills by their share of the time, and LEAST at least."""
    least = min(LEAST, kills // len(PHASES))
    chosen = [phase for phase in PHASES for _ in range(least)]
    weights = [seconds[phase] for phase in PHASES]
    total, left = sum(weights), kills - len(chosen)
    steps = [(k + draw.random()) / left * total for k in range(left)] if left else []
    for step in steps:
        for phase, weight in zip(PHASES, weights, strict=True):
            if step < weight or phase == PHASES[-1]:
                chosen.append(phase)
                break
            step -= weight
    fractions = {phase: _spread(chosen.count(phase), draw) for phase in PHASES}
    return [(phase, fractions[phase].pop()) for phase in chosen]


def _spread(count: int, draw: random.Random) -> list[float]:
    """One random number in each of `count` equal parts of [0, 1)."""
    return [(k + draw.random()) / count for k in range(count)]


def due(phase: str, wait: float) -> Callable[[Attempt], bool]:
    """A function that says whether a run entered or passed a phase so many seconds ago."""
    since: list[float] = []

    def ready(attempt: Attempt) -> bool:
        if not since and PHASES.index(attempt.phase) >= PHASES.index(phase):
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= wait

    return ready


def kill_and_resume(folder: Path, asked: dict[str, Any], context: Any, phase: str, wait: float) -> dict[str, Any]:
    """Kill a run, and call it again to the end. Return the moment, the phase, and the shipped files."""
    while True:
        begun = time.monotonic()
        killed = Attempt(folder, asked, context).kill_when(due(phase, wait))
        if killed is not None:
            second, hit = killed
            return {
                "second": round(second, 3),
                "phase": hit,
                "shipped": Attempt(folder, asked, context).finish(),
                "wall_seconds": round(time.monotonic() - begun, 1),
            }
        wait *= 0.5  # the run ended before the kill
        folder = folder.with_name(folder.name + "x")


def main() -> None:
    """Kill, resume, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--recipe", default="digits_ipc1")
    parser.add_argument("--set", dest="overrides", action="append", help="in place of a tiny run's settings")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpoint-seconds", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    given = parser.parse_args()
    asked = {name: getattr(given, name) for name in ("recipe", "compile", "checkpoint_seconds")}
    asked["overrides"] = given.overrides or TINY
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn" if given.compile else "forkserver")
    if not given.compile:
        context.set_forkserver_preload(
            ["ddhub.api", "ddhub.distillation.methods.apm.loop", "sklearn.datasets", "datasets", "scipy.stats"]
        )
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        Attempt(Path(name) / "warm", asked, context).finish()  # fills the caches of the machine
        whole, seconds = unbroken(Path(name) / "whole", asked, context)
        moments = plan(given.kills, seconds, random.Random(given.seed))
        rows = []
        for number, (phase, fraction) in enumerate(moments):
            row = kill_and_resume(Path(name) / str(number), asked, context, phase, fraction * seconds[phase])
            shipped = row.pop("shipped")
            rows.append({"aimed_at": phase, **row, "identical": shipped == whole})
            rows[-1]["different"] = [
                file for file in whole.keys() | shipped.keys() if whole.get(file) != shipped.get(file)
            ]
            print(f"kill {number + 1} of {given.kills}: {rows[-1]}", file=sys.stderr)
    print(
        json.dumps(
            summary(given, asked, rows, seconds, whole) | {"minutes": round((time.monotonic() - begun) / 60, 1)},
            indent=1,
        )
    )


def summary(
    given: argparse.Namespace, asked: dict[str, Any], rows: list[dict], seconds: dict[str, float], whole: dict[str, str]
) -> dict[str, Any]:
    """Kills by phase, and whether all runs ended like the unbroken one."""
    from distilling import facts

    command = f"python benchmarks/kill_resume.py --kills {given.kills} --recipe {given.recipe} --seed {given.seed}"
    command += f" --checkpoint-seconds {given.checkpoint_seconds}" + (" --compile" if given.compile else "")
    command += "".join(f" --set '{text}'" for text in given.overrides or [])
    return {
        **facts("cpu", command, given.note),
        "overrides": asked["overrides"],
        "kills": len(rows),
        "identical": sum(row["identical"] for row in rows),
        "all_identical": all(row["identical"] for row in rows),
        "by_phase": {phase: sum(row["phase"] == phase for row in rows) for phase in PHASES},
        "unbroken_seconds": {phase: round(value, 2) for phase, value in seconds.items()},
        "seconds_a_kill": round(statistics.median(row["wall_seconds"] for row in rows), 1),
        "files": sorted(whole),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
