"""Architectures by name: the field's networks, and every timm model.

Short names resolve in TABLE, then among what installed packages offer (entry points of the group
`ddhub.architectures`, each a `Build`); `timm:NAME` is always timm's own. Low-resolution stems are decided here and
nowhere else.
Ours are registered with timm as `ddhub_NAME`; nothing of timm's is overwritten.
Shapes: B images, C channels, S side, K classes.
"""

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import timm
import torch
from timm.models import register_model
from timm.models.vgg import VGG, cfgs
from torch import Tensor, nn

from ddhub.base import plugins, seeds
from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean

# What the code of a model raises that cannot run.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
MOST_WEIGHTS = 10**9  # a set can name an architecture of any width
SMALL = 64  # sides up to this get a low-resolution stem
CONVNETS = {"convnet": None, **{f"convnet{depth}": depth for depth in range(2, 7)}}  # depth; None: from the side
CONVNET_DEPTH = {8: 2, 16: 2, 32: 3, 64: 4, 128: 5, 224: 6, 256: 6}


class ConvNet(nn.Module):
    """The field's ConvNet: blocks of 3x3 convolution, instance norm, ReLU, 2x2 average pool; then one linear layer.

    Gidaris and Komodakis, arXiv:1804.09458, as used since arXiv:2006.05929. Convolutions carry no bias: the instance
    norm after them takes any constant away again, so the function is the same and training is 13% faster.
    """

    def __init__(self, depth: int, width: int, classes: int, channels: int, side: int) -> None:
        super().__init__()
        if side >> depth < 1:
            raise ValueError(f"{depth} halvings leave nothing of {side} pixels")
        blocks: list[nn.Module] = []
        for block in range(depth):
            blocks += [
                nn.Conv2d(channels if block == 0 else width, width, 3, padding=1, bias=False),
                nn.GroupNorm(width, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * (side >> depth) ** 2, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Features before the linear layer: (B, C, S, S) to (B, width * (S / 2^depth)^2)."""
        return self.features(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (B, C, S, S) to (B, K)."""
        return self.classifier(self.embed(x))


class AlexNet(nn.Module):
    """The field's AlexNet for 32 px, five convolutions and one linear layer; it carries no normalisation."""

    def __init__(self, classes: int, channels: int, side: int) -> None:
        super().__init__()
        if side < 8:
            raise ValueError(f"three halvings leave nothing of {side} pixels")
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, 128, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(128, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(192, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 192, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(192, 192, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Linear(192 * (side // 8) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (B, C, S, S) to (B, K)."""
        return self.classifier(self.features(x).flatten(1))


def _instance_norm(width: int, **_: object) -> nn.Module:
    return nn.GroupNorm(width, width)


def _resnet(
    classes: int, channels: int, side: int, name: str, norm: Callable[..., nn.Module] | None = None
) -> nn.Module:
    extra: dict[str, Any] = {} if norm is None else {"norm_layer": norm}
    net = timm.create_model(name, num_classes=classes, in_chans=channels, **extra)
    if side <= SMALL:
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    return net


def _vgg11(classes: int, channels: int, side: int, norm: Any = nn.BatchNorm2d) -> nn.Module:
    if side > SMALL:
        return timm.create_model("vgg11_bn", num_classes=classes, in_chans=channels)
    # A small image leaves VGG's 7x7 fully connected head nothing to read: one global pool and a linear layer instead.
    net: Any = VGG(cfgs["vgg11"], num_classes=classes, in_chans=channels, norm_layer=norm, mlp_ratio=1 / 4096)
    net.pre_logits = nn.Identity()
    net.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
    pools = [index for index, layer in enumerate(net.features) if isinstance(layer, nn.MaxPool2d)]
    for index in pools[side.bit_length() - 1 :]:  # no pool below one pixel
        net.features[index] = nn.Identity()
    return net


def _vit_tiny(classes: int, channels: int, side: int) -> nn.Module:
    patch = max(1, side // (4 if side <= 8 else 8))
    if side % patch:
        raise ValueError(f"{side} pixels do not divide into patches of {patch}")
    name = "vit_tiny_patch16_224"
    return timm.create_model(name, num_classes=classes, in_chans=channels, img_size=side, patch_size=patch)


def _convnet(classes: int, channels: int, side: int, depth: int | None = None, width: int = 128) -> nn.Module:
    if depth is None:
        if side not in CONVNET_DEPTH:
            raise ValueError(f"no usual depth for {side} pixels; name it, as in convnet3")
        depth = CONVNET_DEPTH[side]
    weights = depth * 9 * width**2 + classes * width * (side >> depth) ** 2
    if weights > MOST_WEIGHTS:
        raise ValueError(f"{weights} weights are more than the {MOST_WEIGHTS} of the largest network made here")
    return ConvNet(depth, width, classes, channels, side)


Build = Callable[[int, int, int], nn.Module]  # (classes, channels, side) -> network with random weights

TABLE: dict[str, Build] = {
    **{name: partial(_convnet, depth=depth) for name, depth in CONVNETS.items()},
    "resnet18": partial(_resnet, name="resnet18"),
    "resnet18_in": partial(_resnet, name="resnet18", norm=_instance_norm),
    "alexnet_in": AlexNet,
    "vgg11": _vgg11,
    "vgg11_in": partial(_vgg11, norm=_instance_norm),
    "vit_tiny": _vit_tiny,
}


def _register(name: str, build: Build) -> None:
    def entry(
        pretrained: bool = False, num_classes: int = 10, in_chans: int = 3, img_size: int = 32, **_: object
    ) -> nn.Module:
        if pretrained:
            raise UserError(f"ddhub_{name}: there are no pretrained weights")
        return build(num_classes, in_chans, img_size)

    entry.__name__ = f"ddhub_{name}"
    entry.__module__ = __name__
    register_model(entry)


for _name, _build in TABLE.items():
    _register(_name, _build)


def resolve(arch: str) -> Build:
    """The builder of an architecture: a name of TABLE (`_wN` after a ConvNet sets its width) or `timm:NAME`.

    Raises:
        UserError: for a name that nobody knows; says what is near.
    """
    if arch in TABLE:
        return TABLE[arch]
    width = re.fullmatch(r"(convnet[2-6]?)_w([1-9][0-9]{0,4})", arch)
    if width:
        return partial(_convnet, depth=CONVNETS[width[1]], width=int(width[2]))
    if arch.startswith("timm:"):
        name = arch.removeprefix("timm:")
        if not timm.is_model(name):
            raise UserError(f"arch '{arch}': timm has no such model{did_you_mean(name, timm.list_models())}")
        return partial(_timm, name)
    if arch in plugins.ARCHITECTURES.installed():
        return _installed(arch)
    if timm.is_model(arch):
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
    return timm.create_model(name, num_classes=classes, in_chans=channels, **_told(name, classes, channels, side))


@cache
def _told(name: str, classes: int, channels: int, side: int) -> dict[str, Any]:
    """What a model of timm's has to be told to run at a size, found out on shapes alone.

    Most take the image's size, or run at any. Patches that do not divide it ask for a border, and CrossViT scales
    images itself to the size that it was made for.
    """
    sized: dict[str, Any] = {"img_size": side}
    for told in (sized, {**sized, "dynamic_img_pad": True}, {}):
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
                net = timm.create_model(name, num_classes=classes, in_chans=channels, **told)
                net(torch.zeros(2, channels, side, side))
            return told
        except FAULTS as fault:
            if told is sized and isinstance(fault, TypeError):  # it takes no size
                return {}
    return sized


def build(arch: str, classes: int, channels: int, side: int, seed: int) -> nn.Module:
    """A freshly initialised network; the same seed gives the same weights.

    Raises:
        UserError: when the architecture is unknown or cannot run at this size; says why.
    """
    builder = resolve(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "init", arch))
        try:
            return builder(classes, channels, side)
        except FAULTS as fault:
            raise _cannot_run(arch, side, fault) from fault


def try_out(arch: str, classes: int, channels: int, side: int) -> nn.Module:
    """Build a network and run two images through it, so that one that cannot run is found before any work."""
    net = build(arch, classes, channels, side, seed=0)
    try:
        with torch.no_grad():
            shape = net.train()(torch.zeros(2, channels, side, side)).shape
    except FAULTS as fault:
        raise _cannot_run(arch, side, fault) from fault
    if shape != (2, classes):
        raise UserError(f"arch '{arch}': gives {tuple(shape)} for two images, not (2, {classes}): not a classifier")
    return net


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


@dataclass(frozen=True)
class Family:
    """How networks of one family are trained, whatever the set."""

    optimizer: str  # sgd or adamw
    lr: float | None  # None: the protocol's
    weight_decay: float
    schedule: str  # half: x0.1 after half of the epochs; cosine: linear warm-up over a tenth, then cosine to zero
    source: str
    patient: bool = False  # trains for the protocol's `min_steps` at least


FAMILIES = {
    "convnet": Family("sgd", None, 5e-4, "half", "arXiv:2312.08912 and the field since arXiv:2006.05929; momentum .9"),
    "transformer": Family(
        *("adamw", 5e-4, 0.05, "cosine"),
        # A ViT-tiny is far from done after the few hundred steps in which ConvNets learn a small set; validation data
        # chose its rate (benchmarks/README.md).
        source="DeiT, arXiv:2012.12877, Table 9, at half its rate for batch 1024",
        patient=True,
    ),
}


def family(net: nn.Module) -> str:
    """`transformer` for networks that normalise by layer (ViTs, Swin, ConvNeXt, mixers), otherwise `convnet`."""
    return "transformer" if any(isinstance(layer, nn.LayerNorm) for layer in net.modules()) else "convnet"


def training_flops(arch: str, channels: int, side: int, images: float) -> float:
    """FLOPs of training a ConvNet on so many images, about; 0 for networks that are not compiled."""
    net = build(arch, 2, channels, side, seed=0)
    if not isinstance(net, ConvNet):
        return 0.0
    total, area = 0.0, side * side
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            total += 2 * layer.in_channels * layer.out_channels * 9 * area
        elif isinstance(layer, nn.AvgPool2d):
            area //= 4
    return 3 * total * images  # a backward pass costs two forward passes
