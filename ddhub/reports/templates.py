"""The templates in cards/, rendered by jinja. A missing value is an error."""

from collections.abc import Callable
from typing import Any

import jinja2

from ddhub.base.files import shipped


def environment(*, autoescape: bool, finalize: Callable[[Any], Any] | None = None) -> jinja2.Environment:
    """An environment for the templates in cards/.

    Args:
        autoescape: whether values are escaped as HTML.
        finalize: changes each value before it is written.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("cards")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
        finalize=finalize,
    )
