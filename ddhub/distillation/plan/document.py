"""The document of `plan --json`, typed: what distilling a recipe here will take. Times in seconds, sizes in bytes."""

from typing import Any

from ddhub.base.document import Document
from ddhub.base.units import duration, size


class PlannedWork(Document):
    """Calls of one kind within a phase."""

    name: str
    seconds: float
    measured: str | None  # the day on which its cost was measured here; None: a rough estimate
    calls: float
    images: float  # of all calls
    at_once: int  # images of a call
    largest_tried: int  # images of the largest call that was measured


class PlannedPhase(Document):
    """A phase of a run; None where the method does not say what its work is."""

    phase: str  # source, teachers, distill, packaging or memorisation
    seconds: float | None  # of all processes
    wall_seconds: float | None  # on the clock
    compiling: float | None  # of those seconds
    peak_bytes: int | None
    disk_bytes: int | None
    measured: str | None  # the oldest day of its works
    rough: list[str]  # works that were not measured here
    works: list[PlannedWork]
    each_seconds: float | None = None  # of one group, where there are several


class PlannedSum(Document):
    """All phases that are known."""

    seconds: float
    wall_seconds: float
    peak_bytes: int
    disk_bytes: int
    measured: str | None
    rough: list[str]


class PlannedSource(Document):
    """What the source holds."""

    dataset: str
    images: int  # of the train split
    classes: int
    channels: int
    side: int  # pixels
    training: int  # images that the set is distilled from


class PlannedGroups(Document):
    """Parts that are made independently."""

    count: int
    threads: int  # CPU threads of one
    workers: int  # processes that share them


class Plan(Document):
    """What distilling a recipe here will take, phase by phase."""

    recipe: str
    hash: str
    method: str
    source: PlannedSource
    synthetic: int  # images to make
    groups: PlannedGroups
    machine: dict[str, Any]
    decisions: dict[str, Any]
    phases: list[PlannedPhase]
    sum: PlannedSum
    not_told: list[str]  # phases that the method does not tell of
    rates: dict[str, float] | None  # FLOPs and bytes a second, and seconds of an operation, where estimates are rough
    past: dict[str, Any]  # how far off earlier predictions were

    def __repr__(self) -> str:
        total = self.sum
        time, memory, disk = duration(total.wall_seconds), size(total.peak_bytes), size(total.disk_bytes)
        return f"<Plan of {self.recipe}: {time}, {memory} of memory, {disk} of disk>"

    def _repr_html_(self) -> str:
        import html

        from ddhub.distillation.plan import forecast

        def line(tag: str, *texts: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

        rows = [(each.phase, each.seconds, each.peak_bytes, each.disk_bytes) for each in self.phases]
        rows.append(("sum", self.sum.seconds, self.sum.peak_bytes, self.sum.disk_bytes))
        body = "".join(
            line(
                "td",
                phase,
                "-" if seconds is None else duration(seconds),
                "-" if not peak else size(peak),
                "-" if disk is None else size(disk),
            )
            for phase, seconds, peak, disk in rows
        )
        said = "".join(f"<li>{html.escape(text)}</li>" for text in forecast.sentences(self.to_dict()))
        head = line("th", "phase", "time", "peak memory", "disk")
        return f"<table><caption>{html.escape(self.recipe)}</caption>{head}{body}</table><ul>{said}</ul>"
