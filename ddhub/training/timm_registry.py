"""timm with the field's networks in its registry as `ddhub_NAME`. No name of timm is overwritten.

timm takes seconds to import. Only networks of timm need it.
"""

from functools import cache
from typing import Any

from torch import nn

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean, nearest
from ddhub.training.field_networks import TABLE, Build


@cache
def with_ours() -> Any:
    """The module timm, with ddhub's networks registered."""
    import timm

    for name, build in TABLE.items():
        _register(name, build)
    return timm


def check(prefix: str, name: str) -> None:
    """Refuse a model that timm lacks, or a tag of weights that the model lacks.

    Raises:
        UserError: with names that are like it, and the command to type.
    """
    timm = with_ours()
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        models, word = timm.list_models(), model.lower()
        what, like = f"timm has no such model{did_you_mean(word, models)}", nearest(word, models)
    elif tag and name not in (whole := timm.list_pretrained(f"{model}.*")):
        tags = [each.partition(".")[2] for each in whole]
        what = f"timm knows no weights '{tag}' of {model}{did_you_mean(tag, tags)}"
        like = [*(f"{model}.{each}" for each in nearest(tag, tags)), model]
    else:
        return
    listing = "python -c 'import timm; print(*timm.list_models())'  (their names)"
    raise UserError(f"arch '{prefix}{name}': {what}", next=f"{prefix}{like[0]} in its place" if like else listing)


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
