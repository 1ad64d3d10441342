"""What a probe says of a set: a verdict, the numbers behind it, and what to type about it."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from ddhub.base.log import say, warn


@dataclass(frozen=True)
class Outcome:
    """What a probe found; accuracies are shares of the images looked at."""

    verdict: Annotated[str, Field(description="Fine, wrong space, permuted classes, unrecognised or unknown.")]
    sentence: Annotated[str, Field(description="What was found.")]
    next: Annotated[str | None, Field(description="Command that mends it.")]
    teacher: Annotated[dict[str, Any] | None, Field(description="Kind, architecture and validation_top1.")] = None
    images: Annotated[int, Field(description="Images looked at.")] = 0
    chance: Annotated[float | None, Field(description="Accuracy of a guess.")] = None
    spaces: Annotated[list[dict[str, Any]], Field(description="Every space, the one as fed first.")] = field(
        default_factory=list
    )
    order: Annotated[dict[str, str] | None, Field(description="For each class that moved, what it shows.")] = None
    logits: Annotated[float | None, Field(description="Distance of stored logits from the teachers.")] = None

    def is_sound(self) -> bool:
        """Whether it is of the types that it should be; one that was kept can be a stranger's."""
        texts = [self.verdict, self.sentence, "" if self.next is None else self.next]
        order = {} if self.order is None else self.order
        moved = isinstance(order, dict) and all(isinstance(name, str) for name in order.values())
        return moved and all(isinstance(text, str) for text in texts)

    def say(self) -> None:
        """Tell people; what is wrong, loudly."""
        loud = self.verdict not in ("fine", "unknown")
        then = f"\n  next: {self.next}" if self.next else ""
        text = f"{'WARNING: ' if loud else 'probe: '}{self.verdict}: {self.sentence}{then}"
        if loud:
            warn(f"{'-' * 72}\n{text}\n{'-' * 72}")
        else:
            say(text)
