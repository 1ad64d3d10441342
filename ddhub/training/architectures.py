"""Architectures by name: the field's networks, and every timm model.

Short names resolve in TABLE, then among what installed packages offer (entry points of the group
`ddhub.architectures`, each a `Build`); `timm:NAME` is always timm's own. `_wN` after a name of TABLE makes the network
N wide. `frozen:NAME` is a linear classifier of a pretrained backbone's features (frozen.py). The networks themselves,
and their stems for small images, are in field_networks.py; timm_registry.py tells timm of them.
Shapes: B images, C channels, S side, K classes.
"""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ddhub.base import limits, plugins, seeds
from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean
from ddhub.training import frozen, timm_registry
from ddhub.training.field_networks import TABLE, Build, ConvNet

# What the code of a model raises that cannot run.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
NAME = re.compile(r"(timm:)?[A-Za-z0-9]\w*([.-]\w+)*", re.ASCII)  # of an architecture; timm keeps what follows a dot
MOST_WEIGHTS = 10**9  # a set can name an architecture of any width
BY_IMAGE = (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)  # norms within each image
BY_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # norms over the images of a batch
# What initialisers do to a weight, none of which changes its shape. On the device `meta` each takes a millisecond.
FILLS = {
    getattr(Tensor, f"{name}_")
    for name in ("normal", "uniform", "erfinv", "fill", "zero", "clamp", "mul", "add", "sub", "div", "copy")
}
COMPILED = ("convnet",)  # families that compiling was measured to pay for (benchmarks/README.md)


def resolve(arch: str) -> Build:
    """The builder of an architecture: a name of TABLE, or one with `_wN` after it, or `timm:NAME`.

    N is the width of the first stage, with which all others grow: 128 is a ConvNet's and AlexNet's own, 64 ResNet's
    and VGG's. It is the embedding of a ViT, 192 wide of its own; heads are three, or four where three do not divide it.

    Raises:
        UserError: for a name that nobody knows; says what is near.
    """
    if arch in TABLE:
        return TABLE[arch]
    if frozen.is_frozen(arch):
        frozen.split(arch)
        return frozen.probe
    if arch and (not NAME.fullmatch(arch) or len(arch) > limits.NAME):
        raise UserError(
            f"arch {arch[: limits.NAME]!r}: is no architecture's name (letters, digits and _, single . or - between)"
        )
    narrowed = re.fullmatch(r"(\w+)_w([1-9][0-9]{0,4})", arch)
    if narrowed and narrowed[1] in TABLE:
        return partial(TABLE[narrowed[1]], width=int(narrowed[2]))
    if arch.startswith("timm:"):
        name = arch.removeprefix("timm:")
        if not timm_registry.with_ours().is_model(name):
            raise UserError(
                f"arch '{arch}': timm has no such model{did_you_mean(name, timm_registry.with_ours().list_models())}"
            )
        return partial(_timm, name)
    if arch in plugins.ARCHITECTURES.installed():
        return _installed(arch)
    if timm_registry.with_ours().is_model(arch):
        raise UserError(f"arch '{arch}': not one of ddhub's own names, but timm has it", next=f"write timm:{arch}")
    raise UserError(
        f"arch '{arch}': unknown{did_you_mean(arch, names())}",
        next="an architecture such as convnet, resnet18, vit_tiny or timm:NAME",
    )


def names() -> list[str]:
    """The short names: those of TABLE, and those that installed packages offer."""
    return [*TABLE, *plugins.ARCHITECTURES.names()]


@cache
def _installed(arch: str) -> Build:
    """The builder that an installed package offers as an entry point of the group `ddhub.architectures`."""
    found = plugins.ARCHITECTURES.find(arch)
    wrong = plugins.takes(found.plugin, "classes", "channels", "side")
    plugins.refuse("architecture", arch, found.code, [wrong] if wrong else [])
    build: Build = found.plugin
    return build


def _timm(name: str, classes: int, channels: int, side: int) -> nn.Module:
    """timm's model as timm builds it; told the image's size where it takes one and runs at it."""
    return timm_registry.with_ours().create_model(
        name, num_classes=classes, in_chans=channels, **_told(name, classes, channels, side)
    )


@cache
def _told(name: str, classes: int, channels: int, side: int) -> dict[str, Any]:
    """What a model of timm's has to be told to run at a size, found out on shapes alone.

    Most take the image's size, or run at any. Patches that do not divide it ask for a border, and CrossViT scales
    images itself to the size that it was made for.
    """
    sized: dict[str, Any] = {"img_size": side}
    for told in (sized, {**sized, "dynamic_img_pad": True}, {}):
        try:
            with shapes_alone():
                net = timm_registry.with_ours().create_model(name, num_classes=classes, in_chans=channels, **told)
            with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
                net(torch.zeros(2, channels, side, side))
            return told
        except FAULTS as fault:
            if told is sized and isinstance(fault, TypeError):  # it takes no size
                return {}
    return sized


def family(arch: str) -> str:
    """The family of an architecture, which depth, width and norm do not change: convnet, alexnet, resnet, ...

    That of timm's models is the file that they are in, as `vision_transformer`; frozen backbones are one family.
    """
    if frozen.is_frozen(arch):
        return "frozen"
    if arch.startswith("timm:"):
        return timm_registry.with_ours().model_entrypoint(arch.removeprefix("timm:")).__module__.rpartition(".")[2]
    stem = re.split(r"[0-9_]", arch)[0]
    return "vision_transformer" if stem == "vit" else stem


def build(arch: str, classes: int, channels: int, side: int, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights.

    Raises:
        UserError: when the architecture is unknown or cannot run at this size; says why.
    """
    builder = resolve(arch)
    weights = _weights(arch, classes, channels, side)
    if weights > MOST_WEIGHTS:
        raise UserError(
            f"arch '{arch}': {weights} weights are more than the {MOST_WEIGHTS} of the largest network made"
        )
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seeds.derive(seed, "init", arch))
            return builder(classes, channels, side)
        except FAULTS as fault:
            raise _cannot_run(arch, side, fault) from fault


@cache
def _weights(arch: str, classes: int, channels: int, side: int) -> int:
    """How many weights a network has, found out on shapes alone; 0 where only building it can tell."""
    try:
        return sum(weight.numel() for weight in _on_meta(arch, classes, channels, side).parameters())
    except FAULTS:
        return 0


def _on_meta(arch: str, classes: int, channels: int, side: int) -> nn.Module:
    """A network that has shapes and no weights."""
    with shapes_alone():
        return resolve(arch)(classes, channels, side)


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills weights, which is most of the work of building on the device `meta`, and fills nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FILLS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Networks that are built here have shapes and no weights: they take no memory and next to no time."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), _Unfilled():
        yield


def try_out(arch: str, classes: int, channels: int, side: int) -> nn.Module:
    """Build a network and run two images through it, so that one that cannot run is found before any work.

    Raises:
        UserError: for one that cannot, is no classifier, or normalises single values, which leaves nothing of them.
    """
    net = build(arch, classes, channels, side, seed=0)
    hooks = [layer.register_forward_pre_hook(_check_norm) for layer in net.modules() if isinstance(layer, BY_IMAGE)]
    try:
        with torch.no_grad():
            shape = net.train()(torch.zeros(2, channels, side, side)).shape
    except FAULTS as fault:
        raise _cannot_run(arch, side, fault) from fault
    finally:
        for hook in hooks:
            hook.remove()
    if shape != (2, classes):
        raise UserError(f"arch '{arch}': gives {tuple(shape)} for two images, not (2, {classes}): not a classifier")
    return net


def _check_norm(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse maps (B, C, ...) of which every value is a group of its own: normalised, all become the same constant."""
    images, channels = inputs[0].shape[:2]
    groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else channels
    if inputs[0].numel() == images * groups:
        raise ValueError("its instance norm sees maps of one pixel, of which it leaves nothing: only batch norm can")


def draws(net: nn.Module, channels: int, side: int) -> bool:
    """Whether a network draws from torch's own state in training, as one with dropout does."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        net.train()(torch.zeros(2, channels, side, side))
        return not torch.equal(before, torch.get_rng_state())


def _cannot_run(arch: str, side: int, fault: BaseException) -> UserError:
    reason = " ".join(str(fault).split())[:200] or _failed_line(fault)
    return UserError(f"arch '{arch}': cannot run on {side}x{side} images: {reason}")


def _failed_line(fault: BaseException) -> str:
    """The line of a model's own code that a fault without words came from."""
    lines = [str(frame.line) for frame in traceback.extract_tb(fault.__traceback__) if "timm" in frame.filename]
    return f"{type(fault).__name__} in `{lines[-1]}`" if lines else type(fault).__name__


def training_flops(arch: str, channels: int, side: int, images: float) -> float:
    """FLOPs of training a network on so many images, about; 0 for families that are not compiled."""
    return (
        3 * forward_flops(arch, channels, side) * images if family(arch) in COMPILED else 0.0
    )  # backward costs two forwards


@cache
def forward_flops(arch: str, channels: int, side: int) -> int:
    """FLOPs of one image's forward pass, counted on shapes alone."""
    with torch.device("meta"):
        return flops(_on_meta(arch, 2, channels, side).eval(), channels, side)


def flops(net: nn.Module, channels: int, side: int) -> int:
    """FLOPs of one image's forward pass through a network, which may lie on the device `meta`."""
    if isinstance(net, ConvNet):
        return net.flops(side)
    from torch.utils.flop_counter import FlopCounterMode  # with torch's compiler, which takes seconds to import

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, channels, side, side, device=next(net.parameters()).device))
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Outputs:
    """Bytes of what the layers of a network put out of one image, about."""

    every: int = 0  # of all layers
    largest: int = 0  # inputs and outputs of the largest layer
    layers: int = 0


@cache
def activation_bytes(arch: str, channels: int, side: int) -> Outputs:
    """What one image's forward pass puts out, found out on shapes alone; zeros where those do not tell."""
    try:
        with torch.device("meta"):
            return outputs(_on_meta(arch, 2, channels, side).eval(), channels, side)
    except FAULTS:
        return Outputs()


def outputs(net: nn.Module, channels: int, side: int) -> Outputs:
    """What the layers of a network put out of one image, on torch's default device."""
    every, largest = [], [0]

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        own, *given = [each.numel() * 4 if isinstance(each, Tensor) else 0 for each in (output, *inputs)]
        every.append(own)
        largest.append(own + sum(given))

    hooks = [layer.register_forward_hook(note) for layer in net.modules() if not list(layer.children())]
    with torch.no_grad():
        net(torch.zeros(1, channels, side, side))
    for hook in hooks:
        hook.remove()
    return Outputs(sum(every), max(largest), len(every))


@cache
def mixes(arch: str, channels: int, side: int) -> bool:
    """Whether what a network learns from a batch depends on how it is cut: batch norms and dropout."""
    try:
        net = _on_meta(arch, 2, channels, side)
    except FAULTS:
        return True
    dropped = any(getattr(layer, name, 0) for layer in net.modules() for name in ("p", "drop_prob"))
    return dropped or any(isinstance(layer, BY_BATCH) for layer in net.modules())
