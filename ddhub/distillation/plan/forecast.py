"""The forecast of a recipe's run: seconds and bytes of each phase, from fits of this machine or estimates.

No image is decoded. The shape of the source is known, given or looked up, and no teacher counts as cached.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from math import ceil
from typing import Any

import torch

from ddhub.base import files, plugins
from ddhub.base.errors import UserError
from ddhub.base.units import counted
from ddhub.data import preprocess
from ddhub.distillation import memorisation
from ddhub.distillation.plan import costs, evaluations
from ddhub.distillation.plan.costs import Fit
from ddhub.distillation.plan.work import Outline, Phase, Rough, Work, labelling, scoring, training
from ddhub.distillation.recipes import method_of, refuse_top_k
from ddhub.distillation.task import constants, own_protocol
from ddhub.training import device
from ddhub.training.device import Decisions
from ddhub.training.protocol import Protocol

Fits = Callable[[Work, Decisions], Fit | None]


def phases(outline: Outline) -> dict[str, Phase | None]:
    """The phases of a run, by name; None for a method that declares no work.

    `distill` stands for one group.
    """
    return {
        "source": _source(outline),
        "teachers": _teachers(outline),
        "distill": of_method(outline),
        "packaging": _packaging(outline),
        "memorisation": _memorisation(outline),
    }


def of_method(outline: Outline) -> Phase | None:
    """The work of the method in one group; None if the method declares none."""
    method = method_of(outline.recipe)
    with plugins.blame_plugin(method.code):
        return method.work(outline.group()) if method.work else None


def refuse_impossible(outline: Outline) -> None:
    """Refuse a recipe that asks for more than its source holds, as far as that is known.

    Raises:
        UserError: with what to set.
    """
    chosen, classes = outline.recipe, outline.shape.classes
    most = max(1, outline.training // classes)
    if chosen.ipc > most:
        raise UserError(f"ipc: {counted(chosen.ipc, 'image')} per class of about {most}", next=f"--set ipc={most}")
    refuse_top_k(chosen, classes)


def document(outline: Outline, asked: evaluations.Evaluations | None, threads: int, workers: int) -> dict[str, Any]:
    """The whole plan: recipe, source, phases and their sum.

    Args:
        asked: the evaluations to forecast.
        threads: CPU threads of one group and of one teacher.
        workers: the processes that share teachers and groups.
    """
    rows, decisions = predict(outline, threads, stored_or_rough, workers), outline.decisions
    known = [row for row in rows if row["seconds"] is not None]
    seconds = sum(row["seconds"] for row in known)
    return {
        "recipe": outline.recipe.name,
        "hash": outline.recipe.hash,
        "method": outline.recipe.method["name"],
        "source": {"dataset": outline.recipe.source.dataset, **asdict(outline.shape), "training": outline.training},
        "synthetic": outline.synthetic,
        "groups": {"count": outline.recipe.groups, "threads": threads, "workers": workers},
        "machine": costs.machine(decisions.device),
        "decisions": decisions.record(),
        "phases": rows,
        "evaluating": evaluating(outline, asked, stored_or_rough),
        "sum": {
            "seconds": seconds,
            "wall_seconds": sum(row["wall_seconds"] for row in known),
            "peak_bytes": max(row["peak_bytes"] for row in known),
            "disk_bytes": sum(row["disk_bytes"] for row in known),
            "measured": min((row["measured"] for row in known if row["measured"]), default=None),
            "rough": [f"{row['phase']}: {name}" for row in known for name in row["rough"]],
        },
        "not_told": [row["phase"] for row in rows if row["seconds"] is None],
        "rates": asdict(_rates(decisions)) if any(row["rough"] for row in known) else None,
    }


def sentences(document: dict[str, Any]) -> list[str]:
    """The basis of a plan's numbers, as sentences."""
    told = []
    for name in document["not_told"]:
        told.append(f"{name}: method {document['method']} declares no work, so it is not in the sum.")
    if speed := document["rates"]:
        told.append(
            f"rough: estimated from FLOPs and bytes moved, at {speed['flops'] / 1e9:.0f} GFLOP/s of matrix products and"
            f" {speed['bytes'] / 1e9:.1f} GB/s of copies measured just now, and {costs.COMPILING:.0f} seconds per"
            " compiled program. The estimate can be off by a factor of three. --measure tries a few steps on noise."
        )
    told.append(
        "No teacher counts as cached, and no program as compiled. Fetching and decoding the source are not included."
        " Memory is that of a GPU, or else the process's anonymous memory."
    )
    for after in document["evaluating"][:1]:
        told.append(
            f"evaluate: {after['rows']} trainings per row, one after another, half of them on random real images, and"
            f" tests on {evaluations.TESTED:.0%} as many images as the train split has. It is not in the sum. --archs"
            " and --protocols forecast other evaluations."
        )
    return told


def _rates(decisions: Decisions) -> costs.Rates:
    return costs.rates(decisions.device, decisions.threads, decisions.precision)


def stored_or_rough(work: Work, decisions: Decisions) -> Fit:
    """The measured fit of a work, or else an estimate."""
    return costs.stored(work, decisions) or costs.rough(work, decisions)


def predict(outline: Outline, threads: int, fits: Fits, workers: int = 1) -> list[dict[str, Any]]:
    """Each phase with its seconds and bytes, or without them if a work has no fit.

    Args:
        threads: CPU threads of one group and of one teacher.
        fits: returns the fit of a work.
        workers: the processes that share teachers and groups. Each compiles for itself.
    """
    seen: set[str] = set()
    rows, at_once = [], device.room_for(outline.decisions.device, threads)
    for name, phase in phases(outline).items():
        row = _estimate(phase, decisions_of(outline, name, threads), fits, seen)
        if name == "distill":
            row = _of_groups(row, outline.recipe.groups)
        parts = {"teachers": outline.recipe.teachers.count, "distill": outline.recipe.groups}.get(name, 1)
        rows.append({"phase": name, **_shared(row, min(parts, workers), parts, at_once)})
    return rows


def decisions_of(outline: Outline, phase: str, threads: int) -> Decisions:
    """The decisions of a phase."""
    if phase == "teachers":
        return replace(outline.decisions.exact(), threads=threads)
    spread = phase == "distill" and outline.recipe.groups > 1
    return replace(outline.decisions, threads=threads) if spread else outline.decisions


def _estimate(phase: Phase | None, decisions: Decisions, fits: Fits, seen: set[str]) -> dict[str, Any]:
    """Seconds and bytes of a phase.

    Args:
        seen: programs that are compiled already. Those of this phase are added.
    """
    works, seconds, compiling, peak = list[dict[str, Any]](), 0.0, 0.0, 0.0
    for work in phase.works if phase else []:
        fit = fits(work, decisions)
        if fit is None:
            phase = None
            break
        program = files.digest([costs.key(work, decisions), work.at_once])
        compiling += 0 if program in seen or not work.calls else fit.compiling
        seen.add(program)
        own = fit.seconds(work.series, work.calls, work.images)
        seconds, peak = seconds + own, max(peak, fit.bytes(work.at_once) + work.held)
        told = {"calls": work.calls, "images": work.images, "at_once": work.at_once, "largest_tried": fit.largest}
        works.append({"name": work.name, "seconds": own, "measured": fit.measured, **told})
    if phase is None:
        names = ("seconds", "wall_seconds", "compiling", "peak_bytes", "disk_bytes", "measured")
        return {**dict.fromkeys(names), "rough": [], "works": []}
    return {
        "seconds": seconds + compiling,
        "wall_seconds": seconds + compiling,
        "compiling": compiling,
        "peak_bytes": round(peak),
        "disk_bytes": round(phase.disk),
        "measured": min((work["measured"] for work in works if work["measured"]), default=None),  # the oldest day
        "rough": [work["name"] for work in works if not work["measured"]],
        "works": works,
    }


def _of_groups(row: dict[str, Any], groups: int) -> dict[str, Any]:
    """The row of all groups, made by one process, from that of one group. `each_seconds` keeps the latter."""
    if groups == 1 or row["seconds"] is None:
        return row
    each = row["seconds"] - row["compiling"]
    seconds = groups * each + row["compiling"]
    more = {"seconds": seconds, "wall_seconds": seconds, "each_seconds": each}
    return {**row, **more, "disk_bytes": groups * row["disk_bytes"]}


def _shared(row: dict[str, Any], processes: int, parts: int, at_once: int) -> dict[str, Any]:
    """The row of a phase whose equal parts several processes share. Each process compiles for itself.

    Args:
        at_once: the processes that fit on this machine's cores or GPUs. The others take turns.
    """
    if processes < 2 or row["seconds"] is None:
        return row
    each = (row["seconds"] - row["compiling"]) / parts
    seconds = parts * each + processes * row["compiling"]
    shared = ceil(parts / processes) * each + row["compiling"]
    return {
        **row,
        "seconds": seconds,
        "compiling": processes * row["compiling"],
        "wall_seconds": max(shared, seconds / at_once),
    }


def evaluating(outline: Outline, asked: evaluations.Evaluations | None, fits: Fits) -> list[dict[str, Any]]:
    """The forecasts of `ddhub evaluate`, one for each architecture and protocol."""
    seen: set[str] = set()
    return [
        {**about, **_estimate(phase, outline.decisions, fits, seen)}
        for about, phase in evaluations.phases(outline, asked)
    ]


def _source(outline: Outline) -> Phase:
    """Statistics and whitening. Nothing can forecast the time to fetch and decode images."""
    shape, zca = outline.shape, outline.recipe.preprocess.zca
    disk = 0 if outline.recipe.source.dataset == "digits" else shape.images * shape.values
    if constants(outline.recipe):
        return Phase([], disk=disk)
    square = shape.values**2 if zca else 0
    most = max(1, min(outline.training, preprocess.CHUNK // shape.values))

    def run(images: int, calls: int) -> None:
        pixels, rows = outline.noise(images).cpu().to(torch.uint8), torch.arange(images)
        for part in [rows.repeat(calls)] if zca else [rows] * calls:  # the whitening itself is computed once
            preprocess.fit(pixels, part, zca=zca)

    work = Work(
        "statistics",
        {"work": "statistics", "channels": shape.channels, "side": shape.side, "zca": zca},
        *(1, ceil(outline.training / most), outline.training, most),
        run,
        # Float64 takes twice as long, and the whitening's eigenvectors as long as five images per value.
        Rough(4.0 * square * (1 + 5 * shape.values / outline.training), 24.0 * shape.values, 0, 0),
        held=48 * square,
    )
    return Phase([work], disk=disk)


def _teachers(outline: Outline) -> Phase:
    spec = outline.recipe.teachers
    if not spec.count:
        return Phase([])
    protocol = Protocol(loss="ce", augment=outline.recipe.augment, lr=spec.lr, epochs=spec.epochs, batch=spec.batch)
    outline = replace(outline, decisions=outline.decisions.exact())
    works = []
    for arch, count in Counter(spec.turns).items():
        works.append(training(outline, "teachers", arch, outline.training, protocol, count, pixels=True))
        works.append(scoring(outline, "their scores", arch, outline.held_out, count, pixels=True))
    return Phase(works, disk=_shipped(outline))


def _shipped(outline: Outline) -> int:
    """Bytes of the teachers."""
    return sum(outline.forward(arch).weights for arch in outline.recipe.teachers.turns)


def _packaging(outline: Outline) -> Phase:
    """Networks trained on the set as floats and as packaged, and the labels of both."""
    chosen, count, values = outline.recipe, outline.synthetic, outline.shape.values
    arch, times = chosen.teachers.home, 2 * chosen.evaluate.packaging_seeds
    works = [
        training(outline, "networks", arch, count, own_protocol(chosen), times),
        scoring(outline, "their scores", arch, outline.held_out, times, pixels=True),
    ]
    soft = 0
    if chosen.labels.form == "logits":
        if chosen.labels.teachers == "mean":
            works += labelling(outline, "labels", count, 2, chosen.teachers.count)
        else:
            works.append(scoring(outline, "labels", arch, count, 2))
        soft = 4 * chosen.labels.top_k if chosen.labels.top_k else 2 * outline.shape.classes
    whitening = 4 * (values**2 + values) if chosen.preprocess.zca else 0
    return Phase(works, disk=count * (outline.stored_values + soft) + _shipped(outline) + whitening)


def _memorisation(outline: Outline) -> Phase:
    """The copy check: pixels and features of each training image, against up to 512 others."""
    shape, arch = outline.shape, outline.recipe.teachers.home
    one, limit = outline.forward(arch), memorisation.LIMIT
    features = bool(outline.recipe.teachers.count) and one.convnet
    queries = min(limit, outline.synthetic) + min(limit, outline.held_out)
    most = max(1, min(memorisation.CHUNK_ROWS, memorisation.CHUNK_BYTES // (4 * shape.values), outline.training))
    work = Work(
        "search",
        {"work": "search", "queries": queries, "channels": shape.channels, "side": shape.side, "arch": arch},
        *(0, ceil(outline.training / most), outline.training, most),
        partial(_search, outline, queries, features),
        Rough(
            2.0 * queries * shape.values + (one.flops if features else 0),
            12 * shape.values + (2 * one.bytes if features else 0),
            8 * shape.values,
            50,
        ),
    )
    return Phase([work])


def _search(outline: Outline, queries: int, features: bool, images: int, calls: int) -> None:
    arch = outline.recipe.teachers.home
    pixels, asked = (outline.noise(count).cpu().to(torch.uint8) for count in (images, queries))
    network = outline.network(arch)
    weights = network.init(0)
    rows = torch.arange(images).repeat(calls)
    memorisation.nearest_by_pixels(asked, pixels, rows, outline.decisions.device, chunk=images)
    for _ in range(calls):
        for part in outline.noise(images).split(memorisation.BATCH) if features else ():
            with torch.no_grad():
                network.embed(weights, part)
