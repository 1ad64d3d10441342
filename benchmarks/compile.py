"""The speed of student training, eager and compiled, in turn in one run: images per second and their ratio.

python benchmarks/compile.py > benchmarks/results/compile.json
"""

import json
import statistics
import time
from importlib.metadata import version

import torch

from ddhub.training import device, fit
from ddhub.training import network as network_module
from ddhub.training.protocol import Protocol

CASES = [
    ("convnet3_w32", 32, 100, 30),
    ("convnet3_w32", 32, 256, 12),
    ("convnet3", 32, 100, 6),
]  # arch, side, batch, steps
REPEATS = 3


def images_per_second(network: network_module.Network, batch: int, steps: int, augment: str = "dsa") -> float:
    """The throughput of training over `steps` steps of one batch, with augmentation."""
    images = torch.randn(batch, 3, network.side, network.side)
    examples = fit.Examples(images, torch.zeros(batch, dtype=torch.long), targets=torch.randn(batch, 10))
    protocol = Protocol(loss="l1_logits", augment=augment, lr=0.02, epochs=steps)
    begun = time.perf_counter()
    fit.fit(network, examples, protocol, seed=0)
    return batch * steps / (time.perf_counter() - begun)


def compare(arch: str, side: int, batch: int, steps: int) -> dict:
    """Measure both ways in turn, after a warm-up that compiles."""
    networks = {
        name: network_module.network(arch, 10, 3, side, device.decide("cpu", compile=name == "compiled"))
        for name in ("eager", "compiled")
    }
    begun = time.perf_counter()
    images_per_second(networks["compiled"], batch, 2)
    compiling = time.perf_counter() - begun
    images_per_second(networks["eager"], batch, 2)
    speeds: dict[str, list[float]] = {"eager": [], "compiled": []}
    for _ in range(REPEATS):
        for name, network in networks.items():
            speeds[name].append(images_per_second(network, batch, steps))
    ratios = [b / a for a, b in zip(speeds["eager"], speeds["compiled"], strict=True)]
    return {
        "arch": arch,
        "side": side,
        "batch": batch,
        "images_per_second": {name: [round(x) for x in values] for name, values in speeds.items()},
        "ratio": {"median": round(statistics.median(ratios), 2), "all": [round(x, 2) for x in ratios], "n": REPEATS},
        "first_call_seconds": round(compiling, 1),
    }


if __name__ == "__main__":
    result = {
        "command": "python benchmarks/compile.py",
        "hardware": device.hardware("cpu"),
        "threads": torch.get_num_threads(),
        "versions": {"torch": version("torch")},
        "cases": [compare(*case) for case in CASES],
    }
    print(json.dumps(result, indent=1))
