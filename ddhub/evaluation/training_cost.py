"""The cost of a training apart from seconds: FLOPs, and bytes of its training data."""

from ddhub.evaluation import baseline_images
from ddhub.evaluation.workbench import WHOLE, Bench, Cell, labelled_by_teachers, shape
from ddhub.training import architectures, fit


def flops(bench: Bench, cell: Cell, count: int) -> float:
    """The estimated FLOPs of training on `count` images, for any architecture, without the labels of teachers."""
    protocol = bench.protocol(cell)
    epochs, _ = fit.plan(count, protocol, fit.family_of(bench.network(cell.arch), protocol))
    one = architectures.forward_flops(cell.arch, *shape(bench.set, cell.arch))
    return float(3 * one * epochs * count)  # a backward pass counts as two forward passes


def stored_bytes(bench: Bench, cell: Cell, count: int) -> int:
    """Bytes of a row's training data: stored images and labels, and teachers that label its views.

    Real images count as PNG with soft labels, if they have some, so that they compare with the set's own.
    """
    record, protocol = bench.set.manifest, bench.protocol(cell)
    extra = record.bytes.teachers if protocol.on_the_fly else 0
    if cell.data == "distilled":
        soft = record.bytes.labels if protocol.labels == "stored" else 0
        return record.bytes.images + record.bytes.preprocess + soft + extra
    soft = (
        baseline_images.SOFT_BYTES * len(record.classes)
        if labelled_by_teachers(bench.set, cell, bench.protocols)
        else 0
    )
    each = bench.pool.bytes_each if cell.data in WHOLE else bench.pool.reduced_bytes_each
    return round(count * (each + soft)) + extra
