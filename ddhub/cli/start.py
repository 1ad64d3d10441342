"""The command init, and the options for the user's own pictures."""

from typing import Any

import click

from ddhub.base.errors import quoted
from ddhub.cli.options import (
    PICTURES,
    RECIPE,
    SKIP_DAMAGED,
    Function,
    command,
    device_option,
    json_option,
    option,
    print_json,
    set_option,
    skip_damaged_option,
    threads_option,
)


def pictures_options(function: Function) -> Function:
    """Add the options for pictures without a recipe: `minutes` and `flips`, None if not given."""
    flips = option(
        *("--no-flips", "flips"),
        section=PICTURES,
        flag_value=False,
        type=bool,
        default=None,
        help="Train without mirrored pictures, as for text and digits. [default: with flips]",
    )
    minutes = option(
        "--minutes",
        section=PICTURES,
        type=click.FloatRange(0, min_open=True),
        help="The approximate minutes that distilling may take here. [default: 15]",
    )
    return minutes(flips(function))


@command(epilog="Example:  ddhub init ./photos --minutes 15")
@click.argument("source", metavar="FOLDER|HUB_ID")
@pictures_options
@option(
    "--ipc",
    section=RECIPE,
    type=click.IntRange(1),
    help="The synthetic images per class. [default: by the smallest class]",
)
@option(
    "--resolution",
    section=RECIPE,
    type=click.IntRange(4),
    help="The side of the synthetic images in pixels. [default: by the pictures and the time]",
)
@option("--name", section=RECIPE, help="The name of the set. [default: that of the folder]")
@set_option("Change how the pictures are read, such as source.label=species.")
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
    """Write a commented recipe for your own pictures.

    The pictures are in a folder with one folder per class, or in a Hub dataset.
    """
    from ddhub import api

    overrides = (*overrides, SKIP_DAMAGED) if skip_damaged else overrides
    done = api.init(source, minutes=minutes or 15, flips=flips is not False, overrides=overrides, **how)
    if as_json:
        print_json(done.to_dict())
        return
    for line in done.chosen:
        click.echo(line)
    click.echo(f"recipe: {done.recipe}\nnext: ddhub distill {quoted(done.recipe)}")
