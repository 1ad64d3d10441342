"""`init`, and the options for somebody's own pictures."""

import json
from typing import Any, TypeVar

import click

from ddhub.cli.options import json_option

Function = TypeVar("Function")


def pictures_options(function: Function) -> Function:
    """Add what is decided of pictures that have no recipe yet: `minutes` and `flips`, None where not given."""
    for option in (
        click.option(
            "--no-flips",
            "flips",
            flag_value=False,
            type=bool,
            default=None,
            help="Of pictures: train without mirroring them (text, digits). [default: with flips]",
        ),
        click.option(
            "--minutes",
            type=click.FloatRange(0, min_open=True),
            help="Of pictures: that distilling may take here, about. [default: 15]",
        ),
    ):
        function = option(function)  # type: ignore[type-var]
    return function


@click.command(epilog="Example:  ddhub init ./photos --minutes 15")
@click.argument("source", metavar="FOLDER|HUB_ID")
@click.option("--out", type=click.Path(), help="The recipe's file. [default: NAME.yaml]")
@click.option("--name", help="Of the set. [default: the folder's]")
@click.option("--ipc", type=click.IntRange(1), help="Images to make of every class. [default: by the smallest class]")
@click.option("--resolution", type=click.IntRange(4), help="Pixels a side. [default: by pictures and time]")
@pictures_options
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all]")
@click.option("--device", help="A torch device such as cpu or cuda:0. [default: cuda if there is one]")
@json_option
def init(source: str, as_json: bool, minutes: float | None, flips: bool | None, **how: Any) -> None:
    """Write a commented recipe for pictures: a folder with a folder per class, or a Hub id."""
    from ddhub import api

    done = api.init(source, minutes=minutes or 15, flips=flips is not False, **how)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=1))
        return
    for line in done.chosen:
        click.echo(line)
    click.echo(f"recipe: {done.recipe}\nnext: ddhub distill {done.recipe}")
