"""What a layout of another tool's sets is: the whole contract, checked when one is loaded.

A layout is a file with `LAYOUT = Layout(...)`: in `ddhub/interop/layouts`, found by its name, or anywhere else as
`--layout ./mine.py`. A package offers one as an entry point of the group `ddhub.layouts`, which names the object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddhub.base import plugins
from ddhub.base.plugins import Code, takes

if TYPE_CHECKING:
    from ddhub.interop.reading import Foreign, Reading

FORMS = ("logits", "probabilities", "regression", "hard")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout: how its sets are told from others, read, and written."""

    detect: Callable[[Path, Reading], bool]
    """Whether a file, a folder or a Hub id holds a set of this layout; asked with `--layout auto` of all layouts."""

    read: Callable[[Path, Reading], Foreign]
    """Reads the set at a path, and raises UserError for what is missing or of a wrong form. It runs nothing of it."""

    write: Callable[..., None] | None = None
    """Writes an Artifact into an empty folder; None where sets are only read."""

    holds: tuple[str, ...] = ("hard",)
    """The forms of labels that `write` has a place for, of FORMS; without `hard`, sets of hard labels are refused."""

    named: bool = False
    """Whether `write` takes a third argument, and where it is true calls folders of classes by the classes' names."""

    code: Code | None = None
    """Whose code it is, where it is not ddhub's own; filled in when it is loaded."""


def load(name: str) -> Layout:
    """The layout of a name: ddhub's own, an installed package's, or a file.

    Raises:
        UserError: for a name that nobody has, and for a plug-in that breaks the contract; says how.
    """
    found = plugins.LAYOUTS.find(name)
    plugins.refuse("layout", name, found.code, faults(found.plugin))
    layout: Layout = found.plugin
    return dataclasses.replace(layout, code=found.code)


def faults(plugin: Any) -> list[str]:
    """What keeps an object from being a layout: one line per fault."""
    if not isinstance(plugin, Layout):
        return [f"is {type(plugin).__name__}, not Layout(detect=detect, read=read) of ddhub.interop.layout"]
    found = []
    for what, function, arguments in (
        ("detect", plugin.detect, ("path", "how")),
        ("read", plugin.read, ("path", "how")),
        ("write", plugin.write, ("found", "folder", "named") if plugin.named else ("found", "folder")),
    ):
        wrong = None if what == "write" and function is None else takes(function, *arguments)
        found += [f"{what}: {wrong}"] if wrong else []
    if not isinstance(plugin.holds, tuple) or not plugin.holds or not set(plugin.holds) <= set(FORMS):
        found.append(f"holds: is no tuple of some of {', '.join(FORMS)}, but {plugin.holds!r}")
    return found
