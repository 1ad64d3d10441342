"""The Hub's client, and its faults as sentences for the user.

huggingface_hub finds the token: in HF_TOKEN, or in what `hf auth login` stored. ddhub never prints or writes it, and
removes it from the Hub's messages.
"""

import contextlib
import functools
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ddhub import __version__
from ddhub.base import log, progress
from ddhub.base.errors import UserError, as_user_error
from ddhub.base.hub_answers import OddAnswer, Watch
from ddhub.base.hub_faults import ODD, explain, faults, pause, refused
from ddhub.base.redact import is_text, one_line
from ddhub.base.shared import shared

COMMIT = re.compile(r"[0-9a-f]{40}")
PATIENCE = 10.0  # seconds to wait for the answer to a single request
AT_ONCE = 8  # downloads that run at once
SILENCE = 60.0  # seconds during which a silent Hub is not asked again
REPO_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
WAITS = (1, 2, 4, 8, 8)  # seconds between tries, as in the client's own retries
LONGEST = 300  # seconds, the longest pause that is granted to the Hub

Answer = TypeVar("Answer")


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
        made, watch = make(), Watch()
        made.event_hooks = {
            "request": [*made.event_hooks["request"], watch.ask],
            "response": [*made.event_hooks["response"], watch.look],
        }
        return made

    set_client_factory(watched)


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


def revisions(repo_id: str) -> list[str]:
    """The branches of a dataset, its proposed changes and its tags.

    Raises:
        OddAnswer: if the answer names none. Other exceptions of the client pass through.
    """
    try:
        found = client().list_repo_refs(repo_id, repo_type="dataset", include_pull_requests=True)
        names = [each.name for each in found.branches] + [each.ref for each in found.pull_requests or ()]
        names += [each.name for each in found.tags]
    except ODD as fault:
        raise OddAnswer(one_line(fault, 200)) from fault
    return [name for name in names if isinstance(name, str) and is_text(name)]


@contextlib.contextmanager
def offline_if_silent(repo_id: str, revision: str | None) -> Iterator[None]:
    """Put clients offline in this block if the Hub is silent. Each request would otherwise retry for half a minute.

    A silent Hub is remembered for SILENCE seconds.
    """
    with _offline() if _silent(repo_id, revision) else contextlib.nullcontext():
        yield


@shared
@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Put clients offline in this block."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


_found_silent: dict[str, float] = {}  # endpoint -> monotonic time of its last silence


def _silent(repo_id: str, revision: str | None) -> bool:
    """Whether the Hub does not answer. A refusal is an answer."""
    endpoint = client().endpoint
    if time.monotonic() - _found_silent.get(endpoint, -SILENCE) < SILENCE:
        return True
    try:
        describe(repo_id, revision, timeout=PATIENCE)
    except faults() as fault:
        if not refused(fault):
            _found_silent[endpoint] = time.monotonic()
            return True
    return False


def cache_folder(repo_id: str) -> Path:
    """The folder of a dataset in the client's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="dataset")


def at_once(work: Callable[[str], Answer], names: Collection[str]) -> Iterator[tuple[str, Answer]]:
    """Do the work for several names at once. Yield each name with its result, the first to end first.

    After a fault no more work is begun.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(work, name): name for name in names}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def download(repo_id: str, commit: str, names: Collection[str], folder: Path | None = None) -> None:
    """Fetch files of a dataset, several at once, into the client's cache or as plain files into a folder.

    The client's own bulk download asks for the list of files again. If that request is refused, it silently uses the
    cache.
    """
    api = client()

    def fetch(name: str) -> None:
        api.hf_hub_download(repo_id, name, revision=commit, repo_type="dataset", local_dir=folder)

    for _ in at_once(fetch, names):
        pass


def check_token() -> None:
    """Refuse to continue without a token.

    Raises:
        UserError: saying how to get one.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError("no Hugging Face token is set here", next="hf auth login (or set HF_TOKEN)")


def check_online(doing: str) -> None:
    """Refuse to begin what changes the Hub while HF_HUB_OFFLINE forbids to reach it.

    Raises:
        UserError: saying how to allow it.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{doing}: HF_HUB_OFFLINE forbids to reach the Hub", next="the same command again with HF_HUB_OFFLINE=0"
        )


def user() -> str:
    """The name of the logged-in user.

    Raises:
        UserError: if nobody is logged in, or the Hub does not answer or must not be asked.
    """
    check_token()
    check_online("asking who is logged in")
    with errors("asking who is logged in", "whoami"):
        return str(client().whoami()["name"])


def retried(call: Callable[[], Answer], doing: str) -> Answer:
    """Call a function, and repeat it when the Hub asks for a pause (429) and the client does not wait by itself."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return call()
        except HfHubHTTPError as fault:
            asked = pause(fault)
            if asked is None or asked > LONGEST:
                raise
            seconds = max(asked, wait)
        log.say(f"{doing}: the Hub asks for a pause (429); again in {seconds} seconds")
        time.sleep(seconds)
    return call()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the client's progress bars, and remove secrets from its log."""
    from huggingface_hub import utils

    log.scrub_libraries()
    with progress.bars_hidden(utils):
        yield


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
        known = _hub_fault(fault)
        if known is None:
            raise
        full = as_user_error(known) if isinstance(known, OSError) else None
        if full is not None:
            raise UserError(f"{doing}: {full.args[0]}", next=full.next) from None
        what, then = explain(known, repo_id)
        raise UserError(f"{doing}: {what}", next=then) from None  # the cause may carry the request's headers


def _hub_fault(fault: BaseException | None) -> BaseException | None:
    """The Hub's fault in a chain of exceptions. Uploads wrap it in a RuntimeError, the cache in an own exception."""
    while fault is not None:
        absent = type(fault).__name__ == "LocalEntryNotFoundError" and fault.__cause__ is not None
        if isinstance(fault, (*faults(), *ODD)) and not absent:
            return fault
        fault = fault.__cause__ if absent or isinstance(fault, RuntimeError) else None
    return None
