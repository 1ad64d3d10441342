"""ddhub: distilled image-classification datasets as shareable artifacts.

The functions are named as the commands are. A function imports what it needs when it is first used, so that
`import ddhub` and `ddhub --help` answer at once.
"""

import importlib
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddhub.api import distill as distill
    from ddhub.api import evaluate as evaluate
    from ddhub.api import export as export
    from ddhub.api import import_set as import_set
    from ddhub.api import init as init
    from ddhub.api import merge as merge
    from ddhub.api import plan as plan
    from ddhub.api import pull as pull
    from ddhub.api import push as push
    from ddhub.api import recipes as recipes
    from ddhub.api import report as report
    from ddhub.api import verify as verify
    from ddhub.base.errors import UserError as UserError
    from ddhub.dataset import DistilledSet as DistilledSet
    from ddhub.dataset import load as load

__version__ = "0.1.0"

_HOMES = {
    "ddhub.api": (
        *("distill", "evaluate", "export", "import_set", "init", "merge", "plan", "pull", "push", "recipes", "report"),
        "verify",
    ),
    "ddhub.base.errors": ("UserError",),
    "ddhub.dataset": ("DistilledSet", "load"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ddhub' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    if isinstance(found, FunctionType):
        found = importlib.import_module("ddhub.base.arguments").checked(found)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
