"""Devices, threads, precision and compilers: what speed decides for a run, once.

The only file that knows machines. Decisions change the last bits of results, so they are frozen into runs and rows
and replayed.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddhub.base.errors import UserError
from ddhub.base.resources import AskedPrecision, Precision, Resources

# Training work in FLOPs from which compiling pays on a CPU: compiling costs tens of seconds, after which ConvNets train
# about twice as fast (benchmarks/README.md).
COMPILE_FROM = 2e12

RESIDENT = 0.25  # share of a card's memory that the images of a training may take for good

OWN_THREADS = torch.get_num_threads()  # torch's own choice, before anybody changes it


@dataclass(frozen=True)
class Decisions:
    """What speed decided for a run; the same decisions on the same machine and versions give the same bits."""

    device: str = "cpu"
    threads: int = 1
    compile: bool = False
    precision: Precision = "float32"  # of the forward pass in training; weights, losses and scores are float32 always
    together: int = 1  # networks that differ by seed only and are trained in one program; 1: one after another
    micro_batch: int = 0  # images of a training step whose gradient is taken at once; 0: all
    chunk: int = 0  # images that are predicted, or themselves have a gradient, at once; 0: as many as is usual
    graph: bool = False  # whether a step is recorded and replayed as one CUDA graph
    channels_last: bool = True  # the memory format of images and filters
    tf32: bool = False  # whether a card's convolutions round their inputs to 10 bits; never those of scores
    deterministic: bool = False  # of a card, whose bits may differ from run to run otherwise; a CPU's never do
    resident: int = 0  # bytes of the images of a training that may stay on the device; more are sent batch by batch

    def record(self) -> dict[str, Any]:
        """The decisions as they stand in checkpoints, manifests and rows."""
        return asdict(self)

    def obey(self, asked: Resources) -> bool:
        """Whether these decisions are what was asked for, wherever anything was."""
        return all(
            getattr(asked, name) in (None, value) for name, value in self.record().items() if hasattr(asked, name)
        )

    @property
    def title(self) -> str:
        """The way of training in words, as `float32, graph, 3 at once`."""
        words = [self.precision, *["graph"] * self.graph, *["compiled"] * self.compile]
        words += [f"{self.together} at once"] * (self.together > 1) + ["contiguous"] * (not self.channels_last)
        return ", ".join(words)

    def exact(self) -> "Decisions":
        """The same in float32 and one by one, as what is cached for runs of any precision."""
        return replace(self, precision="float32", together=1)


def decide(
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    flops: float = 0,
    precision: AskedPrecision | None = None,
    together: int | None = None,
    deterministic: bool | None = None,
) -> Decisions:
    """Decide once how to run.

    Args:
        device: a torch device; None takes CUDA where there is one, of several this process's own (LOCAL_RANK).
        threads: CPU threads; None leaves torch's own choice.
        compile: None compiles on a CPU with a C++ compiler, where `flops` of ConvNet training lie ahead.
        flops: an estimate of that work.
        precision: None and `auto` are float32 for now, together: None is 1. What is fastest here,
            ddhub/evaluation/speed.py measures.
        deterministic: None is not, as on a card it costs speed.

    Raises:
        UserError: for a device that is not there, or `compile` without a C++ compiler.
    """
    name = device or own_device()
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as fault:
        raise UserError(f"--device {name}: not available here", next="--device cpu") from fault
    if compile and not has_compiler():
        raise UserError("--compile: no C++ compiler found (g++ or clang++)", next="--no-compile")
    if threads is not None:
        torch.set_num_threads(threads)
    if compile is None:
        compile = name == "cpu" and flops >= COMPILE_FROM and has_compiler()
    half = precision == "bfloat16"
    decided = Decisions(name, torch.get_num_threads(), compile, "bfloat16" if half else "float32", together or 1)
    if not _cuda(name):
        return decided
    room = int(RESIDENT * torch.cuda.mem_get_info(name)[1])
    decided = replace(decided, graph=True, tf32=True, deterministic=bool(deterministic), resident=room)
    _switch(decided)
    return decided


def decide_for(asked: Resources, flops: float = 0) -> Decisions:
    """Decide once how to run with what was asked for; as `decide` does."""
    ways = (asked.precision, asked.together, asked.deterministic)
    return decide(asked.device, asked.threads, asked.compile, flops, *ways)


def _switch(decisions: Decisions) -> None:
    """Set what torch keeps for the whole process, of a card."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(decisions.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nobody reads any
    torch.backends.cudnn.deterministic = decisions.deterministic
    torch.backends.cudnn.benchmark = not decisions.deterministic
    torch.backends.cudnn.allow_tf32 = decisions.tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # whitening and the last layer: little work, which stays exact


@contextlib.contextmanager
def full_float32(where: str) -> Iterator[None]:
    """Scores on a card are taken without TF32, whatever networks were trained with."""
    if where == "cpu":
        yield
        return
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


def _cuda(name: str) -> bool:
    return name.startswith("cuda")


def own_device() -> str:
    """CUDA where there is one; of several GPUs the one at LOCAL_RANK, as torchrun and worker processes have it."""
    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "")
    several = torch.cuda.device_count() > 1 and rank.isdecimal()
    return f"cuda:{int(rank) % torch.cuda.device_count()}" if several else "cuda"


def on_own_device(decisions: Decisions) -> Decisions:
    """Decisions that another process froze: of several GPUs this process takes its own."""
    own = own_device()
    return replace(decisions, device=own) if ":" in own and decisions.device.startswith("cuda") else decisions


def threads_each(processes: int) -> int:
    """CPU threads for each of so many processes on this machine."""
    return max(1, OWN_THREADS // processes)


def room_for(device: str, threads: int) -> int:
    """How many processes of so many CPU threads this machine has GPUs or cores for."""
    if device.startswith("cuda"):
        return max(1, torch.cuda.device_count())
    return max(1, (os.cpu_count() or 1) // threads)


def apply(decisions: Decisions) -> None:
    """Replay frozen decisions.

    Raises:
        UserError: when the device or the compiler that they need is not here.
    """
    decide(decisions.device, decisions.threads, decisions.compile)
    if _cuda(decisions.device):
        _switch(decisions)


def send(tensors: Sequence[Tensor], where: torch.device | str) -> list[Tensor]:
    """Tensors of the host on a device, by one copy from pinned memory that the host does not wait for.

    A tensor by itself costs a wait: memory that is not pinned is copied while the host stands still.
    """
    if torch.device(where).type == "cpu" or not tensors:
        return list(tensors)
    order = sorted(range(len(tensors)), key=lambda number: -tensors[number].itemsize)  # which keeps each aligned
    packed = torch.cat([tensors[number].flatten().view(torch.uint8) for number in order])
    packed = packed.pin_memory() if torch.cuda.is_available() else packed
    parts = packed.to(where, non_blocking=True).split([tensors[number].nbytes for number in order])
    there = {number: part.view(tensors[number].dtype) for number, part in zip(order, parts, strict=True)}
    return [there[number].view(tensor.shape) for number, tensor in enumerate(tensors)]


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step instead of giving it back to the kernel.

    Every training step frees and takes the same tens of megabytes. The kernel zeroes fresh pages, which costs up to
    half the speed on a CPU (benchmarks/README.md). A higher threshold for mapped blocks would not do:
    glibc stops at 32 MiB, and the first activations of a ConvNet of width 128 are 50. Elsewhere nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    trim_threshold, mmap_max = -1, -4
    return bool(libc.mallopt(mmap_max, 0)) and bool(libc.mallopt(trim_threshold, 1 << 30))


def has_compiler() -> bool:
    """Whether torch.compile can build CPU kernels here."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def peak_bytes(device: str) -> int:
    """The most memory held so far: of the device where it is CUDA, otherwise of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def versions(device: str) -> dict[str, str]:
    """What computes: torch, and of a card its libraries and driver too; for records."""
    found = {"torch": str(torch.__version__)}
    if not _cuda(device):
        return found
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.partition("\n")[0]
    known = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": driver.strip()}
    return {**found, **{name: str(value) for name, value in known.items() if value}}


def spare(device: str) -> str | None:
    """A budget that is smaller than what a card has for this process, as `--memory` takes it; None for a CPU."""
    if not _cuda(device):
        return None
    return smaller(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def smaller(budget: float) -> str:
    """Three quarters of a budget, as `--memory` takes it."""
    return f"{0.75 * budget / 1e9:.2f}GB"


def hardware(device: str) -> str:
    """The device by name, for records."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    import platform

    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
