"""Recipes: all that is needed to repeat a run, as strict YAML with a content hash."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ddhub.artifact.manifest import MOST_GROUPS, NO_NAME, is_name
from ddhub.base import limits
from ddhub.base.files import digest
from ddhub.base.schema import Strict
from ddhub.base.strict_yaml import to_yaml
from ddhub.base.units import memory_bytes
from ddhub.data.spec import PreprocessSpec, SourceSpec
from ddhub.training.protocol import TeacherSpec


class LabelSpec(Strict):
    """What the set ships beside the hard class: logits of one teacher or the mean of all, or nothing."""

    form: Literal["logits", "hard"] = "logits"
    teachers: Literal["mean", "one"] = "mean"
    top_k: int | None = Field(default=None, gt=0)  # soft labels kept of each image; null keeps all


class EvaluateSpec(Strict):
    """The set's own training protocol, the one that `native` repeats."""

    protocol: Literal["native"] = "native"
    epochs: int = Field(default=1000, gt=0)
    lr: float = Field(default=0.02, gt=0)
    batch: int = Field(default=256, gt=1)
    min_steps: int = Field(default=2000, ge=0)  # of transformers, and of other families than the teachers'
    seeds: int = Field(default=5, gt=0, le=limits.ROWS)
    full_epochs: int = Field(default=100, gt=0)  # of the full-data baseline, trained as the paper trains teachers
    packaging_seeds: int = Field(default=3, gt=0, le=limits.ROWS)  # networks that measure what packaging costs


class PublishSpec(Strict):
    """What the dataset card says of licence and name."""

    license: str | None = None
    pretty_name: str | None = None


class Recipe(Strict):
    """A whole recipe; `method` holds the validated Config of the method's own file."""

    name: str
    seed: int = Field(default=0, ge=0)
    ipc: int = Field(gt=0)
    source: SourceSpec
    preprocess: PreprocessSpec = PreprocessSpec()
    augment: str = "dsa"  # dsa, none, or some of its operations: color_crop_cutout_scale_rotate
    teachers: TeacherSpec = TeacherSpec()
    method: dict[str, Any]
    labels: LabelSpec = LabelSpec()
    groups: int = Field(default=1, ge=1, le=MOST_GROUPS)  # `ipc` / `groups` images per class of each, made apart
    memory: str | None = None  # a budget such as 6.5GB, which chunks and micro-batches keep to; null: no bound
    evaluate: EvaluateSpec = EvaluateSpec()
    publish: PublishSpec = PublishSpec()
    expected: dict[str, float | str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _settings_agree(self) -> "Recipe":
        if self.labels.form == "logits" and self.teachers.count == 0:
            raise ValueError("labels.form 'logits' needs teachers.count of 1 or more (or labels.form: hard)")
        if self.labels.form == "hard" and self.labels.top_k is not None:
            raise ValueError("labels.top_k keeps soft labels, and labels.form 'hard' has none")
        if self.preprocess.zca and self.preprocess.statistics == "field":
            raise ValueError(
                "preprocess.statistics 'field' and zca true exclude each other: whitening needs no constants"
            )
        return self

    @field_validator("name")
    @classmethod
    def _name_is_one(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError(NO_NAME.format(name=value))
        return value

    @field_validator("memory", mode="before")
    @classmethod
    def _memory_is_an_amount(cls, value: Any) -> Any:
        if value is not None:
            memory_bytes(str(value))
        return value

    @model_validator(mode="after")
    def _groups_are_equal(self) -> "Recipe":
        if self.ipc % self.groups:
            fitting = [n for n in range(1, min(self.ipc, MOST_GROUPS) + 1) if self.ipc % n == 0]
            near = min(fitting, key=lambda n: abs(n - self.groups))
            raise ValueError(f"groups: {self.groups} does not divide ipc {self.ipc}; --set groups={near} does")
        return self

    def content(self) -> dict[str, Any]:
        """The recipe as plain values, as published: a local path is nobody else's business."""
        content = self.model_dump(mode="json")
        content["source"]["path"] = None
        if content["source"]["config"] is None:
            del content["source"]["config"]  # hashes are older than this key
        if content["source"]["hold_out"] is None:
            del content["source"]["hold_out"]  # and than this one
        if self.preprocess.statistics == "fitted":
            del content["preprocess"]["statistics"]  # and than this one
        return content

    @property
    def hash(self) -> str:
        """Identity of what the recipe makes: all of its content but the local path and what only the card shows."""
        return digest({key: value for key, value in self.content().items() if key not in ("publish", "expected")})

    def yaml(self) -> str:
        """The resolved recipe as YAML; reading it back gives the same hash."""
        return to_yaml(self.content())
