"""Teachers: networks trained once on the training part of a source, cached by content, shipped with the set.

No test data is used, and no teacher is selected. Each trains to its last epoch, and its accuracy on the validation part
is recorded.
Shapes: B images, C H W image, K classes.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ddhub.base import checked_files, jobs, limits, progress, strict_json
from ddhub.base import files as file_tools
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.mapped_tensors import Allocate
from ddhub.base.redact import one_line
from ddhub.base.units import counted, duration
from ddhub.data import enlarge, selection
from ddhub.training import architectures, device, fit, teacher_file
from ddhub.training import network as networks
from ddhub.training.loop import Run
from ddhub.training.network import Network, Weights
from ddhub.training.protocol import Protocol, TeacherSpec

AT_ONCE = 500  # images that teachers label or embed at once
TRAINING = 2  # version of the training rules; a change makes new cache files (2: DSA rotates by 15 degrees, not 7.5)


@dataclass(frozen=True)
class Teachers:
    """Trained networks, frozen."""

    networks: Sequence[Network]  # of each teacher; those of one architecture share it
    weights: Sequence[Weights]
    files: Sequence[Path]
    validation_top1: Sequence[float]
    cached: int = 0  # number of teachers that `obtain` found in the cache

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def network(self) -> Network:
        """The first teacher's network. All take the same inputs, and are run alike."""
        return self.networks[0]

    def first(self, count: int) -> "Teachers":
        """The first `count` of them."""
        parts = (self.networks[:count], self.weights[:count], self.files[:count], self.validation_top1[:count])
        return Teachers(*parts)

    def logits(self, inputs: Tensor, which: int | None = None) -> Tensor:
        """Logits (B, K) of network inputs (B, C, H, W): of one teacher or the mean of all; differentiable in inputs."""
        if which is not None:
            return self.networks[which].forward(self.weights[which], inputs)
        return torch.cat([network.forward_each(own, inputs) for network, own in self._by_network()]).mean(0)

    def _by_network(self) -> list[tuple[Network, list[Weights]]]:
        """The networks, each with the weights of its teachers."""
        found: dict[int, tuple[Network, list[Weights]]] = {}
        for network, weights in zip(self.networks, self.weights, strict=True):
            found.setdefault(id(network), (network, []))[1].append(weights)
        return list(found.values())

    def label(
        self,
        inputs: Tensor,
        which: int | None = None,
        allocate: Allocate | None = None,
        check: bool = True,
    ) -> Tensor:
        """As `logits`, without gradients and in batches, for sets of any size; `allocate` makes the result.

        Args:
            inputs: (B, C, H, W). Inputs of a smaller side than the network's are enlarged batch by batch.
            check: refuse labels that are not finite. The answer waits for the device, so training steps leave it out.

        Raises:
            UserError: for labels that are not finite, because weights are too large.
        """
        decisions = self.network.decisions
        each = min(AT_ONCE, decisions.chunk or AT_ONCE)
        labels = (allocate or self._on_device)((len(inputs), self.network.classes), torch.float32)
        with torch.no_grad():
            for part, into in zip(inputs.split(each), labels.split(each), strict=True):
                whole = enlarge.enlarged(part.to(decisions.device).float(), self.network.side)
                into.copy_(self.logits(whole, which))
        if check and not all(part.isfinite().all() for part in labels.split(each)):
            where = f"{self.files[0]}: " if self.files else ""
            raise UserError(
                f"{where}teachers give labels that are not finite",
                next="another set; or, of your own recipe, a lower teachers.lr and another --out",
            )
        return labels

    def _on_device(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device=self.network.decisions.device)

    def el2n_scores(self, inputs: Tensor, label: int) -> Tensor:
        """EL2N scores (B,) of one class's inputs (B, C, H, W), on the CPU."""
        right = F.one_hot(torch.tensor(label), self.network.classes)
        guesses = [self.label(inputs, which).softmax(1).cpu() for which in range(len(self))]
        return selection.el2n_scores(guesses, right)

    @property
    def origin(self) -> str:
        """The teachers' origin, for messages; empty if all were trained just now."""
        return f"{counted(self.cached, 'teacher')} from the cache" if self.cached else ""

    @property
    def has_features(self) -> bool:
        """Whether `features` works: the first teacher is a ConvNet."""
        return hasattr(self.network.skeleton, "embed")

    def features(self, inputs: Tensor) -> Tensor:
        """The first teacher's features (B, F) of network inputs (B, C, H, W), without gradients, on its device."""
        with torch.no_grad():
            return self.network.embed(self.weights[0], inputs.to(self.network.decisions.device))


def embedded(teachers: Teachers | None, inputs: Tensor) -> Tensor:
    """A representation of images (B, C, H, W), on the CPU: the first teacher's features (B, F), or else the inputs."""
    if teachers is None or not teachers.has_features:
        return inputs.flatten(1)
    return torch.cat([teachers.features(part).cpu() for part in inputs.split(AT_ONCE)])


@dataclass(frozen=True)
class Lessons:
    """The training data and settings of a recipe's teachers."""

    spec: TeacherSpec
    networks: Sequence[Network]  # of each teacher
    training: fit.Examples  # the training part, pixels and hard labels
    validation: fit.Examples  # the validation part, scored once after training
    augment: str
    identity: Any  # other influences on the teachers (source, split, preprocessing), for the cache key
    checkpoint_seconds: float = 120

    @property
    def protocol(self) -> Protocol:
        """The protocol of their training."""
        spec = self.spec
        return Protocol(loss="ce", augment=self.augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)

    @property
    def paths(self) -> list[Path]:
        """The cache file of each teacher."""
        return [
            file_tools.home() / "teachers" / f"{self._key(network)}-{self._turn(index):02d}.safetensors"
            for index, network in enumerate(self.networks)
        ]

    def _turn(self, index: int) -> int:
        """A teacher's number among those of its architecture, which is its seed too."""
        return index // len(self.spec.archs)

    def _key(self, network: Network) -> str:
        """What decides the weights of the teachers of one network, beside their seeds."""
        settings = self.protocol.model_dump(include={"loss", "augment", "optimizer", "lr", "epochs", "batch"})
        if network.family.patient:
            settings["min_steps"] = self.protocol.min_steps
        code = filter(None, [architectures.code_of(network.arch)])
        return file_tools.digest([TRAINING, network.arch, network.classes, settings, self.identity, *code])[:24]

    def give(self, index: int, path: Path) -> None:
        """Train one teacher, or resume its training, and write its file."""
        phase, network = f"teacher {index + 1} of {self.spec.count}", self.networks[index]
        decisions = network.decisions
        run = Run(
            path.with_name(f"{path.stem}-{file_tools.digest(decisions.record())[:6]}.run"),
            phase.replace(" ", "_"),
            device=decisions.device,
            checkpoint_seconds=self.checkpoint_seconds,
            unit="epoch",
        )
        with progress.busy(phase):
            weights = fit.fit(network, self.training, self.protocol, seed=self._turn(index), run=run)[-1]
            top1 = fit.accuracy(network, weights, self.validation)
        file_tools.write_json(_seconds(path), run.seconds)  # unrounded: history.Watch compares it with a clock
        content = _content(network, weights, top1)
        hash = hashlib.sha256(content).hexdigest()
        file_tools.write_json(_about(path), {"identity": self.identity, "sha256": hash})
        file_tools.write_bytes(path, content)
        run.remove()
        say(f"{phase}: {100 * top1:.1f}% on validation, {duration(run.seconds)}")


def obtain(lessons: Lessons, sent: Callable[[int], jobs.Job] | None = None, workers: int = 1) -> Teachers:
    """Train the teachers that are not cached yet, and load all of them.

    Args:
        sent: makes the job that trains a teacher in another process, from the teacher's number; for several workers.
        workers: the processes that share the teachers.
    """

    def here(index: int) -> jobs.Job:
        return partial(lessons.give, index)

    job = here if sent is None or workers == 1 else sent
    for path in lessons.paths:
        if path.exists() and not _whole(path):
            say(f"{path}: the teacher cached there is damaged; training it again")
            path.unlink(missing_ok=True)
    cached = sum(path.exists() for path in lessons.paths)
    made = {path: job(index) for index, path in enumerate(lessons.paths)}
    jobs.run_all(made, jobs.Engine(workers=workers), name="teachers")
    return replace(load(lessons.paths, lessons.networks), cached=cached)


def cached(fingerprint: str) -> list[tuple[list[Path], Any]]:
    """Finished teachers in the cache for a source, with the identity that was given to `obtain`.

    Args:
        fingerprint: the source's fingerprint, with which an identity opens.
    """
    found: dict[str, tuple[list[Path], Any]] = {}
    for path in sorted((file_tools.home() / "teachers").glob("*.safetensors")):
        identity = strict_json.known(_about(path)).get("identity")
        if isinstance(identity, list) and identity and identity[0] == fingerprint and _whole(path):
            found.setdefault(path.stem.rpartition("-")[0], ([], identity))[0].append(path)
    return list(found.values())


def seconds(teachers: Teachers) -> float:
    """The training time of cached teachers. It lies beside their files, because inside it would change their bytes."""
    return sum(_took(path) for path in teachers.files)


def _took(path: Path) -> float:
    """The seconds of one teacher; 0 without a valid record."""
    with contextlib.suppress(UserError):
        found = strict_json.read(_seconds(path))
        return float(found) if isinstance(found, int | float) and found > 0 else 0.0
    return 0.0


def _whole(path: Path) -> bool:
    """Whether a cached teacher's file is unchanged, by the hash beside it."""
    expected = strict_json.known(_about(path)).get("sha256")
    return expected is None or checked_files.unchanged([path], lambda: file_tools.sha256(path) == expected)


def _about(path: Path) -> Path:
    return path.with_suffix(".about.json")


def _seconds(path: Path) -> Path:
    return path.with_suffix(".seconds.json")


def _content(network: Network, weights: Weights, validation_top1: float) -> bytes:
    """A teacher as a safetensors file, with its dimensions and validation accuracy as metadata."""
    facts = {
        "arch": network.arch,
        "classes": network.classes,
        "channels": network.channels,
        "side": network.side,
        "validation_top1": validation_top1,
    }
    tensors = {name: value.contiguous().cpu() for name, value in weights.items()}
    return save(tensors, {"ddhub": json.dumps(facts)})


def load(
    paths: Sequence[Path],
    known: Sequence[Network] = (),
    decisions: device.Decisions | None = None,
    of: tuple[int, int, int] | None = None,
) -> Teachers:
    """Load teachers. Without the networks that are `known`, one for each, build those that their files name.

    Args:
        of: classes, channels and side of the set that ships them, which must be equal; None takes the first one's.

    Raises:
        UserError: naming the file that is no teacher's or is of other sizes.
    """
    built, weights, scores = list[Network](known), [], []
    for number, path in enumerate(paths):
        told, tensors = teacher_file.facts(path), _tensors(path)
        if not known:
            assert decisions is not None
            sizes = (told["classes"], told["channels"], told["side"])
            of = of or sizes
            _check_sizes(path, tensors, sizes, of)
            built.append(_build(path, tensors, told["arch"], sizes, decisions))
        network = built[number]
        _check_weights(path, tensors, network)
        if not all(value.isfinite().all() for value in tensors.values()):
            raise UserError(f"{path}: holds weights that are not finite")
        weights.append(network.place(tensors))
        scores.append(float(told["validation_top1"]))
    assert built, "teachers need at least one file or a network"
    return Teachers(built, weights, list(paths), scores)


def _tensors(path: Path) -> Weights:
    try:
        file_tools.refuse_odd(path)
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as fault:
        raise UserError(f"{path}: not a teacher's file ({one_line(fault, 100)})") from fault


def _build(
    path: Path, tensors: Weights, arch: str, sizes: tuple[int, int, int], decisions: device.Decisions
) -> Network:
    """The network that a teacher's file names. A network that is larger than the file is refused before it is built."""
    try:
        held, needed = sum(value.numel() for value in tensors.values()), architectures.weight_count(arch, *sizes)
        if needed > held:
            raise UserError(f"its {held} weights are not the {needed} of a {arch} for {sizes[-1]} px")
        return networks.network(arch, *sizes, decisions)
    except UserError as fault:
        raise UserError(f"{path}: {fault.args[0]}", next=fault.next) from fault


def _check_weights(path: Path, tensors: Weights, network: Network) -> None:
    """Refuse tensors of other names, shapes or types than the architecture's, with the first difference."""
    own = network.example()
    expected, given = (
        {name: f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" for name, value in held.items()}
        for held in (own, tensors)
    )
    for name in (*expected, *given):
        if given.get(name) != expected.get(name):
            wrong = f"{name[:100]!r} is {given.get(name, 'missing')}, not {expected.get(name, 'one of them')}"
            raise UserError(f"{path}: its weights are not those of a {network.arch} for {network.side} px: {wrong}")


def _check_sizes(path: Path, tensors: Weights, sizes: tuple[int, int, int], of: tuple[int, int, int]) -> None:
    """Refuse sizes other than the set's, or impossible for the file's length, before a network is built."""
    classes, channels, side = sizes
    outputs = {length for value in tensors.values() for length in value.shape}
    if sizes != of or classes not in outputs or channels not in (1, 3) or not 4 <= side <= limits.SIDE:
        raise UserError(f"{path}: its weights are not of {classes} classes, {channels} channels and {side} px")
