"""Finding the columns of images and labels in a dataset."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean
from ddhub.data import decode
from ddhub.data.spec import SourceSpec

# Usual names of a label column without class names. WebDataset's is cls.
USUAL = ("label", "labels", "class_id", "class", "fine_label", "cls")
LOOKED = 16  # rows of a column that are looked at for pictures
AS_FILES = "store every picture as the bytes of a PNG or JPEG; or name its file in metadata.csv, in a column file_name"


def find(spec: SourceSpec, dataset: Any) -> dict[str, str]:
    """Find the image and label columns, or check the given ones.

    Raises:
        UserError: if a column is missing or unclear, with what to type.
    """
    import datasets

    features = dataset.features
    images = [name for name, kind in features.items() if _holds_images(kind)]
    images = images or [name for name in features if _holds_files(dataset, name)]
    kinds = {name: kind for name, kind in features.items() if name not in images}
    classes = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    classes = classes or [name for name in USUAL if name in kinds]
    found: dict[str, str] = {}
    for key, given, fitting in (("image", spec.image, images), ("label", spec.label, classes)):
        if given is not None and given not in features:
            raise UserError(f"source.{key}: no column '{given}'{did_you_mean(given, list(features))}")
        if key == "label" and given is None and len(features) == 1 and images:
            raise UserError(
                "source: pictures of one class, or of none: a set needs two classes or more",
                next="put the pictures of every class into a folder of its own, or add a table with labels",
            )
        if key == "label" and given is None and not fitting and "__key__" in features:
            raise UserError(
                f"source: {spec.dataset}: tar archives without labels: no file .cls lies beside a picture in them",
                next="unpack each into a folder named by its split, as: mkdir train; tar -xf train.tar -C train",
            )
        if key == "image" and given is None and not fitting:
            raise UserError(f"source.image: no column holds pictures{_types(features)}", next=AS_FILES)
        if key == "label" and given is None and not fitting and spec.path and _in_folders(dataset, found["image"]):
            raise UserError(
                f"source: {spec.path}: the table of file names has no column label ({', '.join(kinds)}), and with a"
                " table `datasets` takes no classes from folders",
                next="move metadata.csv out of the folder, or add a column label to it",
            )
        if given is None and len(fitting) != 1:
            others = list(fitting or kinds)
            raise UserError(
                f"source.{key}: cannot tell which column it is ({', '.join(others)})",
                next=f"--set source.{key}={others[0] if len(others) == 1 else 'NAME'}",
            )
        found[key] = given or fitting[0]
    column = found["image"]
    if column not in images and not _holds_files(dataset, column):
        raise UserError(f"source.image: column '{column}' holds no images{did_you_mean(column, images)}", next=AS_FILES)
    return found


def _in_folders(dataset: Any, column: str) -> bool:
    """Whether pictures of a column are files in several folders."""
    import datasets

    if not isinstance(dataset.features[column], datasets.Image):
        return False
    some = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    paths = [each.get("path") or "" for each in some[:: max(1, len(some) // LOOKED)][column]]
    return len({PurePath(path).parent for path in paths}) > 1


def _types(features: Any) -> str:
    """The columns of a dataset with their types, in short."""
    shown = (f"{name}: {getattr(kind, 'dtype', type(kind).__name__)}" for name, kind in features.items())
    return f" ({', '.join(shown)})"


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
    return any(isinstance(each, bytes) and decode.is_picture(each) for each in _some(dataset, name))


def _some(dataset: Any, name: str) -> Sequence[Any]:
    """Some values of a column, spread over it. The first can be missing or damaged."""
    rows = range(0, len(dataset), -(-len(dataset) // LOOKED))
    found = dataset.select_columns([name])[rows][name]
    return [each.get("bytes") if isinstance(each, dict) else each for each in found]
