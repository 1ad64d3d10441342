"""Which set a command means that names none, and what it may do without being asked."""

import sys
from pathlib import Path

import click

from ddhub.base.errors import UserError

MARK = "ddhub.json"  # what a set's folder holds
MADE = Path("distilled")  # where `distill` puts sets


def standing(command: str) -> str:
    """The folder of the set that is meant where none is named: this one, or the only one made here, or as answered.

    Args:
        command: that asks, for the message.

    Raises:
        UserError: where there is none, or several and nobody to ask.
    """
    if Path(MARK).is_file():
        return "."
    found = sorted(str(path.parent) for path in MADE.glob(f"*/{MARK}"))
    if not found:
        raise UserError(
            f"SET: none is named, this folder is none, and {MADE}/ holds none",
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
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agree(doing: str, yes: bool, next: str) -> None:
    """Say what is about to be done, and have it agreed to.

    Args:
        doing: in one sentence.
        yes: agreed already.
        next: the command that says it in full, for where nobody can answer.

    Raises:
        UserError: where nobody can.
        click.Abort: where the answer is no.
    """
    click.echo(doing, err=True)
    if yes:
        return
    if not asks():
        raise UserError("not done: nobody to agree to it here", next=next)
    click.confirm("go on", abort=True, err=True)
