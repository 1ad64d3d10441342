"""Loss functions of logits (B, K), labels (B,) and soft targets (B, K) or None."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from ddhub.training.protocol import Protocol


def l1_logits(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Mean absolute difference to the target logits, over batch and classes (arXiv:2312.08912, section 3)."""
    assert targets is not None
    return (logits - targets).abs().mean()


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Cross-entropy with the hard classes."""
    return F.cross_entropy(logits, labels)


def soft_cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Cross-entropy with target probabilities (B, K), mean over the batch."""
    assert targets is not None
    return F.cross_entropy(logits, targets)


def mean_squared_error(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Mean squared difference to regression targets, over batch and classes."""
    assert targets is not None
    return F.mse_loss(logits, targets)


def distillation(logits: Tensor, labels: Tensor, targets: Tensor | None, temperature: float) -> Tensor:
    """KL divergence of softened logits from softened targets, times the squared temperature (arXiv:1503.02531)."""
    assert targets is not None
    ours, theirs = F.log_softmax(logits / temperature, 1), F.log_softmax(targets / temperature, 1)
    return F.kl_div(ours, theirs, log_target=True, reduction="batchmean") * temperature**2


def targets(soft: Tensor | None, protocol: Protocol, form: str, temperature: float) -> Tensor | None:
    """The targets of a protocol's loss from stored soft labels (B, K). A cross-entropy gets probabilities from logits.

    Args:
        form: the form of the soft labels in the manifest: logits, probabilities, regression or hard.
        temperature: the divisor of logits.
    """
    if soft is None or protocol.loss != "soft_ce" or form != "logits":
        return soft
    return (soft / temperature).softmax(1)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "l1_logits": l1_logits,
    "ce": cross_entropy,
    "soft_ce": soft_cross_entropy,
    "mse": mean_squared_error,
}


def loss_of(protocol: Protocol) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The loss of a protocol: a function of logits (B, K), labels (B,) and targets (B, K) or None."""
    if protocol.loss == "kl":
        return partial(distillation, temperature=protocol.temperature)
    return LOSSES[protocol.loss]
