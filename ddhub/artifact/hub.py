"""Sets on the Hub: fetched by id, pinned to one commit."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ddhub.artifact import cache_repair, manifest
from ddhub.artifact.file_names import MANIFEST, PUBLISHED
from ddhub.base import files, hub_client, hub_faults, limits, links, near_paths, redact, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say, warn
from ddhub.base.schema import nearest
from ddhub.base.units import counted, listed, size

MOST_REVISIONS, SHOWN = 20, 5  # of a repo that are asked for a set, and that a message names
MOST_FILES = 2 * limits.ROWS  # of a set: the most rows, and as many other files


@dataclass(frozen=True)
class SetPlace:
    """The location of a set: a folder of the user, or a read-only copy of a Hub repo at one commit."""

    folder: Path
    repo_id: str | None = None
    commit: str | None = None

    @property
    def name(self) -> str:
        """The folder, or `owner/name@commit`, for messages."""
        return f"{self.repo_id}@{self.commit}" if self.repo_id else str(self.folder)


def fetch(reference: str) -> SetPlace:
    """Locate a set: a folder as it is, or a Hub id (`owner/name`, `owner/name@revision`) fetched into the cache.

    The revision is resolved once, and all files are read at that commit. A cached set is also found offline, and if its
    repo is gone or out of reach. A message says so. Files damaged in the cache are fetched again.

    Raises:
        UserError: if there is no such folder and the Hub does not serve the set.
    """
    if not hub_client.is_id(reference):
        if not Path(reference).is_dir():
            if reference in files.shipped_recipes():
                raise UserError(f"{reference}: a recipe, not a set", next=f"ddhub distill {quoted(reference)}")
            raise manifest.no_set(Path(reference))
        return SetPlace(Path(reference))
    path = Path(reference.partition("@")[0])
    if any(path.parent.glob("*/ddhub.json")):  # said before the Hub is asked, because that takes time
        warn(f"{reference}: no such folder here{near_paths.instead(path).removesuffix('?')}; asking the Hub")
    return _fetched(reference)


def _fetched(reference: str) -> SetPlace:
    """Fetch a set by its Hub id."""
    repo_id, _, revision = reference.partition("@")
    api = hub_client.client()
    of = {"repo_id": repo_id, "repo_type": "dataset"}
    with hub_client.errors(f"fetching {reference}", repo_id):
        asked, sizes, away = _commit_and_files(repo_id, revision or None)
        _refuse_excess(reference, sizes)
        with _other_revisions(reference):
            found = _manifest(api, of, asked, away)
        folder, commit = found.parent, found.parent.name  # the cache keeps a folder for each commit
        if away is None and asked != revision:  # so that the cache knows the branch's commit offline
            files.write_bytes(found.parent.parent.parent / "refs" / (revision or "main"), commit.encode())
        lacking = _lacking(folder, sizes)
        if lacking and away is not None:
            what, then = hub_faults.explain(away, repo_id)
            raise UserError(
                f"{reference}: {lacking[0]} is not in the cache, and the Hub is not read: {what}", next=then
            )
        hub_client.download(repo_id, commit, lacking)
    if away is not None and not isinstance(away, _offline()):
        say(f"{reference}: from the cache, at {commit[:12]}; {hub_faults.why_cached(away)}")
    cache_repair.heal(
        published(folder), lambda name: api.hf_hub_download(**of, filename=name, revision=commit, force_download=True)
    )
    return SetPlace(folder, repo_id, commit)


@contextlib.contextmanager
def _other_revisions(reference: str) -> Iterator[None]:
    """Add the revisions that the Hub knows to the fault of a revision that is missing or holds no set.

    Raises:
        UserError: naming the revisions of the repo, or those that hold a set.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

    repo_id, _, revision = reference.partition("@")
    try:
        yield
    except (RemoteEntryNotFoundError, RevisionNotFoundError) as fault:
        missing = isinstance(fault, RevisionNotFoundError)
        known: list[str] = []
        with contextlib.suppress(*hub_faults.faults()):  # the first fault says what is known without it
            known = hub_client.revisions(repo_id)[:MOST_REVISIONS]
            known = [each for each in known if missing or MANIFEST in hub_client.describe(repo_id, each).sizes]
        if not known:
            raise
        lacks = "the repo has no such revision; it has" if missing else f"{revision or 'main'} holds no set; one is at"
        raise UserError(
            f"fetching {reference}: {lacks} {listed(known, SHOWN)}",
            next=f"the same command with {shlex.quote(f'{repo_id}@{(nearest(revision, known) or known)[0]}')}",
        ) from None


def _of_set(name: str) -> bool:
    """Whether a file of a repo, given by its path, belongs to a set."""
    return any(fnmatchcase(name, each) and name.count("/") == each.count("/") for each in PUBLISHED)


def _refuse_excess(reference: str, sizes: Mapping[str, int]) -> None:
    """Refuse to fetch a set that exceeds the limits on size and number of files.

    Raises:
        UserError: naming the set and its size.
    """
    own = [size for name, size in sizes.items() if _of_set(name)]
    if sum(own) > limits.SET_BYTES or len(own) > MOST_FILES:
        raise UserError(
            f"{reference}: {counted(len(own), 'file')} of {size(sum(own))}, more than the {size(limits.SET_BYTES)} and"
            f" {MOST_FILES:,} files that are read of a set"
        )


def _lacking(folder: Path, sizes: Mapping[str, int]) -> list[str]:
    """The missing files of a cached set, by the Hub's list of files, or else by its manifest."""
    listed = strict_json.known(folder / MANIFEST, limits.JSON_BYTES).get("files")
    named = sizes or (listed if isinstance(listed, dict) else {})
    return [name for name in named if _of_set(name) and not (folder / name).is_file()]


def _manifest(api: Any, of: dict[str, str], revision: str | None, away: Exception | None) -> Path:
    """The manifest of a repo in the cache. It is fetched if the Hub can be asked.

    Raises:
        Exception: the reason why it cannot be fetched, if the cache has none.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(api.hf_hub_download(**of, filename=MANIFEST, revision=revision, local_files_only=away is not None))
    except LocalEntryNotFoundError:
        if away is None:
            raise
        raise away from None


def _offline() -> type[Exception]:
    """The exception of the client when HF_HUB_OFFLINE forbids requests."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return OfflineModeIsEnabled


def _commit_and_files(repo_id: str, revision: str | None) -> tuple[str | None, Mapping[str, int], Exception | None]:
    """The commit of a branch and its files; or the branch alone, with the reason why the Hub does not answer.

    Files are later requested by commit. A branch may move between two requests.
    """
    try:
        found = hub_client.describe(repo_id, revision, sizes=True, timeout=hub_client.PATIENCE)
        return found.commit, found.sizes, None
    except hub_faults.faults() as fault:
        return revision, {}, fault


def pin(repo_id: str, revision: str | None) -> str:
    """Pin a Hub dataset that is no ddhub artifact to a commit. A full commit id needs no request.

    If the Hub cannot be asked, the last known commit is taken and a message says so.

    Raises:
        UserError: for an artifact, or if no commit is known.
    """
    if revision is not None and hub_client.COMMIT.fullmatch(revision):
        return revision
    note = files.home() / "pins" / f"{files.digest([hub_client.client().endpoint, repo_id, revision])[:32]}.json"
    asked = f"{repo_id}@{revision}" if revision else repo_id
    with hub_client.errors(f"looking up {repo_id}", repo_id), _other_revisions(asked):
        try:
            found = hub_client.describe(repo_id, revision)
        except hub_faults.faults() as fault:
            known = strict_json.known(note).get("commit")
            if not isinstance(known, str) or not hub_client.COMMIT.fullmatch(known):
                raise
            say(f"{repo_id}: as last seen, at {known[:12]}; {hub_faults.why_cached(fault)}")
            return known
    if MANIFEST in found.sizes:
        raise UserError(f"{repo_id}: is a ddhub artifact, which names its source itself", next="leave --source out")
    files.write_json(note, {"repo": repo_id, "commit": found.commit})
    return found.commit


def fetch_folder(reference: str) -> Path:
    """The folder of a set. A Hub id is fetched first."""
    return fetch(reference).folder


def published(folder: Path) -> dict[str, Path]:
    """The files of a set that are published, by their path in the repo.

    Raises:
        UserError: for a link that leads out of the folder.
    """
    found = sorted(path for pattern in PUBLISHED for path in folder.glob(pattern) if path.is_file())
    for path in found:
        if links.leads_out(folder, path):  # a stranger's link could publish private files of the reader
            raise UserError(
                f"{path}: is a link that leads out of the folder; refused", next="put the file itself there"
            )
        if not redact.is_text(path.name):
            raise UserError(f"{path}: a name that is no text in UTF-8", next="rename it")
    return {path.relative_to(folder).as_posix(): path for path in found}
