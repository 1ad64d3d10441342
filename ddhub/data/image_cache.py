"""The cache of decoded sources: a folder per split with images.npy, labels.npy and, written last, meta.json.

Cached images are compared with their fingerprint and decoded again if damaged. Decoding reports its rate and the time
left, and at its end anything odd about the pictures.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ddhub.base import checked_files, files, free_space
from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.base.units import counted, duration
from ddhub.data import decode as decodes
from ddhub.data import survey
from ddhub.data.encoded_images import Encoded
from ddhub.data.plausibility import Extremes
from ddhub.data.spec import SourceSpec

TOGETHER = 2**26  # bytes of encoded or decoded images held at once
SAID_EVERY = 10.0  # seconds between two lines of progress
NAMED = 3  # number of damaged pictures that are named


def place(content: Any, suffix: str = "") -> Path:
    """The path in the cache for what is known of images, by a digest of all that it depends on."""
    return files.home() / "images" / f"{files.digest(content)[:32]}{suffix}"


@dataclass
class Seen:
    """Odd things that decoding has found."""

    extremes: Extremes = field(default_factory=Extremes)
    transparent: int = 0
    squeezed: int = 0
    resized: int = 0  # to the resolution of the other split
    greyed: int = 0  # with colours, in a grey source
    damaged: dict[int, str] = field(default_factory=dict)  # position of the row -> its fault

    def notes(self, spec: SourceSpec) -> list[str]:
        """One sentence for each odd thing."""
        told = [survey.range_text((spec.range[0], spec.range[1]))] if spec.range else []
        if self.transparent:
            background = survey.rules_of(spec).background
            told.append(f"{self.transparent} pictures have transparency: shown on {background} (source.background)")
        if self.squeezed:
            told.append(f"{self.squeezed} pictures are not square: they are squeezed to a square")
        if self.resized:
            told.append(f"{self.resized} pictures have another size: resized to {spec.resolution}x{spec.resolution}")
        if self.greyed:
            told.append(f"{self.greyed} pictures have colours: they are made grey (source.channels=1)")
        for text in list(self.damaged.values())[:NAMED]:
            told.append(f"left out: {text}")
        if self.damaged:
            told.append(f"left out: {counted(len(self.damaged), 'damaged picture')} (source.skip_damaged)")
        return told


@dataclass(frozen=True)
class _Picture:
    pixels: np.ndarray
    transparent: bool
    squeezed: bool
    resized: bool
    greyed: bool


def read(folder: Path, asked: SourceSpec) -> dict[str, Any] | None:
    """The meta.json of a decoded source; None if the source must be decoded.

    Args:
        asked: the spec as given. It matters because a cache of resized images does not tell their first sizes.
    """
    if not (folder / "meta.json").exists():
        return None
    meta: dict[str, Any] | None = checked_files.read_note(folder / "meta.json")
    if meta is None or not checked_files.unchanged(_arrays(folder), lambda: _whole(folder, meta), meta["stamps"]):
        say(f"{folder}: the images cached there are damaged; decoding them again")
        return None
    return meta if set(_unasked(asked)) <= set(meta["held"]) else None


def _arrays(folder: Path) -> list[Path]:
    return [folder / "images.npy", folder / "labels.npy"]


def _whole(folder: Path, meta: dict[str, Any]) -> bool:
    """Whether the cached arrays have the recorded fingerprint."""
    try:
        images, labels = (np.load(path, mmap_mode="r") for path in _arrays(folder))
        parts = np.array_split(images, len(images) // 1024 + 1)
        return fingerprint(parts, images.shape, labels, tuple(meta["classes"])) == meta["fingerprint"]
    except (OSError, ValueError, EOFError):  # numpy's faults for files that are cut, empty or no arrays
        return False


def _unasked(asked: SourceSpec) -> list[str]:
    """The settings that were found by a first look, which every row must fit."""
    return [key for key in ("resolution", "channels") if getattr(asked, key) is None]


def write(
    images: Encoded, asked: SourceSpec, folder: Path, labels: np.ndarray, names: tuple[str, ...]
) -> dict[str, Any]:
    """Decode every row of a source into `folder`, and return the content of meta.json.

    Args:
        images: their spec has resolution, channels and range filled in.
        asked: the spec as given. Every row must fit the settings that it leaves open.
        labels: int64, one per row.

    Raises:
        UserError: for a picture that is damaged or unlike the first look; for a blank source.
    """
    spec, seen = images.spec, Seen()
    assert spec.resolution and spec.channels
    shape = (len(images), spec.channels, spec.resolution, spec.resolution)
    said = f"{spec.dataset} {images.split}"
    say(f"decoding {counted(len(images), 'image')} of {said} to {shape[2]}x{shape[3]}, once; cached in {folder}")
    free_space.need_room(folder, int(np.prod(shape)), f"the decoded images of {spec.dataset}")
    with files.disk_errors(folder, f"decoding {spec.dataset}"):
        files.make_folder(folder)
        path = folder / "images.npy"
        for name in (*_arrays(folder), folder / "meta.json"):  # processes that map the old files keep them
            name.unlink(missing_ok=True)
        with path.open("wb") as file:
            # Written as a stream, because a full disk kills a process that writes to a memory map.
            _head(file, shape)
            found = fingerprint(_written(_decoded(images, asked, seen, said), file), shape, labels, names)
            if seen.damaged:
                labels = np.delete(labels, list(seen.damaged))
                shape = (len(labels), *shape[1:])
                _rewrite_head(file, shape)
        if seen.damaged and len(labels):
            found = fingerprint(
                np.array_split(np.load(path, mmap_mode="r"), len(labels) // 1024 + 1), shape, labels, names
            )
        np.save(folder / "labels.npy", labels)
        for name in _arrays(folder):
            files.flush(name)
    _refuse_blank(seen, spec, images.split)
    for note in seen.notes(spec):
        say(f"{said}: {note}")
    background = survey.rules_of(spec).background if seen.transparent else None
    meta = {
        "classes": names,
        "fingerprint": found,
        "background": background,
        "warnings": seen.extremes.warnings,
        "held": _unasked(asked),
        "stamps": [checked_files.stamp(name) for name in _arrays(folder)],
    }
    checked_files.write_note(folder / "meta.json", meta)
    checked_files.trust(_arrays(folder))
    return meta


def _refuse_blank(seen: Seen, spec: SourceSpec, split: str) -> None:
    blank = seen.extremes.blank
    if not seen.extremes.count:
        raise UserError(f"source: {spec.dataset}: split '{split}' has no picture that can be decoded")
    if blank is None:
        return
    colour = "black" if seen.extremes.most.min() == 255 else "white"
    then = f"--set source.background={colour}" if seen.transparent else None
    raise UserError(f"source: {spec.dataset}: split '{split}': {blank}", next=then or "look at its files")


def _head(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _rewrite_head(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """Correct the number of images in the file's header. numpy leaves room for more digits."""
    with_first = file.tell() - int(np.prod(shape))
    file.seek(0)
    _head(file, shape)
    assert file.tell() == with_first, "numpy's headers have one length whatever the count"
    file.seek(0, 2)


def _decoded(images: Encoded, asked: SourceSpec, seen: Seen, said: str) -> Iterator[np.ndarray]:
    """Decoded images in batches, uint8 (B, C, H, W). PIL releases the interpreter lock while it decodes."""
    spec, begun, told = images.spec, time.monotonic(), time.monotonic()
    assert spec.resolution and spec.channels
    stored = images.dataset.data.nbytes // max(1, images.dataset.data.num_rows)
    size = max(1, min(1024, TOGETHER // max(1, stored, spec.channels * spec.resolution**2)))
    items, done = images.items(size), 0
    with ThreadPoolExecutor() as pool:
        while batch := list(itertools.islice(items, size)):
            read = list(pool.map(lambda pair: _read(images, asked, *pair), batch))
            yield _noticed(read, done, seen, spec)
            done += len(batch)
            if time.monotonic() - told > SAID_EVERY:
                told = time.monotonic()
                say(_progress(said, done, len(images), told - begun))


def _noticed(read: Sequence[_Picture | str], first: int, seen: Seen, spec: SourceSpec) -> np.ndarray:
    """The pictures of a batch as one array. Odd things about them are added to `seen`."""
    good = [picture for picture in read if isinstance(picture, _Picture)]
    seen.damaged |= {first + place: text for place, text in enumerate(read) if isinstance(text, str)}
    seen.transparent += sum(picture.transparent for picture in good)
    seen.squeezed += sum(picture.squeezed for picture in good)
    seen.resized += sum(picture.resized for picture in good)
    seen.greyed += sum(picture.greyed for picture in good)
    assert spec.channels and spec.resolution
    empty = np.empty((0, spec.channels, spec.resolution, spec.resolution), np.uint8)
    batch = np.stack([picture.pixels for picture in good]) if good else empty
    seen.extremes.add(batch)
    return batch


def _progress(said: str, done: int, count: int, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    left = duration((count - done) / max(rate, 1e-9))
    return f"decoding {said}: {done}/{count} {100 * done // count}% | {rate:.0f} images/s | eta {left}"


def _read(images: Encoded, asked: SourceSpec, row: int, item: Any) -> _Picture | str:
    """One decoded picture, or the fault of a damaged one that is left out."""
    try:
        return _pixels(images, asked, row, item, "")
    except UserError:
        pass
    try:  # again, with the row's name, which is costly to look up
        return _pixels(images, asked, row, item, images.where(row, item))
    except decodes.Damaged as fault:
        if not images.spec.skip_damaged:
            raise UserError(fault.args[0], next=decodes.SKIP) from fault
        return str(fault.args[0])


def _pixels(images: Encoded, asked: SourceSpec, row: int, item: Any, where: str) -> _Picture:
    spec, rules = images.spec, survey.rules_of(images.spec)

    def decode(image: Any) -> _Picture:
        grey, transparent = spec.channels == 1, decodes.is_transparent(image)
        if asked.channels is None and grey and not decodes.is_grey(image):
            raise UserError(
                f"{where}: has colours, and those looked at before are grey", next="--set source.channels=3, or 1"
            )
        coloured = grey and not decodes.is_grey(image)
        pixels = decodes.array(image, rules, where, grey, spec.resolution)
        size = decodes.upright_size(image)
        if asked.resolution is None and size != (spec.resolution, spec.resolution):
            raise UserError(
                f"{where}: is {size[0]}x{size[1]}, and those looked at before are {spec.resolution}x{spec.resolution}",
                next=f"--set source.resolution={spec.resolution} (images are resized to a square by a box filter)",
            )
        resized = size != (spec.resolution, spec.resolution)
        return _Picture(
            pixels, transparent, size[0] != size[1], resized, greyed=coloured and decodes.has_colours(image)
        )

    found: _Picture = decodes.picture(images.content(row, item), where, decode)
    return found


def _written(batches: Iterable[np.ndarray], file: IO[bytes]) -> Iterator[np.ndarray]:
    for batch in batches:
        file.write(batch.tobytes())
        yield batch


def fingerprint(
    batches: Iterable[np.ndarray], shape: tuple[int, ...], labels: np.ndarray, names: tuple[str, ...]
) -> str:
    """`sha256:...` of pixels (batches of uint8 images), labels and class names. Storage formats do not matter."""
    state = hashlib.sha256(json.dumps([list(names), list(shape)]).encode())
    for batch in batches:
        state.update(batch.tobytes())
    state.update(labels.astype("<i8").tobytes())
    return f"sha256:{state.hexdigest()}"
