"""The workbench of an evaluation: what its rows share, and what each row trains on.

It provides the set, real images, teachers and protocols. Only this module opens test data.
Shapes: N images, C H W image, K classes.
"""

import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddhub.artifact import folder, source_location
from ddhub.artifact.folder import Artifact
from ddhub.base import seeds as seeding
from ddhub.base.errors import UserError
from ddhub.data import selection
from ddhub.data import source as sources
from ddhub.data import spec as specs
from ddhub.data.source import Split
from ddhub.data.spec import SourceSpec
from ddhub.evaluation import baseline_images, real_images, source_settings, stored_form
from ddhub.evaluation import protocols as named
from ddhub.evaluation.baseline_images import Pool
from ddhub.evaluation.dynamic_labels import SHARE, ViewLabels
from ddhub.evaluation.request import Cell, EvaluationRequest, Tuned
from ddhub.evaluation.rows import ANEW
from ddhub.training import architectures, fit, frozen, losses, memory, optimisation
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training import teachers as teaching
from ddhub.training.device import Decisions
from ddhub.training.fit import Examples
from ddhub.training.protocol import Protocol

WHOLE = ("full", "random_bytes", "equal_compute")  # real images that keep their size, with hard labels


@dataclass(frozen=True)
class Bench:
    """Everything that the rows of one evaluation share. Another process receives the request and builds it again."""

    request: EvaluationRequest
    set: Artifact
    test: Split
    test_set: str  # its name for people
    test_copies: int | None  # test images that are also training images; None if it is unknown
    train: Split | None  # the real training data, if a baseline needs it
    training: Tensor | None  # rows of the training part in `train`
    validation: Tensor | None  # rows of the validation part in `train`
    teachers: teaching.Teachers | None
    protocols: dict[str, Protocol]  # by name, with `full`
    decisions: dict[str, Decisions]  # by architecture

    def __reduce__(self) -> tuple[Callable[[EvaluationRequest], "Bench"], tuple[EvaluationRequest]]:
        return rebuild, (self.request,)

    def network(self, arch: str) -> networks.Network:
        """The network of an architecture for this set."""
        return network(self.set, arch, self.decisions[arch])

    def protocol(self, cell: Cell) -> Protocol:
        """The protocol of a row. Baselines that are equal in storage or compute always have hard labels."""
        found = named.for_architecture(
            self.set.manifest, cell.protocol, self.protocols[cell.protocol], cell.arch, self.request.overrides
        )
        if named.own(cell.protocol) and not self.in_home_family(cell.arch):
            told = {text.partition("=")[0] for text in named.overrides_of(cell.protocol, self.request.overrides)}
            found = optimisation.for_other_family(found, self.network(cell.arch).skeleton, told)
        if cell.protocol == named.FROZEN and cell.data == "full":
            found = found.model_copy(update={"epochs": self.protocols["full"].epochs})
        if cell.data in ("random_bytes", "equal_compute"):
            found = found.model_copy(update={"labels": "hard", "loss": "ce"})
        if cell.data == "equal_compute":
            epochs, _, batch = self.equal_compute(cell)
            found = found.model_copy(update={"epochs": epochs, "batch": batch, "min_steps": 0})
        chosen = self.tuned(cell)
        if chosen is not None:
            found = found.model_copy(update={"lr": chosen.lr, "weight_decay": chosen.weight_decay, "tuned": True})
        return found

    def equal_compute(self, cell: Cell) -> tuple[int, int, int]:
        """Epochs, real images and batch of a training with as many steps and images per step as that on the set.

        There are at least two epochs, so that every schedule has its second half, and otherwise as few as possible.
        """
        protocol = self.protocol(replace(cell, data="distilled"))
        epochs, steps = fit.plan(len(self.set.labels), protocol, fit.family_of(self.network(cell.arch), protocol))
        batch = len(self.set.labels) // steps
        there = len(self.training) if self.training is not None else len(self.set.labels)
        most = max(2, ceil(epochs * steps * batch / there))
        return most, epochs * steps * batch // most, batch

    def in_home_family(self, arch: str) -> bool:
        """Whether an architecture belongs to the family for which the set's own protocol was made."""
        return architectures.family(arch) == architectures.family(self.set.manifest.home_arch)

    def tuned(self, cell: Cell) -> Tuned | None:
        """The choice of tuning for a row's architecture, protocol and data, if there is one."""
        wanted = (cell.arch, cell.protocol, cell.data)
        return next((each for each in self.request.tuned if (each.arch, each.protocol, each.data) == wanted), None)

    def real(self, arch: str, split: Split | None, rows: Tensor | None = None) -> Examples:
        """Real images in the form that an architecture takes, pixels or features; only those at `rows`, if given."""
        assert split is not None
        if frozen.is_frozen(arch):
            return Examples(self.features(arch, split.images), split.labels, index=rows)
        return Examples(split.images, split.labels, self.set.preprocess, index=rows)

    def features(self, arch: str, images: Tensor) -> Tensor:
        """A frozen backbone's features (N, F, 1, 1) of uint8 images."""
        return frozen.features(arch, images, self.decisions[arch].device)

    @functools.cached_property
    def view_labels(self) -> ViewLabels:
        """The cache of teachers' labels for views in this process."""
        return ViewLabels(_bytes_of_labels(self.request))

    @functools.cached_property
    def pool(self) -> Pool:
        """The real images from which baselines choose."""
        assert self.train is not None and self.training is not None
        known = self.set.manifest.preprocess
        return Pool(
            *(self.train.images, self.train.labels, self.train.classes, self.training, self._embed, self._score),
            factor=known.factor,
        )

    def _embed(self, images: Tensor) -> Tensor:
        """Features (n, F) of uint8 images: those of the first teacher if it has any, otherwise the network inputs."""
        return teaching.embedded(self.teachers, self._as_stored(images))

    def _score(self, images: Tensor, label: int) -> Tensor:
        """EL2N scores (n,) of uint8 images of one class."""
        assert self.teachers is not None
        return self.teachers.el2n_scores(self._as_stored(images), label)

    def _as_stored(self, images: Tensor) -> Tensor:
        """Network inputs of uint8 images with the detail that the set's own have."""
        return stored_form.inputs(self.set.preprocess, images, self.set.manifest.preprocess.factor)


@functools.lru_cache(maxsize=1)
def rebuild(request: EvaluationRequest) -> Bench:
    """The Bench of a request in this process, built for its first row.

    Raises:
        UserError: naming the machine, if it cannot read what the rows need.
    """
    try:
        return build(folder.read(request.fetch(request.reference)), request)
    except UserError as fault:
        raise UserError(
            f"{socket.gethostname()}: cannot build what the rows need: {fault.args[0]}",
            next="put set, source and test data where every machine can read them, or name them by their Hub ids",
        ) from fault


def build(found: Artifact, request: EvaluationRequest) -> Bench:
    """Load what the rows need and check that every architecture runs, before any row starts.

    Raises:
        UserError: if something cannot be evaluated.
    """
    record, cells = found.manifest, request.cells
    compared = request.tune or any(cell.data != "distilled" for cell in cells)
    spec = source_location.source_spec(found, request.source_path) if compared or request.test is None else None
    test_spec = _test_spec(found, request, spec)
    test = sources.load_test(test_spec)
    what = f"the split '{sources.test_words(test_spec)}' of {test_spec.path or test_spec.dataset}"
    test, held = real_images.aligned(found, test, what)
    real, training, validation = None, None, None
    if compared:
        assert spec is not None
        real, training, validation = sources.load_train(spec)
        where = f"the train split of {spec.path or spec.dataset}"
        real_images.check_classes(found, real, where)
    known = real if compared else real_images.training_images(found, request.source_path, own=request.test is None)
    another = known is not None and real_images.is_another(found, known)
    anew = another and test_spec.hold_out is not None
    if anew:
        real_images.refuse_drawn_anew(found, what, request.allow_train)
    copies = None if anew else real_images.refuse_training_images(found, test, known, what, request.allow_train)
    names = list(dict.fromkeys(cell.protocol for cell in cells if cell.protocol != "full"))
    full_epochs = real_images.own_settings(found).full_epochs
    protocols = named.resolve(record, names, full_epochs, request.overrides)
    decisions = {arch: _decide(found, arch, request, protocols, real) for arch in dict.fromkeys(c.arch for c in cells)}
    loaded = _teachers(found, cells, protocols, decisions)
    for arch, settled in request.decided:
        kept: dict[str, Any] = {name: settled.record()[name] for name in (*request.asked, "channels_last")}
        decisions[arch] = replace(decisions[arch], **kept)
    for arch, decision in decisions.items():
        network(found, arch, decision)
    where = Path(request.test).name if request.test is not None and test_spec.path else test_spec.dataset
    test_set = f"{where} {sources.test_words(test_spec)}"
    if held < len(record.classes):
        test_set += f" ({held} of {len(record.classes)} classes)"
    test_set += " (training images)" if real_images.mostly(copies, test) else ""
    test_set += f" {ANEW}" if anew else ""
    return Bench(request, found, test, test_set, copies, real, training, validation, loaded, protocols, decisions)


def _test_spec(found: Artifact, request: EvaluationRequest, spec: SourceSpec | None) -> SourceSpec:
    """The source of the test images: the set's own, or the one in the request, with the request's settings."""
    own = spec if spec is not None and request.test is None else source_location.recorded_spec(found)
    asked = own if request.test is None else specs.elsewhere(own, request.test)
    asked = asked.model_copy(update=source_settings.settings(request.test_settings))
    return asked if request.test is None else sources.find_test(asked)


def network(found: Artifact, arch: str, decisions: Decisions) -> networks.Network:
    """The network of an architecture for a set, with its decisions."""
    return networks.network(arch, len(found.manifest.classes), *shape(found, arch), decisions)


def shape(found: Artifact, arch: str) -> tuple[int, int]:
    """Channels and side of the network's inputs: the set's, or a backbone's number of features and 1."""
    if frozen.is_frozen(arch):
        return frozen.load(arch).width, 1
    return found.manifest.source.channels, found.manifest.source.resolution


def _decide(
    found: Artifact, arch: str, request: EvaluationRequest, protocols: dict[str, Protocol], real: Split | None
) -> Decisions:
    """The decisions for one architecture. They depend on the whole grid, so a resumed grid decides the same."""
    decided = devices.decide_for(request.resources, _flops(found, arch, request, protocols, real))
    most = max(len(found.labels), len(real) if real is not None else 0)
    batch = min(most, max(protocol.batch for protocol in protocols.values()))
    budget = request.resources.budget
    if budget is not None and any(protocol.on_the_fly for protocol in protocols.values()):
        budget -= _bytes_of_labels(request)
    return memory.fit_to_budget(decided, arch, *shape(found, arch), batch, budget)


def _bytes_of_labels(request: EvaluationRequest) -> int:
    """The part of the memory budget for teachers' labels of views."""
    return int(SHARE * (request.resources.budget or memory.USUAL))


def flops(bench: Bench, arch: str) -> float:
    """The estimated FLOPs of all rows of a ConvNet; 0 for other architectures."""
    return _flops(bench.set, arch, bench.request, bench.protocols, bench.train)


def _flops(
    found: Artifact, arch: str, request: EvaluationRequest, protocols: dict[str, Protocol], real: Split | None
) -> float:
    count = len(found.labels)
    images = sum(
        protocols[cell.protocol].epochs * (len(real) if cell.data == "full" and real is not None else count)
        for cell in request.cells
        if cell.arch == arch
    )
    return architectures.training_flops(arch, *shape(found, arch), images)


def _teachers(
    found: Artifact, cells: tuple[Cell, ...], protocols: dict[str, Protocol], decisions: dict[str, Decisions]
) -> teaching.Teachers | None:
    """The shipped teachers, if a row needs them: to label real images or views, or for their features.

    They are compiled if any row is. There is enough work then, and the order of rows does not matter.
    """
    soft = [cell for cell in cells if labelled_by_teachers(found, cell, protocols)]
    scored = next((cell.data for cell in cells if cell.data in selection.SCORED), None)
    if scored and not found.manifest.teachers:
        raise UserError(
            f"{found.folder}: ships no teachers to score real images with (baseline {scored})",
            next="--baselines random,kmeans",
        )
    if soft and not found.manifest.teachers:
        raise UserError(
            f"{found.folder}: ships no teachers to label {soft[0].data} images with", next="--baselines none"
        )
    views = any(protocols[cell.protocol].on_the_fly for cell in cells)
    features = any(cell.data in (*selection.SELECTIONS, *selection.SCORED) for cell in cells)
    if not found.manifest.teachers or not (soft or views or features):
        return None
    how = replace(next(iter(decisions.values())), compile=any(decision.compile for decision in decisions.values()))
    how = replace(how, precision="float32", together=1)  # they only predict
    return teaching.load(found.teacher_files, decisions=how, of=found.sizes)


def labelled_by_teachers(found: Artifact, cell: Cell, protocols: dict[str, Protocol]) -> bool:
    """Whether a row's real images need the set's kind of soft labels."""
    stored = protocols[cell.protocol].labels == "stored" and found.manifest.labels.form != "hard"
    return stored and cell.data not in ("distilled", *WHOLE)


def examples(bench: Bench, cell: Cell) -> fit.Examples:
    """The images and labels of one row, with the labels of its protocol."""
    found, protocol = bench.set, bench.protocol(cell)
    soft = protocol.labels == "stored"
    if cell.data == "distilled" and frozen.is_frozen(cell.arch):
        return fit.Examples(bench.features(cell.arch, found.whole().images), found.labels)
    if cell.data == "distilled":
        targets = _targets(found, found.soft_labels, protocol) if soft else None
        return fit.Examples(found.inputs, found.labels, targets=targets)
    pool, record = bench.pool, found.manifest
    if cell.data == "full":
        return bench.real(cell.arch, bench.train)
    if cell.data == "equal_compute":
        order = torch.randperm(len(pool.training), generator=seeding.generator(cell.seed, "equal_compute"))
        return bench.real(cell.arch, bench.train, pool.training[order[: bench.equal_compute(cell)[1]]])
    counts, factor = record.counts, record.preprocess.factor
    if cell.data == "random_bytes":
        stored = record.bytes
        budget = stored.images + stored.labels + stored.preprocess + stored.teachers
        counts, factor = baseline_images.affordable(pool, budget, counts), 1
    drawn = baseline_images.choose(cell.data, pool, counts, cell.seed)
    images, targets = pool.images[drawn], None
    if frozen.is_frozen(cell.arch):
        return fit.Examples(bench.features(cell.arch, stored_form.pixels(images, factor)), pool.labels[drawn])
    inputs = stored_form.inputs(found.preprocess, images, factor)
    if labelled_by_teachers(found, cell, bench.protocols):
        assert bench.teachers is not None
        targets = _targets(found, stored_form.soft_labels(found, bench.teachers, inputs), protocol)
    return fit.Examples(inputs, pool.labels[drawn], targets=targets)


def _targets(found: Artifact, soft: Tensor | None, protocol: Protocol) -> Tensor | None:
    """The targets of the protocol's loss from stored soft labels. For a cross-entropy, logits become probabilities."""
    labels = found.manifest.labels
    return losses.targets(soft, protocol, labels.form, labels.temperature)


def teach(bench: Bench, cell: Cell) -> Callable[[Tensor], Tensor] | None:
    """The function that labels a row's augmented views, if its protocol needs one."""
    protocol = bench.protocol(cell)
    if not protocol.on_the_fly:
        return None
    assert bench.teachers is not None
    return functools.partial(bench.view_labels.of, bench.teachers, 0 if protocol.labels == "teacher" else None)
