"""What the Hub answers is looked at before the client believes it: where headers lead, and that lists end."""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from ddhub.base import limits

NAMING = ("X-Repo-Commit", "X-Linked-Etag", "ETag")  # headers of which the client makes names of files
LONGEST = 600.0  # seconds that one answer of the API may take
INFLATED = 1000  # times its size that a packed answer may unpack to


class OddAnswer(ValueError):
    """What the Hub answered is none of the Hub's answers."""


class Watch:
    """Looks at every answer that one client of the Hub gets."""

    def __init__(self) -> None:
        self._pages = 0  # in a row that name a next one
        self._spent = [0]  # bytes of them

    def ask(self, request: Any) -> None:
        """Let the API answer unpacked: what a packed answer comes to shows only when memory holds it."""
        if _of_api(request):
            request.headers["Accept-Encoding"] = "identity"

    def look(self, response: Any) -> None:
        """Refuse an answer that names a file outside of the client's cache, and bound what it and its pages bring.

        Raises:
            OddAnswer: naming what is odd.
        """
        _check_names(response)
        if not _of_api(response.request):
            _bound(response, [0], limits.DOWNLOAD_BYTES, float("inf"))
            return
        if not self._pages:
            self._spent = [0]
        if response.status_code == 200:
            self._pages = self._pages + 1 if response.links.get("next") else 0
        if self._pages > limits.PAGES:
            self._pages = 0
            raise OddAnswer(f"a list of more than {limits.PAGES:,} pages")
        packed = response.headers.get("Content-Encoding", "identity") != "identity"
        _bound(response, self._spent, limits.ANSWER_BYTES // (INFLATED if packed else 1), LONGEST)


def _bound(response: Any, spent: list[int], most: int, seconds: float) -> None:
    """Let the body of an answer end in a fault where it does not end by itself; `spent` counts its bytes."""
    library = sys.modules[type(response).__module__.partition(".")[0]]  # httpx, or what it is called now
    body, until = response.stream, time.monotonic() + seconds

    class Bounded(library.SyncByteStream):  # type: ignore[name-defined]
        def __iter__(self) -> Iterator[bytes]:
            for part in body:
                spent[0] += len(part)
                if spent[0] > most:
                    spent[0] = 0  # of the next list
                    raise OddAnswer(f"an answer of more than {most:,} bytes")
                if time.monotonic() > until:
                    raise OddAnswer(f"an answer that took more than {seconds:.0f} seconds")
                yield part

        def close(self) -> None:
            body.close()

    response.stream = Bounded()


def _of_api(request: Any) -> bool:
    return "/api/" in str(request.url.path)


def _check_names(response: Any) -> None:
    """The client calls what it downloads by these headers."""
    for name in NAMING:
        named = str(response.headers.get(name, ""))
        parts = re.split(r"[/\\]", named.removeprefix("W/").strip('"'))
        if ".." in parts or (len(parts) > 1 and parts[0] == ""):
            raise OddAnswer(f"{name} {named[:60]!r} leads out of the cache")
