"""The architecture `linear`: one linear layer on pixels."""

from torch import nn


def build(classes: int, channels: int, side: int) -> nn.Module:
    """A network with random weights: images (B, channels, side, side) to logits (B, classes)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes))
