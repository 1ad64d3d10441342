"""One parquet file of a set, as strangers may have made it: looked at first, then read a row group at a time.

A few bytes can stand for any number of rows, or for rows of any size. So the footer is compared with what rows of a set
can hold. Nothing is unpacked before.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ddhub.base import files, limits
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.base.units import size

GROUP_ROWS = 500
BATCH_BYTES = 2 * 10**9  # that one batch may unpack to
HEADERS = 2**16  # bytes that an encoded image may have beside twice its pixels
PICTURE = "image.bytes"  # the column of encoded images, as parquet calls it


def batches(
    path: Path, columns: Sequence[str] | None = None, shape: tuple[int, int, int] = (3, limits.SIDE, limits.SIDE)
) -> Iterator[Any]:
    """The row groups of one file, or parts of them, as arrow batches; None reads all columns."""
    file = opened(path)
    with readable(path):
        _check_footer(file.metadata, path, math.prod(shape))
        largest = max((column.total_uncompressed_size for _, column in _columns(file.metadata)), default=0)
    # All rows may be one picture that is stored once: a batch of them unpacks to that many times its size.
    rows = max(1, min(GROUP_ROWS, BATCH_BYTES // max(1, largest)))
    with readable(path):
        yield from file.iter_batches(rows, columns=columns and list(columns))


def value_types(path: Path) -> dict[str, str]:
    """The columns of a file in order, and what arrow calls the type of their values, also of those in arrays."""
    schema = opened(path).schema_arrow
    with readable(path):
        return {field.name: _value_type(field.type) for field in schema}


def _value_type(kind: Any) -> str:
    while hasattr(kind, "storage_type") or hasattr(kind, "value_type"):
        kind = kind.storage_type if hasattr(kind, "storage_type") else kind.value_type
    return str(kind)


def _columns(footer: Any) -> list[tuple[int, Any]]:
    """The stored pieces of a file's columns, each with the rows that it is of."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return [(group.num_rows, group.column(number)) for group in groups for number in range(group.num_columns)]


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of one file what arrow, or whoever reads its columns, stumbles over: a stranger's types can be any."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
        raise UserError(f"{path}: cannot be read: {one_line(fault)}") from fault


def opened(path: Path) -> Any:
    """A file by its footer."""
    import pyarrow.parquet as pq

    with readable(path):
        files.refuse_odd(path)
        return pq.ParquetFile(path)


def _check_footer(footer: Any, path: Path, pixels: int) -> None:
    """Refuse what would unpack to more than such rows hold: a few bytes of a file can stand for any number of rows."""
    columns = _columns(footer)
    packed = sum(column.total_uncompressed_size for _, column in columns)
    counts = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    if footer.num_rows != sum(counts) or min(counts, default=0) < 0:
        raise UserError(f"{path}: cannot be read: its row groups do not add up to its {footer.num_rows} rows")
    for rows, column in columns:
        name = column.path_in_schema.split(".")[0]
        most = rows * (pixels if name == "pixels" else limits.CLASSES)
        room = max(1, rows) * (2 * pixels + HEADERS)
        picture = column.path_in_schema == PICTURE and column.total_uncompressed_size > room
        if column.num_values > most or picture:
            raise UserError(f"{path}: column '{name}' holds more than {rows} rows of such a set can")
    if packed > limits.SET_BYTES:
        raise UserError(f"{path}: unpacks to {size(packed)}, more than the {size(limits.SET_BYTES)} that are read")


def each_picture(batch: Any) -> Iterator[Any]:
    """The encoded images of a batch one by one: many rows can share the bytes of one large picture."""
    column = batch.column("image")
    return (column[number].as_py() for number in range(len(column)))
