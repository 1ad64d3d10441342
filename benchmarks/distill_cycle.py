"""One cycle of the distiller (a refresh and three updates): ddhub and a plain loop, in turn in one run.

python benchmarks/distill_cycle.py --threads 2 > benchmarks/results/distill_cycle.json

A refresh trains one student for 250 epochs on 100 images of 32x32x3 and keeps five snapshots. The set has 10 classes
and 10 images per class; `--ipc 50` takes 500 images. The student is a ConvNet-3 of width 128. An update moves all
images once.
ddhub's side is the method's own `distill` with the paper's settings. The plain loop is benchmarks/plain_loop.py. Each
way is a process of its own with an empty compiler cache. All others wait while one does a turn.
A turn is a refresh of `--epochs` epochs and three updates. The refresh is scaled to 250 epochs, together with its one
labelling of the images. Updates are never scaled. On a GPU the default is 250 epochs, and nothing is scaled. The time
of a refresh is the first step of a turn less the mean of the other two steps, which are updates alone.

Work is the FLOPs that the algorithm needs. They are the same for all ways, although the plain loop does more.
Convolutions count as direct ones, whatever computes them. The linear layer counts too. Forward passes count, and the
gradients of weights and inputs where they are used. The machine's peak is the best of some large matrix products in
float32 and bfloat16. It is measured at every turn of the same run.
Memory is the peak of the turns that count, beyond the libraries. On a CPU it includes what the allocator kept after
compiling.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from distilling import (
    Memory,
    Paced,
    Worker,
    answered,
    clock,
    distill,
    facts,
    forward_flops,
    load_compiler,
    matmul_flops,
    noise_source,
    student_flops,
    task_of,
    update_flops,
)

EPOCHS, UPDATES, SNAPSHOTS, CLASSES, SIDE = 250, 3, 5, 10, 32
WAYS = ("plain", "ddhub", "ddhub_bfloat16")
Answer = Callable[[list[float]], bool]  # takes the seconds of a turn's steps; False ends the process


def plain(asked: argparse.Namespace, answer: Answer) -> None:
    """Do turns of the plain loop."""
    from plain_loop import PlainLoop

    images = torch.randn(asked.ipc * CLASSES, 3, SIDE, SIDE, device=asked.device)
    loop = PlainLoop(asked.arch, CLASSES, images, torch.arange(len(images), device=asked.device) % CLASSES, SNAPSHOTS)
    seconds: list[float] = []
    while answer(seconds):
        seconds = []
        for step in range(UPDATES):
            begun = clock(asked.device)
            if step == 0:
                loop.refresh(asked.epochs)
            loop.update()
            seconds.append(clock(asked.device) - begun)


def ddhub(asked: argparse.Namespace, answer: Answer) -> None:
    """Do turns of the method's own loop, with the paper's settings for CIFAR-10."""
    from ddhub.base.resources import Precision
    from ddhub.distillation import recipes
    from ddhub.training import device

    student = f"{{arch: {asked.arch}, epochs: {asked.epochs}, lr: 0.02}}"
    changes = [f"ipc={asked.ipc}", "preprocess.zca=false", f"teachers={{arch: {asked.arch}, count: 1}}"]
    changes += [f"method.student={student}", f"method.refresh_every={UPDATES}", f"method.snapshots={SNAPSHOTS}"]
    precision: Precision = "bfloat16" if asked.way == "ddhub_bfloat16" else "float32"
    # This is more work than any run has, so that everything is compiled that a long run compiles.
    decisions = device.decide(asked.device, asked.threads, flops=1e18, precision=precision)
    task = task_of(
        recipes.read("cifar10_ipc50", changes),
        noise_source(max(1000, 2 * asked.ipc * CLASSES), CLASSES, SIDE),
        decisions,
    )

    def between(step: int, state: dict) -> bool:
        return step % UPDATES != 0 or answer(run.seconds_of_steps[-UPDATES:])

    with tempfile.TemporaryDirectory() as folder:
        run = Paced(Path(folder), asked.device, between)
        distill(task, run)


def serve(asked: argparse.Namespace) -> None:
    """Do one way in this process: a turn for each line of stdin. Answer with its seconds and peak memory."""
    torch.set_num_threads(asked.threads)
    if asked.way != "plain":
        load_compiler()
    answer = functools.partial(answered, Memory(asked.device))
    (plain if asked.way == "plain" else ddhub)(asked, answer)


def needed(arch: str, epochs: int, images: int) -> dict[str, float]:
    """The FLOPs of each part of a cycle."""
    label = images * forward_flops(arch, CLASSES, SIDE)[0]
    refresh = student_flops(arch, CLASSES, SIDE, epochs * images) + label
    updates = UPDATES * update_flops(arch, CLASSES, SIDE, images, SNAPSHOTS)
    return {"refresh": refresh, "updates": updates, "cycle": refresh + updates}


def parts(seconds: list[float], epochs: int) -> dict[str, float]:
    """The seconds of each part of a cycle, from the steps of a turn. The refresh is scaled to EPOCHS."""
    update = statistics.mean(seconds[1:])
    refresh = (seconds[0] - update) * EPOCHS / epochs
    return {"refresh": refresh, "updates": UPDATES * update, "cycle": refresh + UPDATES * update}


def spread(values: list[float], digits: int = 2) -> dict:
    """Median, range, and all values."""
    kept = [round(value, digits) for value in values]
    return {
        "median": round(statistics.median(values), digits),
        "range": [min(kept), max(kept)],
        "all": kept,
        "n": len(kept),
    }


def measure(asked: argparse.Namespace) -> dict:
    """Measure all ways, turn by turn. The first turn compiles and is not counted."""
    options = [
        "--ipc",
        str(asked.ipc),
        "--arch",
        asked.arch,
        "--epochs",
        str(asked.epochs),
        "--threads",
        str(asked.threads),
    ]
    turns: dict[str, list[dict]] = {way: [] for way in asked.ways}
    peaks: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as cache:
        workers = {}
        for way in asked.ways:
            command = [__file__, "--way", way, "--device", asked.device, *options]
            workers[way] = Worker(command, TORCHINDUCTOR_CACHE_DIR=f"{cache}/{way}")
            workers[way].read()
        for turn in range(asked.turns + 1):
            for way, worker in workers.items():
                turns[way].append(worker.ask())
                print(f"turn {turn} {way}: {turns[way][-1]}", file=sys.stderr)
            peaks.append({name: matmul_flops(asked.device, getattr(torch, name)) for name in ("float32", "bfloat16")})
        for worker in workers.values():
            worker.end()
    return {"turns": turns, "peaks": peaks}


def summary(asked: argparse.Namespace, found: dict) -> dict:
    """Seconds, ratios to the first way, memory, and shares of the machine's peak."""
    seconds = {way: [parts(turn["seconds"], asked.epochs) for turn in turns] for way, turns in found["turns"].items()}
    flops, peaks, names = (
        needed(asked.arch, EPOCHS, asked.ipc * CLASSES),
        found["peaks"][1:],
        ("refresh", "updates", "cycle"),
    )
    first, ways = asked.ways[0], {}
    for way, turns in seconds.items():
        counted = turns[1:]
        shares = [flops["cycle"] / turn["cycle"] for turn in counted]
        kinds = ("float32", "bfloat16") if way.endswith("bfloat16") else ("float32",)
        ways[way] = {
            "seconds": {name: spread([turn[name] for turn in counted]) for name in names},
            "peak_bytes": max(turn["peak_bytes"] for turn in found["turns"][way][1:]),
            "peak_bytes_compiling": found["turns"][way][0]["peak_bytes"],
            "compile_seconds": round(
                _raw(found, way, 0) - statistics.median(_raw(found, way, k + 1) for k in range(len(counted))), 1
            ),
            "share_of_peak": {
                kind: spread([share / peak[kind] for share, peak in zip(shares, peaks, strict=True)], 3)
                for kind in kinds
            },
        }
    ratio = {
        way: {
            name: spread([a[name] / b[name] for a, b in zip(seconds[first][1:], seconds[way][1:], strict=True)])
            for name in names
        }
        for way in asked.ways[1:]
    }
    return {"ratio": ratio, "ways": ways, "flops": flops}


def _raw(found: dict, way: str, turn: int) -> float:
    return sum(found["turns"][way][turn]["seconds"])


def main() -> None:
    """Measure one way, or compare all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of a turn's student [default: 25, or 250 on a GPU]")
    parser.add_argument("--ipc", type=int, default=10, help="images per class")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--arch", default="convnet3")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ratios are to the first")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.epochs = asked.epochs or (EPOCHS if asked.device.startswith("cuda") else 25)
    torch.set_num_threads(asked.threads)
    if asked.way:
        serve(asked)
        return
    begun = time.monotonic()
    found = measure(asked)
    command = f"python benchmarks/distill_cycle.py --threads {asked.threads} --turns {asked.turns}"
    command += f" --epochs {asked.epochs} --device {asked.device} --arch {asked.arch} --ipc {asked.ipc}"
    result = {
        **facts(asked.device, command, asked.note),
        "case": f"{asked.ipc * CLASSES} images of 3x{SIDE}x{SIDE}, {CLASSES} classes, {asked.arch};"
        f" a refresh of {EPOCHS} epochs with {SNAPSHOTS} snapshots and {UPDATES} updates of all images",
        "scaled": f"the refresh, measured over {asked.epochs} epochs" if asked.epochs != EPOCHS else None,
        "units": "seconds, bytes, FLOPs; ratios are the plain loop's seconds over ddhub's, turn by turn",
        **summary(asked, found),
        "matmul_gigaflops_per_second": {
            name: spread([peak[name] / 1e9 for peak in found["peaks"]], 1) for name in ("float32", "bfloat16")
        },
        "measured_in_seconds": round(time.monotonic() - begun),
        "turns": found["turns"],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
