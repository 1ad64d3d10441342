"""The set of a command that names none, and the user's agreement to a command."""

import sys
from pathlib import Path

import click

from ddhub.base.errors import UserError

MARK = "ddhub.json"  # a file in every set's folder
MADE = Path("distilled")  # the folder in which `distill` puts sets


def standing(command: str) -> str:
    """The folder of a set that the user did not name: this folder, the only set in MADE, or the user's choice.

    Args:
        command: the command, for messages.

    Raises:
        UserError: if there is no set, or if there are several and nobody can answer.
    """
    if Path(MARK).is_file():
        return "."
    found = sorted(str(path.parent) for path in MADE.glob(f"*/{MARK}"))
    if not found:
        raise UserError(
            f"SET: none is named, this folder holds none, and {MADE}/ holds none",
            next=f"{command} FOLDER, or make one: ddhub distill ./photos",
        )
    if len(found) == 1:
        click.echo(f"{found[0]}: the only set in {MADE}/", err=True)
        return found[0]
    if not asks():
        raise UserError(f"SET: which of {', '.join(found)}?", next=f"{command} {found[0]}")
    for number, folder in enumerate(found, start=1):
        click.echo(f"{number:3}  {folder}", err=True)
    return found[click.prompt("which set", type=click.IntRange(1, len(found)), err=True) - 1]


def asks() -> bool:
    """Whether a user can answer on a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agree(doing: str, yes: bool, next: str) -> None:
    """Print what a command will do, and ask the user to agree.

    Args:
        doing: the sentence to print.
        yes: whether the user agreed by an option.
        next: the full command, for an error if nobody can answer.

    Raises:
        UserError: if nobody can answer.
        click.Abort: if the answer is no.
    """
    click.echo(doing, err=True)
    if yes:
        return
    if not asks():
        raise UserError("not done: this needs an answer on a terminal", next=next)
    click.confirm("go on", abort=True, err=True)
