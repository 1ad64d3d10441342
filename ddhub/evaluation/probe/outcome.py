"""The outcome of a probe: a verdict, its numbers, and the next command."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ddhub.base import strict_json
from ddhub.base.document import Document
from ddhub.base.log import say, warn

PROBE = "probe.json"  # beside the rows of the set that was probed first


def place(folder: Path, payload: str) -> Path:
    """The file of a set's outcome in a folder: probe.json, or a file named by the set if another set has that."""
    first = folder / PROBE
    taken = strict_json.known(first).get("payload")
    return first if taken in (None, payload) else folder / f"probe_{payload[:8]}.json"


class ProbeTeacher(Document):
    """The teacher that checked the set."""

    kind: str = Field(description="`shipped` with the set, `cached`, or `trained` for the probe.")
    arch: str = Field(description="Architecture.")
    validation_top1: float = Field(description="Accuracy on held-out real images.")


class SpaceScore(Document):
    """The teacher's scores of the set in one space."""

    space: str = Field(description="Space in words. The first is `as fed`.")
    recognised: float = Field(description="Share of images whose class it predicted.")
    distance: float | None = Field(description="Distance of the pixels from the source's. null if unknown.")


class Outcome(Document):
    """The outcome of a probe. Accuracies are shares of the images checked."""

    verdict: str = Field(description="Fine, wrong space, permuted classes, unrecognised or unknown.")
    sentence: str = Field(description="Finding in one sentence.")
    next: str | None = Field(description="Command that mends it.")
    teacher: ProbeTeacher | None = Field(default=None, description="Teacher that checked the set.")
    images: int = Field(default=0, description="Images checked.")
    chance: float | None = Field(default=None, description="Accuracy of a guess.")
    spaces: list[SpaceScore] = Field(default_factory=list, description="All spaces, beginning with the one as fed.")
    order: dict[str, str] | None = Field(default=None, description="Class that the images show, for each moved class.")
    logits: float | None = Field(default=None, description="Distance of stored logits from the teachers.")

    @classmethod
    def kept(cls, content: dict[str, Any]) -> "Outcome | None":
        """The outcome in the content of a probe.json, possibly a stranger's; None if it is malformed."""
        try:
            return cls.model_validate({key: value for key, value in content.items() if key in cls.model_fields})
        except ValidationError:
            return None

    @classmethod
    def beside(cls, folder: Path, payload: str) -> "Outcome | None":
        """The outcome in an evaluation's folder, if the set with this payload was probed."""
        found = strict_json.known(place(folder, payload))
        return cls.kept(found) if found.get("payload") == payload else None

    @property
    def bad(self) -> bool:
        """Whether the set seems to be fed otherwise than it was made."""
        return self.verdict not in ("fine", "unknown")

    def content(self) -> dict[str, Any]:
        """All keys as JSON values."""
        return self.model_dump(mode="json")

    def say(self) -> None:
        """Report the outcome; a bad verdict as a warning."""
        then = f"\n  next: {self.next}" if self.next else ""
        text = f"{'WARNING: ' if self.bad else 'probe: '}{self.verdict}: {self.sentence}{then}"
        if self.bad:
            warn(f"{'-' * 72}\n{text}\n{'-' * 72}")
        else:
            say(text)
