"""Strict JSON for files of strangers: limited size and depth, no duplicate key, no NaN, only valid text."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ddhub.base import files, limits
from ddhub.base.errors import UserError

SMALL = 10**6  # bytes of a small file in a cache or beside rows


def read(path: Path, most: int = limits.JSON_BYTES, values: int = limits.JSON_VALUES) -> Any:
    """The content of a JSON file of at most `most` bytes and `values` values.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    try:
        with files.regular(path) as file:
            content = file.read(most + 1)
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror})") from fault
    return parse(content, str(path), most, values)


def known(path: Path, most: int = SMALL) -> dict[str, Any]:
    """The keys and values of a small JSON file; empty if it is missing, damaged, or no object."""
    with contextlib.suppress(UserError):
        found = read(path, most)
        return found if isinstance(found, dict) else {}
    return {}


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file. Torn and damaged lines are skipped."""
    return (found for found in every_line(path) if found is not None)


def every_line(path: Path) -> Iterator[dict[str, Any] | None]:
    """As `lines`, with None for each skipped line. An unreadable file gives nothing."""
    content = b""
    with contextlib.suppress(OSError, UserError), files.regular(path) as file:
        content = file.read()
    for line in content.splitlines():
        found = None
        with contextlib.suppress(UserError):
            found = parse(line, str(path))
        yield found if isinstance(found, dict) else None


def parse(content: bytes | str, where: str, most: int = limits.JSON_BYTES, values: int = limits.JSON_VALUES) -> Any:
    """The content of a JSON document.

    Raises:
        UserError: a message that opens with `where`.
    """
    if len(content) > most:
        raise UserError(f"{where}: not readable as JSON: more than {most} bytes")
    raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    if raw.count(b"[") + raw.count(b"{") + raw.count(b",") > values:
        raise UserError(f"{where}: not readable as JSON: more than {values} values")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_float, parse_int=_int)
        _check_texts(found)
    except (ValueError, RecursionError) as fault:
        raise UserError(f"{where}: not readable as JSON: {str(fault)[:200]}") from fault
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {twice[:60]!r} is there twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > 20 or not -limits.INTEGER <= int(text) < limits.INTEGER:
        raise ValueError(f"{text[:20]} is too large")
    return int(text)


def _check_texts(found: Any) -> None:
    """Refuse content that is nested too deep, and lone surrogates, which no file can hold."""
    level = [found]
    for _ in range(limits.DEPTH):
        texts = [text for each in level if isinstance(each, dict) for text in each]
        texts += [each for each in level if isinstance(each, str)]
        "".join(texts).encode()
        lists = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for inner in lists for each in inner]
        if not level:
            return
    raise ValueError(f"more than {limits.DEPTH} levels deep")
