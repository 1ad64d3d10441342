"""The teacher of a probe: shipped with the set, cached for its source, or trained if the user allows it.

It sees only the source's train split. Its accuracy is measured on the validation part.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.resources import Resources
from ddhub.base.units import duration
from ddhub.data import held_out
from ddhub.data import preprocess as preprocessing
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.training import architectures, device, fit
from ddhub.training import network as networks
from ddhub.training import teachers as teaching
from ddhub.training.device import Decisions
from ddhub.training.protocol import Protocol, TeacherSpec
from ddhub.training.teachers import Teachers

# Small and short, because it only has to know the classes. No flips, which change some classes. No colour changes,
# which would hide differences between spaces.
WIDTH, LR, BATCH, AUGMENT = 32, 0.05, 128, "crop_cutout_scale_rotate"
LEAST_STEPS, EPOCHS = 200, (10, 100)
FEW = 3  # number of teachers that is enough
VALIDATION, SPLIT_SEED = 0.1, 0


@dataclass(frozen=True)
class Referee:
    """A teacher, with the preprocessing of its inputs."""

    teachers: Teachers
    preprocess: Preprocess
    kind: str  # shipped, cached or trained

    @property
    def top1(self) -> float:
        """The mean validation accuracy of its networks."""
        return sum(self.teachers.validation_top1) / len(self.teachers)


def at_hand(found: Artifact, source: Callable[[], Split | None], decisions: Decisions) -> Referee | None:
    """The teachers that the set ships, or the best cached ones for its source; None if there are none."""
    if found.manifest.teachers:
        return Referee(
            teaching.load(found.teacher_files, decisions=decisions, of=found.sizes), found.preprocess, "shipped"
        )
    groups = teaching.cached(found.manifest.source.fingerprint)
    split = source() if groups else None
    if split is None:
        return None
    fitting = []
    for paths, identity in groups:
        with contextlib.suppress(UserError):  # the package of its architecture can be gone
            teachers = teaching.load(paths[:FEW], decisions=decisions)
            fitting += [(teachers, identity)] if _fits(teachers, found) else []
    if not fitting:
        return None
    # Fitting a whitening is slow, so plain inputs come first, and then accuracy.
    teachers, identity = min(fitting, key=lambda one: (bool(one[1][3]), -sum(one[0].validation_top1) / len(one[0])))
    _, validation, seed, whitened, *constants = identity
    if constants:
        mean, std = constants[0]
        return Referee(teachers, Preprocess(tuple(mean), tuple(std), statistics="field"), "cached")
    training, _ = held_out.hold_out(split.labels, validation, seed)
    return Referee(teachers, preprocessing.fit(split.images, training, zca=whitened), "cached")


def _fits(teachers: Teachers, found: Artifact) -> bool:
    network, source = teachers.network, found.manifest.source
    sizes = (network.classes, network.channels, network.side)
    return sizes == (len(found.manifest.classes), source.channels, source.resolution)


def trained(split: Split, asked: Resources) -> Referee:
    """Train a small teacher on the source, after an estimate of the time. It is cached.

    Args:
        asked: the requested resources: `device`, `threads` and `compile`.
    """
    training, validation = held_out.hold_out(split.labels, VALIDATION, SPLIT_SEED)
    channels, side = int(split.images.shape[1]), int(split.images.shape[2])
    steps = math.ceil(len(training) / BATCH)
    epochs = min(EPOCHS[1], max(EPOCHS[0], math.ceil(LEAST_STEPS / steps)))
    depth = min(6, max(2, side.bit_length() - 3))  # about the field's depth; a change would train cached teachers again
    arch = f"convnet{depth}_w{WIDTH}"
    flops = architectures.training_flops(arch, channels, side, epochs * len(training))
    decisions = device.decide(asked.device, asked.threads, asked.compile, flops)
    network = networks.network(arch, len(split.classes), channels, side, decisions)
    fitted = preprocessing.fit(split.images, training, zca=False)
    _announce(network, split, training, fitted, steps * epochs)
    parts = [fit.Examples(split.images, split.labels, fitted, index=part) for part in (training, validation)]
    spec = TeacherSpec(arch=arch, epochs=epochs, lr=LR, batch=BATCH)
    identity = [split.fingerprint, VALIDATION, SPLIT_SEED, False]
    lessons = teaching.Lessons(spec, [network], parts[0], parts[1], AUGMENT, identity)
    return Referee(teaching.obtain(lessons), fitted, "trained")


def _announce(network: networks.Network, split: Split, training: torch.Tensor, fitted: Preprocess, steps: int) -> None:
    """Report an estimate of the training time, from a few steps after a warm-up step."""
    measured = min(3, math.ceil(len(training) / BATCH))
    protocol = Protocol(loss="ce", augment=AUGMENT, lr=LR, epochs=1, batch=BATCH)
    seconds = 0.0
    for count in (1, measured):
        rows = training[: count * BATCH]
        begun = time.monotonic()
        fit.fit(network, fit.Examples(split.images, split.labels, fitted, index=rows), protocol, seed=0)
        seconds = (time.monotonic() - begun) / count
    left = duration(max(1, seconds * steps))
    say(f"probe: training a teacher ({network.arch}, {steps} steps) takes about {left}, once; it is cached")
