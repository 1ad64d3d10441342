"""Amounts of memory and time, read and written in human units."""

import re
from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Seconds as text: `42s`, `5m20s`, `3h05m`, `12d07h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: float) -> str:
    """Bytes as text: `1.3 MB`."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


def counted(number: int, noun: str) -> str:
    """A number with its noun in singular or plural: `1 image`, `2,000 images`, `3 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def listed(names: Sequence[str], most: int) -> str:
    """Names as a list for a sentence, cut to `most`: `a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


MEMORY_UNITS = {unit: 1000 ** (k + 1) for k, unit in enumerate(("KB", "MB", "GB", "TB"))}
MEMORY_UNITS |= {unit: 1024 ** (k + 1) for k, unit in enumerate(("KIB", "MIB", "GIB", "TIB"))}


def memory_bytes(text: str) -> int:
    """Parse `6.5GB`, `500 MB` or `2GiB` into bytes.

    Raises:
        ValueError: for anything else.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]I?B)", text.strip().upper())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is no amount of memory; write it as 4GB or 500MB (KB, MB, GB, TB)")
    return int(float(found[1]) * MEMORY_UNITS[found[2]])
