"""Settings of adversarial prediction matching (arXiv:2312.08912), as recipes write them under `method`."""

from typing import Literal

from pydantic import Field

from ddhub.base.schema import Batch, Count, CountOrZero, Networks, Rate, Strict, Weight
from ddhub.distillation.method import INIT, Init
from ddhub.training.arch_names import Archs, as_list


class Student(Strict):
    """Training of the students on the synthetic set: L1 on logits, SGD, rate x0.1 after half of the epochs."""

    arch: Archs = Field(
        default="convnet", description="Architecture of the students. Those of a list alternate by refresh."
    )
    epochs: Count = Field(default=250, description="Passes of a student over its images.")
    lr: Rate = Field(default=0.02, description="Learning rate of a student.")
    batch: Batch = Field(default=256, description="Images in a training step of a student.")

    @property
    def archs(self) -> list[str]:
        """The architectures as a list."""
        return as_list(self.arch)


class Stopping(Strict):
    """Choice of the set by validation accuracy: score it regularly, keep the best, decay the rate on a plateau."""

    every: Count = Field(default=30, description="Updates between two scores.")
    epochs: Count = Field(default=200, description="Passes of a scoring network over the set.")
    networks: Networks = Field(default=2, description="Networks behind a score.")
    patience: Count = Field(default=1, description="Scores without a new best before the rate decays.")
    decays: CountOrZero = Field(default=2, description="Decays, each from the best set. The next plateau ends the run.")


class Config(Strict):
    """Settings of adversarial prediction matching. Defaults are the paper's (Table A9) where it gives them."""

    iterations: CountOrZero | Literal["auto"] = Field(
        default="auto", description="Updates of the images. auto: 5 for each image of the set, from 100 to 2500."
    )
    batch: Count | None = Field(default=None, description="Images that a student learns and moves. null: all.")
    chunk: Count | Literal["auto"] = Field(
        default="auto",
        description="Images per gradient computation. It bounds memory and does not change results.",
    )
    refresh_every: Count = Field(default=3, description="Updates between two refreshes of the students.")
    snapshots: Count = Field(default=5, description="Snapshots of a student's training, at most one per epoch.")
    student: Student = Field(default=Student(), description="Training of the students.")
    students: Networks = Field(default=1, description="New students per refresh. The mean of their gradients counts.")
    # arXiv:1707.07397. The key is newer than published hashes, so 0 is left out of them.
    views: CountOrZero = Field(
        default=0,
        exclude_if=lambda views: views == 0,
        description="Augmented views per update, whose gradients are averaged. 0: the plain images, as in the paper.",
    )
    lr_images: Rate = Field(default=1.0, description="SGD rate of the images, as network inputs.")
    momentum: float = Field(default=0.5, ge=0, lt=1, description="SGD momentum of the images.")
    alpha: Weight = Field(default=0.1, description="Weight of the teachers' cross-entropy.")
    decay: float = Field(default=0.3, gt=0, le=1, description="Factor on `lr_images` at half time or a plateau.")
    teacher: Literal["random", "mean"] = Field(default="random", description="A student's teacher: one, or the mean.")
    init: Init = Field(default="real", description=INIT)
    project: bool = Field(default=False, description="Keep images in the range of 8-bit pixels.")
    average: float = Field(default=0.0, ge=0, lt=1, description="Decay of a shipped moving average. 0: the last set.")
    # After WiSE-FT (arXiv:2109.01903), which goes part of the way with weights. Left out of hashes, as `views` is.
    blend: float = Field(
        default=1.0,
        gt=0,
        le=1,
        exclude_if=lambda blend: blend == 1,
        description="Share of the way from the start to the moved images that is shipped. Below 1, labels change less.",
    )
    stopping: Stopping | None = Field(default=None, description="Choice of the best set. null ships the last one.")

    def updates(self, images: int) -> int:
        """The number of updates of a set: 5 per image, as the paper's 2500 for 500 images, from 100 to 2500."""
        return self.iterations if self.iterations != "auto" else min(max(5 * images, 100), 2500)
