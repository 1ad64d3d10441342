"""The probe of a set: a teacher looks at it in the claimed space and class order, and in others.

The claimed preprocessing turns inputs into pixels, and the teacher's own preprocessing turns these into its inputs.
verdict.py judges what the teacher recognises. Only the source's train split is read. Without a teacher, or with too
little evidence, the verdict is `unknown`, never `fine`.
Shapes: N images, C H W image, K classes.
"""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ddhub.artifact import manifest, source_location
from ddhub.artifact.folder import Artifact
from ddhub.base import files, progress, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.resources import Resources
from ddhub.base.units import listed
from ddhub.data import enlarge, held_out, preprocess
from ddhub.data import source as sources
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.evaluation.probe import outcome as outcomes
from ddhub.evaluation.probe import spaces as input_spaces
from ddhub.evaluation.probe import teacher as teachers
from ddhub.evaluation.probe import verdict as verdicts
from ddhub.evaluation.probe.outcome import Outcome, ProbeTeacher, SpaceScore
from ddhub.evaluation.probe.spaces import Space
from ddhub.evaluation.probe.teacher import Referee
from ddhub.evaluation.probe.verdict import Judgement, SpaceReading
from ddhub.training import device as devices

VERSION = 1  # version of the rules; a change probes again
ENOUGH, EACH = 1000, 4  # number of images to check, and the fewest of each class
EXACT = 256  # number of images whose stored logits are compared
# Relative to the logits' own spread. Rounding to float16 or by another device stays below it, another space does not.
AGREE = 0.01
AGAIN = "ddhub import, or ddhub evaluate --source, with"
ROUNDING = 1.5 / 255  # pixels and floats of one image may both be rounded


def probe(
    found: Artifact,
    out: Path,
    source_path: str | None = None,
    *,
    train: bool = False,
    read: bool = True,
    resources: Resources = Resources(),
) -> Outcome:
    """Probe a set with an available teacher, report the outcome, and write it to `out`.

    Args:
        train: train a teacher if there is none.
        read: read the source even if the set ships teachers and nothing else needs it.

    Returns:
        The outcome. An earlier outcome of the same set and teacher is reused.
    """
    source = _Source(found, source_path, read or not found.manifest.teachers)
    teacher = teachers.at_hand(found, source.split, devices.decide(resources.device, resources.threads, False))
    if teacher is None and train:
        split = source.split()
        if split is None:
            raise UserError(f"--probe: {source.fault}")
        teacher = teachers.trained(split, resources)
    key = _key(found, teacher, source.read)
    payload = manifest.identity(found.manifest.files)
    path = outcomes.place(out, payload)
    outcome = _kept(path, key)
    if outcome is None:
        with progress.busy(f"{found.manifest.name}: probing whether it is fed as it was made"):
            outcome = _no_teacher(source) if teacher is None else examine(found, teacher, source.split)
        kept_as = key if source.fault is None else None  # an unreadable source may be readable next time
        files.write_json(path, {"key": kept_as, "payload": payload, **outcome.content()})
    if outcome.verdict == "permuted classes" and _numbered(found):
        path = path.with_name(path.name.replace("probe", "classes")).with_suffix(".txt")
        names = [(outcome.order or {}).get(name, name) for name in found.manifest.classes]
        files.write_bytes(path, "".join(f"{name}\n" for name in names).encode())
        next = f"{AGAIN} --classes {path}, which was written for it"
        outcome = outcome.model_copy(update={"next": next})
    outcome.say()
    return outcome


class _Source:
    """The set's source, read on demand."""

    def __init__(self, found: Artifact, path: str | None, read: bool) -> None:
        self.found, self.path, self.read = found, path, read
        self.fault: UserError | None = None

    def split(self) -> Split | None:
        """The train split; None if it cannot be read, with the reason in `fault`."""
        return self._split if self.read else None

    @cached_property
    def _split(self) -> Split | None:
        try:
            return sources.load_train(source_location.source_spec(self.found, self.path))[0]
        except UserError as fault:
            self.fault = fault
            return None


def _numbered(found: Artifact) -> bool:
    """Whether the import took the set's class numbers for the source's."""
    notes = [] if found.manifest.imported is None else found.manifest.imported.notes
    return any(note.startswith("class order: ") and ("taken" in note or "affirmed" in note) for note in notes)


def _key(found: Artifact, teacher: Referee | None, read: bool) -> str:
    record = found.manifest
    said = [record.preprocess.model_dump(), record.labels.model_dump(), record.classes, record.source.fingerprint]
    asked = [] if teacher is None else [teacher.kind, *(files.sha256(path) for path in teacher.teachers.files)]
    return files.digest([VERSION, manifest.identity(record.files), said, asked, read])


def _kept(path: Path, key: str) -> Outcome | None:
    known = strict_json.known(path)
    return Outcome.kept(known) if known.get("key") == key else None


def _no_teacher(source: _Source) -> Outcome:
    why = f"; {source.fault.args[0]}" if source.fault else ""
    return Outcome(
        verdict="unknown",
        sentence=f"no teacher is at hand to tell whether the set is fed in its space and class order{why}",
        next="the same command with --probe trains one, after printing how long that takes",
    )


def examine(found: Artifact, teacher: Referee, source: Callable[[], Split | None]) -> Outcome:
    """Check a set with a teacher: as it is fed and, in case of doubt, in other spaces."""
    chosen = _chosen(found.labels, len(found.manifest.classes))
    labels = found.labels[chosen]
    logits = _logits(found, teacher) if teacher.kind == "shipped" else None
    factor, found = found.manifest.preprocess.factor, found.whole()
    split = source()
    own = None if split is None else preprocess.fit(split.images, torch.arange(len(split)), zca=False)
    looked_at = teacher.kind != "shipped"  # with shipped teachers, statistics of the manifest are compared, not pixels
    seen = _of_stored(split, factor) if split is not None and factor > 1 and looked_at else own
    lens = _Lens(found, teacher, chosen, seen)
    claimed = Space("the manifest has it", None, found.preprocess)
    readings = [lens.reading(claimed)]
    classes = len(found.manifest.classes)
    judged = verdicts.judge(labels, classes, readings, teacher.top1)
    near = readings[0].distance is not None and readings[0].distance <= verdicts.APART
    if lens.spaces_matter and not (judged.verdict == "fine" and near and _well(labels, readings[0], teacher)):
        others = list(input_spaces.others(found, split, own)) if split is not None and own is not None else []
        readings += [lens.reading(space) for space in others]
        judged = verdicts.judge(labels, classes, readings, teacher.top1)
    judged = _exact(found, judged, logits)
    return _outcome(found, teacher, labels, readings, judged, logits)


def _of_stored(split: Split, factor: int) -> Preprocess:
    """The statistics of real images that are reduced and enlarged as the set's own, which have less contrast."""
    some = split.images[held_out.spread(len(split), input_spaces.FIT_ON)]
    shown = enlarge.enlarged_pixels(enlarge.reduced(some, factor), some.shape[-1])
    return preprocess.fit(shown, torch.arange(len(shown)), zca=False)


def _chosen(labels: Tensor, classes: int) -> Tensor:
    """The rows to check: equally many of each class, the first ones."""
    each = max(EACH, ENOUGH // classes)
    return torch.cat([(labels == label).nonzero().flatten()[:each] for label in range(classes)])


def _well(labels: Tensor, reading: SpaceReading, teacher: Referee) -> bool:
    """Whether recognition is so good that no other space could be significantly better."""
    return float((reading.predicted == labels).float().mean()) >= (1 - verdicts.MARGIN) * teacher.top1


class _Lens:
    """A teacher's view of a set, in one space or another."""

    def __init__(self, found: Artifact, teacher: Referee, chosen: Tensor, own: Preprocess | None) -> None:
        self.teachers = teacher.teachers.first(teachers.FEW)
        self.preprocess, self.own = teacher.preprocess, own
        self.images = found.images[chosen]
        self.floats = None if found.pixels is None else found.pixels[chosen]
        self.shipped = teacher.kind == "shipped"
        # The set's pixels are fixed. But a shipped teacher's inputs follow from them by the manifest's preprocessing.
        self.spaces_matter = (self.floats is None) if self.shipped else (self.floats is not None)

    def reading(self, space: Space) -> SpaceReading:
        """The set in one space: predictions, and the distance of its pixels from the source's."""
        unit = self.images.float() / 255 if self.floats is None else space.preprocess.unit(self.floats)
        if self.shipped:
            inputs = space.preprocess.inputs(self.images) if self.floats is None else self.floats
        else:
            inputs = self.preprocess.inputs_from_unit(unit)
        predicted = self.teachers.label(inputs).argmax(1).cpu()
        distance = (
            input_spaces.claimed_distance(space.preprocess, self.own)
            if self.shipped
            else input_spaces.distance(unit, self.own)
        )
        return SpaceReading(space.words, space.option, predicted, distance, space.named)


def _logits(found: Artifact, teacher: Referee) -> float | None:
    """The distance between stored logits and the shipped teachers' logits for the inputs; None without stored logits.

    If floats and pixels do not show the same images, the distance is infinite.
    """
    record, soft = found.manifest, found.soft_labels
    if found.pixels is not None and record.imported is None:
        shown = found.preprocess.unit(found.pixels[:EXACT]).clamp(0, 1)
        if float((shown - found.images[:EXACT].float() / 255).abs().mean()) > ROUNDING:
            return float("inf")
    if soft is None or record.labels.form != "logits":
        return None
    stored = soft[:EXACT]
    said = teacher.teachers.label(found.inputs[:EXACT], None if record.labels.teachers == "mean" else 0).cpu()
    kept = torch.ones_like(stored, dtype=torch.bool)
    if record.labels.rest is not None:
        kept = stored != torch.tensor(record.labels.rest)
    spread = (stored[kept] - stored[kept].mean()).abs().mean().clamp(min=1e-9)
    return float((said - stored)[kept].abs().mean() / spread)


def _exact(found: Artifact, judged: Judgement, logits: float | None) -> Judgement:
    """The judgement with the evidence of stored logits, which fit the shipped teachers only in the right space."""
    if logits is None or logits <= AGREE or judged.verdict in ("wrong space", "permuted classes"):
        return judged
    if judged.verdict == "fine" or judged.best is not None:
        what = (
            "pixels and floats of the set show different images"
            if logits == float("inf")
            else ("the shipped teachers do not give the stored soft labels")
        )
        return Judgement("wrong space", f"{judged.why}; but {what}: the manifest's preprocessing is not the set's")
    return judged


def _outcome(
    found: Artifact,
    teacher: Referee,
    labels: Tensor,
    readings: list[SpaceReading],
    judged: Judgement,
    logits: float | None,
) -> Outcome:
    """The outcome with judgement and numbers, for messages and the file."""
    names = found.manifest.classes
    moved = {names[a]: names[b] for a, b in enumerate(judged.order or ()) if a != b} or None
    scores = [
        SpaceScore(
            space=reading.space if number else "as fed",
            recognised=float((reading.predicted == labels).float().mean()),
            distance=_finite(reading.distance),
        )
        for number, reading in enumerate(readings)
    ]
    arch = teacher.teachers.network.arch
    return Outcome(
        verdict=judged.verdict,
        sentence=_sentence(judged, moved),
        next=_next(found, judged, moved),
        teacher=ProbeTeacher(kind=teacher.kind, arch=arch, validation_top1=teacher.top1),
        images=len(labels),
        chance=1 / len(names),
        spaces=scores,
        order=moved,
        logits=_finite(logits),
    )


def _finite(number: float | None) -> float | None:
    """A number that JSON can hold; None for others."""
    return number if number is not None and math.isfinite(number) else None


def _sentence(judged: Judgement, moved: dict[str, str] | None) -> str:
    if judged.verdict != "permuted classes" or not moved:
        return judged.why
    shown = [f"'{a}' shows '{b}'" for a, b in moved.items()]
    return f"{judged.why} ({listed(shown, 3)})"


def _next(found: Artifact, judged: Judgement, moved: dict[str, str] | None) -> str | None:
    """The next command for a judgement."""
    if judged.verdict == "fine":
        return None
    if found.manifest.imported is None:
        return None if judged.verdict == "unknown" else f"ddhub verify {quoted(found.folder)}, and fetch the set again"
    if judged.verdict == "permuted classes":
        return f"{AGAIN} --classes FILE: the source's class names, one a line, in the set's order"
    if judged.verdict == "wrong space" and judged.best is not None:
        also = " (and then look at the class order)" if moved else ""
        return f"{AGAIN} {judged.best.option}{also}"
    if judged.verdict == "unknown":
        return "ask its author for statistics, whitening and class order, if the results look odd"
    return "ask its author for statistics, whitening and class order: --mean and --std, --zca, --classes"
