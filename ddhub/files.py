"""Files that are never half written: atomic writes, hashes, locks, and where ddhub keeps things."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ddhub.errors import UserError

PACKAGE = Path(__file__).parent


def home() -> Path:
    """The cache folder: `$DDHUB_HOME`, by default `ddhub` in the user's cache folder."""
    explicit = os.environ.get("DDHUB_HOME")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(explicit) if explicit else Path(base) / "ddhub"


def shipped(folder: str) -> Path:
    """The folder `recipes` or `cards`: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


@contextlib.contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn a full disk or a missing permission at `path` into a UserError that says what to do."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"{path}: the disk is full ({doing}); what was saved before is whole",
                next=f"free some space (df -h {path.parent}), then run the same command again",
            ) from fault
        if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path}: no permission ({doing})", next=f"ls -ld {path.parent}") from fault
        raise


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it into place.

    A reader sees the old file or the new one, whole.

    Raises:
        UserError: when the disk is full or the folder may not be written.
    """
    with disk_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def refuse_taken(out: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        UserError: naming it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already", next="choose another folder")


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Fill the new folder `out`, in a hidden one beside it that takes its name at the end: all of it, or nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield staging
        staging.chmod(0o755)
        staging.replace(out)  # over an empty folder too
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    write_atomic(path, lambda file: file.write(content))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically, as `json_bytes` has it."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """`content` as indented JSON in UTF-8; NaN is refused because JSON has none."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """The sha256 of a JSON-like value, as hex; equal values give equal digests, whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextlib.contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the body runs; it vanishes with the process, however that ends.

    Args:
        path: the lock file, made when missing.
        busy: the message of the UserError raised when another process holds it; None waits instead.
    """
    with disk_errors(path, "locking"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as fault:
            raise UserError(f"{path.parent}: {busy}", next="wait for it to end, or choose another --out") from fault
        yield
