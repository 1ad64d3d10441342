"""Results of the Python functions: typed objects with a one-line repr, a view for notebooks and a JSON form."""

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
from ddhub.distillation.starting import Start
from ddhub.reports.documents import Evaluation, Push, Report

__all__ = ["Evaluation", "Export", "Made", "Plan", "Pull", "Push", "RecipeInfo", "Report", "Start", "Verification"]


def pictured(text: str, picture: Path) -> str:
    """A line of text as HTML, with a picture below it if the file exists."""
    line = f"<p>{html.escape(text)}</p>"
    if not picture.is_file():
        return line
    return f'{line}<img src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}">'


class Made(Document):
    """A set in a folder, as `distill`, `merge` and `import_set` leave it.

    A shard can leave groups to other shards. Then `missing` lists the groups and `next` holds the command.
    """

    folder: str = Field(description="Folder of the set.")
    missing: list[int] = Field(default_factory=list, description="Groups that other shards have not made yet.")
    next: str | None = Field(default=None, description="Command that makes the missing groups and packages the set.")

    @property
    def picture(self) -> Path:
        """The file of the image grid."""
        return Path(self.folder) / "assets" / "images.png"

    @cached_property
    def manifest(self) -> Manifest:
        """The set's manifest.

        Raises:
            UserError: if groups are missing.
        """
        return manifest.read(Path(self.folder))

    def to_dict(self) -> dict[str, Any]:
        """Folder, picture and manifest; for an unfinished set: folder, missing groups and next command."""
        if self.missing:
            return {"folder": self.folder, "missing": self.missing, "next": self.next}
        record = self.manifest.model_dump(mode="json")
        return {"folder": self.folder, "picture": str(self.picture), "manifest": record}

    def __repr__(self) -> str:
        if self.missing:
            return f"<Made {self.folder}: groups {', '.join(map(str, self.missing))} are missing>"
        record = self.manifest
        return f"<Made {self.folder}: {record.name}, {len(record.classes)} classes, ipc {record.ipc_text}>"

    def _repr_html_(self) -> str:
        return pictured(repr(self), self.picture)


class Pull(Document):
    """The copy of a set from the Hub."""

    folder: str = Field(description="Folder of the copy.")
    repo_id: str = Field(description="Repo of the Hub.")
    commit: str = Field(description="Commit that was copied.")

    def __repr__(self) -> str:
        return f"<Pull of {self.repo_id}@{self.commit[:12]} into {self.folder}>"


class Verification(Document):
    """The faults that `verify` found in a set."""

    set: str = Field(description="Folder, or `owner/name@commit`.")
    faults: list[str] = Field(description="One line per fault.")

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
    """The files of a set in another tool's layout."""

    folder: str = Field(description="Folder of the files.")
    layout: str = Field(description="Layout.")
    files: list[str] = Field(description="Names of the files.")
    space: str = Field(description="Value range and preprocessing of the stored images.")
    left_out: list[str] = Field(description="Parts of the set that the layout cannot hold.")
    read_with: str = Field(description="Command that imports the files again.")

    def __repr__(self) -> str:
        return f"<Export to {self.folder}: layout {self.layout}, {len(self.files)} files>"


class RecipeInfo(Document):
    """A shipped recipe."""

    name: str = Field(description="Name.")
    dataset: str = Field(description="Source.")
    ipc: int = Field(description="Images per class.")
    method: str = Field(description="Method.")
    title: str | None = Field(description="Title.")
    expected: dict[str, Any] = Field(description="Accuracy by architecture, and where the numbers are from.")
    path: str = Field(description="File.")

    def __repr__(self) -> str:
        return f"<Recipe {self.name}: {self.title or self.dataset}>"
