"""The work of a run, before it runs: kinds of steps, their number and images, and a trial on noise for each.

forecast.py lists the phases of every recipe. A method's own file lists its work, as `work(outline)`.
Shapes: C channels, S side, K classes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from math import ceil
from typing import Any

import torch
from torch import Tensor

from ddhub.artifact.recipe import Recipe
from ddhub.base.errors import UserError
from ddhub.data import catalog
from ddhub.data.catalog import SHAPES, Shape
from ddhub.data.preprocess import Preprocess
from ddhub.data.spec import SourceSpec
from ddhub.distillation import recipes
from ddhub.training import architectures, fit, optimisation
from ddhub.training import network as network_module
from ddhub.training.device import Decisions
from ddhub.training.field_networks import ConvNet
from ddhub.training.network import Network
from ddhub.training.protocol import Protocol

PREDICTED = 500  # images that fit.predict and Teachers.label process at once


def shape(spec: SourceSpec, images: int | None = None, classes: int | None = None, side: int | None = None) -> Shape:
    """The shape of a source without reading it: the given numbers, or the known ones.

    Raises:
        UserError: for an unknown source, with the options that describe it.
    """
    name = spec.dataset if spec.dataset == "digits" else catalog.dataset(spec.dataset)
    known = SHAPES.get(name or "", Shape(0, 0, 3, 0))
    whole = images or (known.images if spec.train == "train" else 0)
    found = Shape(
        round(whole * (1 - (spec.hold_out or 0))),
        classes or known.classes,
        spec.channels or known.channels,
        side or spec.resolution or known.side,
    )
    options = {"--images N": found.images, "--classes K": found.classes, "--side S": found.side}
    missing = " ".join(option for option, value in options.items() if not value)
    if missing:
        raise UserError(f"source: {spec.dataset}: how much it holds is not known before it is read", next=missing)
    return found


@dataclass(frozen=True)
class Outline:
    """Everything on which the work depends: the recipe, the shape of its source, and the decisions."""

    recipe: Recipe
    shape: Shape
    decisions: Decisions
    parts: int = 1  # groups of the set, of which this outline is one

    @cached_property
    def config(self) -> Any:
        """The settings of the recipe's method, as its own model."""
        return recipes.method_config(self.recipe)

    @property
    def synthetic(self) -> int:
        """The number of images to make."""
        return self.recipe.ipc * self.shape.classes

    @property
    def whole(self) -> int:
        """The images of the whole set, of which this outline may be one group."""
        return self.synthetic * self.parts

    @property
    def stored_values(self) -> int:
        """The values of a stored synthetic image, which may be smaller than network inputs."""
        return self.shape.values // self.recipe.preprocess.factor**2

    @property
    def held_out(self) -> int:
        """The images of the validation part, as source.hold_out takes them from equal classes."""
        classes = self.shape.classes
        return classes * max(1, round(self.recipe.source.validation * self.shape.images / classes))

    @property
    def training(self) -> int:
        """The images of the training part."""
        return max(1, self.shape.images - self.held_out)

    def group(self) -> "Outline":
        """The outline of one of the recipe's groups."""
        own = self.recipe.model_copy(update={"ipc": self.recipe.ipc // self.recipe.groups, "groups": 1})
        return replace(self, recipe=own, parts=self.recipe.groups)

    def forward(self, arch: str) -> "Forward":
        """The cost of a forward pass of an architecture on these images."""
        return forward(arch, self.shape.classes, self.shape.channels, self.shape.side)

    def network(self, arch: str) -> Network:
        """A network to try steps with. It divides no batch."""
        decisions = replace(self.decisions, micro_batch=0, chunk=0)
        return network_module.network(arch, self.shape.classes, self.shape.channels, self.shape.side, decisions)

    def noise(self, images: int) -> Tensor:
        """Random network inputs (images, C, S, S), on the device."""
        size = (images, self.shape.channels, self.shape.side, self.shape.side)
        return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.decisions.device)


@dataclass(frozen=True)
class Forward:
    """The cost of a forward pass on one image."""

    flops: float
    bytes: float  # bytes of all activations
    layers: int
    weights: int  # bytes of the weights
    family: optimisation.Family
    convnet: bool


@dataclass(frozen=True)
class Rough:
    """The estimated cost of one image of a call."""

    flops: float
    moved: float  # bytes read and written, without compilation
    kept: float  # bytes kept in memory
    operations: float  # operations of a call, for any number of images


@dataclass(frozen=True)
class Work:
    """Calls of one kind, possibly in several series. A series can have a costly start, as trainings do."""

    name: str
    key: dict[str, Any]  # everything that affects the cost of a call, except machine and decisions
    series: float
    calls: float  # calls of all series
    images: float  # images of all calls
    at_once: int  # images per call
    run: Callable[[int, int], object]  # runs a series on noise, for images per call and number of calls
    rough: Rough
    compiled: bool = False
    cut: str | None = None  # the decision that sets the images per call, such as `micro_batch`
    held: float = 0  # bytes of memory in addition to those of calls
    batch: int = 0  # images per call without any decision


@dataclass(frozen=True)
class Phase:
    """All works of a phase, and the bytes that it leaves on the disk."""

    works: list[Work]
    disk: float = 0


@cache
def forward(arch: str, classes: int, channels: int, side: int) -> Forward:
    """Count the cost of a forward pass on one image.

    Raises:
        UserError: for an architecture that cannot run at this size.
    """
    net = architectures.try_out(arch, classes, channels, side).eval()
    flops = architectures.flops(net, channels, side)
    put_out = architectures.outputs(net, channels, side)
    weights = 4 * sum(value.numel() for value in net.state_dict().values())
    family = optimisation.FAMILIES[optimisation.kind(net)]
    return Forward(flops, put_out.every, put_out.layers, weights, family, isinstance(net, ConvNet))


def training(
    outline: Outline,
    name: str,
    arch: str,
    count: int,
    protocol: Protocol,
    times: float,
    *,
    pixels: bool = False,
    held: float = 0,
) -> Work:
    """Trainings of a network under a protocol, by fit.fit.

    Args:
        count: the number of training images.
        times: the number of trainings.
        pixels: whether images are real ones, which are preprocessed by batches.
        held: bytes of memory in addition.
    """
    one, decisions = outline.forward(arch), outline.decisions
    epochs, steps = fit.plan(count, protocol, fit.family_under(one.family, protocol))
    batch = count // steps
    at_once = min(batch, decisions.micro_batch or batch)
    zca = pixels and outline.recipe.preprocess.zca
    return Work(
        name,
        {"work": "training", **_place(outline, arch), "augment": protocol.augment, "zca": zca},
        series=times,
        calls=times * epochs * steps * ceil(batch / at_once),
        images=times * epochs * steps * batch,
        at_once=at_once,
        run=partial(_train, outline, arch, protocol.augment, zca),
        # A backward pass counts as two forward passes. Each reads and writes all activations.
        rough=Rough(3 * one.flops + _whitening(outline, zca), 6 * one.bytes, 1.5 * one.bytes, 8 * one.layers + 20),
        compiled=decisions.compile and one.convnet,
        cut="micro_batch",
        held=held + 4 * one.weights,
        batch=batch,
    )


def scoring(outline: Outline, name: str, arch: str, count: int, times: float, *, pixels: bool = False) -> Work:
    """Forward passes over `count` images, `times` times, by fit.predict or Teachers.label."""
    one, decisions = outline.forward(arch), outline.decisions
    at_once = max(1, min(PREDICTED, count, decisions.chunk or PREDICTED))
    calls = times * ceil(count / at_once)
    zca = pixels and outline.recipe.preprocess.zca
    return Work(
        name,
        {"work": "scoring", **_place(outline, arch), "zca": zca},
        series=0,
        calls=calls,
        images=calls * at_once,
        at_once=at_once,
        run=partial(_score, outline, arch, zca),
        rough=Rough(one.flops + _whitening(outline, zca), 2 * one.bytes, one.bytes / 2, one.layers + 5),
        compiled=decisions.compile and one.convnet,
        batch=min(PREDICTED, count),
    )


def labelling(outline: Outline, name: str, count: int, times: float, asked: int) -> list[Work]:
    """Labels of `count` inputs by teachers, `times` times.

    Args:
        asked: the teachers that label each time: all, or one of them, drawn.
    """
    turns = Counter(outline.recipe.teachers.turns)
    each = times * asked / max(1, turns.total())
    return [scoring(outline, name, arch, count, each * own) for arch, own in turns.items()]


def moving(
    outline: Outline,
    name: str,
    networks: Sequence[tuple[str, int]],
    batch: int,
    steps: float,
    run: Callable[[int, int], object],
    *,
    chunk: int | None = None,
    held: float = 0,
) -> Work:
    """The steps of a method: each computes the gradient of images, and not of weights, through some networks.

    Args:
        networks: architectures, with the number of networks of each.
        batch: images per step.
        steps: the number of steps of the whole run.
        run: the method's own trial: images at once, and number of steps.
        chunk: images per gradient computation, unless a decision sets it; None for all.
        held: bytes of memory in addition.
    """
    at_once = min(batch, (outline.decisions.chunk or chunk) if chunk else batch)
    passes = [(outline.forward(arch), count) for arch, count in networks]
    flops, size, layers = (
        sum(count * getattr(one, part) for one, count in passes) for part in ("flops", "bytes", "layers")
    )
    return Work(
        name,
        {"work": name, "method": outline.recipe.method["name"], **_place(outline, [list(each) for each in networks])},
        series=0,
        calls=steps * ceil(batch / at_once),
        images=steps * batch,
        at_once=at_once,
        run=run,
        # Memory holds the graph of one network of each architecture at a time (Network.portions).
        rough=Rough(2 * flops, 4 * size, sum(one.bytes for one, _ in passes), 4 * layers),
        compiled=outline.decisions.compile and all(one.convnet for one, _ in passes),
        cut="chunk" if chunk else None,
        held=held,
        batch=batch,
    )


def _place(outline: Outline, networks: str | list[list[Any]]) -> dict[str, Any]:
    """The networks as part of a key."""
    shape = outline.shape
    return {"arch": networks, "classes": shape.classes, "channels": shape.channels, "side": shape.side}


def _whitening(outline: Outline, zca: bool) -> float:
    """FLOPs of whitening one image."""
    return 2.0 * outline.shape.values**2 if zca else 0.0


def _examples(outline: Outline, zca: bool, images: int) -> fit.Examples:
    labels = torch.arange(images) % outline.shape.classes
    if not zca:
        return fit.Examples(outline.noise(images), labels)
    size, channels = outline.shape.values, outline.shape.channels
    whitening = Preprocess((0.5,) * channels, (0.25,) * channels, torch.zeros(size), torch.eye(size))
    return fit.Examples(outline.noise(images).to(torch.uint8), labels, whitening)


def _train(outline: Outline, arch: str, augment: str, zca: bool, images: int, calls: int) -> None:
    protocol = Protocol(loss="ce", augment=augment, lr=0.01, epochs=calls, batch=max(2, images), min_steps=0)
    fit.fit(outline.network(arch), _examples(outline, zca, images), protocol, seed=0)


def _score(outline: Outline, arch: str, zca: bool, images: int, calls: int) -> None:
    network = outline.network(arch)
    examples, weights = _examples(outline, zca, images), network.init(0)
    for _ in range(calls):
        for logits, _labels in fit.predict(network, weights, examples, batch=images):
            logits.sum().item()
