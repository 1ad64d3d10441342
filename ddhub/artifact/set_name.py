"""Rules for the name of a set."""

import re

from ddhub.base.errors import UserError

NAME, NAME_LENGTH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), 96  # rules for a set's name
NO_NAME = "{name!r} is no name for a set: letters, digits, . _ and - only, at most 96, the first a letter or a digit"


def check_name(name: str) -> str:
    """Return a valid name unchanged.

    Raises:
        UserError: for a name that a repo or folder cannot have.
    """
    if not is_name(name):
        raise UserError(NO_NAME.format(name=name), next="--name NAME")
    return name


def is_name(name: str) -> bool:
    """Whether a text is a valid name of a set."""
    return NAME.fullmatch(name) is not None and len(name) <= NAME_LENGTH
