"""The Hub: sets fetched by id, pinned to one commit, and pushed whole in one commit or not at all."""

import contextlib
import hashlib
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddhub.artifact import manifest
from ddhub.artifact.file_names import MANIFEST, PUBLISHED
from ddhub.base import files, hub_client, redact
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn
from ddhub.base.schema import did_you_mean
from ddhub.base.units import size

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class SetPlace:
    """Where a set lies: a folder of the user's, or a read-only copy of a Hub repo at one commit."""

    folder: Path
    repo_id: str | None = None
    commit: str | None = None

    @property
    def name(self) -> str:
        """What people call it: the folder, or `owner/name@commit`."""
        return f"{self.repo_id}@{self.commit}" if self.repo_id else str(self.folder)


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    repo_id: str
    commit: str
    url: str
    changed: bool  # False: the Hub held exactly this already
    pull_request: bool = False


def fetch(reference: str) -> SetPlace:
    """The place of a set: a folder as it is, a Hub id (`owner/name` or `owner/name@revision`) fetched into the cache.

    The revision is resolved once; everything is read at that commit. A set that was fetched before is found offline.

    Raises:
        UserError: when it is neither, or the Hub does not give it.
    """
    if not hub_client.is_id(reference):
        if not Path(reference).is_dir():
            if reference in files.shipped_recipes():
                raise UserError(f"{reference}: a recipe, not a set", next=f"ddhub distill {reference}")
            raise UserError(f"{reference}: no such folder", next="a folder, or the id of a Hub dataset, owner/name")
        return SetPlace(Path(reference))
    _hint(Path(reference))
    repo_id, _, revision = reference.partition("@")
    api = hub_client.client()
    with hub_client.errors(f"fetching {reference}", repo_id):
        # A file that is asked for by its branch can be another commit's by the time that it is sent.
        pinned = None if COMMIT.fullmatch(revision) else _commit_of(api, repo_id, revision or None)
        asked = pinned or revision or None
        found = Path(api.hf_hub_download(repo_id, MANIFEST, repo_type="dataset", revision=asked))
        commit = found.parent.name  # the cache keeps every commit in a folder of its name
        folder = api.snapshot_download(repo_id, repo_type="dataset", revision=commit, allow_patterns=list(PUBLISHED))
    if pinned is not None:  # so that the cache knows offline what the branch was
        files.write_bytes(found.parent.parent.parent / "refs" / (revision or "main"), commit.encode())
    return SetPlace(Path(folder), repo_id, commit)


def _hint(path: Path) -> None:
    """Say before the Hub is asked, which takes its time, that an id may be a path misspelt."""
    beside = [found.parent.name for found in path.parent.glob("*/ddhub.json")]
    if beside:
        warn(f"{path}: no such folder here{did_you_mean(path.name, beside).removesuffix('?')}; asking the Hub")


def _commit_of(api: Any, repo_id: str, revision: str | None) -> str | None:
    """The commit that a branch is at, or None where the Hub does not say; the cache may know."""
    with contextlib.suppress(*hub_client.faults()):
        return str(api.dataset_info(repo_id, revision=revision).sha)
    return None


def pin(repo_id: str, revision: str | None) -> str:
    """The commit of a Hub dataset that is no ddhub artifact; one given in full is taken as it is, also offline.

    Raises:
        UserError: for an artifact, or where the Hub does not answer for it.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    with hub_client.errors(f"looking up {repo_id}", repo_id):
        found = hub_client.client().dataset_info(repo_id, revision=revision)
    if any(entry.rfilename == MANIFEST for entry in found.siblings or ()):
        raise UserError(f"{repo_id}: is a ddhub artifact, which names its source itself", next="leave --source out")
    return str(found.sha)


def fetch_folder(reference: str) -> Path:
    """The folder of a set, fetched where `reference` is a Hub id."""
    return fetch(reference).folder


def published(folder: Path) -> dict[str, Path]:
    """The files of a set that a repo holds, by their path in it.

    Raises:
        UserError: for one that is a link to somewhere else.
    """
    found = sorted(path for pattern in PUBLISHED for path in folder.glob(pattern) if path.is_file())
    for path in found:
        if files.leads_out(folder, path):  # a stranger's folder could make its reader publish anything
            raise UserError(
                f"{path}: is a link that leads out of the folder; refused", next="put the file itself there"
            )
        if not redact.is_text(path.name):
            raise UserError(f"{path}: a name that is no text in UTF-8", next="rename it")
    return {path.relative_to(folder).as_posix(): path for path in found}


def push(
    contents: dict[str, Path | bytes],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> Pushed:
    """Make a Hub dataset repo hold exactly these files, by one commit, and read back what it then serves.

    Args:
        contents: every file of the set, by its path in the repo.
        private: make the repo private, where it is made here.
        revision: the branch to commit to, made where it is missing; None is `main`.
        create_pr: propose the commit as a pull request instead.
        yes: replace another set, or delete files that are not in `contents`.

    Raises:
        UserError: with the reason in one sentence; the repo then holds the old revision or the new one, whole.
    """
    _check_id(repo_id)
    hub_client.check_token()
    api = hub_client.client()
    with hub_client.errors(f"preparing {repo_id}", repo_id):
        _prepare(api, repo_id, private, None if create_pr else revision)
        head = str(api.dataset_info(repo_id, revision=revision).sha)
        there = _listing(api, repo_id, head)
    wanted = {name: _Content(content) for name, content in contents.items()}
    changed = [name for name, content in wanted.items() if name not in there or not content.is_in(there[name])]
    stale = [name for name in there if name not in wanted and name != ".gitattributes"]
    if not changed and not stale:
        say(f"{repo_id}: holds exactly this already, at {head[:12]}; nothing to push")
        return Pushed(repo_id, head, _url(api, repo_id), changed=False)
    if not yes:
        _refuse_to_replace(api, repo_id, head, there, stale, contents)
    commit, pull_request = _commit(api, repo_id, wanted, stale, head, revision, create_pr)
    _read_back(api, repo_id, commit, wanted)
    return Pushed(repo_id, commit, pull_request or _url(api, repo_id), True, pull_request is not None)


def _check_id(repo_id: str) -> None:
    if not hub_client.REPO_ID.fullmatch(repo_id):
        raise UserError(f"'{repo_id}': not a repo id; it reads OWNER/NAME", next="ddhub push FOLDER OWNER/NAME")


def _prepare(api: Any, repo_id: str, private: bool, branch: str | None) -> None:
    """Make the repo and the branch where they are missing."""
    from huggingface_hub.errors import RevisionNotFoundError

    api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
    if private and not api.dataset_info(repo_id).private:
        raise UserError(
            f"{repo_id}: exists already and is public, so --private cannot hold",
            next=f"make it private at {_url(api, repo_id)}/settings, or choose another name",
        )
    if branch is not None:
        try:
            api.dataset_info(repo_id, revision=branch)
        except RevisionNotFoundError:
            api.create_branch(repo_id, branch=branch, repo_type="dataset", exist_ok=True)


def _listing(api: Any, repo_id: str, commit: str) -> dict[str, Any]:
    """The files of a repo at one commit, by path."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(repo_id, recursive=True, revision=commit, repo_type="dataset")
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


class _Content:
    """One file to be pushed, with its hashes."""

    def __init__(self, content: Path | bytes) -> None:
        self.content = content
        self.bytes = content.stat().st_size if isinstance(content, Path) else len(content)
        self.sha256 = files.sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()

    def is_in(self, entry: Any) -> bool:
        """Whether a repo's entry is this file: LFS keeps a sha256, git the hash of a header and the content."""
        if entry.lfs is not None:
            return bool(entry.lfs.sha256 == self.sha256)
        return bool(entry.blob_id == self._git_hash())

    def _git_hash(self) -> str:
        state = hashlib.sha1(f"blob {self.bytes}\0".encode())
        with self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content) as file:
            while block := file.read(1 << 20):
                state.update(block)
        return state.hexdigest()

    def operand(self) -> str | bytes:
        """As huggingface_hub takes it."""
        return str(self.content) if isinstance(self.content, Path) else self.content


def _refuse_to_replace(
    api: Any, repo_id: str, head: str, there: dict[str, Any], stale: list[str], contents: dict[str, Path | bytes]
) -> None:
    """Ask for `--yes` where a push would take away what somebody may still want."""
    if not set(there) - {".gitattributes"}:
        return
    why = None
    if MANIFEST not in there:
        why = "holds other files already"
    elif _payload(api, repo_id, head) != manifest.identity(manifest.parse(_bytes(contents[MANIFEST])).files):
        why = "holds another set already"
    elif stale:
        why = f"holds files that this folder lacks ({', '.join(stale[:3])}{', ...' if len(stale) > 3 else ''})"
    if why:
        raise UserError(
            f"{repo_id}: {why}; nothing was pushed",
            next="the same command with --yes replaces them (they stay in the repo's history), or choose another name",
        )


def _payload(api: Any, repo_id: str, commit: str) -> str | None:
    """The identity of the set that a repo holds, or None where its manifest cannot be read."""
    with hub_client.errors(f"reading {repo_id}", repo_id):
        path = api.hf_hub_download(repo_id, MANIFEST, revision=commit, repo_type="dataset")
    try:
        return manifest.identity(manifest.parse(Path(path).read_bytes()).files)
    except UserError:
        return None


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _commit(
    api: Any,
    repo_id: str,
    wanted: dict[str, _Content],
    stale: list[str],
    head: str,
    revision: str | None,
    create_pr: bool,
) -> tuple[str, str | None]:
    """One commit on top of `head`: its id, and the pull request's URL where one was made."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    total = sum(content.bytes for content in wanted.values())
    say(f"{repo_id}: pushing {len(wanted)} files, {size(total)}, in one commit")
    operations: list[Any] = [CommitOperationAdd(name, content.operand()) for name, content in wanted.items()]
    operations += [CommitOperationDelete(name) for name in stale]
    try:
        with hub_client.errors(f"pushing to {repo_id}", repo_id):
            done = api.create_commit(
                repo_id,
                operations,
                repo_type="dataset",
                revision=revision,
                commit_message="Distilled set, by ddhub",
                parent_commit=head,
                create_pr=create_pr or None,
            )
        return str(done.oid), done.pr_url
    except UserError as fault:
        # An answer that was lost says nothing of the commit: look whether it took effect.
        landed = None if create_pr else _landed(api, repo_id, revision, wanted, stale)
        if landed is None:
            raise UserError(f"{fault.args[0]}; {repo_id} is as it was", next=fault.next) from fault
        say(f"{repo_id}: the answer was lost, but the commit is there")
        return landed, None


def _landed(api: Any, repo_id: str, revision: str | None, wanted: dict[str, _Content], stale: list[str]) -> str | None:
    """The branch's commit if it holds what was pushed."""
    with contextlib.suppress(UserError), hub_client.errors("", repo_id):
        head = str(api.dataset_info(repo_id, revision=revision).sha)
        there = _listing(api, repo_id, head)
        if all(name in there and content.is_in(there[name]) for name, content in wanted.items()):
            return None if set(stale) & set(there) else head
    return None


def _read_back(api: Any, repo_id: str, commit: str, wanted: dict[str, _Content]) -> None:
    """Download every file at the new commit, past all caches, and compare."""
    say(f"{repo_id}: reading back what the Hub serves at {commit[:12]}")
    for name, content in wanted.items():
        with tempfile.TemporaryDirectory(prefix="ddhub-") as folder:
            with hub_client.errors(f"{repo_id}: published at {commit}, but reading {name} back", repo_id):
                path = api.hf_hub_download(repo_id, name, revision=commit, repo_type="dataset", local_dir=folder)
            if files.sha256(Path(path)) != content.sha256:
                raise UserError(
                    f"{repo_id}: published at {commit}, but the Hub serves other bytes for {name}",
                    next=f"ddhub verify {repo_id}@{commit}",
                )


def _url(api: Any, repo_id: str) -> str:
    return f"{api.endpoint}/datasets/{repo_id}"
