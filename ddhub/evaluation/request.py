"""The request of an evaluation: the rows to make, and everything from which a process can rebuild their bench."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddhub.base.resources import Resources
from ddhub.training.device import Decisions


@dataclass(frozen=True)
class Cell:
    """A row to make: an architecture, trained on some data with a protocol, from one seed."""

    arch: str
    protocol: str
    data: str  # distilled, or one of baselines.BASELINES
    seed: int


@dataclass(frozen=True)
class Grid:
    """The rows asked for: every architecture by every protocol, on every kind of data, from every seed."""

    archs: Sequence[str] = ()  # none: that of the set's teachers
    protocols: Sequence[str] = ("native",)  # names of protocols.PROTOCOLS
    baselines: Sequence[str] = ("random",)  # names of baselines.BASELINES, beside the set itself
    seeds: int | None = None  # their number; None takes the recipe's


@dataclass(frozen=True)
class Tuned:
    """The choice on validation data for one architecture, protocol and kind of data, with its cost."""

    arch: str
    protocol: str
    data: str
    lr: float
    weight_decay: float
    validation_top1: float
    trainings: int
    seconds: float


@dataclass(frozen=True)
class EvaluationRequest:
    """A request that can be pickled. Any process on any machine builds its Bench from it."""

    reference: str  # the reference from which `fetch` finds the set's folder
    fetch: Callable[[str], Path]  # a function of a module
    name: str  # the set's name in rows
    cells: tuple[Cell, ...] = ()  # filled in from a Grid
    overrides: tuple[str, ...] = ()  # changes of protocols: `epochs=50` for all, `native.epochs=50` for one
    test: str | None = None  # a Hub id or folder whose test split is used instead of the source's
    source_path: str | None = None  # a local copy of the source
    resources: Resources = field(default_factory=Resources)
    test_settings: tuple[str, ...] = ()  # how to read the test images, as `source.KEY=VALUE`
    allow_train: bool = False  # whether test images may be training images
    corruptions: bool = False  # whether rows are also tested on corrupted images; rows without are trained again
    tune: bool = False  # whether rate and weight decay are chosen on validation data
    tuned: tuple[Tuned, ...] = ()  # the choices of tuning
    decided: tuple[tuple[str, Decisions], ...] = ()  # decisions by architecture, fixed by speed.settle

    @property
    def asked(self) -> dict[str, Any]:
        """The requested ways of training. None leaves a choice to measurement."""
        return {name: getattr(self.resources, name) for name in ("compile", "precision", "together")}
