"""Functions that make sets: recipes, plan, init, distill, merge."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from ddhub.api.places import Folder, Reference
from ddhub.artifact import hub
from ddhub.artifact.run_state import RUN, STATE
from ddhub.base import files, jobs, new_folder, progress, same_folder
from ddhub.base import overrides as changes
from ddhub.base.errors import at_least
from ddhub.base.resources import ResourceOptions, Resources
from ddhub.distillation import recipes as recipe_files
from ddhub.distillation.starting import init as init
from ddhub.distillation.starting import recipe_file
from ddhub.evaluation import choices
from ddhub.evaluation import protocols as named
from ddhub.outcomes import Made, Plan, RecipeInfo
from ddhub.reports import refresh


def recipes() -> list[RecipeInfo]:
    """List the shipped recipes with name, dataset, images per class, method and expected accuracy."""
    return [RecipeInfo.model_validate(entry) for entry in recipe_files.listing()]


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
        recipe: a path, or the name of a shipped recipe.
        overrides: changes of the recipe.
        archs: the architectures of an evaluation to forecast; by default that of the teachers.
        protocols: the protocols of that evaluation, as for `evaluate`.
        measure: run a few steps of each kind on noise first, and remember their times.
        images: the number of images of the source's train split, for a source that ddhub does not know.
        classes: the number of its classes.
        side: the side of its images, in pixels.
        resources: fields of `ddhub.base.resources.Resources`. Workers share teachers and groups.

    Raises:
        UserError: for a recipe that cannot be made, or a source whose size is not known.
    """
    asked = Resources(**resources)
    resolved = recipe_files.read(str(recipe), _changes(overrides, asked))
    choices.check(protocols, (), archs)
    from ddhub.distillation.plan import evaluations, planning

    after = evaluations.Evaluations(archs, protocols, named.changed, named.own)
    told = planning.SourceSize(images, classes, side)
    return planning.plan(resolved, asked, told, after, measure=measure)


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
        minutes: the minutes that distilling may take, for a folder of pictures or a Hub id, as for `init`.
        flips: whether training mirrors these pictures, as for `init`.
        overrides: changes of the recipe. The artifact records them.
        checkpoint_seconds: the time between two checkpoints.
        resources: fields of `ddhub.base.resources.Resources`. Workers share teachers and groups.

    Raises:
        UserError: for a fault that the user can mend. Finished work is kept.
    """
    asked = Resources(**resources)
    changed = _changes(overrides, asked)
    at_least(0, checkpoint_seconds=checkpoint_seconds)
    engine = jobs.choose(asked.workers, asked.shard, asked.ray)
    recipe, chosen = recipe_file(str(recipe), changed, minutes, flips, asked)
    resolved = recipe_files.read(recipe, changed)
    from ddhub.distillation import card_texts, checks, groups, pipeline

    folder = Path(out) if out is not None else Path("distilled") / resolved.name
    if resolved.groups == 1:
        groups.refuse_engine(engine)
    checks.check(resolved, folder, asked, chosen=chosen)
    how: dict[str, Any] = {"overrides": changed, "resources": asked, "checkpoint_seconds": checkpoint_seconds}
    with same_folder.kept(folder), new_folder.no_stub(folder, folder / STATE / RUN):
        if resolved.groups == 1:
            pipeline.make(resolved, folder, **how)
        missing = groups.make(resolved, folder, **how) if resolved.groups > 1 else []
        if missing:
            return Made(folder=str(folder), missing=missing, next=groups.command(recipe, folder, changed))
        with files.locked(folder / STATE / "lock"):  # other shards write it too
            card_texts.take_over(resolved, folder)
            refresh.write(folder)
            return Made(folder=str(folder))


def _changes(overrides: changes.Overrides, asked: Resources) -> list[str]:
    """The changes of a recipe. Its budget of memory is a key of it, so `memory=` is one of them."""
    return [*changes.texts(overrides), *([] if asked.memory is None else [f"memory={asked.memory}"])]


def merge(*sets: Reference, out: Folder, name: str | None = None) -> Made:
    """Join sets that were made independently into one artifact. It is complete, or nothing is written.

    Args:
        sets: folders or Hub ids of sets with the same source and the same teachers.
        out: the folder of the merged artifact. It does not exist yet, or is empty.
        name: the name of the merged set; None takes the folder's name.

    Raises:
        UserError: for sets that cannot be joined, or if `out` holds files.
    """
    out = new_folder.untaken(out)
    places = [hub.fetch(str(each)) for each in sets]
    from ddhub.artifact import merge as merging

    with files.disk_errors(out, "merging"), new_folder.whole(out) as staging:
        merging.merge([merging.read(at.name, at.folder) for at in places], staging, name or out.absolute().name)
        refresh.write(staging)
    return Made(folder=str(out))
