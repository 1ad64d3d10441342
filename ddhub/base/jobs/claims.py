"""Claims: processes and machines that share a folder agree on who does which job.

A claim is a hidden file beside the output, created exclusively (O_EXCL). It names its process, and its modification
time is a heartbeat. Another process may take it over when its process is dead (seen at once on the same machine), or
without a heartbeat for `EXPIRY` seconds. A process that only slept may then do the job a second time. Both write the
same row atomically, so that costs time and nothing else.
"""

import contextlib
import functools
import io
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ddhub.base import files, stopping, strict_json

HEARTBEAT = 15.0  # seconds between two beats
EXPIRY = 120.0  # seconds without a beat after which a claim is free
UNSIGNED = 10.0  # the same for a claim that was created but never signed


def path_of(output: Path) -> Path:
    """The path of an output's claim. No pattern for rows, payload or published files matches its name."""
    return output.with_name(f".{output.name}.claim")


class Claims:
    """The claims of this process. They are released when the `with` block ends."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._held: set[Path] = set()  # with those that are being asked for
        self._beating: set[Path] = set()  # held for certain: a heart that beat another's claim would keep it for ever
        self._end = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> "Claims":
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        with stopping.held_back():
            for path in list(self._held):
                self._give_back(path)
        self._heart.join()

    def take(self, output: Path) -> bool:
        """Claim an output; False if another process works on it.

        Raises:
            UserError: if the folder cannot be written.
        """
        path = path_of(output)
        self._held.add(path)  # noted first: a second signal may come at any moment, and release spares claims of others
        # A signal between creation and signature would leave a claim that its own process does not know.
        with files.disk_errors(path, "claiming"), stopping.held_back():
            files.make_parent(path)
            try:
                file = path.open("x", encoding="utf-8")
            except FileExistsError:
                if not self._take_over(path):
                    self._held.discard(path)
                    return False
            else:
                self._sign_first(file, path)
            self._beating.add(path)
        return True

    def release(self, output: Path) -> None:
        """Release a claim when its job is done or failed."""
        self._give_back(path_of(output))

    def _sign(self, file: IO[str]) -> None:
        pid = os.getpid()
        file.write(json.dumps({**_machine(), "pid": pid, "began": _began(pid), "token": self._token}))

    def _sign_first(self, file: IO[str], path: Path) -> None:
        """Sign a new claim. If the disk has no room for the signature, the claim is removed."""
        try:
            with file:
                self._sign(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _take_over(self, path: Path) -> bool:
        """Sign an expired claim, unless another process does so first."""
        if not expired(path):
            return False
        with _locked(path) as file:
            if file is None or not expired(path):
                return False
            file.truncate(0)
            self._sign(file)
            file.flush()
            os.utime(path)
            return True

    def _give_back(self, path: Path) -> None:
        self._beating.discard(path)
        with _locked(path) as file:
            if file is not None and self._token in file.read():  # it may have expired and have another owner now
                path.unlink()
        self._held.discard(path)

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT):
            for path in list(self._beating):
                with contextlib.suppress(OSError):  # the disk may work again at the next beat
                    os.utime(path)


def holder(output: Path) -> str:
    """The process that works on an output, as text for messages."""
    signed = _read(path_of(output))
    return f"process {signed['pid']} on {signed['host']}" if signed else "another process"


def pulse(output: Path) -> tuple[int, str] | None:
    """Time of the last heartbeat of an output's claim, and its owner; None without a claim."""
    path = path_of(output)
    try:
        return path.lstat().st_mtime_ns, (_read(path) or {}).get("token", "")
    except FileNotFoundError:
        return None


def expired(path: Path) -> bool:
    """Whether a claim's process is dead, or its heartbeat stopped long ago."""
    try:
        beaten = path.lstat().st_mtime
        files.refuse_link(path)
        signed = _read(path)
        here = signed is not None and all(signed[key] == value for key, value in _machine().items())
        if signed is not None and here:
            began = _began(signed["pid"])
            if began is None or began != signed["began"]:
                return True
        limit = EXPIRY if signed is not None else UNSIGNED
        # Machines' clocks differ. A claim that seems old is compared with the clock of the file system, which wrote
        # its time. A time ahead of that clock was written before the clock was set back. Such a claim is dead.
        return abs(time.time() - beaten) > limit and abs(_clock(path.parent) - beaten) > limit
    except FileNotFoundError:  # released this moment
        return False


def _clock(folder: Path) -> float:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.", suffix=".tmp") as file:
        return os.stat(file.name).st_mtime


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a claim; None if it is gone, unsigned, or not written by ddhub."""
    signed = strict_json.known(path)
    texts = all(isinstance(signed.get(key), str) for key in (*_machine(), "began", "token"))
    pid = signed.get("pid")
    return signed if texts and type(pid) is int and 0 < pid < 2**31 else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str] | None]:
    """Hold the lock of the current claim file; None if it is gone."""
    try:
        file = io.TextIOWrapper(files.open_own(path, "r+b"), encoding="utf-8")
    except FileNotFoundError:
        yield None
        return
    with file:
        files.hold(file)  # without locks only takeovers can race
        yield file if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()) else None


@functools.cache
def _machine() -> dict[str, str]:
    """Identify this machine's process table. A process id means nothing on another machine."""
    known = {"host": socket.gethostname(), "boot": "", "processes": ""}
    with contextlib.suppress(OSError):  # not on Linux
        known["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        known["processes"] = os.readlink("/proc/self/ns/pid")
    return known


def _began(pid: int) -> str | None:
    """The start time of a living process, which tells it from a later one with the same id; None for a dead one."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:  # not on Linux, or hidden from us
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
