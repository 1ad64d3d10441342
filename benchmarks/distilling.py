"""Tools of the distiller's benchmarks: artificial tasks, timed runs, waiting processes, memory, FLOPs.

The method is called by `distill(task, run)` alone. The iterator of the Run is ours. So these benchmarks time the code
that users run.
"""

import contextlib
import functools
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from ddhub.artifact.recipe import Recipe
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.distillation.recipes import method_config, method_of
from ddhub.distillation.task import Task
from ddhub.training import architectures
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training.field_networks import ConvNet
from ddhub.training.loop import Run, State
from ddhub.training.protocol import Protocol
from ddhub.training.teachers import Teachers

NO_MEMORY = 9
PREPROCESS = Preprocess((0.5,) * 3, (0.25,) * 3)


class Over(Exception):
    """Ends a run after enough steps."""


class Paced(Run):
    """A run that saves and resumes nothing. Steps are timed. `between` is called before each and after the last.

    Args:
        between: takes the number of finished steps and the state. False ends the run. Its own time is not counted.
    """

    def __init__(self, folder: Path, device: str, between: Callable[[int, State], bool]) -> None:
        super().__init__(folder, "paced", device=device)
        self.between, self.seconds_of_steps = between, list[float]()
        self.store: Any = None  # the method's images, if it keeps them in files

    def log(self, **values: Any) -> None:
        """Do nothing, because a line would be written outside the timed loop."""

    def steps(self, n: int, state: State, store: Any = None) -> Iterator[int]:
        """Yield 0 to n - 1.

        Raises:
            Over: at the end, or when `between` ends the run. The code of a method after its loop does not run.
        """
        self.store = store
        if store is not None:
            store.rewind(0)  # fills the store
        for step in range(n):
            if state.get("stop"):
                break
            if not self.between(step, state):
                raise Over
            begun = clock(self.device)
            yield step
            self.seconds_of_steps.append(clock(self.device) - begun)
            self.seconds += self.seconds_of_steps[-1]
        self.between(len(self.seconds_of_steps), state)
        raise Over


def clock(device: str) -> float:
    """The time in seconds, after the device has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def noise_source(count: int, classes: int, side: int) -> Split:
    """A source of random pixels. Classes take turns."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=draw)
    return split(pixels, torch.arange(count) % classes, classes)


def split(pixels: torch.Tensor, labels: torch.Tensor, classes: int) -> Split:
    """A source of uint8 pixels (N, 3, S, S) and labels (N,)."""
    from ddhub.data.spec import SourceSpec

    return Split(pixels, labels, tuple(str(k) for k in range(classes)), "sha256:none", SourceSpec(dataset="noise"))


def task_of(recipe: Recipe, source: Split, decisions: devices.Decisions) -> Task:
    """A task on any source. Its teachers are untrained, because training does not change their cost."""
    channels, side = source.images.shape[1:3]
    spec = recipe.teachers
    network = networks.network(spec.home, len(source.classes), channels, side, decisions)
    teachers = Teachers([network] * spec.count, [network.init(seed) for seed in range(spec.count)], [], [])
    config = method_config(recipe)
    held_out = torch.arange(len(source) - len(source.classes), len(source))
    training = torch.arange(len(source) - len(held_out))
    protocol = Protocol(loss="l1_logits", augment=recipe.augment, lr=recipe.evaluate.lr, epochs=recipe.evaluate.epochs)
    return Task(recipe, config, source, training, held_out, PREPROCESS, teachers, protocol, decisions)


def distill(task: Task, run: Paced) -> None:
    """Run the recipe's method on a task until the run is over."""
    with contextlib.suppress(Over):
        method_of(task.recipe).distill(task, run)


class Memory:
    """The peak of memory in bytes since `take`, beyond the memory at the object's creation.

    On a GPU it is the memory that torch allocated. On a CPU it is the anonymous memory of this process, sampled 50
    times per second. Libraries that were loaded before are not counted.

    Args:
        limit: bytes at which this process ends itself with exit code NO_MEMORY, so that others on the machine go on.
    """

    def __init__(self, device: str, limit: float = float("inf")) -> None:
        self.device, self.limit = device, limit
        self.before = 0 if device.startswith("cuda") else anonymous_bytes()
        self._peak = 0
        if not device.startswith("cuda"):
            threading.Thread(target=self._watch, daemon=True).start()

    def take(self) -> int:
        """The peak in bytes since the last call, which is then forgotten."""
        peak, self._peak = self.peak, 0
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)
        return peak

    @property
    def peak(self) -> int:
        """The peak in bytes."""
        if self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        return max(self._peak, anonymous_bytes() - self.before)

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, anonymous_bytes() - self.before)
            if self._peak > self.limit:
                os._exit(NO_MEMORY)
            time.sleep(0.02)


def anonymous_bytes() -> int:
    """The anonymous memory of this process in bytes: its allocations, without mapped files and libraries."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def two_cycles(updates: int, memory: Memory, peaks: list[int]) -> Callable[[int, State], bool]:
    """A `between` of two cycles of `updates` steps. It adds to `peaks` the peaks before and in each."""

    def between(step: int, state: State) -> bool:
        if step % updates == 0:
            peaks.append(memory.take())
        return step < 2 * updates

    return between


def load_compiler() -> None:
    """Use torch.compile once, so that its imports count as libraries."""
    if devices.has_compiler():
        torch.compile(lambda x: x + 1)(torch.zeros(1))


class Worker:
    """A process of `command` that waits for lines. It answers each with one line of JSON."""

    def __init__(self, command: list[str], **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str = "go") -> Any:
        """Send a line and wait for the answer."""
        self.tell(line)
        return self.read()

    def tell(self, line: str) -> None:
        """Send a line."""
        print(line, file=_of(self.process.stdin), flush=True)

    def end(self) -> None:
        """Close the process's input and wait for its end."""
        _of(self.process.stdin).close()
        self.process.wait()

    def read(self) -> Any:
        """Wait for a line. Each worker sends a first one when it is ready."""
        line = _of(self.process.stdout).readline()
        if not line:
            raise SystemExit(f"a worker ended early with exit code {self.process.wait()}")
        return json.loads(line)


def _of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def answered(memory: Memory, seconds: Any) -> bool:
    """In a worker: send what a turn took, in time and memory, and wait. False means that no turn follows."""
    return waited({"seconds": seconds, "peak_bytes": memory.take()}) is not None


def waited(answer: Any = None) -> str | None:
    """In a worker: send an answer, if there is one, and wait for the next line. None means that no line follows."""
    if answer is not None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


@functools.cache
def forward_flops(arch: str, classes: int, side: int) -> tuple[int, int]:
    """The FLOPs of one image's forward pass: of the network, and of its first layer.

    A multiplication with its addition is two FLOPs. Convolutions and the linear layer are counted. Norms, activations
    and augmentation are not.
    """
    net = architectures.build(arch, classes, 3, side, seed=0)
    assert isinstance(net, ConvNet)
    counts, area = [], side * side
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            counts.append(2 * layer.in_channels * layer.out_channels * 9 * area)
        elif isinstance(layer, nn.AvgPool2d):
            area //= 4
    return sum(counts) + 2 * net.classifier.in_features * classes, counts[0]


def student_flops(arch: str, classes: int, side: int, images: float) -> float:
    """The FLOPs of training on so many images. The first layer needs no gradients of its inputs."""
    total, first = forward_flops(arch, classes, side)
    return images * (3 * total - first)


def update_flops(arch: str, classes: int, side: int, images: float, snapshots: int) -> float:
    """The FLOPs of an update: forward passes and gradients of inputs, for the snapshots and one teacher."""
    return images * (snapshots + 1) * 2 * forward_flops(arch, classes, side)[0]


def matmul_flops(device: str, dtype: torch.dtype = torch.float32, tries: int = 5) -> float:
    """FLOPs per second of the fastest of some products of two large square matrices."""
    size = 8192 if device.startswith("cuda") else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(tries):
        begun = clock(device)
        a @ b
        best = min(best, clock(device) - begun)
    return 2 * size**3 / best


def command() -> str:
    """The command line, with no folders of this machine but by their last name."""
    return shlex.join(["python", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv)])


def facts(device: str, command: str, note: str = "") -> dict[str, Any]:
    """The command, hardware and versions of a result."""
    return {
        "command": command,
        "note": note,
        "hardware": devices.hardware(device),
        "threads": torch.get_num_threads(),
        "versions": {"torch": version("torch"), "python": sys.version.split()[0]},
    }
