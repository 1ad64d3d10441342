"""Plug-ins by file name: `method: {name: apm}` is `ddhub/methods/apm.py`; nothing else has to be edited."""

import importlib
from types import ModuleType

from ddhub.errors import UserError
from ddhub.files import PACKAGE
from ddhub.schema import did_you_mean


def names(kind: str) -> list[str]:
    """The plug-ins of a kind (`methods`), sorted: the file names in its folder."""
    return sorted(file.stem for file in (PACKAGE / kind).glob("*.py") if not file.stem.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import one plug-in.

    Raises:
        UserError: for a name that has no file; says which there are.
    """
    if name not in names(kind):
        raise UserError(f"{kind}: no '{name}'{did_you_mean(name, names(kind))}", next=f"ls {PACKAGE / kind}")
    return importlib.import_module(f"ddhub.{kind}.{name}")
