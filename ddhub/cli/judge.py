"""Commands that say what a set is worth and whether it is whole: evaluate, report, verify, card."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ddhub.base.errors import UserError
from ddhub.cli import which
from ddhub.cli.options import (
    common_options,
    engine_options,
    importing_options,
    json_option,
    precision_option,
    reporting_options,
)

if TYPE_CHECKING:
    from ddhub.api import ImportOptions


@click.command(epilog="Example:  ddhub evaluate distilled/digits_ipc1 --archs convnet,resnet18,vit_tiny --seeds 3")
@click.argument("set_", metavar="[SET]", required=False)
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
@precision_option(
    ["float32", "bfloat16", "auto"],
    "auto: whichever is faster here. [default: auto for ConvNets, else float32]",
)
@click.option(
    "--together", type=click.IntRange(1), help="Seeds trained in one program. [default: by speed, measured once]"
)
@common_options
def evaluate(
    set_: str | None,
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
    """Train architectures on SET (folder, file or Hub id), test them beside random real images; done rows are kept.

    Without SET: the set in this folder, or the only one in distilled/.
    """
    from ddhub import api
    from ddhub.reports import summary, tables

    set_ = set_ if set_ is not None else which.standing("ddhub evaluate")
    of_source = [text for text in overrides if text.startswith("source.")]
    if source is not None and of_source:
        importing = {**importing, "overrides": of_source}
    found = api.evaluate(
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
        importing=cast("ImportOptions", importing),
        **how,
    ).to_dict()
    tables.show([tables.of_report(found, brief=True)], summary.sentences(found), stderr=as_json)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif (Path(set_) / "ddhub.json").is_file():
        click.echo(f"picture: {set_}/assets/images.png\nfolder:  {set_}")


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


@click.command(epilog="Example:  ddhub report distilled/digits_ipc1 OWNER/digits-ipc1 --html report.html")
@click.argument("sets", nargs=-1, required=True, metavar="SET...")
@reporting_options
@json_option
def report(sets: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Show the results of one SET or many side by side: folders, Hub ids, or folders of evaluations."""
    from ddhub import api
    from ddhub.reports import compare

    done = api.report(*sets, **how).to_dict()
    if as_json:
        click.echo(json.dumps(done, indent=1))
        return
    compare.show(done)
    if how["html"]:
        click.echo(f"page: {how['html']}")
    if how["push"]:
        click.echo(done["pushed"]["url"])


@click.command(epilog="Example:  ddhub verify distilled/digits_ipc1")
@click.argument("set_", metavar="SET")
@json_option
def verify(set_: str, as_json: bool) -> None:
    """Check that SET, a folder or Hub id, is what it says it is; exit code 1 and one line per fault if not."""
    from ddhub import api

    found = api.verify(set_)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        click.echo("\n".join(found.faults) if found.faults else f"{found.set}: all is well")
    if not found.ok:
        sys.exit(1)


@click.command(epilog="Example:  ddhub card distilled/digits_ipc1")
@click.argument("folder", type=click.Path())
def card(folder: str) -> None:
    """Write the card, report and pictures of the artifact in FOLDER anew."""
    from ddhub import api

    api.card(folder)
    click.echo(f"{folder}/README.md")
