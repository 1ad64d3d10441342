"""Costs of calls of a work on this machine: measured by short runs on noise and stored, or estimated without a try.

Seconds are linear in series, calls and images, bytes in the images of a call. A fit belongs to one kind of machine,
threads, torch version, precision, and the work's own key. Fits are stored under DDHUB_HOME.
"""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ddhub.base import files, strict_json
from ddhub.distillation.plan.work import Work
from ddhub.training import device as devices
from ddhub.training import memory
from ddhub.training.device import Decisions

SERIES = 2.0  # about the seconds of a series of calls that is tried
CALL = 0.5  # estimated seconds of a call above which fewer images are tried
MOST = 100  # most calls of a series that is tried
ROUNDS = 3
# Guesses for what only a try can tell. `plan` marks them as rough.
COMPILING = 30.0  # seconds
FUSED = 0.5  # share of memory traffic that remains after compilation


@dataclass(frozen=True)
class Point:
    """Seconds of a series of calls with equally many images."""

    images: int
    calls: int
    seconds: float


@dataclass(frozen=True)
class Fit:
    """The costs of calls of a work."""

    series: float  # seconds before a series' first call
    call: float  # seconds of a call, without its images
    image: float  # seconds per image
    compiling: float  # additional seconds of the first series
    fixed: float  # bytes of the process or the GPU, without the images of a call
    each: float  # bytes per image of a call
    measured: str | None = None  # day of the measurement; None if it is an estimate
    largest: int = 0  # images of the largest call that was tried

    def seconds(self, series: float, calls: float, images: float) -> float:
        """Seconds of so much work, after compilation."""
        return self.series * series + self.call * calls + self.image * images

    def bytes(self, at_once: int) -> float:
        """The peak bytes of a call on so many images."""
        return self.fixed + self.each * at_once


def fitted(points: Sequence[Point], peaks: Sequence[tuple[int, float]], compiling: float = 0, **told: Any) -> Fit:
    """Fit costs by least relative squares, with longer series weighted more. No cost is negative.

    Args:
        points: measured seconds.
        peaks: images of a call, and the peak bytes held.
        compiling: seconds of a first series, of one call with as many images as one of the points.
        told: the other fields of Fit.
    """
    from scipy.optimize import nnls

    rows = np.array([[1, point.calls, point.calls * point.images] for point in points], dtype=float)
    sure = np.sqrt([point.calls for point in points])
    weights = sure / np.array([point.seconds for point in points])
    series, call, image = (float(value) for value in nnls(rows * weights[:, None], sure)[0])
    (few, less), (many, more) = peaks[0], peaks[-1]
    each = max(0.0, (more - less) / (many - few)) if many > few else 0.0
    largest = max(point.images for point in points)
    extra = max(0.0, compiling - (series + call + image * largest))
    return Fit(series, call, image, extra, max(0.0, more - each * many), each, largest=largest, **told)


def measure(
    works: Sequence[Work],
    decisions: Decisions,
    clock: Callable[[], float] | None = None,
    series: float | None = None,
) -> Fit:
    """Try calls on noise, and store their fit.

    Args:
        works: works with one key. Calls have as few and as many images at once as any of them, if that is quick.
        clock: returns seconds; None waits for the device.
        series: about the seconds of a series of calls; None takes SERIES.
    """
    devices.apply(decisions)
    work, fewest = max(works, key=lambda each: each.at_once), min(each.at_once for each in works)
    guess = rough(work, decisions)
    most = max(1, min(work.at_once, int(CALL / guess.image) if guess.image else work.at_once))
    least = fewest if fewest < most else max(min(2, most), most // 2)  # batch norms cannot train on one image
    now = clock or (lambda: _clock(decisions.device))
    points, peaks, first = list[Point](), list[tuple[int, float]](), 0.0
    for images in sorted({least, most}):
        with memory.Peak(decisions.device) as peak:
            first = _timed(work, images, 1, now)
            points += _points(work, images, now, SERIES if series is None else series)
        peaks.append((images, peak.bytes))
    fit = fitted(points, peaks, first, measured=datetime.now(UTC).date().isoformat())
    kept = {"key": key(work, decisions), "fit": asdict(fit), "points": [asdict(point) for point in points]}
    files.write_json(_path(work, decisions), kept)
    return fit


def _points(work: Work, images: int, now: Callable[[], float], series: float) -> list[Point]:
    """Points of a series of one call, and of as many calls as are quick."""
    one = median(_timed(work, images, 1, now) for _ in range(ROUNDS))
    calls = min(MOST, 1 + round(series / one))
    if calls == 1:
        return [Point(images, 1, one)]
    return [Point(images, 1, one), Point(images, calls, _timed(work, images, calls, now))]


def _timed(work: Work, images: int, calls: int, now: Callable[[], float]) -> float:
    begun = now()
    work.run(images, calls)
    return max(1e-9, now() - begun)


def _clock(device: str) -> float:
    """The time in seconds, after the device has finished its work."""
    if devices.is_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def stored(work: Work, decisions: Decisions) -> Fit | None:
    """The stored fit of a work, if there is a readable one."""
    try:
        found = strict_json.known(_path(work, decisions))
        return Fit(**found["fit"]) if found["key"] == key(work, decisions) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key(work: Work, decisions: Decisions) -> dict[str, Any]:
    """Everything on which a fit depends."""
    return {
        **machine(decisions.device),
        "torch": torch.__version__,
        "threads": decisions.threads,
        "precision": decisions.precision,
        "compiled": work.compiled,
        **work.key,
    }


def _path(work: Work, decisions: Decisions) -> Path:
    return files.home() / "plan" / "fits" / f"{files.digest(key(work, decisions))[:24]}.json"


def machine(device: str) -> dict[str, Any]:
    """The hardware that determines a device's speed."""
    return {"hardware": devices.hardware(device), "processor": None if devices.is_gpu(device) else _processor()}


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


@dataclass(frozen=True)
class Rates:
    """The speed of this machine, measured in about a second."""

    flops: float  # FLOP/s of products of large matrices
    bytes: float  # bytes per second, read and written by a copy that exceeds all caches
    operation: float  # seconds of an operation that computes almost nothing


@cache
def rates(device: str, threads: int, precision: str) -> Rates:
    """Measure products, a copy and small operations."""
    cuda = devices.is_gpu(device)
    size, dtype = 8192 if cuda else 1024, getattr(torch, precision)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    large, copy = (torch.zeros((256 if cuda else 16) << 20, device=device) for _ in range(2))
    small = torch.zeros(1, device=device, requires_grad=True)

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(4):
            begun = _clock(device)
            work()
            times.append(_clock(device) - begun)
        return max(1e-9, min(times))

    return Rates(
        2 * size**3 / best(lambda: a @ b),
        2 * 4 * large.numel() / best(lambda: copy.copy_(large)),
        best(lambda: [torch.autograd.grad(small.relu(), small) for _ in range(500)]) / 1000,  # forward and backward
    )


def rough(work: Work, decisions: Decisions) -> Fit:
    """An estimate from FLOPs and bytes moved, and the speed of this machine. It may be off by factors."""
    devices.apply(decisions)
    libraries = 0 if devices.is_gpu(decisions.device) else _libraries()
    speed, told = rates(decisions.device, decisions.threads, decisions.precision), work.rough
    moved = told.moved * (FUSED if work.compiled else 1)
    return Fit(
        series=0.0,
        call=told.operations * speed.operation,
        image=told.flops / speed.flops + moved / speed.bytes,
        compiling=COMPILING if work.compiled else 0.0,
        fixed=libraries,
        each=told.kept,
    )


@cache
def _libraries() -> int:
    """The bytes that this process held before any try."""
    return memory.anonymous_bytes()
