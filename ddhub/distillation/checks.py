"""Checks before a run: foreseeable faults in names, splits, columns, sizes, permissions and disk space.

No image is decoded, and no test split is read.
"""

import os
from pathlib import Path
from typing import Any

from ddhub.artifact.recipe import Recipe
from ddhub.artifact.run_state import RUN, STATE
from ddhub.base import files, hub_faults
from ddhub.base import free_space as disk
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.base.resources import Resources
from ddhub.base.units import counted
from ddhub.data import contents, dataset_headers, first_look, held_out, opening, source
from ddhub.data.catalog import Shape
from ddhub.data.first_look import Holdings
from ddhub.data.spec import local_folder
from ddhub.distillation import first_recipe, pipeline
from ddhub.distillation.first_recipe import Choice
from ddhub.distillation.plan import forecast, work
from ddhub.distillation.recipes import method_config, method_of, refuse_top_k
from ddhub.distillation.task import constants
from ddhub.training import architectures


def check(recipe: Recipe, out: Path, asked: Resources, *, dry: bool = False, chosen: Choice | None = None) -> None:
    """Refuse a recipe that cannot be made. A folder with a begun run was checked before.

    Args:
        chosen: how the recipe was chosen just now, for which its pictures were looked at already.
        dry: check a Hub dataset without fetching its images, and skip the check if the Hub does not answer.

    Raises:
        UserError: for a fault that the user can mend.
    """
    if (out / STATE / RUN).exists() or pipeline.finished(recipe, out):
        return
    constants(recipe)  # not all sources have constants
    for folder in (out, files.home()):
        writable(folder)
    for arch in named(recipe):
        architectures.resolve(arch)
    held = first_recipe.seen(chosen, recipe) or look(recipe, dry)
    if held is None:
        return
    images(recipe, held)
    shape = Shape(held.images, len(held.classes), held.channels, recipe.source.resolution or held.side)
    if recipe.source.channels:
        shape = Shape(shape.images, shape.classes, recipe.source.channels, shape.side)
    pipeline.refuse_factor(recipe, shape.side)
    for arch in named(recipe):
        architectures.try_out(arch, shape.classes, shape.channels, shape.side)
    room(recipe, out, shape, asked)


def look(recipe: Recipe, dry: bool) -> Holdings | None:
    """Look at a recipe's source, and refuse faults of its names, splits and columns.

    The result is None for a Hub dataset whose images are not to be fetched, or if the Hub does not answer.

    Raises:
        UserError: for a fault that the user can mend.
    """
    local = opening.is_local(recipe.source) or recipe.source.dataset == "digits"
    place = local_folder(recipe.source)
    pictures = contents.contents(opening.existing(place)) if place is not None else None
    if place is not None and pictures is not None:
        contents.check(pictures, place, recipe.source.skip_damaged)
    try:
        source.check_test(recipe.source)
        if dry and not local:
            header(recipe)
            return None
    except hub_faults.faults() as fault:
        say(f"{recipe.source.dataset}: not checked, the Hub does not answer ({one_line(fault, 100)})")
        return None
    return first_look.look(recipe.source)


def named(recipe: Recipe) -> list[str]:
    """The architectures that a recipe names."""
    teachers = set(recipe.teachers.turns)
    return sorted(method_of(recipe).architectures_of(method_config(recipe)) | teachers)


def writable(folder: Path) -> None:
    """Refuse a folder that cannot be created or written to.

    Raises:
        UserError: naming the folder without permission.
    """
    there = files.nearest(folder)
    if not there.is_dir():
        raise UserError(f"{there}: is a file, where {folder} belongs", next="choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there}: no permission to write", next=f"ls -ld {quoted(there)}, or choose another --out")


def header(recipe: Recipe) -> None:
    """Check a Hub dataset's columns by its header. Its images are not fetched.

    Raises:
        UserError: for a missing column.
    """
    from datasets import Features

    spec = recipe.source
    features: Any = dataset_headers.builder(spec.dataset, spec.config, spec.revision).info.features
    if not isinstance(features, Features):
        return
    for key, column in (("image", spec.image), ("label", spec.label)):
        if column is not None and column not in features:
            raise UserError(f"source.{key}: no column '{column}', only {', '.join(features)}")


def images(recipe: Recipe, held: Holdings) -> None:
    """Refuse more images per class than the smallest class can start, and more soft labels than classes.

    Raises:
        UserError: naming the class.
    """
    spec = recipe.source
    first_look.refuse_empty(held)
    for name, count in zip(held.classes, held.counts, strict=True):
        left = count if spec.hold_out is None else count - held_out.size(count, spec.hold_out)
        left -= held_out.size(left, spec.validation)
        if recipe.ipc > left:
            raise UserError(
                f"ipc: {counted(recipe.ipc, 'image')} per class asked for, and class '{name}' has {left} in the"
                f" training part ({counted(count, 'image')} in all)",
                next=f"--set ipc={left}" if left > 0 else f"add images of '{name}', or leave the class out",
            )
    refuse_top_k(recipe, len(held.classes))


def room(recipe: Recipe, out: Path, shape: Shape, asked: Resources) -> None:
    """Refuse a run whose set, checkpoints and networks do not fit on the disk.

    Raises:
        UserError: with the bytes needed and the bytes free.
    """
    outline = work.Outline(recipe, shape, pipeline.decided(recipe, shape, asked))
    phases = {name: phase for name, phase in forecast.phases(outline).items() if name != "source"}
    needed = sum(phase.disk for phase in phases.values() if phase is not None)
    disk.need_room(out, round(needed), "the set and its checkpoints")
