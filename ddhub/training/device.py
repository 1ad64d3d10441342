"""Devices, threads, precision and compilers: the decisions on speed, made once per run.

Decisions change the last bits of results. Runs and rows therefore record them, and a resumed run repeats them.
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
from ddhub.base.shared import shared

# FLOPs of training above which compiling pays on a CPU. Compiling takes tens of seconds. ConvNets then train about
# twice as fast (benchmarks/README.md).
COMPILE_FROM = 2e12

RESIDENT = 0.25  # share of a GPU's memory that training images may occupy throughout

OWN_THREADS = torch.get_num_threads()  # torch's own choice, before any change


@dataclass(frozen=True)
class Decisions:
    """Decisions on speed for a run. With the same machine and versions, the same decisions give the same bits."""

    device: str = "cpu"
    threads: int = 1
    compile: bool = False
    precision: Precision = "float32"  # of the forward pass in training; weights, losses and scores are always float32
    together: int = 1  # networks of different seeds that one program trains; 1: one after another
    micro_batch: int = 0  # images of a training step per gradient computation; 0: all
    chunk: int = 0  # images predicted or differentiated at once; 0: the usual number
    graph: bool = False  # whether a step is recorded and replayed as one CUDA graph
    channels_last: bool = True  # the memory format of images and filters
    tf32: bool = False  # whether GPU convolutions in training round inputs to 10 bits
    deterministic: bool = False  # whether a GPU gives the same bits at every run; a CPU always does
    resident: int = 0  # bytes of training images that may stay on the device; others are sent by batches

    def record(self) -> dict[str, Any]:
        """The decisions as recorded in checkpoints, manifests and rows."""
        return asdict(self)

    def obey(self, asked: Resources) -> bool:
        """Whether these decisions agree with every request."""
        return all(
            getattr(asked, name) in (None, value) for name, value in self.record().items() if hasattr(asked, name)
        )

    @property
    def title(self) -> str:
        """The way of training in words, such as `float32, graph, 3 at once`."""
        words = [self.precision, *["graph"] * self.graph, *["compiled"] * self.compile]
        words += [f"{self.together} at once"] * (self.together > 1) + ["contiguous"] * (not self.channels_last)
        return ", ".join(words)

    def exact(self) -> "Decisions":
        """The decisions in float32 and one network at a time, for results cached for runs of any precision."""
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
        device: a torch device; None takes CUDA if there is one. Of several GPUs, LOCAL_RANK chooses.
        threads: CPU threads; None keeps torch's own choice.
        compile: None compiles on a CPU with a C++ compiler, if `flops` of ConvNet training are worth it.
        flops: an estimate of the training work.
        precision: None and `auto` mean float32 here. `together` None means 1. ddhub/evaluation/speed.py measures the
            fastest way later.
        deterministic: None means False, because it costs speed on a GPU.

    Raises:
        UserError: for a missing device, or for `compile` without a C++ compiler.
    """
    name = device or own_device()
    check_device(name)
    if compile and not has_compiler():
        raise UserError("--compile: no C++ compiler found (g++ or clang++)", next="--no-compile")
    if threads is not None:
        torch.set_num_threads(threads)
    if compile is None:
        compile = name == "cpu" and flops >= COMPILE_FROM and has_compiler()
    half = precision == "bfloat16"
    decided = Decisions(name, torch.get_num_threads(), compile, "bfloat16" if half else "float32", together or 1)
    if not is_gpu(name):
        return decided
    room = int(RESIDENT * torch.cuda.mem_get_info(name)[1])
    decided = replace(decided, graph=True, tf32=True, deterministic=bool(deterministic), resident=room)
    _switch(decided)
    return decided


def decide_for(asked: Resources, flops: float = 0) -> Decisions:
    """As `decide`, for the requested resources."""
    ways = (asked.precision, asked.together, asked.deterministic)
    return decide(asked.device, asked.threads, asked.compile, flops, *ways)


def _switch(decisions: Decisions) -> None:
    """Set torch's process-wide GPU switches."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic without it
    torch.use_deterministic_algorithms(decisions.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # never read
    torch.backends.cudnn.deterministic = decisions.deterministic
    torch.backends.cudnn.benchmark = not decisions.deterministic
    torch.backends.cudnn.allow_tf32 = decisions.tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # whitening and the last layer are little work and stay exact


@contextlib.contextmanager
def full_float32(where: str) -> Iterator[None]:
    """Compute scores on a GPU without TF32, whatever training used."""
    with contextlib.nullcontext() if where == "cpu" else _no_tf32():
        yield


@shared
@contextlib.contextmanager
def _no_tf32() -> Iterator[None]:
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


def is_gpu(name: str) -> bool:
    """Whether a torch device is a GPU."""
    return name.startswith("cuda")


def check_device(name: str | torch.device) -> None:
    """Refuse a device that this machine or torch has not."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as fault:
        raise UserError(f"--device {name}: not available here", next="--device cpu") from fault


def own_device() -> str:
    """CUDA if there is one. Of several GPUs, LOCAL_RANK of torchrun and workers chooses."""
    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "")
    several = torch.cuda.device_count() > 1 and rank.isdecimal()
    return f"cuda:{int(rank) % torch.cuda.device_count()}" if several else "cuda"


def on_own_device(decisions: Decisions) -> Decisions:
    """Decisions of another process with this process's own GPU."""
    own = own_device()
    return replace(decisions, device=own) if ":" in own and is_gpu(decisions.device) else decisions


def threads_each(processes: int) -> int:
    """CPU threads for each of so many processes on this machine."""
    return max(1, OWN_THREADS // processes)


def room_for(device: str, threads: int) -> int:
    """The number of processes with so many CPU threads for which this machine has GPUs or cores."""
    if is_gpu(device):
        return max(1, torch.cuda.device_count())
    return max(1, (os.cpu_count() or 1) // threads)


def apply(decisions: Decisions) -> None:
    """Apply recorded decisions to this process.

    Raises:
        UserError: if a needed device or compiler is missing here.
    """
    decide(decisions.device, decisions.threads, decisions.compile)
    if is_gpu(decisions.device):
        _switch(decisions)


def send(tensors: Sequence[Tensor], where: torch.device | str) -> list[Tensor]:
    """Send tensors from the host to a device, in one asynchronous copy from pinned memory.

    A separate copy of each tensor would make the host wait, because ordinary memory is not pinned.
    """
    if torch.device(where).type == "cpu" or not tensors:
        return list(tensors)
    order = sorted(range(len(tensors)), key=lambda number: -tensors[number].itemsize)  # keeps each tensor aligned
    packed = torch.cat([tensors[number].flatten().view(torch.uint8) for number in order])
    packed = packed.pin_memory() if torch.cuda.is_available() else packed
    parts = packed.to(where, non_blocking=True).split([tensors[number].nbytes for number in order])
    there = {number: part.view(tensors[number].dtype) for number, part in zip(order, parts, strict=True)}
    return [there[number].view(tensor.shape) for number, tensor in enumerate(tensors)]


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step, and not to return it to the kernel.

    Every training step frees and takes the same tens of megabytes. The kernel zeroes new pages, which costs up to half
    the speed on a CPU (benchmarks/README.md). A higher threshold for mapped blocks is not enough: glibc's maximum is
    32 MiB, and the first activations of a ConvNet of width 128 have 50 MiB. Other systems are left unchanged.
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
    """The peak memory so far: of a CUDA device, or else of this process."""
    if is_gpu(device):
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def versions(device: str) -> dict[str, str]:
    """Versions for records: torch and, for a GPU, its libraries and driver."""
    found = {"torch": str(torch.__version__)}
    if not is_gpu(device):
        return found
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.partition("\n")[0]
    known = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": driver.strip()}
    return {**found, **{name: str(value) for name, value in known.items() if value}}


def spare(device: str) -> str | None:
    """A memory budget below what a GPU has for this process, as text for `--memory`; None for a CPU."""
    if not is_gpu(device):
        return None
    return smaller(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def smaller(budget: float) -> str:
    """Three quarters of a budget, as text for `--memory`."""
    return f"{0.75 * budget / 1e9:.2f}GB"


def hardware(device: str) -> str:
    """The device's name, for records."""
    if is_gpu(device):
        return torch.cuda.get_device_name(device)
    import platform

    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
