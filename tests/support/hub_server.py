"""A Hugging Face Hub on 127.0.0.1 for tests: real HTTP for the real clients, and faults on demand.

    with HubServer(tmp_path / "hub") as hub:
        token = hub.add_user("alice")
        hub.fail("commit", Status(503), times=2)
        subprocess.run([...], env=hub.client_env(tmp_path / "home", token))
        assert hub.files("alice/set")["README.md"] == b"..."
        assert hub.seen("commit")

Clients read HF_ENDPOINT when they are imported, so they run in processes of their own, with `client_env`.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from hub_http import Answer, Call, Route, as_error, as_json
from hub_routes import ROUTES
from hub_store import REGULAR_LIMIT, Blob, Commit, HubError, Repo, Store
from hub_xet import LocalXet


@dataclass
class Request:
    """A request as it came; `status` is None until it is answered, and stays so if it never is."""

    kind: str
    method: str
    path: str
    authorized: bool
    origin: str
    headers: dict[str, str] = field(repr=False)
    status: int | None = None


class HangUp(Exception):
    """Close the connection without an answer."""


class Fault:
    """What can go wrong with a request: something before it is looked at, or something with its answer."""

    needs_body = False  # HEAD answers have none

    def before(self, hub: "HubServer") -> Answer | None:
        return None

    def after(self, answer: Answer) -> Answer:
        return answer


@dataclass(frozen=True)
class Status(Fault):
    """Answer with this status, and do nothing else."""

    status: int
    message: str = "injected fault"
    code: str | None = None  # X-Error-Code
    retry_after: int | None = None  # seconds

    def before(self, hub: "HubServer") -> Answer:
        error = HubError(self.status, self.message, self.code)
        if self.retry_after is not None:
            error.headers["Retry-After"] = str(self.retry_after)
        return as_error(error)


@dataclass(frozen=True)
class Slow(Fault):
    """Answer later."""

    seconds: float

    def before(self, hub: "HubServer") -> None:
        hub.closing.wait(self.seconds)


@dataclass(frozen=True)
class Drop(Fault):
    """Close the connection without an answer: before the request had any effect, or when it is `done`."""

    done: bool = False

    def before(self, hub: "HubServer") -> None:
        if not self.done:
            raise HangUp

    def after(self, answer: Answer) -> Answer:
        raise HangUp


@dataclass(frozen=True)
class Cut(Fault):
    """Send half of the body that Content-Length promises, then close the connection."""

    needs_body = True

    def after(self, answer: Answer) -> Answer:
        return replace(answer, sent=len(answer.body) // 2)


@dataclass(frozen=True)
class Corrupt(Fault):
    """Send a body of the right length with every bit wrong; the headers stay those of the right one."""

    needs_body = True

    def after(self, answer: Answer) -> Answer:
        return replace(answer, body=bytes(byte ^ 0xFF for byte in answer.body))


@dataclass(frozen=True)
class Changed(Fault):
    """Send what a function makes of the answer."""

    change: Callable[[Answer], Answer]

    def after(self, answer: Answer) -> Answer:
        return self.change(answer)


@dataclass
class Rule:
    """Which requests something happens to: those of a kind, from the `first`-th on, `times` times."""

    kind: str
    action: Any
    first: int
    times: float
    method: str | None
    path: str
    needs_body: bool = False
    count: int = 0

    def hits(self, request: Request) -> bool:
        """Whether this request is one of them; counts it if it is of the kind."""
        other = request.kind != self.kind or self.path not in request.path
        if other or request.method != (self.method or request.method) or (self.needs_body and request.method == "HEAD"):
            return False
        self.count += 1
        return self.first <= self.count < self.first + self.times


class HubServer:
    """A Hub with nothing in it.

    Args:
        root: a folder for what the server keeps on disk; only xet needs it.
        xet: offer xet storage: xet tokens are given out, and what was uploaded by xet can be downloaded by it.
        cdn: serve and take LFS files at another origin, as the Hub does, so that redirects leave this one.

    Attributes:
        requests: everything that came, oldest first.
        page_size: entries in one page of a listing.
        regular_limit: size in bytes from which a file is LFS whatever its name.
    """

    def __init__(self, root: Path, xet: bool = False, cdn: bool = False):
        self.root = Path(root)
        self.store = Store()
        self.xet = LocalXet(self.root / "xet") if xet else None
        self.cdn = cdn
        self.page_size = 1000
        self.regular_limit = REGULAR_LIMIT
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._faults: list[Rule] = []
        self._callbacks: list[Rule] = []
        self._lock = threading.RLock()
        # A second name of this machine: some clients take two ports of one host for one origin.
        self._servers = [_Server(self, host) for host in ("127.0.0.1", "localhost")[: 1 + cdn]]
        self.url, self.files_url = self._servers[0].url, self._servers[-1].url

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for connection in list(self.connections):  # or they would be served on after the end
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # What tests set up and look at

    def add_user(self, name: str, role: str = "write", orgs: tuple[str, ...] = ()) -> str:
        """Make an account, or one more token of it, and return the token; role is "write" or "read"."""
        return self.store.add_user(name, role, orgs)

    def create_repo(self, repo: str, private: bool = False, gated: str | bool = False) -> Repo:
        """Make a dataset with the Hub's first commit (a .gitattributes file)."""
        with self._lock:
            return self.store.create(repo, private, gated)

    def repo(self, repo: str) -> Repo:
        return self.store.repos[repo]

    def commit(
        self,
        repo: str,
        files: Mapping[str, bytes | None],
        title: str = "a commit by someone else",
        author: str | None = None,
        revision: str = "main",
    ) -> str:
        """Commit files, None for those to delete, and return the commit's id."""
        with self._lock:
            kept = self.store.repos[repo]
            blobs = {path: None if content is None else kept.blob(path, content) for path, content in files.items()}
            return kept.commit(blobs, title, author=author, revision=revision).id

    def commits(self, repo: str, revision: str = "main") -> list[Commit]:
        """The history of a dataset, newest first."""
        return list(self.store.repos[repo].resolve(revision).history())

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Path -> content; the Hub's own .gitattributes is one of them."""
        return {path: blob.content for path, blob in self.store.repos[repo].resolve(revision).files.items()}

    def seen(self, kind: str, method: str | None = None) -> list[Request]:
        """The requests of a kind, oldest first."""
        return [each for each in self.requests if each.kind == kind and each.method == (method or each.method)]

    def client_env(self, home: Path, token: str | None = None, xet: bool = False) -> dict[str, str]:
        """The environment for a client in a process of its own, with its caches in `home`."""
        dropped = ("HF_", "HUGGING", "DATASETS_", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME")
        proxies = ("http_proxy", "https_proxy", "all_proxy")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(dropped) and name.lower() not in proxies
        }
        quiet = {f"HF_HUB_DISABLE_{name}": "1" for name in ("TELEMETRY", "PROGRESS_BARS", "UPDATE_CHECK")}
        chosen = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), **quiet}
        if token is not None:
            chosen["HF_TOKEN"] = token
        if not xet:
            chosen["HF_HUB_DISABLE_XET"] = "1"
        return kept | chosen

    # What tests let go wrong

    def fail(
        self,
        kind: str,
        fault: Fault,
        *,
        after: int = 1,
        times: float = 1,
        method: str | None = None,
        path: str = "",
    ) -> None:
        """Let requests go wrong.

        Args:
            kind: which, as in `requests`: "commit", "preupload", "lfs-put", "resolve", ... (see hub_routes.py).
            fault: Status, Slow, Drop, Cut, Corrupt or Changed.
            after: the first of them to go wrong; 1 is the next one.
            times: how many of them, math.inf for all.
            method: only those with this method.
            path: only those whose path has this in it.
        """
        with self._lock:
            self._faults.append(Rule(kind, fault, after, times, method, path, fault.needs_body))

    def before(self, kind: str, callback: Callable[[], object], *, after: int = 1, times: float = 1) -> None:
        """Call a function when a request of a kind has come, before anything is done about it."""
        with self._lock:
            self._callbacks.append(Rule(kind, callback, after, times, None, ""))

    def heal(self) -> None:
        """Forget all faults and callbacks."""
        with self._lock:
            self._faults.clear()
            self._callbacks.clear()

    # What happens to a request

    def answer(self, call: Call, origin: str) -> Answer:
        """Log a request and answer it, faults included.

        Raises:
            HangUp: it is to be left unanswered.
        """
        route, call.parts = ROUTES.find(call.method, call.path)
        request = self._logged(call, route, origin)
        with self._lock:
            callbacks = [rule.action for rule in self._callbacks if rule.hits(request)]
            faults = [rule.action for rule in self._faults if rule.hits(request)]
        for callback in callbacks:
            callback()
        answer = next((early for fault in faults if (early := fault.before(self))), None)
        if answer is None:
            answer = self._routed(route, call)
            for fault in faults:
                answer = fault.after(answer)
        request.status = int(answer.status)
        return answer

    def _logged(self, call: Call, route: Route | None, origin: str) -> Request:
        headers = {name.lower(): value for name, value in call.headers.items() if name.lower() != "authorization"}
        query = "?" + "&".join(f"{name}={value}" for name, value in call.query.items()) if call.query else ""
        authorized = "Authorization" in call.headers
        kind = route.kind if route else "unknown"
        self.requests.append(Request(kind, call.method, call.path + query, authorized, origin, headers))
        return self.requests[-1]

    def _routed(self, route: Route | None, call: Call) -> Answer:
        if route is None:
            return as_json({"error": "Sorry, we can't find the page you are looking for."}, 404)
        try:
            with self._lock:
                token = call.headers.get("Authorization", "").removeprefix("Bearer ") or None
                call.account = self.store.account(token)
                route.open(call)
                return route.handler(call)
        except HubError as error:
            return as_error(error)

    def uploaded(self, repo: Repo, sha256: str) -> Blob:
        """The LFS file that a commit names.

        Raises:
            HubError: 400, it was never uploaded.
        """
        if sha256 not in repo.uploads:
            fetched = self.xet and self.xet.fetch(sha256)
            if not fetched:
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
            xet_hash, content = fetched
            repo.uploads[sha256] = Blob(content, lfs=True, xet_hash=xet_hash)
        return repo.uploads[sha256]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, host: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.url = f"http://{host}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent when a client goes away, as clients do whose downloads are killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer on a kept connection waits for the client's acknowledgement
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.server.hub.connections.discard(self.connection)
        super().finish()

    def serve(self) -> None:
        """Read a request, have it answered and send the answer."""
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        call = Call(self.server.hub, self.command, address.path, query, self.headers, self._body())
        try:
            self._send(self.server.hub.answer(call, self.server.url))
        except HangUp:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.sent])
        self.close_connection |= answer.sent is not None

    def log_message(self, *message: Any) -> None:
        """Say nothing: `HubServer.requests` is the log."""
