"""Checks of the Hub's answers before the client uses them: file names in headers, and the size of bodies and lists."""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from ddhub.base import limits

NAMING = ("X-Repo-Commit", "X-Linked-Etag", "ETag")  # headers that the client uses as names of files
LONGEST = 600.0  # seconds that one answer of the API may take
INFLATED = 1000  # the most bytes that one byte of a packed answer can unpack to


class OddAnswer(ValueError):
    """An answer that a real Hub does not give."""


class Watch:
    """Checks every answer to one client of the Hub."""

    def __init__(self) -> None:
        self._pages = 0  # successive pages of a list that name a next page
        self._spent = [0]  # bytes of these pages

    def ask(self, request: Any) -> None:
        """Ask the API for unpacked answers, because the size of a packed answer is known only after unpacking."""
        if _of_api(request):
            request.headers["Accept-Encoding"] = "identity"

    def look(self, response: Any) -> None:
        """Refuse an answer that names a file outside of the client's cache. Limit the bytes of the answer and its list.

        Raises:
            OddAnswer: with the reason.
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
    """Let the body of an answer end with a fault at a limit of bytes or seconds. `spent` counts its bytes."""
    library = sys.modules[type(response).__module__.partition(".")[0]]  # httpx, or httpx2
    body, until = response.stream, time.monotonic() + seconds

    class Bounded(library.SyncByteStream):  # type: ignore[name-defined]
        def __iter__(self) -> Iterator[bytes]:
            for part in body:
                spent[0] += len(part)
                if spent[0] > most:
                    spent[0] = 0  # for the next list
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
    """Check the headers that the client uses as names of downloaded files."""
    for name in NAMING:
        named = str(response.headers.get(name, ""))
        parts = re.split(r"[/\\]", named.removeprefix("W/").strip('"'))
        if ".." in parts or (len(parts) > 1 and parts[0] == ""):
            raise OddAnswer(f"{name} {named[:60]!r} leads out of the cache")
