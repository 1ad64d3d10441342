"""The document of `plan --json`, typed: what distilling a recipe here will take. Times in seconds, sizes in bytes."""

from typing import Any

from pydantic import Field

from ddhub.base.document import Document
from ddhub.base.units import duration, size


class PlannedWork(Document):
    """Calls of one kind within a phase."""

    name: str = Field(description="Kind of the work.")
    seconds: float = Field(description="Seconds of all calls.")
    measured: str | None = Field(description="Day on which its cost was measured here. null: a rough estimate.")
    calls: float = Field(description="Number of calls.")
    images: float = Field(description="Images of all calls.")
    at_once: int = Field(description="Images of a call.")
    largest_tried: int = Field(description="Images of the largest call that was measured.")


class PlannedPhase(Document):
    """A phase of a run; None where the method does not say what its work is."""

    phase: str = Field(description="`source`, `teachers`, `distill`, `packaging` or `memorisation`.")
    seconds: float | None = Field(description="Seconds of all processes.")
    wall_seconds: float | None = Field(description="Seconds on the clock.")
    compiling: float | None = Field(description="Seconds of these that compile.")
    peak_bytes: int | None = Field(description="Most memory of a process.")
    disk_bytes: int | None = Field(description="Disk that it fills.")
    measured: str | None = Field(description="Oldest day on which one of its works was measured.")
    rough: list[str] = Field(description="Works that were not measured here.")
    works: list[PlannedWork] = Field(description="Calls, kind by kind.")
    each_seconds: float | None = Field(default=None, description="Seconds of one group, where there are several.")


class PlannedEvaluation(PlannedPhase):
    """What `ddhub evaluate` takes after it, without options."""

    phase: str = Field(description="`evaluate`.")
    arch: str = Field(description="Architecture: that of the teachers.")
    rows: int = Field(description="Trainings, half of them on random real images.")


class PlannedSum(Document):
    """All phases that are known."""

    seconds: float = Field(description="Seconds of all processes.")
    wall_seconds: float = Field(description="Seconds on the clock.")
    peak_bytes: int = Field(description="Most memory of a process.")
    disk_bytes: int = Field(description="Disk that the run fills.")
    measured: str | None = Field(description="Oldest day on which a work was measured.")
    rough: list[str] = Field(description="Works that were not measured here.")


class PlannedSource(Document):
    """What the source holds."""

    dataset: str = Field(description="Hub id, `digits`, or a folder.")
    images: int = Field(description="Images of the train split.")
    classes: int = Field(description="Number of classes.")
    channels: int = Field(description="1 is grey, 3 is RGB.")
    side: int = Field(description="Side in pixels.")
    training: int = Field(description="Images that are distilled.")


class PlannedGroups(Document):
    """Parts that are made independently."""

    count: int = Field(description="Number of groups.")
    threads: int = Field(description="CPU threads of one group.")
    workers: int = Field(description="Processes that share them.")


class Plan(Document):
    """What distilling a recipe here will take, phase by phase."""

    recipe: str = Field(description="Name of the recipe.")
    hash: str = Field(description="Hash of the recipe.")
    method: str = Field(description="Method.")
    source: PlannedSource = Field(description="Size of the source.")
    synthetic: int = Field(description="Images to make.")
    groups: PlannedGroups = Field(description="How the set is split.")
    machine: dict[str, Any] = Field(description="Hardware.")
    decisions: dict[str, Any] = Field(description="What the machine decided: device, threads, precision, chunks.")
    phases: list[PlannedPhase] = Field(description="One entry per phase.")
    evaluating: PlannedEvaluation = Field(description="Evaluating the set. Not in the sum.")
    sum: PlannedSum = Field(description="Time, memory and disk of the run.")
    not_told: list[str] = Field(description="Phases that the method does not tell of.")
    rates: dict[str, float] | None = Field(description="Operations and bytes a second, where estimates are rough.")
    past: dict[str, Any] = Field(description="How far off earlier predictions were.")

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
