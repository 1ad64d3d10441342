"""Pushing: one commit brings a set to the Hub. If the answer is lost, ddhub finds out whether the commit landed."""

import contextlib
import hashlib
import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ddhub.artifact import manifest, read_back
from ddhub.artifact.file_names import MANIFEST, PAYLOAD
from ddhub.base import files, hub_client, hub_faults
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say, warn
from ddhub.base.units import counted, listed, size

OWN = ".gitattributes"  # a file that the Hub puts into every repo
LOOKED_AT = 20  # newest commits or pull requests that are searched for a lost one


@dataclass(frozen=True)
class Pushed:
    """The result of a push."""

    repo_id: str
    commit: str
    url: str
    changed: bool  # False if the Hub had exactly this content already
    pull_request: bool = False


@dataclass(frozen=True)
class _Repo:
    """The target repo as it was found."""

    api: Any
    name: str
    revision: str | None
    create_pr: bool
    made: bool  # whether this push created the repo
    public: bool
    head: str = ""
    there: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.api.endpoint}/datasets/{self.name}"


def push(
    contents: dict[str, Path | bytes],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
    make: bool = True,
) -> Pushed:
    """Make a Hub dataset repo hold exactly these files by one commit, and compare what it then serves.

    Args:
        contents: each file of the set, by its path in the repo.
        private: make a new repo private.
        revision: the branch to commit to, created if missing; None is `main`.
        create_pr: open a pull request with the commit.
        yes: allow to replace another set, or to delete files that are not in `contents`.
        make: create a missing repo.

    Raises:
        UserError: with the reason, and whether the commit landed.
    """
    if not hub_client.REPO_ID.fullmatch(repo_id):
        raise UserError(f"'{repo_id}': not a repo id; it reads OWNER/NAME", next="ddhub push FOLDER OWNER/NAME")
    hub_client.check_token()
    hub_client.check_online(f"pushing to {repo_id}")
    record = manifest.parse(_bytes(contents[MANIFEST]))
    repo = _found(repo_id, revision, create_pr, private, make)
    if repo.public and record.license == "unknown":
        warn(
            f"{repo_id}: is public, and the licence of the set's source is not known; the card says 'unknown'."
            " To name one, change publish.license in the recipe, and distill and push again: nothing is made anew"
        )
    wanted = {name: _Content(content) for name, content in contents.items()}
    hashes = {name: each.sha256 for name, each in wanted.items()}
    changed = [name for name, content in wanted.items() if not content.is_in(repo.there.get(name))]
    stale = [name for name in repo.there if name not in wanted and name != OWN]
    if not changed and not stale:
        say(f"{repo_id}: holds exactly this already, at {repo.head[:12]}; nothing to push")
        read_back.check(repo.api, repo_id, repo.head, hashes)
        return Pushed(repo_id, repo.head, repo.url, changed=False)
    if not yes:
        _refuse_to_replace(repo, stale, record)
    commit, pull_request = _proposed_before(repo, wanted, stale) or _commit(
        repo, wanted, stale, _title(record.name, changed, stale)
    )
    read_back.check(repo.api, repo_id, commit, hashes)
    return Pushed(repo_id, commit, pull_request or repo.url, True, pull_request is not None)


def _found(repo_id: str, revision: str | None, create_pr: bool, private: bool, make: bool) -> _Repo:
    """The repo and the branch. Missing ones are created, if that is allowed."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api, made = hub_client.client(), False
    with hub_client.errors(f"preparing {repo_id}", repo_id):
        try:
            info = hub_client.describe(repo_id)
        except RepositoryNotFoundError:
            if not make:
                raise _gone(repo_id) from None
            options = {"repo_type": "dataset", "private": private or None, "exist_ok": True}
            hub_client.retried(lambda: api.create_repo(repo_id, **options), f"making {repo_id}")
            info, made = hub_client.describe(repo_id), True
        repo = _Repo(api, repo_id, revision, create_pr, made, public=not info.private)
        if private and repo.public:
            raise UserError(
                f"{repo_id}: exists already and is public, so --private cannot hold",
                next=f"make it private at {repo.url}/settings, or choose another name",
            )
        try:
            head = hub_client.describe(repo_id, revision).commit
        except RevisionNotFoundError:
            if create_pr:
                raise
            api.create_branch(repo_id, branch=revision, repo_type="dataset", exist_ok=True)
            head = hub_client.describe(repo_id, revision).commit
        return replace(repo, head=head, there=_listing(repo, head))


def _gone(repo_id: str) -> UserError:
    return UserError(
        f"{repo_id}: no such dataset on the Hub that this token may see; it was deleted, renamed or made private, and"
        " is not made again",
        next=f"hf auth login; or ddhub push FOLDER {quoted(repo_id)} --private --yes, which makes it",
    )


def _listing(repo: _Repo, commit: str) -> dict[str, Any]:
    """The files of a repo at a commit, by path."""
    from huggingface_hub.hf_api import RepoFile

    entries = repo.api.list_repo_tree(repo.name, recursive=True, revision=commit, repo_type="dataset")
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


class _Content:
    """One file to push, with its hashes."""

    def __init__(self, content: Path | bytes) -> None:
        self.content = content
        self.bytes = content.stat().st_size if isinstance(content, Path) else len(content)
        self.sha256 = files.sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()

    def is_in(self, entry: Any) -> bool:
        """Whether a repo's entry is this file. LFS stores a sha256, git the hash of a header and the content."""
        if entry is None:
            return False
        if entry.lfs is not None:
            return bool(entry.lfs.sha256 == self.sha256)
        with self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content) as file:
            return bool(entry.blob_id == files.git_hash(file, self.bytes))

    def operand(self) -> str | bytes:
        """The content in the form that huggingface_hub takes."""
        return str(self.content) if isinstance(self.content, Path) else self.content


Wanted = Mapping[str, _Content]


def _holds(there: Mapping[str, Any], wanted: Wanted, stale: list[str]) -> bool:
    """Whether a listing shows exactly the files to push."""
    return all(each.is_in(there.get(name)) for name, each in wanted.items()) and not set(stale) & set(there)


def _refuse_to_replace(repo: _Repo, stale: list[str], record: manifest.Manifest) -> None:
    """Require `--yes` for a push that would delete files which somebody may need."""
    if not set(repo.there) - {OWN}:
        return
    why = None
    if MANIFEST not in repo.there:
        why = "holds other files already"
    elif _payload(repo) != manifest.identity(record.files):
        why = "holds another set already"
    elif stale:
        why = f"holds files that this folder lacks ({listed(stale, 3)})"
    if why:
        raise UserError(
            f"{repo.name}: {why}; nothing was pushed",
            next="the same command with --yes replaces them (they stay in the repo's history), or choose another name",
        )


def _payload(repo: _Repo) -> str | None:
    """The identity of the set in a repo; None if its manifest cannot be read."""
    with hub_client.errors(f"reading {repo.name}", repo.name):
        path = repo.api.hf_hub_download(repo.name, MANIFEST, revision=repo.head, repo_type="dataset")
    try:
        return manifest.identity(manifest.parse(Path(path).read_bytes()).files)
    except UserError:
        return None


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _title(name: str, changed: list[str], stale: list[str]) -> str:
    """The title of a commit: the set, the results or the card, and what changed."""
    payload = [each for each in changed if any(PurePosixPath(each).match(pattern) for pattern in PAYLOAD)]
    rows = [each for each in changed if each.startswith("evaluation/")]
    parts = ["set"] if payload else []
    parts += [counted(len(rows), "result")] if rows else []
    parts += ["card"] if len(changed) > len(payload) + len(rows) else []
    parts += [f"{counted(len(stale), 'file')} less"] if stale else []
    return f"{name}: {', '.join(parts)}"


def _commit(repo: _Repo, wanted: Wanted, stale: list[str], title: str) -> tuple[str, str | None]:
    """Make one commit on the repo's head. Return its id and, if there is one, the pull request's URL."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    total = sum(content.bytes for content in wanted.values())
    say(f"{repo.name}: pushing {len(wanted)} files, {size(total)}, in one commit")
    operations: list[Any] = [CommitOperationAdd(name, content.operand()) for name, content in wanted.items()]
    operations += [CommitOperationDelete(name) for name in stale]
    options = {
        "repo_type": "dataset",
        "revision": repo.revision,
        "commit_message": title,
        "parent_commit": repo.head,
        "create_pr": repo.create_pr or None,
    }
    refused = False
    try:
        with hub_client.errors(f"pushing to {repo.name}", repo.name):
            try:
                done = hub_client.retried(
                    lambda: repo.api.create_commit(repo.name, operations, **options), f"pushing to {repo.name}"
                )
            except Exception as fault:
                refused = hub_faults.refused(fault)
                raise
        return str(done.oid), done.pr_url
    except UserError as fault:
        return _after(fault, repo, wanted, stale, refused)


def _after(fault: UserError, repo: _Repo, wanted: Wanted, stale: list[str], refused: bool) -> tuple[str, str | None]:
    """The commit, if it landed although the answer was lost.

    Raises:
        UserError: saying that it did not land, or that its fate is unknown.
    """
    message = fault.args[0]
    found = None
    try:
        if not refused:
            found = _landed(repo, wanted, stale)
    except UserError as blind:
        raise UserError(
            f"{message}; whether the commit landed is not known: {blind.args[0]}",
            next="the same command again tells; it pushes nothing twice",
        ) from fault
    if found is not None:
        say(f"{repo.name}: the answer was lost, but the {'pull request' if repo.create_pr else 'commit'} is there")
        return found
    if repo.create_pr:
        left = "no pull request was opened"
    elif repo.made:
        left = f"{repo.name} was made just now, and holds no set yet"
    else:
        left = f"{repo.name} is as it was" if not refused else "nothing was pushed"
    raise UserError(f"{message}; {left}", next=fault.next) from fault


def _landed(repo: _Repo, wanted: Wanted, stale: list[str]) -> tuple[str, str | None] | None:
    """The commit with the pushed content and its pull request's URL; None if there is none.

    Raises:
        UserError: if the Hub does not answer.
    """
    if repo.create_pr:
        return _proposal(repo, wanted, stale)
    with hub_client.errors(f"looking at {repo.name}", repo.name):
        newest = repo.api.list_repo_commits(repo.name, repo_type="dataset", revision=repo.revision)
        for commit in itertools.islice(newest, LOOKED_AT):  # later commits may follow it
            if commit.commit_id == repo.head:
                return None
            if _holds(_listing(repo, commit.commit_id), wanted, stale):
                return commit.commit_id, None
    return None


def _proposal(repo: _Repo, wanted: Wanted, stale: list[str]) -> tuple[str, str | None] | None:
    """The open pull request with exactly this content: its commit and URL."""
    with hub_client.errors(f"looking at the pull requests of {repo.name}", repo.name):
        asked = {"discussion_type": "pull_request", "discussion_status": "open"}
        listed = repo.api.get_repo_discussions(repo.name, repo_type="dataset", **asked)
        open_ones = (each for each in listed if each.is_pull_request and each.status == "open")
        newest = sorted(open_ones, key=lambda each: each.num, reverse=True)[:LOOKED_AT]
        for each in newest:
            reference = f"refs/pr/{each.num}"
            if _holds(_listing(repo, reference), wanted, stale):
                commit = hub_client.describe(repo.name, reference).commit
                return commit, f"{repo.url}/discussions/{each.num}"
    return None


def _proposed_before(repo: _Repo, wanted: Wanted, stale: list[str]) -> tuple[str, str | None] | None:
    """The pull request of an earlier push of the same content. A second one would be a duplicate."""
    if not repo.create_pr:
        return None
    found = None
    with contextlib.suppress(UserError):  # a Hub that cannot list them may still accept one
        found = _proposal(repo, wanted, stale)
    if found is not None:
        say(f"{repo.name}: {found[1]} proposes exactly this already")
    return found
