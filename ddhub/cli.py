"""The command line: parse, call one function of api, print. Heavy imports wait inside the commands."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from ddhub import __version__
from ddhub.errors import UserError
from ddhub.options import common_options, engine_options, importing_options, json_option, reporting_options


class Group(click.Group):
    """Commands that end in one sentence and exit code 1 when they fail; a fault of ours shows its traceback before."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as fault:
            click.echo(f"error: {fault}", err=True)
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as fault:
            click.echo("".join(traceback.format_exception(fault)), err=True, nl=False)
            kept = "".join(f"; {note}" for note in getattr(fault, "__notes__", ()))
            click.echo(f"error: a fault of ddhub's own; please report the lines above{kept}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped; the same command goes on from the last checkpoint", err=True)
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ddhub")
def main() -> None:
    """Distilled image-classification datasets as shareable artifacts: distill, package, evaluate."""


@main.command(epilog="Example:  ddhub recipes --json")
@json_option
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
@click.option("--memory", metavar="AMOUNT", help="Keep to a budget such as 4GB; as --set memory=4GB.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and touch no data.")
@engine_options("groups")
@common_options
def distill(
    recipe: str,
    out: str | None,
    overrides: tuple[str, ...],
    memory: str | None,
    dry_run: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Distill RECIPE (a path, or the name of a shipped one) into an artifact folder; the same command resumes."""
    if memory is not None:
        overrides = (*overrides, f"memory={memory}")
    if dry_run:
        _dry_run(recipe, overrides, as_json)
        return
    from ddhub import api

    made = api.distill(recipe, out=out, overrides=overrides, **how)
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    if "missing" in made:
        click.echo(f"{made['folder']}: done here; missing groups: {', '.join(map(str, made['missing']))}")
        click.echo(f"next: {made['next']}  (makes what nobody makes, waits for the rest, and packages)")
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
@click.option(
    "--protocols",
    default="native",
    show_default=True,
    help="Comma-separated: native, dynamic, hard, plain, unaugmented, dc-bench, datm, rded.",
)
@click.option(
    "--baselines",
    default="random",
    show_default=True,
    help="Comma-separated: random, random_bytes, full, herding, kcenter, kmeans; or none.",
)
@click.option("--tune", is_flag=True, help="Choose rate and weight decay per architecture, on validation data only.")
@click.option("--seeds", type=click.IntRange(1), help="Trainings per number. [default: the recipe's, often 5]")
@click.option("--out", type=click.Path(), help="Where rows go. [default: SET; else ddhub-evaluations/NAME]")
@click.option("--test", help="A Hub id or folder whose test split to use. [default: the source's]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the protocols (epochs=50; native.lr=0.01 for one), or read a local copy: source.path=FOLDER.",
)
@click.option(
    "--source", help="What SET was distilled from, if it is no ddhub artifact: a Hub id, digits, or a folder."
)
@click.option(
    "--probe/--no-probe",
    default=None,
    help="Train a teacher to tell whether SET is fed as it was made; or do not ask. [default: if one is at hand]",
)
@importing_options
@engine_options("rows")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "auto"]),
    help="Of the forward pass in training; auto: whichever is faster here. [default: float32]",
)
@click.option(
    "--together", type=click.IntRange(1), help="Seeds trained in one program. [default: by speed, measured once]"
)
@common_options
def evaluate(
    set_: str,
    archs: str,
    protocols: str,
    baselines: str,
    tune: bool,
    seeds: int | None,
    out: str | None,
    test: str | None,
    overrides: tuple[str, ...],
    source: str | None,
    importing: dict[str, Any],
    as_json: bool,
    **how: Any,
) -> None:
    """Train architectures on SET (folder, file or Hub id), test them beside random real images; done rows are kept."""
    from ddhub import api, report, tables

    of_source = [text for text in overrides if text.startswith("source.")]
    found = api.evaluation(
        set_,
        _names(archs),
        out=out,
        protocols=_names(protocols),
        baselines=[name for name in _names(baselines) if name != "none"],
        tune=tune,
        seeds=seeds,
        test=test,
        source_path=_source_path(overrides) if source is None else None,
        overrides=[text for text in overrides if not text.startswith("source.")],
        source=source,
        importing=importing | ({"overrides": of_source} if source is not None and of_source else {}),
        **how,
    )
    tables.show([tables.of_report(found, brief=True)], report.sentences(found), stderr=as_json)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif (Path(set_) / "ddhub.json").is_file():
        click.echo(f"picture: {set_}/assets/images.png\nfolder:  {set_}")


@main.command(epilog="Example:  ddhub push distilled/digits_ipc1 OWNER/digits-ipc1")
@click.argument("folder", type=click.Path())
@click.argument("repo_id", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repo private, where this makes it.")
@click.option("--revision", metavar="BRANCH", help="The branch to commit to; made where missing. [default: main]")
@click.option("--create-pr", is_flag=True, help="Propose the commit as a pull request.")
@click.option("--yes", is_flag=True, help="Replace another set, or delete files that FOLDER lacks.")
@json_option
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
@json_option
def pull(set_: str, folder: str, as_json: bool) -> None:
    """Copy a set from the Hub into FOLDER, whole and checked."""
    from ddhub import api

    done = api.pull(set_, folder)
    click.echo(json.dumps(done, indent=1) if as_json else f"artifact: {done['folder']}\nrevision: {done['commit']}")


@main.command(epilog="Example:  ddhub verify distilled/digits_ipc1")
@click.argument("set_", metavar="SET")
@json_option
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


@main.command(epilog="Example:  ddhub report distilled/digits_ipc1 OWNER/digits-ipc1 --html report.html")
@click.argument("sets", nargs=-1, required=True, metavar="SET...")
@reporting_options
@json_option
def report(sets: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Show the results of one SET or many side by side: folders, Hub ids, or folders of evaluations."""
    from ddhub import api, sidebyside

    done = api.reports(sets, **how)
    if as_json:
        click.echo(json.dumps(done, indent=1))
        return
    sidebyside.show(done)
    if how["html"]:
        click.echo(f"page: {how['html']}")
    if how["push"]:
        click.echo(done["pushed"]["url"])


@main.command("import", epilog="Example:  ddhub import cifar10_zca_10 --source uoft-cs/cifar10 --lr 0.02 --out mtt_10")
@click.argument("path")
@click.option("--source", required=True, help="What it was distilled from: a Hub id, digits, or a folder.")
@click.option("--out", required=True, type=click.Path(), help="The artifact's folder.")
@click.option("--set", "overrides", multiple=True, metavar="source.KEY=VALUE", help="As in source.path=FOLDER.")
@importing_options
@json_option
def import_(
    path: str, source: str, out: str, overrides: tuple[str, ...], importing: dict[str, Any], as_json: bool
) -> None:
    """Import the set at PATH, in another tool's layout, as an artifact."""
    from ddhub import api

    made = api.import_set(path, out, source, overrides=overrides, **importing)
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
@json_option
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


@main.command(epilog="Example:  ddhub merge distilled/a distilled/b OWNER/c --out distilled/abc")
@click.argument("sets", nargs=-1, required=True, metavar="SET SET...")
@click.option("--out", required=True, type=click.Path(), help="The merged artifact's folder.")
@click.option("--name", help="Of the merged set. [default: that of its folder]")
@json_option
def merge(sets: tuple[str, ...], out: str, name: str | None, as_json: bool) -> None:
    """Join SETs (folders or Hub ids) that were made independently, of one source with one set of teachers, as one."""
    from ddhub import api

    made = api.merge(sets, out, name)
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    click.echo(f"artifact: {made['folder']}\npicture:  {made['picture']}")
    click.echo(f"next:     ddhub evaluate {made['folder']}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _source_path(overrides: tuple[str, ...]) -> str | None:
    """The folder of `source.path=FOLDER`; of the source, nothing else can be set here."""
    path = None
    for text in overrides:
        key, _, value = text.partition("=")
        if key.startswith("source.") and (key != "source.path" or not value):
            raise UserError(f"--set {text}: of the source, only source.path=FOLDER can be set here")
        path = value if key == "source.path" else path
    return path


if __name__ == "__main__":
    sys.exit(main())
