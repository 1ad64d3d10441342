"""What the tests of strangers' files share: how many examples are tried, what counts as refused, how bytes are spoilt.

DDHUB_FUZZ=5000 tries so many examples of each test, new ones every time; without it they are few, and always the same.
"""

import os
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings

from ddhub.base.errors import UserError

LONG = os.environ.get("DDHUB_FUZZ")


def fuzzed(examples: int) -> settings:
    """So many examples; fewer for what is slow."""
    return settings(
        max_examples=int(LONG) if LONG else examples,
        derandomize=LONG is None,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # making a failing example smaller takes minutes
        suppress_health_check=list(HealthCheck),
    )


def said(call: Callable[[], Any], *words: str) -> str | None:
    """What a call is refused with, which names each of `words`, or None; any other fault fails the test."""
    try:
        call()
    except UserError as fault:
        message = str(fault)
        assert message.strip() and len(message) < 10_000 and "Traceback" not in message
        assert message.isprintable() or all(line.isprintable() for line in message.splitlines())
        for word in words:
            assert word in message, message
        return message
    return None


def refused(call: Callable[[], Any], *words: str) -> str:
    """The same of what must be refused."""
    message = said(call, *words)
    assert message is not None, "was not refused"
    return message


# Changes of a file: a byte set again, a stretch cut out, a stretch put in; places are fractions of its length.
CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "put"]), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


def spoiled(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes after CHANGES."""
    for kind, place, piece in changes:
        at = int(place * len(content))
        rest = content[at:] if kind == "put" else content[at + len(piece) :]
        content = content[:at] + (b"" if kind == "cut" else piece) + rest
    return content


# Any JSON value, odd ones among them.
ODD = st.sampled_from(
    [float("nan"), float("inf"), 10**400, 2**64, -1, 0, 1.5, "", "\ud800", "\x1b[31m", None, True, []]
)
VALUES = st.recursive(
    ODD | st.text(max_size=8) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def mutated(draw: Any, content: Any) -> Any:
    """A JSON-like value with one to three of its parts replaced, taken out or added."""
    content = _copied(content)
    for _ in range(draw(st.integers(1, 3))):
        place = content
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            how = draw(st.sampled_from(["replace", "remove", "add"]))
            if how == "remove":
                del place[key]
            elif how == "add" and isinstance(place, dict):
                place[draw(st.text(max_size=8))] = draw(VALUES)
            else:
                place[key] = draw(VALUES)
            break
    return content


def _copied(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    return [_copied(value) for value in content] if isinstance(content, list) else content
