"""The verbs: one function each, plain values in and out; the command line parses, calls one of these, and prints."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ddhub.artifact import folder as folders
from ddhub.artifact import hub, manifest
from ddhub.artifact import merge as merges
from ddhub.artifact.manifest import Manifest
from ddhub.base import files, jobs, strict_yaml
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.distillation import groups, pipeline
from ddhub.distillation import recipes as recipe_files
from ddhub.distillation.plan import budget, forecast, history, work
from ddhub.evaluation import find_results, find_set, results
from ddhub.evaluation import grid as grids
from ddhub.evaluation.probe import check
from ddhub.reports import card, charts, compare, html_page, verify
from ddhub.reports import summary as summaries
from ddhub.training import device as devices


def distill(
    reference: str,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    precision: devices.Precision | None = None,
    checkpoint_seconds: float = 120,
    workers: int | None = None,
    shard: str | None = None,
    ray: str | None = None,
) -> dict[str, Any]:
    """Distill a recipe (path or shipped name) into a folder, `distilled/NAME` by default; resumes where it stopped.

    `workers`, `shard` and `ray` say where groups are made, as jobs.choose takes them; workers share the teachers too.
    Of a shard that leaves groups to others, what is returned is `folder`, the `missing` groups and the `next` command.
    """
    engine = jobs.choose(workers, shard, ray)
    resolved = recipe_files.read(reference, overrides)
    folder = Path(out) if out is not None else Path("distilled") / resolved.name
    how: dict[str, Any] = {
        "overrides": overrides,
        "decisions": {"device": device, "threads": threads, "compile": compile, "precision": precision},
        "checkpoint_seconds": checkpoint_seconds,
    }
    if resolved.groups == 1:
        groups.refuse_engine(engine)
        pipeline.make(resolved, folder, workers=engine.workers, **how)
        return write_card(folder)
    missing = groups.make(resolved, folder, engine=engine, **how)
    if missing:
        return {"folder": str(folder), "missing": missing, "next": groups.command(reference, folder, overrides)}
    with files.locked(folder / groups.STATE / "lock"):  # other shards write it too
        return write_card(folder)


def plan(
    reference: str,
    *,
    overrides: Sequence[str] = (),
    measure: bool = False,
    images: int | None = None,
    classes: int | None = None,
    side: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    precision: devices.Precision | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """What distilling a recipe (path or shipped name) here will take, phase by phase; neither data nor network is used.

    Args:
        measure: try a few steps of every kind on noise first, and keep what they cost.
        images, classes, side: of the source's train split, where nobody knows them.
        workers: processes that share the recipe's teachers and groups.
    """
    engine, resolved = jobs.Engine(workers=workers or 1), recipe_files.read(reference, overrides)
    if resolved.groups == 1:
        groups.refuse_engine(engine)
    shape = work.shape(resolved.source, images, classes, side)
    asked = {"device": device, "threads": threads, "compile": compile, "precision": precision}
    outline = forecast.possible(work.Outline(resolved, shape, pipeline.decided(resolved, shape, asked)))
    each = groups.threads_each(threads, outline.decisions.threads, engine)
    if measure:
        if resolved.memory is not None:
            outline = replace(outline, decisions=budget.measured(outline))
        forecast.measure(outline, each)
    else:
        outline = budget.foretold(outline)
    past = history.past(outline.decisions.device, resolved.method["name"])
    return {**forecast.document(outline, each, engine.workers), "past": past}


def write_card(folder: Path) -> dict[str, Any]:
    """Write the image grid, report.json and README.md of an artifact anew, and say where things are."""
    found = folders.read(folder)
    grid = folder / "assets" / "images.png"
    charts.image_grid(found, grid)
    summary = summaries.save(found.manifest, folder / "evaluation", folder / "report.json")
    charts.save(summary, grid.parent)
    files.write_bytes(folder / "README.md", _card(found.manifest, folder, summary))
    return {"folder": str(folder), "picture": str(grid), "manifest": found.manifest.model_dump(mode="json")}


def _card(record: Manifest, folder: Path, summary: dict[str, Any]) -> bytes:
    """The card's text, from a manifest, the report of its rows and what lies in its folder."""
    path = folder / "recipe.yaml"
    resolved = strict_yaml.read(path)
    return card.render(record, resolved, summary, card.describe(folder)).encode()


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> dict[str, Any]:
    """Publish an artifact folder as a Hub dataset repo, in one commit, verified before and read back after."""
    folder = Path(folder)
    faults = verify.faults(folder)
    if faults:
        raise UserError("\n".join([*faults, "nothing was pushed"]), next=f"ddhub card {folder}, or make it again")
    record = manifest.read(folder).model_copy(update={"repo_id": repo_id})
    summary = summaries.build(record.name, results.of(record, folder / "evaluation"))
    described = {"ddhub.json": manifest.dump(record), "README.md": _card(record, folder, summary)}
    done = hub.push(
        {**hub.published(folder), **described},
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        yes=yes,
    )
    try:
        for name, content in described.items():  # the folder now knows where it lives
            files.write_bytes(folder / name, content)
    except UserError as fault:
        raise UserError(f"{done.url}: published; but here {fault.args[0]}", next=fault.next) from fault
    return {"repo_id": done.repo_id, "commit": done.commit, "url": done.url, "changed": done.changed}


def pull(reference: str, out: str | Path) -> dict[str, Any]:
    """Copy a set from the Hub into a folder of its own: all of it, verified, or nothing."""
    out = Path(out)
    files.refuse_taken(out)
    place = hub.fetch(reference)
    if place.repo_id is None:
        raise UserError(f"{reference}: is a folder here already", next=f"cp -r {reference} {out}")
    with files.disk_errors(out, "pulling"), files.whole_folder(out) as staging:
        for name, path in hub.published(place.folder).items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / name)
        folders.read(staging)
    return {"folder": str(out), "repo_id": place.repo_id, "commit": place.commit}


def merge(references: Sequence[str], out: str | Path, name: str | None = None) -> dict[str, Any]:
    """Join sets, folders or Hub ids, that were made independently: all of the merged artifact `out`, or nothing."""
    out = Path(out)
    files.refuse_taken(out)
    places = [hub.fetch(reference) for reference in references]
    with files.disk_errors(out, "merging"), files.whole_folder(out) as staging:
        merges.merge([merges.read(at.name, at.folder) for at in places], staging, name or out.absolute().name)
        made = write_card(staging)
    return {**made, "folder": str(out), "picture": str(out / "assets" / "images.png")}


def faults(reference: str) -> tuple[str, list[str]]:
    """Verify a folder or a Hub id: what was looked at, and one line per fault."""
    place = hub.fetch(reference)
    return place.name, verify.faults(place.folder)


def evaluation(
    reference: str,
    archs: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    protocols: Sequence[str] = ("native",),
    baselines: Sequence[str] = ("random",),
    overrides: Sequence[str] = (),
    tune: bool = False,
    seeds: int | None = None,
    test: str | None = None,
    source_path: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    together: int | None = None,
    workers: int | None = None,
    shard: str | None = None,
    ray: str | None = None,
    source: str | None = None,
    importing: dict[str, Any] | None = None,
    probe: bool | None = None,
) -> dict[str, Any]:
    """Evaluate a set, a folder or a Hub id: returns its rows and their summary.

    A set that is no ddhub artifact needs its `source`: it is imported into `out`/set, with the options that
    importing.ask takes. A teacher at hand says whether the set is fed as it was made
    (ddhub/evaluation/probe/check.py); `probe` trains one where there is none, or leaves this out.

    Rows and report go into the artifact's folder, where its card is refreshed; those of a Hub id go to `out`, by
    default `ddhub-evaluations/OWNER--NAME`. `workers`, `shard` and `ray` say where rows run, as `jobs.choose` takes
    them; rows that other shards have yet to do are not among those returned.
    """
    engine = jobs.choose(workers, shard, ray)
    grids.check_names(protocols, baselines)
    place = find_set.locate(reference, out, source, importing or {})
    if place.fresh:
        write_card(place.set)
    found = folders.read(place.set)
    how: dict[str, Any] = {"device": device, "threads": threads, "compile": compile}
    probed = (
        None
        if probe is False
        else check.probe(found, place.out, source_path, train=bool(probe), read=bool(baselines), **how)
    )
    try:
        done = grids.evaluate(
            found,
            place.out / "evaluation",
            archs,
            name=place.name or found.manifest.name,
            protocols=protocols,
            baselines=baselines,
            overrides=overrides,
            tune=tune,
            seeds=seeds,
            test=test,
            source_path=source_path,
            engine=engine,
            reference=place.reference,
            fetch=hub.fetch_folder,
            precision=precision,
            together=together,
            **how,
        )
    finally:
        # Rows that were finished count, whatever became of the others.
        if (place.out / "evaluation").is_dir():
            # One after the other: of several processes on this folder, the last one's report has the rows of all.
            with files.locked(place.out / "evaluation" / ".report.lock"):
                if place.own:
                    write_card(place.set)
                else:
                    summaries.save(found.manifest, place.out / "evaluation", place.out / "report.json")
    say(f"rows: {place.out / 'evaluation'}; summary: {place.out / ('README.md' if place.own else 'report.json')}")
    built = summaries.build(place.name or found.manifest.name, done)
    return built if probed is None else {**built, "probe": probed}


def reports(
    references: Sequence[str],
    *,
    html: str | Path | None = None,
    push: bool = False,
    rows_from: str | Path | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> dict[str, Any]:
    """The results of sets side by side: artifact folders, Hub ids, or folders of evaluations.

    Args:
        html: where to write them as one page.
        push: bring card, report and rows of the one set to its repo, in one commit.
        rows_from: the folder of an evaluation with more rows of the one set; of a Hub id, by default
            `ddhub-evaluations/OWNER--NAME`.
        create_pr, yes: as `push` takes them.

    Raises:
        UserError: for what is no set or has no rows; whatever keeps a push from being made.
    """
    if (push or rows_from is not None) and len(references) != 1:
        raise UserError("--push and --from: of one set", next="ddhub report SET --push, for each")
    where = None if rows_from is None else Path(rows_from)
    found = [each for reference in dict.fromkeys(references) for each in find_results.read(reference, where)]
    document = compare.build([(each.label, each.rows) for each in found])
    if html is not None:
        html_page.write(document, Path(html))
    return {**document, "pushed": _push_results(found[0], create_pr, yes)} if push else document


def _push_results(found: find_results.Found, create_pr: bool, yes: bool) -> dict[str, Any]:
    """One commit that brings a repo the rows of its set, with card, report and charts anew."""
    repo_id, revision = find_results.destination(found)
    with tempfile.TemporaryDirectory(prefix="ddhub-") as name:
        folder = find_results.gathered(found, Path(name) / "set")
        write_card(folder)
        return push(folder, repo_id, revision=revision, create_pr=create_pr, yes=yes)


def import_set(path: str | Path, out: str | Path, source: str, **options: Any) -> dict[str, Any]:
    """Import a set in another tool's layout: all of the artifact `out`, or nothing.

    Args:
        path: a file, a folder or a Hub id.
        source: the dataset it was distilled from; `options` are those of importing.ask.
    """
    from ddhub.evaluation import find_set
    from ddhub.interop import importing as importings

    out = Path(out)
    files.refuse_taken(out)
    where, revision = find_set.split(str(path))
    options["reading"] = {"revision": revision, **(options.get("reading") or {})}
    options["name"] = options.get("name") or out.absolute().name
    with files.disk_errors(out, "importing"), files.whole_folder(out) as staging:
        made = write_card(importings.import_set(Path(where), staging, importings.ask(source, **options)))
    return {**made, "folder": str(out), "picture": str(out / "assets" / "images.png")}


def export(folder: str | Path, layout: str, out: str | Path | None = None) -> dict[str, Any]:
    """Write an artifact folder in another tool's layout, into `exported/NAME_LAYOUT` by default."""
    from ddhub.interop import exporting

    out = Path(out) if out is not None else Path("exported") / f"{Path(folder).absolute().name}_{layout}"
    return exporting.export(Path(folder), layout, out)


def recipes() -> list[dict[str, Any]]:
    """The shipped recipes: name, dataset, images per class, method, and what is expected of each."""
    return recipe_files.listing()
