"""Checks of a stranger's dataset: its header before `datasets` reads it, its list of files after.

The YAML of a README (and of `.huggingface.yaml`) can declare any file or address as data. Folders of the user are
trusted. Strangers' folders and all Hub repos are checked here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ddhub.base import files, hub_client, hub_faults, limits, links
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.data import local_splits

# Builders that read images and labels. Others follow references to other files (hdf5, lance, iceberg), or unpickle.
BUILDERS = ("arrow", "cache", "csv", "imagefolder", "json", "parquet", "text", "webdataset")
NODES = 10**6  # values of a header's YAML, with aliases expanded
INSIDE = "a dataset names files inside of itself alone"


def builder(where: str, config: str | None, revision: str | None) -> Any:
    """The `datasets.DatasetBuilder` of a stranger's folder or Hub repo. It knows the files and has read none.

    Raises:
        UserError: if the dataset names files outside of itself, or needs an unsafe builder.
    """
    import datasets

    check(where, revision)
    found = datasets.load_dataset_builder(where, name=config, revision=revision)
    kind = type(found).__module__.rpartition(".")[2]
    if kind not in BUILDERS:
        raise UserError(f"{where}: is no table and no folder of pictures, but what `datasets` calls {kind}; refused")
    for split in (found.config.data_files or {}).values():
        for name in split:
            _check_file(str(name), where, found.repo_id)
    return found


def check(where: str, revision: str | None, theirs: bool = True) -> None:
    """Refuse a dataset whose header names outside data, or too many classes.

    Args:
        where: a folder, or the id of a Hub repo.
        theirs: whether a stranger wrote the dataset. The user's own header may name any data.

    Raises:
        UserError: naming the entry.
    """
    for here, header in _headers(where, revision):
        if (number := _largest_key(header)) >= limits.CLASSES:
            raise UserError(f"{here}: numbers a class {number}, and {limits.CLASSES:,} classes are the most; refused")
        for key, pattern in _patterns(header) if theirs else ():
            parts = pattern.replace("\\", "/").split("/")
            if ":" in pattern or ".." in parts or pattern.startswith(("/", "\\", "~")):
                raise UserError(f"{here}: {key} {pattern[:200]!r} leads out of the dataset; refused", next=INSIDE)


def names_files(where: str, revision: str | None) -> bool:
    """Whether a dataset's header says which files belong to which split."""
    return any(list(_patterns(header)) for _, header in _headers(where, revision))


def _headers(where: str, revision: str | None) -> Iterator[tuple[str, Any]]:
    """The headers of a dataset, each with its name for messages."""
    from datasets import config

    for name in (config.REPOCARD_FILENAME, config.REPOYAML_FILENAME):
        path = _file(where, name, revision)
        if path is not None and path.exists():
            here = f"{where}: {name}"
            yield here, _read(path, here, card=name == config.REPOCARD_FILENAME)


def _file(where: str, name: str, revision: str | None) -> Path | None:
    """A file of a folder or Hub repo; None if it is missing."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    if Path(where).exists():
        return Path(where) / name
    known = try_to_load_from_cache(where, name, repo_type="dataset", revision=revision)
    cached = Path(known) if isinstance(known, str) else None
    if known is not None and hub_client.COMMIT.fullmatch(revision or ""):
        return cached  # the content of a commit never changes
    try:
        # One request: the client would retry a file for half a minute.
        hub_client.describe(where, revision, timeout=hub_client.PATIENCE)
        return Path(hub_client.client().hf_hub_download(where, name, repo_type="dataset", revision=revision))
    except EntryNotFoundError:
        return None
    except hub_faults.faults() as fault:
        if hub_faults.refused(fault) or local_splits.cached_commit(where) is None:
            raise
        return cached


def _read(path: Path, where: str, card: bool) -> Any:
    """The YAML of a file, or of a card's header, as `datasets` reads it."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    try:
        with files.regular(path) as file:
            text = file.read(limits.YAML_BYTES + 1).decode()
        if len(text) > limits.YAML_BYTES:
            raise UserError(f"{where}: more than {limits.YAML_BYTES} bytes")
        block = REGEX_YAML_BLOCK.search(text) if card else None
        found = yaml.safe_load(block[2] if block else "" if card else text)
        if _nodes(found, {}, 0) > NODES:
            raise UserError(f"{where}: more than {NODES} entries; refused")
    except (yaml.YAMLError, ArithmeticError, LookupError, ValueError, RecursionError, TypeError) as fault:
        raise UserError(f"{where}: its YAML cannot be read: {one_line(fault, 200)}") from fault
    return found


def _nodes(found: Any, known: dict[int, int], depth: int) -> int:
    """The number of values, with shared values counted at each place."""
    if not isinstance(found, dict | list):
        return 1
    if depth > limits.DEPTH:
        raise ValueError(f"more than {limits.DEPTH} levels deep")
    if id(found) not in known:
        inner = found.values() if isinstance(found, dict) else found
        known[id(found)] = 1 + sum(_nodes(each, known, depth + 1) for each in inner)
    return known[id(found)]


def _largest_key(found: Any) -> int:
    """The largest integer key. `datasets` counts up to the largest key of class names."""
    if isinstance(found, dict):
        numbers = (int(str(key)) for key in found if re.fullmatch("[0-9]{1,30}", str(key)))
        return max([0, *numbers, *map(_largest_key, found.values())])
    return max([0, *map(_largest_key, found)]) if isinstance(found, list) else 0


def _patterns(header: Any) -> Iterator[tuple[str, str]]:
    """Each text below a key `data_files` or `data_dir`, with the key."""
    if isinstance(header, dict):
        for key, value in header.items():
            if key in ("data_files", "data_dir"):
                yield from ((key, text) for text in _texts(value))
            else:
                yield from _patterns(value)
    elif isinstance(header, list):
        for value in header:
            yield from _patterns(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "split":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


def _check_file(name: str, where: str, repo_id: str | None) -> None:
    """Refuse a data file that lies outside of the dataset, also through links."""
    if Path(where).is_dir():
        inside = "://" not in name and "::" not in name and not links.leads_out(Path(where), Path(name))
    else:
        inside = name.startswith(tuple(f"hf://datasets/{repo}@" for repo in (where, repo_id) if repo))
    if not inside:
        raise UserError(f"{where}: its file {name[:200]!r} lies outside of it; refused", next=INSIDE)
