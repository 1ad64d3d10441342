"""The command line: the group of all commands (ddhub/cli), and the end of a command by a fault."""

import contextlib
import os
import sys
import traceback
from typing import Any

import click

from ddhub import __version__
from ddhub.base import free_space, log, progress, stopping, versions
from ddhub.base.errors import UserError, as_user_error
from ddhub.base.redact import one_line, shown
from ddhub.cli import judge, make, misuse, share, start

COMMANDS = (
    *(make.recipes, start.init, make.plan, make.distill, judge.plot),  # in the order of work, as `--help` lists them
    *(judge.evaluate, judge.report, judge.card, judge.verify),
    *(share.push, share.pull, share.import_, share.export, make.merge),
)


class CommandGroup(click.Group):
    """The group of commands. A failed command ends with one sentence and exit code 1.

    A fault of ddhub's own shows its traceback first.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of work."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command."""
        with misuse.told(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise misuse.unknown_command(ctx, args[0], list(self.commands))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with stopping.heeded(), progress.shown():
                return super().invoke(ctx)
        except UserError as fault:
            click.echo(f"error: {fault}", err=True)
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click ends these; a broken pipe ends silently, because nobody reads any more
        except Exception as fault:
            known = as_user_error(fault) if isinstance(fault, OSError) else _address_space_fault(fault)
            click.echo(f"error: {known}" if known else _own_fault_text(fault), err=True)
            ctx.exit(1)
        except KeyboardInterrupt as fault:
            with contextlib.suppress(OSError):  # SIGHUP: the terminal is gone
                if isinstance(fault.__cause__, UserError):
                    click.echo(f"error: {fault.__cause__}", err=True)
                click.echo(stopping.last_words(), err=True)
            ctx.exit(stopping.exit_code(fault))


def _address_space_fault(fault: Exception) -> UserError | None:
    """The UserError for a fault that comes from a limit of address space; None if no limit is set."""
    if free_space.address_space() is None or not isinstance(fault, ImportError | MemoryError | RuntimeError):
        return None
    return UserError(f"not enough address space (ulimit -v): {one_line(fault, 200)}", next="ulimit -v unlimited")


def _own_fault_text(fault: Exception) -> str:
    """The text of a fault of ddhub's own: its traceback, and what was kept. Of several faults, the first is shown."""
    each = fault.exceptions if isinstance(fault, ExceptionGroup) else (fault,)
    told = [f"error: {one}" for one in each if isinstance(one, UserError)]
    ours = [one for one in each if not isinstance(one, UserError)]
    told += [shown("".join(traceback.format_exception(one))).rstrip() for one in ours[:1]]
    told += [f"... and {len(ours) - 1} more"] if len(ours) > 1 else []
    kept = "".join(f"; {note}" for note in getattr(fault, "__notes__", ()))
    return "\n".join([*told, f"error: a fault of ddhub's own; please report the lines above{kept}"])


EXAMPLE = """\b
Example:
  ddhub distill ./photos                             make a set of a folder with one folder per class
  ddhub evaluate --archs resnet18_w16,vit_tiny_w64   evaluate this set with two architectures
  ddhub push                                         publish it on the Hub under your name

\b
Completion of commands and options, for bash (zsh and fish likewise):
  eval "$(_DDHUB_COMPLETE=bash_source ddhub)"
"""


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Print the versions that results depend on, without importing torch."""
    if asked and not ctx.resilient_parsing:
        click.echo(f"ddhub {__version__}\n{versions.summary()}")
        ctx.exit()


@click.group(cls=CommandGroup, epilog=EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show versions and device."
)
def main() -> None:
    """Distilled image-classification datasets as shareable artifacts: distill, package, evaluate."""
    log.to_stderr()
    os.getcwd()  # torch fails in a deleted folder
    free_space.warn_of_limit()


for _command in COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
