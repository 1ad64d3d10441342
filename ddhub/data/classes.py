"""Matching of classes between datasets, by name or WordNet id."""

import functools
import re
from collections.abc import Callable, Sequence


def match(theirs: Sequence[str], ours: Sequence[str], *, some: bool = False) -> list[int] | None:
    """For each of their classes, the number of our class with the same name or WordNet id.

    None if a class has no counterpart or two. The order is then unknown.

    Args:
        some: whether they may lack some of our classes.
    """
    if len(theirs) != len(ours) and not (some and len(theirs) < len(ours)):
        return None
    for key in (str, _wnid, plain, _words_of, lambda name: _words_of(name).split(",")[0]):
        matched = _matched(theirs, ours, key)
        if matched is not None:
            return matched
    return None


def _matched(theirs: Sequence[str], ours: Sequence[str], key: Callable[[str], str]) -> list[int] | None:
    places = {key(name): number for number, name in enumerate(ours)}
    wanted = [key(name) for name in theirs]
    if len(places) < len(ours) or len(set(wanted)) < len(wanted) or not set(wanted) <= set(places):
        return None
    return [places[name] for name in wanted]


def _wnid(name: str) -> str:
    """The WordNet id in a name such as `n01440764_tench`; empty if it has none."""
    found = re.findall(r"(?<![a-z0-9])n\d{8}(?!\d)", name)
    return found[0] if len(found) == 1 else ""


def plain(name: str) -> str:
    """A name in lower case, with single spaces between its words."""
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def _words_of(name: str) -> str:
    """The plain name, with a WordNet id replaced by its words. timm ships the list."""
    wnid = _wnid(name)
    return plain(_wordnet().get(wnid, name) if wnid else name)


@functools.cache
def _wordnet() -> dict[str, str]:
    from timm.data import ImageNetInfo

    known = ImageNetInfo("imagenet-22k")
    return {wnid: str(known.label_name_to_description(wnid)) for wnid in known.label_names()}


def wnids(classes: Sequence[str]) -> list[str] | None:
    """The class names if they all are WordNet ids, such as `n01440764`; otherwise None."""
    return list(classes) if all(len(c) == 9 and c[0] == "n" and c[1:].isdigit() for c in classes) else None
