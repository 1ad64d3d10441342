"""The command line: parse, call one function of api, print. Heavy imports wait inside the commands."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
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


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")


def _common(function: Function) -> Function:
    """Options of every command that computes."""
    for option in (
        _json,
        click.option(
            "--compile/--no-compile", default=None, help="Force or forbid torch.compile. [default: by the work]"
        ),
        click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all]"),
        click.option("--device", help="A torch device such as cpu or cuda:0. [default: cuda if there is one]"),
    ):
        function = option(function)
    return function


@main.command(epilog="Example:  ddhub recipes --json")
@_json
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
@click.option("--out", type=click.Path(), help="Where rows go. [default: SET; ddhub-evaluations/OWNER--NAME for an id]")
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
    out: str | None,
    test: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    **how: Any,
) -> None:
    """Train architectures on SET, a folder or Hub id, and test them beside random real images; done rows are kept."""
    from ddhub import api, report

    found = api.evaluation(
        set_,
        _names(archs),
        out=out,
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
    elif Path(set_).is_dir():
        click.echo(f"picture: {set_}/assets/images.png\nfolder:  {set_}")


@main.command(epilog="Example:  ddhub push distilled/digits_ipc1 OWNER/digits-ipc1")
@click.argument("folder", type=click.Path())
@click.argument("repo_id", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repo private, where this makes it.")
@click.option("--revision", metavar="BRANCH", help="The branch to commit to; made where missing. [default: main]")
@click.option("--create-pr", is_flag=True, help="Propose the commit as a pull request.")
@click.option("--yes", is_flag=True, help="Replace another set, or delete files that FOLDER lacks.")
@_json
def push(folder: str, repo_id: str, as_json: bool, **how: Any) -> None:
    """Publish the artifact in FOLDER as a Hub dataset: verified, one commit, read back."""
    from ddhub import api

    done = api.push(folder, repo_id, **how)
    if as_json:
        click.echo(json.dumps(done, indent=1))
        return
    click.echo(done["url"])
    at = "" if how["revision"] is None and not how["create_pr"] else f', revision="{done["commit"]}"'
    click.echo(f'load_dataset("{repo_id}"{at})')


@main.command(epilog="Example:  ddhub pull OWNER/NAME@main here")
@click.argument("set_", metavar="OWNER/NAME[@REVISION]")
@click.argument("folder", type=click.Path())
@_json
def pull(set_: str, folder: str, as_json: bool) -> None:
    """Copy a set from the Hub into FOLDER, whole and checked."""
    from ddhub import api

    done = api.pull(set_, folder)
    click.echo(json.dumps(done, indent=1) if as_json else f"artifact: {done['folder']}\nrevision: {done['commit']}")


@main.command(epilog="Example:  ddhub verify distilled/digits_ipc1")
@click.argument("set_", metavar="SET")
@_json
def verify(set_: str, as_json: bool) -> None:
    """Check that SET, a folder or Hub id, is what it says it is; exit code 1 and one line per fault if not."""
    from ddhub import api

    name, faults = api.faults(set_)
    if as_json:
        click.echo(json.dumps({"set": name, "faults": faults}, indent=1))
    else:
        click.echo("\n".join(faults) if faults else f"{name}: all is well")
    if faults:
        sys.exit(1)


@main.command(epilog="Example:  ddhub card distilled/digits_ipc1")
@click.argument("folder", type=click.Path())
def card(folder: str) -> None:
    """Write the card, report and pictures of the artifact in FOLDER anew."""
    from ddhub import api

    api.write_card(Path(folder))
    click.echo(f"{folder}/README.md")


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Comma-separated numbers of an option."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--{parameter.name} {text}: expected numbers, as in 0.49,0.48,0.45") from None


@main.command("import", epilog="Example:  ddhub import cifar10_zca_10 --source uoft-cs/cifar10 --lr 0.02 --out mtt_10")
@click.argument("path")
@click.option("--source", required=True, help="What it was distilled from: a Hub id, digits, or a folder.")
@click.option("--out", required=True, type=click.Path(), help="The artifact's folder.")
@click.option("--layout", default="auto", show_default=True, help="apm, dc, mtt, datm, kip, folder, eccv24 or hub.")
@click.option("--set", "overrides", multiple=True, metavar="source.KEY=VALUE", help="As in source.path=FOLDER.")
@click.option("--mean", callback=_numbers, metavar="A,B,C", help="Of pixels in [0, 1], where the table has none.")
@click.option("--std", callback=_numbers, metavar="A,B,C", help="Likewise.")
@click.option("--zca/--no-zca", default=None, help="Whether its floats are whitened. [default: by the table, or asked]")
@click.option("--classes", type=click.Path(), help="A file with one class name per line, in the set's order.")
@click.option("--order", type=click.Choice(["source"]), help="Affirm that its classes are in the source's order.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="The rate to train at, where the files hold none.")
@click.option("--epochs", type=click.IntRange(1), help="To train for. [default: the family's]")
@click.option("--name", help="Of the set. [default: that of --out]")
@click.option("--method", help="That made it. [default: what files or layout say]")
@click.option("--license", help="For the card. [default: the source's, where known]")
@click.option("--experiment", type=click.IntRange(0), help="Of a DC file that holds several.")
@click.option("--image", metavar="COLUMN", help="Of a Hub dataset, as --label and --split.")
@click.option("--label", metavar="COLUMN", help="Likewise.")
@click.option("--split", default="train", show_default=True, help="Likewise.")
@click.option("--max-bytes", type=click.IntRange(1), help="Of one file. [default: 16 GB]")
@_json
def import_(path: str, source: str, out: str, max_bytes: int | None, as_json: bool, **told: Any) -> None:
    """Import the set at PATH, in another tool's layout, as an artifact."""
    from ddhub import api

    reading = {key: told.pop(key) for key in ("experiment", "image", "label", "split")}
    made = api.import_set(path, out, source, reading=reading | ({"limit": max_bytes} if max_bytes else {}), **told)
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    click.echo(f"artifact: {made['folder']}\npicture:  {made['picture']}")
    baselines = "" if made["manifest"]["labels"]["form"] == "hard" else " --baselines none"
    click.echo(f"next:     ddhub evaluate {made['folder']} --archs convnet{baselines}")


@main.command(epilog="Example:  ddhub export distilled/cifar10_ipc10_small --layout datm")
@click.argument("folder", type=click.Path())
@click.option("--layout", required=True, help="apm, dc, mtt, datm, kip, folder or eccv24.")
@click.option("--out", type=click.Path(), help="A new folder. [default: exported/NAME_LAYOUT]")
@_json
def export(folder: str, layout: str, out: str | None, as_json: bool) -> None:
    """Write the artifact in FOLDER in another tool's layout."""
    from ddhub import api

    done = api.export(folder, layout, out)
    if as_json:
        click.echo(json.dumps(done, indent=1))
        return
    few = done["files"] if len(done["files"]) <= 3 else [*done["files"][:2], f"... {len(done['files'])} files"]
    click.echo(f"folder:   {done['folder']} ({', '.join(few)})\nvalues:   {done['space']}")
    click.echo(f"left out: {'; '.join(done['left_out'])}")


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
