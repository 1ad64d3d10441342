"""What an evaluation is asked for: its rows to be, and all from which any process builds what they share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddhub.base.resources import Resources
from ddhub.training.device import Decisions


@dataclass(frozen=True)
class Cell:
    """One row to be: an architecture trained on some data under a protocol, from one seed."""

    arch: str
    protocol: str
    data: str  # distilled, or one of choices.BASELINES
    seed: int


@dataclass(frozen=True)
class Tuned:
    """What was chosen on validation data for one architecture, protocol and kind of data, and what that cost."""

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
    """What was asked for; it can be pickled, and any process on any machine builds its Bench from it."""

    reference: str  # what `fetch` finds the set's folder by
    fetch: Callable[[str], Path]  # a function of a module
    name: str  # what rows call the set
    cells: tuple[Cell, ...]
    overrides: tuple[str, ...]  # of protocols, as `protocols.resolve` takes them
    test: str | None
    source_path: str | None
    resources: Resources
    test_settings: tuple[str, ...] = ()  # `source.KEY=VALUE`: how the test images are read
    allow_train: bool = False  # whether they may be training images
    corruptions: bool = False  # whether rows are tested on corrupted images too
    tune: bool = False
    tuned: tuple[Tuned, ...] = ()  # what came of it
    decided: tuple[tuple[str, Decisions], ...] = ()  # by architecture, as speed.settle froze them

    @property
    def asked(self) -> dict[str, Any]:
        """Of the ways to train, what was asked for; None is free to be measured."""
        return {name: getattr(self.resources, name) for name in ("compile", "precision", "together")}
