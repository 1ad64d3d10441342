"""The grid of an evaluation: architectures are trained on a set's files and tested, with one JSON file per row.

Nothing flows back into a set, and nothing is selected: each row is the last epoch of one training.
ddhub/evaluation/workbench.py provides what a row trains on.
"""

import contextlib
import functools
import glob
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ddhub.artifact import source_location
from ddhub.artifact.folder import Artifact
from ddhub.artifact.run_state import STATE
from ddhub.base import files, jobs, limits, progress
from ddhub.base import seeds as seeding
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.units import counted, duration
from ddhub.data import spec
from ddhub.evaluation import corruptions as corrupting
from ddhub.evaluation import protocols as named
from ddhub.evaluation import real_images, row_names, speed, training_cost, tuning, workbench
from ddhub.evaluation import rows as results
from ddhub.evaluation.request import Cell, EvaluationRequest, Grid
from ddhub.evaluation.rows import Row
from ddhub.evaluation.workbench import Bench
from ddhub.training import architectures, fit, frozen
from ddhub.training import device as devices
from ddhub.training import network as networks
from ddhub.training.loop import Run

CHECKPOINT = 120.0  # seconds between two checkpoints of a training; a shorter one has none
ASIDE = ".untested"  # suffix of a row's file that a new row will replace


def evaluate(found: Artifact, out: Path, rows: Grid, request: EvaluationRequest) -> list[Row]:
    """Run every row that has no file yet. Return all rows of this evaluation, or the existing ones for a shard.

    Args:
        out: the folder of the rows.
        request: without cells. ddhub/evaluation/speed.py decides on `compile`, `precision` and `together` of its
            resources if they are None. Without `threads`, workers share this machine's threads, and a Ray task has one.

    Raises:
        UserError: before any training, if something cannot be evaluated; after it, if rows failed.
    """
    cells = _cells(found, rows)
    resources = request.resources
    engine = jobs.choose(resources.workers, resources.shard, resources.ray)
    if resources.threads is None and (engine.workers > 1 or engine.ray):
        resources = replace(resources, threads=1 if engine.ray else devices.threads_each(engine.workers))
    source_path = request.source_path or source_location.remembered(found.manifest)  # other machines do not remember it
    request = replace(
        request,
        reference=spec.absolute(request.reference),
        cells=tuple(cells),
        test=request.test and spec.absolute(request.test),
        source_path=source_path and spec.absolute(source_path),
        resources=resources,
    )
    with progress.busy(f"{found.manifest.name}: reading what the rows need"):
        bench = workbench.build(found, request)
    gpus = resources.device is None or devices.is_gpu(resources.device)
    engine = replace(engine, cpus=resources.threads or 1, gpus=gpus)
    if request.tune:
        bench = tuning.tune(bench, cells, out / "tuning", engine)
    paths = {out / row_names.file_name(bench, cell): cell for cell in cells}
    _put_back(paths)  # left by a killed command
    if request.corruptions:
        _set_aside(request.name, paths)
    return _run(bench, out, engine, paths)


def _run(bench: Bench, out: Path, engine: jobs.Engine, paths: dict[Path, Cell]) -> list[Row]:
    """Make every missing row. Return all rows, or the existing ones for a shard.

    Raises:
        UserError: if rows failed.
    """
    name = bench.set.manifest.name
    missing = [path for path in paths if not path.exists()]
    say(f"{name}: {len(paths)} rows, {len(paths) - len(missing)} done already")
    if missing and engine.ray is None:  # speed on this machine says nothing of a cluster's
        bench = speed.settle(bench, out, sharded=engine.shard[1] > 1)
    costs = {path: _cost(bench, cell) for path, cell in paths.items()} if missing else {}
    try:
        jobs.run_all(_jobs(bench, out), engine, name="rows", costs=costs)
    finally:
        _put_back(paths)
    done = [path for path in paths if path.exists()]
    left = len(paths) - len(done)
    if left and engine.shard[1] == 1:
        raise UserError(f"{left} rows failed in another process, which says why", next="the same command again")
    if left:
        say(f"shard {engine.shard[0]}/{engine.shard[1]}: done; rows left to other shards: {left}")
    return [results.read(path) for path in done]


def _set_aside(name: str, paths: Iterable[Path]) -> None:
    """Set rows aside that lack a test on corrupted images. Their networks are gone, so they are trained again."""
    rows = {path: results.read(path) for path in paths if path.exists()}
    told = {path: row.corrupted and row.corrupted.version for path, row in rows.items()}
    untested = [path for path, version in told.items() if version != corrupting.VERSION]
    if untested:
        say(f"{name}: trained again, to be tested on corrupted images too: {counted(len(untested), 'row')}")
    for path in untested:
        path.replace(path.with_suffix(ASIDE))


def _put_back(paths: Iterable[Path]) -> None:
    """Put rows back that were set aside and not replaced. No finished training is lost."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process did it first
            aside = path.with_suffix(ASIDE)
            if path.exists():
                aside.unlink()
            else:
                aside.replace(path)


def check_archs(found: Artifact, archs: Sequence[str]) -> None:
    """Refuse architectures that cannot run on a set's images, before anything is trained or read."""
    for arch in dict.fromkeys(archs):
        architectures.try_out(arch, len(found.manifest.classes), *workbench.shape(found, arch))


def _cells(found: Artifact, rows: Grid) -> list[Cell]:
    """The cells of the grid, one per row."""
    count = real_images.own_settings(found).seeds if rows.seeds is None else rows.seeds
    if count < 1:
        raise UserError("--seeds: at least 1", next="--seeds 1")
    data = ["distilled", *(name for name in rows.baselines if name != "full")]
    whole = ["full"] if "full" in rows.baselines else []
    lines = []
    for arch in dict.fromkeys(map(frozen.absolute, rows.archs or [found.manifest.home_arch])):
        probed = frozen.is_frozen(arch)
        own = [named.FROZEN] if probed else [name for name in dict.fromkeys(rows.protocols) if name != named.FROZEN]
        lines += [(arch, protocol, name) for protocol in own for name in dict.fromkeys(data)]
        lines += [(arch, named.FROZEN if probed else name, name) for name in whole]
    if len(lines) * count > limits.ROWS:
        raise UserError(f"{len(lines) * count} rows asked for, and a set has {limits.ROWS} at most", next="--seeds 5")
    return [Cell(arch, protocol, name, seed) for arch, protocol, name in lines for seed in range(count)]


def _jobs(bench: Bench, out: Path) -> dict[Path, jobs.Job]:
    """The rows as jobs. Rows that one program trains are one job. It is done when its last row is written."""
    found: dict[Path, jobs.Job] = {}
    for arch, decisions in bench.decisions.items():
        cells = [cell for cell in bench.request.cells if cell.arch == arch]
        for group in speed.together(cells, decisions.together):
            paths = [out / row_names.file_name(bench, cell) for cell in group]
            missing = [path for path in paths if not path.exists()]
            found[(missing or paths)[-1]] = functools.partial(_work, bench, tuple(group))
    return found


def _cost(bench: Bench, cell: Cell) -> float:
    """The estimated relative cost of a row: FLOPs of its training and test."""
    count = len(bench.train) if cell.data == "full" and bench.train is not None else len(bench.set.labels)
    if cell.data == "equal_compute":
        cell = replace(cell, data="distilled")
    tested = architectures.forward_flops(cell.arch, *workbench.shape(bench.set, cell.arch)) * len(bench.test)
    tested *= 1 + bench.request.corruptions * len(corrupting.CORRUPTIONS)
    return training_cost.flops(bench, cell, count) + float(tested)


def _work(bench: Bench, cells: tuple[Cell, ...], path: Path) -> None:
    """Train, test and write the rows of cells that differ only by seed; `path` is the last missing one."""
    decisions = bench.decisions[cells[0].arch]
    devices.apply(decisions)
    network, protocol = bench.network(cells[0].arch), bench.protocol(cells[0])
    names = {path.with_name(row_names.file_name(bench, cell)): cell for cell in cells}
    if path not in names:
        raise UserError(f"{path.name}: set, source or test data on {socket.gethostname()} are not what was asked for")
    begun = time.monotonic()
    # Bits depend on the number of networks trained together. So a group is always complete, with unrequested seeds.
    first = cells[0].seed // decisions.together * decisions.together
    group = [replace(cells[0], seed=first + number) for number in range(decisions.together)]
    with progress.busy(_title(cells)):
        examples = [workbench.examples(bench, cell) for cell in group]
        # Paired: one seed gives the same initialisation and order of augmentations for all compared data.
        derived = [seeding.derive(cell.seed, "evaluate") for cell in group]
        run = _resumable(path.parent / STATE, row_names.file_name(bench, group[0]), decisions, _title(cells))
        trained = fit.fit_many(network, examples, protocol, derived, run=run, teach=workbench.teach(bench, cells[0]))
    seconds = (time.monotonic() - begun + run.earlier) / len(group)
    lost = []
    for name, cell in sorted(names.items(), key=lambda item: item[0] == path):  # this job's own file comes last
        moments = trained[cell.seed - first]
        if moments is None:
            lost.append(cell)
        elif not name.exists():
            try:
                _test(bench, cell, moments[-1], len(examples[0]), seconds, name)
            except fit.Diverged:
                lost.append(cell)
    run.remove()
    _forget(path.parent / STATE, names)
    if lost:
        raise _diverged(bench, lost)


def _resumable(folder: Path, name: str, decisions: devices.Decisions, title: str) -> Run:
    """A training that goes on from a checkpoint if it is long. Another way of training begins anew."""
    place = folder / f"{Path(name).stem}-{files.digest(decisions.record())[:6]}"
    run = Run(place, "training", device=decisions.device, checkpoint_seconds=CHECKPOINT, unit="epoch", brief=True)
    run.title = title
    return run


def _forget(folder: Path, rows: Iterable[Path]) -> None:
    """Remove the checkpoints of rows that another way of training has begun."""
    for row in rows:
        for left in folder.glob(f"{glob.escape(row.stem)}-*"):
            shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(OSError):  # other trainings may be there
        folder.rmdir()


def _diverged(bench: Bench, cells: Sequence[Cell]) -> UserError:
    """The error for rows that diverged and differ only by seed."""
    cell, protocol = cells[0], bench.protocol(cells[0])
    advice = f"with --set {cell.protocol}.lr={protocol.lr / 10:g}"
    if protocol.tuned:
        advice = "without --tune"
    elif fit.family_of(bench.network(cell.arch), protocol).lr is not None:  # the protocol's rate has no effect
        advice = "with --tune"
    return UserError(
        f"{_title(cells)}: training diverged, so there is no row",
        next=f"the same command {advice}",
    )


def _title(cells: Sequence[Cell]) -> str:
    """The name of rows that differ only by seed, for messages."""
    cell, seeds = cells[0], ", ".join(str(each.seed) for each in cells)
    return f"{frozen.title(cell.arch)} {cell.protocol} {cell.data} seed {seeds}"


def _test(bench: Bench, cell: Cell, weights: networks.Weights, count: int, seconds: float, path: Path) -> None:
    """Test one network and write its row."""
    decisions, network, protocol = bench.decisions[cell.arch], bench.network(cell.arch), bench.protocol(cell)
    with progress.busy(f"{_title([cell])}: testing"):
        top1 = fit.accuracy(network, weights, bench.real(cell.arch, bench.test))
    family, tuned = fit.family_of(network, protocol), bench.tuned(cell)
    row = {
        **row_names.key(bench, cell),
        "set": bench.request.name,
        "top1": top1,
        **({"corrupted": _test_corrupted(bench, cell, weights)} if bench.request.corruptions else {}),
        "overrides": named.overrides_of(cell.protocol, bench.request.overrides) + (["tuned"] if protocol.tuned else []),
        "tuned": asdict(tuned) if tuned else None,
        "test_set": bench.test_set,
        "test_images": len(bench.test),
        "classes": len(bench.set.manifest.classes),
        "test_copies": bench.test_copies,
        "train_images": count,
        "epochs": fit.plan(count, protocol, family)[0],
        "lr": family.lr if family.lr is not None else protocol.lr,
        "optimizer": family.optimizer,
        "seconds": round(seconds, 2),
        "flops": training_cost.flops(bench, cell, count),
        "train_bytes": training_cost.stored_bytes(bench, cell, count),
        "device": decisions.device,
        "hardware": devices.hardware(decisions.device),
        "versions": devices.versions(decisions.device),
        "decisions": decisions.record(),
    }
    files.write_json(path, row)
    say(f"{_title([cell])}: {100 * top1:.1f}% in {duration(seconds)}")


def _test_corrupted(bench: Bench, cell: Cell, weights: networks.Weights) -> dict[str, Any]:
    """The test on corrupted images, as `results.Corrupted` has it."""
    network, top1 = bench.network(cell.arch), {}
    for name in corrupting.CORRUPTIONS:
        images = corrupting.apply(name, bench.test.images)
        top1[name] = fit.accuracy(network, weights, bench.real(cell.arch, replace(bench.test, images=images)))
    return {
        "version": corrupting.VERSION,
        "severity": corrupting.SEVERITY,
        "mean": sum(top1.values()) / len(top1),
        "top1": top1,
    }
