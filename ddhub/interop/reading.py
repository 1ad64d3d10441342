"""Sets in other people's layouts: what was found in them, and how a stranger's file is read without running it.

Pickles are walked (torch_files.py), then read as data (torch's weights_only) with numpy scalars and dtypes allowed
by name; arrays without pickles, images after a look at their size. Shapes: N images, C H W image, K classes.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ddhub.artifact.records import FileRecord
from ddhub.base import files as file_tools
from ddhub.base import limits, torch_files
from ddhub.base.errors import UserError
from ddhub.base.redact import is_text, one_line
from ddhub.base.units import size

# Bytes that are read of one file, unless told otherwise: never more than half of this machine's memory.
LIMIT = min(limits.SET_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
MANY = 16  # more files than this are recorded by one hash of their listing
SINGLE = (".pt", ".pth", ".npz")  # files that may hold a whole set
# How a file of no layout becomes one of a layout that anybody can write.
AS_PAIR = (
    "with floats in [0, 1], (N, C, H, W), and classes from 0: torch.save([images, labels], 'set.pt'); "
    "then ddhub import set.pt --factor 1"
)
# Names of files that hold the images, the labels or the rate of a set alone.
HALF = re.compile(r"(?<![a-z])(?:images?|labels?)(?![a-z]).*\.pth?$|(?:^|_)lr(?:_[^.]*)?\.pth?$", re.IGNORECASE)
LABELS = re.compile(r"(?<![a-z])(?:labels?|targets?)(?![a-z])", re.IGNORECASE)
TABLES = (".pt", ".pth", ".npy", ".npz", ".csv", ".json", ".txt")  # what a file of labels may be
UNIT_SLACK = 0.25  # how far pixels in [0, 1] may lie outside
MOST_SHOWN = 4  # of the items of a container, in messages
Form = Literal["logits", "probabilities", "regression", "hard"]


@dataclass(frozen=True)
class Reading:
    """What a layout may be told about how to read its files."""

    limit: int = LIMIT  #: bytes of one file, packed or unpacked
    experiment: int | None = None  #: of a DC file that holds several
    factor: int | None = None  #: tiles a side that an image of IDC's kind is made of
    image: str | None = None  #: columns and split of a Hub dataset
    label: str | None = None
    split: str = "train"
    file: str | None = None  #: the file or folder of a Hub repo that holds the set
    config: str | None = None  #: the subset and the commit of a Hub dataset
    revision: str | None = None
    range: tuple[float, ...] | None = None  # values of black and white of pictures with more than 8 bits
    background: str | None = None  # shows through transparent places; None is white


@dataclass(frozen=True)
class Foreign:
    """A set as its files have it; classes are still in the files' own order."""

    family: str  #: its row in ddhub/interop/conventions.py
    images: Tensor  #: float32 network inputs or, where `unit` says so, pixels in [0, 1]; or uint8 pixels: (N, C, H, W)
    labels: Tensor | None  #: int64 (N,); None: images come class by class, as many of each
    files: dict[str, FileRecord]  #: what was read, by name
    soft: Tensor | None = None  #: float32 (N, K)
    form: Form = "hard"
    groups: tuple[str, ...] = ()  #: what the files call class 0, 1, ..., where they call them anything
    ipc: int | None = None  #: images per class, where the layout fixes them
    lr: float | None = None  #: where the files hold one
    zca: bool | None = None  #: where the files' names say
    method: str | None = None  #: where the files say
    notes: list[str] = field(default_factory=list)
    unit: bool = False  #: floats are pixels in [0, 1], not yet network inputs


def load(path: Path, how: Reading) -> Any:
    """A torch file's content as plain data: tensors, lists, dicts, numbers. Tensors stay on the disk until used.

    Raises:
        UserError: for a file that is too large, is no such file, or asks for anything to be run.
    """
    packed = _check_size(path, how, stored=True)
    try:
        torch_files.check(path, how.limit)
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except UserError:
        raise
    except Exception as fault:  # torch raises whatever a broken file leads it to
        text = str(fault)
        wanted = re.search(r"GLOBAL (\S+)|type (?:\w+ )?<class '([^']+)'>", text)
        if wanted or "nsupported" in text:
            named = f"'{(wanted.group(1) or wanted.group(2)).strip('`.,')}'" if wanted else "code"
            raise UserError(
                f"{path.name}: asks for {named}, which is not data; refused, and nothing in it was run",
                next="ask its author for a file of tensors alone",
            ) from fault
        shown = one_line(fault, 200)
        raise UserError(f"{path.name}: is not a file of tensors that torch can read ({shown})") from fault


def arrays(path: Path, how: Reading, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; pickled objects in it are refused.

    Args:
        wanted: the names of those to read; None reads all, an empty list none. What is not read is there, and empty.
    """
    _check_size(path, how, stored=False)
    try:
        with np.load(path, allow_pickle=False) as found:
            read = found.files if wanted is None else wanted
            arrays = {name: found[name] if name in read else np.empty(0) for name in found.files}
        odd = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
        if odd is not None:
            raise ValueError(f"{odd[:60]!r} is no array")
        return arrays
    except Exception as fault:  # numpy and zipfile raise whatever a broken file leads them to
        raise UserError(f"{path.name}: is not a file of plain numpy arrays ({one_line(fault, 200)})") from fault


def _allowed() -> list[Any]:
    """What pickles of numpy scalars name: each is our own narrow stand-in, under numpy's old and new names."""
    kinds = [type(np.dtype(code)) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")]
    scalars = [(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*scalars, (_dtype, "numpy.dtype"), (_encode, "_codecs.encode"), *kinds]


def _dtype(code: str, *_: Any) -> np.dtype:
    if not re.fullmatch(r"[<>=|]?(\?|b1|[iu][1248]|f[248])", str(code)):
        raise ValueError(f"numpy dtype {code!r} is not a number's")
    return np.dtype(code)


def _scalar(kind: np.dtype, content: bytes) -> Any:
    return np.frombuffer(content, kind, 1)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _check_size(path: Path, how: Reading, *, stored: bool) -> bool:
    """Refuse a file that is, or unpacks to, more than the limit; says whether it is a zip archive."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    check_names([path.name])
    total = path.stat().st_size
    try:
        packed = zipfile.is_zipfile(path)
        members = []
        if packed:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
    except Exception as fault:  # zipfile raises whatever a broken file leads it to
        raise UserError(f"{path.name}: a damaged archive ({one_line(fault, 200)})") from fault
    if packed:
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(limits.UNPACKED, limits.PACKED * total) and how.limit == LIMIT:
            raise UserError(
                f"{path.name}: would unpack to {size(unpacked)}, more than {limits.PACKED} times its own size",
                next=f"--max-bytes {unpacked}, if you trust it",
            )
        total = max(total, unpacked)
        if stored and any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(f"{path.name}: its tensors are compressed, which torch never does; refused")
    if total > how.limit:
        raise UserError(
            f"{path.name}: holds {size(total)}, more than the {size(how.limit)} that are read",
            next=f"--max-bytes {total}, if you trust it",
        )
    return packed


def pictures(value: Any, where: str, how: Reading) -> Tensor:
    """Check a tensor of network inputs, (N, C, H, W) or (N, H, W, C), and return it as float32 (N, C, H, W).

    Args:
        where: file and key, for the message.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != 4:
        raise UserError(f"{where}: expected images as a float tensor (N, C, H, W), found {described(value)}")
    _check_stored(value, where, how)
    if value.shape[3] in (1, 3) and value.shape[1] == value.shape[2] > 3:
        value = value.permute(0, 3, 1, 2)
    if value.shape[1] not in (1, 3) or value.shape[2] != value.shape[3] or not value.numel():
        raise UserError(f"{where}: images of shape {tuple(value.shape)}; expected (N, 1 or 3, side, side)")
    value = value.detach().to(torch.float32)
    if not value.isfinite().all():
        raise UserError(f"{where}: holds values that are not finite")
    return value.contiguous()


def matrix(value: Any, where: str, how: Reading) -> Tensor:
    """Check soft labels and return them as float32 (N, K)."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != 2:
        raise UserError(f"{where}: expected a row of numbers per image (N, K), found {described(value)}")
    _check_stored(value, where, how)
    value = value.detach().to(torch.float32).contiguous()
    if not value.isfinite().all():
        raise UserError(f"{where}: holds values that are not finite")
    return value


def numbers(value: Any, where: str, how: Reading) -> Tensor:
    """Check hard labels, floats that are whole numbers among them, and return them as int64 (N,)."""
    kinds = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    fitting = isinstance(value, Tensor) and (value.dtype in kinds or value.is_floating_point()) and value.dim() == 1
    if not fitting:
        raise UserError(f"{where}: expected one class number per image (N,), found {described(value)}")
    _check_stored(value, where, how)
    value = value.detach()
    if value.is_floating_point() and not (value.abs() <= limits.CLASSES).logical_and(value == value.round()).all():
        raise UserError(f"{where}: expected one class number per image (N,), found floats that are no whole numbers")
    return value.long().contiguous()


def pair(content: Any) -> tuple[Tensor, Tensor] | None:
    """Images (N, C, H, W) and one label each (N,) of a file that is a list, tuple or dict of them; otherwise None."""
    if isinstance(content, dict) and {"images", "labels"} <= set(content):
        content = [content["images"], content["labels"]]
    if not isinstance(content, list | tuple) or len(content) != 2:
        return None
    images, labels = content
    both = isinstance(images, Tensor) and isinstance(labels, Tensor)
    return (images, labels) if both and images.dim() == 4 and labels.dim() == 1 else None


def is_unit(images: Tensor) -> bool:
    """Whether floats look like pixels in [0, 1], which condensers leave by a little; normalised pixels do by far."""
    return images.is_floating_point() and bool(images.min() > -UNIT_SLACK) and bool(images.max() < 1 + UNIT_SLACK)


def is_half(path: Path) -> bool:
    """Whether a file's name says that it holds images, labels or a rate alone."""
    return HALF.search(path.name) is not None


def refuse_labels_beside(path: Path) -> None:
    """Refuse to take labels from places where a file of labels lies beside the images.

    Raises:
        UserError: naming that file.
    """
    beside = sorted(p.name for p in path.parent.iterdir() if p.suffix in TABLES and LABELS.search(p.stem) and p != path)
    if path.is_file() and beside:
        raise UserError(
            f"{path.name}: {beside[0]} lies beside it, and its layout has the class of an image from its place",
            next="name the two NAME_images.pt and NAME_labels.pt, for --layout mtt; or move the labels away",
        )


def described(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, list | tuple | dict):
        items = [f"{k!s:.40}: {described(v)}" for k, v in value.items()] if isinstance(value, dict) else None
        items = items if items is not None else [described(item) for item in value[:MOST_SHOWN]]
        return f"{type(value).__name__} of {len(value)} ({', '.join(items[:MOST_SHOWN])})"
    return type(value).__name__


def _check_stored(value: Tensor, where: str, how: Reading) -> None:
    """Refuse tensors that claim more than is there: a few stored numbers can have any shape by strides of 0."""
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.device.type != "cpu":
        raise UserError(f"{where}: is no plain tensor")
    claimed = value.numel() * value.element_size()
    if claimed > how.limit:
        raise UserError(f"{where}: claims {value.numel()} numbers, more than are read", next="--max-bytes BYTES")
    if claimed > value.untyped_storage().nbytes():
        raise UserError(f"{where}: claims {value.numel()} numbers, more than its file holds")


def check_names(names: Iterable[str]) -> None:
    """Refuse names of files or folders that are no UTF-8, or hold control characters: they could not be written down.

    Raises:
        UserError: naming the first.
    """
    odd = next((name for name in names if not is_text(name)), None)
    if odd is not None:
        raise UserError(f"{odd[:200]!r}: a name that is no text in UTF-8", next="rename it")


def records(paths: Sequence[Path], root: Path) -> dict[str, FileRecord]:
    """Hash and size of what was read, by name; many files as one hash of what `sha256sum` prints for them."""
    names = {path: path.relative_to(root).as_posix() for path in paths}
    check_names(names.values())
    found = {
        name: FileRecord(sha256=file_tools.sha256(path), bytes=path.stat().st_size) for path, name in names.items()
    }
    if len(found) <= MANY:
        return found
    listing = "".join(f"{record.sha256}  {name}\n" for name, record in sorted(found.items()))
    total = sum(record.bytes for record in found.values())
    return {
        f"listing of {len(found)} files": FileRecord(sha256=hashlib.sha256(listing.encode()).hexdigest(), bytes=total)
    }


def save(path: Path, content: Any) -> None:
    """Write plain data as a torch file, whole or not at all."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as something else
    torch.save(content, buffer)
    file_tools.write_atomic(path, lambda file: file.write(buffer.getbuffer()))
