"""What is wrong with a set by its own manifest, in sentences for people: copies, teachers and sets near chance."""

from collections.abc import Iterator

from ddhub.artifact.manifest import Manifest

COPIES = 0.05  # share of images from which copies are told, where they are several


def near_chance(top1: float, classes: int) -> bool:
    """Whether an accuracy is hardly above that of guessing among so many classes, or below it."""
    chance = 1 / classes
    return top1 < min(2 * chance, chance + 0.1 * (1 - chance))


def guessing(top1: float, classes: int) -> str:
    """`12.0%, and guessing reaches 10.0%`."""
    return f"{100 * top1:.1f}%, and guessing reaches {100 / classes:.1f}%"


def of_set(record: Manifest) -> list[str]:
    """One sentence for everything that makes a set doubtful; none for a set that looks well."""
    return [*_copies(record), *_teachers(record), *_own_accuracy(record)]


def _copies(record: Manifest) -> Iterator[str]:
    if record.method["name"] == "random":
        yield "Every image is a copy of a training image: method random copies, and distills nothing."
        return
    checks = [record.memorisation, *(part.memorisation for part in record.merged or [])]
    for check in filter(None, checks):
        copies = check.pixels.copies
        if copies >= COPIES and copies * check.checked >= 2:
            yield (
                f"{100 * copies:.0f}% of {check.checked} images are copies of training images:"
                " they are nearer to one than 99% of held-out images are."
            )


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
