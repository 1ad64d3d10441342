"""How a network is trained: the protocol of a set, the settings of teachers, the names of augmentations."""

from typing import Any, Literal

from pydantic import Field

from ddhub.base.schema import Strict, did_you_mean


class Protocol(Strict):
    """How a network is trained on a set; some families keep their own optimiser and rate (optimisation.FAMILIES)."""

    loss: Literal["l1_logits", "ce", "soft_ce", "mse", "kl"]
    augment: str = "dsa"
    # adamw and adam: for every family; the rate falls along a cosine, to half with adamw and to 0 with adam.
    optimizer: Literal["sgd", "adamw", "adam"] = "sgd"
    lr: float = Field(gt=0)
    epochs: int = Field(gt=0)
    batch: int = Field(default=256, gt=1)
    schedule: Literal["half", "cosine", "half_cosine", "cosine_to_zero"] | None = (
        None  # null: the optimiser's usual one
    )
    min_steps: int = Field(default=2000, ge=0)  # of transformers and of other families than the set's own, at least
    patient: bool = False  # `min_steps` holds for this network, whatever its family
    # teachers: the mean of the shipped ones labels every augmented view; teacher: the first of them does.
    labels: Literal["stored", "hard", "teachers", "teacher"] = "stored"
    temperature: float = Field(default=1.0, gt=0)  # of the loss kl, which is multiplied by its square
    weight_decay: float | None = Field(default=None, ge=0)  # None: the family's
    tuned: bool = False  # lr was chosen for this architecture: families with a rate of their own take it too


# The operations of differentiable siamese augmentation; ddhub/training/augment.py holds their formulas.
DSA_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
AUGMENTATIONS = (*DSA_OPERATIONS, "shuffle", "rrc", "rrc50", "cutmix")  # those of the field's other protocols too


class TeacherSpec(Strict):
    """The networks trained on real data, whose predictions are matched."""

    arch: str = "convnet"
    count: int = Field(default=1, ge=0)
    epochs: int = Field(default=100, gt=0)
    lr: float = Field(default=0.05, gt=0)
    batch: int = Field(default=256, gt=1)


def check_augment(value: Any) -> list[str]:
    """The faults of a recipe's `augment`, a line each."""
    if not isinstance(value, str) or value in ("dsa", "none"):
        return []
    unknown = [word for word in value.split("_") if word not in DSA_OPERATIONS]
    return [f"augment: no operation '{word}'{did_you_mean(word, list(DSA_OPERATIONS))}" for word in unknown]
