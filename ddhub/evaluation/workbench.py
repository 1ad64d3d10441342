"""What the rows of one evaluation share, and what each of them trains on: the set, real images, teachers, protocols.

The evaluator's own file, and the only one that opens test data.
Shapes: N images, C H W image, K classes.
"""

import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddhub.artifact import folder, origin
from ddhub.artifact.folder import Artifact
from ddhub.artifact.records import ON_THE_FLY
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.data import opening
from ddhub.data import source as sources
from ddhub.data import spec as specs
from ddhub.data.source import Split
from ddhub.data.spec import SourceSpec
from ddhub.evaluation import baselines, origins, source_settings
from ddhub.evaluation import protocols as named
from ddhub.evaluation.baselines import Pool
from ddhub.evaluation.view_labels import ViewLabels
from ddhub.training import architectures, fit, losses, optimisation
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training import teachers as teaching
from ddhub.training.device import Decisions
from ddhub.training.fit import Examples
from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class Cell:
    """One row to be: an architecture trained on some data under a protocol, from one seed."""

    arch: str
    protocol: str
    data: str  # distilled, or one of choices.BASELINES
    seed: int


@dataclass(frozen=True)
class Tuned:
    """What was chosen on validation data for one architecture, protocol and kind of data, and what that cost."""

    arch: str
    protocol: str
    data: str
    lr: float
    weight_decay: float
    validation_top1: float
    trainings: int
    seconds: float


@dataclass(frozen=True)
class EvaluationRequest:
    """What was asked for; it can be pickled, and any process on any machine builds its Bench from it."""

    reference: str  # what `fetch` finds the set's folder by
    fetch: Callable[[str], Path]  # a function of a module
    name: str  # what rows call the set
    cells: tuple[Cell, ...]
    overrides: tuple[str, ...]  # of protocols, as `protocols.resolve` takes them
    test: str | None
    source_path: str | None
    resources: Resources
    test_settings: tuple[str, ...] = ()  # `source.KEY=VALUE`: how the test images are read
    allow_train: bool = False  # whether they may be training images
    tune: bool = False
    tuned: tuple[Tuned, ...] = ()  # what came of it
    decided: tuple[tuple[str, Decisions], ...] = ()  # by architecture, as speed.settle froze them

    @property
    def asked(self) -> dict[str, Any]:
        """Of the ways to train, what was asked for; None is free to be measured."""
        return {name: getattr(self.resources, name) for name in ("compile", "precision", "together")}


@dataclass(frozen=True)
class Bench:
    """All that the rows of one evaluation share; sent to another process as its request, and built again there."""

    request: EvaluationRequest
    set: Artifact
    test: Split
    test_set: str  # what people call it
    train: Split | None  # the real training data, where a baseline asks for it
    training: Tensor | None  # rows of `train` that the set was distilled from
    validation: Tensor | None  # rows of `train` that it was not
    teachers: teaching.Teachers | None
    protocols: dict[str, Protocol]  # by name, `full` included
    decisions: dict[str, Decisions]  # by architecture

    def __reduce__(self) -> tuple[Callable[[EvaluationRequest], "Bench"], tuple[EvaluationRequest]]:
        return again, (self.request,)

    def network(self, arch: str) -> networks.Network:
        """The network of an architecture for this set."""
        return network(self.set, arch, self.decisions[arch])

    def protocol(self, cell: Cell) -> Protocol:
        """How a row is trained: what storage alone pays for has hard labels under every protocol."""
        found = named.for_architecture(
            self.set.manifest, cell.protocol, self.protocols[cell.protocol], cell.arch, self.request.overrides
        )
        if cell.protocol != "full" and named.PROTOCOLS[cell.protocol].own and not self.at_home(cell.arch):
            told = {text.partition("=")[0] for text in named.of(cell.protocol, self.request.overrides)}
            found = optimisation.for_other_family(found, self.network(cell.arch).skeleton, told)
        if cell.data == "random_bytes":
            found = found.model_copy(update={"labels": "hard", "loss": "ce"})
        chosen = self.tuned(cell)
        if chosen is not None:
            found = found.model_copy(update={"lr": chosen.lr, "weight_decay": chosen.weight_decay, "tuned": True})
        return found

    def at_home(self, arch: str) -> bool:
        """Whether an architecture is of the family that the set's own protocol was made for."""
        return architectures.family(arch) == architectures.family(self.set.manifest.home_arch)

    def tuned(self, cell: Cell) -> Tuned | None:
        """What was chosen for a row's architecture, protocol and data, if anything was."""
        wanted = (cell.arch, cell.protocol, cell.data)
        return next((each for each in self.request.tuned if (each.arch, each.protocol, each.data) == wanted), None)

    def validation_examples(self) -> Examples:
        """Real images that were held out of the training part, as pixels."""
        assert self.train is not None
        return Examples(self.train.images, self.train.labels, self.set.preprocess, index=self.validation)

    @functools.cached_property
    def view_labels(self) -> ViewLabels:
        """What the teachers said of the views that rows have seen in this process."""
        return ViewLabels()

    @functools.cached_property
    def pool(self) -> Pool:
        """The real images that baselines choose from."""
        assert self.train is not None and self.training is not None
        return Pool(self.train.images, self.train.labels, self.train.classes, self.training, self._embed)

    def _embed(self, images: Tensor) -> Tensor:
        """Features (n, F) of uint8 images: the first teacher's where it has some, otherwise the network inputs."""
        inputs = self.set.preprocess.inputs(images)
        if self.teachers is None or not self.teachers.has_features:
            return inputs.flatten(1)
        return torch.cat([self.teachers.features(part).cpu() for part in inputs.split(500)])


@functools.lru_cache(maxsize=1)
def again(request: EvaluationRequest) -> Bench:
    """The Bench of a request in this process, built for its first row.

    Raises:
        UserError: naming the machine, when it cannot read what the rows need.
    """
    try:
        return build(folder.read(request.fetch(request.reference)), request)
    except UserError as fault:
        raise UserError(
            f"{socket.gethostname()}: cannot build what the rows need: {fault.args[0]}",
            next="put set, source and test data where every machine can read them, or name them by their Hub ids",
        ) from fault


def build(found: Artifact, request: EvaluationRequest) -> Bench:
    """Load what the rows need and check that every architecture runs, before any of them starts.

    Raises:
        UserError: for whatever cannot be evaluated.
    """
    record, cells = found.manifest, request.cells
    compared = request.tune or any(cell.data != "distilled" for cell in cells)
    spec = origin.source_spec(found, request.source_path) if compared or request.test is None else None
    test_spec = _test_spec(found, request, spec)
    test = sources.load_test(test_spec)
    what = f"the split '{sources.test_words(test_spec)}' of {test_spec.path or test_spec.dataset}"
    test, held = origins.aligned(found, test, what)
    real, training, validation = None, None, None
    if compared:
        assert spec is not None
        real, training, validation = sources.load_train(spec)
        origins.check_classes(found, real, f"the train split of {spec.path or spec.dataset}")
    known = None if test_spec == spec else _training_images(found, request, real)
    trained_on = origins.refuse_training_images(found, test, known, what, request.allow_train)
    names = list(dict.fromkeys(cell.protocol for cell in cells if cell.protocol != "full"))
    full_epochs = origins.own_settings(found).full_epochs
    protocols = named.resolve(record, names, full_epochs, request.overrides)
    decisions = {arch: _decide(found, arch, request, protocols, real) for arch in dict.fromkeys(c.arch for c in cells)}
    loaded = _teachers(found, cells, protocols, decisions)
    for arch, settled in request.decided:
        frozen: dict[str, Any] = {name: settled.record()[name] for name in (*request.asked, "channels_last")}
        decisions[arch] = replace(decisions[arch], **frozen)
    for arch, decision in decisions.items():
        network(found, arch, decision)
    where = Path(request.test).name if request.test is not None and test_spec.path else test_spec.dataset
    test_set = f"{where} {sources.test_words(test_spec)}"
    if held < len(record.classes):
        test_set += f" ({held} of {len(record.classes)} classes)"
    test_set += " (training images)" if trained_on else ""
    return Bench(request, found, test, test_set, real, training, validation, loaded, protocols, decisions)


def _test_spec(found: Artifact, request: EvaluationRequest, spec: SourceSpec | None) -> SourceSpec:
    """Where test images are read: in the set's own source, or where the request says, and how it says."""
    own = spec if spec is not None and request.test is None else origin.recorded_spec(found)
    asked = own if request.test is None else specs.elsewhere(own, request.test)
    asked = asked.model_copy(update=source_settings.settings(request.test_settings))
    return asked if request.test is None else sources.find_test(asked)


def _training_images(found: Artifact, request: EvaluationRequest, real: Split | None) -> Split | None:
    """The train split to compare test images with, where it is read already or can be read from a folder here."""
    if real is not None:
        return real
    try:
        spec = origin.source_spec(found, request.source_path)
        return sources.load_train(spec)[0] if opening.is_local(spec) else None
    except UserError:
        return None


def network(found: Artifact, arch: str, decisions: Decisions) -> networks.Network:
    """The network of an architecture for a set, trained as decided."""
    source = found.manifest.source
    return networks.network(arch, len(found.manifest.classes), source.channels, source.resolution, decisions)


def _decide(
    found: Artifact, arch: str, request: EvaluationRequest, protocols: dict[str, Protocol], real: Split | None
) -> Decisions:
    """How to run one architecture, from the work of the whole grid, so that a resumed grid decides the same."""
    work = _flops(found, arch, request, protocols, real)
    return devices.decide_for(request.resources, work)


def flops(bench: Bench, arch: str) -> float:
    """FLOPs of all rows of a ConvNet, about; 0 for other architectures."""
    return _flops(bench.set, arch, bench.request, bench.protocols, bench.train)


def cost(bench: Bench, cell: Cell) -> float:
    """What a row takes beside others, about: FLOPs of its training and test, by any architecture."""
    count = len(bench.train) if cell.data == "full" and bench.train is not None else len(bench.set.labels)
    protocol, source = bench.protocol(cell), bench.set.manifest.source
    epochs, _ = fit.plan(count, protocol, fit.family_of(bench.network(cell.arch), protocol))
    one = architectures.forward_flops(cell.arch, source.channels, source.resolution)
    return float(one * (3 * epochs * count + len(bench.test)))  # backward costs two forwards


def _flops(
    found: Artifact, arch: str, request: EvaluationRequest, protocols: dict[str, Protocol], real: Split | None
) -> float:
    count = len(found.labels)
    images = sum(
        protocols[cell.protocol].epochs * (len(real) if cell.data == "full" and real is not None else count)
        for cell in request.cells
        if cell.arch == arch
    )
    source = found.manifest.source
    return architectures.training_flops(arch, source.channels, source.resolution, images)


def _teachers(
    found: Artifact, cells: tuple[Cell, ...], protocols: dict[str, Protocol], decisions: dict[str, Decisions]
) -> teaching.Teachers | None:
    """The shipped teachers, where a row needs them: to label real images or views, or for their features.

    They are compiled where any row is: the work is there to pay for it, and the choice does not hang on an order.
    """
    soft = [cell for cell in cells if _labelled_by_teachers(found, cell, protocols)]
    if soft and not found.manifest.teachers:
        raise UserError(
            f"{found.folder}: ships no teachers to label {soft[0].data} images with", next="--baselines none"
        )
    views = any(protocols[cell.protocol].labels in ON_THE_FLY for cell in cells)
    features = any(cell.data in baselines.SELECTIONS for cell in cells)
    if not found.manifest.teachers or not (soft or views or features):
        return None
    how = replace(next(iter(decisions.values())), compile=any(decision.compile for decision in decisions.values()))
    how = replace(how, precision="float32", together=1)  # they only look
    return teaching.load(found.teacher_files, decisions=how, of=found.sizes)


def _labelled_by_teachers(found: Artifact, cell: Cell, protocols: dict[str, Protocol]) -> bool:
    """Whether a row's real images need the soft labels that the set's own images have."""
    stored = protocols[cell.protocol].labels == "stored" and found.manifest.labels.form != "hard"
    return stored and cell.data not in ("distilled", "full", "random_bytes")


def examples(bench: Bench, cell: Cell) -> fit.Examples:
    """The images and labels of one row, labelled as its protocol wants them."""
    found, protocol = bench.set, bench.protocol(cell)
    soft = protocol.labels == "stored"
    if cell.data == "distilled":
        targets = _targets(found, found.soft_labels, protocol) if soft else None
        return fit.Examples(found.inputs, found.labels, targets=targets)
    pool, record = bench.pool, found.manifest
    if cell.data == "full":
        return fit.Examples(pool.images, pool.labels, found.preprocess)
    counts = record.counts
    if cell.data == "random_bytes":
        stored = record.bytes
        budget = stored.images + stored.labels + stored.preprocess + stored.teachers
        counts = baselines.affordable(pool, budget, counts)
    drawn = baselines.choose(cell.data, pool, counts, cell.seed)
    inputs, targets = found.preprocess.inputs(pool.images[drawn]), None
    if _labelled_by_teachers(found, cell, bench.protocols):
        assert bench.teachers is not None
        # As the set's own labels are stored: in half precision.
        logits = bench.teachers.label(inputs, None if record.labels.teachers == "mean" else 0).half().float()
        targets = _targets(found, logits, protocol)
    return fit.Examples(inputs, pool.labels[drawn], targets=targets)


def _targets(found: Artifact, soft: Tensor | None, protocol: Protocol) -> Tensor | None:
    """What the protocol's loss learns from stored soft labels: logits become probabilities for a cross-entropy."""
    labels = found.manifest.labels
    return losses.targets(soft, protocol, labels.form, labels.temperature)


def teach(bench: Bench, cell: Cell) -> Callable[[Tensor], Tensor] | None:
    """What labels a row's augmented views, where its protocol wants that."""
    labels = bench.protocol(cell).labels
    if labels not in ON_THE_FLY:
        return None
    assert bench.teachers is not None
    return functools.partial(bench.view_labels.of, bench.teachers, 0 if labels == "teacher" else None)
