"""Reasons to doubt a set, by its manifest alone, as sentences: copies of images, weak teachers, chance accuracy."""

from collections.abc import Iterator

from ddhub.artifact.manifest import Manifest
from ddhub.artifact.manifest_parts import Memorisation
from ddhub.base.units import counted

COPIES = 0.05  # share of copied images above which a sentence reports them
LOSS = 0.03  # a loss by 8 bits that trainings should be able to tell
UNCHANGED = 1 / 255  # median pixel difference, in units of black to white, below which images count as unchanged


def near_chance(top1: float, classes: int) -> bool:
    """Whether an accuracy is close to chance for so many classes, or below it."""
    chance = 1 / classes
    return top1 < min(2 * chance, chance + 0.1 * (1 - chance))


def guessing(top1: float, classes: int) -> str:
    """`12.0%, and guessing reaches 10.0%`."""
    return f"{100 * top1:.1f}%, and guessing reaches {100 / classes:.1f}%"


def of_set(record: Manifest) -> list[str]:
    """One sentence for each reason to doubt a set."""
    return [*_copies(record), *_teachers(record), *_own_accuracy(record)]


def _copies(record: Manifest) -> Iterator[str]:
    if record.method["name"] == "random":
        yield "Every image is a copy of a training image: method random copies, and distills nothing."
        return
    for check in filter(_has_copies, _checks(record)):
        if not _explained(check):
            yield (
                f"{100 * check.pixels.copies:.0f}% of {check.checked} images are copies of training images:"
                " they are nearer to one than 99% of held-out images are. Look at assets/nearest.png before you share"
                " the set. With method.init=noise and another --out, images start from no training image."
            )


def notes(record: Manifest) -> list[str]:
    """Facts that users of a sound set must know: its images may still look like the images that they started as."""
    return [
        f"{100 * check.pixels.copies:.0f}% of {check.checked} images still look like a training image that the set"
        f" started from. They differ from it by {check.pixels.median:.3f} in the median, where 1 is black to white."
        f" Held-out images differ from every training image by {check.pixels.median_held_out:.3f}. The terms for"
        " sharing those training images apply to the set."
        for check in _checks(record)
        if _has_copies(check) and _explained(check) and record.method["name"] != "random"
    ]


def cost_of_8_bits(record: Manifest) -> str | None:
    """A sentence if there were too few trainings to tell what 8 bits cost; None otherwise, or if floats are shipped."""
    measured = record.packaging
    if measured is None or record.preprocess.pixels_space is not None:
        return None
    few = (
        f"{counted(measured.seeds, 'training')} with each form cannot tell whether 8 bits cost {100 * LOSS:.0f} points"
    )
    more = "The images are stored in 8 bits all the same. A larger evaluate.packaging_seeds can tell."
    if measured.seeds == 1:
        return f"{few}: one has no interval. {more}"
    if measured.uncertainty is not None and measured.uncertainty > LOSS:
        width = f"{100 * measured.uncertainty:.1f} points to each side"
        return f"{few}: the 95% interval of the cost extends {width}. {more}"
    return None


def _checks(record: Manifest) -> Iterator[Memorisation]:
    """The copy checks of a set and of its parts."""
    yield from filter(None, [record.memorisation, *(part.memorisation for part in record.merged or [])])


def _has_copies(check: Memorisation) -> bool:
    return check.pixels.copies >= COPIES and check.pixels.copies * check.checked >= 2


def _explained(check: Memorisation) -> bool:
    """Whether images changed but stay near the images that they started as. A real start explains that."""
    return check.starts is not None and 1 - check.starts < COPIES and check.pixels.median > UNCHANGED


def _teachers(record: Manifest) -> Iterator[str]:
    classes = len(record.classes)
    poor = [each.validation_top1 for each in record.teachers if near_chance(each.validation_top1, classes)]
    if poor:
        yield (
            f"{len(poor)} of {len(record.teachers)} teachers learned next to nothing: the best of these reaches"
            f" {guessing(max(poor), classes)}."
        )


def _own_accuracy(record: Manifest) -> Iterator[str]:
    classes = len(record.classes)
    for packaging in filter(None, [record.packaging, *(part.packaging for part in record.merged or [])]):
        top1 = packaging.validation_top1_packaged
        if near_chance(top1, classes):
            where = "below" if top1 < 1 / classes else "near"
            told = guessing(top1, classes)
            yield f"The set teaches next to nothing: validation accuracy is {where} chance. It is {told}."
