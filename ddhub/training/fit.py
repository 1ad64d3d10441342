"""Training of one network on real or synthetic images, and its scores. Teachers, students and evaluations use it.

Shapes: N images, B batch, C H W image, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor

from ddhub.base import progress
from ddhub.base import seeds as seeding
from ddhub.training import batches, cuda_graph, optimisation
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training.batches import Batch, Examples
from ddhub.training.loop import Diverged, Run
from ddhub.training.losses import loss_of
from ddhub.training.network import Network, Weights
from ddhub.training.optimisation import Family
from ddhub.training.protocol import Protocol

MOMENTUM = 0.9
SMALL_BATCH = 32  # batch size for families that need more steps than a protocol has


def family_of(network: Network, protocol: Protocol) -> Family:
    """How a network is optimised: as its family is, unless the protocol decides for all families."""
    return family_under(network.family, protocol)


def family_under(family: Family, protocol: Protocol) -> Family:
    """The settings of a family under a protocol."""
    family = optimisation.for_all(family, protocol)
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
    """Train a new network. Its family sets optimiser and schedule (optimisation.FAMILIES).

    Args:
        protocol: loss, augmentation, epochs, batch, and the learning rate of families without one of their own.
        seed: the seed of initial weights, order and augmentation.
        keep: epochs of the protocol after which a snapshot is kept.
        run: makes the training resumable after each epoch.
        teach: computes the targets of each augmented batch of inputs, in place of stored ones (dynamic labels).

    Returns:
        The snapshots in order, then the final weights.

    Raises:
        Diverged: if the training diverges.
    """
    assert run is None or not keep, "a resumed training has lost its earlier snapshots"
    examples = examples.on(network.decisions)
    epochs, steps = plan(len(examples), protocol, family_of(network, protocol))
    carry: dict[str, Any] = {"weights": network.init(seed), "optimizer": None}
    learner: _Learner | None = None
    snapshots, losses = [], []
    wanted = _epochs_of(keep, epochs, protocol)
    for epoch in run.steps(epochs, carry) if run else progress.track(range(epochs), "epoch"):
        learner = learner or _Learner(network, protocol, (epochs, steps), carry, _backward)
        own = batches.epoch(examples, protocol, steps, seed, epoch, network.decisions.device, teach)
        for step, batch in enumerate(own, epoch * steps):
            with network.seeded(seeding.derive(seed, "dropout", step)):
                loss = learner.step(step, batch)
        losses.append(loss.clone())
        if run:
            run.log(loss=losses[-1])
            carry.update(learner.state())
        if epoch + 1 in wanted:
            snapshots.append(network.place(learner.snapshot()))
    ended = network.place(learner.snapshot() if learner else carry["weights"])
    _check(losses, ended, network, epochs)
    return [*snapshots, ended]


def fit_many(
    network: Network,
    examples: Sequence[Examples],
    protocol: Protocol,
    seeds: Sequence[int],
    *,
    keep: Iterable[int] = (),
    run: Run | None = None,
    teach: Callable[[Tensor], Tensor] | None = None,
) -> list[list[Weights] | None]:
    """Train several new networks, `network.decisions.together` of them in one program. Return the results of `fit`.

    None stands for a network that diverged. The others are not affected.

    Each network has the initialisation, order and augmentation that `fit` gives to its seed. It ends where `fit` would
    up to rounding: within 1e-3 of every weight's scale after a few dozen steps (test_together.py).

    Args:
        examples: the examples of each network, equally many for all.
        seeds: the seed of each network.
        keep, run, teach: as in `fit`. A run is for networks that are trained in one program.
    """
    at_once, kept = network.decisions.together, set(keep)
    assert run is None or len(seeds) == at_once, "networks of several programs cannot share a run"
    if at_once == 1:
        pairs = zip(examples, seeds, strict=True)
        return [_fit_or_none(network, each, protocol, seed, kept, run, teach) for each, seed in pairs]
    found: list[list[Weights] | None] = []
    for start in range(0, len(seeds), at_once):
        part = slice(start, start + at_once)
        found += _fit_together(network, examples[part], protocol, seeds[part], kept, run, teach)
    return found


def _fit_or_none(
    network: Network,
    examples: Examples,
    protocol: Protocol,
    seed: int,
    keep: set[int],
    run: Run | None,
    teach: Callable[[Tensor], Tensor] | None,
) -> list[Weights] | None:
    try:
        return fit(network, examples, protocol, seed, keep=keep, run=run, teach=teach)
    except Diverged:
        return None


def _fit_together(
    network: Network,
    examples: Sequence[Examples],
    protocol: Protocol,
    several: Sequence[int],
    keep: set[int],
    run: Run | None,
    teach: Callable[[Tensor], Tensor] | None,
) -> list[list[Weights] | None]:
    """`fit` with a leading dimension J. The sum of the J losses gives each network's weights their own gradient."""
    count, device = len(examples[0]), network.decisions.device
    examples = [each.on(network.decisions) for each in examples]
    assert all(len(each) == count for each in examples), "networks trained together see as many images each"
    epochs, steps = plan(count, protocol, family_of(network, protocol))
    carry: dict[str, Any] = {"weights": networks.stack([network.init(seed) for seed in several]), "optimizer": None}
    learner: _Learner | None = None
    losses = torch.zeros(len(several))
    wanted, snapshots = _epochs_of(keep, epochs, protocol), []
    for epoch in run.steps(epochs, carry) if run else progress.track(range(epochs), "epoch"):
        learner = learner or _Learner(network, protocol, (epochs, steps), carry, _backward_many)
        own = (
            batches.epoch(each, protocol, steps, seed, epoch, device, teach)
            for each, seed in zip(examples, several, strict=True)
        )
        for step, batch in enumerate(zip(*own, strict=True), epoch * steps):
            losses = learner.step(step, batches.stacked(batch))
        if run:  # no losses are logged: one that is not finite would end all of them
            carry.update(learner.state())
        if epoch + 1 in wanted:
            snapshots.append(learner.snapshot())
    moments = [*snapshots, learner.weights if learner else carry["weights"]]
    ended = [[network.place(networks.unstack(each, number)) for each in moments] for number in range(len(several))]
    fine = losses.isfinite().tolist()
    return [kept if ok and _finite(kept[-1]) else None for kept, ok in zip(ended, fine, strict=True)]


def _epochs_of(keep: Iterable[int], epochs: int, protocol: Protocol) -> set[int]:
    """The epochs after which a snapshot is kept, at the same fractions of a longer training."""
    return {number * epochs // protocol.epochs for number in keep}


def _backward_many(network: Network, weights: Weights, batch: Batch, protocol: Protocol) -> Tensor:
    """Add the gradient of the sum of J networks' losses to their weights. Return the losses (J,)."""
    inputs, labels, targets = batch
    logits = network.forward_many(weights, inputs)
    soft = [None] * len(logits) if targets is None else targets
    losses = torch.stack([loss_of(protocol)(*each) for each in zip(logits, labels, soft, strict=True)])
    losses.sum().backward()
    return losses.detach()


def _backward(network: Network, weights: Weights, batch: Batch, protocol: Protocol) -> Tensor:
    """Add the gradient of a batch's loss to the weights, by micro-batches if memory is short. Return the loss.

    A micro-batch is weighted by its share of the images. The sum is the gradient of the whole batch up to rounding.
    Batch norms see only the micro-batch.
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
    """Raise Diverged if an epoch ended with a non-finite loss, or the last step left non-finite weights."""
    known = [*(loss.isfinite() for loss in losses), *(value.isfinite().all() for value in weights.values())]
    fine = torch.stack(known).tolist()  # the only read from the device, at once
    spoilt = [number for number, ok in enumerate(fine[: len(losses)]) if not ok]
    when = f"epoch {epochs - len(losses) + spoilt[0] + 1} of {epochs}" if spoilt else "its last step"
    if not all(fine):
        what = f"its loss is {losses[spoilt[0]].item()}" if spoilt else "not all of its weights are finite"
        raise Diverged(f"training {network.arch} diverged in {when}: {what}", next="lower its learning rate")


def _finite(weights: Weights) -> bool:
    return bool(torch.stack([value.isfinite().all() for value in weights.values()]).all())


def plan(count: int, protocol: Protocol, family: Family) -> tuple[int, int]:
    """Epochs and steps per epoch for so many images: those of the protocol, or as many as the family needs."""
    steps = ceil(count / protocol.batch)  # as few batches as possible
    if family.patient and protocol.epochs * steps < protocol.min_steps:
        # Smaller batches cost nothing, so they are tried first.
        needed = ceil(protocol.min_steps / protocol.epochs)
        steps = max(steps, min(needed, ceil(count / SMALL_BATCH)))
        return max(protocol.epochs, ceil(protocol.min_steps / steps)), steps
    return protocol.epochs, steps


Gradient = Callable[[Network, Weights, Batch, Protocol], Tensor]  # adds to the weights' gradient and returns the loss


class _Learner:
    """Weights with the optimiser and schedule of their family. On a GPU a step is one launch.

    Args:
        length: the epochs, and the steps in each.
    """

    def __init__(
        self, network: Network, protocol: Protocol, length: tuple[int, int], carry: dict[str, Any], gradient: Gradient
    ) -> None:
        self.family, self.length, self._gradient = family_of(network, protocol), length, gradient
        self.network, self.protocol, self._rate = network, protocol, -1.0
        graphed = network.decisions.graph and not network.draws
        self._learn = cuda_graph.graphed(self._step, network.decisions.device, prod(length)) if graphed else self._step
        self.rate = self.family.lr if self.family.lr is not None else protocol.lr
        self.weights = network.place(carry["weights"])
        parameters: Any = [self.weights[name].requires_grad_() for name in network.trainable]
        self.optimizer: torch.optim.Optimizer
        if protocol.optimizer == "adamw":
            parameters = optimisation.decaying(network.skeleton, network.trainable, parameters)
        settings: dict[str, Any] = {"lr": self.rate, "weight_decay": self.family.weight_decay}
        if self.family.optimizer in ("adamw", "adam"):  # Adam is AdamW without weight decay
            cuda = devices.is_gpu(network.decisions.device)
            self.optimizer = torch.optim.AdamW(parameters, **settings, capturable=graphed and cuda)
        else:
            self.optimizer = torch.optim.SGD(parameters, **settings, momentum=MOMENTUM, fused=graphed or None)
        if carry["optimizer"] is not None:
            self.optimizer.load_state_dict(carry["optimizer"])
        for group in self.optimizer.param_groups if graphed else ():  # a graph reads the rate from memory
            group["lr"] = torch.full((), self.rate, device=network.decisions.device)

    def step(self, number: int, batch: Batch) -> Tensor:
        """Do one step. The returned loss is valid until the next step."""
        epochs, steps = self.length
        rate = self.rate * optimisation.rate_factor(self.family.schedule, number, steps, epochs)
        for group in self.optimizer.param_groups if rate != self._rate else ():
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate
        self._rate, first = rate, self._rate < 0
        if not (first and self.network.compiled):
            return self._learn(*batch)
        with progress.busy(f"{progress.doing() or self.network.arch}: compiling"):
            return self._learn(*batch)

    def _step(self, inputs: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        self.optimizer.zero_grad()
        loss = self._gradient(self.network, self.weights, (inputs, labels, targets), self.protocol)
        self.optimizer.step()
        return loss

    def snapshot(self) -> Weights:
        return {name: value.detach().clone() for name, value in self.weights.items()}

    def state(self) -> dict[str, Any]:
        """What a run saves. The optimiser is asked for its state only then, because that takes a while."""
        return {"weights": self.weights, "optimizer": self.optimizer.state_dict}


def predict(
    network: Network, weights: Weights, examples: Examples, batch: int = 500
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (B, K) and labels (B,) of all examples in order, without gradients.

    All batches have the same size. The last one is filled by repetition and cut, so that one program serves all.
    """
    examples = examples.on(network.decisions)
    size = min(batch, len(examples), network.decisions.chunk or batch)
    with torch.no_grad():
        for start in range(0, len(examples), size):
            count = min(size, len(examples) - start)
            chosen = torch.arange(start, start + size).clamp(max=len(examples) - 1)
            (rows,) = devices.send([examples.rows(chosen)], examples.images.device)
            inputs, labels, _ = examples.batch(rows, network.decisions.device)
            with devices.full_float32(network.decisions.device):
                logits = network.forward(weights, inputs)
            yield logits[:count], labels[:count]


def accuracy(network: Network, weights: Weights, examples: Examples) -> float:
    """Top-1 accuracy as a fraction. Raises Diverged for non-finite logits, whose maximum would count as an answer."""
    tallies = [
        torch.stack([(logits.argmax(1) == labels).sum(), (~logits.isfinite()).sum()])
        for logits, labels in predict(network, weights, examples)
    ]
    hits, spoilt = torch.stack(tallies).sum(0).tolist()
    if spoilt:
        raise Diverged(f"{network.arch} diverged: its logits are not finite", next="lower its learning rate")
    return float(hits) / len(examples)
