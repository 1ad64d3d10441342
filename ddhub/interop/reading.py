"""Reading of foreign sets: the found content, and safe readers for files of strangers.

Pickles are simulated first (torch_files.py), then loaded as data (torch's weights_only) with numpy scalars and dtypes
allowed by name. Arrays are read without pickles, and images after a size check.
Shapes: N images, C H W image, K classes.
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

from ddhub.artifact.manifest_parts import FileRecord
from ddhub.base import files as file_tools
from ddhub.base import limits, torch_files
from ddhub.base.errors import UserError, quoted
from ddhub.base.redact import is_text, one_line
from ddhub.base.units import size

# Default limit of bytes read from one file: never more than half of this machine's memory.
LIMIT = min(limits.SET_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
MANY = 16  # a larger number of files is recorded as one hash of their listing
TORCH = (".pt", ".pth")
SINGLE = (*TORCH, ".npz")  # files that may hold a whole set
# Advice for files of no layout: how to write the simplest layout.
AS_PAIR = (
    "with floats in [0, 1], (N, C, H, W), and classes from 0: torch.save([images, labels], 'set.pt'); "
    "then ddhub import set.pt --factor 1"
)
AGAIN = "fetch the file again, since a download may have broken off"
ANY_LAYOUT = "leave --layout out, so that every layout is tried"  # for files that an asked layout does not have
# Names of files that hold only the images, the labels or the rate of a set.
HALF = re.compile(r"(?<![a-z])(?:images?|labels?)(?![a-z]).*\.pth?$|(?:^|_)lr(?:_[^.]*)?\.pth?$", re.IGNORECASE)
LABELS = re.compile(r"(?<![a-z])(?:labels?|targets?)(?![a-z])", re.IGNORECASE)
TABLES = (*SINGLE, ".npy", ".csv", ".json", ".txt")  # possible types of label files
UNIT_SLACK = 0.25  # how far pixels in [0, 1] may lie outside of it
MOST_SHOWN = 4  # items of a container shown in a message
Form = Literal["logits", "probabilities", "regression", "hard"]


@dataclass(frozen=True)
class Reading:
    """The user's settings for reading a layout's files."""

    limit: int = LIMIT  #: the most bytes of one file, packed or unpacked
    experiment: int | None = None  #: the number of the experiment, in a DC file with several
    factor: int | None = None  #: tiles per side of an image of IDC's kind
    image: str | None = None  #: columns and split of a Hub dataset
    label: str | None = None
    split: str = "train"
    file: str | None = None  #: the file or folder of a Hub repo that holds the set
    config: str | None = None  #: the subset and the commit of a Hub dataset
    revision: str | None = None
    range: tuple[float, ...] | None = None  # values of black and white, in pictures of more than 8 bits
    background: str | None = None  # the colour behind transparent places; None is white


@dataclass(frozen=True)
class Foreign:
    """A foreign set as its files hold it, with the files' own class order."""

    family: str  #: its row in ddhub/interop/conventions.py
    images: Tensor  #: (N, C, H, W): float32 inputs, or pixels in [0, 1] if `unit` is set; or uint8 pixels
    labels: Tensor | None  #: int64 (N,); None if images are ordered by class, equally many of each
    files: dict[str, FileRecord]  #: the files that were read, by name
    soft: Tensor | None = None  #: float32 (N, K)
    form: Form = "hard"
    groups: tuple[str, ...] = ()  #: the files' names for class 0, 1, ..., if they have any
    ipc: int | None = None  #: images per class, if the layout fixes their number
    lr: float | None = None  #: the learning rate, if the files hold one
    zca: bool | None = None  #: whether images are whitened, if the files' names say so
    method: str | None = None  #: the method, if the files name it
    notes: list[str] = field(default_factory=list)
    unit: bool = False  #: whether floats are pixels in [0, 1], not network inputs


def load(path: Path, how: Reading) -> Any:
    """A torch file's content as plain data: tensors, lists, dicts, numbers. Tensors stay on the disk until used.

    Raises:
        UserError: for a file that is too large, malformed, or asks for code to be run.
    """
    packed = _check_size(path, how, stored=True)
    try:
        torch_files.check(path, how.limit)
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except UserError:
        raise
    except Exception as fault:  # torch raises anything for a broken file
        text = str(fault)
        wanted = re.search(r"GLOBAL (\S+)|type (?:\w+ )?<class '([^']+)'>", text)
        if wanted or "nsupported" in text:
            named = f"'{(wanted.group(1) or wanted.group(2)).strip('`.,')}'" if wanted else "code"
            raise UserError(
                f"{path.name}: asks for {named}, which is not data; refused, and nothing in it was run",
                next="ask its author for a file of tensors alone",
            ) from fault
        raise UserError(
            f"{path.name}: is not a file of tensors that torch can read ({one_line(fault, 200)})",
            next=AGAIN if path.suffix in TORCH else ANY_LAYOUT,
        ) from fault


def is_torch(path: Path) -> bool:
    """Whether a path is a file with a suffix of torch's."""
    return path.suffix in TORCH and path.is_file()


def arrays(path: Path, how: Reading, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Pickled objects in it are refused.

    Args:
        wanted: names of the arrays to read; None reads all, an empty list none. Other arrays are present, but empty.
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
    except Exception as fault:  # numpy and zipfile raise anything for a broken file
        raise UserError(
            f"{path.name}: is not a file of plain numpy arrays ({one_line(fault, 200)})",
            next=f"{AGAIN}; or ask its author for plain arrays" if path.suffix == ".npz" else ANY_LAYOUT,
        ) from fault


def _allowed() -> list[Any]:
    """The functions that pickles of numpy scalars may name, as narrow stand-ins, under numpy's old and new names."""
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
    """Refuse a file that exceeds the limit, packed or unpacked. Return whether it is a zip archive."""
    if not path.is_file():
        raise UserError(f"{path}: no such file", next=f"ls {quoted(path.absolute().parent)}")
    check_names([path.name])
    total = path.stat().st_size
    try:
        packed = zipfile.is_zipfile(path)
        members = []
        if packed:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
    except Exception as fault:  # zipfile raises anything for a broken file
        raise UserError(f"{path.name}: a damaged archive ({one_line(fault, 200)})", next=AGAIN) from fault
    if packed:
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(limits.UNPACKED, limits.PACKED * total) and how.limit == LIMIT:
            raise UserError(
                f"{path.name}: would unpack to {size(unpacked)}, more than {limits.PACKED} times its own size",
                next=f"--max-bytes {unpacked}, if you trust it",
            )
        total = max(total, unpacked)
        if stored and any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(
                f"{path.name}: its tensors are compressed, which torch never does; refused",
                next="ask its author for the file that torch.save wrote",
            )
    if total > how.limit:
        raise UserError(
            f"{path.name}: holds {size(total)}, more than the {size(how.limit)} that are read",
            next=f"--max-bytes {total}, if you trust it",
        )
    return packed


def pictures(value: Any, where: str, how: Reading) -> Tensor:
    """Check a tensor of network inputs, (N, C, H, W) or (N, H, W, C), and return it as float32 (N, C, H, W).

    Args:
        where: file and key, for messages.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != 4:
        raise UserError(
            f"{where}: expected images as a float tensor (N, C, H, W), found {describe(value)}", next=AS_PAIR
        )
    _check_stored(value, where, how)
    if value.shape[3] in (1, 3) and value.shape[1] == value.shape[2] > 3:
        value = value.permute(0, 3, 1, 2)
    if value.shape[1] not in (1, 3) or value.shape[2] != value.shape[3] or not value.numel():
        raise UserError(
            f"{where}: images of shape {tuple(value.shape)}; expected (N, 1 or 3, side, side)", next=AS_PAIR
        )
    value = value.detach().to(torch.float32)
    if not value.isfinite().all():
        raise UserError(f"{where}: holds values that are not finite")
    return value.contiguous()


def matrix(value: Any, where: str, how: Reading) -> Tensor:
    """Check soft labels and return them as float32 (N, K)."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != 2:
        raise UserError(f"{where}: expected a row of numbers per image (N, K), found {describe(value)}", next=AS_PAIR)
    _check_stored(value, where, how)
    value = value.detach().to(torch.float32).contiguous()
    if not value.isfinite().all():
        raise UserError(f"{where}: holds values that are not finite")
    return value


def numbers(value: Any, where: str, how: Reading) -> Tensor:
    """Check hard labels, also whole numbers stored as floats, and return them as int64 (N,)."""
    kinds = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    fitting = isinstance(value, Tensor) and (value.dtype in kinds or value.is_floating_point()) and value.dim() == 1
    if not fitting:
        raise UserError(f"{where}: expected one class number per image (N,), found {describe(value)}", next=AS_PAIR)
    _check_stored(value, where, how)
    value = value.detach()
    if value.is_floating_point() and not (value.abs() <= limits.CLASSES).logical_and(value == value.round()).all():
        raise UserError(
            f"{where}: expected one class number per image (N,), found floats that are no whole numbers", next=AS_PAIR
        )
    return value.long().contiguous()


def pair(content: Any) -> tuple[Tensor, Tensor] | None:
    """Images (N, C, H, W) and labels (N,) of a file that is a list, tuple or dict of them; otherwise None."""
    if isinstance(content, dict) and {"images", "labels"} <= set(content):
        content = [content["images"], content["labels"]]
    if not isinstance(content, list | tuple) or len(content) != 2:
        return None
    images, labels = content
    both = isinstance(images, Tensor) and isinstance(labels, Tensor)
    return (images, labels) if both and images.dim() == 4 and labels.dim() == 1 else None


def is_unit(images: Tensor) -> bool:
    """Whether floats look like pixels in [0, 1]. Distilled pixels may exceed it slightly, normalised ones do by far."""
    if not images.is_floating_point() or not images.numel():
        return False
    return bool(images.min() > -UNIT_SLACK) and bool(images.max() < 1 + UNIT_SLACK)


def is_half(path: Path) -> bool:
    """Whether a file's name marks it as images, labels or a rate alone."""
    return HALF.search(path.name) is not None


def refuse_labels_beside(path: Path, used: Iterable[str]) -> None:
    """Refuse to derive labels from positions if a label file lies beside the images.

    Args:
        used: the names of the files that were read.

    Raises:
        UserError: naming that file.
    """
    beside = sorted(p.name for p in path.parent.iterdir() if p.suffix in TABLES and LABELS.search(p.stem) and p != path)
    beside = [name for name in beside if name not in set(used)]
    if path.is_file() and beside:
        raise UserError(
            f"{path.name}: {beside[0]} lies beside it, and its layout has the class of an image from its place",
            next="name the two NAME_images.pt and NAME_labels.pt, for --layout mtt; or move the labels away",
        )


def describe(value: Any) -> str:
    """A value's type and size, for messages."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, list | tuple | dict):
        items = [f"{k!s:.40}: {describe(v)}" for k, v in value.items()] if isinstance(value, dict) else None
        items = items if items is not None else [describe(item) for item in value[:MOST_SHOWN]]
        return f"{type(value).__name__} of {len(value)} ({', '.join(items[:MOST_SHOWN])})"
    return type(value).__name__


def _check_stored(value: Tensor, where: str, how: Reading) -> None:
    """Refuse tensors that claim more than is stored. By strides of 0, a few numbers can have any shape."""
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided or value.device.type != "cpu":
        raise UserError(f"{where}: is no plain tensor", next=AS_PAIR)
    claimed = value.numel() * value.element_size()
    if claimed > how.limit:
        raise UserError(f"{where}: claims {value.numel()} numbers, more than are read", next="--max-bytes BYTES")
    if claimed > value.untyped_storage().nbytes():
        raise UserError(f"{where}: claims {value.numel()} numbers, more than its file holds")


def check_names(names: Iterable[str]) -> None:
    """Refuse file names that are no UTF-8 or have control characters. They could not be recorded.

    Raises:
        UserError: naming the first.
    """
    odd = next((name for name in names if not is_text(name)), None)
    if odd is not None:
        raise UserError(f"{odd[:200]!r}: a name that is no text in UTF-8", next="rename it")


def records(paths: Sequence[Path], root: Path) -> dict[str, FileRecord]:
    """Hash and size of the files read, by name. For many files, one hash of the output of `sha256sum` for them."""
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
    """Write plain data as a torch file, complete or not at all."""
    buffer = io.BytesIO()  # torch's own writer misreports a full disk
    torch.save(content, buffer)
    file_tools.write_atomic(path, lambda file: file.write(buffer.getbuffer()))
