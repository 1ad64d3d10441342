"""The ImageNet recipes at their true size on artificial data: seconds and memory by images per class and by chunk.

python benchmarks/imagenet_shape.py --out imagenet_shape --minutes 10    (again and again, until nothing is left)

1.28 million uint8 images of 64x64x3 in 1,000 classes lie in a memory-mapped file. The file has no content and takes no
disk. Synthetic images start as noise, and teachers are untrained. All other settings are those of
recipes/imagenet_ipc*.yaml.
Every cell (ipc, chunk) is a process of its own. It does one refresh and three updates through the method's own
`distill`. Students have few epochs, and their micro-batches are as large as the chunk. A GPU takes the recipe's batch
of 500. A CPU takes two smaller batches (`--images`), and the line through both is extended to 500. Whole refreshes are
extrapolated from their epochs. Rows keep measured and extrapolated numbers apart. An iteration is an update and a third
of a refresh.

On a GPU, memory is what torch allocated. On a CPU it is the process's own memory beyond the libraries. Images that the
method keeps in files are in OUT, and do not count (9.8 GB on the disk at ipc 100).

Finished cells are lines of OUT/rows.jsonl and are not measured again. The last lines are a table and a JSON document.
The chart of time against memory is benchmarks/results/time_memory.png. It also shows the paper's figures, which were
measured on other hardware.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from distilling import (
    NO_MEMORY,
    Memory,
    Paced,
    anonymous_bytes,
    distill,
    facts,
    load_compiler,
    split,
    task_of,
    two_cycles,
)

from ddhub.data.source import Split

CLASSES, SIDE, REAL_IMAGES = 1000, 64, 1_281_167
EPOCHS, BATCH, UPDATES = 250, 500, 3
IPCS, CHUNKS = (10, 50, 100), (10, 25, 50, 100, 250, 500)
CHART = Path(__file__).parent / "results" / "time_memory.png"
# Read from the authors' figure (+-0.3), ipc 50, chunks 100, 250, 500: GB, and seconds an iteration on their hardware.
PAPER = {"APM (paper)": [(6.5, 18.0), (7.0, 11.0), (13.3, 8.6)], "TESLA (paper)": [(34.2, 22.3)]}


def measure(asked: argparse.Namespace) -> dict:
    """Do a refresh and its updates twice in this process. The first cycle compiles."""
    from ddhub.distillation import recipes
    from ddhub.training import device as devices

    torch.set_num_threads(asked.threads)
    load_compiler()
    memory, peaks = Memory(asked.device, limit=asked.limit), list[int]()
    # This is more work than any run has, so that everything is compiled that a long run compiles.
    decisions = devices.decide(asked.device, asked.threads, flops=1e18, precision=asked.precision)
    decisions = replace(decisions, micro_batch=asked.chunks[0], chunk=asked.chunks[0])
    changes = [f"method.chunk={asked.chunks[0]}", f"method.batch={asked.images}", f"teachers.count={asked.teachers}"]
    changes += [f"method.student={{arch: convnet4, epochs: {asked.epochs}, lr: 0.1}}", "method.init=noise"]
    task = task_of(recipes.read(f"imagenet_ipc{asked.ipc[0]}", changes), sparse_source(asked.out), decisions)

    run = Paced(asked.out / "run", asked.device, two_cycles(UPDATES, memory, peaks))
    distill(task, run)
    seconds = run.seconds_of_steps[UPDATES:]
    update = sum(seconds[1:]) / (UPDATES - 1)
    return {
        "images": asked.images,
        "student_epochs": asked.epochs,
        "seconds_of_steps": [round(value, 4) for value in run.seconds_of_steps],
        "seconds_a_student_epoch": (seconds[0] - update) / asked.epochs,
        "seconds_an_update": update,
        "peak_bytes": {"start": peaks[0], "compiling": peaks[1], "running": peaks[2]},
        "decisions": decisions.record(),
    }


def sizes(asked: argparse.Namespace, chunk: int) -> list[int]:
    """The numbers of images to measure: the recipe's, or two smaller ones of whole chunks, n and 2 n."""
    half = max(chunk, asked.images // 2 // chunk * chunk)
    return [BATCH] if 2 * half >= BATCH else [half, 2 * half]


def whole(runs: list[dict]) -> dict:
    """Seconds of the recipe's own epoch, update, refresh and iteration.

    The line through two numbers of images is extended to 500. It need not pass through 0, because an update has a cost
    for every image that is kept.
    """

    def at_batch(name: str) -> float:
        low, high = runs[0], runs[-1]
        if low["images"] == high["images"]:
            return float(high[name])
        slope = (high[name] - low[name]) / (high["images"] - low["images"])
        return float(high[name] + slope * (BATCH - high["images"]))

    epoch, update = at_batch("seconds_a_student_epoch"), at_batch("seconds_an_update")
    refresh = EPOCHS * epoch
    return {"epoch": epoch, "update": update, "refresh": refresh, "iteration": update + refresh / UPDATES}


def sparse_source(folder: Path) -> Split:
    """A memory-mapped source of ImageNet's size whose file has no content."""
    path = folder / "images.u8"
    pixels = np.memmap(path, np.uint8, "w+", shape=(REAL_IMAGES, 3, SIDE, SIDE))
    return split(torch.from_numpy(pixels), torch.arange(REAL_IMAGES) % CLASSES, CLASSES)


def cells(asked: argparse.Namespace) -> list[tuple[int, int]]:
    """The (ipc, chunk) of every cell. Cells that vary only one of the two come first."""
    home = (asked.ipc[0], 100 if 100 in asked.chunks else asked.chunks[0])
    grid = [(ipc, chunk) for ipc in asked.ipc for chunk in asked.chunks]
    return sorted(grid, key=lambda cell: (cell[0] != home[0]) + (cell[1] != home[1]))


def key_of(asked: argparse.Namespace, ipc: int, chunk: int) -> dict:
    """The key of a cell's row."""
    from ddhub.training import device as devices

    settings = {name: getattr(asked, name) for name in ("precision", "threads", "epochs", "images", "teachers")}
    return {"ipc": ipc, "chunk": chunk, "device": devices.hardware(asked.device), **settings}


def fill(asked: argparse.Namespace, path: Path) -> list[tuple[int, int]]:
    """Measure cells until none is left or the time is over. Return the remaining ones."""
    until, longest, left = time.monotonic() + 60 * asked.minutes, 0.0, []
    done = {json.dumps(row["key"]) for row in rows_of(path)}
    for ipc, chunk in cells(asked):
        key = key_of(asked, ipc, chunk)
        if json.dumps(key) in done:
            continue
        begun = time.monotonic()
        if begun + longest > until:  # the time is too short for the next cell
            left.append((ipc, chunk))
            continue
        row = cell(asked, ipc, chunk)
        longest = max(longest, time.monotonic() - begun)
        with path.open("a") as file:
            file.write(json.dumps({"key": key, **row, "wall_seconds": round(time.monotonic() - begun, 1)}) + "\n")
        print(f"ipc {ipc}, chunk {chunk}: {json.dumps(row)}", file=sys.stderr)
    return left


def cell(asked: argparse.Namespace, ipc: int, chunk: int) -> dict:
    """Measure one cell, each number of images in a process of its own. A row also records a lack of memory."""
    runs = []
    for images in sizes(asked, chunk):
        command = [sys.executable, __file__, "--worker", "--ipc", str(ipc), "--chunks", str(chunk)]
        for name in ("device", "precision", "threads", "epochs", "teachers"):
            command += [f"--{name}", str(getattr(asked, name))]
        limit = memory_limit(asked)
        with tempfile.TemporaryDirectory(dir=asked.out) as scratch:
            command += ["--images", str(images), "--out", scratch, "--limit", str(limit)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode == NO_MEMORY:
            return {"failed": f"more than {limit / 1e9:.1f} GB of memory"}
        if done.returncode:
            raise SystemExit(f"ipc {ipc}, chunk {chunk}: exit code {done.returncode}")
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {"measured": runs, "extrapolated": whole(runs)}


def memory_limit(asked: argparse.Namespace) -> float:
    """The bytes that a cell may take: four fifths of the free memory."""
    if asked.memory:
        return asked.memory * 1e9
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return 0.8 * int(line.split()[1]) * 1024 + anonymous_bytes()


def rows_of(path: Path) -> list[dict]:
    """The rows of earlier runs. Lines torn by a kill are left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def table(rows: list[dict]) -> str:
    """A table with one line per row. `~` marks extrapolated numbers.

    A peak with fewer images is a lower bound, because the batch itself is smaller.
    """
    lines = [
        "| device | ipc | chunk | epoch of 500 (s) | update of 500 (s) | iteration (s) | peak (GB) |",
        "|" + " --- |" * 7,
    ]
    for row in sorted(rows, key=lambda row: (row["key"]["ipc"], row["key"]["chunk"])):
        key = row["key"]
        start = f"| {key['device']}, {key['precision']} | {key['ipc']} | {key['chunk']} | "
        if "failed" in row:
            lines.append(f"{start}{row['failed']} | | | |")
            continue
        times, most = row["extrapolated"], f"{peak(row) / 1e9:.2f}"
        about, least = ("", "") if row["measured"][-1]["images"] == BATCH else ("~", ">= ")
        shown = f"{about}{times['epoch']:.3f} | {about}{times['update']:.3f} | ~{times['iteration']:.2f}"
        lines.append(f"{start}{shown} | {least}{most} |")
    return "\n".join(lines)


def peak(row: dict) -> int:
    """The peak in bytes of the counted cycle, over all numbers of images."""
    return max(int(run["peak_bytes"]["running"]) for run in row["measured"])


def growth(rows: list[dict]) -> dict:
    """Seconds and bytes by ipc at every chunk, and by chunk at every ipc."""
    found: dict[str, dict] = {}
    for row in (row for row in rows if "failed" not in row):
        ipc, chunk = row["key"]["ipc"], row["key"]["chunk"]
        value = {
            "seconds_an_iteration": round(row["extrapolated"]["iteration"], 3),
            "seconds_an_update": round(row["extrapolated"]["update"], 3),
            "peak_bytes": peak(row),
        }
        found.setdefault(f"by ipc, chunk {chunk}", {})[ipc] = value
        found.setdefault(f"by chunk, ipc {ipc}", {})[chunk] = value
    return {name: dict(sorted(values.items())) for name, values in found.items() if len(values) > 1}


def chart(rows: list[dict], path: Path) -> None:
    """Draw seconds an iteration against gigabytes: a line per ipc with its chunks, and the paper's figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120)
    axes = figure.add_subplot()
    good = [row for row in rows if "failed" not in row]
    for ipc in sorted({row["key"]["ipc"] for row in good}):
        points = sorted(
            (row["key"]["chunk"], peak(row) / 1e9, row["extrapolated"]["iteration"])
            for row in good
            if row["key"]["ipc"] == ipc
        )
        axes.plot([p[1] for p in points], [p[2] for p in points], "o-", label=f"ddhub, ipc {ipc}")
        for size, x, y in points:
            axes.annotate(str(size), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    for (name, theirs), mark in zip(PAPER.items(), ("s--", "^"), strict=True):
        axes.plot([x for x, _ in theirs], [y for _, y in theirs], mark, color="grey", label=f"{name}, ipc 50")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("peak memory (GB); numbers are images a chunk")
    axes.set_ylabel("seconds an iteration")
    device = ", ".join(sorted({row["key"]["device"] for row in good}))
    axes.set_title(f"ImageNet-1K shapes, 64x64\nddhub: {device}, noise; paper: its figure, its hardware", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})


def main() -> None:
    """Measure cells, and show all finished ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("imagenet_shape"), help="folder of the rows")
    parser.add_argument("--ipc", type=int, nargs="+", choices=IPCS, default=list(IPCS))
    parser.add_argument("--chunks", type=int, nargs="+", default=list(CHUNKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--epochs", type=int, default=5, help="of a student that are measured; 5 or more, one a snapshot"
    )
    parser.add_argument("--images", type=int, help="of the larger measured update [default: 100, 500 on a GPU]")
    parser.add_argument(
        "--teachers", type=int, default=1, help="one is used at a time; the recipe's 10 take 26 MB more"
    )
    parser.add_argument("--minutes", type=float, default=10, help="no cell is begun that would end later")
    parser.add_argument("--memory", type=float, help="GB that a cell may take [default: four fifths of what is free]")
    parser.add_argument("--chart", type=Path, default=CHART)
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=float("inf"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.images = asked.images or (BATCH if asked.device.startswith("cuda") else 100)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.worker:
        print(json.dumps(measure(asked)))
        return
    left, rows = fill(asked, asked.out / "rows.jsonl"), rows_of(asked.out / "rows.jsonl")
    chart(rows, asked.chart)
    command = f"python benchmarks/imagenet_shape.py --device {asked.device} --precision {asked.precision}"
    command += f" --threads {asked.threads} --epochs {asked.epochs} --images {asked.images}"
    result = {
        **facts(asked.device, command, asked.note),
        "units": "seconds; bytes beyond the libraries; `extrapolated` to 250 epochs and batches of 500 images",
        "left": left,
        "growth": growth(rows),
        "rows": rows,
    }
    print(table(rows), file=sys.stderr)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
