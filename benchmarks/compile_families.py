"""The training of narrow networks of every family, eager and compiled, in turn in one run: CPU seconds per step.

python benchmarks/compile_families.py > benchmarks/results/compile_families.json

Training has one thread. So CPU seconds are the time of a step on an idle core, even on a busy machine.
The cost of compiling is CPU seconds too, those of the C++ compiler included, with an empty cache. A result also says
after how many steps compiling has paid.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from importlib.metadata import version

os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="compile-families-")

import torch

from ddhub.training import architectures, device, fit
from ddhub.training import network as network_module
from ddhub.training.protocol import Protocol

ARCHS = ["convnet3_w32", "alexnet_in_w32", "vgg11_in_w16", "vit_tiny_w64", "resnet18_w16", "resnet18_in_w16"]
SIDE, BATCH, REPEATS = 32, 50, 3


def cpu_seconds() -> float:
    """CPU seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def step_seconds(network: network_module.Network, steps: int) -> float:
    """CPU seconds of a training step, with augmentation."""
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    examples = fit.Examples(images, torch.zeros(BATCH, dtype=torch.long), targets=torch.randn(BATCH, 10))
    protocol = Protocol(loss="l1_logits", augment="dsa", lr=0.02, epochs=steps, min_steps=0)
    begun = time.process_time()
    fit.fit(network, examples, protocol, seed=0)
    return (time.process_time() - begun) / steps


def compare(arch: str, steps: int) -> dict:
    """Measure both ways in turn, after a warm-up that compiles."""
    networks = {
        name: network_module.network(arch, 10, 3, SIDE, device.decide("cpu", 1, compile=name == "compiled"))
        for name in ("eager", "compiled")
    }
    step_seconds(networks["eager"], 2)
    begun = cpu_seconds()
    step_seconds(networks["compiled"], 1)
    compiling = cpu_seconds() - begun
    seconds: dict[str, list[float]] = {"eager": [], "compiled": []}
    for _ in range(REPEATS):
        for name, network in networks.items():
            seconds[name].append(step_seconds(network, steps))
    ratios = [a / b for a, b in zip(seconds["eager"], seconds["compiled"], strict=True)]
    gained = statistics.median(seconds["eager"]) - statistics.median(seconds["compiled"])
    return {
        "arch": arch,
        "milliseconds": {name: [round(1000 * value, 1) for value in values] for name, values in seconds.items()},
        "ratio": {"median": round(statistics.median(ratios), 2), "all": [round(x, 2) for x in ratios], "n": REPEATS},
        "compiling_seconds": round(compiling, 1),
        "pays_after_steps": round(compiling / gained) if gained > 0 else None,
    }


def main() -> None:
    """Compare every architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=ARCHS)
    parser.add_argument("--steps", type=int, default=6)
    asked = parser.parse_args()
    every = tuple(architectures.family(arch) for arch in asked.archs)
    vars(architectures)["COMPILED"] = every  # the results of this script decide which families ddhub compiles
    cases = []
    for arch in asked.archs:
        cases.append(compare(arch, asked.steps))
        print(cases[-1], file=sys.stderr, flush=True)
    result = {
        "command": f"python benchmarks/compile_families.py --steps {asked.steps}",
        "hardware": device.hardware("cpu"),
        "threads": 1,
        "versions": {"torch": version("torch")},
        "side": SIDE,
        "batch": BATCH,
        "cases": cases,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
