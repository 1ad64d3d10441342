"""Functions that judge sets: evaluate, report, verify, card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from ddhub.api.places import Folder, Reference
from ddhub.artifact import hub
from ddhub.base import jobs, progress, same_folder
from ddhub.base import overrides as changes
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.resources import ResourceOptions, Resources
from ddhub.evaluation import choices, find_rows
from ddhub.interop.options import ImportOptions
from ddhub.outcomes import Evaluation, Made, Report, Verification
from ddhub.reports import headlines, refresh, summary


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
    test: Reference | None = None,
    overrides: changes.Overrides = (),
    source_path: Folder | None = None,
    test_settings: Sequence[str] = (),
    allow_train: bool = False,
    corruptions: bool = False,
    source: Reference | None = None,
    importing: ImportOptions | None = None,
    probe: bool | None = None,
    **resources: Unpack[ResourceOptions],
) -> Evaluation:
    """Train architectures on a set and test them beside baselines. Finished rows are kept.

    Args:
        set: a folder, a file or a Hub id.
        archs: the architectures to train; by default the architecture of the set's teachers.
        protocols: ways to train, such as `native` or `plain`.
        baselines: real images to compare with, such as `random` or `full`.
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
    changed = changes.texts(overrides)
    choices.check(protocols, baselines, archs, test_settings, changed)
    told = None if source is None else str(source)
    place = find_set.locate(str(set), out, told, importing or {})
    from ddhub.artifact import folder as folders
    from ddhub.evaluation import grid as grids
    from ddhub.evaluation.probe import check
    from ddhub.evaluation.request import EvaluationRequest, Grid

    with same_folder.kept(place.out):
        if place.fresh:
            refresh.write(place.set)
        found = folders.read(place.set)
        grids.check_archs(found, archs)
        local, probed = None if source_path is None else str(source_path), None
        name = place.name or found.manifest.name
        if probe is not False:
            probed = check.probe(found, place.out, local, train=bool(probe), read=bool(baselines), resources=asked)
        rows = Grid(archs, protocols, baselines, seeds)
        request = EvaluationRequest(
            reference=place.reference,
            fetch=hub.fetch_folder,
            name=name,
            overrides=tuple(changed),
            test=None if test is None else str(test),
            source_path=local,
            resources=asked,
            test_settings=tuple(test_settings),
            allow_train=allow_train,
            corruptions=corruptions,
            tune=tune,
        )
        try:
            done = grids.evaluate(found, place.out / "evaluation", rows, request)
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
        create_pr: propose the commit as a pull request.
        yes: allow to delete files of the repo that are not here.

    Raises:
        UserError: if there is no set or no row, or if the push fails.
    """
    from ddhub.reports import compare

    if not sets:
        raise UserError("report: names no set", next="ddhub.report(SET)")
    if (push or rows_from is not None) and len(sets) != 1:
        raise UserError("--push and --from: of one set", next="ddhub report SET --push, for each")
    names, where = dict.fromkeys(map(str, sets)), None if rows_from is None else Path(rows_from)
    found = [each for name in names for each in find_rows.read(name, where)]
    document = compare.build([(each.label, each.rows) for each in found], {each.label: each.probed for each in found})
    headlines.warn_of_all(found, document)
    if html is not None:
        from ddhub.reports import html_page

        html_page.write(document, Path(html), {each.label: each.place.folder for each in found if each.place})
    if push:
        from ddhub.reports import publish

        return document.model_copy(update={"pushed": publish.results(found[0], create_pr=create_pr, yes=yes)})
    return document


def verify(set: Reference) -> Verification:
    """Check a set against its manifest and its own statements.

    Args:
        set: a folder or a Hub id.

    Raises:
        UserError: if there is no such set. The faults of a set are returned.
    """
    from ddhub.reports import verify as verifying

    place = hub.fetch(str(set))
    return Verification(set=place.name, faults=verifying.faults(place.folder))


def card(folder: Folder) -> Made:
    """Write the card, report and pictures of an artifact folder again.

    Raises:
        UserError: for a folder that is no artifact.
    """
    refresh.write(Path(folder))
    return Made(folder=str(folder))
