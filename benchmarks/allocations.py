"""What the ImageNet recipes allocate on a GPU, counted without one: every tensor of a student's step and of an update.

python benchmarks/allocations.py > benchmarks/results/allocations.json

Tensors are fake: they have a device, a shape and a storage, and no content. So the code of an accelerator runs on any
machine. A storage counts from the operation that made it to its release, as for torch.cuda.max_memory_allocated.
Workspaces of convolutions are not counted. Nor is what the allocator rounds up, caches or fragments.
An iteration in TESLA's shape (benchmarks/tesla_step.py) is counted too, on the same batch in the same chunks. It needs
second-order graphs.
`--real` counts the same calls on real CPU tensors by the same counter. It also measures the memory of the process. The
difference shows the error of the counter.
"""

import argparse
import json
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from distilling import Memory, facts
from tesla_step import CASES, Tesla
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddhub.distillation.methods.apm import loop as apm
from ddhub.training import architectures, augment, fit
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol

ARCH, CLASSES, SIDE, BATCH, STUDENT_BATCH, SNAPSHOTS = "convnet4", 1000, 64, 500, 250, 5
PAPER = {100: 6.5, 250: 7.0, 500: 13.3}  # GB at these chunks, read from the authors' figure (+-0.3)


class Counter(TorchDispatchMode):
    """The bytes of all storages that exist, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self.hold(value)
        self.most = max(self.most, sum(self.live.values()))
        return made

    def hold(self, value: Tensor) -> None:
        """Count a tensor's storage until it is released."""
        storage = value.untyped_storage()
        if (key := storage._cdata) not in self.live:
            self.live[key] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, key, None)


class Faked(networks.Network):
    """A network on the accelerator. Its new weights are fake."""

    mode: FakeTensorMode

    def init(self, seed: int) -> networks.Weights:
        """New weights."""
        with unset_fake_temporarily():
            fresh = architectures.build(self.arch, self.classes, self.channels, self.side, seed).state_dict()
        return self.place({name: self.mode.from_tensor(value) for name, value in fresh.items()})


def network(mode: FakeTensorMode | None, chunk: int) -> networks.Network:
    """A network on the accelerator with fake tensors; a real one on the CPU if `mode` is None."""
    decisions = devices.Decisions(threads=torch.get_num_threads())
    if mode is None:
        return networks.Network(ARCH, CLASSES, 3, SIDE, replace(decisions, micro_batch=chunk))
    made = Faked(ARCH, CLASSES, 3, SIDE, decisions)
    made.mode, made.decisions = mode, replace(decisions, device="meta", micro_batch=chunk)
    return made


def student(net: networks.Network, device: str) -> None:
    """Train a student for some steps, in micro-batches of the chunk."""
    images, targets = torch.zeros(BATCH, 3, SIDE, SIDE, device=device), torch.zeros(BATCH, CLASSES, device=device)
    examples = fit.Examples(images, torch.zeros(BATCH, dtype=torch.int64, device=device), targets=targets)
    protocol = Protocol(loss="l1_logits", augment="rotate", lr=0.1, epochs=2, batch=STUDENT_BATCH, min_steps=0)
    fit.fit(net, examples, protocol, seed=0)


def update(net: networks.Network, chunk: int, device: str) -> None:
    """Compute the gradient of one chunk, while the batch, its momentum and the snapshots are held."""
    images = torch.zeros(BATCH, 3, SIDE, SIDE, device=device)
    held = [torch.zeros_like(images) for _ in ("velocity", "gradient")]
    labels = torch.zeros(chunk, dtype=torch.int64, device=device)
    snapshots, teacher = [net.init(seed) for seed in range(SNAPSHOTS)], net.init(9)
    apm.disagree(images[:chunk], labels, [(net, snapshots)], partial(net.forward, teacher), 0.1)
    del held


def tesla(mode: FakeTensorMode | None, chunk: int) -> Callable[[], Any]:
    """TESLA's iteration of two inner steps, on real tensors or on fake ones."""
    made = Tesla(CASES["imagenet"], chunk, "cpu")
    if mode is not None:
        for name in ("images", "labels", "rate"):
            setattr(made, name, mode.from_tensor(getattr(made, name)).to("meta"))
        for name in ("start", "target"):
            weights = {key: mode.from_tensor(value).to("meta") for key, value in getattr(made, name).items()}
            setattr(made, name, weights)
    return lambda: made.iteration(2)


def counted(chunk: int, real: bool) -> dict[str, Any]:
    """The peaks of APM and TESLA at a chunk."""
    mode, device = (None, "cpu") if real else (FakeTensorMode(), "meta")
    net = network(mode, min(chunk, STUDENT_BATCH))
    found: dict[str, Any] = {}
    calls: dict[str, Callable[[], None]] = {
        "student": lambda: student(net, device),
        "update": lambda: update(net, chunk, device),
        "TESLA's iteration": tesla(mode, chunk),
    }
    for name, call in calls.items():
        counter, memory = Counter(), Memory("cpu") if real else None
        outer: AbstractContextManager[Any] = nullcontext() if mode is None else mode
        with outer, counter:
            call()
        found[name] = counter.most
        if memory is not None:
            found[f"{name}: anonymous memory of the process"] = memory.peak
    return {"chunk": chunk, "peak_bytes": found, "paper_gigabytes": PAPER.get(chunk)}


def main() -> None:
    """Count at every chunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10, 25, 50, 100, 250, 500])
    parser.add_argument("--real", action="store_true", help="on the CPU, to check the counter")
    asked = parser.parse_args()
    if not asked.real:  # fake values cannot be read: neither by the check for divergence nor by draws on the host
        fit._check = lambda *_: None
        augment._drawn = lambda strategy, _: strategy  # type: ignore[assignment]
    shapes = (
        f"{ARCH}, {CLASSES} classes, {SIDE} px; {BATCH} images, {STUDENT_BATCH} a student's step, {SNAPSHOTS} snapshots"
    )
    command = f"python benchmarks/allocations.py --chunks {' '.join(map(str, asked.chunks))}" + " --real" * asked.real
    result = {
        **facts("cpu", command, "no GPU: counted on fake tensors" if not asked.real else "on real CPU tensors"),
        "shapes": shapes,
        "units": "bytes allocated at once, without the workspaces of convolutions and what an allocator adds",
        "rows": [counted(chunk, asked.real) for chunk in asked.chunks],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
