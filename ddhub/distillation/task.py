"""The synthetic set in memory, and everything that a method may use to make one.

Shapes: M synthetic images, C H W synthetic image, S the networks' side, K classes.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ddhub.artifact.recipe import Recipe
from ddhub.base import seeds
from ddhub.base.errors import UserError
from ddhub.base.mapped_tensors import Allocate
from ddhub.data import catalog, enlarge, held_out, selection
from ddhub.data import preprocess as preprocessing
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.training import device, fit
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol
from ddhub.training.teachers import Teachers


@dataclass(frozen=True)
class SyntheticSet:
    """Synthetic images in network-input space, with their labels."""

    images: Tensor  #: float32 (M, C, H, W)
    labels: Tensor  #: int64 (M,)
    soft_labels: Tensor | None  #: float32 (M, K) logits, if teachers label the set


LOOKED_AT = 500  # number of real images whose labels are checked


@dataclass(frozen=True)
class Task:
    """One distillation, as a method sees it."""

    recipe: Recipe
    config: Any  #: the settings, as the method's own model
    source: Split  #: the train split
    training: Tensor  #: (N,) rows of the training part in `source`
    validation: Tensor  #: rows of the validation part, for all choices
    preprocess: Preprocess
    teachers: Teachers | None
    protocol: Protocol  #: how to train on the finished set
    decisions: device.Decisions
    initial: Tensor | None = None  #: rows of `source` as start images; None draws them by the recipe's seed
    parts: int = 1  #: groups of the set, of which this task is one; a mean loss is a mean over all groups

    def network(self, arch: str, decisions: device.Decisions | None = None) -> networks.Network:
        """The network of an architecture for this source, with the task's decisions unless others are given."""
        channels, side = self.source.images.shape[1:3]
        return networks.network(arch, len(self.source.classes), channels, side, decisions or self.decisions)

    @property
    def home_arch(self) -> str:
        """The architecture for validation scores: the first teacher's."""
        return self.recipe.teachers.home

    def real(self, ipc: int, *purpose: str | int) -> tuple[Tensor, Tensor]:
        """`ipc` random real images per class as network inputs (M, C, S, S), and their labels (M,)."""
        rows = self._drawn(ipc, *purpose)
        return self.preprocess.inputs(self.source.images[rows]), self.source.labels[rows]

    def start(self, init: str) -> tuple[Tensor, Tensor]:
        """Initial images and labels on the device, ordered by class; `init` is an Init."""
        labels = self.initial_labels()
        images = self.initial_images(torch.arange(len(labels)), init)
        return images.to(self.decisions.device), labels.to(self.decisions.device)

    def initial_labels(self) -> Tensor:
        """The labels (M,) of the synthetic images, ordered by class."""
        return self.source.labels[self.initial_rows]

    def initial_images(self, rows: Tensor, init: str) -> Tensor:
        """Initial values (B, C, H, W) of some synthetic images, on the CPU.

        Args:
            rows: their numbers, (B,).
            init: an Init. `noise` has the standard deviation of the inputs.
        """
        if init == "noise":
            draws = (seeds.generator(self.recipe.seed, "noise", int(row)) for row in rows)
            return torch.stack([torch.randn(self.image_shape, generator=draw) for draw in draws])
        return self.preprocess.inputs(self.as_stored(self.source.images[self.initial_rows[rows]]))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of a synthetic image."""
        channels, side = self.source.images.shape[1:3]
        stored = side // self.recipe.preprocess.factor
        return channels, stored, stored

    @property
    def side(self) -> int:
        """The side of network inputs. Synthetic images of a smaller side are enlarged to it."""
        return int(self.source.images.shape[-1])

    def as_stored(self, images: Tensor) -> Tensor:
        """uint8 real images (B, C, S, S) as the set would store them, (B, C, H, W)."""
        return enlarge.reduced(images, self.recipe.preprocess.factor)

    @functools.cached_property
    def initial_rows(self) -> Tensor:
        """The training rows (M,) as which images start, ordered by class, if they start as real images."""
        return self._first.flatten() if self.initial is None else self.initial

    @functools.cached_property
    def _first(self) -> Tensor:
        """Training rows (K, ipc) as start images: random ones or, for `easy`, the best of several times as many."""
        ipc = self.recipe.ipc
        if getattr(self.config, "init", None) != "easy":
            return self._drawn(ipc, "init").view(-1, ipc)
        labels, teachers = self.source.labels[self.training], self.need_teachers()
        counts = [
            min(selection.EASY * ipc, there) for there in labels.bincount(minlength=len(self.source.classes)).tolist()
        ]
        drawn = held_out.stratified(labels, self.source.classes, counts, self.recipe.seed, "init")
        chosen = []
        for label, rows in enumerate(self.training[drawn].split(counts)):
            inputs = self.preprocess.inputs(self.as_stored(self.source.images[rows]))
            errors = teachers.el2n_scores(inputs, label)
            chosen.append(rows[errors.argsort(stable=True)[:ipc].sort().values])
        return torch.stack(chosen)

    def group(self, number: int, threads: int) -> "Task":
        """The task of one group: its share of the images, and its own randomness.

        Groups start from disjoint parts of one draw and share no start image. `parts` is the number of groups. With
        it, images move as fast as in a single task.
        """
        recipe, decisions = self.recipe, replace(self.decisions, threads=threads)
        each = recipe.ipc // recipe.groups
        first = self._first.view(-1, recipe.groups, each)
        seed = seeds.derive(recipe.seed, "group", number)
        own = recipe.model_copy(update={"ipc": each, "groups": 1, "seed": seed})
        initial = first[:, number].flatten()
        task = replace(self, recipe=own, decisions=decisions, initial=initial, parts=recipe.groups)
        if self.teachers is None:
            return task
        networks = [task.network(network.arch, decisions.exact()) for network in self.teachers.networks]
        return replace(task, teachers=replace(self.teachers, networks=networks))

    def _drawn(self, ipc: int, *purpose: str | int) -> Tensor:
        """Rows of `ipc` random training images per class, ordered by class."""
        labels = self.source.labels[self.training]
        return self.training[held_out.stratified(labels, self.source.classes, ipc, self.recipe.seed, *purpose)]

    def soft_labels(self, images: Tensor, allocate: Allocate | None = None) -> Tensor | None:
        """The recipe's soft labels (M, K) of synthetic images or network inputs: logits of the teachers, or None.

        They lie on the device, or in tensors from `allocate`.
        """
        if self.recipe.labels.form == "hard":
            return None
        assert self.teachers is not None
        return self.teachers.label(images, None if self.recipe.labels.teachers == "mean" else 0, allocate=allocate)

    def check_labels(self) -> None:
        """Refuse teachers whose logits cannot be stored, before work begins.

        Raises:
            UserError: if their logits of real images exceed half precision, in which soft labels are stored.
        """
        drawn = self.training[:: -(-len(self.training) // LOOKED_AT)]
        soft = self.soft_labels(self.preprocess.inputs(self.source.images[drawn]))
        largest, most = 0.0 if soft is None else float(soft.abs().max()), torch.finfo(torch.float16).max
        if not largest <= most:
            raise UserError(
                f"labels: the teachers' logits reach {largest:.3g}, and are stored in half precision, up to {most:g}",
                next=f"--set teachers.lr={self.recipe.teachers.lr / 10:g}, or --set labels.form=hard",
            )

    def validation_examples(self) -> fit.Examples:
        """The validation part, as pixels."""
        return fit.Examples(self.source.images, self.source.labels, self.preprocess, index=self.validation)

    def validate(self, synthetic: SyntheticSet, *, seed: int, epochs: int | None = None) -> float:
        """Validation accuracy of a new network trained on a set with the set's own protocol."""
        network = self.network(self.home_arch)
        protocol = self.protocol.model_copy(update={"epochs": epochs or self.protocol.epochs})
        examples = fit.Examples(synthetic.images, synthetic.labels, targets=synthetic.soft_labels, side=self.side)
        score_seed = seeds.derive(self.recipe.seed, "validate", seed)
        weights = fit.fit(network, examples, protocol, score_seed)[-1]
        return fit.accuracy(network, weights, self.validation_examples())

    def need_teachers(self) -> Teachers:
        """The teachers, for methods that need them.

        Raises:
            UserError: if the recipe has no teachers.
        """
        if not self.teachers:
            raise UserError(f"method.name: {self.recipe.method['name']} needs teachers", next="--set teachers.count=1")
        return self.teachers


def constants(recipe: Recipe) -> Preprocess | None:
    """The constants with which a recipe normalises; None if it fits statistics.

    Raises:
        UserError: for a source without constants, or with constants for another number of channels.
    """
    if recipe.preprocess.statistics == "fitted":
        return None
    source, fitting = recipe.source, "--set preprocess.statistics=fitted"
    found = preprocessing.field(catalog.dataset(source.dataset))
    if found is None:
        raise UserError(f"preprocess.statistics: field: no constants are known for {source.dataset}", next=fitting)
    if source.channels not in (None, len(found.mean)):
        what = f"{len(found.mean)} per constant, and source.channels is {source.channels}"
        raise UserError(f"preprocess.statistics: field: channels are {what}", next=fitting)
    return found


def own_protocol(recipe: Recipe) -> Protocol:
    """The protocol of the set that a recipe makes."""
    loss: Literal["l1_logits", "ce"] = "l1_logits" if recipe.labels.form == "logits" else "ce"
    spec = recipe.evaluate
    return Protocol(
        loss=loss, augment=recipe.augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch, min_steps=spec.min_steps
    )
