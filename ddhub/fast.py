"""The fast path: the only file that knows devices, threads, memory formats and torch.compile.

Everything else calls `Network.forward(weights, images)`, a plain function of plain tensors. What was decided (compiled
or not, threads, device) changes the last bits of results, so decisions are frozen into runs and rows and replayed.
"""

import ctypes
import functools
import logging
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddhub import nets
from ddhub.errors import UserError

Weights = dict[str, Tensor]  # parameters and buffers by name

# Training work in FLOPs from which compiling pays on a CPU: compiling costs tens of seconds, after which ConvNets train
# about twice as fast (benchmarks/README.md).
COMPILE_FROM = 2e12


@dataclass(frozen=True)
class Decisions:
    """What speed decided for a run; the same decisions on the same machine and versions give the same bits."""

    device: str = "cpu"
    threads: int = 1
    compile: bool = False

    def record(self) -> dict[str, Any]:
        """The decisions as they stand in checkpoints, manifests and rows."""
        return asdict(self)


def decide(
    device: str | None = None, threads: int | None = None, compile: bool | None = None, flops: float = 0
) -> Decisions:
    """Decide once how to run.

    Args:
        device: a torch device; None takes CUDA where there is one.
        threads: CPU threads; None leaves torch's own choice.
        compile: None compiles on a CPU with a C++ compiler, where `flops` of ConvNet training lie ahead.
        flops: an estimate of that work.

    Raises:
        UserError: for a device that is not there, or `compile` without a C++ compiler.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
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
    return Decisions(name, torch.get_num_threads(), compile)


def apply(decisions: Decisions) -> None:
    """Replay frozen decisions.

    Raises:
        UserError: when the device or the compiler that they need is not here.
    """
    decide(decisions.device, decisions.threads, decisions.compile)


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step instead of giving it back to the kernel.

    Every training step frees and takes the same tens of megabytes; fresh pages from the kernel each time, zeroed by it,
    cost up to a third of the speed on a CPU (benchmarks/README.md). Elsewhere than on glibc, nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    trim_threshold, mmap_threshold = -1, -3
    return bool(libc.mallopt(mmap_threshold, 32 << 20)) and bool(libc.mallopt(trim_threshold, 1 << 30))


def has_compiler() -> bool:
    """Whether torch.compile can build CPU kernels here."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


class Network:
    """One architecture at one size, as functions of its weights; shared by all networks of that kind in a process."""

    def __init__(self, arch: str, classes: int, channels: int, side: int, decisions: Decisions) -> None:
        self.arch, self.classes, self.channels, self.side = arch, classes, channels, side
        self.decisions = decisions
        keep_freed_memory()
        self.skeleton = nets.try_out(arch, classes, channels, side).to(decisions.device)
        self.family = nets.FAMILIES[nets.family(self.skeleton)]
        self.trainable = [name for name, _ in self.skeleton.named_parameters()]
        # Toggling the mode of a network that has none would only make the compiler work twice.
        self._modal = any(isinstance(layer, _MODAL) for layer in self.skeleton.modules())
        compiled = decisions.compile and isinstance(self.skeleton, nets.ConvNet)
        if compiled:
            # A GPU build of torch on a machine without one warns at every start; there is nothing to be done about it.
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            # Every network, batch size and kind of gradient is a program of its own; past torch's limit of 8 it would
            # go on uncompiled, against what the row says.
            torch._dynamo.config.recompile_limit = 256
            torch._dynamo.config.accumulated_recompile_limit = 1024
        self._call = torch.compile(self._plain, dynamic=False) if compiled else self._plain

    def init(self, seed: int) -> Weights:
        """Fresh weights; the same seed gives the same."""
        net = nets.build(self.arch, self.classes, self.channels, self.side, seed)
        return self.place(net.state_dict())

    def place(self, weights: Weights) -> Weights:
        """Weights on this network's device and in its memory format, detached."""
        return {name: _formatted(value.detach().to(self.decisions.device)) for name, value in weights.items()}

    def forward(self, weights: Weights, images: Tensor, *, train: bool = False) -> Tensor:
        """Logits (B, K) of network inputs (B, C, S, S); in training mode buffers in `weights` are updated in place."""
        if self._modal:
            self.skeleton.train(train)
        return self._call(weights, _formatted(images))

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        """Features before the classifier (B, F), differentiable.

        Raises:
            UserError: for a network that does not give any.
        """
        if isinstance(self.skeleton, nets.ConvNet):
            return functional_call(_Embedding(self.skeleton), {f"net.{k}": v for k, v in weights.items()}, (images,))
        raise UserError(f"arch '{self.arch}': features are read from ConvNets only", next="use convnet or convnet3_w32")

    def _plain(self, weights: Weights, images: Tensor) -> Tensor:
        output: Tensor = functional_call(self.skeleton, weights, (images,))
        return output


@functools.lru_cache(maxsize=16)
def network(arch: str, classes: int, channels: int, side: int, decisions: Decisions) -> Network:
    """The Network of these dimensions; made (and compiled) once in a process."""
    return Network(arch, classes, channels, side, decisions)


def training_flops(arch: str, channels: int, side: int, images: float) -> float:
    """FLOPs of training a ConvNet on so many images, about; 0 for networks that are not compiled."""
    net = nets.build(arch, 2, channels, side, seed=0)
    if not isinstance(net, nets.ConvNet):
        return 0.0
    total, area = 0.0, side * side
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            total += 2 * layer.in_channels * layer.out_channels * 9 * area
        elif isinstance(layer, nn.AvgPool2d):
            area //= 4
    return 3 * total * images  # a backward pass costs two forward passes


def peak_bytes(device: str) -> int:
    """The most memory held so far: of the device where it is CUDA, otherwise of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hardware(device: str) -> str:
    """The device by name, for records."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    import os
    import platform

    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"


class _Embedding(nn.Module):
    """A ConvNet whose output is its features."""

    def __init__(self, net: nets.ConvNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.embed(images)


_MODAL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def _formatted(value: Tensor) -> Tensor:
    # Channels last is what convolutions on CPUs and tensor cores read fastest.
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
