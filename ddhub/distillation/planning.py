"""The plan of a recipe: how it would run here, and what that takes."""

from dataclasses import dataclass, replace

from ddhub.artifact.recipe import Recipe
from ddhub.base import jobs
from ddhub.base.resources import Resources
from ddhub.distillation import groups, pipeline
from ddhub.distillation.plan import budget, forecast, history, work
from ddhub.distillation.plan.document import Plan


@dataclass(frozen=True)
class SourceSize:
    """What is said of a source that nobody knows; None takes what is known."""

    images: int | None = None  # of its train split
    classes: int | None = None
    side: int | None = None  # of its images, in pixels


def plan(recipe: Recipe, asked: Resources, told: SourceSize, *, measure: bool = False) -> Plan:
    """What distilling a recipe here will take, phase by phase; neither data nor network is used.

    Args:
        measure: try a few steps of every kind on noise first, and keep what they cost.

    Raises:
        UserError: for a recipe that cannot be made, or a source whose size is not known.
    """
    engine = jobs.Engine(workers=asked.workers or 1)
    if recipe.groups == 1:
        groups.refuse_engine(engine)
    shape = work.shape(recipe.source, told.images, told.classes, told.side)
    outline = forecast.possible(work.Outline(recipe, shape, pipeline.decided(recipe, shape, asked)))
    each = groups.threads_each(asked.threads, outline.decisions.threads, engine)
    if measure:
        if recipe.memory is not None:
            outline = replace(outline, decisions=budget.measured(outline))
        forecast.measure(outline, each)
    else:
        outline = budget.foretold(outline)
    past = history.past(outline.decisions.device, recipe.method["name"])
    return Plan.model_validate({**forecast.document(outline, each, engine.workers), "past": past})
