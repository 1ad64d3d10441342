"""What tests do to finished sets, and the settings of one that takes a second to make."""

from pathlib import Path

import torch

from ddhub.artifact import hub, manifest, parquet
from ddhub.artifact import payload_hashes as payloads
from ddhub.artifact.parquet import Rows

TINY = [
    "teachers={arch: convnet2_w8, count: 2, epochs: 2}",
    "method.iterations=30",
    "method.student={arch: convnet2_w8, epochs: 4, lr: 0.02}",
    "evaluate={epochs: 2, packaging_seeds: 1, seeds: 1, min_steps: 0}",
]


def payload(folder: Path) -> dict[str, str]:
    """File name to sha256 of what is shipped."""
    return {name: record.sha256 for name, record in manifest.read(folder).files.items()}


def content(folder: Path) -> dict[str, bytes]:
    """What a repo should hold: every published file of a folder."""
    return {name: path.read_bytes() for name, path in hub.published(folder).items()}


def rewrite(folder, change):
    """Change the rows and bring the manifest's hashes up to date, as a careless stranger's tool would."""
    record = manifest.read(folder)
    side = record.source.resolution
    parts = list(parquet.read(folder, (record.source.channels, side, side)))
    whole = Rows(*(None if c[0] is None else torch.cat(c) for c in zip(*(p.columns() for p in parts), strict=True)))
    parquet.write(folder, change(whole), record.classes)
    rehash(folder)


def rehash(folder, **update):
    """Write the manifest again, its hashes true, some fields changed; croissant.json, which had the old ones, goes."""
    record = manifest.read(folder)
    records = payloads.file_records(folder)
    data = sum(file.bytes for name, file in records.items() if name.startswith("data/"))
    counts = record.bytes.model_copy(update={"images": data - record.bytes.labels})
    changed = record.model_copy(update={"files": records, "bytes": counts, **update})
    (folder / "ddhub.json").write_bytes(manifest.dump(changed))
    (folder / "croissant.json").unlink(missing_ok=True)
