"""Reading the labels of a dataset: class numbers, class names and labelled rows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddhub.base import limits
from ddhub.base.errors import UserError
from ddhub.base.log import warn_once
from ddhub.base.redact import is_text
from ddhub.base.units import listed
from ddhub.data.classes import plain
from ddhub.data.spec import SourceSpec

ONE_CLASS = "write one class per row, as a word or as a whole number; leave it empty where it is not known"
# Words and numbers that other tools write for a missing label. They can be classes too, so they are only reported.
DOUBTFUL = ("-", "?", "<na>", "n/a", "na", "nan", "none", "null", "unknown", "unlabeled", "255", "65535", "4294967295")
SHOWN = 3  # names in a sentence


@dataclass(frozen=True)
class Labels:
    """The labels of the n labelled rows."""

    numbers: np.ndarray  # int64 (n,)
    names: tuple[str, ...]  # class names, in the order of their numbers
    rows: np.ndarray  # (n,) row numbers in the dataset, ascending


def read(dataset: Any, spec: SourceSpec) -> Labels:
    """Read the labels of all labelled rows. `check` comes after, since files may have class names of their own.

    Raises:
        UserError: if no row is labelled, or if values are no classes.
    """
    import datasets

    kind = dataset.features[spec.label]
    column = dataset.select_columns([spec.label])[spec.label][:]
    odd = None if _is_known(kind) else _type(kind)
    odd = odd or next((repr(each) for each in column if isinstance(each, float) and not _whole(each)), None)
    if odd is not None:
        where = f"source: {spec.dataset}: column '{spec.label}'"
        raise UserError(f"{where} holds {odd}, which is neither a class nor a number nor a word", next=ONE_CLASS)
    column = [_value(value) for value in column]
    rows = _labelled(column, spec, classes=isinstance(kind, datasets.ClassLabel))
    if not len(rows):
        key = "train" if str(dataset.split) == spec.train else "test"
        raise UserError(
            f"source: {spec.dataset}: split '{dataset.split}' has no labels (they are hidden)",
            next=f"--set source.{key}=SPLIT, a split that has labels",
        )
    given = [column[row] for row in rows]
    if hasattr(kind, "names"):
        return Labels(np.asarray(given, dtype=np.int64), tuple(kind.names), rows)
    # Plain integers or strings: the sorted values are the classes.
    places = {value: place for place, value in enumerate(sorted(set(given)))}
    return Labels(np.asarray([places[value] for value in given], dtype=np.int64), tuple(map(str, places)), rows)


def _is_known(kind: Any) -> bool:
    """Whether a column's type can hold classes."""
    import datasets

    return isinstance(kind, datasets.ClassLabel) or (
        isinstance(kind, datasets.Value)
        and kind.dtype.startswith(("bool", "int", "uint", "float", "string", "large_string", "null"))
    )


def _type(kind: Any) -> str:
    """A column's type in short."""
    import datasets

    return "a list" if isinstance(kind, datasets.List | list) else str(getattr(kind, "dtype", kind))[:60]


def _whole(value: float) -> bool:
    """Whether a float is a whole number. Tables store integers as floats if a label is missing."""
    return value != value or value.is_integer()


def _value(value: Any) -> Any:
    """A label in comparable form; None if it is missing."""
    if isinstance(value, float):
        return None if value != value else int(value)
    return None if isinstance(value, str) and not value.strip() else value


def _labelled(column: Sequence[Any], spec: SourceSpec, classes: bool) -> np.ndarray:
    """The numbers of the labelled rows. A negative number stands for a missing label, but -1 beside only 1 is a class.

    Args:
        classes: whether the numbers are those of named classes.

    Raises:
        UserError: for several negative numbers, which may be classes.
    """
    values = set(column) - {None}
    signs = not classes and set(map(str, values)) == {"-1", "1"}
    negative = {value for value in values if re.fullmatch(r"-\d+", str(value))} if not signs else set()
    if len(negative) > 1:
        raise UserError(
            f"source: {spec.dataset}: column '{spec.label}' holds several negative numbers "
            f"({listed(sorted(map(str, negative)), SHOWN)}), which may be classes or missing labels",
            next=ONE_CLASS,
        )
    missing = [value is None or value in negative for value in column]
    return np.flatnonzero(~np.asarray(missing, dtype=bool))


def check(labels: Labels, spec: SourceSpec) -> None:
    """Refuse labels without a name, too many classes, and names that are no text. Warn of doubtful names."""
    numbers, names = labels.numbers, labels.names
    where = f"source: {spec.dataset}: column '{spec.label}'"
    if not 0 < len(names) <= limits.CLASSES:
        raise UserError(f"{where} has {len(names)} classes; 1 to {limits.CLASSES} are read", next=ONE_CLASS)
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= len(names):
        raise UserError(f"{where} has values outside 0..{len(names) - 1}, its classes", next="name every class")
    odd = next((name for name in names if not is_text(name) or len(name) > limits.CLASS_NAME), None)
    if odd is not None:
        text = f"class {odd[:60]!r} is no text of one line of {limits.CLASS_NAME} characters or less"
        raise UserError(f"{where}: {text}", next="rename it")
    for doubt in _doubts(names):
        warn_once(f"{spec.dataset}: column '{spec.label}': {doubt}")


def _doubts(names: Sequence[str]) -> list[str]:
    """Odd things about class names: those of missing labels, and those that differ only in case or spaces."""
    known, told = set(names), []
    for name in names:
        word = name.strip().lower()
        numbered = name.isdecimal() and str(int(name) - 1) in known  # one of many numbered classes
        if (word in DOUBTFUL and not numbered) or re.fullmatch(r"-\d+", word):
            told.append(f"'{name}' is read as a class; nothing, or -1 as a number, stands for no label")
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(plain(name), []).append(name)
    pairs = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    return told + ([f"classes differ only in case or spaces: {listed(pairs, SHOWN)}"] if pairs else [])
