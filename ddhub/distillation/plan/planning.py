"""The plan of a recipe: how it would run here, with its cost."""

from dataclasses import dataclass, replace
from pathlib import Path

from ddhub.artifact.recipe import Recipe
from ddhub.base import jobs, progress
from ddhub.base.errors import at_least
from ddhub.base.resources import Resources
from ddhub.data.spec import SourceSpec, local_folder
from ddhub.distillation import groups, pipeline
from ddhub.distillation.plan import budget, forecast, history, trying, work
from ddhub.distillation.plan.document import Plan
from ddhub.distillation.plan.evaluations import Evaluations
from ddhub.distillation.plan.work import Outline


@dataclass(frozen=True)
class SourceSize:
    """Numbers that the user gives for an unknown source; None takes the known ones."""

    images: int | None = None  # images of its train split
    classes: int | None = None
    side: int | None = None  # side of its images in pixels

    def __post_init__(self) -> None:
        at_least(1, images=self.images, classes=self.classes)
        at_least(4, side=self.side)


def plan(
    recipe: Recipe,
    asked: Resources,
    told: SourceSize,
    evaluations: Evaluations | None = None,
    *,
    measure: bool = False,
) -> Plan:
    """Forecast the cost of distilling a recipe here, by phases. No image is decoded and the network is not used.

    Args:
        evaluations: the evaluations of the set that are forecast too.
        measure: run a few steps of each kind on noise first, and store their costs.

    Raises:
        UserError: for a recipe that cannot be made, or a source of unknown size.
    """
    engine = jobs.Engine(workers=asked.workers or 1)
    if recipe.groups == 1:
        groups.refuse_engine(engine)
    outline = _outline(recipe, asked, told)
    each = groups.threads_each(asked.threads, outline.decisions.threads, engine)
    if measure:
        if recipe.memory is not None:
            outline = replace(outline, decisions=budget.measured(outline))
        trying.measure(outline, each, evaluations)
    else:
        outline = budget.foretold(outline)
    past = history.past(outline.decisions.device, recipe.method["name"])
    return Plan.model_validate({**forecast.document(outline, evaluations, each, engine.workers), "past": past})


def try_out(recipe: Recipe, asked: Resources, told: SourceSize) -> None:
    """Try briefly, on noise, what takes most of a recipe's time and was not tried here before."""
    outline = _outline(recipe, asked, told)
    trying.try_out(outline, groups.threads_each(asked.threads, outline.decisions.threads, jobs.Engine()))


def _outline(recipe: Recipe, asked: Resources, told: SourceSize) -> Outline:
    """The outline of a recipe that can be made.

    Raises:
        UserError: for a recipe that cannot be made, or a source of unknown size.
    """
    told = _looked_up(recipe.source, told)
    shape = work.shape(recipe.source, told.images, told.classes, told.side)
    pipeline.refuse_factor(recipe, shape.side)
    outline = Outline(recipe, shape, pipeline.decided(recipe, shape, asked))
    forecast.refuse_impossible(outline)
    return outline


def _looked_up(source: SourceSpec, told: SourceSize) -> SourceSize:
    """The given numbers. Those of a folder of pictures are looked up by names and headers."""
    folder = local_folder(source)
    if folder is None or not Path(folder).is_dir() or (told.images and told.classes):
        return told
    from ddhub.data import first_look

    with progress.busy(f"looking at {source.dataset}"):
        held = first_look.look(source)
    return SourceSize(
        told.images or held.images, told.classes or len(held.classes), told.side or source.resolution or held.side
    )
