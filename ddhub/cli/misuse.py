"""Errors of wrong usage, in the form of all other errors: the fault, a suggestion, and the next command."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click

from ddhub.base import schema
from ddhub.base.redact import shown

WORDS = {"is not a valid integer range": "is no whole number", "is not a valid float range": "is no number"}
EXAMPLE = "Example:  "  # opens the last line of a command's help


class Misuse(click.ClickException):
    """Wrong usage; exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the fault on stderr."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


@contextlib.contextmanager
def told(ctx: click.Context) -> Iterator[None]:
    """Turn click's usage errors into a `Misuse`."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # no fault: it shows the help
    except click.UsageError as fault:
        raise Misuse(f"{ctx.command_path}: {_what(fault, ctx)}\n  next: {_next(fault, ctx)}") from None


def unknown_command(ctx: click.Context, name: str, commands: Sequence[str]) -> Misuse:
    """The fault for an unknown command."""
    asked, near = shown(name)[:80], schema.nearest(name, list(commands))
    if Path(name).is_dir():
        return Misuse(f"no command '{asked}': it is a folder\n  next: {ctx.command_path} distill {asked}")
    next = " ".join([ctx.command_path, *near[:1], "--help"])
    return Misuse(f"no command '{asked}'{schema.did_you_mean(name, list(commands))}\n  next: {next}")


def _what(fault: click.UsageError, ctx: click.Context) -> str:
    """Click's message in lower case and without a full stop. An unknown option comes with a suggestion."""
    if isinstance(fault, click.NoSuchOption):
        near = schema.nearest(fault.option_name, _options(ctx))
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"no option {shown(fault.option_name)[:80]}{meant}"
    text = shown(fault.format_message())[:300].rstrip(".")
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return text[:1].lower() + text[1:]


def _options(ctx: click.Context) -> list[str]:
    """The options of a command, as they are typed."""
    taken = [each for each in ctx.command.get_params(ctx) if isinstance(each, click.Option)]
    return [name for each in taken for name in [*each.opts, *each.secondary_opts] if name.startswith("--")]


def _next(fault: click.UsageError, ctx: click.Context) -> str:
    """The next command: the command's example if an argument is missing, otherwise its help."""
    example = ctx.command.epilog or ""
    if isinstance(fault, click.MissingParameter) and example.startswith(EXAMPLE):
        return example.removeprefix(EXAMPLE).strip()
    return f"{ctx.command_path} --help"
