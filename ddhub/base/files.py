"""Files and folders: atomic writes, hashes, locks, and the cache folder."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import IO, Any

from ddhub.base import links, same_folder, stopping
from ddhub.base.errors import UserError, as_user_error, quoted

PACKAGE = Path(__file__).parent.parent  # ddhub itself
ODD = (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EOPNOTSUPP)  # of opening links, pipes, sockets and devices
TEMPORARY = ".tmp"  # suffix of unfinished files


def home() -> Path:
    """The cache folder: `$DDHUB_HOME`, by default `ddhub` in the user's cache folder.

    Raises:
        UserError: if no home folder is known.
    """
    explicit = os.environ.get("DDHUB_HOME")
    if explicit:
        return Path(explicit)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddhub"
    except RuntimeError as fault:  # no HOME, and a user that the system does not know
        raise UserError("no home folder is known for the caches", next="DDHUB_HOME=FOLDER ddhub ...") from fault


def shipped(folder: str) -> Path:
    """The folder `recipes` or `cards`: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def shipped_recipes() -> list[str]:
    """The names of the shipped recipes, sorted."""
    return sorted(file.stem for file in shipped("recipes").glob("*.yaml"))


@contextlib.contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn a full disk or a missing permission at `path` into a UserError with the next command."""
    try:
        yield
    except OSError as fault:
        known = as_user_error(fault, path, doing)
        if known is None:
            raise
        raise known from fault


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it to `path`.

    A reader sees the complete old file or the complete new one.

    Raises:
        UserError: if the disk is full or the folder is not writable.
    """
    with disk_errors(path, "writing"):
        make_parent(path)
        with contextlib.ExitStack() as made:
            with stopping.held_back():  # a file that nobody knows yet would stay
                descriptor, name = _temporary(path)
                made.callback(_remove, name)
                file = made.enter_context(os.fdopen(descriptor, "wb"))
            write(file)
            file.flush()
            os.fsync(descriptor)
            os.fchmod(descriptor, 0o644)
            os.replace(name, path)


def _remove(name: str) -> None:
    """Remove a temporary file, unless it has its final name by now."""
    with contextlib.suppress(OSError):
        os.unlink(name)


def _temporary(path: Path) -> tuple[int, str]:
    """A new locked file beside `path`. `sweep` removes only files without a lock."""
    while True:
        with places(path.parent):
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        hold(descriptor)  # without locks `sweep` removes nothing
        if os.path.exists(name):
            return descriptor, name
        os.close(descriptor)  # another process removed it before the lock


def hold(file: IO[str] | int) -> None:
    """Lock an open file or folder until it is closed. Some shared file systems have no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def _held_alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder. Raises BlockingIOError if somebody holds it, and OSError if it is missing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def in_use(folder: Path) -> bool:
    """Whether somebody holds a lock on a file in a folder, as those do who are at work there."""
    for path in filter(Path.is_file, folder.rglob("*")):
        try:
            with _held_alone(path):
                continue
        except BlockingIOError:
            return True
        except OSError:  # removed meanwhile; or a shared file system without locks
            continue
    return False


def nearest(path: Path) -> Path:
    """The path itself, or its nearest existing parent."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def flush(path: Path) -> None:
    """Flush a file of another writer to the disk, before anything relies on it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sweep(folder: Path, pattern: str = f".*{TEMPORARY}") -> None:
    """Remove unfinished hidden files and folders of killed processes. Nobody holds a lock on these."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError), _held_alone(path):  # removed, or locked
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def make_parent(path: Path) -> None:
    """Make the folder of a file before the file is written. All writers of ddhub call this.

    Raises:
        UserError: if a link in a set leads the file out of the set, because strangers can make such links; or if a
            folder of the command was deleted, renamed or replaced.
    """
    links.refuse_led_out(path)
    same_folder.refuse_other(path)
    make_folder(path.parent)
    same_folder.note_made(path)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        UserError: if the system allows no folder there, as under /proc.
    """
    with places(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def places(folder: Path) -> Iterator[None]:
    """Turn the fault of a folder in which nothing can be made, as under /proc, into a UserError.

    Raises:
        UserError: naming the folder.
    """
    try:
        yield
    except FileNotFoundError as fault:  # although its parents exist
        raise UserError(
            f"{folder}: nothing can be made there", next="choose another; DDHUB_HOME or HOME say where caches go"
        ) from fault


def open_own(path: Path, mode: str) -> BufferedReader | BufferedRandom:
    """Open a file of ddhub's own beside a set, in mode `a+b` or `r+b`. Links are not followed.

    Raises:
        UserError: for a link, a folder, a pipe, a socket or a device.
    """
    flags = {"a+b": os.O_RDWR | os.O_APPEND | os.O_CREAT, "r+b": os.O_RDWR}[mode]
    try:
        return _plain(os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644), path, mode)
    except OSError as fault:
        if fault.errno not in (*ODD, errno.EISDIR):
            raise
        raise _no_file(path) from fault


def regular(path: Path) -> BufferedReader | BufferedRandom:
    """Open a regular file for reading.

    Raises:
        UserError: for a pipe, a socket or a device. A reader of these could wait for ever.
    """
    try:
        return _plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path, "rb")
    except OSError as fault:
        if fault.errno not in ODD:
            raise
        raise _no_file(path) from fault


def refuse_odd(path: Path) -> None:
    """Refuse a pipe, a socket or a device before a library opens it and waits for ever.

    Raises:
        UserError: naming the file.
        OSError: if the file cannot be opened.
    """
    regular(path).close()


def refuse_link(path: Path) -> None:
    """Refuse every link, and everything else that is no regular file.

    Raises:
        UserError: naming the path.
        FileNotFoundError: if nothing is there.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise _no_file(path)


def _plain(descriptor: int, path: Path, mode: str) -> BufferedReader | BufferedRandom:
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise _no_file(path)
    file = os.fdopen(descriptor, mode)
    assert isinstance(file, BufferedReader | BufferedRandom)
    return file


def _no_file(path: Path) -> UserError:
    return UserError(f"{path}: is a link, a pipe, a socket or a device where a file belongs", next=f"rm {quoted(path)}")


def safe_name(text: str) -> str:
    """A name as a part of a file's name: all but letters, digits, `.`, `_` and `-` becomes `_`.

    The result begins with no dot and has at most 100 characters. Different names can give the same result, so callers
    add a digest where that matters.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")[:100] or "_"


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    write_atomic(path, lambda file: file.write(content))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically, in the form of `json_bytes`."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """`content` as indented JSON in UTF-8. NaN is refused, because JSON has none."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def is_path(text: str) -> bool:
    """Whether a text is a path and no name or Hub id: it begins with `.`, `/` or `~`."""
    return text.startswith((".", "/", "~"))


def sha256(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_hash(file: IO[bytes], length: int) -> str:
    """The hash that git computes of a file's content of `length` bytes, as hex."""
    state = hashlib.sha1(f"blob {length}\0".encode())
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def digest(content: Any) -> str:
    """The sha256 of a JSON-like value, as hex. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextlib.contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the body runs. The lock also ends with the process.

    Args:
        path: the lock file. It is made if it is missing.
        busy: the message of the UserError if another process holds the lock. None waits for it.
    """
    with disk_errors(path, "locking"):
        make_parent(path)
        file = open_own(path, "a+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as fault:
            raise UserError(f"{path.parent}: {busy}", next="wait for it to end, or choose another --out") from fault
        yield
