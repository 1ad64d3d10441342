"""Opening one split of a source, from the Hub, its cache or a local folder. No image is decoded."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ddhub.base import hub_client, hub_faults
from ddhub.base.errors import UserError
from ddhub.base.files import is_path
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.data import dataset_headers, local_splits, split_words, unpacking
from ddhub.data.catalog import GATED
from ddhub.data.spec import SourceSpec


def rows(spec: SourceSpec, split: str, wanted: tuple[str, str], theirs: bool = False) -> tuple[Any, str | None]:
    """The `datasets.Dataset` of one split, and the commit of a Hub repo.

    Args:
        wanted: the names of the train and test splits, for advice in errors.
        theirs: whether a stranger wrote a local folder. Such folders and Hub repos may read no outside files.
    """
    import datasets

    where = spec.path or spec.dataset
    local, revision = Path(where).expanduser(), spec.revision
    if is_local(spec):
        if local.is_file() and not unpacking.archives(local):
            raise UserError(f"source: {where}: is a file", next=f"--set source.path={local.parent}")
        if not local.exists():
            raise UserError(f"source: {where}: no such folder", next=f"ls {local.parent}")
        if local_splits.saved(local):
            if theirs:  # its state can name any file
                raise UserError(f"source: {where}: is what `save_to_disk` wrote; of strangers that is not read")
            return local_splits.read_saved(local, split), revision
        whole = unpacking.unpacked(local)
        split_words.refuse_misnamed(whole)
        arguments: dict[str, Any] = {"path": str(whole)}
    else:
        revision = resolve_revision(where, spec.revision)
        arguments = {"path": where, "revision": revision}
    unreadable = _unreadable()
    try:
        with _reading(spec):
            if not theirs and is_local(spec):
                dataset_headers.check(arguments["path"], None, theirs=False)
                return datasets.load_dataset(**arguments, name=spec.config, split=split), revision
            builder = dataset_headers.builder(arguments["path"], spec.config, revision)
            builder.download_and_prepare()
            return builder.as_dataset(split=split), revision
    except ValueError as fault:
        if str(fault).startswith(("Config name is missing", "BuilderConfig '")):  # the message lists the subsets
            first = re.search(r"available configs: \['([^']+)'", str(fault))
            raise UserError(
                f"source: {where}: which subset? {one_line(fault)}",
                next=f"--set source.config={first[1] if first else 'NAME'}",
            ) from fault
        names = split_names(spec)
        if names and split.partition("[")[0] not in names:
            raise UserError(
                f"source: {where}: has no split '{split}', only {', '.join(names)}; check source.train and source.test",
                next=local_splits.missing(*wanted, split, names),
            ) from fault
        raise UserError(
            f"source: {where}: {one_line(fault)}", next=f"check source.train and source.test ({split})"
        ) from fault
    except unreadable as fault:
        why = one_line(fault.__cause__ or fault)
        raise UserError(f"source: {where}: cannot be read: {why}", next=_advice(where, fault)) from fault


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
            names = [str(name) for each in split.split("+") for name in (found or {}).get(each.partition("[")[0], [])]
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
        cached = None if _answered(fault) else local_splits.cached_commit(name)
        if cached is not None:
            say(f"{name}: the Hub does not answer; read from the cache, as of commit {cached}", once=True)
            return cached
        raise UserError(
            f"source: {name}: the Hub does not answer for it: {one_line(fault)}", next=_advice(name, fault)
        ) from fault


def _answered(fault: BaseException) -> bool:
    """Whether the Hub itself refused, and not the connection."""
    return getattr(getattr(fault, "response", None), "status_code", 500) < 500


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
                where = str(unpacking.unpacked(local))
                if not saved:
                    split_words.refuse_misnamed(Path(where))
            dataset_headers.check(where, spec.revision, theirs=not is_local(spec))
            return list(saved) or list(datasets.get_dataset_split_names(where, spec.config, revision=spec.revision))
    except _unreadable():
        return None  # reading gives a better message


@contextlib.contextmanager
def _reading(spec: SourceSpec) -> Iterator[None]:
    """Let `datasets` read a source without progress bars, and from its cache if the Hub is silent."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        if not is_local(spec) and local_splits.cached_commit(spec.dataset) is not None:
            stack.enter_context(hub_client.offline_if_silent(spec.dataset, spec.revision))
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of `datasets` while the body runs."""
    import datasets

    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
