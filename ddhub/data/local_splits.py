"""Splits of local sources: those written by save_to_disk, and the class names of each file.

`load_dataset` takes class names from one file for all. Files that number their classes differently would get permuted
names. Parquet and Arrow files carry their own names, which are compared here.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddhub.base import hub_client, links
from ddhub.base.errors import UserError, quoted
from ddhub.base.redact import one_line
from ddhub.data.labels import Labels
from ddhub.data.spec import whole_split

STATE, DICT = "state.json", "dataset_dict.json"  # files of save_to_disk for one split, and for several


def saved(folder: Path) -> dict[str, Path]:
    """The splits in a folder written by save_to_disk, with their places; empty for other folders."""
    if (folder / DICT).is_file():
        return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{STATE}"))}
    return {"train": folder} if (folder / STATE).is_file() and (folder / "dataset_info.json").is_file() else {}


def read_saved(folder: Path, split: str) -> Any:
    """Read one split of a folder written by save_to_disk.

    Raises:
        UserError: if the split is missing, or its state names files elsewhere.
    """
    import datasets

    places = saved(folder)
    if split not in places:
        raise UserError(
            f"source: {folder}: has no split '{split}', only {', '.join(places)}",
            next=missing("train", "test", split, list(places)),
        )
    place = places[split]
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        for entry in state["_data_files"]:
            if links.leads_out(folder, place / entry["filename"]):
                raise UserError(f"source: {place / STATE}: names a file outside of the dataset; refused")
        return datasets.load_from_disk(str(place))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(f"source: {place}: cannot be read: {one_line(fault)}", next=f"ls {quoted(place)}") from fault


def missing(train: str, test: str, asked: str, names: Sequence[str]) -> str:
    """The options to type if a requested split is missing."""
    free = [name for name in names if name != whole_split(train)]
    if asked == test != train:
        return f"--set source.test={_near('test', free)}" if free else "--test FOLDER (or a Hub id) of test images"
    told = f"--set source.train={_near('train', names)}"
    others = [name for name in names if name != _near("train", names)]
    return told if whole_split(test) in names or not others else f"{told} --set source.test={_near('test', others)}"


def _near(kind: str, names: Sequence[str]) -> str:
    """The most similar name."""
    words = {"train": ("train", "full", "all"), "test": ("test", "eval", "val", "dev")}
    return next((name for word in words[kind] for name in names if word in name.lower()), names[0] if names else "NAME")


def relabelled(labels: Labels, column: str, paths: Sequence[Path], where: str, whole: bool) -> Labels:
    """Labels and class names corrected by the names in each file of a split.

    Args:
        labels: the labels from `load_dataset`.
        paths: the files of the split, in row order.
        whole: whether all rows of the files are read. Otherwise the file of a row is not known.

    Raises:
        UserError: if files of one split name different classes, or if a part of them is in different orders.
    """
    own = [_own_names(path, column) for path in paths]
    # ClassLabel(num_classes=3) is named 0, 1, 2: that says nothing.
    told = [found for _, found in own if found is not None and found != tuple(map(str, range(len(found))))]
    if not told or all(found == labels.names for found in told):
        return labels
    target = told[0]
    other = next((path for path, (_, found) in zip(paths, own, strict=True) if set(found or ()) != set(target)), None)
    if other is not None or len(set(target)) != len(target):
        raise UserError(f"{where}: {other or paths[0]} names other classes than {paths[0]}", next="name them alike")
    if not whole:
        if any(found != target for _, found in own):
            raise UserError(f"{where}: its files number the classes in different orders", next="read the whole split")
        return Labels(labels.numbers, target, labels.rows)
    ends = np.cumsum([count for count, _ in own])
    places = np.searchsorted(ends, labels.rows, side="right")
    numbers = labels.numbers.copy()
    for place, (_, found) in enumerate(own):
        order = np.asarray([target.index(name) for name in found or ()])
        numbers[places == place] = order[labels.numbers[places == place]]
    return Labels(numbers, target, labels.rows)


def cached_commit(name: str) -> str | None:
    """The commit of a Hub dataset that was fetched last, by the cached files; None if there is none."""
    from datasets import config

    ref = hub_client.cache_folder(name) / "refs" / "main"
    if ref.is_file():
        return ref.read_text().strip()
    prepared = Path(config.HF_DATASETS_CACHE).glob(f"{name.replace('/', '___')}/*/*/*/dataset_info.json")
    newest = max(prepared, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent.name


def _own_names(path: Path, column: str) -> tuple[int, tuple[str, ...] | None]:
    """Number of rows of a Parquet or Arrow file, and its own class names for a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            count, schema = file.metadata.num_rows, file.schema_arrow
    else:
        with pa.memory_map(str(path)) as source:
            try:
                reader = pa.ipc.open_stream(source)
                count, schema = sum(batch.num_rows for batch in reader), reader.schema
            except pa.ArrowInvalid:
                table = pa.ipc.open_file(source)
                count, schema = table.read_all().num_rows, table.schema
    try:
        stated = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
        return count, tuple(str(name) for name in stated)
    except (KeyError, ValueError, TypeError):
        return count, None
