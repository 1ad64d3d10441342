"""What a distillation method is: the whole contract, checked when one is loaded.

A method is a file with `METHOD = Method(...)`: in `ddhub/distillation/methods`, found by its name, or anywhere else as
`method: {name: ./mine.py}`. A package offers one as an entry point of the group `ddhub.methods`, naming the object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel

from ddhub.base import plugins
from ddhub.base.plugins import Code, takes
from ddhub.base.schema import Strict

if TYPE_CHECKING:
    from ddhub.distillation.plan.work import Outline, Phase
    from ddhub.distillation.task import SyntheticSet, Task
    from ddhub.training.loop import Run

Init = Literal["real", "easy", "noise"]
INIT = (
    "What the images start as. `real`: random training images. `easy`: of ten times as many, the tenth that the "
    "teachers err on least (EL2N, arXiv:2107.07075). `noise`: Gaussian noise."
)
RESERVED = ("name", "sha256")  # keys of a recipe's `method` that say which method it is


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A distillation method. What is optional is None or empty; nothing is found by the names of functions.

    A key `init` of the settings, an Init, is recorded in the manifest as what the images started from.
    """

    config: type[Strict]
    """The settings: the keys of a recipe's `method` but for `name`."""

    distill: Callable[[Task, Run], SyntheticSet]
    """Makes `task.recipe.ipc` images of every class; a loop over `run.steps(n, state)` resumes by itself."""

    work: Callable[[Outline], Phase] | None = None
    """What a run comes to: `ddhub plan` foretells it, and `--memory` keeps it within the budget.

    A work with `cut="chunk"` is one of which `distill` takes `task.decisions.chunk` images at once.
    """

    architectures: tuple[str, ...] = ()
    """Keys of the settings that name an architecture or a list of them, as `student.arch`. All are built before any
    teacher is trained, so that one that cannot run is found at once."""

    code: Code | None = None
    """Whose code it is, where it is not ddhub's own; filled in when it is loaded."""

    def architectures_of(self, config: BaseModel) -> set[str]:
        """The architectures that settings name."""
        found: set[str] = set()
        for path in self.architectures:
            value: Any = config
            for key in path.split("."):
                value = getattr(value, key, None)
            found |= {value} if isinstance(value, str) else set(value or ())
        return found


def load(name: str, sha256: str | None = None) -> Method:
    """The method of a name: ddhub's own, an installed package's, or a file.

    Args:
        sha256: what the file has to have.

    Raises:
        UserError: for a name that nobody has, and for a plug-in that breaks the contract; says how.
    """
    found = plugins.METHODS.find(name, sha256)
    plugins.refuse("method", name, found.code, faults(found.plugin))
    method: Method = found.plugin
    return dataclasses.replace(method, code=found.code)


def faults(plugin: Any) -> list[str]:
    """What keeps an object from being a method: one line per fault."""
    if not isinstance(plugin, Method):
        return [f"is {type(plugin).__name__}, not Method(config=Config, distill=distill) of ddhub.distillation.method"]
    found = []
    if not (isinstance(plugin.config, type) and issubclass(plugin.config, Strict)):
        return ["config: is no class derived from ddhub.base.schema.Strict"]
    found += [f"config: key '{key}' is taken" for key in RESERVED if key in plugin.config.model_fields]
    for what, function, arguments in (
        ("distill", plugin.distill, ("task", "run")),
        ("work", plugin.work, ("outline",)),
    ):
        wrong = None if what == "work" and function is None else takes(function, *arguments)
        found += [f"{what}: {wrong}"] if wrong else []
    if not isinstance(plugin.architectures, tuple):
        return [*found, "architectures: is no tuple of keys, as ('arch',)"]
    missing = [path for path in plugin.architectures if not _has(plugin.config, str(path).split("."))]
    return found + [f"architectures: config has no key '{path}'" for path in missing]


def _has(model: type[BaseModel], path: list[str]) -> bool:
    """Whether a model has a key, also one below others."""
    if path[0] not in model.model_fields:
        return False
    kind = model.model_fields[path[0]].annotation
    inner = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, BaseModel)]
    return len(path) == 1 or any(_has(each, path[1:]) for each in inner)
