"""Reports of rows that tests write as plain keys and values."""

from collections.abc import Iterable, Sequence
from typing import Any

from ddhub.evaluation.rows import Row
from ddhub.reports import compare, summary
from ddhub.reports.documents import Evaluation, Report

Keys = dict[str, Any]


NAMES = ("arch", "protocol", "data", "test_set", "test", "hardware")


def typed(rows: Iterable[Keys]) -> list[Row]:
    """The rows as if they were read from files, but for their names: whatever prints these is safe of itself."""
    return [_row(row) for row in rows]


def _row(keys: Keys) -> Row:
    names = {name: keys[name] for name in NAMES if name in keys}
    row = Row.model_validate({**keys, **dict.fromkeys(names, "x")}).model_copy(update=names)
    row._content = keys
    return row


def built(name: str, rows: Iterable[Keys]) -> Evaluation:
    """The report of one set."""
    return summary.build(name, typed(rows))


def compared(sets: Sequence[tuple[str, Iterable[Keys]]]) -> Report:
    """The report of several sets side by side."""
    return compare.build([(name, typed(rows)) for name, rows in sets])
