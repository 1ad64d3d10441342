"""Finding the columns of images and labels in a dataset, and the classes of the labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddhub.base import limits
from ddhub.base.errors import UserError
from ddhub.base.redact import is_text
from ddhub.base.schema import did_you_mean
from ddhub.data import decode
from ddhub.data.spec import SourceSpec

USUAL = ("label", "labels", "class_id", "class", "fine_label")  # usual names of a label column without class names
UNLABELLED = -1  # the number for a missing label


def find(spec: SourceSpec, dataset: Any) -> tuple[Any, dict[str, str]]:
    """Find the image and label columns, or check the given ones. Return the dataset with its images typed as images."""
    import datasets

    features = dataset.features
    images = [name for name, kind in features.items() if _holds_images(kind)]
    images = images or [name for name in features if _holds_files(dataset, name)]
    kinds = {name: kind for name, kind in features.items() if name not in images}
    classes = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    classes = classes or [name for name in USUAL if name in kinds]
    found = {}
    for key, given, fitting in (("image", spec.image, images), ("label", spec.label, classes)):
        if given is not None and given not in features:
            raise UserError(f"source.{key}: no column '{given}'{did_you_mean(given, list(features))}")
        if key == "label" and given is None and len(features) == 1 and images:
            raise UserError(
                "source: pictures of one class, or of none: a set needs two classes or more",
                next="put the pictures of every class into a folder of its own, or add a table with labels",
            )
        if given is None and len(fitting) != 1:
            others = list(fitting or (features if key == "image" else kinds))
            raise UserError(
                f"source.{key}: cannot tell which column it is ({', '.join(others)})",
                next=f"--set source.{key}={others[0] if len(others) == 1 else 'NAME'}",
            )
        found[key] = given or fitting[0]
    column = found["image"]
    if column not in images and not _holds_files(dataset, column):
        raise UserError(
            f"source.image: column '{column}' holds no images{did_you_mean(column, images)}",
            next="paths are read from metadata.csv beside the pictures, with columns file_name and label",
        )
    if not _holds_images(features[column]):
        dataset = dataset.cast_column(column, datasets.Image())
    return dataset, found


def _holds_images(kind: Any) -> bool:
    """Whether a column's type is an image or a list of images."""
    import datasets

    return isinstance(kind, datasets.Image) or (
        isinstance(kind, datasets.List) and isinstance(kind.feature, datasets.Image)
    )


def _holds_files(dataset: Any, name: str) -> bool:
    """Whether a column without a type of `datasets` holds encoded images: bytes, alone or with a path."""
    import datasets

    kind = dataset.features[name]
    binary = kind.get("bytes") if isinstance(kind, dict) and set(kind) <= {"bytes", "path"} else kind
    if not isinstance(binary, datasets.Value) or binary.dtype not in ("binary", "large_binary") or not len(dataset):
        return False
    first = dataset.select_columns([name])[0][name]
    content = first.get("bytes") if isinstance(first, dict) else first
    return isinstance(content, bytes) and decode.is_picture(content)


@dataclass(frozen=True)
class Labels:
    """The labels of the n labelled rows."""

    numbers: np.ndarray  # int64 (n,)
    names: tuple[str, ...]  # class names, in the order of their numbers
    rows: np.ndarray  # (n,) row numbers in the dataset, ascending


def labels(dataset: Any, spec: SourceSpec) -> Labels:
    """Read the labels of all labelled rows.

    Raises:
        UserError: if no row is labelled, or if values are no classes.
    """
    import datasets

    kind = dataset.features[spec.label]
    known = isinstance(kind, datasets.ClassLabel) or (
        isinstance(kind, datasets.Value)
        and kind.dtype.startswith(("bool", "int", "uint", "float", "string", "large_string"))
    )
    column = dataset.select_columns([spec.label])[spec.label][:]
    known = known and all(value is None or not isinstance(value, float) or _whole(value) for value in column)
    if not known:
        raise UserError(f"source: {spec.dataset}: column '{spec.label}' holds neither classes nor numbers nor words")
    column = [_value(value) for value in column]
    signs = set(column) <= {-1, 1} and 1 in column and not hasattr(kind, "names")  # two classes named by their sign
    missing = [value is None or (value == UNLABELLED and not signs) for value in column]
    rows = np.flatnonzero(~np.asarray(missing, dtype=bool))
    if not len(rows):
        key = "train" if str(dataset.split) == spec.train else "test"
        raise UserError(
            f"source: {spec.dataset}: split '{dataset.split}' has no labels (they are hidden)",
            next=f"--set source.{key}=SPLIT, a split that has labels",
        )
    given = [column[row] for row in rows]
    if hasattr(kind, "names"):
        numbers, names = np.asarray(given, dtype=np.int64), tuple(kind.names)
    else:  # plain integers or strings: the sorted values are the classes
        places = {value: place for place, value in enumerate(sorted(set(given)))}
        numbers, names = np.asarray([places[value] for value in given], dtype=np.int64), tuple(map(str, places))
    _check_classes(spec, numbers, names)
    return Labels(numbers, names, rows)


def _whole(value: float) -> bool:
    """Whether a float is a whole number. Tables store integers as floats if a label is missing."""
    return value != value or value.is_integer()


def _value(value: Any) -> Any:
    """A label in comparable form; None if it is missing."""
    if isinstance(value, float):
        return None if value != value else int(value)
    return None if isinstance(value, str) and not value.strip() else value


def _check_classes(spec: SourceSpec, numbers: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse labels without a name, too many classes, and names that are no text."""
    where = f"source: {spec.dataset}: column '{spec.label}'"
    if not 0 < len(names) <= limits.CLASSES:
        raise UserError(f"{where} has {len(names)} classes; 1 to {limits.CLASSES} are read")
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= len(names):
        raise UserError(f"{where} has values outside 0..{len(names) - 1}, its classes")
    odd = next((name for name in names if not is_text(name) or len(name) > limits.CLASS_NAME), None)
    if odd is not None:
        raise UserError(f"{where}: class {odd[:60]!r} is no text of one line of {limits.CLASS_NAME} characters or less")
