"""Protocols: how a network is trained on a set. Also the settings of teachers, and the names of augmentations."""

from collections import Counter
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ddhub.base import limits
from ddhub.base.errors import UserError
from ddhub.base.schema import Batch, Count, CountOrZero, Rate, Strict, Temperature, Weight, did_you_mean
from ddhub.training.arch_names import Archs, as_list

Loss = Literal["l1_logits", "ce", "soft_ce", "mse", "kl"]


class Protocol(Strict):
    """How a network is trained on a set. Some families keep their own optimiser and rate (optimisation.FAMILIES)."""

    loss: Loss = Field(
        description="`l1_logits`: mean absolute difference of logits. `ce`: cross-entropy with the class. `soft_ce`: "
        "cross-entropy with soft labels. `mse`: mean squared difference. `kl`: divergence from the teachers."
    )
    augment: str = Field(default="dsa", description="`dsa`, `none`, or operations joined by `_` or `+`.")
    optimizer: Literal["sgd", "adamw", "adam"] = Field(
        default="sgd", description="`adamw` and `adam` apply to every family. With `sgd` a family keeps its own."
    )
    lr: Rate = Field(description="Learning rate. A family with its own rate keeps that.")
    epochs: Count = Field(description="Passes over the set.")
    batch: Batch = Field(default=256, description="Images in a training step.")
    schedule: Literal["half", "cosine", "half_cosine", "cosine_to_zero"] | None = Field(
        default=None,
        description="Schedule of the rate. null: the family's with `sgd`, a cosine to half with `adamw`, to zero with "
        "`adam`.",
    )
    min_steps: CountOrZero = Field(
        default=2000, description="Fewest steps for transformers, and for families other than the set's own."
    )
    patient: bool = Field(default=False, description="Apply `min_steps` to this network, whatever its family.")
    labels: Literal["stored", "hard", "teachers", "teacher"] = Field(
        default="stored",
        description="Who labels each augmented view. `teachers`: the mean of the shipped ones. `teacher`: the first.",
    )
    temperature: Temperature = Field(
        default=1.0, description="Temperature of the loss `kl`. The loss is multiplied by its square."
    )
    weight_decay: Weight | None = Field(default=None, description="null takes the family's.")
    tuned: bool = Field(default=False, description="`lr` was chosen for this architecture and replaces a family's own.")

    @property
    def on_the_fly(self) -> bool:
        """Whether teachers label each augmented view."""
        return self.labels in ("teachers", "teacher")


def refuse_untaught(name: str, protocol: Protocol, teachers: int, what: str) -> None:
    """Refuse a protocol whose labels come from teachers, for a set without any.

    Args:
        name: the protocol's name.
        what: what has no teachers, with its verb.

    Raises:
        UserError: naming a protocol that needs none.
    """
    if protocol.on_the_fly and not teachers:
        raise UserError(
            f"protocol {name}: {what} no teachers, so nothing can label on the fly", next="--protocols native"
        )


# The operations of differentiable siamese augmentation. ddhub/training/augment.py holds their formulas.
DSA_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
UNMIRRORED = "_".join(word for word in DSA_OPERATIONS if word != "flip")  # for images that may not be mirrored
AUGMENTATIONS = (*DSA_OPERATIONS, "shuffle", "rrc", "rrc50", "cutmix")  # with those of the field's other protocols


class TeacherSpec(Strict):
    """The networks trained on real data, which label the set."""

    arch: Archs = Field(
        default="convnet",
        description="Architecture of the teachers. Those of a list take turns, and the first is the set's own.",
    )
    count: int = Field(default=1, ge=0, le=limits.NETWORKS, description="Number of teachers.")
    epochs: Count = Field(default=100, description="Passes of a teacher over the training images.")
    lr: Rate = Field(default=0.05, description="Learning rate of a teacher.")
    batch: Batch = Field(default=256, description="Images in a training step of a teacher.")

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Self:
        """Labels are then a mean over architectures too."""
        if repeated := [arch for arch, times in Counter(self.archs).items() if times > 1]:
            raise ValueError(f"arch: names {repeated[0]} twice; `count` says how many of each there are")
        if self.count % len(self.archs):
            raise ValueError(
                f"count: {self.count} is no multiple of the {len(self.archs)} architectures of the teachers"
            )
        return self

    @property
    def archs(self) -> list[str]:
        """The architectures as a list."""
        return as_list(self.arch)

    @property
    def home(self) -> str:
        """The set's own architecture."""
        return self.archs[0]

    @property
    def turns(self) -> list[str]:
        """The architecture of each teacher."""
        return [self.archs[number % len(self.archs)] for number in range(self.count)]


def check_augment(value: Any) -> list[str]:
    """The faults of a recipe's `augment`, one line each."""
    if not isinstance(value, str) or value in ("dsa", "none"):
        return []
    unknown = [word for word in value.split("_") if word not in DSA_OPERATIONS]
    return [f"augment: no operation '{word}'{did_you_mean(word, list(DSA_OPERATIONS))}" for word in unknown]
