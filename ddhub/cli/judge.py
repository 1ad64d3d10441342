"""Commands that measure and check a set: evaluate, report, verify, card, plot."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ddhub.base.errors import UserError
from ddhub.base.overrides import setting
from ddhub.cli import which
from ddhub.cli.options import (
    FOREIGN,
    PUBLISHING,
    RUNNING,
    TRAINING,
    command,
    importing_options,
    json_option,
    names,
    option,
    print_json,
    resource_options,
)

if TYPE_CHECKING:
    from ddhub.api import ImportOptions


@command(epilog="Example:  ddhub evaluate distilled/digits_ipc1_dm --archs convnet2_w32,resnet18_w8 --seeds 3")
@click.argument("set_", metavar="[SET]", required=False)
@option(
    "--archs",
    section=TRAINING,
    default="",
    help="The architectures, comma-separated. frozen:NAME takes a pretrained timm backbone. "
    "[default: that of the teachers]",
)
@option(
    "--protocols",
    section=TRAINING,
    default="native",
    help=lambda: f"The protocols, comma-separated: {_choices('protocols')}. [default: native]",
)
@option(
    "--baselines",
    section=TRAINING,
    default="random",
    help=lambda: f"The baselines, comma-separated: {_choices('baselines')}; or none. [default: random]",
)
@option(
    "--seeds",
    section=TRAINING,
    type=click.IntRange(1),
    help="The number of trainings per accuracy. [default: the recipe's]",
)
@option(
    "--tune",
    section=TRAINING,
    is_flag=True,
    help="Choose rate and weight decay for each architecture on the validation part.",
)
@option(
    "--together",
    section=RUNNING,
    type=click.IntRange(1),
    help="The number of seeds that one program trains at once. [default: the fastest, measured once]",
)
@option("--test", section=TRAINING, help="The Hub id or folder whose test split is used. [default: that of the source]")
@option(
    *("--set", "overrides"),
    section=TRAINING,
    multiple=True,
    metavar="KEY=VALUE",
    help="Change all protocols (epochs=50), one protocol (native.lr=0.01), or the source (source.path=FOLDER, "
    "source.test=SPLIT).",
)
@option(
    "--allow-train",
    section=TRAINING,
    is_flag=True,
    help="Allow a test on images that SET was distilled from. It is refused otherwise.",
)
@option(
    "--corruptions",
    section=TRAINING,
    is_flag=True,
    help="Also test on corrupted images: noise, blur, contrast, brightness, pixelate, JPEG.",
)
@option(
    "--source",
    section=FOREIGN,
    help="The source of a foreign set: a Hub id, digits, or a folder.",
)
@option(
    "--probe/--no-probe",
    section=FOREIGN,
    default=None,
    help="Check with a teacher whether SET is fed as it was made. --probe trains the teacher if none is there. "
    "[default: check if a teacher is there]",
)
@importing_options
@resource_options(
    "rows",
    *("float32", "bfloat16", "auto"),
    precision="auto takes the faster one on this machine. [default: auto for ConvNets, otherwise float32]",
)
@option(
    "--memory",
    section=RUNNING,
    metavar="AMOUNT",
    help="The memory for batches and for teachers' labels of views, such as 4GB. "
    "[default: 2GB on a CPU, for networks without batch norm]",
)
@option(
    "--out",
    type=click.Path(),
    help="The folder of the rows. [default: SET if it is a folder with a set; otherwise ddhub-evaluations/NAME]",
)
@json_option
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
    """Train networks on SET and on random real images, and test them.

    SET is a folder, a file or a Hub id. The default is the set in this folder, or the only set in distilled/. Finished
    rows are kept.
    """
    from ddhub import api
    from ddhub.reports import headlines, summary, tables

    set_ = set_ if set_ is not None else which.standing("ddhub evaluate")
    of_source = [text for text in overrides if text.strip().startswith("source.")]
    path, of_test = _source_path(of_source)
    if source is not None and of_source:
        importing = {**importing, "overrides": of_source}
    found = api.evaluate(
        set_,
        names(archs),
        out=out,
        protocols=names(protocols),
        baselines=[name for name in names(baselines) if name != "none"],
        tune=tune,
        seeds=seeds,
        test=test,
        source_path=path if source is None else None,
        test_settings=of_test if source is None else (),
        overrides=[text for text in overrides if text not in of_source],
        source=source,
        importing=cast("ImportOptions", importing),
        **how,
    )
    table, small_print = tables.of_report(found, brief=True), summary.sentences(found)
    tables.show([table], small_print, first=headlines.above(found), stderr=as_json)
    if as_json:
        print_json(found.to_dict())
    elif (Path(set_) / "ddhub.json").is_file():
        click.echo(f"picture: {set_}/assets/images.png\nfolder:  {set_}")


def _choices(kind: str) -> str:
    from ddhub.api import choices

    return ", ".join(choices.NAMES[kind])


def _source_path(overrides: list[str]) -> tuple[str | None, list[str]]:
    """The folder of `source.path=FOLDER`, and the other settings of the source."""
    path, rest = None, []
    for text in overrides:
        each = setting(text, "source.path=FOLDER")
        if each.key != "source.path":
            rest.append(text)
        elif not each.value.strip():
            raise UserError(f"--set {text}: names no folder", next="--set source.path=FOLDER")
        else:
            path = each.value.strip()
    return path, rest


@command(epilog="Example:  ddhub report distilled/digits_ipc1_dm OWNER/digits-ipc1 --html report.html")
@click.argument("sets", nargs=-1, required=True, metavar="SET...")
@option("--html", type=click.Path(), metavar="FILE", help="Also write the results as one self-contained HTML page.")
@option(
    *("--from", "rows_from"),
    type=click.Path(),
    help="The folder of an evaluation with more rows of SET. [default for a Hub id: ddhub-evaluations/OWNER--NAME]",
)
@option(
    "--push",
    section=PUBLISHING,
    is_flag=True,
    help="Push the rows, report and card of one SET to its repo, in one commit.",
)
@option(
    "--create-pr",
    section=PUBLISHING,
    is_flag=True,
    help="With --push: propose the commit as a pull request.",
)
@option("--yes", section=PUBLISHING, is_flag=True, help="With --push: delete files of the repo that are not here.")
@json_option
def report(sets: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Show the results of one SET, or of several side by side.

    SET is a folder, a Hub id, or the folder of an evaluation.
    """
    from ddhub import api
    from ddhub.reports import compare

    done = api.report(*sets, **how)
    if as_json:
        print_json(done.to_dict())
        return
    compare.show(done)
    if how["html"]:
        click.echo(f"page: {how['html']}")
    if done.pushed is not None:
        click.echo(done.pushed.url)


@command(epilog="Example:  ddhub verify distilled/digits_ipc1_dm")
@click.argument("set_", metavar="SET")
@json_option
def verify(set_: str, as_json: bool) -> None:
    """Check SET against its manifest and its rows. SET is a folder or a Hub id.

    Each fault is printed on one line. The exit code is then 1.
    """
    from ddhub import api

    found = api.verify(set_)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo("\n".join(found.faults) if found.faults else f"{found.set}: all is well")
    if not found.ok:
        sys.exit(1)


@command(epilog="Example:  ddhub card distilled/digits_ipc1_dm")
@click.argument("folder", type=click.Path())
def card(folder: str) -> None:
    """Rewrite the card, report and pictures of the set in FOLDER."""
    from ddhub import api

    api.card(folder)
    click.echo(f"{folder}/README.md")


@command(epilog="Example:  ddhub plot distilled/digits_ipc1_dm")
@click.argument("run", type=click.Path())
@option("--out", type=click.Path(), help="The picture. [default: RUN/.ddhub/metrics.png]")
def plot(run: str, out: str | None) -> None:
    """Draw the loss and other values of a run by steps.

    RUN is the folder of the run's set.
    """
    from ddhub.reports import run_curves

    click.echo(f"picture: {run_curves.plot(Path(run), None if out is None else Path(out))}")
