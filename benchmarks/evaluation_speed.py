"""Five seeds of a network on 100 images of 32x32x3: ddhub's evaluator and a plain loop, in turn in one run.

python benchmarks/evaluation_speed.py --threads 2 > benchmarks/results/evaluation_speed.json

Each way is a process of its own with an empty compiler cache. Allocator and compiler have their defaults. All others
wait while one way trains for a few steps. Ways take turns, so that other work on the machine slows all of them alike.
The plain loop is written like public evaluation code: one seed after another, a DataLoader, eager float32. Its DSA
works on batches, but draws magnitudes and makes matrices image by image. Its meter is read at every step. It trains
ddhub's ConvNet, which has fewer operations than the usual one (no biases before the norms).
The time of a whole row is the sum of measured parts: calibration and compiling, which happen once, the steps, and one
test on 10,000 images.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

CASES = {"convnet3": 3, "convnet3_w32": 15}  # architecture, steps in a turn
SEEDS, IMAGES, TESTS, CLASSES, SIDE = 5, 100, 10_000, 10, 32
EPOCHS = (300, 1000)
TURNS = 9
TESTED = 2000  # images of a test; every third turn has a test


Ready = tuple[dict, Callable[[], object], Callable[[], object]]  # the cost of preparation, a turn of steps, a test


def plain(arch: str, steps: int, folder: Path, threads: int) -> Ready:
    """Prepare the plain loop."""
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from ddhub.training import architectures

    torch.set_num_threads(threads)
    images, labels = torch.randn(IMAGES, 3, SIDE, SIDE), torch.arange(IMAGES) % CLASSES
    loader = DataLoader(TensorDataset(images, labels), batch_size=256, shuffle=True)
    net = architectures.build(arch, CLASSES, 3, SIDE, seed=0).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch() -> float:
        loss_sum, hits, seen = 0.0, 0.0, 0
        for inputs, target in loader:
            output = net(plain_dsa(inputs))
            loss = F.cross_entropy(output, target)
            hits += (output.argmax(1) == target).float().sum().item()
            loss_sum += loss.item() * len(target)
            seen += len(target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss_sum / seen + hits

    tests = DataLoader(TensorDataset(torch.randn(TESTED, 3, SIDE, SIDE), torch.zeros(TESTED)), batch_size=256)

    def test() -> float:
        net.eval()
        with torch.no_grad():
            hits = sum((net(inputs).argmax(1) == target).float().sum().item() for inputs, target in tests)
        net.train()
        return hits

    epoch()
    return {"once": 0.0, "networks": 1}, lambda: [epoch() for _ in range(steps)], test


def plain_dsa(x: Any) -> Any:
    """DSA with one operation per batch and a magnitude per image."""
    import torch
    import torch.nn.functional as F

    count, side = len(x), x.shape[-1]
    name = random.choice(["color", "crop", "cutout", "flip", "scale", "rotate"])
    if name == "color":
        x = x + (torch.rand(count, 1, 1, 1) - 0.5)
        mean = x.mean(1, keepdim=True)
        x = (x - mean) * (torch.rand(count, 1, 1, 1) * 2) + mean
        mean = x.mean((1, 2, 3), keepdim=True)
        return (x - mean) * (torch.rand(count, 1, 1, 1) + 0.5) + mean
    if name == "flip":
        return torch.where(torch.rand(count, 1, 1, 1) < 0.5, x.flip(3), x)
    if name in ("crop", "cutout"):
        reach = side // 8 if name == "crop" else side // 4
        batch, rows, columns = torch.meshgrid(
            torch.arange(count), torch.arange(side), torch.arange(side), indexing="ij"
        )
        if name == "crop":
            down, across = torch.randint(0, 2 * reach + 1, (2, count, 1, 1))
            padded = F.pad(x, (reach,) * 4).permute(0, 2, 3, 1)
            return padded[batch, rows + down, columns + across].permute(0, 3, 1, 2)
        down, across = torch.randint(0, side, (2, count, 1, 1))
        hole = ((rows - down).abs() < reach) & ((columns - across).abs() < reach)
        return x * (~hole).unsqueeze(1)
    thetas = []
    for _ in range(count):
        if name == "scale":
            wide, high = (random.uniform(1 / 1.2, 1.2) for _ in range(2))
            thetas.append([[wide, 0.0, 0.0], [0.0, high, 0.0]])
        else:
            angle = math.radians(random.uniform(-15, 15))
            turn = [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]
            thetas.append(turn)
    grid = F.affine_grid(torch.tensor(thetas), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


def ours(arch: str, steps: int, folder: Path, threads: int, precision: Literal["float32"] | None = None) -> Ready:
    """Prepare ddhub's evaluator, with its calibration."""
    from ddhub.artifact import folder as folders
    from ddhub.base.resources import Resources
    from ddhub.evaluation import speed, workbench
    from ddhub.evaluation.request import Cell, EvaluationRequest
    from ddhub.training import fit as fitting

    cells = tuple(Cell(arch, "native", "distilled", seed) for seed in range(SEEDS))
    request = EvaluationRequest(
        reference=str(folder),
        fetch=Path,
        name="noise",
        cells=cells,
        resources=Resources(device="cpu", threads=threads, precision=precision),
    )
    made = workbench.build(folders.read(folder), request)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        settled = speed.settle(made, Path(out))
    network, way = settled.network(arch), settled.decisions[arch]
    seeds = list(range(way.together))
    examples = [workbench.examples(settled, cells[seed]) for seed in seeds]

    def fit(epochs: int) -> list[dict[str, Any]]:
        brief = settled.protocol(cells[0]).model_copy(update={"epochs": epochs})
        return [each[-1] for each in fitting.fit_many(network, examples, brief, seeds) if each]

    tests = fitting.Examples(settled.test.images, settled.test.labels, settled.set.preprocess)
    weights = fit(1)[0]  # compiles, if calibration had nothing to compare
    fitting.accuracy(network, weights, tests)  # compiles too
    facts = {"once": time.perf_counter() - begun, "networks": len(seeds), "decisions": way.record()}
    return facts, lambda: fit(steps), lambda: fitting.accuracy(network, weights, tests)


def float32(arch: str, steps: int, folder: Path, threads: int) -> Ready:
    """Prepare ddhub's evaluator with float32 alone."""
    return ours(arch, steps, folder, threads, "float32")


WAYS = {"plain": plain, "ddhub": ours, "ddhub_float32": float32}


def serve(way: str, arch: str, folder: Path, threads: int) -> None:
    """Prepare one way. Then do each line of stdin (`steps` or `test`), and print its wall and CPU seconds."""
    facts, steps, test = WAYS[way](arch, CASES[arch], folder, threads)
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        begun, busy = time.perf_counter(), time.process_time()
        (steps if line.strip() == "steps" else test)()
        print(json.dumps([time.perf_counter() - begun, time.process_time() - busy]), flush=True)


def make_set(folder: Path) -> Path:
    """An artifact of 100 random noise images with hard labels, and 2,000 test images."""
    import datasets
    import numpy as np
    from PIL import Image

    from ddhub.base.resources import Resources
    from ddhub.distillation import pipeline, recipes

    draw = np.random.default_rng(0)
    for split, count in (("train", 200), ("test", 2000)):
        images = [Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]
        features = datasets.Features(
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=[str(k) for k in range(CLASSES)])}
        )
        content = {"img": images, "label": [k % CLASSES for k in range(count)]}
        (folder / "source" / "data").mkdir(parents=True, exist_ok=True)
        rows = datasets.Dataset.from_dict(content, features=features)
        rows.to_parquet(folder / "source" / "data" / f"{split}-00000-of-00001.parquet")
    changes = [
        f"source.path={folder / 'source'}",
        "teachers.count=0",
        "method={name: random}",
        "labels={form: hard}",
        "evaluate={epochs: 300, lr: 0.01, batch: 256, seeds: 5, packaging_seeds: 1}",
    ]
    found = recipes.read("cifar10_ipc10_small", changes)
    pipeline.make(found, folder / "set", overrides=changes, resources=Resources(threads=1))
    return folder / "set"


class Way:
    """One way in a process of its own."""

    def __init__(self, name: str, arch: str, folder: Path, threads: int, cache: str) -> None:
        command = [sys.executable, __file__, "--way", name, "--arch", arch, "--set", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/{name}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self.answer()
        self.parts = CASES[arch] * self.facts["networks"]

    def answer(self) -> Any:
        """Read a line of its output."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def turn(self, what: str) -> list[float]:
        """Wall and CPU seconds of one step, or of a test on TESTS images."""
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        return [value / self.parts if what == "steps" else value * TESTS / TESTED for value in self.answer()]

    def end(self) -> None:
        """Close its input and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(arch: str, folder: Path, threads: int) -> dict:
    """Measure all ways in turn, TURNS times."""
    with tempfile.TemporaryDirectory() as cache:
        ways = {name: Way(name, arch, folder, threads, cache) for name in WAYS}
        steps: dict[str, list[list[float]]] = {name: [] for name in ways}
        tests: dict[str, list[list[float]]] = {name: [] for name in ways}
        for turn in range(TURNS):
            for name, way in ways.items():
                steps[name].append(way.turn("steps"))
            for name, way in ways.items():
                if turn % 3 == 0:
                    tests[name].append(way.turn("test"))
        for way in ways.values():
            way.end()
    measured = {name: {**way.facts, "step": steps[name], "test": tests[name]} for name, way in ways.items()}
    ratios = {name: ratio(measured["plain"], measured[name]) for name in ways if name != "plain"}
    return {"arch": arch, "ratio": ratios, "measured": measured}


def ratio(plain: dict, other: dict) -> dict:
    """The speed of the other way relative to the plain loop, turn by turn: of steps, and of whole rows."""
    turns = list(zip(plain["step"], other["step"], strict=True))
    found = {"steps": [a[0] / b[0] for a, b in turns], "steps_by_cpu_time": [a[1] / b[1] for a, b in turns]}
    for epochs in EPOCHS:
        rows = [(row_seconds(plain, a[0], epochs), row_seconds(other, b[0], epochs)) for a, b in turns]
        found[f"row_of_{epochs}_epochs"] = [a / b for a, b in rows]
    return {
        name: {"median": round(statistics.median(values), 2), "all": [round(value, 2) for value in values]}
        for name, values in found.items()
    }


def row_seconds(way: dict, step: float, epochs: int) -> float:
    """The seconds of a row: its steps, its test, and its share of the work that five seeds do once."""
    return way["once"] / SEEDS + epochs * step + statistics.median(test[0] for test in way["test"])


def main() -> None:
    """Measure one way, or compare all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--arch", choices=CASES)
    parser.add_argument("--set", type=Path)
    asked = parser.parse_args()
    if asked.way:
        serve(asked.way, asked.arch, asked.set, asked.threads)
        return
    from ddhub.training import device

    with tempfile.TemporaryDirectory() as folder:
        os.environ["DDHUB_HOME"] = folder  # decoded images are removed with the folder
        made = make_set(Path(folder))
        cases = [compare(arch, made, asked.threads) for arch in CASES]
    result = {
        "command": f"python benchmarks/evaluation_speed.py --threads {asked.threads}",
        "note": asked.note,
        "hardware": device.hardware("cpu"),
        "threads": asked.threads,
        "versions": {"torch": version("torch")},
        "seeds": SEEDS,
        "images": IMAGES,
        "turns": TURNS,
        "units": "seconds; `once` for all seeds; `step` of one network and `test` on 10,000 images: [wall, CPU]",
        "cases": cases,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
