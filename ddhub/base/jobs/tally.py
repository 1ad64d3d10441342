"""How many outputs of a list of jobs there are, and when the last one will be: a bar, or a line now and then."""

import time
from collections.abc import Mapping
from pathlib import Path

from ddhub.base import progress
from ddhub.base.log import say
from ddhub.base.units import duration


class Tally:
    """Counts files, so that what other processes finish counts too.

    Args:
        name: what people call the outputs, as `rows`.
        costs: of every output, in any unit; the time that is left is told by them.
    """

    def __init__(self, name: str, costs: Mapping[Path, float]) -> None:
        self.name, self.costs = name, costs
        self._missing = {path for path in costs if not path.exists()}
        self._work, self._begun = self._left(), time.monotonic()
        self._eta: tuple[float, float] | None = None  # seconds left, as seen at this moment
        self._lined = 0.0
        self._bar = progress.Bar(name, len(costs), self._told)

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *fault: object) -> None:
        self._bar.__exit__(*fault)

    @property
    def done(self) -> int:
        """Outputs that were there when somebody looked last."""
        return len(self.costs) - len(self._missing)

    def look(self) -> None:
        """See what is there by now, and say it where that is new."""
        before, now = self.done, time.monotonic()
        self._missing = {path for path in self._missing if not path.exists()}
        if self.done > before:
            left = self._left()
            done = self._work - left
            self._eta = ((now - self._begun) * left / done, now) if done > 0 else None
        self._bar.at(self.done)
        if self.done > before and len(self.costs) > 1:
            self._say(now)

    def _say(self, now: float) -> None:
        if self._missing and (self._bar.live or now - self._lined < progress.LINE):
            return
        self._lined = now
        rest = self._told() or f"in {duration(now - self._begun)}"
        say(f"{self.name} {self.done}/{len(self.costs)} {100 * self.done // len(self.costs)}% | {rest}")

    def _left(self) -> float:
        return sum(self.costs[path] for path in self._missing)

    def _told(self) -> str:
        """The time that is left, which goes down between two looks."""
        if self._eta is None or not self._missing:
            return ""
        seconds, seen = self._eta
        return f"eta {duration(max(0.0, seconds - (time.monotonic() - seen)))}"
