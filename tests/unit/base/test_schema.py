"""Faults of documents are said in people's words, at the place as the document has it."""

from typing import Literal

import pytest
from pydantic import Field

from ddhub.base import schema
from ddhub.base.schema import Count, Rate, Strict


class Inner(Strict):
    size: Count


class Outer(Strict):
    rates: list[Rate] = Field(default=[])
    table: list[list[Count]] = Field(default=[])
    files: dict[str, Inner] = Field(default={})
    either: Count | Literal["auto"] | None = None
    inner: Inner | None = None
    kind: Literal["a", "b"] = "a"
    share: float = Field(default=0.5, gt=0, lt=1)


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"rates": [1.0, 0.0]}, "rates.1: expected number > 0 and <= 1,000,000, got 0.0"),
        ({"table": [[1], [1, -1]]}, "table.1.1: expected whole number > 0 and <= 1,000,000,000, got -1"),
        (
            {"files": {"a/b.json": {"size": 0}}},
            "files.a/b.json.size: expected whole number > 0 and <= 1,000,000,000, got 0",
        ),
        ({"inner": {"size": "x"}}, "inner.size: expected a whole number, got 'x'"),
        ({"inner": {"sise": 1}}, "inner.sise: unknown key; did you mean 'size'?"),
        ({"kind": "c"}, "kind: expected a or b, got 'c'"),
        ({"share": float("nan")}, "share: expected number > 0 and < 1, got nan"),
    ],
)
def test_a_fault_names_its_place_and_what_may_be_there(told, fault):
    """Items of lists, values below names, and what is optional too."""
    assert fault in schema.check(Outer, told)[1]


def test_what_a_union_refuses_is_one_line():
    """Its branches are no part of the place."""
    (fault,) = schema.check(Outer, {"either": "never"})[1]
    assert fault.startswith("either: expected whole number > 0 and <= 1,000,000,000 or auto or null")
