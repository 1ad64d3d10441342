"""Training one network on real or synthetic images, and scoring it. The same loop makes teachers, students and scores.

Shapes: N images, B batch, C H W image, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from ddhub.base import progress
from ddhub.base import seeds as seeding
from ddhub.base.errors import UserError
from ddhub.data.preprocess import Preprocess
from ddhub.training import network as networks
from ddhub.training import optimisation
from ddhub.training.augment import augment
from ddhub.training.loop import Run
from ddhub.training.losses import loss_of
from ddhub.training.network import Network, Weights
from ddhub.training.optimisation import Family
from ddhub.training.protocol import Protocol

MOMENTUM = 0.9
SMALL_BATCH = 32  # of families that need more steps than a protocol has


Batch = tuple[Tensor, Tensor, Tensor | None]  # augmented inputs (B, C, H, W), labels (B,), targets (B, K)


class Diverged(UserError):
    """A training whose loss is not finite any more."""


@dataclass(frozen=True)
class Examples:
    """Images to learn from or to be scored on; uint8 pixels stay where they are until a batch is drawn."""

    images: Tensor  # uint8 pixels or float32 network inputs, (N, C, H, W)
    labels: Tensor  # int64 (N,)
    preprocess: Preprocess | None = None  # None: images are network inputs already
    targets: Tensor | None = None  # float32 (N, K), what soft losses learn
    index: Tensor | None = None  # the rows that count, where not all do

    def __len__(self) -> int:
        return len(self.labels if self.index is None else self.index)

    def batch(self, chosen: Tensor, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs (B, C, H, W), labels (B,) and targets (B, K) of the chosen rows, on the device."""
        rows = chosen if self.index is None else self.index[chosen]
        rows = rows.to(self.images.device)
        images = self.images[rows].to(device)
        inputs = images if self.preprocess is None else self.preprocess.inputs(images)
        targets = None if self.targets is None else self.targets[rows].to(device)
        return inputs, self.labels[rows].to(device), targets


def family_of(network: Network, protocol: Protocol) -> Family:
    """How a network is trained: as its family is, but for what the protocol decides for all."""
    family = optimisation.for_all(network.family, protocol)
    if protocol.tuned:
        family = replace(family, lr=None)
    if protocol.weight_decay is not None:
        family = replace(family, weight_decay=protocol.weight_decay)
    return replace(family, patient=True) if protocol.patient else family


def fit(
    network: Network,
    examples: Examples,
    protocol: Protocol,
    seed: int,
    *,
    keep: Iterable[int] = (),
    run: Run | None = None,
    teach: Callable[[Tensor], Tensor] | None = None,
) -> list[Weights]:
    """Train a fresh network; the optimiser and schedule are its family's (optimisation.FAMILIES).

    Args:
        protocol: loss, augmentation, epochs, batch, and the rate of families that leave it to the protocol.
        seed: of the initial weights, the order and the augmentation.
        keep: numbers of finished epochs of the protocol after which to keep a snapshot.
        run: makes the training resumable, epoch by epoch.
        teach: gives the targets of each augmented batch of inputs, in place of stored ones (dynamic labels).

    Returns:
        The snapshots in order, then the final weights.

    Raises:
        Diverged: when training does.
    """
    assert run is None or not keep, "a resumed training has lost its earlier snapshots"
    device = network.decisions.device
    epochs, steps = plan(len(examples), protocol, family_of(network, protocol))
    carry: dict[str, Any] = {"weights": network.init(seed), "optimizer": None}
    learner, snapshots, losses = None, [], []
    wanted = _epochs_of(keep, epochs, protocol)
    for epoch in run.steps(epochs, carry) if run else progress.track(range(epochs), "epoch"):
        learner = learner or _Learner(network, protocol, epochs, carry)
        for number, chosen in enumerate(_order(len(examples), steps, seed, epoch)):
            step = epoch * steps + number
            batch = _batch(examples, chosen, protocol, seed, step, device, teach)
            learner.begin(step, steps)
            with network.seeded(seeding.derive(seed, "dropout", step)):
                loss = _backward(network, learner.weights, batch, protocol)
            learner.optimizer.step()
        losses.append(loss.detach())
        if run:
            run.log(loss=loss)
            carry.update(learner.state())
        if epoch + 1 in wanted:
            snapshots.append(network.place(learner.snapshot()))
    ended = network.place(learner.weights if learner else carry["weights"])
    _check(losses, ended, network, epochs)
    return [*snapshots, ended]


def fit_many(
    network: Network,
    examples: Sequence[Examples],
    protocol: Protocol,
    seeds: Sequence[int],
    *,
    keep: Iterable[int] = (),
    teach: Callable[[Tensor], Tensor] | None = None,
) -> list[list[Weights] | None]:
    """Train several fresh networks, `network.decisions.together` of them in one program; of each what `fit` returns.

    None stands for one that diverged; the others are none the worse for it.

    Each has the initialisation, order and augmentation that `fit` gives its seed, so it ends where `fit` would, up to
    rounding: within 1e-3 of every weight's scale after a few dozen steps (tests/test_together.py).

    Args:
        examples: of each network, as many for all.
        seeds: of each network.
        keep, teach: as in `fit`.
    """
    at_once, kept = network.decisions.together, set(keep)
    if at_once == 1:
        pairs = zip(examples, seeds, strict=True)
        return [_fit_or_none(network, each, protocol, seed, kept, teach) for each, seed in pairs]
    found: list[list[Weights] | None] = []
    for start in range(0, len(seeds), at_once):
        part = slice(start, start + at_once)
        found += _fit_together(network, examples[part], protocol, seeds[part], kept, teach)
    return found


def _fit_or_none(
    network: Network,
    examples: Examples,
    protocol: Protocol,
    seed: int,
    keep: set[int],
    teach: Callable[[Tensor], Tensor] | None,
) -> list[Weights] | None:
    try:
        return fit(network, examples, protocol, seed, keep=keep, teach=teach)
    except Diverged:
        return None


def _fit_together(
    network: Network,
    examples: Sequence[Examples],
    protocol: Protocol,
    several: Sequence[int],
    keep: set[int],
    teach: Callable[[Tensor], Tensor] | None,
) -> list[list[Weights] | None]:
    """`fit` with a leading dimension J: the sum of J losses has for each network's weights its own gradient."""
    count, device = len(examples[0]), network.decisions.device
    assert all(len(each) == count for each in examples), "networks trained together see as many images each"
    epochs, steps = plan(count, protocol, family_of(network, protocol))
    weights = networks.stack([network.init(seed) for seed in several])
    learner, losses = _Learner(network, protocol, epochs, {"weights": weights, "optimizer": None}), torch.zeros(())
    wanted, snapshots = _epochs_of(keep, epochs, protocol), []
    for epoch in progress.track(range(epochs), "epoch"):
        orders = (_order(count, steps, seed, epoch) for seed in several)
        for number, chosen in enumerate(zip(*orders, strict=True)):
            step = epoch * steps + number
            batches = [
                _batch(each, rows, protocol, seed, step, device, teach)
                for each, rows, seed in zip(examples, chosen, several, strict=True)
            ]
            logits = network.forward_many(learner.weights, torch.stack([inputs for inputs, _, _ in batches]))
            pairs = zip(logits, batches, strict=True)
            losses = torch.stack([loss_of(protocol)(own, labels, targets) for own, (_, labels, targets) in pairs])
            learner.begin(step, steps)
            losses.sum().backward()
            learner.optimizer.step()
        if epoch + 1 in wanted:
            snapshots.append(learner.snapshot())
    moments = [*snapshots, learner.weights]
    ended = [[network.place(networks.unstack(each, number)) for each in moments] for number in range(len(several))]
    fine = losses.isfinite().tolist()
    return [kept if ok and _finite(kept[-1]) else None for kept, ok in zip(ended, fine, strict=True)]


def _epochs_of(keep: Iterable[int], epochs: int, protocol: Protocol) -> set[int]:
    """The finished epochs after which to keep a snapshot: at the same parts of a training that is longer."""
    return {number * epochs // protocol.epochs for number in keep}


def _batch(
    examples: Examples,
    chosen: Tensor,
    protocol: Protocol,
    seed: int,
    step: int,
    device: str,
    teach: Callable[[Tensor], Tensor] | None,
) -> Batch:
    """What one step learns from."""
    inputs, labels, targets = examples.batch(chosen, device)
    inputs = augment(inputs, protocol.augment, seeding.generator(seed, "augment", step))
    return inputs, labels, targets if teach is None else teach(inputs)


def _backward(network: Network, weights: Weights, batch: Batch, protocol: Protocol) -> Tensor:
    """Add the gradient of a batch's loss to the weights', in micro-batches where memory is short; the loss.

    A micro-batch counts by its share of the images, so the sum is the whole batch's gradient up to rounding; batch
    norms, where a network has some, see the micro-batch alone.
    """
    inputs, labels, targets = batch
    size = network.decisions.micro_batch or len(labels)
    loss = torch.zeros((), device=inputs.device)
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        logits = network.forward(weights, inputs[part], train=True)
        own = loss_of(protocol)(logits, labels[part], None if targets is None else targets[part])
        own = own if len(logits) == len(labels) else own * (len(logits) / len(labels))
        own.backward()
        loss += own.detach()
    return loss


def _check(losses: Sequence[Tensor], weights: Weights, network: Network, epochs: int) -> None:
    """Raise Diverged where an epoch ended with a loss that is not finite, or the last step left such weights."""
    spoilt = [] if not losses else (~torch.stack(list(losses)).isfinite()).nonzero().flatten().tolist()
    when = f"epoch {epochs - len(losses) + spoilt[0] + 1} of {epochs}" if spoilt else "its last step"
    if spoilt or not _finite(weights):
        what = f"its loss is {losses[spoilt[0]].item()}" if spoilt else "not all of its weights are finite"
        raise Diverged(f"training {network.arch} diverged in {when}: {what}", next="lower its learning rate")


def _finite(weights: Weights) -> bool:
    return all(bool(value.isfinite().all()) for value in weights.values())


def plan(count: int, protocol: Protocol, family: Family) -> tuple[int, int]:
    """Epochs, and steps in each, of training on so many images: the protocol's, or as many as the family needs."""
    steps = ceil(count / protocol.batch)  # as few batches as fit
    if family.patient and protocol.epochs * steps < protocol.min_steps:
        # Smaller batches cost nothing, so they come first.
        needed = ceil(protocol.min_steps / protocol.epochs)
        steps = max(steps, min(needed, ceil(count / SMALL_BATCH)))
        return max(protocol.epochs, ceil(protocol.min_steps / steps)), steps
    return protocol.epochs, steps


class _Learner:
    """Weights with the optimiser and schedule of their family."""

    def __init__(self, network: Network, protocol: Protocol, epochs: int, carry: dict[str, Any]) -> None:
        self.family, self.epochs = family_of(network, protocol), epochs
        self.rate = self.family.lr if self.family.lr is not None else protocol.lr
        self.weights = network.place(carry["weights"])
        parameters: Any = [self.weights[name].requires_grad_() for name in network.trainable]
        self.optimizer: torch.optim.Optimizer
        if protocol.optimizer == "adamw":
            parameters = optimisation.decaying(network.skeleton, network.trainable, parameters)
        if self.family.optimizer in ("adamw", "adam"):  # Adam is AdamW without decay
            self.optimizer = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=self.family.weight_decay)
        else:
            decay = self.family.weight_decay
            self.optimizer = torch.optim.SGD(parameters, lr=self.rate, momentum=MOMENTUM, weight_decay=decay)
        if carry["optimizer"] is not None:
            self.optimizer.load_state_dict(carry["optimizer"])

    def begin(self, step: int, steps_per_epoch: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * optimisation.rate_factor(self.family.schedule, step, steps_per_epoch, self.epochs)
        self.optimizer.zero_grad()

    def snapshot(self) -> Weights:
        return {name: value.detach().clone() for name, value in self.weights.items()}

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights, "optimizer": self.optimizer.state_dict()}


def _order(examples: int, steps: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """The batches of one epoch as indices, `steps` of them, all of one size.

    One size means one compiled program; at most steps - 1 images, other ones each epoch, sit an epoch out.
    """
    if steps == 1:
        yield torch.arange(examples)
        return
    size = examples // steps
    order = torch.randperm(examples, generator=seeding.generator(seed, "order", epoch))
    yield from order[: steps * size].split(size)


def predict(
    network: Network, weights: Weights, examples: Examples, batch: int = 500
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (B, K) and labels (B,) of every example in order, without gradients.

    Every batch has the same size, the last one filled up by repetition and cut, so that one program serves all.
    """
    size = min(batch, len(examples), network.decisions.chunk or batch)
    with torch.no_grad():
        for start in range(0, len(examples), size):
            chosen = torch.arange(start, start + size).clamp(max=len(examples) - 1)
            inputs, labels, _ = examples.batch(chosen, network.decisions.device)
            count = min(size, len(examples) - start)
            yield network.forward(weights, inputs)[:count], labels[:count]


def accuracy(network: Network, weights: Weights, examples: Examples) -> float:
    """Top-1 accuracy as a fraction; raises Diverged where logits are not finite, whose largest would count."""
    tallies = [
        torch.stack([(logits.argmax(1) == labels).sum(), (~logits.isfinite()).sum()])
        for logits, labels in predict(network, weights, examples)
    ]
    hits, spoilt = torch.stack(tallies).sum(0).tolist()
    if spoilt:
        raise Diverged(f"{network.arch} diverged: its logits are not finite", next="lower its learning rate")
    return float(hits) / len(examples)
