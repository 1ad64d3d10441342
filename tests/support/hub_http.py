"""What a route sees of a request, what it gives back, and the table of all routes."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hub_store import Account, Commit, HubError, Repo

if TYPE_CHECKING:
    from hub_server import HubServer


@dataclass
class Call:
    """A request as a route sees it, and on which dataset by whom."""

    hub: "HubServer"
    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes
    account: Account | None = None
    parts: dict[str, str] = field(default_factory=dict)  # of the path, by their names in the route
    repo: Repo = None  # type: ignore[assignment]

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def commit(self) -> Commit:
        """The commit that the path's revision names."""
        return self.repo.resolve(self.parts["rev"])

    @property
    def api(self) -> str:
        """Where the dataset's own routes begin."""
        return f"{self.hub.url}/api/datasets/{self.repo.id}"

    @property
    def page(self) -> str:
        """Where people would look at the dataset."""
        return f"{self.hub.url}/datasets/{self.repo.id}"


@dataclass(frozen=True)
class Answer:
    """What goes back: a status, headers and a body, whose first `sent` bytes are sent (None: all of them)."""

    body: bytes = b""
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None


def as_json(document: Any, status: int = HTTPStatus.OK, **headers: str) -> Answer:
    return Answer(json.dumps(document).encode(), status, {"Content-Type": "application/json", **headers})


def as_error(error: HubError) -> Answer:
    headers = {"X-Error-Message": error.message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return as_json(error.body, error.status, **headers)


Handler = Callable[[Call], Answer]


@dataclass(frozen=True)
class Route:
    """A kind of request, as faults and the request log name it, and what answers it."""

    kind: str
    methods: str
    pattern: re.Pattern[str]
    access: str  # to the dataset in the path: "" (none is named), "see", "read", "write", "propose" or "link"
    handler: Handler

    def match(self, method: str, path: str) -> dict[str, str] | None:
        found = self.pattern.fullmatch(path) if method in self.methods.split() else None
        return found and {name: unquote(part) for name, part in found.groupdict(default="").items()}

    def open(self, call: Call) -> None:
        """Find the dataset in the path, if its caller may have it."""
        store, id = call.hub.store, call.parts.get("repo", "")
        if self.access == "see":
            call.repo = store.visible(id, call.account)
        elif self.access == "read":
            call.repo = store.readable(id, call.account)
        elif self.access in ("write", "propose"):
            propose = self.access == "propose" and call.query.get("create_pr") == "1"
            call.repo = store.writable(id, call.account, pull=propose)
        elif self.access == "link" and id in store.repos:  # as with a signed link: who knows the address may use it
            call.repo = store.repos[id]
        elif self.access:
            raise HubError(404, "Not found")


SEGMENTS = {"repo": "[^/]+/[^/]+?", "path": ".+"}


class Routes(list[Route]):
    """All routes; where two fit, the first counts."""

    def add(self, kind: str, methods: str, path: str, access: str = "") -> Callable[[Handler], Handler]:
        """Register a function under a path, in which {name} is one segment; {repo} is two and {path} is the rest."""

        def segment(found: re.Match[str]) -> str:
            return f"(?P<{found[1]}>{SEGMENTS.get(found[1], '[^/]+')})"

        def register(handler: Handler) -> Handler:
            pattern = re.compile(re.sub(r"\{(\w+)\}", segment, path.replace(".", r"\.")))
            self.append(Route(kind, methods, pattern, access, handler))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        """The route for a request, and the named parts of its path."""
        matches = ((route, route.match(method, path)) for route in self)
        return next(((route, parts) for route, parts in matches if parts is not None), (None, {}))
