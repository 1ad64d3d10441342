"""The command line: parse, call one function of api, print. Heavy imports wait inside the commands."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ddhub import __version__
from ddhub.errors import UserError

Function = TypeVar("Function", bound=Callable[..., Any])


class Group(click.Group):
    """Commands whose UserErrors end in one sentence and exit code 1, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as fault:
            click.echo(f"error: {fault}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped; the same command goes on from the last checkpoint", err=True)
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ddhub")
def main() -> None:
    """Distilled image-classification datasets as shareable artifacts: distill, package, evaluate."""


def _common(function: Function) -> Function:
    """Options of every command that computes."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else."),
        click.option(
            "--compile/--no-compile", default=None, help="Force or forbid torch.compile. [default: by the work]"
        ),
        click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all]"),
        click.option("--device", help="A torch device such as cpu or cuda:0. [default: cuda if there is one]"),
    ):
        function = option(function)
    return function


@main.command(epilog="Example:  ddhub recipes --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")
def recipes(as_json: bool) -> None:
    """List the shipped recipes."""
    from ddhub import api

    listing = api.recipes()
    if as_json:
        click.echo(json.dumps(listing, indent=1))
        return
    width = max(len(entry["name"]) for entry in listing)
    for entry in listing:
        expected = ", ".join(f"{k} {100 * v:.1f}%" for k, v in entry["expected"].items() if isinstance(v, float))
        click.echo(f"{entry['name']:{width}}  {entry['title']}{f'  (expected: {expected})' if expected else ''}")


@main.command(epilog="Example:  ddhub distill cifar10_ipc10_small --set source.path=FOLDER")
@click.argument("recipe")
@click.option("--out", type=click.Path(), help="The artifact's folder. [default: distilled/NAME]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, as in method.iterations=10."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and touch no data.")
@_common
def distill(recipe: str, out: str | None, overrides: tuple[str, ...], dry_run: bool, as_json: bool, **how: Any) -> None:
    """Distill RECIPE (a path, or the name of a shipped one) into an artifact folder; the same command resumes."""
    if dry_run:
        _dry_run(recipe, overrides, as_json)
        return
    from ddhub import api

    made = api.distill(recipe, out=out, overrides=overrides, **how)
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    click.echo(f"artifact: {made['folder']}")
    click.echo(f"picture:  {made['picture']}")
    click.echo(f"next:     ddhub evaluate {made['folder']} --archs resnet18,vit_tiny")


def _dry_run(reference: str, overrides: tuple[str, ...], as_json: bool) -> None:
    from ddhub import recipe as recipes

    resolved = recipes.read(reference, overrides)
    if as_json:
        click.echo(json.dumps({**resolved.content(), "hash": resolved.hash}, indent=1))
    else:
        click.echo(f"# hash: {resolved.hash}\n{resolved.yaml()}", nl=False)


@main.command(epilog="Example:  ddhub evaluate distilled/digits_ipc1 --archs convnet,resnet18,vit_tiny --seeds 3")
@click.argument("set_", metavar="SET")
@click.option("--archs", default="", help="Architectures, comma-separated. [default: the teachers']")
@click.option("--protocols", default="native", show_default=True, help="native, dynamic, or both.")
@click.option("--baselines", default="random", show_default=True, help="random, full, both, or none.")
@click.option("--seeds", type=click.IntRange(1), help="Trainings per number. [default: the recipe's, often 5]")
@click.option("--test", help="A Hub id or folder whose test split to use. [default: the source's]")
@click.option(
    "--set", "overrides", multiple=True, metavar="source.path=FOLDER", help="Read the source from a local copy."
)
@_common
def evaluate(
    set_: str,
    archs: str,
    protocols: str,
    baselines: str,
    seeds: int | None,
    test: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    **how: Any,
) -> None:
    """Train architectures on the artifact in folder SET and test them beside random real images; done rows are kept."""
    from ddhub import api, report

    found = api.evaluation(
        set_,
        _names(archs),
        protocols=_names(protocols),
        baselines=[name for name in _names(baselines) if name != "none"],
        seeds=seeds,
        test=test,
        source_path=_source_path(overrides),
        **how,
    )
    report.show(found, stderr=as_json)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        click.echo(f"picture: {set_}/assets/images.png\nfolder:  {set_}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _source_path(overrides: tuple[str, ...]) -> str | None:
    path = None
    for text in overrides:
        key, _, path = text.partition("=")
        if key != "source.path" or not path:
            raise UserError(f"--set {text}: here only source.path=FOLDER can be set")
    return path


if __name__ == "__main__":
    sys.exit(main())
