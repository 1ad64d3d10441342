"""The result of `plan`, typed: a forecast of distilling a recipe here. Times are in seconds, sizes in bytes."""

from typing import Any

from pydantic import Field

from ddhub.base.document import Document
from ddhub.base.units import duration, size


class PlannedWork(Document):
    """The calls of one kind within a phase."""

    name: str = Field(description="Kind of the work.")
    seconds: float = Field(description="Seconds of all calls.")
    measured: str | None = Field(description="Day on which its cost was measured here. null if it is an estimate.")
    calls: float = Field(description="Number of calls.")
    images: float = Field(description="Images of all calls.")
    at_once: int = Field(description="Images per call.")
    largest_tried: int = Field(description="Images of the largest call that was measured.")


class PlannedPhase(Document):
    """A phase of a run. Fields are None if the method declares no work."""

    phase: str = Field(description="`source`, `teachers`, `distill`, `packaging` or `memorisation`.")
    seconds: float | None = Field(description="Seconds of all processes.")
    wall_seconds: float | None = Field(description="Seconds on the clock.")
    compiling: float | None = Field(description="Seconds of these that compile.")
    peak_bytes: int | None = Field(description="Peak memory of a process.")
    disk_bytes: int | None = Field(description="Disk space that it fills.")
    measured: str | None = Field(description="Oldest day on which one of its works was measured.")
    rough: list[str] = Field(description="Works that were not measured here.")
    works: list[PlannedWork] = Field(description="Calls by kind.")
    each_seconds: float | None = Field(default=None, description="Seconds of one group, if there are several.")


class PlannedEvaluation(PlannedPhase):
    """An evaluation of the set: one architecture by one protocol."""

    phase: str = Field(description="`evaluate`.")
    arch: str = Field(description="Architecture.")
    protocol: str = Field(description="Protocol.")
    rows: int = Field(description="Trainings, half of them on random real images.")

    @property
    def title(self) -> str:
        """The name of its line."""
        return f"{self.phase} {self.arch}, {self.protocol}"


class PlannedSum(Document):
    """The sum over all phases with a forecast."""

    seconds: float = Field(description="Seconds of all processes.")
    wall_seconds: float = Field(description="Seconds on the clock.")
    peak_bytes: int = Field(description="Peak memory of a process.")
    disk_bytes: int = Field(description="Disk space that the run fills.")
    measured: str | None = Field(description="Oldest day on which a work was measured.")
    rough: list[str] = Field(description="Works that were not measured here.")


class PlannedSource(Document):
    """The size of the source."""

    dataset: str = Field(description="Hub id, `digits`, or a folder.")
    images: int = Field(description="Images of the train split.")
    classes: int = Field(description="Number of classes.")
    channels: int = Field(description="1 is grey, 3 is RGB.")
    side: int = Field(description="Side in pixels.")
    training: int = Field(description="Images of the training part.")


class PlannedGroups(Document):
    """The groups of the set, which are made independently."""

    count: int = Field(description="Number of groups.")
    threads: int = Field(description="CPU threads of one group.")
    workers: int = Field(description="Processes that share them.")


class Plan(Document):
    """The forecast of distilling a recipe here, by phases."""

    recipe: str = Field(description="Name of the recipe.")
    hash: str = Field(description="Hash of the recipe.")
    method: str = Field(description="Method.")
    source: PlannedSource = Field(description="Size of the source.")
    synthetic: int = Field(description="Images to make.")
    groups: PlannedGroups = Field(description="How the set is split.")
    machine: dict[str, Any] = Field(description="Hardware.")
    decisions: dict[str, Any] = Field(description="Choices of ddhub: device, threads, precision, chunks.")
    phases: list[PlannedPhase] = Field(description="One entry per phase.")
    evaluating: list[PlannedEvaluation] = Field(description="Evaluations of the set. They are not in the sum.")
    sum: PlannedSum = Field(description="Time, memory and disk of the run.")
    not_told: list[str] = Field(description="Phases without a forecast, because the method declares no work.")
    rates: dict[str, float] | None = Field(description="FLOP/s and bytes per second here, if estimates are rough.")
    past: dict[str, Any] = Field(description="Errors of earlier forecasts.")

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
        rows += [(each.title, each.seconds, each.peak_bytes, each.disk_bytes) for each in self.evaluating]
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
