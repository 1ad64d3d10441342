"""One parquet file, possibly a stranger's: its footer is checked first, then row groups are read.

A few bytes can claim any number of rows, or rows of any size. The footer is therefore compared with the most that rows
of a set can hold, before anything is unpacked.
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
BATCH_BYTES = 2 * 10**9  # the most that one batch may unpack to
HEADERS = 2**16  # bytes of an encoded image beyond twice its pixels
PICTURE = "image.bytes"  # parquet's name for the column of encoded images


def batches(
    path: Path, columns: Sequence[str] | None = None, shape: tuple[int, int, int] = (3, limits.SIDE, limits.SIDE)
) -> Iterator[Any]:
    """The row groups of a file, or parts of them, as arrow batches. `columns` None reads all columns."""
    file = opened(path)
    with readable(path):
        _check_footer(file.metadata, path, math.prod(shape))
        largest = max((column.total_uncompressed_size for _, column in _columns(file.metadata)), default=0)
    # All rows may share one stored picture. A batch then unpacks to many times its stored size.
    rows = max(1, min(GROUP_ROWS, BATCH_BYTES // max(1, largest)))
    with readable(path):
        yield from file.iter_batches(rows, columns=columns and list(columns))


def value_types(path: Path) -> dict[str, str]:
    """The columns of a file in order, with arrow's name for the type of their values or array items."""
    schema = opened(path).schema_arrow
    with readable(path):
        return {field.name: _value_type(field.type) for field in schema}


def _value_type(kind: Any) -> str:
    while hasattr(kind, "storage_type") or hasattr(kind, "value_type"):
        kind = kind.storage_type if hasattr(kind, "storage_type") else kind.value_type
    return str(kind)


def _columns(footer: Any) -> list[tuple[int, Any]]:
    """The stored pieces of a file's columns, each with its number of rows."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return [(group.num_rows, group.column(number)) for group in groups for number in range(group.num_columns)]


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn any fault of reading one file into a UserError. A stranger's types can raise anything."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
        raise UserError(f"{path}: cannot be read: {one_line(fault)}") from fault


def opened(path: Path) -> Any:
    """Open a file and read its footer."""
    import pyarrow.parquet as pq

    with readable(path):
        files.refuse_odd(path)
        return pq.ParquetFile(path)


def _check_footer(footer: Any, path: Path, pixels: int) -> None:
    """Refuse a file that would unpack to more than its rows can hold."""
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
    """The encoded images of a batch, one at a time. Many rows can share the bytes of one large picture."""
    column = batch.column("image")
    return (column[number].as_py() for number in range(len(column)))
