"""From a recipe to an artifact: source, preprocessing, teachers, method, packaging. The same command resumes.

Nothing here or below can open the test split. `Task` holds only the train split.
"""

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ddhub.artifact import doubts, run_state
from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.recipe import Recipe
from ddhub.artifact.run_state import RUN, STATE, RunState
from ddhub.base import files, links, plugins, progress
from ddhub.base.errors import UserError, memory_errors, quoted
from ddhub.base.limits import TILES
from ddhub.base.log import say, warn, warn_once
from ddhub.base.resources import Resources
from ddhub.base.units import memory_bytes
from ddhub.data import held_out, opening, preprocess
from ddhub.data import source as sources
from ddhub.data import spec as specs
from ddhub.data.catalog import Shape
from ddhub.data.spec import SourceSpec
from ddhub.distillation import packaging, speed
from ddhub.distillation.plan import budget, history
from ddhub.distillation.plan.work import Outline
from ddhub.distillation.recipes import method_config, method_of, refuse_top_k
from ddhub.distillation.task import SyntheticSet, Task, constants, own_protocol
from ddhub.training import architectures, fit
from ddhub.training import device as devices
from ddhub.training import teachers as teaching
from ddhub.training.loop import Run

SMALLEST = 4  # pixels per side of a stored image


def make(
    recipe: Recipe,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    resources: Resources = Resources(),
    checkpoint_seconds: float = 120,
) -> Path:
    """Distill a recipe into `out`, or resume an earlier run of the same recipe.

    Args:
        overrides: the `--set` strings that changed the recipe, for the record.
        resources: the requested resources. The first run fixes the decisions. Workers share the teachers.

    Raises:
        UserError: for a fault that the user can mend. Finished work is kept.
    """
    assert recipe.groups == 1, "ddhub/distillation/groups.py makes sets of several groups"
    if finished(recipe, out):
        return out
    with files.locked(out / STATE / "lock", busy="another ddhub is working in this folder"):
        belongs(recipe, out)
        with history.Watch() as watch:
            task, seconds = prepare(recipe, out, resources, checkpoint_seconds)
            watch.prepared(seconds)
            run = Run(
                out / STATE,
                "distill",
                device=task.decisions.device,
                checkpoint_seconds=checkpoint_seconds,
                beside=task.teachers.origin if task.teachers else "",
            )
            synthetic, seconds["distill"] = carry_out(task, run)
            with progress.busy(f"{recipe.name}: packaging"):
                packaging.package(task, synthetic, out, seconds, overrides)
            run.forget()
        history.note(task, seconds, watch)
    return out


def carry_out(task: Task, run: Run) -> tuple[SyntheticSet, float]:
    """Run the recipe's method. Return its set and the seconds that it took.

    Raises:
        UserError: for images that are not finite, and whatever the method refuses.
    """
    begun, name, method = time.monotonic(), task.recipe.name, method_of(task.recipe)
    with memory_errors(name, partial(_smaller, task)), plugins.blame_plugin(method.code):
        synthetic = method.distill(task, run)
    # The loop's own clock survives interruptions. Time of the method outside of the loop is added here.
    seconds = max(run.seconds, time.monotonic() - begun)
    synthetic = packaging.checked(synthetic, task)
    if not all(part.isfinite().all() for part in synthetic.images.split(1000)):
        raise UserError(f"{name}: the images are not finite", next="--set method.lr_images=... and another --out")
    return synthetic, seconds


def _smaller(task: Task) -> str | None:
    """The next smaller memory budget, from the recipe's budget or the GPU's memory."""
    own = task.recipe.memory
    return devices.spare(task.decisions.device) if own is None else devices.smaller(memory_bytes(own))


def finished(recipe: Recipe, out: Path) -> bool:
    """Whether `out` holds the recipe's finished set.

    Raises:
        UserError: if it holds anything other than this recipe's work.
    """
    if (out / MANIFEST).is_file() and belongs(recipe, out):
        say(f"{out}: already made from this recipe")
        _warn_of_change(recipe.source, out)
        return True
    _refuse_strangers(out)
    return False


def _warn_of_change(spec: SourceSpec, out: Path) -> None:
    """Warn if a folder of pictures has changed since the finished set was made from it."""
    begun = run_state.begun(out)
    if begun is None or not opening.is_local(spec):
        return
    with contextlib.suppress(UserError):  # a finished set outlives its source
        if sources.load_train(spec)[0].fingerprint != begun.fingerprint:
            warn_once(
                f"{out}: was made from other pictures than {spec.dataset} holds now; "
                f"rm -r {quoted(out)} and the same command, or another --out, make a set of these"
            )


def _refuse_strangers(out: Path) -> None:
    """Refuse a folder that holds something else."""
    links.refuse_led_out(out / STATE / RUN)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file", next="choose another --out")
    if out.is_dir() and not (out / STATE / RUN).exists() and any(p.name != STATE for p in out.iterdir()):
        raise UserError(f"{out}: holds something else already", next="choose another --out, or empty the folder")


def belongs(recipe: Recipe, out: Path) -> bool:
    """Whether a run was begun in `out`. A run of another recipe is refused."""
    begun = run_state.begun(out)
    if begun is None:
        if (out / MANIFEST).exists():
            raise UserError(f"{out}: holds a finished set that was not made here", next="choose another --out")
        return False
    if begun.recipe_hash != recipe.hash:
        changed = ", ".join(_differences(begun.recipe, recipe.content())) or "an older format"
        raise UserError(
            f"{out}: belongs to another recipe (different: {changed})",
            next=f"choose another --out, or start over with: rm -r {quoted(out)}",
        )
    return True


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if path or key not in ("publish", "expected")]
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{path}{key}.")]
    return [] if old == new else [path.rstrip(".")]


def prepare(recipe: Recipe, out: Path, asked: Resources, checkpoint_seconds: float) -> tuple[Task, dict[str, float]]:
    """Do everything before the method: source, split, preprocessing, decisions, teachers. Return also their seconds."""
    begun, workers = time.monotonic(), asked.workers or 1
    task = untaught(recipe, out, asked)
    seconds = {"source": time.monotonic() - begun}
    counts = f"{len(task.training)} training and {len(task.validation)} validation images"
    say(f"{recipe.name}: {counts} of {len(task.source.classes)} classes", once=True)
    for arch in sorted(method_of(recipe).architectures_of(task.config) | set(recipe.teachers.turns)):
        task.network(arch)  # an unsuitable network is found before teachers train for hours
    if not recipe.teachers.count:
        return task, seconds
    threads = asked.threads or devices.threads_each(workers)
    sent = SentLessons(
        with_absolute_paths(recipe).model_dump_json(), out.absolute(), asked.device, threads, checkpoint_seconds
    )
    teachers = teaching.obtain(lessons(task, checkpoint_seconds), lambda index: partial(teach, sent, index), workers)
    task = replace(task, teachers=teachers)
    _warn_of(teachers, len(task.source.classes))
    task.check_labels()
    return task, {**seconds, "teachers": teaching.seconds(teachers)}


def _warn_of(teachers: teaching.Teachers, classes: int) -> None:
    """Warn, before hours of work, of teachers that learned nothing."""
    for number, top1 in enumerate(teachers.validation_top1, 1):
        if doubts.near_chance(top1, classes):
            told = doubts.guessing(top1, classes)
            warn(f"WARNING: teacher {number} of {len(teachers)} learned next to nothing: validation accuracy is {told}")


def untaught(recipe: Recipe, out: Path, asked: Resources) -> Task:
    """The task of a recipe before it has teachers. Decisions are fixed in `out`.

    Raises:
        UserError: for a source that does not suit the recipe.
    """
    known = constants(recipe)
    with progress.busy(f"{recipe.name}: reading {recipe.source.dataset}"):
        source, training, validation = sources.load_train(_pinned(recipe.source, out))
    held_out.stratified(source.labels[training], source.classes, recipe.ipc, recipe.seed, "init")  # enough images?
    refuse_top_k(recipe, len(source.classes))
    refuse_factor(recipe, source.shape.side)
    with files.locked(out / STATE / "begin.lock"):  # one of several processes decides for all
        decisions = _frozen_decisions(recipe, source, out, asked)
    fitted = known or preprocess.fit(source.images, training, zca=recipe.preprocess.zca)
    if len(fitted.mean) != source.images.shape[1]:
        channels = source.images.shape[1]
        raise UserError(
            f"preprocess.statistics: field: constants for {len(fitted.mean)} channels, the source has {channels}",
            next="--set preprocess.statistics=fitted",
        )
    config, protocol = method_config(recipe), own_protocol(recipe)
    return Task(recipe, config, source, training, validation, fitted, None, protocol, decisions)


def refuse_factor(recipe: Recipe, side: int) -> None:
    """Refuse a `preprocess.factor` that does not divide the side of the images, or leaves almost nothing of it.

    Raises:
        UserError: naming the factors that fit.
    """
    factor = recipe.preprocess.factor
    if side % factor or (factor > 1 and side // factor < SMALLEST):
        fitting = [str(n) for n in range(1, TILES + 1) if side % n == 0 and side // n >= SMALLEST]
        raise UserError(
            f"preprocess.factor: {factor} for images of {side} pixels a side: it must divide them, and leave"
            f" {SMALLEST} pixels or more (fitting: {', '.join(fitting)})",
            next=f"--set preprocess.factor={fitting[-1]}",
        )


def lessons(task: Task, checkpoint_seconds: float) -> teaching.Lessons:
    """The training of the teachers of a task's recipe, always in float32."""
    recipe, source = task.recipe, task.source
    return teaching.Lessons(
        recipe.teachers,
        [task.network(arch, task.decisions.exact()) for arch in recipe.teachers.turns],
        fit.Examples(source.images, source.labels, task.preprocess, index=task.training),
        fit.Examples(source.images, source.labels, task.preprocess, index=task.validation),
        augment=recipe.augment,
        identity=[
            *(source.fingerprint, recipe.source.validation, recipe.source.split_seed, recipe.preprocess.zca),
            # Keys of teachers with fitted statistics are older than this setting.
            *([[task.preprocess.mean, task.preprocess.std]] if task.preprocess.statistics == "field" else []),
        ],
        checkpoint_seconds=checkpoint_seconds,
    )


@dataclass(frozen=True)
class SentLessons:
    """Lessons in a form that can be pickled. A worker process prepares them again."""

    recipe: str  # as JSON, with absolute local paths
    out: Path  # an absolute path, with a begun run
    device: str | None  # as requested
    threads: int  # CPU threads of one worker
    checkpoint_seconds: float


def teach(sent: SentLessons, index: int, path: Path) -> None:
    """Train one teacher in a worker process."""
    _rebuilt_lessons(sent).give(index, path)


@functools.lru_cache(maxsize=1)
def _rebuilt_lessons(sent: SentLessons) -> teaching.Lessons:
    """The lessons in this process, prepared for its first teacher."""
    task = untaught(Recipe.model_validate_json(sent.recipe), sent.out, Resources(device=sent.device))
    task = replace(task, decisions=replace(task.decisions, threads=sent.threads))
    devices.apply(task.decisions)
    return lessons(task, sent.checkpoint_seconds)


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute local paths of source and method, because other processes start elsewhere."""
    where, name = recipe.source.path or recipe.source.dataset, recipe.method["name"]
    absolute = where if where == "digits" else specs.absolute(where)
    if absolute != where:
        recipe = recipe.model_copy(update={"source": recipe.source.model_copy(update={"path": absolute})})
    if files.is_path(name):
        recipe = recipe.model_copy(update={"method": {**recipe.method, "name": specs.absolute(name)}})
    return recipe


def _pinned(spec: SourceSpec, out: Path) -> SourceSpec:
    """The source at the commit with which a run began. The Hub's branch may have moved since."""
    begun = run_state.begun(out)
    if spec.revision is not None or begun is None:
        return spec
    return spec.model_copy(update={"revision": begun.revision})


def _frozen_decisions(recipe: Recipe, source: sources.Split, out: Path, asked: Resources) -> devices.Decisions:
    """Decide how to run, once. The decisions are stored with the recipe and used by every resume."""
    begun = run_state.begun(out)
    if begun is not None:
        if begun.fingerprint != source.fingerprint:
            raise UserError(
                f"{out}: begun with other images than {recipe.source.dataset} holds now",
                next=f"bring the source back as it was, or start over with: rm -r {quoted(out)}",
            )
        decisions = devices.Decisions(**begun.decisions)
        if asked.device is None:
            decisions = devices.on_own_device(decisions)
        devices.apply(decisions)
        if not decisions.obey(asked):
            warn(f"{out}: goes on as it was begun ({decisions}); other choices need another --out")
        return decisions
    shape = source.shape
    decisions = decided(recipe, shape, asked)
    if recipe.memory is not None:
        decisions = budget.measured(Outline(recipe, shape, decisions))
    if devices.is_gpu(decisions.device):
        decisions = speed.chosen(Outline(recipe, shape, decisions), asked, _teacher_flops(recipe, shape))
    started = RunState(
        recipe_hash=recipe.hash,
        recipe=recipe.content(),
        source_path=str(Path(recipe.source.path).absolute()) if recipe.source.path else None,
        revision=source.spec.revision,
        fingerprint=source.fingerprint,
        decisions=decisions.record(),
    )
    run_state.begin(out, started)
    return decisions


def decided(recipe: Recipe, shape: Shape, asked: Resources) -> devices.Decisions:
    """The decisions for a recipe on a source of this shape, except those on memory."""
    flops = _teacher_flops(recipe, shape)
    decisions = devices.decide_for(asked, flops)
    if flops >= devices.COMPILE_FROM and not devices.has_compiler():
        warn_once("no C++ compiler (g++ or clang++) found: running without torch.compile, about half as fast")
    return decisions


def _teacher_flops(recipe: Recipe, shape: Shape) -> float:
    """The FLOPs of training all teachers."""
    images = recipe.teachers.epochs * shape.images
    turns = recipe.teachers.turns
    return sum(architectures.training_flops(arch, shape.channels, shape.side, images) for arch in turns)
