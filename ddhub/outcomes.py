"""What the verbs give back: small typed objects that print in one line, show themselves in notebooks and are JSON."""

import base64
import html
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from ddhub.artifact import manifest
from ddhub.artifact.manifest import Manifest
from ddhub.base.document import Document
from ddhub.distillation.plan.document import Plan
from ddhub.reports.documents import Evaluation, Push, Report

__all__ = ["Evaluation", "Export", "Made", "Plan", "Pull", "Push", "RecipeInfo", "Report", "Start", "Verification"]


class Made(Document):
    """A set in a folder, as `distill`, `merge` and `import_set` leave it.

    A shard that leaves groups to others makes no whole set: then `missing` names the groups, `next` the command.
    """

    folder: str
    missing: list[int] = Field(default_factory=list)
    next: str | None = None

    @property
    def picture(self) -> Path:
        """The image grid."""
        return Path(self.folder) / "assets" / "images.png"

    @cached_property
    def manifest(self) -> Manifest:
        """What the set says of itself.

        Raises:
            UserError: where groups are missing.
        """
        return manifest.read(Path(self.folder))

    def to_dict(self) -> dict[str, Any]:
        """Folder, picture and manifest; of an unfinished set folder, missing groups and next command."""
        if self.missing:
            return {"folder": self.folder, "missing": self.missing, "next": self.next}
        record = self.manifest.model_dump(mode="json")
        return {"folder": self.folder, "picture": str(self.picture), "manifest": record}

    def __repr__(self) -> str:
        if self.missing:
            return f"<Made {self.folder}: groups {', '.join(map(str, self.missing))} are missing>"
        record = self.manifest
        return f"<Made {self.folder}: {record.name}, {len(record.classes)} classes, {record.ipc} images of each>"

    def _repr_html_(self) -> str:
        text = f"<p>{html.escape(repr(self))}</p>"
        if not self.picture.is_file():
            return text
        return f'{text}<img src="data:image/png;base64,{base64.b64encode(self.picture.read_bytes()).decode()}">'


class Start(Document):
    """A recipe for somebody's own pictures, as `init` writes it."""

    recipe: str  # its file
    name: str
    chosen: list[str]  # what was chosen and why, a line each
    seconds: float  # that distilling takes here, foretold

    def __repr__(self) -> str:
        return f"<Start {self.recipe}: {'; '.join(self.chosen)}>"


class Pull(Document):
    """A copy of a set from the Hub."""

    folder: str
    repo_id: str
    commit: str

    def __repr__(self) -> str:
        return f"<Pull of {self.repo_id}@{self.commit[:12]} into {self.folder}>"


class Verification(Document):
    """Whether a set is what it says it is."""

    set: str
    faults: list[str]  # one line each

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def __repr__(self) -> str:
        told = "all is well" if self.ok else f"{len(self.faults)} faults, the first: {self.faults[0]}"
        return f"<Verification of {self.set}: {told}>"

    def _repr_html_(self) -> str:
        faults = "".join(f"<li>{html.escape(fault)}</li>" for fault in self.faults) or "<li>all is well</li>"
        return f"<p>{html.escape(self.set)}</p><ul>{faults}</ul>"


class Export(Document):
    """A set in another tool's layout."""

    folder: str
    layout: str
    files: list[str]
    space: str  # what the values are, in words
    left_out: list[str]  # what the layout has no place for
    read_with: str  # the command that imports it again

    def __repr__(self) -> str:
        return f"<Export to {self.folder}: layout {self.layout}, {len(self.files)} files>"


class RecipeInfo(Document):
    """A shipped recipe."""

    name: str
    dataset: str
    ipc: int
    method: str
    title: str | None
    expected: dict[str, Any]  # accuracy by architecture, and where the numbers are from
    path: str

    def __repr__(self) -> str:
        return f"<Recipe {self.name}: {self.title or self.dataset}>"
