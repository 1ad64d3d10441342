"""Commands that exchange sets with the Hub and other tools: push, pull, import, export."""

from pathlib import Path
from typing import Any

import click

from ddhub.base.errors import quoted
from ddhub.cli import which
from ddhub.cli.options import FOREIGN, PUBLISHING, command, importing_options, json_option, layouts, option, print_json


@command(epilog="Example:  ddhub push distilled/digits_ipc1_dm OWNER/digits-ipc1")
@click.argument("folder", type=click.Path(), metavar="[FOLDER]", required=False)
@click.argument("repo_id", metavar="[OWNER/NAME]", required=False)
@option("--private", section=PUBLISHING, is_flag=True, help="Make a new repo private.")
@option(
    "--revision",
    section=PUBLISHING,
    metavar="BRANCH",
    help="The branch for the commit. A missing branch is created. [default: main]",
)
@option("--create-pr", section=PUBLISHING, is_flag=True, help="Propose the commit as a pull request.")
@option(
    "--yes",
    section=PUBLISHING,
    is_flag=True,
    help="Agree to everything: the offered name, replacing another set, and deleting files that FOLDER lacks.",
)
@json_option
def push(folder: str | None, repo_id: str | None, as_json: bool, **how: Any) -> None:
    """Publish the set in FOLDER as a Hub dataset.

    The set is verified first, sent in one commit, and read back. The default of FOLDER is the set in this folder, or
    the only set in distilled/. The default of OWNER/NAME is your user name and the set's name, if you agree.
    """
    from ddhub import api

    if folder is None or repo_id is None:
        from ddhub.reports import publish

        folder = folder or which.standing("ddhub push")
        offered = publish.repo_for(Path(folder))
        kind = "private" if how["private"] else "public"
        doing = f"push {folder} to {offered} in one commit; a missing dataset is created as a {kind} one"
        which.agree(
            f"{doing}{'; another set there is replaced' if how['yes'] else ''}",
            how["yes"],
            f"ddhub push {quoted(folder)} {quoted(offered)}",
        )
        repo_id = offered
    done = api.push(folder, repo_id, **how)
    if as_json:
        print_json(done.to_dict())
        return
    click.echo(done.url)
    at = "" if how["revision"] is None and not how["create_pr"] else f', revision="{done.commit}"'
    click.echo(f'load_dataset("{repo_id}"{at})')


@command(epilog="Example:  ddhub pull OWNER/NAME@main here")
@click.argument("set_", metavar="OWNER/NAME[@REVISION]")
@click.argument("folder", type=click.Path())
@json_option
def pull(set_: str, folder: str, as_json: bool) -> None:
    """Copy a set from the Hub into FOLDER, and verify it."""
    from ddhub import api

    done = api.pull(set_, folder)
    if as_json:
        print_json(done.to_dict())
        return
    click.echo(f"artifact: {done.folder}\nrevision: {done.commit}")


@command("import", epilog="Example:  ddhub import cifar10_zca_10 --source uoft-cs/cifar10 --lr 0.02 --out mtt_10")
@click.argument("path")
@option(
    "--source",
    section=FOREIGN,
    required=True,
    help="The source of the set: a Hub id, digits, or a folder.",
)
@option(
    *("--set", "overrides"),
    section=FOREIGN,
    multiple=True,
    metavar="source.KEY=VALUE",
    help="Change how the source is read, such as source.path=FOLDER.",
)
@importing_options
@option("--out", required=True, type=click.Path(), help="The artifact's folder.")
@json_option
def import_(
    path: str, source: str, out: str, overrides: tuple[str, ...], importing: dict[str, Any], as_json: bool
) -> None:
    """Make an artifact from the foreign set at PATH."""
    from ddhub import api

    made = api.import_set(path, out=out, source=source, overrides=overrides, **importing)
    if as_json:
        print_json(made.to_dict())
        return
    click.echo(f"artifact: {made.folder}\npicture:  {made.picture}")
    click.echo(f"next:     {made.next}")


@command(epilog="Example:  ddhub export distilled/cifar10_ipc10_small --layout datm")
@click.argument("folder", type=click.Path())
@option(
    "--layout",
    section=FOREIGN,
    required=True,
    help=lambda: f"The layout to write: {layouts()}.",
)
@option("--out", type=click.Path(), help="A new folder. [default: exported/NAME_LAYOUT]")
@option("--named", section=FOREIGN, is_flag=True, help="For the layout folder: name class folders by their classes.")
@json_option
def export(folder: str, layout: str, out: str | None, named: bool, as_json: bool) -> None:
    """Write the set in FOLDER in the layout of another tool."""
    from ddhub import api

    done = api.export(folder, layout, out, named=named)
    if as_json:
        print_json(done.to_dict())
        return
    few = done.files if len(done.files) <= 3 else [*done.files[:2], f"... {len(done.files)} files"]
    click.echo(f"folder:   {done.folder} ({', '.join(few)})\nvalues:   {done.space}")
    click.echo(f"left out: {'; '.join(done.left_out)}\nread by:  {done.read_with}")
