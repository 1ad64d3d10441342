"""Where an evaluation finds its set, and where its rows go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddhub import anyset, collect, hub, importing
from ddhub.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where the set of an evaluation is read, and where its rows go."""

    set: Path
    out: Path
    name: str | None  # what rows call it; None: its manifest's name
    reference: str  # how other processes fetch it
    fresh: bool = False  # it was imported just now, and has no card yet

    @property
    def own(self) -> bool:
        """Whether rows go into the set's own folder."""
        return self.set == self.out


def of(reference: str, out: str | Path | None, source: str | None, options: dict[str, Any]) -> Place:
    """Find, fetch or import the set of an evaluation.

    Args:
        reference: a folder, a file or a Hub id.
        out: where rows go; None takes the artifact's folder, or `ddhub-evaluations/NAME`.
        source: what a set was distilled from that is no ddhub artifact; `options` are those of importing.ask.

    Raises:
        UserError: for what is no set, or cannot be imported.
    """
    if source is not None:
        brought = anyset.bring(reference, None if out is None else Path(out), importing.ask(source, **options))
        return Place(brought.folder, brought.out, brought.name, str(brought.folder), brought.fresh)
    if options:
        raise UserError(
            f"{', '.join(sorted(options))}: for sets that are no ddhub artifacts", next="--source DATASET too"
        )
    anyset.refuse_unsaid(reference)
    place = hub.fetch(reference)
    if place.repo_id is None and out is None:
        return Place(place.folder, place.folder, None, place.name)
    return Place(place.folder, Path(out or collect.evaluations(place.repo_id or place.name)), place.name, place.name)
