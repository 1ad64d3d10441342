"""Refusals by the Hub and failures to reach it, as sentences with the next command."""

import re
import sys
from pathlib import Path
from typing import Any

from ddhub.base import near_paths
from ddhub.base.errors import quoted
from ddhub.base.redact import one_line

ODD = (AttributeError, LookupError, TypeError)  # what the client raises on a malformed answer


def faults() -> tuple[type[Exception], ...]:
    """The exceptions of the Hub's client when the Hub refuses or is out of reach."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, XetDownloadError

    transports = [kind for each in _transports() for kind in (each.HTTPError, each.InvalidURL)]
    return (HfHubHTTPError, OfflineModeIsEnabled, DatasetsError, XetDownloadError, OSError, ValueError, *transports)


def _transports() -> list[Any]:
    """The HTTP libraries that are loaded; the client's has two names."""
    return [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]


def status(fault: BaseException) -> int | None:
    """The HTTP status of the answer that a fault of the client carries; None without an answer."""
    return getattr(getattr(fault, "response", None), "status_code", None)


def pause(fault: BaseException) -> int | None:
    """The seconds that a 429 asks to wait; 0 if it names none; None for another fault."""
    if status(fault) != 429:
        return None
    headers = fault.response.headers  # type: ignore[attr-defined]  # a fault with a status has one
    said = str(headers.get("Retry-After", ""))
    limit = re.search(r"\bt=(\d{1,6})\b", str(headers.get("RateLimit", "")))
    return int(said) if re.fullmatch(r"\d{1,6}", said) else int(limit[1]) if limit else 0


def refused(fault: BaseException) -> bool:
    """Whether the Hub answered with a refusal. Without an answer, the request may have been carried out."""
    said = status(fault) or 0
    return 400 <= said < 500 and said != 408


def why_cached(fault: BaseException) -> str:
    """A short reason for reading the cache instead of the Hub."""
    said = status(fault)
    return "the Hub cannot be reached" if said is None else f"the Hub says {said}"


def of_hub(fault: BaseException | None) -> BaseException | None:
    """The Hub's refusal or failure behind a fault; None for a fault of another kind."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    transports = [library.HTTPError for library in _transports()]
    while fault is not None and not isinstance(fault, (HfHubHTTPError, OfflineModeIsEnabled, *transports)):
        fault = fault.__cause__ or fault.__context__
    return fault


def explain(fault: BaseException, repo_id: str) -> tuple[str, str]:
    """A sentence for a fault of the Hub's client, and the next command."""
    from huggingface_hub import errors as kinds

    again = "the same command again"
    if isinstance(fault, kinds.HFValidationError):
        return f"no valid name of a Hub dataset ({one_line(fault, 200)})", "choose another OWNER/NAME"
    if isinstance(fault, kinds.OfflineModeIsEnabled) or "offline mode" in str(fault).lower():
        what = f"not in the cache, and HF_HUB_OFFLINE forbids asking the Hub{near_paths.instead(Path(repo_id))}"
        return what, near_paths.next_command(Path(repo_id), f"{again} with HF_HUB_OFFLINE=0")
    if isinstance(fault, kinds.GatedRepoError):
        return "the repo is gated", f"accept its terms on its page, then type hf auth login and {again}"
    if isinstance(fault, kinds.RevisionNotFoundError):
        return "the repo has no such revision", f"choose a revision of {repo_id}"
    if isinstance(fault, kinds.RemoteEntryNotFoundError) and "ddhub.json" in str(fault):
        return (
            "the repo holds no ddhub.json, so it is no ddhub artifact",
            f"ddhub evaluate {quoted(repo_id)} --source DATASET,"
            f" or ddhub import {quoted(repo_id)} --source DATASET --out FOLDER",
        )
    known = _explain_status(fault, repo_id)
    if known is not None:
        return known
    if "too large to be downloaded" in str(fault):  # the client's sentence goes on with advice on xet
        return "it announces a file of more than 50 GB, which is not fetched", f"look at its files at {repo_id}"
    if "xet" in str(fault).lower():
        return "the Hub does not offer the xet transfer", f"{again} with HF_HUB_DISABLE_XET=1"
    if isinstance(fault, (*ODD, ValueError)) or type(fault).__name__ == "InvalidURL":
        return f"the Hub's answer is not understood ({one_line(fault, 200)})", f"{again} later"
    return f"the connection failed ({one_line(fault, 200)})", f"check the network, then {again}"


def _explain_status(fault: BaseException, repo_id: str) -> tuple[str, str] | None:
    """The meaning of an answer's HTTP status; None without an answer."""
    from huggingface_hub.errors import RepositoryNotFoundError

    said = status(fault)
    again = "the same command again"
    if said == 401 or (said == 400 and "Invalid user token" in str(fault)):
        return "the Hub does not accept the token, or needs one", f"hf auth login, then {again}"
    if isinstance(fault, RepositoryNotFoundError) or said == 404:
        return (
            f"no dataset {repo_id} on the Hub that this token can read, and no such folder here"
            f"{near_paths.instead(Path(repo_id))}",
            near_paths.next_command(Path(repo_id), "check the name; for a private dataset: hf auth login"),
        )
    if said == 403:
        return _explain_forbidden(fault, repo_id)
    if said in (409, 412):
        return "somebody else changed the repo in the meantime", f"{again}; it starts from the repo's present state"
    if said == 429:
        return "the Hub asks for a pause (429)", f"{again} in {pause(fault) or 'some'} seconds"
    if said == 501:
        return "this server does not support the request (501)", "check HF_ENDPOINT; https://huggingface.co supports it"
    if said is not None and said >= 500:
        return f"the Hub has an internal fault ({said})", f"{again} later"
    return None if said is None else (f"the Hub refused ({said}): {one_line(fault, 200)}", again)


def _explain_forbidden(fault: BaseException, repo_id: str) -> tuple[str, str]:
    """A sentence for a 403: the token may not read, not write, or not write without a pull request."""
    request = getattr(getattr(fault, "response", None), "request", None)
    url = str(getattr(request, "url", ""))
    if getattr(request, "method", "") in ("GET", "HEAD"):
        return f"the token may not read {repo_id} (403)", "hf auth login with another token, or ask the owner"
    login = "hf auth login with a token that has write access there"
    proposing = "create_pr=1" in url or not re.search("/(preupload|commit)/", url)
    return f"the token may not do this to {repo_id}", login if proposing else f"{login}; or propose it: --create-pr"
