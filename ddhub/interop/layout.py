"""The contract of a layout of another tool's sets, checked when a layout is loaded.

A layout is a file with `LAYOUT = Layout(...)`. Files in `ddhub/interop/layouts` are found by name, others by path, as
`--layout ./mine.py`. A package offers a layout as an entry point of the group `ddhub.layouts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddhub.base import plugins
from ddhub.base.errors import UserError
from ddhub.base.plugins import Code

if TYPE_CHECKING:
    from ddhub.interop.reading import Foreign, Reading

FORMS = ("logits", "probabilities", "regression", "hard")
# Fields of Reading that concern some layouts only. They have the names of the command's options.
CHOICES = ("experiment", "factor", "image", "label", "split", "config", "range", "background")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout: how its sets are recognised, read and written."""

    detect: Callable[[Path, Reading], bool]
    """Whether a file, folder or Hub id holds a set of this layout. `--layout auto` asks all layouts."""

    read: Callable[[Path, Reading], Foreign]
    """Reads the set at a path without running any of it. It raises UserError for missing or malformed parts."""

    write: Callable[..., None] | None = None
    """Writes an Artifact into an empty folder; None for a layout that is only read."""

    holds: tuple[str, ...] = ("hard",)
    """The label forms that `write` can store, out of FORMS. Without `hard`, sets of hard labels are refused."""

    uses: tuple[str, ...] | None = None
    """The fields of Reading that `read` uses, out of CHOICES. An import refuses the others. None: not known."""

    by_place: tuple[str, ...] = ()
    """The label forms that are stored without classes: an image has its class from its place. Classes must be equal."""

    named: bool = False
    """Whether `write` takes a third argument. If that is true, it names class folders by their classes."""

    code: Code | None = None
    """The origin of the code, if it is not ddhub's own. It is filled in on loading."""


def load(name: str) -> Layout:
    """Load a layout by name: ddhub's own, an installed package's, or a file.

    Raises:
        UserError: for an unknown name, and for a plug-in that breaks the contract, with its faults.
    """
    layout: Layout = plugins.LAYOUTS.load(name, faults)
    return layout


def refuse_unused(how: Reading, layout: str, where: str) -> None:
    """Refuse a statement that a layout makes no use of, because the set would not be read as stated.

    Raises:
        UserError: naming the option, and the layouts that use it.
    """
    uses = load(layout).uses
    unused = () if uses is None else (name for name in CHOICES if name not in uses)
    ignored = next((name for name in unused if getattr(how, name) != getattr(type(how)(), name)), None)
    if ignored is not None:
        others = [name for name, each in plugins.LAYOUTS.every(load).items() if ignored in (each.uses or ())]
        raise UserError(
            f"--{ignored}: {where} was read as the layout {layout}, which has no such option",
            next=f"without --{ignored}; or --layout {' or '.join(others)}, if it has that layout",
        )


def faults(plugin: Any) -> list[str]:
    """The faults of an object as a layout, one line each."""
    if not isinstance(plugin, Layout):
        return [f"is {type(plugin).__name__}, not Layout(detect=detect, read=read) of ddhub.interop.layout"]
    found = plugins.function_faults(detect=(plugin.detect, "path", "how"), read=(plugin.read, "path", "how"))
    if plugin.write is not None:
        named = ("named",) if plugin.named else ()
        found += plugins.function_faults(write=(plugin.write, "found", "folder", *named))
    if not isinstance(plugin.holds, tuple) or not plugin.holds or not set(plugin.holds) <= set(FORMS):
        found.append(f"holds: is no tuple of some of {', '.join(FORMS)}, but {plugin.holds!r}")
    uses = () if plugin.uses is None else plugin.uses
    if not isinstance(uses, tuple) or not set(uses) <= set(CHOICES):
        found.append(f"uses: is no tuple of some of {', '.join(CHOICES)}, but {uses!r}")
    return found
