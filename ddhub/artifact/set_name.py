"""What a set may be called."""

import re

from ddhub.base.errors import UserError

NAME, NAME_LENGTH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), 96  # what a set may be called
NO_NAME = "{name!r} is no name for a set: letters, digits, . _ and - only, at most 96, the first a letter or a digit"


def check_name(name: str) -> str:
    """A name for a set, as it is.

    Raises:
        UserError: for one that a repo or a folder could not have.
    """
    if not is_name(name):
        raise UserError(NO_NAME.format(name=name), next="--name NAME")
    return name


def is_name(name: str) -> bool:
    """Whether a set may be called so."""
    return NAME.fullmatch(name) is not None and len(name) <= NAME_LENGTH
