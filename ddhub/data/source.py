"""Real images: any Hub id or folder that `datasets.load_dataset` reads, decoded once into a memory-mapped uint8 array.

The train split and the test split have separate doors. `load_train` never opens the test split; `load_test` is called
by evaluation alone (a test holds both). Where a share of the train split is held out for testing, `load_train` decodes
only the other images, and `load_test` only those.
Shapes: N images, C channels, H W sides (equal).
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import yaml
from torch import Tensor

from ddhub.base import files, hub_client, room, seeds
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.base.units import counted
from ddhub.data import columns, decode, headers
from ddhub.data.catalog import GATED, Shape
from ddhub.data.spec import SourceSpec

TESTS = ("test", "validation", "valid", "val")  # what a split to test on is called
LEAST = 3  # images of a class of which a test part is held out: one to train on, to validate on and to test on
DECODING = 2  # version of the decoding rules below; a change makes new cache files


@dataclass(frozen=True)
class Split:
    """Decoded images of one split."""

    images: Tensor  # uint8 (N, C, H, W), memory-mapped from the cache
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]  # names, in label order
    fingerprint: str  # `sha256:...` of pixels, labels and class names
    spec: SourceSpec  # with revision, columns, resolution and channels filled in

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """How many images and classes there are, of which size."""
        return Shape(len(self), len(self.classes), *self.images.shape[1:3])


def load_train(spec: SourceSpec, limit: int | None = None) -> tuple[Split, Tensor, Tensor]:
    """The whole train split, and the indices of its training part and of its held-out validation part.

    Args:
        limit: bytes of pixels that it may have, where it is a stranger's.

    Raises:
        UserError: when the source cannot be read as labelled images; says what is missing.
    """
    split = _load(spec, spec.train, limit)
    training, validation = hold_out(split.labels, spec.validation, spec.split_seed)
    return split, training, validation


def find_test(spec: SourceSpec) -> SourceSpec:
    """The spec with the split that is tested on: its own, one of the usual names, or the only one there is.

    Raises:
        UserError: where none can be meant.
    """
    if spec.dataset == "digits" and spec.path is None:
        return spec
    where = spec.path or spec.dataset
    if not is_local(spec):
        spec = spec.model_copy(update={"revision": _resolve_revision(where, spec.revision)})  # one commit for all
    names = split_names(spec)
    if names is None:
        return spec  # reading it says better what is wrong
    usual = [name for name in usual_tests(spec) if name in names] or (names if len(names) == 1 else [])
    if not usual:
        raise UserError(f"{where}: has no split to test on, only {', '.join(names)}", next=f"one of {', '.join(TESTS)}")
    return spec.model_copy(update={"test": usual[0]})


def usual_tests(spec: SourceSpec) -> tuple[str, ...]:
    """What the split to test on may be called, the likeliest first."""
    return (spec.test, *TESTS)


def split_names(spec: SourceSpec) -> list[str] | None:
    """The splits that a source has; None where nobody can tell."""
    import datasets

    where = str(Path(spec.path).expanduser()) if spec.path else spec.dataset
    try:
        with quiet():
            if not is_local(spec):
                headers.check(where, spec.revision)
            names: list[str] = datasets.get_dataset_split_names(where, spec.config, revision=spec.revision)
            return names
    except _unreadable():
        return None


def load_test(spec: SourceSpec) -> Split:
    """The test split; for evaluation only."""
    return _load(spec, spec.test) if spec.hold_out is None else _load(spec, spec.train, tested=True)


def untested(spec: SourceSpec, names: Sequence[str]) -> str | None:
    """The split to test on, where a source that has these splits lacks it and holds no part out."""
    return spec.test if spec.hold_out is None and spec.test.partition("[")[0] not in names else None


def test_words(spec: SourceSpec) -> str:
    """What people call the images that are tested on: a split, or the held-out part of one."""
    return spec.test if spec.hold_out is None else f"{spec.train}, {spec.hold_out:.0%} held out"


def hold_out(labels: Tensor, share: float, seed: int, purpose: str = "validation") -> tuple[Tensor, Tensor]:
    """Stratified split of indices: (kept, held out), both sorted; every class holds out at least one image.

    Args:
        purpose: `validation`, or `test`; they are drawn apart.
    """
    held = []
    found, counts = labels.unique(return_counts=True)
    by_class = labels.argsort(stable=True).split(counts.tolist())  # each class's indices, in order
    for label, members in zip(found.tolist(), by_class, strict=True):
        order = torch.randperm(len(members), generator=seeds.generator(seed, purpose, label))
        held.append(members[order[: max(1, round(share * len(members)))]])
    validation = torch.cat(held).sort().values
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[validation] = False
    return keep.nonzero().flatten(), validation


def stratified(
    labels: Tensor, classes: tuple[str, ...], ipc: int | Sequence[int], seed: int, *purpose: str | int
) -> Tensor:
    """Indices of random images of every class, class by class.

    Args:
        ipc: how many of every class, or of each.

    Raises:
        UserError: when a class has fewer.
    """
    chosen, counts = [], [ipc] * len(classes) if isinstance(ipc, int) else ipc
    for label, name in enumerate(classes):
        members, count = (labels == label).nonzero().flatten(), counts[label]
        if len(members) < count:
            raise UserError(
                f"ipc: {counted(count, 'image')} per class asked for, but class '{name}' has {len(members)}"
                " in the training part",
                next=f"--set ipc={max(1, len(members))}, or a smaller source.validation",
            )
        order = torch.randperm(len(members), generator=seeds.generator(seed, "real", *purpose, label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen)


def _load(spec: SourceSpec, split: str, limit: int | None = None, tested: bool = False) -> Split:
    """One split, or the part of it that is trained on, or `tested` on."""
    if spec.dataset == "digits" and spec.path is None:
        return _digits(spec, split)
    dataset, revision = rows(spec, split, theirs=limit is not None or not is_local(spec))
    spec = spec.model_copy(update={"revision": revision, **columns.find(spec, dataset)})
    if spec.hold_out is not None:
        dataset = dataset.select(_parts(spec, *columns.labels(dataset, spec))[tested].numpy())
        split = f"{split}, {'test' if tested else 'training'} part of {spec.hold_out} by {spec.split_seed}"
    spec = spec.model_copy(update=columns.shape(spec, dataset))
    assert spec.channels and spec.resolution
    bytes_of_pixels = len(dataset) * spec.channels * spec.resolution**2
    if limit is not None and bytes_of_pixels > limit:
        raise UserError(f"source: {spec.dataset}: holds {bytes_of_pixels} bytes of pixels", next="--max-bytes BYTES")
    folder = files.home() / "images" / _cache_key(spec, split, dataset)
    with files.locked(folder.with_suffix(".lock")):
        if not (folder / "meta.json").exists():
            _decode(dataset, spec, folder, *columns.labels(dataset, spec))
    meta = json.loads((folder / "meta.json").read_text())
    # Copy-on-write mapping: pages are read on demand and never written back.
    images = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    return Split(images, labels, tuple(meta["classes"]), meta["fingerprint"], spec)


def _parts(spec: SourceSpec, labels: np.ndarray, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The rows of a train split that are trained on, and those that are tested on.

    Raises:
        UserError: for a class that is too small to be divided.
    """
    assert spec.hold_out is not None
    counts = np.bincount(labels)
    small = [label for label, count in enumerate(counts.tolist()) if 0 < count < LEAST]
    if small:
        raise UserError(
            f"source.hold_out: class '{names[small[0]]}' has {counted(int(counts[small[0]]), 'image')};"
            f" training, validation and test take {LEAST}",
            next=f"add images of '{names[small[0]]}', or leave the class out",
        )
    return hold_out(torch.from_numpy(labels), spec.hold_out, spec.split_seed, "test")


def _digits(spec: SourceSpec, split: str) -> Split:
    """scikit-learn's digits: 1,797 grey 8x8 images, of which a fixed stratified fifth is the test split."""
    from sklearn.datasets import load_digits

    if spec.hold_out is not None:
        raise UserError("source.hold_out: digits has a test split", next="drop source.hold_out")
    if split not in ("train", "test"):
        raise UserError(f"source: digits has no split '{split}'; it has train and test")
    data = load_digits()
    images = torch.from_numpy((data.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(data.target.astype(np.int64))
    train, test = hold_out(labels, 0.2, seed=0)
    index = train if split == "train" else test
    images, labels = images[index], labels[index]
    classes = tuple(str(name) for name in data.target_names)
    if spec.resolution not in (None, 8) or spec.channels == 3:
        raise UserError("source: digits are 8x8 with one channel and are kept so; drop resolution and channels")
    found = spec.model_copy(update={"resolution": 8, "channels": 1, "image": "image", "label": "label"})
    return Split(images, labels, classes, _fingerprint([images.numpy()], images.shape, labels.numpy(), classes), found)


def rows(spec: SourceSpec, split: str, theirs: bool) -> tuple[Any, str | None]:
    """The `datasets.Dataset` of one split, and the resolved revision of a Hub repo.

    Args:
        theirs: whether it is a stranger's, and may read nothing outside of itself.
    """
    import datasets

    where = spec.path or spec.dataset
    local = Path(where).expanduser()
    if is_local(spec):
        if not local.is_dir():
            raise UserError(f"source: {where}: no such folder", next=f"ls {local.parent}")
        arguments: dict[str, Any] = {"path": str(local)}
        revision = spec.revision
    else:
        revision = _resolve_revision(where, spec.revision)
        arguments = {"path": where, "revision": revision}
    unreadable = _unreadable()
    try:
        with quiet():
            if not theirs or (local / datasets.config.DATASET_STATE_JSON_FILENAME).exists():  # which it has words for
                return datasets.load_dataset(**arguments, name=spec.config, split=split), revision
            builder = headers.builder(arguments["path"], spec.config, revision)
            builder.download_and_prepare()
            return builder.as_dataset(split=split), revision
    except ValueError as fault:
        if str(fault).startswith(("Config name is missing", "BuilderConfig '")):  # the message lists what there is
            raise UserError(
                f"source: {where}: which subset? {one_line(fault)}", next="--set source.config=NAME"
            ) from fault
        raise UserError(
            f"source: {where}: {one_line(fault)}", next=f"check source.train and source.test ({split})"
        ) from fault
    except unreadable as fault:
        raise UserError(f"source: {where}: cannot be read: {one_line(fault)}", next=_advice(where)) from fault


def _unreadable() -> tuple[type[Exception], ...]:
    """What `datasets` raises: a stranger's files lead it to anything, and scripts of theirs it refuses to run."""
    return (*hub_client.faults(), ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, yaml.YAMLError)


def is_local(spec: SourceSpec) -> bool:
    """Whether a source is read from a folder here."""
    where = spec.path or spec.dataset
    return spec.path is not None or Path(where).expanduser().is_dir() or where.startswith((".", "/", "~"))


def _resolve_revision(name: str, revision: str | None) -> str:
    """The commit that a Hub dataset's revision stands for now; offline, the one that it stood for when last seen."""
    from huggingface_hub import HfApi

    seen = files.home() / "revisions" / f"{files.digest([name, revision])[:32]}.json"
    try:
        commit = str(HfApi().dataset_info(name, revision=revision).sha)
        files.write_json(seen, {"dataset": name, "commit": commit})
        return commit
    except hub_client.faults() as fault:
        if revision is not None:
            return revision  # already cached, perhaps; load_dataset will say if not
        if seen.is_file() and hub_client.is_unreachable(fault):
            commit = str(json.loads(seen.read_text())["commit"])
            say(f"{name}: the Hub does not answer; reading commit {commit[:12]} from the cache")
            return commit
        raise UserError(
            f"source: {name}: the Hub does not answer for it: {one_line(fault)}", next=_advice(name)
        ) from fault


def _advice(name: str) -> str:
    return GATED.get(name, "check source.dataset, or read a local copy with --set source.path=FOLDER")


def _cache_key(spec: SourceSpec, split: str, dataset: Any) -> str:
    """Changes whenever the files behind the split, or the rules of decoding, do."""
    stats = [(entry["filename"], Path(entry["filename"]).stat()) for entry in dataset.cache_files]
    return files.digest(
        [
            DECODING,
            spec.dataset,
            split,
            spec.image,
            spec.label,
            spec.resolution,
            spec.channels,
            [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        ]
    )[:32]


def _decode(dataset: Any, spec: SourceSpec, folder: Path, labels: np.ndarray, names: tuple[str, ...]) -> None:
    """Decode every image into `folder`: images.npy, labels.npy and, last, meta.json."""
    assert spec.image and spec.resolution and spec.channels
    raw = decode.encoded(dataset, spec.image)
    shape = (len(raw), spec.channels, spec.resolution, spec.resolution)
    say(f"decoding {counted(len(raw), 'image')} of {spec.dataset} to {shape[2]}x{shape[3]}, once; cached in {folder}")
    room.need_room(folder, int(np.prod(shape)), f"the decoded images of {spec.dataset}")
    with files.disk_errors(folder, f"decoding {spec.dataset}"):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "images.npy").open("wb") as file:
            # Written as a stream: a full disk is then an error to report, where a memory map would kill the process.
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            fingerprint = _fingerprint(_written(decode.decoded(raw, spec), file), shape, labels, names)
        np.save(folder / "labels.npy", labels)
        for name in ("images.npy", "labels.npy"):
            files.flush(folder / name)
    files.write_json(folder / "meta.json", {"classes": names, "fingerprint": fingerprint})


def _written(batches: Iterator[np.ndarray], file: IO[bytes]) -> Iterator[np.ndarray]:
    for batch in batches:
        file.write(batch.tobytes())
        yield batch


def _fingerprint(
    batches: Iterable[np.ndarray], shape: tuple[int, ...], labels: np.ndarray, names: tuple[str, ...]
) -> str:
    """`sha256:...` of pixels (batches of uint8 images), labels and class names; the same however they were stored."""
    state = hashlib.sha256(json.dumps([list(names), list(shape)]).encode())
    for batch in batches:
        state.update(batch.tobytes())
    state.update(labels.astype("<i8").tobytes())
    return f"sha256:{state.hexdigest()}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars of datasets while the body runs; ddhub says what it does in lines of its own."""
    import datasets

    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
