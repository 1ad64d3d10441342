"""Teacher training with and without device.keep_freed_memory, in turn, each in its own process: images per second.

python benchmarks/freed_memory.py > benchmarks/results/freed_memory.json
"""

import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

import torch

from ddhub.data.preprocess import Preprocess
from ddhub.training import device, fit
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol

ARCH, BATCH, STEPS, REPEATS = "convnet3_w32", 128, 40, 3


def measure(keep: bool) -> dict:
    """Throughput and kernel seconds of one compiled training on uint8 images, after a warm-up."""
    if not keep:
        device.keep_freed_memory = functools.cache(lambda: False)
    network = networks.network(ARCH, 10, 3, 32, device.decide("cpu", compile=True))
    images = torch.randint(0, 255, (BATCH * STEPS, 3, 32, 32), dtype=torch.uint8)
    examples = fit.Examples(images, torch.zeros(len(images), dtype=torch.long), Preprocess((0.5,) * 3, (0.25,) * 3))
    protocol = Protocol(loss="ce", lr=0.02, epochs=1, batch=BATCH)
    fit.fit(network, examples, protocol, seed=0)
    kernel, begun = resource.getrusage(resource.RUSAGE_SELF).ru_stime, time.perf_counter()
    fit.fit(network, examples, protocol, seed=0)
    seconds = time.perf_counter() - begun
    kernel = resource.getrusage(resource.RUSAGE_SELF).ru_stime - kernel
    return {"images_per_second": round(len(images) / seconds), "kernel_seconds": round(kernel, 2)}


def run(keep: bool) -> dict:
    """`measure` in a new process, because the setting cannot be undone."""
    command = [sys.executable, __file__, "keep" if keep else "plain"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1] == "keep")))
        sys.exit()
    pairs = [{"plain": run(False), "keep": run(True)} for _ in range(REPEATS)]
    ratios = [pair["keep"]["images_per_second"] / pair["plain"]["images_per_second"] for pair in pairs]
    result = {
        "command": "python benchmarks/freed_memory.py",
        "hardware": device.hardware("cpu"),
        "threads": torch.get_num_threads(),
        "versions": {"torch": version("torch")},
        "case": f"{ARCH}, 32 px, batch {BATCH}, compiled, augmentation included",
        "pairs": pairs,
        "ratio": {
            "median": round(statistics.median(ratios), 2),
            "all": [round(ratio, 2) for ratio in ratios],
            "n": REPEATS,
        },
    }
    print(json.dumps(result, indent=1))
