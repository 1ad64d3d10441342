"""Distribution matching, arXiv:2110.04181: its settings; the loop is in loop.py."""

from pydantic import Field

from ddhub.base.plugins import lazy
from ddhub.base.schema import Count, CountOrZero, Rate, Strict
from ddhub.distillation.method import INIT, Init, Method

PAPER = "https://arxiv.org/abs/2110.04181"
LOOP = f"{__name__}.loop"


class Config(Strict):
    """Settings of distribution matching. Defaults are the paper's."""

    iterations: CountOrZero = Field(default=20000, description="Updates, each with a new random network.")
    arch: str = Field(default="convnet", description="Architecture of the random networks.")
    real: Count = Field(default=256, description="Real images per class and update.")
    lr_images: Rate = Field(default=1.0, description="SGD rate of the images, as network inputs.")
    momentum: float = Field(default=0.5, ge=0, lt=1, description="SGD momentum of the images.")
    init: Init = Field(default="real", description=INIT)


METHOD = Method(config=Config, distill=lazy(LOOP, "distill"), work=lazy(LOOP, "work"), architectures=("arch",))
