"""Optimisers and schedules: by kind of network, with exceptions for networks of another family than the set's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import cos, pi
from typing import Any

from torch import Tensor, nn

from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class Family:
    """The optimiser settings of one kind of network, for any set."""

    optimizer: str  # sgd, adamw or adam
    lr: float | None  # None takes the protocol's
    weight_decay: float
    schedule: str  # half: x0.1 after half of the epochs; cosine: linear warm-up over a tenth, then cosine to zero
    source: str
    patient: bool = False  # trains for at least the protocol's `min_steps`


FAMILIES = {
    "convnet": Family("sgd", None, 5e-4, "half", "arXiv:2312.08912 and the field since arXiv:2006.05929; momentum .9"),
    "transformer": Family(
        *("adamw", 5e-4, 0.05, "cosine"),
        # A ViT-tiny is far from done after the few hundred steps in which a ConvNet learns a small set. Validation
        # data of digits chose its rate.
        source="DeiT, arXiv:2012.12877, Table 9, at half its rate for batch 1024",
        patient=True,
    ),
}
# For networks of another family than the set's, unless they are transformers. The rate of a set is its ConvNet's: with
# it a ResNet with batch norm learns 30% of CIFAR-10 from easy images, and 45% in this way.
OTHER = Family(
    *("adamw", 3e-3, 0.05, "cosine"),
    source="validation data, real images with teachers' labels: docs/results.md, how other families are trained",
)
# Some protocols of the field decide for all architectures: RDED uses AdamW, RD3 Adam.
ADAPTIVE = {"adamw": (0.01, "half_cosine"), "adam": (0.0, "cosine_to_zero")}  # weight decay, schedule


def kind(net: nn.Module) -> str:
    """`transformer` for networks with layer norm (ViTs, Swin, ConvNeXt, mixers), otherwise `convnet`."""
    return "transformer" if any(isinstance(layer, nn.LayerNorm) for layer in net.modules()) else "convnet"


def for_other_family(protocol: Protocol, net: nn.Module, told: Collection[str] = ()) -> Protocol:
    """A set's own protocol for a network of another family: AdamW (OTHER), for at least `min_steps`.

    Labels and loss stay. Transformers keep their own optimiser, as everywhere.

    Args:
        told: settings that the user chose, which stay. A chosen optimiser stays with all its settings.
    """
    changes: dict[str, object] = {"patient": "epochs" not in told}
    if kind(net) == "convnet" and "optimizer" not in told:
        names = ("optimizer", "lr", "weight_decay", "schedule")
        changes |= {name: getattr(OTHER, name) for name in names if name not in told}
    return protocol.model_copy(update=changes)


def for_all(family: Family, protocol: Protocol) -> Family:
    """A family's settings after a protocol that decides for all families. With SGD only a schedule counts."""
    if protocol.optimizer not in ADAPTIVE:
        return replace(family, schedule=protocol.schedule) if protocol.schedule else family
    decay, schedule = ADAPTIVE[protocol.optimizer]
    schedule = protocol.schedule or schedule
    return Family(protocol.optimizer, None, decay, schedule, source="the protocol")


def decaying(net: nn.Module, names: Sequence[str], parameters: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Parameters in two groups: weights of layers decay; biases, norms and all others of one dimension do not (RDED).

    Args:
        net: the network, for the parameters' shapes; `names` are their names, in order.
    """
    sizes = {name: value.dim() for name, value in net.named_parameters()}
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, value in zip(names, parameters, strict=True):
        groups["weight" in name and sizes[name] > 1].append(value)
    return [{"params": groups[True]}, *([{"params": groups[False], "weight_decay": 0.0}] if groups[False] else [])]


def rate_factor(name: str, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The factor on the learning rate at one step, for a schedule by name (Family.schedule)."""
    if name == "half":
        return 1.0 if step // steps_per_epoch < (epochs + 1) // 2 else 0.1
    total = steps_per_epoch * epochs
    if name == "half_cosine":  # RDED's schedule, which ends at half the rate
        return 0.5 * (1 + cos(pi * step / total / 2))
    if name == "cosine_to_zero":
        return 0.5 * (1 + cos(pi * step / total))
    warm_up = max(1, total // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + cos(pi * (step - warm_up) / max(1, total - warm_up)))
