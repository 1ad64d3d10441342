"""The first recipe for a user's own pictures, chosen by the pictures, this machine and the time allowed.

The choices need no training and no test data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from ddhub.artifact.recipe import Recipe
from ddhub.base import progress
from ddhub.base.strict_yaml import parse_yaml, to_yaml
from ddhub.base.units import counted, duration, listed
from ddhub.data import first_look, held_out, source
from ddhub.data.first_look import Holdings
from ddhub.data.picture_settings import PictureSettings
from ddhub.data.spec import SourceSpec
from ddhub.distillation import recipes
from ddhub.distillation.picture_options import PictureOptions, name_of
from ddhub.distillation.plan import planning
from ddhub.training.field_networks import usual_depth
from ddhub.training.protocol import DSA_OPERATIONS, UNMIRRORED

HOLD_OUT = 0.2  # share of each class held out for testing, if there is no test split
SIDES = (64, 32, 16, 8)  # resolutions to choose from, in pixels
SMALLEST = 32  # the smallest side to which larger pictures are reduced
WIDTHS = (128, 64, 32)  # of the ConvNet: the field's, and narrower ones for small machines
IPCS = (10, 5, 2, 1)
REAL_PER_IMAGE = 4  # least number of real training images for each image to make
FEW = 100  # images of a class below which a larger share validates
SHOWN = 10  # names of classes in a sentence
SCHEDULES = (1.0, 0.5, 0.25, 0.1)  # shares of the whole schedule
FULL = 120  # updates of the images in a whole schedule
MOST = 480  # more updates than this are not chosen
ENOUGH = 40  # updates below which images barely move
REFRESH = 4  # updates between two fresh students: updates are a multiple of it
LEAST = 3 * REFRESH
# Share of the way from the start that images go. From 63 mixed pictures of 3 classes (seeds 0 to 2), sets of the whole
# way taught 33, 22 and 89% on validation pictures, and sets of a quarter 100% each.
BLEND = 0.25
USED = 0.9  # share of the time that is planned: start and decoding take the rest
CHECKS = 3  # networks that measure the cost of packaging, and fewer where they take more than this share of the time:
CHECKED = 0.15
CHANGED = {"resolution", "channels", "validation", "split_seed"}  # keys of a source that Holdings do not depend on


@dataclass(frozen=True)
class Choice:
    """A recipe as commented YAML, the reasons for its choices, and what was seen of the pictures."""

    name: str
    text: str
    reasons: list[str] = field(default_factory=list)  # one line each
    seconds: float = 0.0  # forecast of the time to distill it here
    held: Holdings | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return recipes.validate(parse_yaml(self.text, self.name), self.name)


def seen(chosen: Choice | None, recipe: Recipe) -> Holdings | None:
    """What was seen of the pictures when a recipe was chosen, if `recipe` reads the same ones alike."""
    if chosen is None:
        return None
    ours, theirs = (each.source.model_dump(exclude=CHANGED) for each in (chosen.recipe, recipe))
    return chosen.held if ours == theirs else None


@dataclass(frozen=True)
class Size:
    """How large the work is."""

    side: int
    width: int
    schedule: float  # share of the full schedule
    updates: int = LEAST  # of the images
    checks: int = CHECKS  # networks that measure the cost of packaging

    @property
    def wanted(self) -> int:
        """The updates of its schedule."""
        return max(LEAST, round(FULL * self.schedule))


@dataclass(frozen=True)
class Cost:
    """Seconds of a recipe by phases, and of one update of its images."""

    phases: dict[str, float]
    update: float

    @property
    def seconds(self) -> float:
        """Seconds of all phases."""
        return sum(self.phases.values())


def start(held: Holdings, asked: PictureOptions) -> Choice:
    """Choose a recipe: the largest network and resolution whose schedule fits the time, or else the smallest.

    What fits by an estimate is tried on noise before it is chosen. The images are updated as often as the time allows.

    Raises:
        UserError: for pictures from which no set can be made.
    """
    first_look.refuse_empty(held)
    if not held.tested:
        held_out.refuse_small(held.classes, held.counts)
    every = list(sizes(held, asked))
    for size in every:
        if size is not every[-1] and _filled(held, asked, size)[0].updates < size.wanted:
            continue
        with progress.busy(f"trying ConvNets of width {size.width} at {size.side} pixels on noise"):
            planning.try_out(_written(held, asked, size).recipe, asked.resources, _told(held, size))
        size, cost = _filled(held, asked, size)
        if size.updates >= size.wanted:
            break
    chosen = _written(held, asked, size)
    reasons = [*_reasons(held, asked, size, chosen.recipe), *_times(size, cost, asked.minutes)]
    return replace(chosen, seconds=cost.seconds, reasons=reasons, held=held)


def _filled(held: Holdings, asked: PictureOptions, size: Size) -> tuple[Size, Cost]:
    """The size with as many updates as the time allows and few checks of packaging, and its cost by the forecast."""
    allowed = USED * 60 * asked.minutes
    cost = _cost(held, asked, size)
    each = cost.phases["packaging"] / size.checks
    checks = min(CHECKS, max(1, int(CHECKED * allowed / each))) if each else CHECKS
    rest = cost.seconds - cost.phases["distill"] - (size.checks - checks) * each
    updates = int((allowed - rest) / cost.update) // REFRESH * REFRESH if cost.update else MOST
    size = replace(size, checks=checks, updates=min(MOST, max(LEAST, updates)))
    return size, _cost(held, asked, size)


def _cost(held: Holdings, asked: PictureOptions, size: Size) -> Cost:
    """The forecast of `ddhub plan` for distilling a size."""
    told = _told(held, size)
    plan = planning.plan(_written(held, asked, size).recipe, asked.resources, told)
    phases = {row.phase: row.wall_seconds or 0.0 for row in plan.phases}
    return Cost(phases, phases["distill"] / size.updates)


def _told(held: Holdings, size: Size) -> planning.SourceSize:
    return planning.SourceSize(held.images, len(held.classes), size.side)


def sizes(held: Holdings, asked: PictureOptions) -> Iterator[Size]:
    """The sizes to try, largest first: lower resolution before narrower networks, a shorter schedule last."""
    if asked.resolution is not None:
        sides: Sequence[int] = [asked.resolution]
    elif held.uniform and held.side <= SIDES[0]:
        sides = [held.side]
    else:
        sides = [side for side in SIDES if side <= held.side] or [SIDES[-1]]
        sides = [side for side in sides if side >= SMALLEST] or sides[:1]
    for side in sides:
        for width in WIDTHS:
            yield Size(side, width, SCHEDULES[0])
    yield from (Size(sides[-1], WIDTHS[-1], schedule) for schedule in SCHEDULES[1:])


def training_images(held: Holdings) -> int:
    """Images of the smallest class without test and validation part."""
    left = held.smallest if held.tested else held.smallest - held_out.size(held.smallest, HOLD_OUT)
    return left - held_out.size(left, _validation(held))


def _validation(held: Holdings) -> float:
    return 0.2 if held.smallest < FEW else 0.1


def _ipc(held: Holdings, asked: PictureOptions) -> int:
    real = training_images(held)
    return asked.ipc or next((ipc for ipc in IPCS if ipc * REAL_PER_IMAGE <= real), 1)


def _written(held: Holdings, asked: PictureOptions, size: Size) -> Choice:
    """The recipe of a size as commented YAML."""
    spec, classes, ipc = held.spec, len(held.classes), _ipc(held, asked)
    arch = f"convnet{usual_depth(size.side)}_w{size.width}"
    real, made = training_images(held) * classes, ipc * classes
    batch = 64 if real < 5000 else 128
    epochs = max(10, round(size.schedule * min(100, 1500 * batch / real)))
    teachers = max(1, round(3 * size.schedule**0.5))
    student_batch = min(50, made) if made > 1 else 2
    trained = max(100, round(300 * size.schedule**0.5))
    name = name_of(spec, asked)
    mirrored = "# Training mirrors images: take flip_ out if a mirror image is wrong, as for text and digits."
    if asked.flips is False:
        mirrored = "# Training mirrors no image: a mirror image may belong to another class."
    test = f"  test: {_scalar(source.test_words(spec))}   # only the evaluation opens it\n"
    if not held.tested:
        test = f"  hold_out: {HOLD_OUT}   # share of each class for testing: there is no test split\n"
    lines = f"""\
# {counted(ipc, "image")} per class from {counted(held.images, "picture")} of {counted(classes, "class")}, \
by adversarial prediction matching. arXiv:2312.08912.
# ddhub distill {name}.yaml
name: {_scalar(name)}
seed: 0
ipc: {ipc}   # images to make per class
source:
  dataset: {_scalar(spec.dataset)}   # the set names this as its source
{f"  path: {_scalar(spec.path)}   # its place here; never published" + chr(10) if spec.path else ""}\
{f"  revision: {_scalar(spec.revision)}" + chr(10) if spec.revision else ""}\
{f"  config: {_scalar(spec.config)}" + chr(10) if spec.config else ""}\
  image: {_scalar(spec.image)}
  label: {_scalar(spec.label)}
  train: {_scalar(spec.train)}
{test}\
  validation: {_validation(held)}   # share of each class, for choices during the run
  resolution: {size.side}   # pixels per side; pictures are resized to a square
  channels: {held.channels}
{"".join(f"  {key}: {_scalar(value)}{chr(10)}" for key, value in _given_settings(spec))}\
{mirrored}
augment: {UNMIRRORED if asked.flips is False else "_".join(DSA_OPERATIONS)}
# Networks trained on the pictures. The set learns to agree with them.
teachers: {{arch: {arch}, count: {teachers}, epochs: {epochs}, lr: 0.02, batch: {batch}}}
method:
  name: apm
  iterations: {size.updates}   # updates of the images: more take longer, and often help
  refresh_every: {REFRESH}   # updates between two fresh students
  snapshots: 5
  student: {{arch: {arch}, epochs: 50, lr: 0.02, batch: {student_batch}}}
  init: easy   # start from training images that the teachers err on least
  lr_images: {0.3 * student_batch:g}
  average: {min(0.95, round(1 - 6 / size.updates, 2)):g}   # ship a moving average of the images
  blend: {BLEND}   # and of it a quarter of the way from the start: further, labels can go astray
labels: {{form: logits, teachers: mean}}
# How to train on the set, and the number of trainings behind a score and behind the check of packaging.
evaluate: {{epochs: {trained}, lr: 0.02, batch: {student_batch}, min_steps: 500, seeds: 5, full_epochs: {epochs}, \
packaging_seeds: {size.checks}}}
publish:
  license: null   # licence of your pictures, such as cc-by-4.0: fill it in before you push
  pretty_name: {_scalar(f"{name} distilled by APM, {counted(ipc, 'image')} per class")}
"""
    return Choice(name, lines)


def _given_settings(spec: SourceSpec) -> list[tuple[str, Any]]:
    """The settings for reading pictures that the user gave."""
    return [(key, getattr(spec, key)) for key in PictureSettings.model_fields if getattr(spec, key)]


def _scalar(value: Any) -> str:
    """A value as YAML, on one line."""
    return to_yaml({"": value}).partition(": ")[2].strip()


def _reasons(held: Holdings, asked: PictureOptions, size: Size, recipe: Recipe) -> list[str]:
    """The choices and their reasons, one line each."""
    classes, smallest = counted(len(held.classes), "class"), counted(held.smallest, "picture")
    named = f"({listed(held.classes, SHOWN)})"
    told = [f"pictures: {held.images:,} of {classes} {named}; the smallest class has {smallest}"]
    if not held.tested:
        told.append(
            f"test part: {HOLD_OUT:.0%} of every class, held out before anything else, because there is no test split"
        )
    kept = "as the pictures are" if held.uniform and size.side == held.side else f"of about {held.side}, for the time"
    told += [
        f"resolution: {size.side} pixels a side, {kept}" if asked.resolution is None else f"resolution: {size.side}",
        f"ipc: {counted(recipe.ipc, 'image')} per class, from {training_images(held)} to distill in the smallest class",
        f"network: {recipe.teachers.home}, {'the widest' if size.width == WIDTHS[0] else 'as wide as'} the time allows",
        "augmentation: with flips; --no-flips if a mirror image is wrong (text, digits)"
        if asked.flips is not False
        else "augmentation: without flips, as asked",
        f"steps: {recipe.teachers.epochs} epochs for {counted(recipe.teachers.count, 'teacher')},"
        f" {recipe.method['iterations']} updates of the images",
    ]
    return told


def _times(size: Size, cost: Cost, minutes: float) -> list[str]:
    """The time foretold and how it is divided. It says what to do where it allows too few updates."""
    parts = {name: seconds for name, seconds in cost.phases.items() if seconds >= 1}
    told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    over = "" if cost.seconds <= 60 * minutes else f", more than the {minutes:g} minutes asked for"
    lines = [f"time: about {duration(cost.seconds)} here{over}{f' ({told})' if told else ''}"]
    if size.updates < ENOUGH:
        needed = ceil((cost.seconds + (ENOUGH - size.updates) * cost.update) / USED / 60)
        lines.append(
            f"few updates: {size.updates} barely move the images. --minutes {needed} allows {ENOUGH}."
            " --set 'method={name: random}' takes real images with the teachers' labels, and next to no time"
        )
    return lines
