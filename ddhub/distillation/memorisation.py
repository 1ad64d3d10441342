"""The copy check: distances of synthetic images to training images, compared with those of unseen real images.

The test split is not needed. The unseen images are those of the validation part, from which no method learns.
Shapes: Q queries, N training images, D values an image, F features.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddhub.artifact.manifest_parts import Memorisation, Nearness
from ddhub.base import files, seeds
from ddhub.data import enlarge
from ddhub.distillation.task import Task

LIMIT = 256  # number of images of each kind that are checked
CHUNK_BYTES, CHUNK_ROWS = 64 << 20, 16384  # training images converted to floats at once
BATCH = 250  # images that a teacher embeds at once
CANDIDATES = 4  # per chunk; float32 finds them, exact integers choose among them
COPY = 0.99  # an image nearer than this share of held-out images counts as a copy
SHOWN = 10  # number of pairs in the picture


@dataclass(frozen=True)
class Pair:
    """A synthetic image and its nearest training images, uint8 (C, H, W) each."""

    synthetic: Tensor
    by_pixels: Tensor
    distance: float  # in pixels
    by_features: Tensor | None = None
    feature_distance: float | None = None


@dataclass(frozen=True)
class Nearest:
    """For each query the row of its nearest training image (Q,) and its distance (Q,), float64."""

    rows: Tensor
    distances: Tensor


def check(task: Task, images: Tensor, labels: Tensor) -> tuple[Memorisation, list[Pair]]:
    """Find the nearest training images of up to LIMIT synthetic images, and of as many held-out ones.

    Args:
        images: the displayed synthetic images, uint8 (M, C, H, W).
        labels: their classes (M,).

    Returns:
        The figures for the manifest, and the SHOWN closest pairs by pixels, the closest first.
    """
    chosen = spread(labels, LIMIT, seeds.generator(task.recipe.seed, "memorisation", "synthetic"))
    generator = seeds.generator(task.recipe.seed, "memorisation", "held out")
    held = task.validation[spread(task.source.labels[task.validation], LIMIT, generator)]
    queries = torch.cat([images[chosen.to(images.device)].cpu(), task.as_stored(task.source.images[held])])
    factor = task.recipe.preprocess.factor
    by_pixels = nearest_by_pixels(queries, task.source.images, task.training, task.decisions.device, factor=factor)
    by_features = nearest_by_features(queries, task) if task.teachers and task.teachers.has_features else None
    count = len(chosen)
    fresh = by_pixels.distances[count:] > 0  # a held-out image that is itself a copy says nothing of unseen images
    record = Memorisation(
        checked=count,
        pixels=nearness(by_pixels.distances, count, fresh),
        features=None if by_features is None else nearness(by_features.distances, count, fresh),
        starts=share_of_starts(task, by_pixels.rows[:count]),
    )
    closest = by_pixels.distances[:count].argsort(stable=True)[:SHOWN].tolist()
    return record, [_pair(task, queries, by_pixels, by_features, query) for query in closest]


def share_of_starts(task: Task, nearest: Tensor) -> float | None:
    """The share of nearest training rows (Q,) that are start images of the set; None without real start images."""
    if getattr(task.config, "init", None) not in ("real", "easy"):
        return None
    return torch.isin(nearest, task.initial_rows).double().mean().item()


def spread(labels: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Up to `limit` random rows in order, spread over the classes as evenly as possible."""
    order = torch.randperm(len(labels), generator=generator)
    seen: dict[int, int] = {}
    turn = torch.empty(len(labels), dtype=torch.int64)
    for row, label in zip(order.tolist(), labels.cpu()[order].tolist(), strict=True):
        turn[row] = seen[label] = seen.get(label, -1) + 1
    return order[turn[order].argsort(stable=True)][:limit].sort().values


def nearness(distances: Tensor, count: int, fresh: Tensor) -> Nearness:
    """The figures for distances of `count` synthetic images, followed by those of held-out images.

    Args:
        fresh: which held-out images are no copies of training images, (Q - count); without any, all count.
    """
    synthetic, held = distances[:count], distances[count:]
    held = held[fresh] if fresh.any() else held
    farther = (held > synthetic.unsqueeze(1)).double().mean(1)  # for each synthetic image, the share of held-out images
    return Nearness(
        median=round(synthetic.median().item(), 6),
        median_held_out=round(held.median().item(), 6),
        copies=(farther >= COPY).double().mean().item(),
    )


def nearest_by_pixels(
    queries: Tensor, images: Tensor, training: Tensor, device: str = "cpu", chunk: int | None = None, factor: int = 1
) -> Nearest:
    """The nearest training rows by root mean square difference of pixels in [0, 1].

    Args:
        queries: uint8 (Q, C, H, W).
        images: uint8 (N, C, factor * H, factor * W), memory-mapped; `training` are the rows to compare.
        chunk: training images per step; None takes what CHUNK_BYTES and CHUNK_ROWS allow.
        factor: reduces training images to the size of the queries.
    """
    size, whole_size = queries[0].numel(), images[0].numel()
    # Centred, because float32 loses precision when it subtracts large products.
    asked = queries.flatten(1).to(device).float() - 127.5
    # Squared distances and rows of the nearest images so far, (Q, some). Results of many chunks would keep their memory
    # from being used again.
    values, found_rows = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for rows in training.split(chunk or max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * whole_size)))):
        known = enlarge.reduced(images[rows], factor).flatten(1).to(device).float() - 127.5
        squares = known.square().sum(1) - 2 * (asked @ known.T)  # (Q, chunk), without the query's own square
        near = squares.topk(min(CANDIDATES, len(rows)), dim=1, largest=False)
        both = torch.cat([values, near.values.cpu()], dim=1)
        kept = both.topk(min(CANDIDATES, both.shape[1]), dim=1, largest=False)
        found_rows = torch.cat([found_rows, rows[near.indices.cpu()]], dim=1).gather(1, kept.indices)
        values = kept.values
    few = found_rows.sort(dim=1).values  # the first of equally near images
    whole = queries.flatten(1).int()
    candidates = (enlarge.reduced(images[column], factor).flatten(1).int() for column in few.T)
    exact = torch.stack([(each - whole).square().sum(1) for each in candidates], dim=1)
    best = exact.min(dim=1)
    found = few.gather(1, best.indices.unsqueeze(1)).squeeze(1)
    return Nearest(found, (best.values.double() / size).sqrt() / 255)


def nearest_by_features(queries: Tensor, task: Task, chunk: int = BATCH) -> Nearest:
    """The nearest training images, as the set would store them, by cosine distance of the first teacher's features."""
    asked = torch.cat([_embedded(task, part) for part in queries.split(BATCH)])
    similar = torch.full((len(queries),), -2.0, dtype=torch.float64)
    found = torch.zeros(len(queries), dtype=torch.int64)
    for rows in task.training.split(chunk):
        best = (asked @ _embedded(task, task.as_stored(task.source.images[rows])).T).max(dim=1)
        values, chosen = best.values.double().cpu(), rows[best.indices.cpu()]
        found = torch.where(values > similar, chosen, found)
        similar = similar.maximum(values)
    return Nearest(found, (1 - similar).clamp(min=0))


def _embedded(task: Task, images: Tensor) -> Tensor:
    """Features of length 1, (Q, F), of uint8 images (Q, C, H, W) as the set stores them."""
    assert task.teachers is not None
    inputs = enlarge.enlarged(task.preprocess.inputs(images.to(task.decisions.device)), task.side)
    return F.normalize(task.teachers.features(inputs))


def _pair(task: Task, queries: Tensor, by_pixels: Nearest, by_features: Nearest | None, query: int) -> Pair:
    images = task.source.images
    pair = (queries[query], images[by_pixels.rows[query]], by_pixels.distances[query].item())
    if by_features is None:
        return Pair(*pair)
    return Pair(*pair, images[by_features.rows[query]], by_features.distances[query].item())


def picture(pairs: list[Pair], path: Path) -> None:
    """Write a PNG of pairs: synthetic images above their nearest training images, the closest pair at the left."""
    from matplotlib.figure import Figure

    rows: list[tuple[str, list[tuple[Tensor | None, str]]]] = [
        ("synthetic", [(pair.synthetic, "") for pair in pairs]),
    ]
    rows.append(("nearest real\nby pixels", [(pair.by_pixels, f"{pair.distance:.3f}") for pair in pairs]))
    if pairs[0].by_features is not None:
        named = [(pair.by_features, f"{pair.feature_distance:.3f}") for pair in pairs]
        rows.append(("nearest real\nby features", named))
    figure = Figure(figsize=(0.9 * len(pairs) + 1.4, 1.05 * len(rows) + 0.5), dpi=110)
    # One axes for all images, with a square of side 0.8 for each in a cell of side 1. Many axes are ten times slower.
    axes = figure.add_axes((0.12, 0.02, 0.86, 0.86))
    for row, (name, shown) in enumerate(rows):
        bottom = len(rows) - 1 - row
        axes.text(-0.1, bottom + 0.4, name, fontsize=7, ha="right", va="center")
        for column, (image, title) in enumerate(shown):
            assert image is not None
            square = (column, column + 0.8, bottom, bottom + 0.8)
            axes.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255, extent=square)
            axes.text(column + 0.4, bottom + 0.83, title, fontsize=7, ha="center", va="bottom")
    axes.set_xlim(0, len(pairs))
    axes.set_ylim(0, len(rows))
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("Synthetic images and their nearest training images, the closest pairs first", fontsize=8)
    files.write_atomic(
        path, lambda file: figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
    )
