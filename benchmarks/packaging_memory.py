"""Peak memory of packaging by the size of the set, at ImageNet's shapes. Each size has a process of its own.

python benchmarks/packaging_memory.py --ipc 10 50 > benchmarks/results/packaging_memory.json

The set has 1,000 classes of 64x64x3. It is noise in a mapped file, where the distiller keeps its images too. Networks
are ConvNets of two blocks and width 8. The two that score the set train for one epoch, because only the growth with
the set is measured. Everything else is as in `ddhub distill`: pixels, labels, parquet, the set read back and scored,
the search for copies among 10,000 real images, and the manifest.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from distilling import Memory, Worker, facts, noise_source, task_of, waited

CLASSES, SIDE = 1000, 64
TINY = [
    "teachers={arch: convnet2_w8, count: 1}",
    "method.student={arch: convnet2_w8}",
    "evaluate.epochs=1",
    "evaluate.packaging_seeds=1",
]


def measure(ipc: int, threads: int) -> dict:
    """Package a set in this process. Return seconds, and bytes beyond those of the libraries."""
    from ddhub.base import mapped_tensors
    from ddhub.data.spec import SourceSpec
    from ddhub.distillation import packaging, recipes
    from ddhub.distillation.task import SyntheticSet
    from ddhub.training import device

    torch.set_num_threads(threads)
    source = noise_source(11 * CLASSES, CLASSES, SIDE)
    spec = SourceSpec(dataset="noise", revision="none", resolution=SIDE, channels=3, image="image", label="label")
    task = task_of(
        recipes.read(f"imagenet_ipc{ipc}", TINY),
        replace(source, spec=spec),
        device.decide("cpu", threads, compile=False, flops=0),
    )
    load_late()
    with tempfile.TemporaryDirectory() as name:
        folder, labels = Path(name), torch.arange(CLASSES).repeat_interleave(ipc)
        images = mapped_tensors.tensor(folder / "images.f32", (len(labels), 3, SIDE, SIDE))
        for part in images.split(1000):
            part.normal_(generator=torch.Generator().manual_seed(0))
        soft = task.soft_labels(images, lambda shape, dtype: mapped_tensors.tensor(folder / "soft.f32", shape, dtype))
        memory, begun = Memory("cpu"), time.monotonic()
        packaging.package(task, SyntheticSet(images, labels, soft), folder / "set", {}, [])
        seconds = time.monotonic() - begun
        shipped = sum(path.stat().st_size for path in (folder / "set" / "data").iterdir())
        return {"ipc": ipc, "images": len(labels), "peak_bytes": memory.peak, "seconds": seconds, "data_bytes": shipped}


def load_late() -> None:
    """Load the libraries that a run loads late, so that they are not counted."""
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401


def main() -> None:
    """Measure one size, or all in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ipc", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker is not None:
        waited(measure(asked.worker, asked.threads))
        return
    rows = []
    for ipc in asked.ipc:
        worker = Worker([__file__, "--worker", str(ipc), "--threads", str(asked.threads)])
        rows.append(worker.read())
        worker.end()
        print(rows[-1], file=sys.stderr)
    command = f"python benchmarks/packaging_memory.py --ipc {' '.join(map(str, asked.ipc))} --threads {asked.threads}"
    print(json.dumps({**facts("cpu", command), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
