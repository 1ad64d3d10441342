"""What a probe says of a set: a verdict, the numbers behind it, and what to type about it."""

from typing import Any

from pydantic import Field, ValidationError

from ddhub.base.document import Document
from ddhub.base.log import say, warn


class ProbeTeacher(Document):
    """The teacher that looked."""

    kind: str = Field(description="`shipped` with the set, `cached`, or `trained` for the probe.")
    arch: str = Field(description="Architecture.")
    validation_top1: float = Field(description="Accuracy on held-out real images.")


class SpaceScore(Document):
    """What the teacher made of the set in one space."""

    space: str = Field(description="Space in words. The first is `as fed`.")
    recognised: float = Field(description="Share of images whose class it named.")
    distance: float | None = Field(description="Distance of the pixels from the source's. null where not known.")


class Outcome(Document):
    """What a probe found; accuracies are shares of the images looked at."""

    verdict: str = Field(description="Fine, wrong space, permuted classes, unrecognised or unknown.")
    sentence: str = Field(description="What was found.")
    next: str | None = Field(description="Command that mends it.")
    teacher: ProbeTeacher | None = Field(default=None, description="Teacher that looked.")
    images: int = Field(default=0, description="Images looked at.")
    chance: float | None = Field(default=None, description="Accuracy of a guess.")
    spaces: list[SpaceScore] = Field(default_factory=list, description="Every space, the one as fed first.")
    order: dict[str, str] | None = Field(default=None, description="For each class that moved, what it shows.")
    logits: float | None = Field(default=None, description="Distance of stored logits from the teachers.")

    @classmethod
    def kept(cls, content: dict[str, Any]) -> "Outcome | None":
        """The outcome that a probe.json holds, which can be a stranger's; None for what is none."""
        try:
            return cls.model_validate({key: value for key, value in content.items() if key in cls.model_fields})
        except ValidationError:
            return None

    def content(self) -> dict[str, Any]:
        """All keys, as JSON values."""
        return self.model_dump(mode="json")

    def say(self) -> None:
        """Tell people; what is wrong, loudly."""
        loud = self.verdict not in ("fine", "unknown")
        then = f"\n  next: {self.next}" if self.next else ""
        text = f"{'WARNING: ' if loud else 'probe: '}{self.verdict}: {self.sentence}{then}"
        if loud:
            warn(f"{'-' * 72}\n{text}\n{'-' * 72}")
        else:
            say(text)
