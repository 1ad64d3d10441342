"""`init`, and the options for somebody's own pictures."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ddhub.cli.options import (
    PICTURES,
    RECIPE,
    SKIP_DAMAGED,
    command,
    device_option,
    json_option,
    option,
    set_option,
    skip_damaged_option,
    threads_option,
)

Function = TypeVar("Function", bound=Callable[..., Any])


def pictures_options(function: Function) -> Function:
    """Add what is decided of pictures that have no recipe yet: `minutes` and `flips`, None where not given."""
    flips = option(
        *("--no-flips", "flips"),
        section=PICTURES,
        flag_value=False,
        type=bool,
        default=None,
        help="Train without mirroring pictures, as of text and digits. [default: with flips]",
    )
    minutes = option(
        "--minutes",
        section=PICTURES,
        type=click.FloatRange(0, min_open=True),
        help="The minutes that distilling may take here, about. [default: 15]",
    )
    return minutes(flips(function))


@command(epilog="Example:  ddhub init ./photos --minutes 15")
@click.argument("source", metavar="FOLDER|HUB_ID")
@pictures_options
@option("--ipc", section=RECIPE, type=click.IntRange(1), help="The images of every class. [default: by the smallest]")
@option(
    "--resolution",
    section=RECIPE,
    type=click.IntRange(4),
    help="The side of the images in pixels. [default: by pictures and time]",
)
@option("--name", section=RECIPE, help="The name of the set. [default: that of the folder]")
@set_option("Say how the pictures are read, as in source.label=species.")
@skip_damaged_option
@device_option
@threads_option
@option("--out", type=click.Path(), help="The recipe's file. [default: NAME.yaml]")
@json_option
def init(
    source: str,
    as_json: bool,
    minutes: float | None,
    flips: bool | None,
    overrides: tuple[str, ...],
    skip_damaged: bool,
    **how: Any,
) -> None:
    """Write a commented recipe for pictures of your own.

    They lie in a folder with a folder per class, or in a Hub dataset.
    """
    from ddhub import api

    overrides = (*overrides, SKIP_DAMAGED) if skip_damaged else overrides
    done = api.init(source, minutes=minutes or 15, flips=flips is not False, overrides=overrides, **how)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=1))
        return
    for line in done.chosen:
        click.echo(line)
    click.echo(f"recipe: {done.recipe}\nnext: ddhub distill {done.recipe}")
