"""The Python functions, one for each command. Each takes plain values and returns an object of ddhub/outcomes.py.

A function imports heavy packages when it is called. `recipes` and errors in arguments do not wait for torch to load.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ddhub.artifact import hub
from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.run_state import STATE
from ddhub.base import files, jobs, new_folder, progress, same_folder
from ddhub.base import overrides as changes
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.resources import ResourceOptions, Resources
from ddhub.distillation import recipes as recipe_files
from ddhub.distillation.starting import init as init
from ddhub.distillation.starting import recipe_file
from ddhub.evaluation import choices, find_rows
from ddhub.evaluation import protocols as named
from ddhub.interop.options import ImportOptions
from ddhub.outcomes import Evaluation, Export, Made, Plan, Pull, Push, RecipeInfo, Report, Verification
from ddhub.reports import headlines, refresh, summary

Folder = str | Path  # the folder of a set, or the folder to write one to
Reference = str | Path  # a set's folder, or its Hub id as `owner/name` or `owner/name@revision`


@progress.shown_by_default()
def distill(
    recipe: str | Path,
    out: Folder | None = None,
    *,
    minutes: float | None = None,
    flips: bool | None = None,
    overrides: changes.Overrides = (),
    checkpoint_seconds: float = 120,
    **resources: Unpack[ResourceOptions],
) -> Made:
    """Distill a recipe into a folder. The same call resumes a stopped one.

    Args:
        recipe: a path, a shipped recipe's name, a folder of pictures or a Hub id. `init` writes the last two a recipe.
        out: the folder to write; None takes `distilled/NAME`.
        minutes, flips: as for `init`, where the recipe is a folder of pictures or a Hub id.
        overrides: changes of the recipe. The artifact records them.
        checkpoint_seconds: the time between two checkpoints.
        resources: fields of `ddhub.base.resources.Resources`. Workers share teachers and groups.

    Raises:
        UserError: for a fault that the user can mend. Finished work is kept.
    """
    asked, changed = Resources(**resources), changes.texts(overrides)
    engine = jobs.choose(asked.workers, asked.shard, asked.ray)
    recipe, chosen = recipe_file(str(recipe), changed, minutes, flips, asked)
    resolved = recipe_files.read(recipe, changed)
    from ddhub.distillation import checks, groups, pipeline

    folder = Path(out) if out is not None else Path("distilled") / resolved.name
    if resolved.groups == 1:
        groups.refuse_engine(engine)
    checks.check(resolved, folder, asked, chosen=chosen)
    how: dict[str, Any] = {"overrides": changed, "resources": asked, "checkpoint_seconds": checkpoint_seconds}
    with same_folder.kept(folder), new_folder.no_stub(folder, folder / STATE / "run.json"):
        if resolved.groups == 1:
            pipeline.make(resolved, folder, **how)
        missing = groups.make(resolved, folder, **how) if resolved.groups > 1 else []
        if missing:
            return Made(folder=str(folder), missing=missing, next=groups.command(recipe, folder, changed))
        with files.locked(folder / groups.STATE / "lock"):  # other shards write it too
            return card(folder)


def plan(
    recipe: str | Path,
    *,
    overrides: changes.Overrides = (),
    archs: Sequence[str] = (),
    protocols: Sequence[str] = ("native",),
    measure: bool = False,
    images: int | None = None,
    classes: int | None = None,
    side: int | None = None,
    **resources: Unpack[ResourceOptions],
) -> Plan:
    """Forecast the time, memory and disk of each phase of a recipe. No image is decoded and the network is not used.

    Args:
        recipe, overrides: a path or the name of a shipped recipe, and changes of it.
        archs, protocols: those of the evaluations to forecast, as for `evaluate`.
        measure: run a few steps of each kind on noise first, and remember their times.
        images, classes, side: the source's train split (side in pixels), for a source that ddhub does not know.
        resources: fields of `ddhub.base.resources.Resources`. Workers share teachers and groups.

    Raises:
        UserError: for a recipe that cannot be made, or a source whose size is not known.
    """
    resolved = recipe_files.read(str(recipe), changes.texts(overrides))
    choices.check(protocols, (), archs)
    from ddhub.distillation.plan import evaluations, planning

    after = evaluations.Evaluations(archs, protocols, named.changed, named.own)
    told = planning.SourceSize(images, classes, side)
    return planning.plan(resolved, Resources(**resources), told, after, measure=measure)


def push(
    folder: Folder,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> Push:
    """Publish an artifact folder as a Hub dataset repo in one commit. It is verified before and compared after.

    Args:
        folder, repo_id: the artifact's folder, and the Hub id, `OWNER/NAME`.
        revision: the branch to commit to. It is created if it is missing. None takes `main`.
        private, create_pr: make a new repo private; propose the commit as a pull request.
        yes: allow to replace another set, or to delete files of the repo that the folder lacks.

    Raises:
        UserError: for a faulty set, or if the Hub refuses. Nothing is pushed then.
    """
    from ddhub.reports import publish

    return publish.push(Path(folder), repo_id, private=private, revision=revision, create_pr=create_pr, yes=yes)


def pull(set: str, out: Folder) -> Pull:
    """Copy a set from the Hub into a new folder. The copy is verified and complete, or nothing is written.

    Args:
        set, out: `OWNER/NAME` or `OWNER/NAME@REVISION`, and a folder that does not exist yet or is empty.

    Raises:
        UserError: if there is no such set on the Hub, or if `out` holds files.
    """
    from ddhub.artifact import pull as pulling

    repo_id, commit = pulling.pull(set, Path(out))
    return Pull(folder=str(out), repo_id=repo_id, commit=commit)


def merge(*sets: Reference, out: Folder, name: str | None = None) -> Made:
    """Join sets that were made independently into one artifact. It is complete, or nothing is written.

    Args:
        sets: folders or Hub ids of sets with the same source and the same teachers.
        out, name: the folder of the merged artifact, and its name; None takes the folder's.
    """
    out = new_folder.untaken(out)
    places = [hub.fetch(str(each)) for each in sets]
    from ddhub.artifact import merge as merging

    with files.disk_errors(out, "merging"), new_folder.whole(out) as staging:
        merging.merge([merging.read(at.name, at.folder) for at in places], staging, name or out.absolute().name)
        refresh.write(staging)
    return Made(folder=str(out))


def card(folder: Folder) -> Made:
    """Write the card, report and pictures of an artifact folder again."""
    refresh.write(Path(folder))
    return Made(folder=str(folder))


def verify(set: Reference) -> Verification:
    """Check a set, given as a folder or Hub id, against its manifest and its own statements."""
    from ddhub.reports import verify as verifying

    place = hub.fetch(str(set))
    return Verification(set=place.name, faults=verifying.faults(place.folder))


@progress.shown_by_default()
def evaluate(
    set: Reference,
    archs: Sequence[str] = (),
    *,
    protocols: Sequence[str] = ("native",),
    baselines: Sequence[str] = ("random",),
    tune: bool = False,
    seeds: int | None = None,
    out: Folder | None = None,
    test: str | None = None,
    overrides: changes.Overrides = (),
    source_path: Folder | None = None,
    test_settings: Sequence[str] = (),
    allow_train: bool = False,
    corruptions: bool = False,
    source: str | None = None,
    importing: ImportOptions | None = None,
    probe: bool | None = None,
    **resources: Unpack[ResourceOptions],
) -> Evaluation:
    """Train architectures on a set and test them beside baselines. Finished rows are kept.

    Args:
        set: a folder, a file or a Hub id.
        archs: the architectures to train; by default the architecture of the set's teachers.
        protocols, baselines: ways to train, such as `plain`, and real images to compare with, such as `random`.
        tune: choose rate and weight decay for each architecture, on validation data only.
        seeds: the trainings behind each number; None takes the recipe's.
        out: the folder for rows and report; None takes the artifact's folder, or `ddhub-evaluations/NAME`.
        test: a Hub id or folder whose test split is used instead of the source's.
        overrides: changes of the protocols: `epochs=50` for all, `native.lr=0.01` for one.
        source_path: a local copy of the source.
        test_settings: how to read the test images, as `source.KEY=VALUE` strings.
        allow_train: allow test images that the set was distilled from.
        corruptions: also test on corrupted images, as another column. Rows without that column are trained again.
        source: the dataset that a foreign set was distilled from. The set is imported into `out`/set.
        importing: facts that the files of a foreign set do not state, as for `import_set`.
        probe: train a teacher to check how the set must be preprocessed; None uses a teacher only if one exists.
        resources: fields of `ddhub.base.resources.Resources`. Rows of other shards are not returned.

    Raises:
        UserError: before any training if something cannot be evaluated; after it if rows failed.
    """
    from ddhub.evaluation import find_set

    asked = Resources(**resources)
    jobs.choose(asked.workers, asked.shard, asked.ray)
    choices.check(protocols, baselines, archs, test_settings)
    place = find_set.locate(str(set), out, source, importing or {})
    from ddhub.artifact import folder as folders
    from ddhub.evaluation import grid as grids
    from ddhub.evaluation.probe import check

    with same_folder.kept(place.out):
        if place.fresh:
            refresh.write(place.set)
        found = folders.read(place.set)
        grids.check_archs(found, archs)
        local, probed = None if source_path is None else str(source_path), None
        name = place.name or found.manifest.name
        if probe is not False:
            probed = check.probe(found, place.out, local, train=bool(probe), read=bool(baselines), resources=asked)
        try:
            done = grids.evaluate(
                *(found, place.out / "evaluation", archs),
                name=name,
                protocols=protocols,
                baselines=baselines,
                overrides=changes.texts(overrides),
                tune=tune,
                seeds=seeds,
                test=test,
                source_path=local,
                test_settings=test_settings,
                allow_train=allow_train,
                corruptions=corruptions,
                resources=asked,
                reference=place.reference,
                fetch=hub.fetch_folder,
            )
        finally:  # finished rows count, even if others failed
            refresh.results(place.set if place.own else None, found.manifest, place.out)
        say(f"rows: {place.out / 'evaluation'}; summary: {place.out / ('README.md' if place.own else 'report.json')}")
        built = summary.build(name, done)
        headlines.warn_of(found.manifest, built)
        return summary.with_probe(built, probed)


def report(
    *sets: Reference,
    html: Folder | None = None,
    push: bool = False,
    rows_from: Folder | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> Report:
    """Read the results of one set, or of many side by side.

    Args:
        sets: artifact folders, Hub ids, or folders of evaluations.
        html: a file to write the results to as one page.
        push: commit card, report and rows of the one set to its repo.
        rows_from: a folder with more rows of the one set; None takes `ddhub-evaluations/OWNER--NAME` for a Hub id.
        create_pr, yes: as for `push`.

    Raises:
        UserError: if there is no set or no row, or if the push fails.
    """
    from ddhub.reports import compare

    if (push or rows_from is not None) and len(sets) != 1:
        raise UserError("--push and --from: of one set", next="ddhub report SET --push, for each")
    names, where = dict.fromkeys(map(str, sets)), None if rows_from is None else Path(rows_from)
    found = [each for name in names for each in find_rows.read(name, where)]
    document = compare.build([(each.label, each.rows) for each in found])
    headlines.warn_of_all(found, document)
    if html is not None:
        from ddhub.reports import html_page

        html_page.write(document, Path(html), {each.label: each.place.folder for each in found if each.place})
    if push:
        from ddhub.reports import publish

        return document.model_copy(update={"pushed": publish.results(found[0], create_pr=create_pr, yes=yes)})
    return document


def import_set(path: Folder, *, source: str, out: Folder, **options: Unpack[ImportOptions]) -> Made:
    """Import a set in another tool's layout. The artifact is complete, or nothing is written.

    Args:
        path: a file, a folder or a Hub id.
        source: the dataset that it was distilled from: a Hub id, `digits` or a folder.
        out: the folder of the new artifact.
        options: facts that the files do not state: the fields of ImportOptions in ddhub/interop/options.py.

    Raises:
        UserError: if a needed fact is missing or two facts disagree.
    """
    from ddhub.evaluation import find_set
    from ddhub.interop import importing as importings

    out = new_folder.untaken(out)
    where, revision = find_set.split(str(path))
    told = importings.ask(source, **options)
    told = replace(told, name=told.name or out.absolute().name, reading=replace(told.reading, revision=revision))
    with new_folder.no_stub(out, out / MANIFEST), files.disk_errors(out, "importing"), new_folder.whole(out) as staging:
        refresh.write(importings.import_set(Path(where), staging, told))
    return Made(folder=str(out), next=importings.evaluation_of(out))


def export(folder: Folder, layout: str, out: Folder | None = None, *, named: bool = False) -> Export:
    """Write an artifact folder in another tool's layout.

    Args:
        folder: the artifact's folder.
        layout: apm, dc, mtt, datm, kip, idc, folder, eccv24, an installed plug-in, or a file such as `./mine.py`.
        out: a new folder; None takes `exported/NAME_LAYOUT`.
        named: name class folders by their classes, if the layout has folders.
    """
    from ddhub.interop import exporting

    place = Path(out) if out is not None else Path("exported") / f"{Path(folder).absolute().name}_{Path(layout).stem}"
    return Export.model_validate(exporting.export(Path(folder), layout, place, named))


def recipes() -> list[RecipeInfo]:
    """List the shipped recipes with name, dataset, images per class, method and expected accuracy."""
    return [RecipeInfo.model_validate(entry) for entry in recipe_files.listing()]
