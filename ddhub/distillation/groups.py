"""Groups: a set distilled in independent parts, by one process or by many on several machines, and then joined.

The paper (arXiv:2312.08912) joins parts that were distilled independently. benchmarks/README.md has the cost against a
single run. A group has `ipc / groups` images per class. All groups share teachers, preprocessing and split. Each group
is a job with an output file, so jobs.run_all spreads, resumes and skips them.
Shapes: M images of a group, C H W image.
"""

import functools
import json
import shlex
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddhub.artifact.recipe import Recipe
from ddhub.artifact.run_state import RUN, STATE
from ddhub.base import files, jobs, mapped_tensors, progress
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.base.resources import Resources
from ddhub.base.schema import Strict
from ddhub.base.units import duration
from ddhub.distillation import packaging, pipeline
from ddhub.distillation.plan import history
from ddhub.distillation.task import SyntheticSet, Task
from ddhub.training import device as devices
from ddhub.training.loop import Run


@dataclass(frozen=True)
class GroupRequest:
    """The facts from which any process on any machine prepares the Task of a group. It can be pickled."""

    recipe: str  # as JSON, with absolute local paths
    out: Path  # an absolute path
    begun: bytes  # content of run.json, for machines that do not see `out`
    threads: int  # CPU threads of one group
    teachers: tuple[tuple[str, str], ...]  # each teacher's name in the cache and its sha256
    device: str | None  # as requested
    checkpoint_seconds: float


@dataclass(frozen=True)
class Shared:
    """The things that all groups share. Another process receives the request and prepares them again."""

    request: GroupRequest
    task: Task

    def __reduce__(self) -> tuple[Callable[[GroupRequest], "Shared"], tuple[GroupRequest]]:
        return rebuild, (self.request,)


@dataclass(frozen=True)
class FinishedGroup:
    """A finished group, read from its file."""

    images: Tensor  # float32 (M, C, H, W)
    labels: Tensor  # int64 (M,)
    seconds: float  # time of distilling, over all resumes
    peak_bytes: int  # peak memory of its process


class GroupSettings(Strict):
    """The content of groups.json: how all groups of a set are made, fixed by the first process."""

    threads: int  # CPU threads of one group
    teachers: list[str]  # sha256 of each

    @classmethod
    def kept(cls, path: Path) -> "GroupSettings":
        """Read a groups.json.

        Raises:
            UserError: naming a file that is no groups.json.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as fault:
            raise UserError(
                f"{path}: damaged", next=f"rm {quoted(path)}, then the same command writes it again"
            ) from fault


def make(
    recipe: Recipe,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    resources: Resources = Resources(),
    checkpoint_seconds: float = 120,
) -> list[int]:
    """Distill the groups of a recipe that no process has made yet. Package the set when all exist.

    Args:
        overrides: as for pipeline.make.
        resources: without `threads`, workers share this machine's threads, and a Ray task has one.

    Returns:
        The missing groups, which other shards make; empty if the set is complete.

    Raises:
        UserError: for a fault that the user can mend. Finished groups are kept.
    """
    if pipeline.finished(recipe, out):
        return []
    watch = history.Watch()
    engine = jobs.choose(resources.workers, resources.shard, resources.ray)
    shared, seconds = begin(recipe, out, resources, checkpoint_seconds, engine)
    watch.prepared(seconds)
    every = jobs_of(shared)
    frozen = shared.task.decisions
    engine = replace(engine, cpus=shared.request.threads, gpus=devices.is_gpu(frozen.device))
    jobs.run_all(every, engine, name="groups")
    missing = [number for number, path in enumerate(every) if not path.exists()]
    if not missing:
        with files.locked(out / STATE / "lock"):  # one process packages; the others wait
            if not pipeline.finished(recipe, out):
                devices.apply(frozen)
                with progress.busy(f"{recipe.name}: packaging"):
                    _package(shared, list(every), out, seconds, overrides)
                for path in every:  # left by a process that was killed after writing its group's file
                    shutil.rmtree(path.with_suffix(".run"), ignore_errors=True)
                history.note(shared.task, seconds, watch, shared.request.threads)
    return missing


def command(reference: str, out: Path, overrides: Sequence[str]) -> str:
    """The command that makes all remaining groups, waits for groups of other processes, and packages."""
    return shlex.join(["ddhub", "distill", reference, "--out", str(out), *(f"--set={text}" for text in overrides)])


def refuse_engine(engine: jobs.Engine) -> None:
    """Refuse to spread a recipe of a single group. Workers may still share its teachers.

    Raises:
        UserError: for shards or a cluster.
    """
    if replace(engine, workers=1) != jobs.Engine():
        raise UserError(
            "groups: 1, so one process makes the set: nothing for --shard, --ray or torchrun to share",
            next="leave them out (--workers shares the teachers), or make several groups, as in --set groups=2",
        )


def begin(
    recipe: Recipe, out: Path, asked: Resources, checkpoint_seconds: float, engine: jobs.Engine
) -> tuple[Shared, dict[str, float]]:
    """Prepare what all groups share. The first process fixes decisions. Return also the seconds of each phase."""
    recipe = pipeline.with_absolute_paths(recipe)
    task, seconds = pipeline.prepare(recipe, out, asked, checkpoint_seconds)
    pipeline.belongs(recipe, out)  # in case another recipe was begun here meanwhile
    teachers = [(path.name, files.sha256(path)) for path in (task.teachers.files if task.teachers else ())]
    threads = threads_each(asked.threads, task.decisions.threads, engine)
    threads = _settled(out, threads, [sha256 for _, sha256 in teachers])
    request = GroupRequest(
        recipe=recipe.model_dump_json(),
        out=out.absolute(),
        begun=(out / STATE / RUN).read_bytes(),
        threads=threads,
        teachers=tuple(teachers),
        device=asked.device,
        checkpoint_seconds=checkpoint_seconds,
    )
    return Shared(request, task), seconds


def jobs_of(shared: Shared) -> dict[Path, jobs.Job]:
    """One job per group, in the order of groups."""
    folder = shared.request.out / STATE / "groups"
    numbers = range(shared.task.recipe.groups)
    return {folder / f"group-{number:04d}.safetensors": functools.partial(work, shared, number) for number in numbers}


def work(shared: Shared, number: int, path: Path) -> None:
    """Make one group, or resume it, and write its file."""
    task = shared.task.group(number, shared.request.threads)
    devices.apply(task.decisions)
    folder = _folder(shared.request) / STATE / "groups" / f"group-{number:04d}.run"
    # A process whose claim expired may still write to the store. The lock waits for its end.
    with files.locked(folder.with_suffix(".lock")):
        run = Run(
            folder,
            f"group_{number}",
            device=task.decisions.device,
            checkpoint_seconds=shared.request.checkpoint_seconds,
            beside=task.teachers.origin if task.teachers else "",
        )
        synthetic, seconds = pipeline.carry_out(task, run)
        _write(synthetic, seconds, run, path)
        run.remove()
    say(f"group {number}: made in {duration(seconds)}; {shared.task.recipe.groups} in all, counted from 0")


def _write(synthetic: SyntheticSet, seconds: float, run: Run, path: Path) -> None:
    """Write a group's file with its metrics beside it."""
    facts = {"seconds": round(seconds, 1), "peak_bytes": devices.peak_bytes(run.device)}
    if run.metrics.path.exists():
        files.write_bytes(path.with_suffix(".jsonl"), run.metrics.path.read_bytes())
    tensors = {"images": synthetic.images.float(), "labels": synthetic.labels}
    content = {name: value.cpu().contiguous() for name, value in tensors.items()}
    files.write_bytes(path, save(content, {"ddhub": json.dumps(facts)}))


def read(path: Path) -> FinishedGroup:
    """Read a group's file.

    Raises:
        UserError: naming a file that is no group's.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["ddhub"])
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
        return FinishedGroup(images, labels, float(facts["seconds"]), int(facts["peak_bytes"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as fault:
        raise UserError(
            f"{path}: not a group's file ({one_line(fault, 100)})",
            next=f"rm {quoted(path)}, then the same command makes it again",
        ) from fault


def _package(shared: Shared, paths: list[Path], out: Path, seconds: dict[str, float], overrides: Sequence[str]) -> None:
    """Join the groups in order, and package them as one set."""
    task, known = shared.task, {"peak_bytes": 0, "threads": shared.request.threads}
    each = len(task.initial_labels()) // len(paths)
    labels, seconds["distill"] = torch.empty(each * len(paths), dtype=torch.int64), 0.0
    with mapped_tensors.in_folder(out / STATE / "joined") as allocate:
        images = allocate((len(labels), *task.image_shape), torch.float32)
        for path, rows in zip(paths, torch.arange(len(labels)).split(each), strict=True):
            group = read(path)
            assert len(group.labels) == each, "a method makes as many images in every group"
            images[rows], labels[rows] = group.images, group.labels
            seconds["distill"] += group.seconds
            known["peak_bytes"] = max(known["peak_bytes"], group.peak_bytes)
        joined = packaging.checked(SyntheticSet(images, labels, task.soft_labels(images, allocate)), task)
        packaging.package(task, joined, out, seconds, overrides, known)


@functools.lru_cache(maxsize=1)
def rebuild(request: GroupRequest) -> Shared:
    """Prepare what groups share in this process, for its first group.

    Raises:
        UserError: naming the machine, if it lacks something that the groups need.
    """
    try:
        _check_teachers(request)
        folder = _folder(request)
        if not (folder / STATE / RUN).exists():
            files.write_bytes(folder / STATE / RUN, request.begun)
        recipe = Recipe.model_validate_json(request.recipe)
        task, _ = pipeline.prepare(recipe, folder, Resources(device=request.device), request.checkpoint_seconds)
        return Shared(request, task)
    except UserError as fault:
        raise UserError(
            f"{socket.gethostname()}: cannot prepare what groups are made from: {fault.args[0]}",
            next=fault.next or "put the source where every machine can read it, or name it by its Hub id",
        ) from fault


def _folder(request: GroupRequest) -> Path:
    """The folder of a group's checkpoints: in the set's folder, or in the cache of a machine that does not see it."""
    if (request.out / STATE / RUN).exists():
        return request.out
    return files.home() / "groups" / files.digest([request.recipe, str(request.out)])[:24]


def _check_teachers(request: GroupRequest) -> None:
    """Check the teachers. A job never trains any, because another machine's could differ."""
    for name, sha256 in request.teachers:
        path = files.home() / "teachers" / name
        if not path.is_file() or files.sha256(path) != sha256:
            what = "has no teacher" if not path.is_file() else "has another teacher"
            raise UserError(
                f"{what} {path}",
                next="let DDHUB_HOME be one folder that every machine sees, or copy its folder teachers/",
            )


def threads_each(asked: int | None, decided: int, engine: jobs.Engine) -> int:
    """CPU threads of one group, by request and decision."""
    if asked is not None:
        return asked
    if engine.ray is not None:
        return 1
    return devices.threads_each(engine.workers) if engine.workers > 1 else decided


def _settled(out: Path, threads: int, teachers: list[str]) -> int:
    """Fix how groups are made, once. Return their threads, as the first process chose them.

    Raises:
        UserError: if groups were begun with other teachers than this machine has.
    """
    path = out / STATE / "groups.json"
    with files.locked(out / STATE / "begin.lock"):
        if not path.exists():
            files.write_json(path, GroupSettings(threads=threads, teachers=teachers).model_dump())
        begun = GroupSettings.kept(path)
    if begun.teachers != teachers:
        raise UserError(
            f"{out}: its groups were begun with other teachers than those in {files.home() / 'teachers'}",
            next="let DDHUB_HOME be one folder that every machine sees, or choose another --out",
        )
    if begun.threads != threads:
        say(f"{out}: groups go on as they were begun, with {begun.threads} threads each")
    return begun.threads
