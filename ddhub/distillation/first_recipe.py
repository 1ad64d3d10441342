"""The first recipe for a user's own pictures, chosen by the pictures, this machine and the time allowed.

The choices need no training and no test data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ddhub.artifact.recipe import Recipe
from ddhub.base.resources import Resources
from ddhub.base.strict_yaml import parse_yaml, to_yaml
from ddhub.base.units import counted, duration, listed
from ddhub.data import held_out, source
from ddhub.data.first_look import Holdings
from ddhub.data.picture_settings import PictureSettings
from ddhub.data.spec import SourceSpec
from ddhub.distillation import recipes
from ddhub.distillation.picture_options import PictureOptions, name_of
from ddhub.distillation.plan import planning
from ddhub.training.field_networks import CONVNET_DEPTH
from ddhub.training.protocol import DSA_OPERATIONS

HOLD_OUT = 0.2  # share of each class held out for testing, if there is no test split
SIDES = (64, 32, 16, 8)  # resolutions to choose from, in pixels
SMALLEST = 32  # the smallest side to which larger pictures are reduced
WIDTHS = (128, 64, 32)  # of the ConvNet: the field's, and narrower ones for small machines
IPCS = (10, 5, 2, 1)
REAL_PER_IMAGE = 4  # least number of real training images for each image to make
FEW = 100  # images of a class below which a larger share validates
SHOWN = 10  # names of classes in a sentence
SCHEDULES = (1.0, 0.5, 0.25, 0.1)  # shares of the whole schedule


@dataclass(frozen=True)
class Choice:
    """A recipe as commented YAML, and the reasons for its choices."""

    name: str
    text: str
    reasons: list[str] = field(default_factory=list)  # one line each
    seconds: float = 0.0  # forecast of the time to distill it here

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return recipes.validate(parse_yaml(self.text, self.name), self.name)


@dataclass(frozen=True)
class Size:
    """How large the work is."""

    side: int
    width: int
    schedule: float  # share of the full schedule


def start(held: Holdings, asked: PictureOptions) -> Choice:
    """Choose a recipe: the largest network and resolution whose full schedule fits the time, or else the smallest.

    Raises:
        UserError: for pictures from which no set can be made.
    """
    if not held.tested:
        held_out.refuse_small(held.classes, held.counts)
    tried: list[tuple[Size, Choice]] = []
    for size in sizes(held, asked):
        found = _written(held, asked, size)
        seconds = _seconds(found.recipe, held, asked.resources)
        tried.append((size, replace(found, seconds=seconds)))
        if seconds <= 60 * asked.minutes:
            break
    else:
        tried.sort(key=lambda each: each[1].seconds, reverse=True)
    size, chosen = tried[-1]
    return replace(chosen, reasons=[*_reasons(held, asked, size, chosen.recipe), _time(chosen.seconds, asked.minutes)])


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


def _seconds(recipe: Recipe, held: Holdings, resources: Resources) -> float:
    """The forecast of `ddhub plan` for distilling the recipe here."""
    told = planning.SourceSize(held.images, len(held.classes), recipe.source.resolution)
    return planning.plan(recipe, resources, told).sum.wall_seconds


def training_images(held: Holdings) -> int:
    """Images of the smallest class without test and validation part."""
    left = held.smallest if held.tested else held.smallest - held_out.size(held.smallest, HOLD_OUT)
    return left - held_out.size(left, _validation(held))


def _validation(held: Holdings) -> float:
    return 0.2 if held.smallest < FEW else 0.1


def _ipc(held: Holdings, asked: PictureOptions) -> int:
    real = training_images(held)
    return asked.ipc or next((ipc for ipc in IPCS if ipc * REAL_PER_IMAGE <= real), 1)


def _depth(side: int) -> int:
    """The depth of the ConvNet: the field's for the largest known side up to this one."""
    return max((depth for known, depth in CONVNET_DEPTH.items() if known <= side), default=1)


def _written(held: Holdings, asked: PictureOptions, size: Size) -> Choice:
    """The recipe of a size as commented YAML."""
    spec, classes, ipc = held.spec, len(held.classes), _ipc(held, asked)
    arch = f"convnet{_depth(size.side)}_w{size.width}"
    real, made = training_images(held) * classes, ipc * classes
    batch = 64 if real < 5000 else 128
    epochs = max(10, round(size.schedule * min(100, 1500 * batch / real)))
    teachers = max(1, round(3 * size.schedule**0.5))
    student_batch = min(50, made) if made > 1 else 2
    operations = [word for word in DSA_OPERATIONS if word != "flip" or asked.flips is not False]
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
augment: {"_".join(operations)}
# Networks trained on the pictures. The set learns to agree with them.
teachers: {{arch: {arch}, count: {teachers}, epochs: {epochs}, lr: 0.02, batch: {batch}}}
method:
  name: apm
  iterations: {round(120 * size.schedule)}   # updates of the images: more take longer, and often help
  refresh_every: 4   # updates between two fresh students
  snapshots: 5
  student: {{arch: {arch}, epochs: 50, lr: 0.02, batch: {student_batch}}}
  lr_images: {0.3 * student_batch:g}
  average: 0.95   # ship a moving average of the images
labels: {{form: logits, teachers: mean}}
# How to train on the set, and the number of trainings behind a score.
evaluate: {{epochs: 300, lr: 0.02, batch: {student_batch}, min_steps: 500, seeds: 5, full_epochs: {epochs}}}
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
        f"network: {recipe.teachers.arch}, {'the widest' if size.width == WIDTHS[0] else 'as wide as'} the time allows",
        "augmentation: with flips; --no-flips if a mirror image is wrong (text, digits)"
        if asked.flips is not False
        else "augmentation: without flips, as asked",
        f"steps: {recipe.teachers.epochs} epochs for {counted(recipe.teachers.count, 'teacher')},"
        f" {recipe.method['iterations']} updates of the images",
    ]
    return told


def _time(seconds: float, minutes: float) -> str:
    over = "" if seconds <= 60 * minutes else f", more than the {minutes:g} minutes asked for: nothing smaller is known"
    return f"time: about {duration(seconds)} here by ddhub plan (a rough guess){over}"
