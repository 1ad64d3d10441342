"""The Hub's client, and its faults as sentences for the user.

huggingface_hub finds the token: in HF_TOKEN, or in what `hf auth login` stored. ddhub never prints or writes it, and
removes it from the Hub's messages.
"""

import contextlib
import functools
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ddhub import __version__
from ddhub.base import log
from ddhub.base.errors import UserError, explained
from ddhub.base.redact import one_line

ODD = (AttributeError, LookupError, TypeError)  # what the client raises on a malformed answer
COMMIT = re.compile(r"[0-9a-f]{40}")
PATIENCE = 10.0  # seconds to wait for the answer to a single request
AT_ONCE = 8  # downloads that run at once
SILENCE = 60.0  # seconds during which a silent Hub is not asked again
REPO_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
WAITS = (1, 2, 4, 8, 8)  # seconds between tries, as in the client's own retries
NAMING = ("X-Repo-Commit", "X-Linked-Etag", "ETag")  # headers that the client turns into file names
LONGEST = 300  # seconds, the longest pause that is granted to the Hub

Answer = TypeVar("Answer")


class OddAnswer(ValueError):
    """The Hub's answer is malformed."""


@dataclass(frozen=True)
class Described:
    """A Hub dataset at one commit, as the Hub describes it."""

    commit: str
    private: bool
    sizes: Mapping[str, int]  # bytes of each file, by path; 0 if sizes were not requested


def is_id(reference: str) -> bool:
    """Whether a reference has the form `owner/name` or `owner/name@revision` and is not a local path."""
    return REPO_ID.fullmatch(reference.partition("@")[0]) is not None and not Path(reference).exists()


def client() -> Any:
    """The API object of huggingface_hub, with checks on its answers."""
    from huggingface_hub import HfApi

    _watch()
    return HfApi(library_name="ddhub", library_version=__version__)


@functools.cache
def _watch() -> None:
    """Check every answer that the client gets in this process before it is used."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    make = _http._GLOBAL_CLIENT_FACTORY

    def watched() -> Any:
        made = make()
        made.event_hooks = {**made.event_hooks, "response": [*made.event_hooks["response"], _check_headers]}
        return made

    set_client_factory(watched)


def _check_headers(response: Any) -> None:
    """Refuse headers that name a file outside of the client's cache. The client names its downloads by them.

    Raises:
        OddAnswer: naming the header.
    """
    for name in NAMING:
        named = str(response.headers.get(name, ""))
        parts = re.split(r"[/\\]", named.removeprefix("W/").strip('"'))
        if ".." in parts or (len(parts) > 1 and parts[0] == ""):
            raise OddAnswer(f"{name} {named[:60]!r} leads out of the cache")


def describe(
    repo_id: str, revision: str | None = None, *, sizes: bool = False, timeout: float | None = None
) -> Described:
    """Ask the Hub for the commit behind a revision and for the files of a dataset.

    Raises:
        OddAnswer: if the answer does not describe a dataset. Other exceptions of the client pass through.
    """
    try:
        found = client().dataset_info(repo_id, revision=revision, files_metadata=sizes, timeout=timeout)
        commit = found.sha
        listed = {entry.rfilename: int(entry.size or 0) for entry in found.siblings or ()}
    except ODD as fault:
        raise OddAnswer(one_line(fault, 200)) from fault
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise OddAnswer(f"{str(commit)[:60]!r} is no commit")
    if not all(isinstance(name, str) for name in listed):
        raise OddAnswer("a file without a name")
    return Described(commit, bool(found.private), listed)


@contextlib.contextmanager
def asked_once(repo_id: str, revision: str | None) -> Iterator[None]:
    """Put clients offline in this block if the Hub is silent. Each request would otherwise retry for half a minute.

    A silent Hub is remembered for SILENCE seconds.
    """
    from datasets import config
    from huggingface_hub import constants

    if _silent(repo_id, revision):
        before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
    else:
        yield


_found_silent: dict[str, float] = {}  # endpoint -> monotonic time of its last silence


def _silent(repo_id: str, revision: str | None) -> bool:
    """Whether the Hub does not answer. A refusal is an answer."""
    endpoint = client().endpoint
    if time.monotonic() - _found_silent.get(endpoint, -SILENCE) < SILENCE:
        return True
    try:
        describe(repo_id, revision, timeout=PATIENCE)
    except faults() as fault:
        if getattr(getattr(fault, "response", None), "status_code", 500) >= 500:
            _found_silent[endpoint] = time.monotonic()
            return True
    return False


def download(repo_id: str, commit: str, names: Collection[str], folder: Path | None = None) -> None:
    """Fetch files of a dataset, several at once, into the client's cache or as plain files into a folder.

    The client's own bulk download asks for the list of files again. If that request is refused, it silently uses the
    cache.
    """
    api = client()

    def fetch(name: str) -> None:
        api.hf_hub_download(repo_id, name, revision=commit, repo_type="dataset", local_dir=folder)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetching = [pool.submit(fetch, name) for name in names]
        try:
            for each in as_completed(fetching):
                each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def check_token() -> None:
    """Refuse to continue without a token.

    Raises:
        UserError: saying how to get one.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError("no Hugging Face token is set here", next="hf auth login (or set HF_TOKEN)")


def user() -> str:
    """The name of the logged-in user.

    Raises:
        UserError: if nobody is logged in, or the Hub does not answer.
    """
    check_token()
    with errors("asking who is logged in", "whoami"):
        return str(client().whoami()["name"])


def faults() -> tuple[type[Exception], ...]:
    """The exceptions of the Hub's client when the Hub refuses or is out of reach. Its HTTP library has two names."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, XetDownloadError

    libraries = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    transports = [kind for each in libraries for kind in (each.HTTPError, each.InvalidURL)]
    return (HfHubHTTPError, OfflineModeIsEnabled, DatasetsError, XetDownloadError, OSError, ValueError, *transports)


def patiently(call: Callable[[], Answer], doing: str) -> Answer:
    """Call a function, and repeat it when the Hub asks for a pause (429) and the client does not wait by itself."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in (*WAITS, None):
        try:
            return call()
        except HfHubHTTPError as fault:
            asked = pause(fault)
            if asked is None or wait is None or asked > LONGEST:
                raise
            seconds = max(asked, wait)
        log.say(f"{doing}: the Hub asks for a pause (429); again in {seconds} seconds")
        time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def pause(fault: BaseException) -> int | None:
    """The seconds that a 429 asks to wait; 0 if it names none; None for another fault."""
    response = getattr(fault, "response", None)
    if getattr(response, "status_code", None) != 429 or response is None:
        return None
    said = str(response.headers.get("Retry-After", ""))
    limit = re.search(r"\bt=(\d{1,6})\b", str(response.headers.get("RateLimit", "")))
    return int(said) if re.fullmatch(r"\d{1,6}", said) else int(limit[1]) if limit else 0


def refused(fault: BaseException) -> bool:
    """Whether the Hub answered with a refusal. Without an answer, the request may have been carried out."""
    status = getattr(getattr(fault, "response", None), "status_code", 0)
    return 400 <= status < 500 and status != 408


def unseen(fault: BaseException) -> str:
    """The reason, in a few words, for reading the cache and not the Hub."""
    status = getattr(getattr(fault, "response", None), "status_code", None)
    return "the Hub cannot be reached" if status is None else f"the Hub says {status}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the client's progress bars, and remove secrets from its log."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    log.scrub_libraries()
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


@contextlib.contextmanager
def errors(doing: str, repo_id: str) -> Iterator[None]:
    """Turn every exception of the Hub's client into a UserError with the next command.

    The client's progress bars are hidden meanwhile.
    """
    try:
        with _quiet():
            yield
    except UserError:
        raise
    except Exception as fault:
        known = _known(fault)
        if known is None:
            raise
        full = explained(known) if isinstance(known, OSError) else None
        if full is not None:
            raise UserError(f"{doing}: {full.args[0]}", next=full.next) from None
        what, then = explain(known, repo_id)
        raise UserError(f"{doing}: {what}", next=then) from None  # the cause may carry the request's headers


def _known(fault: BaseException | None) -> BaseException | None:
    """The Hub's fault in a chain of exceptions. Uploads wrap it in a RuntimeError, the cache in an own exception."""
    while fault is not None:
        absent = type(fault).__name__ == "LocalEntryNotFoundError" and fault.__cause__ is not None
        if isinstance(fault, (*faults(), *ODD)) and not absent:
            return fault
        fault = fault.__cause__ if absent or isinstance(fault, RuntimeError) else None
    return None


def explain(fault: BaseException, repo_id: str) -> tuple[str, str]:
    """A fault of the Hub's client as a sentence, and the next command."""
    from huggingface_hub import errors as kinds

    again = "the same command again"
    if isinstance(fault, kinds.HFValidationError):
        return f"no dataset of the Hub can be called so ({one_line(fault, 200)})", "choose another OWNER/NAME"
    if isinstance(fault, kinds.OfflineModeIsEnabled) or "offline mode" in str(fault).lower():
        return "not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub", f"{again} with HF_HUB_OFFLINE=0"
    if isinstance(fault, kinds.GatedRepoError):
        return "the repo is gated", f"accept its terms on its page, then: hf auth login, and {again}"
    if isinstance(fault, kinds.RevisionNotFoundError):
        return "the repo has no such revision", f"choose one of those at {repo_id}"
    if isinstance(fault, kinds.RemoteEntryNotFoundError) and "ddhub.json" in str(fault):
        return (
            "the repo holds no ddhub.json, so it is no ddhub artifact",
            f"ddhub evaluate {repo_id} --source DATASET (what it was distilled from), or ddhub import, likewise",
        )
    known = _of_status(fault, repo_id)
    if known is not None:
        return known
    if "xet" in str(fault).lower():
        return "the Hub does not offer the xet transfer", f"{again} with HF_HUB_DISABLE_XET=1"
    if isinstance(fault, (*ODD, ValueError)) or type(fault).__name__ == "InvalidURL":
        return f"the Hub's answer is not understood ({one_line(fault, 200)})", f"{again} later"
    return f"the connection failed ({one_line(fault, 200)})", f"check the network, then {again}"


def _of_status(fault: BaseException, repo_id: str) -> tuple[str, str] | None:
    """The meaning of an answer's HTTP status; None without an answer."""
    from huggingface_hub.errors import RepositoryNotFoundError

    status = getattr(getattr(fault, "response", None), "status_code", None)
    again = "the same command again"
    if status == 401 or (status == 400 and "Invalid user token" in str(fault)):
        return "the Hub does not accept the token, or wants one", f"hf auth login, then {again}"
    if isinstance(fault, RepositoryNotFoundError) or status == 404:
        return (
            f"no dataset {repo_id} on the Hub that this token may see, and no such folder here",
            "check the name; for a private one: hf auth login",
        )
    if status == 403:
        return _forbidden(fault, repo_id)
    if status in (409, 412):
        return "somebody else changed the repo meanwhile", f"{again}, which starts from what is there now"
    if status == 429:
        return "the Hub asks for a pause (429)", f"{again} in {pause(fault) or 'some'} seconds"
    if status == 501:
        return "this server does not offer what was asked (501)", "check HF_ENDPOINT; https://huggingface.co offers it"
    if status is not None and status >= 500:
        return f"the Hub has a fault of its own ({status})", f"{again} later"
    return None if status is None else (f"the Hub refused ({status}): {one_line(fault, 200)}", again)


def _forbidden(fault: BaseException, repo_id: str) -> tuple[str, str]:
    """A 403 as a sentence: no right to read, to write, or to write without a pull request."""
    request = getattr(getattr(fault, "response", None), "request", None)
    url = str(getattr(request, "url", ""))
    if getattr(request, "method", "") in ("GET", "HEAD"):
        return f"the token may not read {repo_id} (403)", "hf auth login with a token that may, or ask its owner"
    login = "hf auth login with a token that has write access there"
    proposing = "create_pr=1" in url or not re.search("/(preupload|commit)/", url)
    return f"the token may not do this to {repo_id}", login if proposing else f"{login}; or propose it: --create-pr"
