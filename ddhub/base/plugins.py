"""Plug-ins by file name: `method: {name: apm}` is `ddhub/distillation/methods/apm.py`; nothing else has to be edited."""

import importlib
import pkgutil
from types import ModuleType

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean


def names(kind: str) -> list[str]:
    """The plug-ins of a kind (`methods`), sorted: the file names in its folder."""
    folder = importlib.import_module(f"ddhub.{kind}").__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import one plug-in.

    Raises:
        UserError: for a name that has no file; says which there are.
    """
    if name not in names(kind):
        raise UserError(f"{kind}: no '{name}'{did_you_mean(name, names(kind))}")
    return importlib.import_module(f"ddhub.{kind}.{name}")
