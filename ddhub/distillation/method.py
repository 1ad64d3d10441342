"""The contract of a distillation method, checked when a method is loaded.

A method is a file with `METHOD = Method(...)`. Files in `ddhub/distillation/methods` are found by name, others by path:
`method: {name: ./mine.py}`. A package offers a method as an entry point of the group `ddhub.methods`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel

from ddhub.base import plugins
from ddhub.base.plugins import Code
from ddhub.base.schema import Strict

if TYPE_CHECKING:
    from ddhub.distillation.plan.work import Outline, Phase
    from ddhub.distillation.task import SyntheticSet, Task
    from ddhub.training.loop import Run

Init = Literal["real", "easy", "noise"]
INIT = (
    "Start of the images. `real`: random training images. `easy`: the tenth of ten times as many random images "
    "with the least error of the teachers (EL2N, arXiv:2107.07075). `noise`: Gaussian noise."
)
RESERVED = ("name", "sha256")  # keys of a recipe's `method` that identify the method


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A distillation method. Optional parts are None or empty. No part is found by a function's name.

    The manifest records a setting `init` of type Init as the start of the images.
    """

    config: type[Strict]
    """The model of the settings: the keys of a recipe's `method` without `name`."""

    distill: Callable[[Task, Run], SyntheticSet]
    """Makes `task.recipe.ipc` images of each class. A loop over `run.steps(n, state)` can be resumed."""

    work: Callable[[Outline], Phase] | None = None
    """The work of a run, from which `ddhub plan` forecasts time and memory, and `--memory` keeps to the budget.

    `distill` must process a work with `cut="chunk"` by `task.decisions.chunk` images at once.
    """

    architectures: tuple[str, ...] = ()
    """Keys of the settings that hold an architecture or a list of them, such as `student.arch`. All architectures are
    built before any teacher is trained, so that an unsuitable one is found at once."""

    code: Code | None = None
    """The origin of the code, if it is not ddhub's own. It is filled in on loading."""

    def architectures_of(self, config: BaseModel) -> set[str]:
        """The architectures in some settings."""
        found: set[str] = set()
        for path in self.architectures:
            value: Any = config
            for key in path.split("."):
                value = getattr(value, key, None)
            found |= {value} if isinstance(value, str) else set(value or ())
        return found


def load(name: str, sha256: str | None = None) -> Method:
    """Load a method by name: ddhub's own, an installed package's, or a file.

    Args:
        sha256: the hash that the file must have.

    Raises:
        UserError: for an unknown name, and for a plug-in that breaks the contract, with its faults.
    """
    method: Method = plugins.METHODS.load(name, faults, sha256)
    return method


def faults(plugin: Any) -> list[str]:
    """The faults of an object as a method, one line each."""
    if not isinstance(plugin, Method):
        return [f"is {type(plugin).__name__}, not Method(config=Config, distill=distill) of ddhub.distillation.method"]
    if not (isinstance(plugin.config, type) and issubclass(plugin.config, Strict)):
        return ["config: is no class derived from ddhub.base.schema.Strict"]
    found = [f"config: key '{key}' is taken" for key in RESERVED if key in plugin.config.model_fields]
    found += plugins.function_faults(distill=(plugin.distill, "task", "run"))
    if plugin.work is not None:
        found += plugins.function_faults(work=(plugin.work, "outline"))
    if not isinstance(plugin.architectures, tuple):
        return [*found, "architectures: is no tuple of keys, as ('arch',)"]
    missing = [path for path in plugin.architectures if not _has(plugin.config, str(path).split("."))]
    return found + [f"architectures: config has no key '{path}'" for path in missing]


def _has(model: type[BaseModel], path: list[str]) -> bool:
    """Whether a model has a key, also a nested one."""
    if path[0] not in model.model_fields:
        return False
    kind = model.model_fields[path[0]].annotation
    inner = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, BaseModel)]
    return len(path) == 1 or any(_has(each, path[1:]) for each in inner)
