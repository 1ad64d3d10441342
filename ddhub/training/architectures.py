"""Architectures by name: the networks of the field, and every timm model.

Short names stand in TABLE or come from installed packages (entry points of the group `ddhub.architectures`, each a
`Build`). `timm:NAME` is timm's model. `_wN` after a name of TABLE sets the width to N. `frozen:NAME` is a linear
classifier on a pretrained backbone's features (frozen.py). field_networks.py holds the networks and their stems for
small images, and timm_registry.py registers them with timm.
Shapes: B images, C channels, S side, K classes.
"""

import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ddhub.base import files, limits, plugins, seeds
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.training import arch_names, frozen, timm_registry
from ddhub.training.field_networks import TABLE, Build, ConvNet

# Exceptions of a model's code when the model cannot run.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
NAME = re.compile(r"(timm:)?[A-Za-z0-9]\w*([.-]\w+)*", re.ASCII)  # an architecture's name; timm's has dots
MOST_WEIGHTS = 10**9  # a stranger's set can name an architecture of any width
BY_IMAGE = (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)  # norms over one image
BY_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # norms over a batch
# Initialisers, none of which changes a shape. On the device `meta` each still takes a millisecond.
FILLS = {
    getattr(Tensor, f"{name}_")
    for name in ("normal", "uniform", "erfinv", "fill", "zero", "clamp", "mul", "add", "sub", "div", "copy")
}
COMPILED = ("convnet",)  # families that compiling makes faster, as measured (benchmarks/README.md)


def resolve(arch: str) -> Build:
    """The builder of an architecture: a name of TABLE, with or without `_wN`, or `timm:NAME`.

    N is the width of the first stage, and all others scale with it. The defaults are 128 for ConvNets and AlexNet, and
    64 for ResNet and VGG. For a ViT N is the embedding (default 192). It has three heads, or four if three do not
    divide N.

    Raises:
        UserError: for an unknown name, with similar names.
    """
    if arch in TABLE:
        return TABLE[arch]
    if frozen.is_frozen(arch):
        frozen.split(arch)
        return frozen.probe
    if arch and (not NAME.fullmatch(arch) or len(arch) > limits.NAME):
        raise UserError(
            f"arch {arch[: limits.NAME]!r}: is no architecture's name (letters, digits and _, single . or - between)",
            next=arch_names.SUCH,
        )
    widened = arch_names.WIDENED.fullmatch(arch)
    if widened and widened[1] in TABLE:
        return partial(TABLE[widened[1]], width=int(widened[2]))
    if arch.startswith("timm:"):
        name = arch.removeprefix("timm:")
        timm_registry.check("timm:", name)
        return partial(_timm, name)
    if arch in plugins.ARCHITECTURES.installed():
        return _installed(arch)
    if timm_registry.with_ours().is_model(arch):
        raise UserError(f"arch '{arch}': not one of ddhub's own names, but timm has it", next=f"write timm:{arch}")
    raise arch_names.unknown(arch)


@cache
def _installed(arch: str) -> Build:
    """The builder of an installed package, from the entry points `ddhub.architectures`."""
    found = plugins.ARCHITECTURES.find(arch)
    wrong = plugins.signature_fault(found.plugin, "classes", "channels", "side")
    plugins.refuse("architecture", arch, found.code, [wrong] if wrong else [])
    build: Build = found.plugin
    return build


@cache  # what this process has loaded stays, whatever becomes of the file
def code_of(arch: str) -> str | None:
    """The hash of the file that defines an installed package's architecture; None for ddhub's own, timm's and binaries.

    An edited file can define another network whose weights have the same names and shapes. Other files that it
    imports do not count.
    """
    if arch in TABLE or arch not in plugins.ARCHITECTURES.installed():
        return None
    build: Any = inspect.unwrap(_installed(arch))
    with suppress(TypeError, OSError):
        found = inspect.getsourcefile(build.func if isinstance(build, partial) else build)
        return files.sha256(Path(found)) if found else None
    return None


def _timm(name: str, classes: int, channels: int, side: int) -> nn.Module:
    """timm's model as timm builds it, with the image size if it takes one and can run at it."""
    return timm_registry.with_ours().create_model(
        name, num_classes=classes, in_chans=channels, **_arguments(name, classes, channels, side)
    )


@cache
def _arguments(name: str, classes: int, channels: int, side: int) -> dict[str, Any]:
    """The arguments with which a timm model runs at a size, found by shapes alone.

    Most models take the image size or run at any size. If patches do not divide it, a border is added. CrossViT scales
    images itself to the size that it was made for.
    """
    sized: dict[str, Any] = {"img_size": side}
    for told in (sized, {**sized, "dynamic_img_pad": True}, {}):
        try:
            with shapes_alone():
                net = timm_registry.with_ours().create_model(name, num_classes=classes, in_chans=channels, **told)
            with seeds.global_draws(), torch.device("meta"), torch.no_grad():
                net(torch.zeros(2, channels, side, side))
            return told
        except FAULTS as fault:
            if told is sized and isinstance(fault, TypeError):  # it takes no image size
                return {}
    return sized


def family(arch: str) -> str:
    """The family of an architecture, independent of depth, width and norm: convnet, alexnet, resnet, ...

    The family of a timm model is its file, such as `vision_transformer`. Frozen backbones are one family.
    """
    if frozen.is_frozen(arch):
        return "frozen"
    if arch.startswith("timm:"):
        return timm_registry.with_ours().model_entrypoint(arch.removeprefix("timm:")).__module__.rpartition(".")[2]
    stem = re.split(r"[0-9_]", arch)[0]
    return "vision_transformer" if stem == "vit" else stem


def build(arch: str, classes: int, channels: int, side: int, seed: int) -> nn.Module:
    """A freshly initialised network. The same seed gives the same weights.

    Raises:
        UserError: if the architecture is unknown or cannot run at this size, with the reason.
    """
    builder = resolve(arch)
    weights = weight_count(arch, classes, channels, side)
    if weights > MOST_WEIGHTS:
        raise UserError(
            f"arch '{arch}': {weights} weights are more than the {MOST_WEIGHTS} of the largest network made"
        )
    with seeds.global_draws(seeds.derive(seed, "init", arch)):
        try:
            return builder(classes, channels, side)
        except FAULTS as fault:
            raise _cannot_run(arch, side, fault) from fault


@cache
def weight_count(arch: str, classes: int, channels: int, side: int) -> int:
    """The number of weights of a network, found by shapes alone; 0 if only building it can tell."""
    try:
        return sum(weight.numel() for weight in _on_meta(arch, classes, channels, side).parameters())
    except FAULTS:
        return 0


def _on_meta(arch: str, classes: int, channels: int, side: int) -> nn.Module:
    """A network with shapes and without weights."""
    with shapes_alone():
        return resolve(arch)(classes, channels, side)


class _Unfilled(TorchFunctionMode):
    """Skips all initialisers, which are most of the work of building on the device `meta`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FILLS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Build networks without weights in this block. They take no memory and almost no time."""
    with seeds.global_draws(), torch.device("meta"), _Unfilled():
        yield


def try_out(arch: str, classes: int, channels: int, side: int) -> nn.Module:
    """Build a network and run two images through it, to find one that cannot run before work begins.

    Raises:
        UserError: for a network that cannot run, is no classifier, or normalises single values to a constant.
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
    """Refuse maps (B, C, ...) of which each value is normalised alone. All would become the same constant."""
    images, channels = inputs[0].shape[:2]
    groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else channels
    if inputs[0].numel() == images * groups:
        raise ValueError("its instance norm sees maps of one pixel, of which it leaves nothing: only batch norm can")


def draws(net: nn.Module, channels: int, side: int) -> bool:
    """Whether a network draws from torch's global generator in training, as dropout does."""
    with seeds.global_draws(), torch.no_grad():
        before = torch.get_rng_state()
        net.train()(torch.zeros(2, channels, side, side))
        return not torch.equal(before, torch.get_rng_state())


def _cannot_run(arch: str, side: int, fault: BaseException) -> UserError:
    reason = one_line(fault, 200) if str(fault).strip() else _failed_line(fault)
    return UserError(f"arch '{arch}': cannot run on {side}x{side} images: {reason}")


def _failed_line(fault: BaseException) -> str:
    """The line of a model's code that raised an exception without a message."""
    lines = [str(frame.line) for frame in traceback.extract_tb(fault.__traceback__) if "timm" in frame.filename]
    return f"{type(fault).__name__} in `{lines[-1]}`" if lines else type(fault).__name__


def training_flops(arch: str, channels: int, side: int, images: float) -> float:
    """The estimated FLOPs of training a network on so many images; 0 for families that are not compiled."""
    return (
        3 * forward_flops(arch, channels, side) * images if family(arch) in COMPILED else 0.0
    )  # backward costs two forwards


@cache
def forward_flops(arch: str, channels: int, side: int) -> int:
    """The FLOPs of a forward pass on one image, counted by shapes alone."""
    with torch.device("meta"):
        return flops(_on_meta(arch, 2, channels, side).eval(), channels, side)


def flops(net: nn.Module, channels: int, side: int) -> int:
    """The FLOPs of a forward pass of a network on one image. The network may lie on the device `meta`."""
    if isinstance(net, ConvNet):
        return net.flops(side)
    from torch.utils.flop_counter import FlopCounterMode  # imports torch's compiler, which takes seconds

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, channels, side, side, device=next(net.parameters()).device))
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Outputs:
    """The estimated bytes of the layers' outputs for one image."""

    every: int = 0  # outputs of all layers
    largest: int = 0  # inputs and outputs of the largest layer
    layers: int = 0


@cache
def activation_bytes(arch: str, channels: int, side: int) -> Outputs:
    """The outputs of a forward pass on one image, found by shapes alone; zeros if shapes do not tell."""
    try:
        with torch.device("meta"):
            return outputs(_on_meta(arch, 2, channels, side).eval(), channels, side)
    except FAULTS:
        return Outputs()


def outputs(net: nn.Module, channels: int, side: int) -> Outputs:
    """The outputs of a network's layers for one image, on torch's default device."""
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
    """Whether cutting a batch changes what a network learns from it, as with batch norm and dropout."""
    try:
        net = _on_meta(arch, 2, channels, side)
    except FAULTS:
        return True
    dropped = any(getattr(layer, name, 0) for layer in net.modules() for name in ("p", "drop_prob"))
    return dropped or any(isinstance(layer, BY_BATCH) for layer in net.modules())
