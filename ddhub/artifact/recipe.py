"""Recipes: everything needed to repeat a run, as strict YAML with a content hash."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ddhub.artifact.manifest_parts import MOST_GROUPS
from ddhub.artifact.set_name import NO_NAME, is_name
from ddhub.base import limits
from ddhub.base.files import digest
from ddhub.base.plugins import public_name
from ddhub.base.schema import Batch, Count, CountOrZero, Rate, Strict
from ddhub.base.strict_yaml import to_yaml
from ddhub.base.units import memory_bytes
from ddhub.data.spec import PreprocessSpec, SourceSpec
from ddhub.training.protocol import TeacherSpec


class LabelSpec(Strict):
    """Soft labels that the set ships beside the class: logits of the mean of all teachers or of one, or none."""

    form: Literal["logits", "hard"] = Field(default="logits", description="`hard` ships the class alone.")
    teachers: Literal["mean", "one"] = Field(
        default="mean", description="Logits that are stored: the mean of all teachers, or those of the first."
    )
    top_k: int | None = Field(
        default=None, gt=0, le=limits.CLASSES, description="Soft labels kept per image, the largest. null keeps all."
    )


class EvaluateSpec(Strict):
    """The set's own training protocol, named `native`."""

    protocol: Literal["native"] = Field(default="native", description="Name of the set's own protocol.")
    epochs: Count = Field(default=1000, description="Passes over the set.")
    lr: Rate = Field(
        default=0.02, description="Learning rate of the family of the teachers' network. Other families have their own."
    )
    batch: Batch = Field(default=256, description="Images in a training step.")
    min_steps: CountOrZero = Field(
        default=2000, description="Fewest steps for transformers, and for families other than the teachers'."
    )
    seeds: int = Field(
        default=5, gt=0, le=limits.ROWS, description="Trainings per number, unless `--seeds` says otherwise."
    )
    full_epochs: Count = Field(default=100, description="Passes of the full-data baseline over the train split.")
    packaging_seeds: int = Field(
        default=3, gt=0, le=limits.ROWS, description="Networks trained to measure the cost of packaging."
    )


class PublishSpec(Strict):
    """Licence and name for the dataset card."""

    license: str | None = Field(
        default=None, description="Licence, as the Hub names it: `cc-by-4.0`. null takes the source's, if it is known."
    )
    pretty_name: str | None = Field(default=None, description="Title of the card.")

    @field_validator("license")
    @classmethod
    def _license_is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", value):
            raise ValueError(
                f"'{value}' is no licence as the Hub names it: small letters, digits, `.` and `-`, as in cc-by-4.0;"
                " `other` is one of your own"
            )
        return value


class Recipe(Strict):
    """A whole recipe. `method` holds the validated settings of the method's own model."""

    name: str = Field(description="Name of the set: letters, digits, `.`, `_` and `-`.")
    seed: int = Field(default=0, ge=0, description="Source of all randomness of the run.")
    ipc: Count = Field(description="Images per class.")
    source: SourceSpec = Field(description="The real images.")
    preprocess: PreprocessSpec = Field(default=PreprocessSpec(), description="Preprocessing of pixels for networks.")
    augment: str = Field(
        default="dsa", description="`dsa`, `none`, or some operations: `color_crop_cutout_flip_scale_rotate`."
    )
    teachers: TeacherSpec = Field(default=TeacherSpec(), description="Networks trained on the real images.")
    method: dict[str, Any] = Field(description="`name` is the method. Its own keys stand beside it.")
    labels: LabelSpec = Field(default=LabelSpec(), description="Soft labels stored beside the class.")
    groups: int = Field(
        default=1,
        ge=1,
        le=MOST_GROUPS,
        description="Parts made independently, each of `ipc / groups` per class. Their students need as many "
        "steps as those of one run, so more epochs where a part fills fewer batches.",
    )
    memory: str | None = Field(default=None, description="Budget of a process, such as `6.5GB`. null sets no bound.")
    evaluate: EvaluateSpec = Field(default=EvaluateSpec(), description="The set's own training protocol.")
    publish: PublishSpec = Field(default=PublishSpec(), description="Texts for the card.")
    expected: dict[str, float | str | None] = Field(
        default_factory=dict, description="Accuracies reported by others, with their `source`."
    )

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
        if self.preprocess.zca and self.preprocess.factor > 1:
            raise ValueError("preprocess.factor and zca true exclude each other: a whitening is of whole images")
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
        """The recipe as plain values for publishing. Local folders are private and left out."""
        content = self.model_dump(mode="json")
        content["source"]["path"] = None
        if isinstance(content["method"].get("name"), str):
            content["method"]["name"] = public_name(content["method"]["name"])
        if content["source"]["config"] is None:
            del content["source"]["config"]  # key is newer than published hashes
        if content["source"]["hold_out"] is None:
            del content["source"]["hold_out"]  # likewise
        if self.preprocess.statistics == "fitted":
            del content["preprocess"]["statistics"]  # likewise
        if self.preprocess.factor == 1:
            del content["preprocess"]["factor"]  # likewise
        return content

    @property
    def hash(self) -> str:
        """The hash of everything that affects the set: all keys but the local path and the texts for the card."""
        return digest({key: value for key, value in self.content().items() if key not in ("publish", "expected")})

    def yaml(self) -> str:
        """The resolved recipe as YAML. It has the same hash when it is read again."""
        return to_yaml(self.content())
