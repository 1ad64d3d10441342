"""Options: their sections in the help, and the options that several commands share."""

import functools
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import click

from ddhub.base import log, plugins
from ddhub.base.errors import UserError
from ddhub.cli import misuse

Function = TypeVar("Function", bound=Callable[..., Any])
Help = str | Callable[[], str]  # a function is called only when help is shown, because its imports may take time
TRAINING, RUNNING, FOREIGN = "What to train", "Where it runs", "Sets in other tools' layouts"
PICTURES, RECIPE, PUBLISHING = "Pictures without a recipe", "The recipe", "Publishing"
OUTPUT = "Output"
SECTIONS = (PICTURES, RECIPE, TRAINING, RUNNING, FOREIGN, PUBLISHING, OUTPUT)  # in the order of help


class Option(click.Option):
    """An option with a section of the help."""

    def __init__(self, names: Sequence[str], *, section: str = OUTPUT, help: Help = "", **given: Any) -> None:
        super().__init__(names, help=help if isinstance(help, str) else "", **given)
        self.section, self.told = section, help

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line of help."""
        if not isinstance(self.told, str):
            self.help = self.told()
        return super().get_help_record(ctx)


class Command(click.Command):
    """A command with --quiet and --verbose. Its help shows the options in sections."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.params += [
            Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=functools.partial(_level, level=logging.WARNING),
                help="Print only warnings and the result.",
            ),
            Option(
                ["-v", "--verbose"],
                is_flag=True,
                expose_value=False,
                callback=functools.partial(_level, level=logging.DEBUG),
                help="Also print details, with the time and module of every message.",
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments and options after the command's name."""
        with misuse.told(ctx):
            return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in sections."""
        for section in SECTIONS:
            members = [each for each in self.get_params(ctx) if _section(each) == section]
            records = [record for each in members if (record := each.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(section):
                    formatter.write_dl(records)


def _section(parameter: click.Parameter) -> str | None:
    if isinstance(parameter, Option):
        return parameter.section
    return OUTPUT if isinstance(parameter, click.Option) else None


def _level(ctx: click.Context, parameter: click.Parameter, given: bool, level: int) -> None:
    if given:
        log.to_stderr(level)


command = functools.partial(click.command, cls=Command)


def option(*names: str, section: str = OUTPUT, help: Help, **given: Any) -> Callable[[Function], Function]:
    """Add an option in a section of the help."""
    return click.option(*names, cls=Option, section=section, help=help, **given)


def _added(function: Function, *options: Callable[[Any], Any]) -> Function:
    """The function with options. Help shows them in this order."""
    for each in reversed(options):
        function = each(function)
    return function


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Comma-separated numbers of an option."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--{parameter.name} {text}: expected numbers, as in 0.49,0.48,0.45",
            next=f"--{parameter.name} 0.49,0.48,0.45",
        ) from None


def _bounds(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Two rising numbers of an option."""
    found = _numbers(ctx, parameter, text)
    if found is not None and (len(found) != 2 or found[0] >= found[1]):
        raise UserError(
            f"--{parameter.name} {text}: expected black and white, as in 0,4095", next=f"--{parameter.name} 0,4095"
        )
    return found


json_option = option("--json", "as_json", is_flag=True, help="Print only one JSON document on stdout.")


def print_json(content: Any) -> None:
    """Print the one document of `--json`."""
    click.echo(json.dumps(content, indent=1))


device_option = option(
    "--device", section=RUNNING, help="The torch device, such as cpu or cuda:0. [default: cuda if there is one]"
)
threads_option = option(
    "--threads",
    section=RUNNING,
    type=click.IntRange(1),
    help="The number of CPU threads of each process. [default: all]",
)


skip_damaged_option = option(
    "--skip-damaged",
    section=RECIPE,
    is_flag=True,
    help="Leave out pictures that cannot be decoded. Short for --set source.skip_damaged=true.",
)
SKIP_DAMAGED = "source.skip_damaged=true"


def names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def set_option(help: str) -> Callable[[Function], Function]:
    """Add `--set KEY=VALUE`. It can be repeated, and arrives as `overrides`."""
    return option(*("--set", "overrides"), section=RECIPE, multiple=True, metavar="KEY=VALUE", help=help)


def recipe_options(function: Function) -> Function:
    """Add the argument RECIPE, --set and --memory. They arrive as `recipe` and `overrides`."""

    @functools.wraps(function)
    def gathered(memory: str | None, overrides: tuple[str, ...], **given: Any) -> Any:
        return function(overrides=overrides if memory is None else (*overrides, f"memory={memory}"), **given)

    return cast(
        Function,
        _added(
            gathered,
            click.argument("recipe"),
            set_option("Change a key of the recipe, as in method.iterations=10."),
            option(
                "--memory",
                section=RECIPE,
                metavar="AMOUNT",
                help="The memory budget, such as 4GB. Short for --set memory=4GB.",
            ),
        ),
    )


def resource_options(jobs: str, *precisions: str, precision: str, shared: str = "", spread: bool = True) -> Any:
    """Add the options of where a command runs: all fields of Resources except `together`.

    Args:
        jobs: the plural noun for the jobs that processes share.
        precisions: the choices of --precision.
        precision: a sentence for the help of --precision.
        shared: the plural noun for all that worker processes share, if it is more than the jobs.
        spread: whether several machines can share the jobs.
    """
    one = jobs.removesuffix("s")
    options = [
        device_option,
        threads_option,
        option(
            "--compile/--no-compile",
            section=RUNNING,
            default=None,
            help="Use torch.compile or not. [default: use it if the work is long enough to gain time]",
        ),
        option(
            "--precision",
            section=RUNNING,
            type=click.Choice(precisions),
            help=f"The precision of the forward pass in training. {precision}",
        ),
        option(
            "--deterministic/--no-deterministic",
            section=RUNNING,
            default=None,
            help="Get the same bits from a GPU in every run, at some cost of speed. [default: no; a CPU always does]",
        ),
        option(
            "--workers",
            section=RUNNING,
            type=click.IntRange(1),
            help=f"The number of processes on this machine that share the {shared or jobs}. [default: 1]",
        ),
    ]
    if spread:
        options += [
            option(
                "--shard",
                section=RUNNING,
                metavar="I/N",
                help=f"Run every N-th {one}, beginning with number I; the first is 0. [default: torchrun's, or all]",
            ),
            option(
                "--ray",
                section=RUNNING,
                metavar="ADDRESS",
                help=f"Run the {jobs} on a Ray cluster, each on --threads CPUs. `local` starts a cluster here.",
            ),
        ]
    return lambda function: _added(function, *options)


def layouts(read: bool = False) -> str:
    """The names of layouts for help: those that write, or all that read."""
    names = [name for name in plugins.LAYOUTS.names() if read or name != "hub"]
    return f"{', '.join(names)}, or a file such as ./mine.py"


def importing_options(function: Function) -> Function:
    """Add the options for facts that foreign sets do not state. They arrive as the dict `importing`.

    The dict holds the given fields of ddhub.interop.options.ImportOptions.
    """
    foreign = functools.partial(option, section=FOREIGN)
    options = {
        "layout": foreign(
            "--layout",
            help=lambda: f"The layout of the files: {layouts(read=True)}. [default: auto]",
        ),
        "mean": foreign(
            *("--mean",),
            callback=_numbers,
            metavar="A,B,C",
            help="The mean of pixels in [0, 1], per channel. [default: that of the layout's family]",
        ),
        "std": foreign(
            "--std",
            callback=_numbers,
            metavar="A,B,C",
            help="The standard deviation of pixels in [0, 1], per channel. [default: that of the layout's family]",
        ),
        "zca": foreign(
            "--zca/--no-zca",
            default=None,
            help="State whether the floats are ZCA-whitened. [default: as in the layout's family]",
        ),
        "classes": foreign(
            "--classes", type=click.Path(), help="A file with one class name per line, in the set's order."
        ),
        "order": foreign(
            "--order", type=click.Choice(["source"]), help="State that the classes are in the source's order."
        ),
        "lr": foreign(
            "--lr", type=click.FloatRange(0, min_open=True), help="The learning rate, if the files hold none."
        ),
        "epochs": foreign(
            "--epochs",
            type=click.IntRange(1),
            help="The number of training epochs. [default: that of the layout's family]",
        ),
        "name": foreign("--name", help="The name of the set. [default: that of its folder]"),
        "method": foreign("--method", help="The method that made the set. [default: that of the files or layout]"),
        "license": foreign(
            "--license", help="The licence that the card names. [default: that of the source, if it is known]"
        ),
        "experiment": foreign(
            "--experiment",
            type=click.IntRange(0),
            help="The number of an experiment in a DC file with several. The first is 0.",
        ),
        "factor": foreign(
            *("--factor",),
            type=click.IntRange(1),
            help="For the layout idc: each image consists of FACTOR x FACTOR tiles, usually 2.",
        ),
        "file": foreign("--file", metavar="PATH", help="A file or folder in a Hub repo with several sets."),
        "range": foreign(
            *("--range",),
            callback=_bounds,
            metavar="BLACK,WHITE",
            help="The values of black and white in pictures of more than 8 bits. [default: found]",
        ),
        "background": foreign(
            "--background", metavar="COLOUR", help="The colour behind transparent pixels. [default: white]"
        ),
        "config": foreign("--config", metavar="NAME", help="The subset of a Hub dataset with several."),
        "image": foreign("--image", metavar="COLUMN", help="The column of a Hub dataset's images. [default: found]"),
        "label": foreign("--label", metavar="COLUMN", help="The column of a Hub dataset's labels. [default: found]"),
        "split": foreign("--split", help="The split of a Hub dataset. [default: train]"),
        "limit": foreign(
            *("--max-bytes", "limit"),
            type=click.IntRange(1),
            help="The most bytes to read of one file. [default: 16 GB]",
        ),
    }

    @functools.wraps(function)
    def gathered(**given: Any) -> Any:
        told = {name: given.pop(name) for name in options}
        return function(importing={name: value for name, value in told.items() if value is not None}, **given)

    return cast(Function, _added(gathered, *options.values()))
