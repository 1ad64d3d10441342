"""The cost of a step for a GPU's host, counted without a GPU: launched operations, and copies that the host waits for.

python benchmarks/counted_steps.py > benchmarks/results/counted_steps.json

Operations are counted on the CPU as torch dispatches them, without views. Each is one launch or more.
A student's step trains ConvNet-3 of width 128 with L1, DSA and SGD. A teacher's step trains on whitened images with
cross-entropy. `plain` is the whole step. `graph` is the rest beside one replay: rows, augmentation, and copies into
the graph. tests/support/fake_gpu.py counts copies.
The seconds of two schedules follow from both. One is the paper's for CIFAR-10 with 50 images per class, the other is
stage d of benchmarks/gpu.py. These seconds rest on the constants below. They are no measurement; a GPU has to confirm
them.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from distilling import facts
from torch.utils._python_dispatch import TorchDispatchMode

from ddhub.training import batches, fit
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training.protocol import Loss, Protocol

LAUNCH = 27e-6  # seconds of the host per counted operation: 2.9 ms for a plain step of 106
STUDENT = 2.2e-3  # seconds of a GPU for a step of 250 images at width 128, estimated for an H100 with TF32
UPDATE = 25e-3  # seconds of a GPU for an update of 500 images: one teacher and five snapshots, forward and backward
PAGEABLE = 10e9  # bytes per second from memory that is not pinned
MATRIX = 4 * 3072**2  # bytes of the whitening at 32 px
PIXELS = 256 * 3072  # bytes of a teacher's batch
# Bytes that a step waited for before the change: a teacher's step copied its images and the matrix each time.
BEFORE = {"student": 0, "teacher": MATRIX + PIXELS}
EPOCHS = 10


class Counter(TorchDispatchMode):
    """Counts operations that make or change values."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), given: Any = None) -> Any:
        """Count an operation."""
        self.count += not function.is_view
        return function(*arguments, **(given or {}))


def launches(loss: Loss) -> dict[str, float]:
    """The operations of a step: all, and those outside the graph. Both are means over the draws of augmentation."""
    network = networks.network("convnet3", 10, 3, 32, devices.Decisions(threads=torch.get_num_threads()))
    examples = fit.Examples(torch.randn(8, 3, 32, 32), torch.arange(8), targets=torch.randn(8, 10))
    protocol = Protocol(loss=loss, lr=0.01, epochs=EPOCHS, batch=4, min_steps=0)
    with Counter() as whole:
        fit.fit(network, examples, protocol, seed=0)
    with Counter() as start:
        fit.fit(network, examples, protocol.model_copy(update={"epochs": 1}), seed=0)
    with Counter() as outside:
        for epoch in range(1, EPOCHS):
            list(batches.epoch(examples, protocol, 2, 0, epoch, "cpu"))
    steps = 2 * (EPOCHS - 1)
    copies, replay = (3 if loss == "l1_logits" else 2), 1
    return {"plain": (whole.count - start.count) / steps, "graph": outside.count / steps + copies + replay}


def seconds(schedule: dict[str, int], steps: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Seconds of a schedule before and after the change: the slower of host and GPU, and the waits of the host."""
    found: dict[str, Any] = {"updates": schedule["updates"] * UPDATE}
    for name in ("student", "teacher"):
        plain, graph = (max(LAUNCH * steps[name][way], STUDENT) for way in ("plain", "graph"))
        number = schedule[f"{name}_steps"]
        found[name] = {"before": number * (plain + BEFORE[name] / PAGEABLE), "after": number * graph}
    found["all"] = {when: found["updates"] + sum(found[n][when] for n in ("student", "teacher")) for when in WHEN}
    return found


WHEN = ("before", "after")
SCHEDULES = {
    "the paper's, 10 teachers": {"student_steps": 834 * 250 * 2, "teacher_steps": 10 * 100 * 176, "updates": 2500},
    "benchmarks/gpu.py d": {"student_steps": 100 * 100 * 2, "teacher_steps": 5 * 50 * 176, "updates": 2 * 600},
}


def main() -> None:
    """Count the operations of both steps, and print the result."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    steps = {"student": launches("l1_logits"), "teacher": launches("ce")}
    result = {
        **facts("cpu", "python benchmarks/counted_steps.py", "no GPU: counted, not measured"),
        "operations_a_step": {name: {way: round(n, 1) for way, n in each.items()} for name, each in steps.items()},
        "schedules": {name: {"steps": each, "seconds": seconds(each, steps)} for name, each in SCHEDULES.items()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
