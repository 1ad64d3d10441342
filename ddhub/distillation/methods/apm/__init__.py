"""Adversarial prediction matching, arXiv:2312.08912: settings in config.py, the loop in loop.py, SGD in momentum.py."""

from ddhub.base.plugins import lazy
from ddhub.distillation.method import Method
from ddhub.distillation.methods.apm.config import Config

PAPER = "https://arxiv.org/abs/2312.08912"
LOOP = f"{__name__}.loop"
METHOD = Method(config=Config, distill=lazy(LOOP, "distill"), work=lazy(LOOP, "work"), architectures=("student.arch",))
