"""The verbs, named as the commands: each takes plain values and gives back an object of ddhub/outcomes.py.

What a verb needs is imported when it is called, so that `recipes` or a misspelt name costs no second of torch's start.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ddhub.artifact import hub
from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.state import STATE
from ddhub.base import files, jobs, new_folder, same_folder
from ddhub.base import overrides as changes
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.resources import ResourceOptions, Resources
from ddhub.distillation import recipes as recipe_files
from ddhub.distillation.starting import init as init
from ddhub.distillation.starting import recipe_file
from ddhub.evaluation import choices, find_results  # help names the choices too
from ddhub.interop.options import ImportOptions
from ddhub.outcomes import Evaluation, Export, Made, Plan, Pull, Push, RecipeInfo, Report, Verification
from ddhub.reports import refresh, summary, verdicts

Folder = str | Path  # of a set, or where one goes
Reference = str | Path  # a set: its folder or its Hub id, `owner/name` or `owner/name@revision`


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
    """Distill a recipe into a folder; the same call resumes where an earlier one stopped.

    Args:
        recipe: a path, or the name of a shipped recipe. For a folder of pictures or a Hub id, as `init` writes one.
        out: the folder; None takes `distilled/NAME`.
        minutes, flips: of pictures, as `init` takes them.
        overrides: changes of the recipe, which are recorded.
        checkpoint_seconds: between two checkpoints.
        resources: fields of `ddhub.base.resources.Resources`. Workers share teachers and groups.

    Raises:
        UserError: for whatever the user can mend; what was done before is kept.
    """
    asked, changed = Resources(**resources), changes.texts(overrides)
    engine = jobs.choose(asked.workers, asked.shard, asked.ray)
    recipe = recipe_file(str(recipe), changed, minutes, flips, asked)
    resolved = recipe_files.read(str(recipe), changed)
    from ddhub.distillation import checks, groups, pipeline

    folder = Path(out) if out is not None else Path("distilled") / resolved.name
    if resolved.groups == 1:
        groups.refuse_engine(engine)
    checks.check(resolved, folder, asked)
    how: dict[str, Any] = {"overrides": changed, "resources": asked, "checkpoint_seconds": checkpoint_seconds}
    with same_folder.kept(folder), new_folder.no_stub(folder, folder / STATE / "run.json"):
        if resolved.groups == 1:
            pipeline.make(resolved, folder, **how)
        missing = groups.make(resolved, folder, **how) if resolved.groups > 1 else []
        if missing:
            return Made(folder=str(folder), missing=missing, next=groups.command(str(recipe), folder, changed))
        with files.locked(folder / groups.STATE / "lock"):  # other shards write it too
            return card(folder)


def plan(
    recipe: str | Path,
    *,
    overrides: changes.Overrides = (),
    measure: bool = False,
    images: int | None = None,
    classes: int | None = None,
    side: int | None = None,
    **resources: Unpack[ResourceOptions],
) -> Plan:
    """Say what distilling a recipe here will take, phase by phase; neither data nor network is used.

    Args:
        recipe: a path, or the name of a shipped recipe.
        overrides: changes of the recipe.
        measure: try a few steps of every kind on noise first, and keep what they cost.
        images, classes, side: of the source's train split, in pixels, where nobody knows them.
        resources: fields of `ddhub.base.resources.Resources`. Workers share teachers and groups.

    Raises:
        UserError: for a recipe that cannot be made, or a source whose size is not known.
    """
    resolved = recipe_files.read(str(recipe), changes.texts(overrides))
    from ddhub.distillation import planning

    return planning.plan(resolved, Resources(**resources), planning.SourceSize(images, classes, side), measure=measure)


def push(
    folder: Folder,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> Push:
    """Publish an artifact folder as a Hub dataset repo, in one commit, verified before and read back after.

    Args:
        folder: of the artifact.
        repo_id: `OWNER/NAME`.
        private: make a new repo private.
        revision: the branch to commit to, made where it is missing; None is `main`.
        create_pr: propose the commit as a pull request.
        yes: replace another set, or delete files in the repo that the folder lacks.

    Raises:
        UserError: for a set with faults, or what the Hub refuses; nothing is pushed then.
    """
    from ddhub.reports import publish

    return publish.push(Path(folder), repo_id, private=private, revision=revision, create_pr=create_pr, yes=yes)


def pull(set: str, out: Folder) -> Pull:
    """Copy a set from the Hub into a folder of its own: all of it, verified, or nothing.

    Args:
        set: `OWNER/NAME` or `OWNER/NAME@REVISION`.
        out: a folder that does not exist yet, or is empty.

    Raises:
        UserError: for what is no set on the Hub, or an `out` that holds something.
    """
    from ddhub.artifact import pull as pulling

    repo_id, commit = pulling.pull(set, Path(out))
    return Pull(folder=str(out), repo_id=repo_id, commit=commit)


def merge(*sets: Reference, out: Folder, name: str | None = None) -> Made:
    """Join sets that were made independently: all of the merged artifact, or nothing.

    Args:
        sets: folders or Hub ids, of one source with one set of teachers.
        out: the merged artifact's folder.
        name: of the merged set; None takes the folder's.
    """
    out = new_folder.untaken(out)
    places = [hub.fetch(str(each)) for each in sets]
    from ddhub.artifact import merge as merging

    with files.disk_errors(out, "merging"), new_folder.whole(out) as staging:
        merging.merge([merging.read(at.name, at.folder) for at in places], staging, name or out.absolute().name)
        refresh.write(staging)
    return Made(folder=str(out))


def card(folder: Folder) -> Made:
    """Write the card, report and pictures of an artifact folder anew."""
    refresh.write(Path(folder))
    return Made(folder=str(folder))


def verify(set: Reference) -> Verification:
    """Check that a set, a folder or Hub id, is what it says it is."""
    from ddhub.reports import verify as verifying

    place = hub.fetch(str(set))
    return Verification(set=place.name, faults=verifying.faults(place.folder))


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
    """Train architectures on a set and test them beside baselines; rows that are done are kept.

    Args:
        set: a folder, a file or a Hub id.
        archs: architectures; none takes that of the set's teachers.
        protocols: ways to train, such as `native` or `plain`.
        baselines: real images to compare with, such as `random` or `full`.
        tune: choose rate and weight decay per architecture, on validation data only.
        seeds: trainings per number; None takes the recipe's.
        out: where rows and report go; None takes the artifact's folder, or `ddhub-evaluations/NAME`.
        test: a Hub id or folder whose test split is used instead of the source's.
        overrides: changes of the protocols: `epochs=50` for all, `native.lr=0.01` for one.
        source_path: a local copy of the source.
        test_settings: `source.KEY=VALUE` strings: how the test images are read.
        allow_train: test on images that the set was distilled from, which is refused otherwise.
        corruptions: test on corrupted images too, as a column of its own; rows that were not are trained again.
        source: what the set was distilled from, where it is no ddhub artifact; it is imported into `out`/set then.
        importing: what the files of such a set do not say, as `import_set` takes it.
        probe: whether a teacher is trained that tells if the set is fed as it was made; None takes one at hand.
        resources: fields of `ddhub.base.resources.Resources`. Rows of other shards are not among those returned.

    Raises:
        UserError: before any training for whatever cannot be evaluated; after it for rows that failed.
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
                found,
                place.out / "evaluation",
                archs,
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
        finally:  # rows that were finished count, whatever became of the others
            refresh.results(place.set if place.own else None, found.manifest, place.out)
        say(f"rows: {place.out / 'evaluation'}; summary: {place.out / ('README.md' if place.own else 'report.json')}")
        built = summary.build(name, done)
        verdicts.warn_of(found.manifest, built)
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
        html: where to write them as one page too.
        push: bring card, report and rows of the one set to its repo, in one commit.
        rows_from: of an evaluation with more rows of the one set; None: of a Hub id, `ddhub-evaluations/OWNER--NAME`.
        create_pr, yes: as `push` takes them.

    Raises:
        UserError: for what is no set or has no rows; whatever keeps a push from being made.
    """
    from ddhub.reports import compare

    if (push or rows_from is not None) and len(sets) != 1:
        raise UserError("--push and --from: of one set", next="ddhub report SET --push, for each")
    names, where = dict.fromkeys(map(str, sets)), None if rows_from is None else Path(rows_from)
    found = [each for name in names for each in find_results.read(name, where)]
    document = compare.build([(each.label, each.rows) for each in found])
    verdicts.warn_of_all(found, document)
    if html is not None:
        from ddhub.reports import html_page

        html_page.write(document, Path(html), {each.label: each.place.folder for each in found if each.place})
    if push:
        from ddhub.reports import publish

        return document.model_copy(update={"pushed": publish.results(found[0], create_pr=create_pr, yes=yes)})
    return document


def import_set(path: Folder, *, source: str, out: Folder, **options: Unpack[ImportOptions]) -> Made:
    """Import a set in another tool's layout: all of the artifact, or nothing.

    Args:
        path: a file, a folder or a Hub id.
        source: what it was distilled from: a Hub id, `digits` or a folder.
        out: the artifact's folder.
        options: what the files do not say: the fields of ImportOptions in ddhub/interop/options.py.

    Raises:
        UserError: for whatever is left unsaid or contradicts itself.
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
        folder: of the artifact.
        layout: apm, dc, mtt, datm, kip, idc, folder, eccv24, an installed one, or a file, as `./mine.py`.
        out: a new folder; None takes `exported/NAME_LAYOUT`.
        named: name the folders of classes by class, where the layout has folders.
    """
    from ddhub.interop import exporting

    place = Path(out) if out is not None else Path("exported") / f"{Path(folder).absolute().name}_{Path(layout).stem}"
    return Export.model_validate(exporting.export(Path(folder), layout, place, named))


def recipes() -> list[RecipeInfo]:
    """The shipped recipes: name, dataset, images per class, method, and what is expected of each."""
    return [RecipeInfo.model_validate(entry) for entry in recipe_files.listing()]
