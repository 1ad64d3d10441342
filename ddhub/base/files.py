"""Files that are never half written: atomic writes, hashes, locks, and where ddhub keeps things."""

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

from ddhub.base import same_folder
from ddhub.base.errors import UserError, as_user_error

PACKAGE = Path(__file__).parent.parent  # ddhub itself
ODD = (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EOPNOTSUPP)  # of opening links, pipes, sockets and devices
TEMPORARY = ".tmp"  # how files end that are being written


def home() -> Path:
    """The cache folder: `$DDHUB_HOME`, by default `ddhub` in the user's cache folder.

    Raises:
        UserError: where there is neither.
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
    """Turn a full disk or a missing permission at `path` into a UserError that says what to do."""
    try:
        yield
    except OSError as fault:
        known = as_user_error(fault, path, doing)
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
        make_parent(path)
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
        with places(path.parent):
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


def make_parent(path: Path) -> None:
    """Make the folder of a file that is about to be written; everything that ddhub writes goes through here.

    Raises:
        UserError: where the file would lie outside of the set that its path leads through: a stranger's folder can
            hold links to anywhere. So where a folder of the command's own is no longer what it was.
    """
    refuse_led_out(path)
    same_folder.refuse_other(path)
    make_folder(path.parent)
    same_folder.note_made(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those that it lies in.

    Raises:
        UserError: where the system has no place for one, as under /proc.
    """
    with places(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def places(folder: Path) -> Iterator[None]:
    """Say of a folder that nothing can be made in it, or in its place, as under /proc.

    Raises:
        UserError: naming it.
    """
    try:
        yield
    except FileNotFoundError as fault:  # though what it lies in was made
        raise UserError(
            f"{folder}: nothing can be made there", next="choose another; DDHUB_HOME or HOME say where caches go"
        ) from fault


def refuse_led_out(path: Path) -> None:
    """Refuse to change what lies at a path inside a set, but by a link on the way lies elsewhere.

    Raises:
        UserError: naming the folder.
    """
    for root in path.absolute().parents:
        if _is_set(root) and leads_out(root, path.parent.absolute()):
            raise UserError(
                f"{path.parent}: is a link, or lies behind one, that leads out of the folder {root}; refused",
                next=f"ls -l {root}, and remove the link",
            )


def _is_set(folder: Path) -> bool:
    """Whether a folder is that of a set, or of an evaluation."""

    def holds(name: str) -> bool:
        return os.path.lexists(folder / name)

    evaluated = holds("evaluation") and (holds("report.json") or holds("probe.json"))
    return holds("ddhub.json") or holds("import.json") or evaluated


def open_own(path: Path, mode: str) -> BufferedReader | BufferedRandom:
    """Open a file of ddhub's own beside a set, `a+b` or `r+b`; never what a link at its place points to, nor a pipe.

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
    """Open a file to be read; a pipe, a socket or a device, which could keep its reader for ever, is refused.

    Raises:
        UserError: naming it.
    """
    try:
        return _plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path, "rb")
    except OSError as fault:
        if fault.errno not in ODD:
            raise
        raise _no_file(path) from fault


def refuse_odd(path: Path) -> None:
    """Refuse a pipe, a socket or a device, before others open the file: they would wait for ever.

    Raises:
        UserError: naming it.
        OSError: where it cannot be opened at all.
    """
    regular(path).close()


def refuse_link(path: Path) -> None:
    """Refuse a link, wherever it leads, and what is no file.

    Raises:
        UserError: naming it.
        FileNotFoundError: where nothing is there.
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
    return UserError(f"{path}: is a link, a pipe, a socket or a device where a file belongs", next=f"rm {path}")


def safe_name(text: str) -> str:
    """A part of a file's name, of any name: letters, digits, `.`, `_` and `-` stay, all else becomes `_`.

    It opens with no dot and has at most 100 characters. Different names can become one: where that matters, a digest
    belongs beside it.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")[:100] or "_"


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
    try:
        root, place = folder.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return True
    cache = root.parent.parent / "blobs"
    return not (place.is_relative_to(root) or (root.parent.name == "snapshots" and place.is_relative_to(cache)))


def sha256(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_hash(file: IO[bytes], length: int) -> str:
    """The name that git gives to a file's content of so many bytes, as hex."""
    state = hashlib.sha1(f"blob {length}\0".encode())
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


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
        make_parent(path)
        file = open_own(path, "a+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as fault:
            raise UserError(f"{path.parent}: {busy}", next="wait for it to end, or choose another --out") from fault
        yield
