"""What a step costs a GPU's host, counted without one: operations launched, and copies that the host waits for.

python benchmarks/counted_steps.py > benchmarks/results/counted_steps.json

Operations are counted on the CPU as torch dispatches them, views left out: each is a launch or more. A step is one of
a student (ConvNet-3 of width 128, L1, DSA, SGD) and one of a teacher (cross-entropy, whitened images). `plain` is all
of a step; `graph` is what is left beside one replay: rows, augmentation, copies into the graph. Copies are counted by
tests/support/card.py. From both come the seconds of two schedules: the paper's for CIFAR-10, 50 images per class, and
that of stage d of benchmarks/gpu.py. They rest on the constants below, are no measurement, and wait for a card.
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

LAUNCH = 27e-6  # seconds of the host for an operation as counted here: 2.9 ms for a plain step of 106
STUDENT = 2.2e-3  # seconds of a card for a step of 250 images at width 128, as estimated for an H100 with TF32
UPDATE = 25e-3  # seconds of a card for an update of 500 images: one teacher and five snapshots, forward and backward
PAGEABLE = 10e9  # bytes a second from memory that is not pinned
MATRIX = 4 * 3072**2  # bytes of the whitening at 32 px
PIXELS = 256 * 3072  # bytes of a teacher's batch
# Before: a student's step waited for its rows and draws, a teacher's for its images and the matrix too.
BEFORE = {"student": 0, "teacher": MATRIX + PIXELS}
EPOCHS = 10


class Counter(TorchDispatchMode):
    """Operations that make or change values."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), given: Any = None) -> Any:
        """Count one."""
        self.count += not function.is_view
        return function(*arguments, **(given or {}))


def launches(loss: Loss) -> dict[str, float]:
    """Operations of a step: all, and those that no graph holds; the mean over an augmentation's draws."""
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
    """Seconds of a schedule before and after: of host and card the slower, and what the host waited for."""
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
    """Count, and put together."""
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
