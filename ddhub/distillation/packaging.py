"""Packaging: a finished synthetic set becomes an artifact. Its cost in accuracy is measured on validation data."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ddhub import __version__
from ddhub.artifact import doubts, folder, manifest, parquet, payload_hashes, source_location
from ddhub.artifact.file_names import MANIFEST, RECIPE, WHITENING
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.manifest_parts import (
    LabelRecord,
    Making,
    Memorisation,
    Packaging,
    TeacherRecord,
)
from ddhub.artifact.parquet import Rows
from ddhub.artifact.recipe import Recipe
from ddhub.artifact.run_state import STATE
from ddhub.base import files, intervals, mapped_tensors, progress, strict_json
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn
from ddhub.base.mapped_tensors import Allocate
from ddhub.base.overrides import public_override
from ddhub.base.units import duration
from ddhub.data import spec as specs
from ddhub.data.classes import wnids
from ddhub.distillation import memorisation
from ddhub.distillation.recipes import method_of
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training import device

MEASURED = "packaging.json"  # measured accuracies, in the state folder


def package(
    task: Task,
    synthetic: SyntheticSet,
    out: Path,
    seconds: dict[str, float],
    overrides: Sequence[str],
    among_groups: dict[str, Any] | None = None,
) -> None:
    """Write the artifact into a staging folder, measure the cost of packaging, and move it into place, manifest last.

    Args:
        seconds: the seconds of each earlier phase.
        among_groups: `peak_bytes` and `threads` of the processes that made the groups, which follow one another in the
            set; None for a single group.
    """
    begun = time.monotonic()
    staging = out / STATE / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    teacher_records = _copy_teachers(task, staging)
    if task.preprocess.zca is not None:
        files.write_bytes(staging / WHITENING, task.preprocess.to_bytes())
    files.write_bytes(staging / RECIPE, _resolved_recipe(task).yaml().encode())
    with mapped_tensors.in_folder(out / STATE / "packaging") as allocate:  # for everything that grows with the set
        pixels, clipped = task.preprocess.pixels(synthetic.images, allocate)
        inputs = task.preprocess.inputs_into(pixels, allocate(pixels.shape, torch.float32))
        # The teachers label the images as shipped, not the images before rounding.
        rows = _labelled(task, pixels, synthetic.labels, inputs, None, allocate)
        parquet.write(staging, rows[0], task.source.classes)
        scores = {"float": measure(task, synthetic, out, "as it was distilled")}
        scores["packaged"] = measure(task, _packaged(task, staging, rows[1], allocate), out, "in 8 bits")
        scores["8bit"], keep_floats = scores["packaged"], worth_floats(scores)
        if keep_floats:
            exact = allocate(synthetic.images.shape, torch.float16).copy_(synthetic.images)
            rows = _labelled(task, pixels, synthetic.labels, exact, exact, allocate)
            parquet.write(staging, rows[0], task.source.classes)
            scores["packaged"] = measure(task, _packaged(task, staging, rows[1], allocate), out, "as packaged")
        seconds["packaging"] = time.monotonic() - begun
        begun = time.monotonic()
        with progress.busy(f"{task.recipe.name}: looking for copies of training images"):
            nearest, pairs = memorisation.check(task, pixels, synthetic.labels)
        memorisation.picture(pairs, out / "assets" / "nearest.png")
        seconds["memorisation"] = time.monotonic() - begun
        record = _manifest(task, staging, teacher_records, seconds, overrides, scores, clipped, nearest, *rows)
    if among_groups is not None:
        record = record.model_copy(update={"made": _with_groups(record.made, **among_groups)})
    install(staging, out, record)
    (out / STATE / MEASURED).unlink(missing_ok=True)
    source_location.remember(record, specs.local_folder(task.recipe.source))
    say(f"{out}: {task.recipe.name} made in {duration(sum(seconds.values()))}")
    for text in filter(None, [doubts.cost_of_8_bits(record), *doubts.notes(record)]):
        say(text)
    for text in doubts.of_set(record):
        warn(f"WARNING: {text}")


def _labelled(
    task: Task,
    images: torch.Tensor,
    labels: torch.Tensor,
    inputs: torch.Tensor,
    exact: torch.Tensor | None,
    allocate: Allocate,
) -> tuple[Rows, float | None]:
    """The rows to ship, labelled as the recipe says, and the value of classes without a soft label.

    Raises:
        UserError: if the soft labels cannot be stored.
    """
    soft, top_k = task.soft_labels(inputs, allocate), task.recipe.labels.top_k
    index, rest = None, None
    if soft is not None and top_k is not None:
        soft, index, rest = folder.keep_top(soft, top_k)
    if soft is not None:
        soft = allocate(soft.shape, torch.float16).copy_(soft)
        if not all(part.isfinite().all() for part in soft.split(1000)):
            raise UserError(
                f"{task.recipe.name}: the teachers' logits of its images are beyond half precision, which they are "
                "stored in: the images lie far from real ones",
                next="a smaller --set method.lr_images, and another --out",
            )
    return Rows(images, labels, soft, index, exact, _groups(task, len(labels))), rest


def _groups(task: Task, count: int) -> torch.Tensor | None:
    """The group of each row (M,); None for a recipe of one group. Groups have equal sizes and follow one another."""
    groups = task.recipe.groups
    return None if groups == 1 else torch.arange(groups).repeat_interleave(count // groups)


def _with_groups(made: Making, peak_bytes: int, threads: int) -> Making:
    """The record of making a set, with the figures from the processes that made its groups."""
    peak = max(peak_bytes, made.peak_bytes or 0)
    return made.model_copy(update={"peak_bytes": peak, "decisions": {**made.decisions, "group_threads": threads}})


def _packaged(task: Task, staging: Path, rest: float | None, allocate: Allocate) -> SyntheticSet:
    """The set as a reader gets it from its files."""
    channels, side, _ = task.image_shape
    factor = task.recipe.preprocess.factor
    rows = folder.read_data(staging, (channels, side, side), len(task.source.classes), rest, allocate, factor)
    inputs = rows.pixels
    if inputs is None:
        inputs = task.preprocess.inputs_into(rows.images, allocate(rows.images.shape, torch.float32))
    return checked(SyntheticSet(inputs, rows.labels, rows.soft), task)


def checked(synthetic: SyntheticSet, task: Task) -> SyntheticSet:
    """The result of a method, checked, in host memory.

    Raises:
        UserError: if it breaks the contract in ddhub/distillation/method.py.
    """
    count, classes = len(task.initial_labels()), len(task.source.classes)
    wanted = {"images": (count, *task.image_shape), "labels": (count,), "soft_labels": (count, classes)}
    for name, shape in wanted.items():
        value = getattr(synthetic, name, None)
        if value is None and name == "soft_labels":
            continue
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
            held = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise UserError(f"method {task.recipe.method['name']}: returns {name} of {held}, not {shape}")
    soft = None if synthetic.soft_labels is None else synthetic.soft_labels.cpu()
    return SyntheticSet(synthetic.images.cpu(), synthetic.labels.cpu(), soft)


def measure(task: Task, synthetic: SyntheticSet, out: Path, form: str) -> list[float]:
    """Validation accuracies of networks trained on a set, always with the same seeds.

    Results of a stopped command are read and not measured again.

    Args:
        out: the artifact's folder, where results are kept meanwhile.
        form: the form of the set, in words.
    """
    path, mark, count = out / STATE / MEASURED, _mark(task, synthetic), task.recipe.evaluate.packaging_seeds
    kept, scores = strict_json.known(path), []
    for seed in range(count):
        what, key = f"the set {form}, training {seed + 1} of {count}", f"{mark} {seed}"
        if not isinstance(kept.get(key), float):
            with progress.busy(f"{task.recipe.name}: packaging: {what}"):
                kept[key] = task.validate(synthetic, seed=seed)
            files.write_json(path, kept)
        scores.append(float(kept[key]))
        say(f"{what}: validation accuracy {100 * scores[-1]:.1f}%")
    return scores


def _mark(task: Task, synthetic: SyntheticSet) -> str:
    """A hash of everything that affects the accuracies of networks trained on a set."""
    about = [task.recipe.hash, task.decisions.record(), torch.__version__, __version__]
    mark = hashlib.sha256(files.digest(about).encode())
    for values in (synthetic.images, synthetic.labels, synthetic.soft_labels):
        for part in () if values is None else values.split(1000):
            mark.update(part.contiguous().numpy())
    return mark.hexdigest()


def worth_floats(scores: dict[str, list[float]]) -> bool:
    """Whether 8 bits clearly cost accuracy: half a point or more, and a 95% interval without zero.

    Floats take three times the bytes of PNGs, so doubt means no.
    """
    gaps = _cost(scores["float"], scores["packaged"])
    return gaps.ci95 is not None and gaps.mean >= 0.005 and gaps.ci95[0] > 0


def _cost(floats: list[float], bits: list[float]) -> intervals.Mean:
    """The cost of 8 bits, with Student's interval over paired networks."""
    return intervals.of_mean([a - b for a, b in zip(floats, bits, strict=True)])


def _resolved_recipe(task: Task) -> Recipe:
    """The recipe with the revision, columns and resolution that were found."""
    return task.recipe.model_copy(update={"source": task.source.spec.model_copy(update={"path": None})})


def _copy_teachers(task: Task, staging: Path) -> list[TeacherRecord]:
    records = []
    for index, path in enumerate(task.teachers.files if task.teachers else []):
        assert task.teachers is not None
        name = f"teachers/{index:02d}.safetensors"
        files.write_bytes(staging / name, path.read_bytes())
        top1 = task.teachers.validation_top1[index]
        records.append(TeacherRecord(arch=task.teachers.networks[index].arch, file=name, validation_top1=top1))
    return records


def _manifest(
    task: Task,
    staging: Path,
    teacher_records: list[TeacherRecord],
    seconds: dict[str, float],
    overrides: Sequence[str],
    scores: dict[str, list[float]],
    clipped: float,
    nearest: Memorisation,
    rows: Rows,
    rest: float | None,
) -> Manifest:
    recipe, factor = task.recipe, task.recipe.preprocess.factor
    records = payload_hashes.file_records(staging)
    classes = list(task.source.classes)
    return Manifest(
        name=recipe.name,
        ipc=recipe.ipc,
        classes=classes,
        wnids=wnids(classes),
        source=folder.source_record(task.source, recipe.publish.license),
        preprocess=folder.preprocess_record(task.preprocess, rows, clipped, factor),
        labels=LabelRecord(
            form=recipe.labels.form,
            teachers=None if rows.soft is None else recipe.labels.teachers,
            top_k=recipe.labels.top_k,
            rest=rest,
        ),
        teachers=teacher_records,
        protocol=task.protocol,
        method=recipe.content()["method"],
        seed=recipe.seed,
        init=recipe.method.get("init"),
        groups=recipe.groups,
        packaging=_accuracies(task, scores),
        memorisation=nearest,
        made=_making(task, seconds, overrides),
        files=records,
        bytes=folder.byte_counts(records, rows),
    )


def _accuracies(task: Task, scores: dict[str, list[float]]) -> Packaging:
    """The mean of the scores in each form of the set."""
    means = {form: sum(values) / len(values) for form, values in scores.items()}
    cost = _cost(scores["float"], scores["8bit"])
    return Packaging(
        arch=task.home_arch,
        seeds=len(scores["float"]),
        validation_top1_float=means["float"],
        validation_top1_8bit=means["8bit"],
        validation_top1_packaged=means["packaged"],
        uncertainty=None if cost.ci95 is None else (cost.ci95[1] - cost.ci95[0]) / 2,
    )


def _making(task: Task, seconds: dict[str, float], overrides: Sequence[str]) -> Making:
    code = method_of(task.recipe).code
    return Making(
        ddhub=__version__,
        torch=torch.__version__,
        device=device.hardware(task.decisions.device),
        versions=_gpu_versions(task.decisions.device),
        seconds=round(sum(seconds.values()), 1),
        phases={name: round(value, 1) for name, value in seconds.items()},
        peak_bytes=device.peak_bytes(task.decisions.device),
        recipe_hash=task.recipe.hash,
        overrides=[public_override(text) for text in overrides],
        decisions=task.decisions.record(),
        method_code=None if code is None else str(code),
    )


def _gpu_versions(where: str) -> dict[str, str]:
    """The versions of a GPU's software; empty for a CPU."""
    return {name: version for name, version in device.versions(where).items() if name != "torch"}


def install(staging: Path, out: Path, record: Manifest) -> None:
    """Move the payload into place, manifest last. A folder with a manifest is therefore complete."""
    with files.disk_errors(out, "installing the set"):
        for name in record.files:
            files.make_parent(out / name)
            (staging / name).replace(out / name)
        shutil.rmtree(staging)
    files.write_bytes(out / MANIFEST, manifest.dump(record))
