"""Commands that bring sets to others and theirs here: push, pull, import, export."""

import json
from typing import Any

import click

from ddhub.cli import which
from ddhub.cli.options import importing_options, json_option


@click.command(epilog="Example:  ddhub push distilled/digits_ipc1 OWNER/digits-ipc1")
@click.argument("folder", type=click.Path(), metavar="[FOLDER]", required=False)
@click.argument("repo_id", metavar="[OWNER/NAME]", required=False)
@click.option("--private", is_flag=True, help="Make the repo private, where this makes it.")
@click.option("--revision", metavar="BRANCH", help="The branch to commit to; made where missing. [default: main]")
@click.option("--create-pr", is_flag=True, help="Propose the commit as a pull request.")
@click.option(
    "--yes",
    is_flag=True,
    help="Ask nothing: push to the offered name, replace another set, or delete files that FOLDER lacks.",
)
@json_option
def push(folder: str | None, repo_id: str | None, as_json: bool, **how: Any) -> None:
    """Publish the artifact in FOLDER as a Hub dataset: verified, one commit, read back.

    Without FOLDER: the set in this folder, or the only one in distilled/. Without OWNER/NAME: your user name and the
    set's name are offered.
    """
    from ddhub import api

    if folder is None or repo_id is None:
        folder = folder or which.standing("ddhub push")
        offered = api.repo_for(folder)
        kind = "private" if how["private"] else "public"
        doing = f"push {folder} to {offered}: one commit to that dataset, made as a {kind} one where it is not there"
        which.agree(
            f"{doing}{'; another set in it is replaced' if how['yes'] else ''}",
            how["yes"],
            f"ddhub push {folder} {offered}",
        )
        repo_id = offered
    done = api.push(folder, repo_id, **how)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=1))
        return
    click.echo(done.url)
    at = "" if how["revision"] is None and not how["create_pr"] else f', revision="{done.commit}"'
    click.echo(f'load_dataset("{repo_id}"{at})')


@click.command(epilog="Example:  ddhub pull OWNER/NAME@main here")
@click.argument("set_", metavar="OWNER/NAME[@REVISION]")
@click.argument("folder", type=click.Path())
@json_option
def pull(set_: str, folder: str, as_json: bool) -> None:
    """Copy a set from the Hub into FOLDER, whole and checked."""
    from ddhub import api

    done = api.pull(set_, folder)
    click.echo(json.dumps(done.to_dict(), indent=1) if as_json else f"artifact: {done.folder}\nrevision: {done.commit}")


@click.command("import", epilog="Example:  ddhub import cifar10_zca_10 --source uoft-cs/cifar10 --lr 0.02 --out mtt_10")
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

    made = api.import_set(path, out=out, source=source, overrides=overrides, **importing)
    if as_json:
        click.echo(json.dumps(made.to_dict(), indent=1))
        return
    click.echo(f"artifact: {made.folder}\npicture:  {made.picture}")
    click.echo(f"next:     {made.next}")


@click.command(epilog="Example:  ddhub export distilled/cifar10_ipc10_small --layout datm")
@click.argument("folder", type=click.Path())
@click.option("--layout", required=True, help="apm, dc, mtt, datm, kip, idc, folder or eccv24.")
@click.option("--out", type=click.Path(), help="A new folder. [default: exported/NAME_LAYOUT]")
@click.option("--named", is_flag=True, help="Of the layout folder: call class folders by the classes' names.")
@json_option
def export(folder: str, layout: str, out: str | None, named: bool, as_json: bool) -> None:
    """Write the artifact in FOLDER in another tool's layout."""
    from ddhub import api

    done = api.export(folder, layout, out, named=named)
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=1))
        return
    few = done.files if len(done.files) <= 3 else [*done.files[:2], f"... {len(done.files)} files"]
    click.echo(f"folder:   {done.folder} ({', '.join(few)})\nvalues:   {done.space}")
    click.echo(f"left out: {'; '.join(done.left_out)}\nread by:  {done.read_with}")
