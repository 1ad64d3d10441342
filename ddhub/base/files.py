"""Files that are never half written: atomic writes, hashes, locks, and where ddhub keeps things."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ddhub.base.errors import UserError, explained

PACKAGE = Path(__file__).parent.parent  # ddhub itself
TEMPORARY, PARTIAL = ".tmp", ".partial"  # how files, and folders, end that are being written


def home() -> Path:
    """The cache folder: `$DDHUB_HOME`, by default `ddhub` in the user's cache folder."""
    explicit = os.environ.get("DDHUB_HOME")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(explicit) if explicit else Path(base) / "ddhub"


def shipped(folder: str) -> Path:
    """The folder `recipes` or `cards`: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def shipped_recipes() -> list[str]:
    """The names of the shipped recipes, sorted."""
    return sorted(file.stem for file in shipped("recipes").glob("*.yaml"))


@contextlib.contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn a full disk or a missing permission at `path` into a UserError that says what to do."""
    try:
        yield
    except OSError as fault:
        known = explained(fault, path, doing)
        if known is None:
            raise
        raise known from fault


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it into place.

    A reader sees the old file or the new one, whole.

    Raises:
        UserError: when the disk is full or the folder may not be written.
    """
    with disk_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = _temporary(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(descriptor)
                os.fchmod(descriptor, 0o644)
                os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def _temporary(path: Path) -> tuple[int, str]:
    """A new file beside `path`, locked: `sweep` takes away those that nobody holds."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.exists(name):
            return descriptor, name
        os.close(descriptor)  # swept before it was locked


def flush(path: Path) -> None:
    """Bring a file that others wrote to the disk, ahead of what counts on it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sweep(folder: Path, pattern: str = f".*{TEMPORARY}") -> None:
    """Take away what processes that were killed left half written: hidden files, or folders, that nobody has locked."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # gone, or held
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(descriptor)


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
    staging, held = _staging(out)
    try:
        yield staging
        staging.chmod(0o755)
        _rename(staging, out)
    except UserError as fault:  # said of the folder that the user knows
        message, advice = (text and text.replace(str(staging), str(out)) for text in (fault.args[0], fault.next))
        raise UserError(message or "", next=advice) from fault
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held)


def _staging(out: Path) -> tuple[Path, int]:
    """A new hidden folder beside `out` and the lock on it; those that killed processes left for `out` are swept."""
    with contextlib.ExitStack() as stack:
        parent = os.open(out.parent, os.O_RDONLY)
        stack.callback(os.close, parent)
        with contextlib.suppress(OSError):
            fcntl.flock(parent, fcntl.LOCK_EX)  # nobody sweeps a folder between its making and its lock
        sweep(out.parent, f".{glob.escape(out.name)}.*{PARTIAL}")
        staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=PARTIAL))
        held = os.open(staging, os.O_RDONLY)
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
    return staging, held


def _rename(staging: Path, out: Path) -> None:
    """Let a folder take its name, that of an empty folder too."""
    try:
        staging.replace(out)
    except OSError as fault:
        if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise UserError(f"{out}: is there already, made by another process meanwhile", next=f"ls {out}") from fault


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    write_atomic(path, lambda file: file.write(content))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically, as `json_bytes` has it."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """`content` as indented JSON in UTF-8; NaN is refused because JSON has none."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def is_path(text: str) -> bool:
    """Whether a text is written as a path, and so is no name and no Hub id: it opens with `.`, `/` or `~`."""
    return text.startswith((".", "/", "~"))


def leads_out(folder: Path, path: Path) -> bool:
    """Whether a path inside a folder is, or goes through, a link to somewhere else.

    The Hub's cache holds a set as links from `snapshots/COMMIT` to `blobs` beside it, which belong to the set.
    """
    root, place = folder.resolve(), path.resolve()
    cache = root.parent.parent / "blobs"
    return not (place.is_relative_to(root) or (root.parent.name == "snapshots" and place.is_relative_to(cache)))


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
