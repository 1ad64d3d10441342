"""The plan of a recipe: how it would run here, with its cost."""

from dataclasses import dataclass, replace

from ddhub.artifact.recipe import Recipe
from ddhub.base import jobs
from ddhub.base.resources import Resources
from ddhub.distillation import groups, pipeline
from ddhub.distillation.plan import budget, forecast, history, work
from ddhub.distillation.plan.document import Plan


@dataclass(frozen=True)
class SourceSize:
    """Numbers that the user gives for an unknown source; None takes the known ones."""

    images: int | None = None  # images of its train split
    classes: int | None = None
    side: int | None = None  # side of its images in pixels


def plan(recipe: Recipe, asked: Resources, told: SourceSize, *, measure: bool = False) -> Plan:
    """Forecast the cost of distilling a recipe here, by phases. No data is read and the network is not used.

    Args:
        measure: run a few steps of each kind on noise first, and store their costs.

    Raises:
        UserError: for a recipe that cannot be made, or a source of unknown size.
    """
    engine = jobs.Engine(workers=asked.workers or 1)
    if recipe.groups == 1:
        groups.refuse_engine(engine)
    shape = work.shape(recipe.source, told.images, told.classes, told.side)
    outline = forecast.check_possible(work.Outline(recipe, shape, pipeline.decided(recipe, shape, asked)))
    each = groups.threads_each(asked.threads, outline.decisions.threads, engine)
    if measure:
        if recipe.memory is not None:
            outline = replace(outline, decisions=budget.measured(outline))
        forecast.measure(outline, each)
    else:
        outline = budget.foretold(outline)
    past = history.past(outline.decisions.device, recipe.method["name"])
    return Plan.model_validate({**forecast.document(outline, each, engine.workers), "past": past})
