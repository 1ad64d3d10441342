"""What a run comes to, before it runs: which steps, how often, on how many images, and how to try one on noise.

Phases that every recipe has are listed in forecast.py; a method's own in its file, as `work(outline)`.
Shapes: C channels, S side, K classes.
"""

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

PREDICTED = 500  # images that train.predict and Teachers.label take at once


def shape(spec: SourceSpec, images: int | None = None, classes: int | None = None, side: int | None = None) -> Shape:
    """The shape of a source that is not read: what is told, or what is known of it.

    Raises:
        UserError: for a source that nobody knows; names the options that tell.
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
    """What work depends on: a recipe, the shape of its source, how it runs here."""

    recipe: Recipe
    shape: Shape
    decisions: Decisions
    parts: int = 1  # groups of the set that this outline is one of

    @cached_property
    def config(self) -> Any:
        """The settings of the recipe's method, as its own Config."""
        return recipes.method_config(self.recipe)

    @property
    def synthetic(self) -> int:
        """Images to make."""
        return self.recipe.ipc * self.shape.classes

    @property
    def whole(self) -> int:
        """Images of the whole set, of which this outline makes one part."""
        return self.synthetic * self.parts

    @property
    def held_out(self) -> int:
        """Images of the validation part, as sources.hold_out takes them of equal classes."""
        classes = self.shape.classes
        return classes * max(1, round(self.recipe.source.validation * self.shape.images / classes))

    @property
    def training(self) -> int:
        """Images of the training part."""
        return max(1, self.shape.images - self.held_out)

    def group(self) -> "Outline":
        """The outline of one of the recipe's groups."""
        own = self.recipe.model_copy(update={"ipc": self.recipe.ipc // self.recipe.groups, "groups": 1})
        return replace(self, recipe=own, parts=self.recipe.groups)

    def forward(self, arch: str) -> "Forward":
        """What a forward pass of an architecture takes on these images."""
        return forward(arch, self.shape.classes, self.shape.channels, self.shape.side)

    def network(self, arch: str) -> Network:
        """The network to try steps with, which cuts nothing into pieces."""
        decisions = replace(self.decisions, micro_batch=0, chunk=0)
        return network_module.network(arch, self.shape.classes, self.shape.channels, self.shape.side, decisions)

    def noise(self, images: int) -> Tensor:
        """Made-up network inputs (images, C, S, S), on the device."""
        size = (images, self.shape.channels, self.shape.side, self.shape.side)
        return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.decisions.device)


@dataclass(frozen=True)
class Forward:
    """What one image's forward pass takes."""

    flops: float
    bytes: float  # of all activations
    layers: int
    weights: int  # bytes
    family: optimisation.Family
    convnet: bool


@dataclass(frozen=True)
class Rough:
    """What an image of a call takes, as far as can be told without trying."""

    flops: float
    moved: float  # bytes read and written, uncompiled
    kept: float  # bytes of memory
    operations: float  # of a call, whatever its images


@dataclass(frozen=True)
class Work:
    """Calls of one kind, maybe in series, each with something to do before its first call, as trainings have."""

    name: str
    key: dict[str, Any]  # what the cost of a call depends on, beside machine and decisions
    series: float
    calls: float  # of all series
    images: float  # of all calls
    at_once: int  # images of a call
    run: Callable[[int, int], object]  # does a series on noise: images of a call, calls
    rough: Rough
    compiled: bool = False
    cut: str | None = None  # the decision that says how many images are at once, as `micro_batch`
    held: float = 0  # bytes of memory beside what calls take
    batch: int = 0  # images of a call that no decision cuts


@dataclass(frozen=True)
class Phase:
    """All works of a phase, and the bytes on the disk that it ends with."""

    works: list[Work]
    disk: float = 0


@cache
def forward(arch: str, classes: int, channels: int, side: int) -> Forward:
    """Count what a forward pass of one image takes.

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
    """Trainings of a network under a protocol, by train.fit.

    Args:
        count: images that it learns.
        times: trainings.
        pixels: whether they are real ones, which are preprocessed batch by batch.
        held: bytes of memory beside.
    """
    one, decisions = outline.forward(arch), outline.decisions
    epochs, steps = fit.plan(count, protocol, one.family)
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
        # A backward pass is two forward passes; each reads and writes every activation.
        rough=Rough(3 * one.flops + _whitening(outline, zca), 6 * one.bytes, 1.5 * one.bytes, 8 * one.layers + 20),
        compiled=decisions.compile and one.convnet,
        cut="micro_batch",
        held=held + 4 * one.weights,
        batch=batch,
    )


def scoring(
    outline: Outline, name: str, arch: str, count: int, times: float, *, pixels: bool = False, held: float = 0
) -> Work:
    """Forward passes over `count` images, `times` times, by train.predict or Teachers.label."""
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
        held=held,
        batch=min(PREDICTED, count),
    )


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
    """A method's own steps, each the gradient of images, and of no weights, through some networks.

    Args:
        networks: architectures, and how many networks of each.
        batch: images of a step.
        steps: of the whole run.
        run: the method's own rehearsal: images at once, and how many times.
        chunk: images whose gradient is taken at once, unless a decision says so; None: all.
        held: bytes of memory beside.
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
        # The graph of one network of each architecture is there at a time (Network.portions).
        rough=Rough(2 * flops, 4 * size, sum(one.bytes for one, _ in passes), 4 * layers),
        compiled=outline.decisions.compile and all(one.convnet for one, _ in passes),
        cut="chunk" if chunk else None,
        held=held,
        batch=batch,
    )


def _place(outline: Outline, networks: str | list[list[Any]]) -> dict[str, Any]:
    """The networks of a key."""
    shape = outline.shape
    return {"arch": networks, "classes": shape.classes, "channels": shape.channels, "side": shape.side}


def _whitening(outline: Outline, zca: bool) -> float:
    """FLOPs of whitening an image."""
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
