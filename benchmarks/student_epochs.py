"""Peak memory of the distiller by the epochs of its students. Each number has a process of its own.

python benchmarks/student_epochs.py --threads 1 > benchmarks/results/student_epochs.json

Each process does a refresh and its three updates twice, on 100 images of 32x32x3 (ipc 10, ConvNet-3 of width 128, five
snapshots). The first time compiles, and the second counts. Methods that differentiate through training hold every step
of it, so their memory grows with the epochs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from distilling import Memory, Paced, Worker, distill, facts, load_compiler, noise_source, task_of, two_cycles, waited

UPDATES = 3


def measure(asked: argparse.Namespace, epochs: int) -> dict:
    """Measure in this process the peak in bytes at the start, while compiling, and afterwards."""
    from ddhub.distillation import recipes
    from ddhub.training import device

    load_compiler()
    memory, peaks = Memory(asked.device), list[int]()
    changes = [f"method.student={{arch: {asked.arch}, epochs: {epochs}, lr: 0.01}}", f"teachers.arch={asked.arch}"]
    decisions = device.decide(asked.device, asked.threads, flops=1e18)
    task = task_of(
        recipes.read("cifar10_ipc50", [*changes, "ipc=10", "teachers.count=1"]), noise_source(1000, 10, 32), decisions
    )

    with tempfile.TemporaryDirectory() as folder:
        distill(task, Paced(Path(folder), asked.device, two_cycles(UPDATES, memory, peaks)))
    return {"student_epochs": epochs, "peak_bytes": dict(zip(("start", "compiling", "running"), peaks, strict=True))}


def main() -> None:
    """Measure one number of epochs, or all in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 50, 250])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arch", default="convnet3")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.worker is not None:
        waited(measure(asked, asked.worker))
        return
    common = ["--arch", asked.arch, "--threads", str(asked.threads), "--device", asked.device]
    rows = []
    for _ in range(asked.repeats):
        for epochs in asked.epochs:
            worker = Worker([__file__, "--worker", str(epochs), *common])
            rows.append(worker.read())
            worker.end()
            print(rows[-1], file=sys.stderr)
    command = f"python benchmarks/student_epochs.py --arch {asked.arch} --threads {asked.threads}"
    print(json.dumps({**facts(asked.device, command), "n": asked.repeats, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
