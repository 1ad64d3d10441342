"""Plug-ins by file name: `method: {name: apm}` is the file `apm.py` of the methods' folder; nothing else is edited."""

import importlib
import pkgutil
from types import ModuleType

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean

FOLDERS = {"methods": "ddhub.distillation.methods", "layouts": "ddhub.interop.layouts"}


def names(kind: str) -> list[str]:
    """The plug-ins of a kind (`methods`), sorted: the file names in its folder."""
    folder = importlib.import_module(FOLDERS[kind]).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import one plug-in.

    Raises:
        UserError: for a name that has no file; says which there are.
    """
    if name not in names(kind):
        raise UserError(f"{kind}: no '{name}'{did_you_mean(name, names(kind))}")
    return importlib.import_module(f"{FOLDERS[kind]}.{name}")
