"""The fast path: memory formats, autocast, vmap and torch.compile behind plain functions.

Callers use `Network.forward(weights, images)`, a plain function of plain tensors, or `forward_many` for several
networks at once. Decisions change the last bits of results. Runs and rows therefore record them, and a resumed run
repeats them.
"""

import functools
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.training import architectures, device, optimisation, winograd
from ddhub.training.device import Decisions, keep_freed_memory
from ddhub.training.field_networks import ConvNet

Weights = dict[str, Tensor]  # parameters and buffers by name
# Input pixels (some 500 CIFAR images) that keep a GPU busy in one call. The value was chosen for memory, not measured.
BUSY_PIXELS = 2**19


class Network:
    """An architecture at one size, as functions of its weights. All networks of that kind in a process share it.

    A call puts weights into the skeleton, so the calls of several threads take turns.
    """

    def __init__(self, arch: str, classes: int, channels: int, side: int, decisions: Decisions) -> None:
        self.arch, self.classes, self.channels, self.side = arch, classes, channels, side
        self.decisions = decisions
        self._turn = threading.RLock()  # of `skeleton`
        keep_freed_memory()
        skeleton = architectures.try_out(arch, classes, channels, side)
        self.draws = architectures.draws(skeleton, channels, side)  # whether training draws global random numbers
        self.skeleton = skeleton.to(decisions.device)
        self.family = optimisation.FAMILIES[optimisation.kind(self.skeleton)]
        self.trainable = [name for name, _ in self.skeleton.named_parameters()]
        # Tied weights are one tensor with several names. Functions of weights take the first name.
        self._tied = self.skeleton.state_dict().keys() - _names(self.skeleton)
        # A ConvNet has no training mode. Toggling it would only cause a second compilation.
        self._modal = not isinstance(self.skeleton, ConvNet)
        self.compiled = decisions.compile and architectures.family(arch) in architectures.COMPILED
        if self.compiled:
            # A GPU build of torch warns at every start on a machine without a GPU.
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            # Each network, batch size and kind of gradient is a program. Beyond torch's limit of 8 it would run
            # uncompiled, against the recorded decisions.
            torch._dynamo.config.recompile_limit = 256
            torch._dynamo.config.accumulated_recompile_limit = 1024
            usual = decisions.device == "cpu" and decisions.precision == "float32" and decisions.together == 1
            if usual and isinstance(self.skeleton, ConvNet):
                winograd.adopt(self.skeleton, side)
        self._call = torch.compile(self._plain, dynamic=False) if self.compiled else self._plain
        many = vmap(self._plain)
        self._call_many = torch.compile(many, dynamic=False) if self.compiled else many
        if decisions.together > 1:
            self._try_together()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        """Return the network itself, because a process shares it."""
        return self

    def init(self, seed: int) -> Weights:
        """New weights. The same seed gives the same ones."""
        net = architectures.build(self.arch, self.classes, self.channels, self.side, seed)
        return self.place(net.state_dict())

    def example(self) -> Weights:
        """Weights with the right names, shapes and types."""
        with self._turn:
            return self.place(self.skeleton.state_dict())

    def place(self, weights: Weights) -> Weights:
        """Weights on this network's device and in its memory format, detached; of tied ones, the first."""
        own = {name: value.detach() for name, value in weights.items() if name not in self._tied}
        where, values = self.decisions.device, list(own.values())
        if where != "cpu" and all(value.device.type == "cpu" for value in values):
            # Cloned, because tensors sent at once share memory, and weights change independently.
            own = {name: value.clone() for name, value in zip(own, device.send(values, where), strict=True)}
        return {name: self._formatted(value.to(where)) for name, value in own.items()}

    def forward(self, weights: Weights, images: Tensor, *, train: bool = False) -> Tensor:
        """Logits (B, K) of network inputs (B, C, S, S). In training mode, buffers in `weights` are updated in place."""
        with self._turn:
            if self._modal:
                self.skeleton.train(train)
            if not train:
                return self._call(weights, self._formatted(images))
            with self._precision():
                return self._call(weights, self._formatted(images)).float()

    def portions(self, several: Sequence[Weights], images: Tensor) -> Iterator[Sequence[Weights]]:
        """Weights in the groups that `forward_each` runs at once for these inputs (B, C, S, S).

        On a GPU calls cost more than arithmetic. A group holds enough networks to keep the GPU busy. On a CPU a group
        is one network.
        """
        pixels = images.shape[0] * images.shape[-1] ** 2
        size = 1 if self.decisions.device == "cpu" else max(1, BUSY_PIXELS // pixels)
        yield from (several[start : start + size] for start in range(0, len(several), size))

    def forward_each(self, several: Sequence[Weights], images: Tensor) -> Tensor:
        """Logits (J, B, K) of J networks for the same inputs (B, C, S, S), in evaluation mode."""
        return torch.cat([self._forward_together(part, images) for part in self.portions(several, images)])

    def _forward_together(self, several: Sequence[Weights], images: Tensor) -> Tensor:
        if len(several) == 1:
            return self.forward(several[0], images).unsqueeze(0)
        with self._turn:
            if self._modal:
                self.skeleton.eval()
            found: Tensor = vmap(self._plain, in_dims=(0, None))(stack(several), self._formatted(images))
            return found

    def forward_many(self, weights: Weights, images: Tensor) -> Tensor:
        """Logits (J, B, K) of J networks with stacked weights (J, ...), each on its own inputs (J, B, C, S, S).

        It runs in training mode, and updates buffers in `weights` in place.
        """
        with self._turn:
            if self._modal:
                self.skeleton.train()
            with self._precision():
                return self._call_many(weights, images).float()

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed the network's own draws in training, such as dropout. torch's global state is restored."""
        if not self.draws:
            yield
            return
        devices = [self.decisions.device] if device.is_gpu(self.decisions.device) else []
        with seeds.global_draws(seed, devices):
            yield

    def _try_together(self) -> None:
        """Refuse a network for which several seeds cannot be trained in one program."""
        if self.draws:
            raise UserError(f"--together: {self.arch} has dropout, which draws per network", next="--together 1")
        if isinstance(self.skeleton, ConvNet):
            return
        weights = stack([self.example()] * 2)
        for name in self.trainable:
            weights[name].requires_grad_()
        images = torch.zeros(2, 2, self.channels, self.side, self.side, device=self.decisions.device)
        try:
            self.forward_many(weights, images).sum().backward()
        except RuntimeError as fault:  # vmap has no rule for an operation of the network
            told = f"--together: {self.arch} cannot be trained so: {one_line(fault, 200)}"
            raise UserError(told, next="--together 1") from fault

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        """Features before the classifier (B, F), differentiable.

        Raises:
            UserError: for a network without such features.
        """
        if isinstance(self.skeleton, ConvNet):
            own = {f"net.{name}": value for name, value in weights.items()}
            with self._turn:
                return functional_call(_Embedding(self.skeleton), own, (images,))
        raise UserError(f"arch '{self.arch}': features are read from ConvNets only", next="use convnet or convnet3_w32")

    def _formatted(self, value: Tensor) -> Tensor:
        # Channels last is the fastest format for convolutions on CPUs. On a GPU it is measured.
        last = value.ndim == 4 and self.decisions.channels_last
        return value.contiguous(memory_format=torch.channels_last) if last else value

    def _precision(self) -> AbstractContextManager[None]:
        if self.decisions.precision == "float32":
            return nullcontext()
        return torch.autocast(self.decisions.device.partition(":")[0], torch.bfloat16)

    def _plain(self, weights: Weights, images: Tensor) -> Tensor:
        output: Tensor = functional_call(self.skeleton, weights, (images,))
        return output


def stack(several: Sequence[Weights]) -> Weights:
    """Stack the weights of J networks: each tensor (...) becomes (J, ...)."""
    return {name: torch.stack([weights[name] for weights in several]) for name in several[0]}


def unstack(weights: Weights, number: int) -> Weights:
    """One network's weights, out of stacked ones."""
    return {name: value[number] for name, value in weights.items()}


@functools.lru_cache(maxsize=16)
def network(arch: str, classes: int, channels: int, side: int, decisions: Decisions) -> Network:
    """The Network of these dimensions. It is built and compiled once per process."""
    return Network(arch, classes, channels, side, decisions)


class _Embedding(nn.Module):
    """A ConvNet that outputs its features."""

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.embed(images)


def _names(net: nn.Module) -> set[str]:
    """The names of parameters and buffers; of tied ones, the first name."""
    return {name for kind in (net.named_parameters(), net.named_buffers()) for name, _ in kind}
