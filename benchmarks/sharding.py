"""Writing and reading a large set in bounded memory: 100,000 images with soft labels of 1,000 classes.

python benchmarks/sharding.py > benchmarks/results/sharding.json

Images and labels come from memory-mapped files, as from a method that keeps them on the disk. Each phase runs in a
process of its own. Its anonymous memory beyond the libraries is sampled while it runs.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distilling import Memory

from ddhub.artifact import parquet
from ddhub.artifact.parquet import Rows
from ddhub.training import device

CLASSES, SIDE, SIZES = 1000, 64, (10_000, 100_000)


def sources(folder: Path, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory-mapped uint8 images, smooth like pictures, and float16 soft labels."""
    pixels = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (images, 3, SIDE, SIDE))
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.float16, (images, CLASSES))
    draw = torch.Generator().manual_seed(0)
    for start in range(0, images, 1000):
        coarse = torch.rand((min(1000, images - start), 3, 8, 8), generator=draw)
        fine = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear") * 255
        pixels[start : start + 1000] = fine.byte().numpy()
        labels[start : start + 1000] = torch.randn((len(coarse), CLASSES), generator=draw).half().numpy()
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def work(phase: str, folder: Path) -> dict:
    """Do one phase in this process. Return its seconds and peak memory."""
    import datasets  # libraries are loaded before memory is counted
    import pyarrow.parquet  # noqa: F401

    pixels, soft = (torch.from_numpy(np.load(folder / f"{n}.npy", mmap_mode="r+")) for n in ("images", "labels"))
    names = [f"class {number}" for number in range(CLASSES)]
    rows = Rows(pixels, torch.arange(len(pixels)) % CLASSES, soft)
    begun = time.perf_counter()
    memory = Memory("cpu")
    if phase == "write":
        parquet.write(folder, rows, names)
        count = len(rows)
    elif phase == "read":
        count = sum(len(part) for part in parquet.read(folder, (3, SIDE, SIDE)))
    else:
        stream = datasets.load_dataset(
            "parquet", data_files=[str(path) for path in parquet.shards(folder)], split="train", streaming=True
        )
        count = sum(1 for _ in stream)
    assert count == len(rows)
    return {"seconds": round(time.perf_counter() - begun, 1), "peak_anonymous_bytes": memory.peak}


def main() -> None:
    """Measure every phase at every size."""
    if len(sys.argv) > 1:
        print(json.dumps(work(sys.argv[1], Path(sys.argv[2]))))
        return
    sizes: dict[str, Any] = {}
    result = {
        "command": "python benchmarks/sharding.py",
        "case": f"{CLASSES} classes, {SIDE}x{SIDE} RGB, soft labels float16; row groups of {parquet.GROUP_ROWS}",
        "hardware": device.hardware("cpu"),
        "versions": {name: version(name) for name in ("datasets", "pyarrow", "torch")},
        "sizes": sizes,
    }
    for images in SIZES:
        with tempfile.TemporaryDirectory(dir=".") as name:
            folder = Path(name)
            sources(folder, images)
            found: dict[str, Any] = {}
            for phase in ("write", "read", "stream"):
                command = [sys.executable, __file__, phase, name]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[phase] = json.loads(done.stdout.splitlines()[-1])
            found["data_bytes"] = sum(path.stat().st_size for path in parquet.shards(folder))
            found["shards"] = len(parquet.shards(folder))
            sizes[str(images)] = found
            print(images, found, file=sys.stderr)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
