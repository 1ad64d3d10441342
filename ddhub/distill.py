"""From a recipe to an artifact: source, preprocessing, teachers, method, packaging. The same command resumes.

Nothing in here, or below it, can open the test split: `Task` holds the train split alone.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ddhub import __version__, artifact, fast, files, plugins, preprocess, sources, train
from ddhub import teachers as teaching
from ddhub.errors import UserError, memory_errors
from ddhub.log import duration, say
from ddhub.manifest import (
    LabelRecord,
    Made,
    Manifest,
    Packaging,
    PreprocessRecord,
    Protocol,
    SourceRecord,
    TeacherRecord,
)
from ddhub.recipe import Recipe, SourceSpec, config_of, public_override
from ddhub.run import Run
from ddhub.synset import SyntheticSet
from ddhub.task import Task

STATE = ".ddhub"


def make(
    recipe: Recipe,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    decisions: dict[str, Any] | None = None,
    checkpoint_seconds: float = 120,
) -> Path:
    """Distill a recipe into `out`, or go on where an earlier run of the same recipe stopped.

    Args:
        overrides: the `--set` strings that made the recipe what it is, for the record.
        decisions: `device`, `threads` and `compile` as asked for; frozen at the first run.

    Raises:
        UserError: for whatever the user can mend; what was done before is kept.
    """
    if (out / "ddhub.json").is_file() and _belongs(recipe, out):
        say(f"{out}: already made from this recipe")
        return out
    _refuse_strangers(out)
    with files.locked(out / STATE / "lock", busy="another ddhub is working in this folder"):
        _belongs(recipe, out)
        task, seconds = prepare(recipe, out, decisions or {}, checkpoint_seconds)
        run = Run(out / STATE, "distill", device=task.decisions.device, checkpoint_seconds=checkpoint_seconds)
        begun = time.monotonic()
        with memory_errors(recipe.name):
            synthetic = plugins.load("methods", recipe.method["name"]).distill(task, run)
        # The loop's own clock survives interruptions; what a method does outside it is added here.
        seconds["distill"] = max(run.seconds, time.monotonic() - begun)
        synthetic = _checked(synthetic, task)
        if not synthetic.images.isfinite().all():
            raise UserError(
                f"{recipe.name}: the images are not finite", next="--set method.lr_images=... and another --out"
            )
        package(task, synthetic, out, seconds, overrides)
    return out


def _checked(synthetic: SyntheticSet, task: Task) -> SyntheticSet:
    """What a method returned, on the task's device; the assertions are for the authors of methods."""
    device, soft = task.decisions.device, synthetic.soft_labels
    assert synthetic.images.shape[1:] == task.source.images.shape[1:], "a method returns images of the source's shape"
    assert len(synthetic.images) == len(synthetic.labels), "a method returns a label for every image"
    moved = None if soft is None else soft.to(device)
    return SyntheticSet(synthetic.images.to(device), synthetic.labels.to(device), moved)


def _refuse_strangers(out: Path) -> None:
    """A folder with something else in it is never written to."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file", next="choose another --out")
    if out.is_dir() and not (out / STATE / "run.json").exists() and any(p.name != STATE for p in out.iterdir()):
        raise UserError(f"{out}: holds something else already", next="choose another --out, or empty the folder")


def _belongs(recipe: Recipe, out: Path) -> bool:
    """Whether `out` was begun; refuses a folder begun by another recipe."""
    path = out / STATE / "run.json"
    if not path.exists():
        if (out / "ddhub.json").exists():
            raise UserError(f"{out}: holds a finished set that was not made here", next="choose another --out")
        return False
    begun = json.loads(path.read_text())
    if begun["recipe_hash"] != recipe.hash:
        changed = ", ".join(_differences(begun["recipe"], recipe.content())) or "an older format"
        raise UserError(
            f"{out}: belongs to another recipe (different: {changed})",
            next=f"choose another --out, or start over with: rm -r {out}",
        )
    return True


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if path or key not in ("publish", "expected")]
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{path}{key}.")]
    return [] if old == new else [path.rstrip(".")]


def prepare(
    recipe: Recipe, out: Path, asked: dict[str, Any], checkpoint_seconds: float
) -> tuple[Task, dict[str, float]]:
    """Everything that comes before the method: source, split, preprocessing, decisions, teachers; seconds of each."""
    begun = time.monotonic()
    source, training, validation = sources.load_train(_pinned(recipe.source, out))
    sources.stratified(source.labels[training], source.classes, recipe.ipc, recipe.seed, "init")  # enough images?
    decisions = _frozen_decisions(recipe, source, out, asked)
    fitted = preprocess.fit(source.images, training, zca=recipe.preprocess.zca)
    seconds = {"source": time.monotonic() - begun}
    counts = f"{len(training)} training and {len(validation)} validation images"
    say(f"{recipe.name}: {counts} of {len(source.classes)} classes")
    spec = recipe.teachers
    channels, side = source.images.shape[1:3]
    for arch in sorted(_architectures(recipe.method)):  # a network that cannot run is found before hours of teachers
        fast.network(arch, len(source.classes), channels, side, decisions)
    teachers = None
    if spec.count:
        split = recipe.source
        teachers = teaching.obtain(
            spec,
            fast.network(spec.arch, len(source.classes), channels, side, decisions),
            train.Examples(source.images, source.labels, fitted, index=training),
            train.Examples(source.images, source.labels, fitted, index=validation),
            augment=recipe.augment,
            identity=[source.fingerprint, split.validation, split.split_seed, recipe.preprocess.zca],
            checkpoint_seconds=checkpoint_seconds,
        )
        seconds["teachers"] = teaching.seconds(teachers)
    config = config_of(recipe.method["name"]).model_validate({k: v for k, v in recipe.method.items() if k != "name"})
    task = Task(recipe, config, source, training, validation, fitted, teachers, _protocol(recipe), decisions)
    return task, seconds


def _architectures(method: dict[str, Any]) -> set[str]:
    """The architectures that a method's settings name, at any depth."""
    found = {str(method["arch"])} if "arch" in method else set()
    return found.union(*(_architectures(value) for value in method.values() if isinstance(value, dict)))


def _pinned(spec: SourceSpec, out: Path) -> SourceSpec:
    """The source at the revision that a run began with: the Hub may move on between a kill and its resume."""
    path = out / STATE / "run.json"
    if spec.revision is not None or not path.exists():
        return spec
    return spec.model_copy(update={"revision": json.loads(path.read_text())["revision"]})


def _protocol(recipe: Recipe) -> Protocol:
    loss: Literal["l1_logits", "ce"] = "l1_logits" if recipe.labels.form == "logits" else "ce"
    spec = recipe.evaluate
    return Protocol(loss=loss, augment=recipe.augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)


def _frozen_decisions(recipe: Recipe, source: sources.Split, out: Path, asked: dict[str, Any]) -> fast.Decisions:
    """Decide how to run, once; write it down with the recipe, and replay it on every resume."""
    path = out / STATE / "run.json"
    if path.exists():
        begun = json.loads(path.read_text())
        if begun["fingerprint"] != source.fingerprint:
            raise UserError(
                f"{out}: begun with other images than {recipe.source.dataset} holds now",
                next=f"bring the source back as it was, or start over with: rm -r {out}",
            )
        decisions = fast.Decisions(**begun["decisions"])
        fast.apply(decisions)
        if {**decisions.record(), **{k: v for k, v in asked.items() if v is not None}} != decisions.record():
            say(f"{out}: goes on as it was begun ({decisions}); other choices need another --out")
        return decisions
    channels, side = source.images.shape[1:3]
    images = recipe.teachers.count * recipe.teachers.epochs * len(source)
    flops = fast.training_flops(recipe.teachers.arch, channels, side, images)
    decisions = fast.decide(**asked, flops=flops)
    if flops >= fast.COMPILE_FROM and not fast.has_compiler():
        say("no C++ compiler (g++ or clang++) found: running without torch.compile, about half as fast")
    files.write_json(
        path,
        {
            "recipe_hash": recipe.hash,
            "recipe": recipe.content(),
            "source_path": str(Path(recipe.source.path).absolute()) if recipe.source.path else None,
            "revision": source.spec.revision,
            "fingerprint": source.fingerprint,
            "decisions": decisions.record(),
        },
    )
    return decisions


def package(
    task: Task, synthetic: SyntheticSet, out: Path, seconds: dict[str, float], overrides: Sequence[str]
) -> None:
    """Write the artifact into a staging folder, measure what packaging costs, and move it into place, manifest last."""
    begun = time.monotonic()
    staging = out / STATE / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    teacher_records = _copy_teachers(task, staging)
    if task.preprocess.zca is not None:
        files.write_bytes(staging / "preprocess.safetensors", task.preprocess.to_bytes())
    files.write_bytes(staging / "recipe.yaml", _resolved_recipe(task).yaml().encode())
    pixels, clipped = task.preprocess.pixels(synthetic.images)
    # Labels are the teachers' word on what is shipped, not on the images before rounding.
    soft = task.soft_labels(task.preprocess.inputs(pixels))
    artifact.write_data(staging, pixels, synthetic.labels, task.source.classes, soft, None)
    scores = {"float": measure(task, synthetic), "packaged": measure(task, _packaged(task, staging))}
    scores["8bit"], keep_floats = scores["packaged"], worth_floats(scores)
    if keep_floats:
        exact = synthetic.images.half().float()
        soft = task.soft_labels(exact)
        artifact.write_data(staging, pixels, synthetic.labels, task.source.classes, soft, exact)
        scores["packaged"] = measure(task, _packaged(task, staging))
    seconds["packaging"] = time.monotonic() - begun
    record = _manifest(task, staging, teacher_records, seconds, overrides, scores, clipped, soft, keep_floats)
    _install(staging, out, record)
    say(f"{out}: {task.recipe.name} made in {duration(sum(seconds.values()))}")


def _packaged(task: Task, staging: Path) -> SyntheticSet:
    """The set as anybody would read it back from its files."""
    images, labels, soft, pixels = artifact.read_data(staging, len(task.source.classes))
    return _checked(SyntheticSet(task.preprocess.inputs(images) if pixels is None else pixels, labels, soft), task)


def measure(task: Task, synthetic: SyntheticSet) -> list[float]:
    """Validation accuracy of networks trained on a set; the same seeds whenever it is asked."""
    scores = []
    for seed in range(task.recipe.evaluate.packaging_seeds):
        scores.append(task.validate(synthetic, seed=seed))
        say(f"validation accuracy of a network trained on the set: {100 * scores[-1]:.1f}%")
    return scores


def worth_floats(scores: dict[str, list[float]]) -> bool:
    """Whether 8 bits cost accuracy beyond doubt: half a point or more, and over twice the mean's standard error."""
    gaps = torch.tensor([a - b for a, b in zip(scores["float"], scores["packaged"], strict=True)])
    if len(gaps) < 2:
        return False
    error = gaps.std() / len(gaps) ** 0.5
    return bool(gaps.mean() >= 0.005 and gaps.mean() > 2 * error)


def _resolved_recipe(task: Task) -> Recipe:
    """The recipe with what was found out: revision, columns, resolution."""
    return task.recipe.model_copy(update={"source": task.source.spec.model_copy(update={"path": None})})


def _copy_teachers(task: Task, staging: Path) -> list[TeacherRecord]:
    records = []
    for index, path in enumerate(task.teachers.files if task.teachers else []):
        assert task.teachers is not None
        name = f"teachers/{index:02d}.safetensors"
        files.write_bytes(staging / name, path.read_bytes())
        top1 = task.teachers.validation_top1[index]
        records.append(TeacherRecord(arch=task.teachers.network.arch, file=name, validation_top1=top1))
    return records


def _manifest(
    task: Task,
    staging: Path,
    teacher_records: list[TeacherRecord],
    seconds: dict[str, float],
    overrides: Sequence[str],
    scores: dict[str, list[float]],
    clipped: float,
    soft: torch.Tensor | None,
    floats: bool,
) -> Manifest:
    recipe, source, spec = task.recipe, task.source, task.source.spec
    records = artifact.file_records(staging)
    known = spec.model_dump(include=set(SourceRecord.model_fields))
    classes = list(source.classes)
    return Manifest(
        name=recipe.name,
        ipc=recipe.ipc,
        classes=classes,
        wnids=classes if all(len(c) == 9 and c[0] == "n" and c[1:].isdigit() for c in classes) else None,
        source=SourceRecord(**known, fingerprint=source.fingerprint, license=recipe.publish.license),
        preprocess=PreprocessRecord(
            mean=list(task.preprocess.mean),
            std=list(task.preprocess.std),
            zca="preprocess.safetensors" if task.preprocess.zca is not None else None,
            pixels_space="input" if floats else None,
            clipped=clipped,
        ),
        labels=LabelRecord(form=recipe.labels.form, teachers=recipe.labels.teachers if soft is not None else None),
        teachers=teacher_records,
        protocol=task.protocol,
        method=recipe.method,
        seed=recipe.seed,
        init=recipe.method.get("init"),
        groups=recipe.groups,
        packaging=Packaging(
            arch=task.home_arch,
            seeds=len(scores["float"]),
            validation_top1_float=sum(scores["float"]) / len(scores["float"]),
            validation_top1_8bit=sum(scores["8bit"]) / len(scores["8bit"]),
            validation_top1_packaged=sum(scores["packaged"]) / len(scores["packaged"]),
        ),
        made=Made(
            ddhub=__version__,
            torch=torch.__version__,
            device=fast.hardware(task.decisions.device),
            seconds=round(sum(seconds.values()), 1),
            phases={name: round(value, 1) for name, value in seconds.items()},
            peak_bytes=fast.peak_bytes(task.decisions.device),
            recipe_hash=recipe.hash,
            overrides=[public_override(text) for text in overrides],
            decisions=task.decisions.record(),
        ),
        files=records,
        bytes=artifact.byte_counts(records, soft),
    )


def _install(staging: Path, out: Path, record: Manifest) -> None:
    """Move the payload into place, the manifest last: a folder with a manifest is whole."""
    with files.disk_errors(out, "installing the set"):
        for name in record.files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(out / name)
        shutil.rmtree(staging)
    files.write_json(out / "ddhub.json", record.model_dump(mode="json"))
