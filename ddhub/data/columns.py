"""Which columns of a dataset are images and labels, and what they hold: size, channels, classes."""

from typing import Any

import numpy as np

from ddhub.base import limits
from ddhub.base.errors import UserError
from ddhub.base.redact import is_text
from ddhub.base.schema import did_you_mean
from ddhub.data import decode
from ddhub.data.spec import SourceSpec


def find(spec: SourceSpec, dataset: Any) -> dict[str, str]:
    """The image and label columns: those given, checked, or the only ones that fit."""
    import datasets

    features = dataset.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    kinds = {name: kind for name, kind in features.items() if name not in images}
    labels = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [name for name in ("label", "labels", "class_id", "class", "fine_label") if name in kinds]
    found = {}
    for key, given, fitting in (("image", spec.image, images), ("label", spec.label, labels)):
        if given is not None and given not in features:
            raise UserError(f"source.{key}: no column '{given}'{did_you_mean(given, list(features))}")
        if given is None and len(fitting) != 1:
            candidates = ", ".join(fitting or features)
            raise UserError(
                f"source.{key}: cannot tell which column it is ({candidates})",
                next=f"--set source.{key}=NAME",
            )
        found[key] = given or fitting[0]
    if found["image"] not in images:
        raise UserError(
            f"source.image: column '{found['image']}' holds no images{did_you_mean(found['image'], images)}"
        )
    return found


def labels(dataset: Any, spec: SourceSpec) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integer labels (N,) and the class names."""
    import datasets

    kind = dataset.features[spec.label]
    known = isinstance(kind, datasets.ClassLabel) or (
        isinstance(kind, datasets.Value) and kind.dtype.startswith(("bool", "int", "uint", "string", "large_string"))
    )
    if not known:
        raise UserError(f"source: {spec.dataset}: column '{spec.label}' holds neither classes nor numbers nor words")
    column = dataset[spec.label][:]
    values = set(column)
    if None in values or values == {-1} or (hasattr(kind, "names") and -1 in values):
        raise UserError(f"source: {spec.dataset}: the split has no labels (they are hidden); choose another split")
    if hasattr(kind, "names"):
        numbers, names = np.asarray(column, dtype=np.int64), tuple(kind.names)
    else:  # plain integers or strings: the classes are the values seen, in order
        places = {value: place for place, value in enumerate(sorted(values))}
        numbers, names = np.asarray([places[value] for value in column], dtype=np.int64), tuple(map(str, places))
    _check_classes(spec, numbers, names)
    return numbers, names


def _check_classes(spec: SourceSpec, numbers: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse labels without a name, more classes than anybody has, and names that are no text."""
    where = f"source: {spec.dataset}: column '{spec.label}'"
    if not 0 < len(names) <= limits.CLASSES:
        raise UserError(f"{where} has {len(names)} classes; 1 to {limits.CLASSES} are read")
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= len(names):
        raise UserError(f"{where} has values outside 0..{len(names) - 1}, its classes")
    odd = next((name for name in names if not is_text(name) or len(name) > limits.CLASS_NAME), None)
    if odd is not None:
        raise UserError(f"{where}: class {odd[:60]!r} is no text of one line of {limits.CLASS_NAME} characters or less")


def shape(spec: SourceSpec, dataset: Any) -> dict[str, int]:
    """Resolution and channels: those given, or what a probe of the first images shows."""
    assert spec.image
    first = decode.encoded(dataset.select(range(min(32, len(dataset)))), spec.image)[spec.image]
    probe = [decode.opened(item, spec, lambda image: (image.mode, image.size)) for item in first]
    if not probe:
        raise UserError(f"source: {spec.dataset}: the split is empty")
    grey = all(mode in ("1", "L", "LA", "I", "I;16", "F") for mode, _ in probe)
    sides = {size for _, size in probe}
    side = spec.resolution
    if side is None:
        if len(sides) > 1 or len(set(*sides)) > 1:
            raise UserError(
                f"source.resolution: images have different sizes or are not square, {sorted(sides)[:3]}...",
                next="--set source.resolution=64 (images are resized to a square by a box filter)",
            )
        side = sides.pop()[0]
    if not 4 <= side <= limits.SIDE:
        raise UserError(f"source.resolution: images of {side} pixels a side; 4 to {limits.SIDE} are read")
    return {"resolution": side, "channels": spec.channels or (1 if grey else 3)}
