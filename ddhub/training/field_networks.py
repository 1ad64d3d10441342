"""The networks of the field and their widths: ConvNet, AlexNet, and ResNet, VGG and ViT with small-image stems.

The last three are timm's. timm takes seconds to import, so it is imported when they are built.
Shapes: B images, C channels, S side, K classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

SMALL = 64  # largest side with a low-resolution stem
CONVNETS = {"convnet": None, **{f"convnet{depth}": depth for depth in range(2, 7)}}  # depth; None: from the side
CONVNET_DEPTH = {8: 2, 16: 2, 28: 3, 32: 3, 64: 4, 128: 5, 224: 6, 256: 6}


def usual_depth(side: int) -> int:
    """The field's depth of a ConvNet for the largest known side up to this one."""
    return max((depth for known, depth in CONVNET_DEPTH.items() if known <= side), default=2)


class ConvNet(nn.Module):
    """The field's ConvNet: blocks of 3x3 convolution, instance norm, ReLU, 2x2 average pool; then one linear layer.

    Gidaris and Komodakis, arXiv:1804.09458, as used since arXiv:2006.05929. Convolutions have no bias, because the
    instance norm after them removes any constant. The function is the same and training is 13% faster.
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

    def flops(self, side: int) -> int:
        """The FLOPs of one image: two for each weight at each position where it is applied."""
        convolutions = [layer.weight.numel() for layer in self.features if isinstance(layer, nn.Conv2d)]
        applied = sum(count * (side >> block) ** 2 for block, count in enumerate(convolutions))
        return 2 * (applied + self.classifier.weight.numel())


class AlexNet(nn.Module):
    """The field's AlexNet for 32 px: five convolutions and one linear layer, without normalisation.

    The widths of its convolutions are 1, 1.5, 2, 1.5 and 1.5 times `width`.
    """

    def __init__(self, classes: int, channels: int, side: int, width: int = 128) -> None:
        super().__init__()
        if side < 8:
            raise ValueError(f"three halvings leave nothing of {side} pixels")
        wide, widest = width * 3 // 2, width * 2
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, wide, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(wide, widest, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(widest, wide, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Linear(wide * (side // 8) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (B, C, S, S) to (B, K)."""
        return self.classifier(self.features(x).flatten(1))


def _instance_norm(width: int, **_: object) -> nn.Module:
    return nn.GroupNorm(width, width)


def _resnet(
    classes: int, channels: int, side: int, name: str = "resnet18", norm: Any = nn.BatchNorm2d, width: int = 64
) -> nn.Module:
    import timm
    from timm.models.resnet import BasicBlock

    stages = tuple(width * 2**stage for stage in range(4))
    # timm initialises residual branches to zero. With instance norm, the rest hardly tells images apart after pooling,
    # and the network stays at chance. The field's ResNet has no such zeros.
    zeros = norm is not _instance_norm
    told: dict[str, Any] = {"norm_layer": norm, "channels": stages, "zero_init_last": zeros}
    net: Any = timm.create_model(name, num_classes=classes, in_chans=channels, **told)
    if width != 64:  # timm's stem always has width 64
        net.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        net.bn1, net.layer1[0] = norm(width), BasicBlock(width, width, norm_layer=norm)
        net.init_weights(zero_init_last=zeros)
    if side <= SMALL:
        net.conv1 = nn.Conv2d(channels, width, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    return net


def _vgg11(classes: int, channels: int, side: int, norm: Any = nn.BatchNorm2d, width: int = 64) -> nn.Module:
    from timm.models.vgg import VGG, ConvMlp, cfgs

    widths = [size if isinstance(size, str) else size * width // 64 for size in cfgs["vgg11"]]
    small = side <= SMALL
    net: Any = VGG(
        widths, num_classes=classes, in_chans=channels, norm_layer=norm, mlp_ratio=1 / 4096 if small else 1.0
    )
    if small:
        # A small image leaves no input for VGG's 7x7 fully connected head. A global pool and a linear layer replace it.
        net.pre_logits = nn.Identity()
        net.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))
        _thin_out_pools(net.features, side, norm)
    elif width != 64:  # timm's fully connected head always has width 4096
        net.pre_logits, net.head.fc = ConvMlp(8 * width, 64 * width, 7), nn.Linear(64 * width, classes)
    return net


def _thin_out_pools(features: Any, side: int, norm: Any) -> None:
    """Remove pools that would leave no pixel, or a single one for a norm per channel."""
    *inner, last = (index for index, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d))
    least = 2 if norm is _instance_norm else 1
    for index in [*inner, last]:
        if side // 2 >= (1 if index == last else least):
            side //= 2
        else:
            features[index] = nn.Identity()


def _vit_tiny(classes: int, channels: int, side: int, width: int = 192) -> nn.Module:
    import timm

    patch = max(1, side // (4 if side <= 8 else 8))
    if side % patch:
        raise ValueError(f"{side} pixels do not divide into patches of {patch}")
    heads = next((count for count in (3, 4) if width % count == 0), 0)
    if not heads:
        raise ValueError(f"a width of {width} divides into neither three heads nor four")
    size: dict[str, Any] = {"img_size": side, "patch_size": patch, "embed_dim": width, "num_heads": heads}
    return timm.create_model("vit_tiny_patch16_224", num_classes=classes, in_chans=channels, **size)


def _convnet(classes: int, channels: int, side: int, depth: int | None = None, width: int = 128) -> nn.Module:
    if depth is None:
        if side not in CONVNET_DEPTH:
            raise ValueError(f"no usual depth for {side} pixels; name it, as in convnet3")
        depth = CONVNET_DEPTH[side]
    return ConvNet(depth, width, classes, channels, side)


Build = Callable[..., nn.Module]  # (classes, channels, side) -> network with random weights

# All take `width`, the width of their first stage, with the field's default. A ViT's is its embedding.
TABLE: dict[str, Build] = {
    **{name: partial(_convnet, depth=depth) for name, depth in CONVNETS.items()},
    "resnet18": _resnet,
    "resnet18_in": partial(_resnet, norm=_instance_norm),
    "alexnet_in": AlexNet,
    "vgg11": _vgg11,
    "vgg11_in": partial(_vgg11, norm=_instance_norm),
    "vit_tiny": _vit_tiny,
}
