"""The set's rows as parquet for `datasets`, pandas, polars and duckdb, written and read by row groups.

The functions hold one row group in memory, so a set larger than memory can pass through. torch is imported only to
make tensors. `ddhub verify` uses arrays and does not wait for torch.
Shapes: M synthetic images, C H W image, K classes, B rows of one group, T labels kept of each image.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddhub.artifact import parquet_file
from ddhub.artifact.image_rows import Arrays, Rows
from ddhub.base import files, strict_json
from ddhub.base.errors import UserError
from ddhub.data import decode as decodes

if TYPE_CHECKING:
    from torch import Tensor

SHARD_ROWS = 10_000
GROUP_ROWS = parquet_file.GROUP_ROWS
READ = (
    parquet_file.PICTURE,
    "label",
    "soft_label",
    "soft_index",
    "pixels",
    "group",
)  # other columns are ignored


def write(folder: Path, rows: Rows, classes: Sequence[str]) -> None:
    """Write `data/train-*.parquet`. Soft labels and pixels keep their type.

    Tensors may be memory-mapped. They are read by row groups.

    Raises:
        UserError: if the disk is full or the folder may not be written.
    """
    schema = _features(rows, classes).arrow_schema
    tables = (_table(rows.part(start, stop), schema) for start, stop in _spans(len(rows)))
    _write(folder, tables, schema, len(rows))


def merge(folder: Path, parts: Sequence[tuple[Path, int]], classes: Sequence[str]) -> None:
    """Write the stored rows of several sets as one set. Groups are numbered again.

    Args:
        parts: folder and number of groups of each set. All have the same columns.

    Raises:
        UserError: naming the unreadable file, or if the disk is full.
    """
    schema = _merged_schema(parts[0][0], classes)
    total = sum(count(part) for part, _ in parts)
    _write(folder, _cut(_numbered(parts, schema), total), schema, total)


def _numbered(parts: Sequence[tuple[Path, int]], schema: Any) -> Iterator[Any]:
    """The row groups of several sets in order, with groups numbered on."""
    import pyarrow as pa

    before = 0
    for folder, groups in parts:
        for path in shards(folder):
            for batch in parquet_file.batches(path):
                table = pa.Table.from_batches([batch])
                missing = [name for name in schema.names if name != "group" and name not in table.schema.names]
                if missing:
                    raise UserError(f"{path}: has no column '{missing[0]}', which the first file has")
                own = np.zeros(len(table), np.int16) if groups == 1 else table["group"].to_numpy()
                kept = [table[name] for name in schema.names if name != "group"]
                yield pa.table([*kept, pa.array((own + before).astype(np.int16))], schema=schema)
        before += groups


def _merged_schema(folder: Path, classes: Sequence[str]) -> Any:
    """The columns of a set, with `group`."""
    import datasets

    features = column_features(folder)
    features["label"] = datasets.ClassLabel(names=list(classes))
    features["group"] = datasets.Value("int16")
    return features.arrow_schema


def kinds(folder: Path) -> dict[str, str]:
    """The stored type of each column whose type may differ between sets, by name."""
    import datasets  # noqa: F401 (registers the column type of `pixels` with arrow)

    schema = parquet_file.opened(shards(folder)[0]).schema_arrow
    return {field.name: str(field.type) for field in schema if field.name not in ("label", "group")}


def column_features(folder: Path) -> Any:
    """The columns of a set as `datasets` describes them, from the header of the first data file.

    Raises:
        UserError: if the columns cannot be read.
    """
    import datasets

    path = shards(folder)[0]
    with parquet_file.readable(path):
        features = datasets.Features.from_arrow_schema(parquet_file.opened(path).schema_arrow)
        str(features).encode()  # a lone surrogate cannot be written into a card
    return features


def pictures(folder: Path) -> set[bytes]:
    """The digests of all images as stored, read by row groups."""
    found = set()
    for path in shards(folder):
        for batch in parquet_file.batches(path, [parquet_file.PICTURE]):
            with parquet_file.readable(path):
                found |= {
                    hashlib.blake2b(item["bytes"], digest_size=16).digest() for item in parquet_file.each_picture(batch)
                }
    return found


def _spans(total: int) -> Iterator[tuple[int, int]]:
    """Start and end of each row group. No group crosses the end of a file."""
    for first in range(0, max(1, total), SHARD_ROWS):
        last = min(total, first + SHARD_ROWS)
        yield from ((start, min(last, start + GROUP_ROWS)) for start in range(first, last, GROUP_ROWS))


def _cut(tables: Iterator[Any], total: int) -> Iterator[Any]:
    """Tables of any length, cut into row groups of the usual length."""
    import pyarrow as pa

    held = None
    for start, stop in _spans(total):
        while held is None or len(held) < stop - start:
            new = next(tables)
            held = new if held is None else pa.concat_tables([held, new])
        yield held.slice(0, stop - start)
        held = held.slice(stop - start)


def _write(folder: Path, tables: Iterator[Any], schema: Any, total: int) -> None:
    """Write row groups, as `_spans` cuts them, into as many files as needed."""
    import pyarrow.parquet as pq

    shards = max(1, -(-total // SHARD_ROWS))
    with files.disk_errors(folder, "writing the set"):
        files.make_parent(folder / "data" / "x")
        for shard in range(shards):
            path = folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
            left = min(total - shard * SHARD_ROWS, SHARD_ROWS)
            with pq.ParquetWriter(path, schema) as writer:
                while left > 0:
                    table = next(tables)
                    writer.write_table(table)
                    left -= len(table)
            files.flush(path)


def _features(rows: Rows, classes: Sequence[str]) -> Any:
    """The columns as `datasets` describes them. The file's header carries this description."""
    import datasets

    features: dict[str, Any] = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))}
    for name, column in (("soft_label", rows.soft), ("soft_index", rows.index)):
        if column is not None:
            kind = str(column.dtype).removeprefix("torch.")
            features[name] = datasets.List(datasets.Value(kind), length=column.shape[1])
    if rows.pixels is not None:
        kind = str(rows.pixels.dtype).removeprefix("torch.")
        features["pixels"] = datasets.Array3D(shape=tuple(rows.pixels.shape[1:]), dtype=kind)
    if rows.group is not None:
        features["group"] = datasets.Value("int16")
    return datasets.Features(features)


def _table(rows: Rows, schema: Any) -> Any:
    """Rows as one row group."""
    import pyarrow as pa
    from datasets.features.features import numpy_to_pyarrow_listarray

    images = [{"bytes": png(image), "path": None} for image in rows.images]
    columns = [pa.array(images, type=schema.field("image").type), pa.array(rows.labels.cpu().numpy())]
    for column in (rows.soft, rows.index):
        if column is not None:
            flat = pa.array(column.cpu().numpy().reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, column.shape[1]))
    if rows.pixels is not None:
        kind = schema.field("pixels").type
        nested = numpy_to_pyarrow_listarray(rows.pixels.cpu().numpy()).cast(kind.storage_type)
        columns.append(pa.ExtensionArray.from_storage(kind, nested))
    if rows.group is not None:
        columns.append(pa.array(rows.group.cpu().numpy().astype(np.int16)))
    return pa.table(columns, schema=schema)


def png(image: Tensor) -> bytes:
    """A uint8 image (C, H, W) with one or three channels as PNG bytes."""
    from PIL import Image

    array = image.cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def shards(folder: Path) -> list[Path]:
    """The data files of a set, in order."""
    return sorted((folder / "data").glob("train-*.parquet"))


def count(folder: Path) -> int:
    """The number of rows of a set, from its file footers."""
    return sum(parquet_file.opened(path).metadata.num_rows for path in shards(folder))


def class_names(folder: Path) -> list[str] | None:
    """The class names in the header of the first data file; None if it has none."""
    path = shards(folder)[0]
    with parquet_file.readable(path):
        header = parquet_file.opened(path).schema_arrow.metadata or {}
    try:
        label = strict_json.parse(header[b"huggingface"], f"{path}: header")["info"]["features"]["label"]
        return [str(name) for name in label["names"]]
    except (KeyError, TypeError):
        return None


def read(folder: Path, shape: tuple[int, int, int]) -> Iterator[Rows]:
    """The rows of `data/train-*.parquet` in order, by row groups.

    Args:
        shape: (C, H, W) of every image.

    Raises:
        UserError: naming the file and row that does not fit a set.
    """
    for found in arrays(folder, shape):
        yield found.tensors()


def arrays(folder: Path, shape: tuple[int, int, int]) -> Iterator[Arrays]:
    """As `read`, with arrays in place of tensors."""
    for path in shards(folder):
        seen = 0
        for batch in parquet_file.batches(path, READ, shape):
            if batch.num_rows:
                with parquet_file.readable(path):
                    rows = _rows(batch, shape, path, seen)
                yield rows
            seen += batch.num_rows


def _rows(batch: Any, shape: tuple[int, int, int], path: Path, seen: int) -> Arrays:
    missing = {"image", "label"} - set(batch.schema.names)
    if missing:
        raise UserError(f"{path}: has no column '{missing.pop()}'")
    images = [
        _decoded(item, shape, f"{path}: row {seen + number}")
        for number, item in enumerate(parquet_file.each_picture(batch))
    ]
    found: dict[str, Any] = {"images": np.stack(images), "labels": _integers(batch, "label", path)}
    for name, field in (("soft_label", "soft"), ("soft_index", "index")):
        if name in batch.schema.names:
            found[field] = _lists(batch, name, path)
    if "pixels" in batch.schema.names:
        found["pixels"] = _arrays(batch, path, shape)
    if "group" in batch.schema.names:
        found["group"] = _integers(batch, "group", path)
    return Arrays(**found)


def _decoded(item: Any, shape: tuple[int, int, int], where: str) -> np.ndarray:
    """A stored image as uint8 (C, H, W). Its size is checked before it is decoded."""
    if not isinstance(item, dict) or not isinstance(item.get("bytes"), bytes):
        raise UserError(f"{where}: not an image")
    if len(item["bytes"]) > 2 * math.prod(shape) + parquet_file.HEADERS:
        raise UserError(f"{where}: {len(item['bytes'])} bytes for an image of {shape[2]}x{shape[1]}; refused")

    def decode(image: Any) -> np.ndarray:
        if (image.height, image.width) != shape[1:]:
            raise UserError(f"{where}: an image of {image.width}x{image.height}, not {shape[2]}x{shape[1]}")
        return np.array(image.convert("L" if shape[0] == 1 else "RGB"))

    array = decodes.picture(item["bytes"], where, decode)
    return array[None] if shape[0] == 1 else array.transpose(2, 0, 1)


def _values(column: Any) -> np.ndarray:
    """The values of an arrow array. Numbers need no pandas, which `to_numpy` would import."""
    import pyarrow as pa

    numbers = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    plain = numbers and not column.null_count
    return np.from_dlpack(column) if plain else column.to_numpy(zero_copy_only=False)


def _integers(batch: Any, name: str, path: Path) -> np.ndarray:
    column = batch.column(name)
    if column.null_count or not str(column.type).startswith(("int", "uint")):
        raise UserError(f"{path}: column '{name}' is not one integer per row")
    return _values(column).astype(np.int64)


def _lists(batch: Any, name: str, path: Path) -> np.ndarray:
    """A column of equally long lists as (B, length), in its stored type."""
    import pyarrow as pa

    column = batch.column(name)
    if not isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        raise UserError(f"{path}: column '{name}' is not a list of numbers per row")
    values = _values(column.flatten())
    width = len(values) // max(1, len(column))
    fixed = getattr(column.type, "list_size", None) == width
    lengths = {width} if fixed else set(column.value_lengths().to_pylist())
    kind = "i" if name == "soft_index" else "f"
    if column.null_count or lengths != {width} or values.dtype.kind != kind:
        raise UserError(f"{path}: column '{name}' is not {width} numbers per row")
    return values.reshape(len(column), width).copy()


def _arrays(batch: Any, path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    import pyarrow as pa

    column = batch.column("pixels")
    storage = getattr(column, "storage", column)
    while isinstance(storage, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        storage = storage.flatten()
    values = _values(storage)
    if column.null_count or values.size != len(column) * int(np.prod(shape)) or values.dtype.kind != "f":
        raise UserError(f"{path}: column 'pixels' is not {shape[0]}x{shape[1]}x{shape[2]} numbers per row")
    return values.reshape(len(column), *shape).copy()
