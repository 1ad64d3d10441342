"""Options that several commands share."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import click

from ddhub.base import plugins
from ddhub.base.errors import UserError

Function = TypeVar("Function", bound=Callable[..., Any])


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Comma-separated numbers of an option."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--{parameter.name} {text}: expected numbers, as in 0.49,0.48,0.45") from None


def _bounds(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Two rising numbers of an option."""
    found = _numbers(ctx, parameter, text)
    if found is not None and (len(found) != 2 or found[0] >= found[1]):
        raise UserError(f"--{parameter.name} {text}: expected black and white, as in 0,4095")
    return found


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else."
)


class Listed(click.Option):
    """An option whose help says which names there are, looked up when it is shown: packages bring more of them."""

    def __init__(self, *given: Any, names: Callable[[], Iterable[str]], **how: Any) -> None:
        super().__init__(*given, **how)
        self.names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help, with the names in the place of `{names}`."""
        told = super().get_help_record(ctx)
        return told and (told[0], told[1].replace("{names}", ", ".join(self.names())))


def recipe_options(function: Function) -> Function:
    """Add the argument RECIPE and what changes it: `recipe`, and as `overrides` all that --set and --memory say."""

    @functools.wraps(function)
    def gathered(memory: str | None, overrides: tuple[str, ...], **given: Any) -> Any:
        return function(overrides=overrides if memory is None else (*overrides, f"memory={memory}"), **given)

    wrapped: Any = gathered
    for option in (
        click.option("--memory", metavar="AMOUNT", help="Keep to a budget such as 4GB; as --set memory=4GB."),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in method.iterations=10."
        ),
        click.argument("recipe"),
    ):
        wrapped = option(wrapped)
    return cast(Function, wrapped)


def common_options(function: Function) -> Function:
    """Options of every command that computes."""
    for option in (
        json_option,
        click.option(
            "--compile/--no-compile", default=None, help="Force or forbid torch.compile. [default: by the work]"
        ),
        click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all]"),
        click.option("--device", help="A torch device such as cpu or cuda:0. [default: cuda if there is one]"),
    ):
        function = option(function)
    return function


def precision_option(choices: Sequence[str], help: str) -> Callable[[Function], Function]:
    """`--precision`, where it can be chosen."""
    return click.option("--precision", type=click.Choice(choices), help=f"Of the forward pass in training; {help}")


def engine_options(jobs: str, shared: str = "") -> Callable[[Function], Function]:
    """Options of commands whose jobs, called so, may run in many processes and on many machines.

    Args:
        shared: what worker processes share, where that is more than the jobs.
    """
    one = jobs.removesuffix("s")

    def added(function: Function) -> Function:
        for option in (
            click.option(
                "--ray",
                metavar="ADDRESS",
                help=f"Run {jobs} on a Ray cluster, each on --threads CPUs (1); `local` starts one.",
            ),
            click.option(
                "--shard",
                metavar="I/N",
                help=f"Run every N-th {one}, from the I-th (0 is the first). [default: torchrun's]",
            ),
            click.option(
                "--workers",
                type=click.IntRange(1),
                help=f"Processes on this machine for {shared or jobs}; they share its threads. [default: 1]",
            ),
        ):
            function = option(function)
        return function

    return added


_IMPORT = {
    "layout": click.option(
        "--layout",
        cls=Listed,
        names=plugins.LAYOUTS.names,
        help="The layout of its files: {names}, or a file of yours, ./NAME.py. [default: auto]",
    ),
    "mean": click.option(
        "--mean", callback=_numbers, metavar="A,B,C", help="Of pixels in [0, 1], where the table has none."
    ),
    "std": click.option("--std", callback=_numbers, metavar="A,B,C", help="Likewise."),
    "zca": click.option(
        "--zca/--no-zca", default=None, help="Whether its floats are whitened. [default: by the table, or asked]"
    ),
    "classes": click.option(
        "--classes", type=click.Path(), help="A file with one class name per line, in the set's order."
    ),
    "order": click.option(
        "--order", type=click.Choice(["source"]), help="Affirm that its classes are in the source's order."
    ),
    "lr": click.option(
        "--lr", type=click.FloatRange(0, min_open=True), help="The rate to train at, where the files hold none."
    ),
    "epochs": click.option("--epochs", type=click.IntRange(1), help="To train for. [default: the family's]"),
    "name": click.option("--name", help="Of the set. [default: that of its folder]"),
    "method": click.option("--method", help="That made it. [default: what files or layout say]"),
    "license": click.option("--license", help="For the card. [default: the source's, where known]"),
}
_READING = {
    "experiment": click.option("--experiment", type=click.IntRange(0), help="Of a DC file that holds several."),
    "factor": click.option(
        "--factor", type=click.IntRange(1), help="Of the layout idc: an image is FACTOR x FACTOR tiles; 2 is usual."
    ),
    "file": click.option("--file", metavar="PATH", help="The file or folder of a Hub repo that holds several sets."),
    "config": click.option("--config", metavar="NAME", help="The subset of a Hub dataset that has several."),
    "image": click.option("--image", metavar="COLUMN", help="Of a Hub dataset. [default: found]"),
    "label": click.option("--label", metavar="COLUMN", help="Likewise."),
    "split": click.option("--split", help="Likewise. [default: train]"),
    "range": click.option(
        "--range",
        callback=_bounds,
        metavar="BLACK,WHITE",
        help="Values of the set's pictures with more than 8 bits. [default: found]",
    ),
    "background": click.option(
        "--background", metavar="COLOUR", help="Shows through the set's transparent places. [default: white]"
    ),
    "limit": click.option("--max-bytes", "limit", type=click.IntRange(1), help="Of one file. [default: 16 GB]"),
}


def importing_options(function: Function) -> Function:
    """Add the options for what files of other tools do not say; those given arrive as the dict `importing`.

    It holds the fields of ddhub.interop.options.ImportOptions.
    """

    @functools.wraps(function)
    def gathered(**given: Any) -> Any:
        told = {name: given.pop(name) for name in (*_IMPORT, *_READING)}
        return function(importing={name: value for name, value in told.items() if value is not None}, **given)

    wrapped: Any = gathered
    for option in reversed((*_IMPORT.values(), *_READING.values())):
        wrapped = option(wrapped)
    return cast(Function, wrapped)


def reporting_options(function: Function) -> Function:
    """Where results go, and where else rows are."""
    for option in (
        click.option("--yes", is_flag=True, help="With --push: delete files in the repo that are not here."),
        click.option("--create-pr", is_flag=True, help="With --push: propose the commit as a pull request."),
        click.option(
            "--from",
            "rows_from",
            type=click.Path(),
            help="An evaluation's folder with more rows of SET. [default for an id: ddhub-evaluations/OWNER--NAME]",
        ),
        click.option(
            "--push", is_flag=True, help="Bring rows, report and card of the one SET to its repo: one commit."
        ),
        click.option("--html", type=click.Path(), metavar="FILE", help="Write them as one self-contained page too."),
    ):
        function = option(function)
    return function
