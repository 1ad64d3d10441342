"""Opening one split of a source, from the Hub, its cache or a local folder. No image is decoded."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ddhub.base import hub_client, hub_faults, near_paths, progress
from ddhub.base.errors import UserError, quoted
from ddhub.base.files import is_path
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.data import dataset_headers, local_splits, split_words, unpacking
from ddhub.data.catalog import GATED
from ddhub.data.spec import SourceSpec, whole_split


def rows(spec: SourceSpec, split: str, wanted: tuple[str, str], theirs: bool = False) -> tuple[Any, str | None]:
    """The `datasets.Dataset` of one split, and the commit of a Hub repo.

    Args:
        wanted: the names of the train and test splits, for advice in errors.
        theirs: whether a stranger wrote a local folder. Such folders and Hub repos may read no outside files.
    """
    import datasets

    where, revision = spec.path or spec.dataset, spec.revision
    if is_local(spec):
        local = existing(where)
        if local_splits.saved(local):
            if theirs:  # its state can name any file
                raise UserError(f"source: {where}: is what `save_to_disk` wrote; of strangers that is not read")
            return local_splits.read_saved(local, split), revision
        place = str(_folder(local))
    else:
        place = where
        revision = resolve_revision(where, spec.revision)
    unreadable = _unreadable()
    try:
        with _reading(spec):
            if not theirs and is_local(spec):
                dataset_headers.check(place, None, theirs=False)
                return datasets.load_dataset(place, name=spec.config, split=split), revision
            builder = dataset_headers.builder(place, spec.config, revision)
            if not is_local(spec):
                _refuse_merged(place, revision, builder)
            builder.download_and_prepare()
            return builder.as_dataset(split=split), revision
    except ValueError as fault:
        raise _unclear(fault, spec, split, wanted) from fault
    except unreadable as fault:
        why = one_line(fault.__cause__ or fault)
        raise UserError(f"source: {where}: cannot be read: {why}", next=_advice(where, fault)) from fault


def _refuse_merged(repo_id: str, revision: str | None, builder: Any) -> None:
    """Refuse a Hub dataset whose only split has files of several, by their names, unless its header says so."""
    found = builder.config.data_files or {}
    if len(found) == 1 and not dataset_headers.names_files(repo_id, revision):
        start = re.compile("hf://datasets/[^@]*@[^/]*/")
        split_words.refuse_merged(repo_id, [start.sub("", str(name)) for each in found.values() for name in each])


def existing(where: str) -> Path:
    """A local source, which is a folder or an archive.

    Raises:
        UserError: if it is missing, with the paths that are like it.
    """
    local = Path(where).expanduser()
    if local.is_file() and not unpacking.archives(local):
        raise UserError(f"source: {where}: is a file", next=f"--set source.path={local.parent}")
    if not local.exists():
        raise UserError(
            f"source: {where}: no such folder{near_paths.instead(local)}", next=f"ls {quoted(local.parent)}"
        )
    return local


def _folder(local: Path) -> Path:
    """The folder of a local source, unpacked. Misnamed splits and unreadable paths are refused."""
    whole = unpacking.unpacked(local)
    for part in (whole.absolute(), *whole.absolute().parents):
        if re.search(r"[*?[]", part.name):
            plain = part.with_name(re.sub(r"[*?[\]]", "_", part.name))
            raise UserError(
                f"source: {part}: `datasets` takes `[`, `*` and `?` in this name for a pattern, and finds no file",
                next=shlex.join(["mv", str(part), str(plain)]),
            )
    split_words.refuse_misnamed(whole)
    return whole


def _unclear(fault: ValueError, spec: SourceSpec, split: str, wanted: tuple[str, str]) -> UserError:
    """The error for a source of which `datasets` cannot tell what to read: its subset or its split."""
    where = f"source: {spec.path or spec.dataset}"
    if str(fault).startswith(("Config name is missing", "BuilderConfig '")):  # the message lists the subsets
        first = re.search(r"available configs: \['([^']+)'", str(fault))
        name = first[1] if first else "NAME"
        return UserError(f"{where}: which subset? {one_line(fault)}", next=f"--set source.config={name}")
    if "must be present as dictionary key in metadata files" in str(fault):
        told = "metadata.csv (or .jsonl) has no column file_name, or no commas between its columns"
        return UserError(f"{where}: {told}", next="let its first line be file_name,label")
    names = split_names(spec)
    if names and whole_split(split) not in names:
        return UserError(
            f"{where}: has no split '{split}', only {', '.join(names)}; check source.train and source.test",
            next=local_splits.missing(*wanted, split, names),
        )
    return UserError(f"{where}: {one_line(fault)}", next=f"check source.train and source.test ({split})")


def data_files(spec: SourceSpec, split: str) -> list[Path]:
    """The Parquet and Arrow files of a split, of a part of it or of several, in row order; none for other formats."""
    import datasets
    from huggingface_hub import hf_hub_download

    local = Path(spec.path or spec.dataset).expanduser()
    if is_local(spec) and local_splits.saved(local):
        return []  # each split has its own columns
    where = str(local) if is_local(spec) else spec.dataset
    try:
        with _reading(spec):
            if is_local(spec):
                dataset_headers.check(where, None, theirs=False)
                builder = datasets.load_dataset_builder(where, spec.config)
            else:
                builder = dataset_headers.builder(where, spec.config, spec.revision)
            found = builder.config.data_files
            names = [str(name) for each in split.split("+") for name in (found or {}).get(whole_split(each), [])]
            if not all(name.endswith((".parquet", ".arrow")) for name in names):
                return []
            start = f"hf://datasets/{spec.dataset}@{spec.revision}/"
            hub = [name.removeprefix(start) for name in names if name.startswith(start)]
            if hub:  # the files are in the cache already
                return [
                    Path(hf_hub_download(spec.dataset, n, repo_type="dataset", revision=spec.revision)) for n in hub
                ]
            return [Path(name) for name in names if Path(name).is_file()]
    except _unreadable():
        return []


def _unreadable() -> tuple[type[Exception], ...]:
    """The exceptions of `datasets`. A stranger's files can cause any, and their scripts are refused."""
    return (*hub_faults.faults(), ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, yaml.YAMLError)


def is_local(spec: SourceSpec) -> bool:
    """Whether a source is a local folder."""
    where = spec.path or spec.dataset
    return spec.path is not None or Path(where).expanduser().exists() or is_path(where)


def resolve_revision(name: str, revision: str | None) -> str:
    """The commit of a Hub dataset's revision now, or the newest cached one if the Hub does not answer."""
    try:
        return hub_client.describe(name, revision).commit
    except hub_faults.faults() as fault:
        if revision is not None:
            return revision  # perhaps cached; otherwise load_dataset fails
        cached = None if hub_faults.refused(fault) else local_splits.cached_commit(name)
        if cached is not None:
            say(f"{name}: the Hub does not answer; read from the cache, as of commit {cached}", once=True)
            return cached
        what = f"the Hub does not answer for it: {one_line(fault)}"
        if hub_faults.status(fault) == 404:
            what = hub_faults.explain(fault, name)[0]
        raise UserError(f"source: {name}: {what}", next=_advice(name, fault)) from fault


def _advice(name: str, fault: BaseException) -> str:
    """What to do about a source that cannot be read; where the Hub refused, or was not reached, what helps there."""
    refused = hub_faults.of_hub(fault)
    known = "check source.dataset" if refused is None else hub_faults.explain(refused, name)[1]
    return GATED.get(name, f"{known}, or read a local copy with --set source.path=FOLDER")


def split_names(spec: SourceSpec) -> list[str] | None:
    """The splits of a source, if they are known without reading it; otherwise None."""
    if spec.dataset == "digits" and spec.path is None:
        return ["train", "test"]
    import datasets

    local = Path(spec.path or spec.dataset).expanduser()
    saved = local_splits.saved(local) if is_local(spec) else {}
    try:
        with _reading(spec):
            where = spec.dataset
            if is_local(spec):
                where = str(local if saved else _folder(local))
            dataset_headers.check(where, spec.revision, theirs=not is_local(spec))
            return list(saved) or list(datasets.get_dataset_split_names(where, spec.config, revision=spec.revision))
    except _unreadable():
        return None  # reading gives a better message


@contextlib.contextmanager
def _reading(spec: SourceSpec) -> Iterator[None]:
    """Let `datasets` read a source without progress bars, and from its cache if the Hub is silent."""
    import datasets

    with contextlib.ExitStack() as stack:
        stack.enter_context(progress.bars_hidden(datasets.utils))
        if not is_local(spec) and local_splits.cached_commit(spec.dataset) is not None:
            stack.enter_context(hub_client.offline_if_silent(spec.dataset, spec.revision))
        yield
