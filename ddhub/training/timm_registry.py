"""timm with the field's networks in its registry as `ddhub_NAME`. No name of timm is overwritten.

timm takes seconds to import. Only networks of timm need it.
"""

from functools import cache
from typing import Any

from torch import nn

from ddhub.base.errors import UserError
from ddhub.training.field_networks import TABLE, Build


@cache
def with_ours() -> Any:
    """The module timm, with ddhub's networks registered."""
    import timm

    for name, build in TABLE.items():
        _register(name, build)
    return timm


def _register(name: str, build: Build) -> None:
    from timm.models import register_model

    def entry(
        pretrained: bool = False, num_classes: int = 10, in_chans: int = 3, img_size: int = 32, **_: object
    ) -> nn.Module:
        if pretrained:
            raise UserError(f"ddhub_{name}: there are no pretrained weights")
        return build(num_classes, in_chans, img_size)

    entry.__name__ = f"ddhub_{name}"
    entry.__module__ = __name__
    register_model(entry)
