"""What a probe says of a set: a verdict, the numbers behind it, and what to type about it."""

from dataclasses import dataclass, field
from typing import Any

from ddhub.base.log import say, warn


@dataclass(frozen=True)
class Outcome:
    """What a probe found; accuracies are shares of the images looked at."""

    verdict: str  # fine, wrong space, permuted classes, unrecognised or unknown
    sentence: str
    next: str | None
    teacher: dict[str, Any] | None = None  # kind, architecture, validation_top1
    images: int = 0
    chance: float | None = None
    spaces: list[dict[str, Any]] = field(default_factory=list)  # as fed first: words, recognised, distance
    order: dict[str, str] | None = None  # for each class that moved, the one that its images show
    logits: float | None = None  # distance of the stored logits from the teachers', in their own spread

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
