"""Commands that make sets: recipes, plan, distill, merge."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ddhub.base import plugins
from ddhub.base.errors import quoted
from ddhub.cli.options import (
    RECIPE,
    RUNNING,
    SKIP_DAMAGED,
    command,
    json_option,
    names,
    option,
    print_json,
    recipe_options,
    resource_options,
    skip_damaged_option,
)
from ddhub.cli.start import pictures_options


@command(epilog="Example:  ddhub recipes --keys")
@option(
    "--keys", "of_keys", section=RECIPE, is_flag=True, help="Explain every key of a recipe: values, default, meaning."
)
@json_option
def recipes(of_keys: bool, as_json: bool) -> None:
    """List recipes, methods and plug-ins, or explain a recipe's keys."""
    if of_keys:
        _keys(as_json)
        return
    from ddhub import api

    listing = api.recipes()
    if as_json:
        print_json([entry.to_dict() for entry in listing])
        return
    width = max(len(entry.name) for entry in listing)
    for entry in listing:
        expected = ", ".join(f"{k} {100 * v:.1f}%" for k, v in entry.expected.items() if isinstance(v, float))
        click.echo(f"{entry.name:{width}}  {entry.title}{f'  (expected: {expected})' if expected else ''}")
    click.echo(f"\nmethods: {', '.join(plugins.METHODS.names())}; or a file of yours, --set method.name=./NAME.py")
    for kind in (plugins.METHODS, plugins.LAYOUTS, plugins.ARCHITECTURES):
        for name, package in sorted(kind.packages().items()):
            click.echo(f"{kind.noun} {name}: of {package}")


def _keys(as_json: bool) -> None:
    """Print the keys of a recipe: two lines for each key, or JSON with a list for `recipe` and for each method."""
    from ddhub.distillation import recipes as recipe_files

    found = recipe_files.keys()
    if as_json:
        print_json({name: [asdict(key) for key in keys] for name, keys in found.items()})
        return
    for name, keys in found.items():
        click.echo("Every recipe" if name == "recipe" else f"\nMethod {name}{'' if keys else ': no keys'}")
        for key in keys:
            left_out = key.otherwise if key.required or not key.otherwise else f"default: {key.otherwise}"
            click.echo(f"\n  {key.key}  {key.values}{f'  [{left_out}]' if left_out else ''}")
            click.echo(f"      {key.description}")


@command(epilog="Example:  ddhub plan imagenet_ipc50 --memory 4GB")
@recipe_options
@option(
    "--images", section=RECIPE, type=click.IntRange(1), help="The number of images of an unknown source's train split."
)
@option("--classes", section=RECIPE, type=click.IntRange(1), help="The number of classes of an unknown source.")
@option("--side", section=RECIPE, type=click.IntRange(4), help="The side of an unknown source's images in pixels.")
@option(
    "--archs",
    section=RECIPE,
    default="",
    help="The architectures of an evaluation to forecast, comma-separated. [default: that of the teachers]",
)
@option(
    "--protocols",
    section=RECIPE,
    default="native",
    help="The protocols of the evaluation, comma-separated, as for evaluate. [default: native]",
)
@option(
    "--measure",
    section=RUNNING,
    is_flag=True,
    help="Measure the costs by a few steps of every kind on noise, and keep them. It takes minutes.",
)
@resource_options(
    "groups",
    *("float32", "bfloat16"),
    precision="As for distill. [default: float32]",
    shared="teachers and groups",
    spread=False,
)
@json_option
def plan(recipe: str, overrides: tuple[str, ...], archs: str, protocols: str, as_json: bool, **how: Any) -> None:
    """Forecast the time, memory and disk space of RECIPE here.

    Evaluations of its set have rows of their own. No image is decoded.
    """
    from ddhub import api
    from ddhub.reports import tables

    how |= {"archs": names(archs), "protocols": names(protocols)}
    found = api.plan(recipe, overrides=overrides, **how).to_dict()
    from ddhub.distillation.plan import forecast, history

    told = [*forecast.sentences(found), *history.sentences(found["past"])]
    if as_json:
        print_json(found)
    else:
        tables.show([_plan_table(found)], told)
        settings = [word for text in overrides for word in ("--set", text)]
        click.echo(f"next: {shlex.join(['ddhub', 'distill', recipe, *settings])}")


def _plan_table(found: dict[str, Any]) -> Any:
    """The table of a plan: a line for each phase, their sum, and the evaluation."""
    from ddhub.base.units import counted, duration, size
    from ddhub.reports.tables import Table, TableCell

    source, decisions, groups = found["source"], found["decisions"], found["groups"]
    pixels = f"{source['channels']}x{source['side']}x{source['side']}"
    real = f"about {source['training']:,} training images of {pixels}, {counted(source['classes'], 'class')}"
    how = [f"{decisions['threads']} thread{'s' * (decisions['threads'] > 1)}"]
    how += ["compiled" if decisions["compile"] else "not compiled", decisions["precision"]]
    how += [f"{name} {decisions[name]}" for name in ("micro_batch", "chunk") if decisions[name]]
    title = f"{found['recipe']}: {counted(found['synthetic'], 'image')} from {real}; {found['machine']['hardware']}, "
    title += ", ".join(how)
    lines = []
    for row in [*found["phases"], {"phase": "sum", **found["sum"]}, *found["evaluating"]]:
        name = f"{row['phase']} ({groups['count']} groups)" if "each_seconds" in row else row["phase"]
        name += f" {row['arch']}, {row['protocol']}" if "arch" in row else ""
        if row["seconds"] is None:
            lines.append([TableCell(name), TableCell(), TableCell(), TableCell(), TableCell()])
            continue
        measured = f"measured {row['measured']}" if row["measured"] else ""
        basis = ", ".join(text for text in (measured, "rough" if row["rough"] else "") if text) or "-"
        times = duration(row["seconds"])
        if row["wall_seconds"] < row["seconds"]:
            times += f" ({duration(row['wall_seconds'])} on the clock)"
        memory = size(row["peak_bytes"]) if row["peak_bytes"] else "-"
        lines.append(
            [TableCell(name), TableCell(times), TableCell(memory), TableCell(size(row["disk_bytes"])), TableCell(basis)]
        )
    return Table(title, ["phase", "time", "peak memory", "disk", "rests on"], 1, lines)


@command(epilog="Example:  ddhub distill ./photos --minutes 15")
@recipe_options
@pictures_options
@resource_options(
    "groups",
    *("float32", "bfloat16"),
    precision="Teachers always have float32. [default: float32]",
    shared="teachers and groups",
)
@option("--out", type=click.Path(), help="The artifact's folder. [default: distilled/NAME]")
@skip_damaged_option
@option("--dry-run", is_flag=True, help="Check everything, print the resolved recipe, and make nothing.")
@json_option
def distill(
    recipe: str,
    overrides: tuple[str, ...],
    out: str | None,
    skip_damaged: bool,
    dry_run: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Distill RECIPE, or a folder of pictures, into a set.

    RECIPE is the path of a recipe or the name of a shipped one. For a folder of pictures or a Hub id, a recipe is
    written first, as ddhub init does. The same command resumes a stopped run.
    """
    overrides = (*overrides, SKIP_DAMAGED) if skip_damaged else overrides
    if dry_run:
        _dry_run(recipe, overrides, out, as_json, how)
        return
    from ddhub import api

    made = api.distill(recipe, out=out, overrides=overrides, **how)
    if as_json:
        print_json(made.to_dict())
        return
    if made.missing:
        click.echo(f"{made.folder}: done here; missing groups: {', '.join(map(str, made.missing))}")
        click.echo(f"next: {made.next}  (makes what nobody makes, waits for the rest, and packages)")
        return
    click.echo(f"artifact: {made.folder}")
    click.echo(f"picture:  {made.picture}")
    click.echo(f"next:     ddhub evaluate {quoted(made.folder)} --archs resnet18_w16,vit_tiny_w64")


def _dry_run(reference: str, overrides: tuple[str, ...], out: str | None, as_json: bool, how: dict[str, Any]) -> None:
    """Check everything that can be checked before work, then print the resolved recipe."""
    from ddhub.base.resources import Resources
    from ddhub.distillation import starting

    given = {name: value for name, value in how.items() if name not in ("minutes", "flips")}
    asked = Resources(**given)
    resolved, chosen = starting.resolved(reference, overrides, how["minutes"], how["flips"], asked)
    from ddhub.distillation import checks  # imports torch, so a faulty recipe is refused before

    checks.check(resolved, Path(out or Path("distilled") / resolved.name), asked, dry=True, chosen=chosen)
    for line in chosen.reasons if chosen else []:
        click.echo(line, err=True)
    if as_json:
        print_json({**resolved.content(), "hash": resolved.hash})
    else:
        click.echo(f"# hash: {resolved.hash}\n{resolved.yaml()}", nl=False)


@command(epilog="Example:  ddhub merge distilled/a distilled/b OWNER/c --out distilled/abc")
@click.argument("sets", nargs=-1, required=True, metavar="SET SET...")
@option("--out", required=True, type=click.Path(), help="The merged artifact's folder.")
@option("--name", help="The name of the merged set. [default: that of its folder]")
@json_option
def merge(sets: tuple[str, ...], out: str, name: str | None, as_json: bool) -> None:
    """Join SETs that were made independently.

    Each SET is a folder or a Hub id. All have the same source and the same teachers.
    """
    from ddhub import api

    made = api.merge(*sets, out=out, name=name)
    if as_json:
        print_json(made.to_dict())
        return
    click.echo(f"artifact: {made.folder}\npicture:  {made.picture}")
    click.echo(f"next:     ddhub evaluate {quoted(made.folder)}")
