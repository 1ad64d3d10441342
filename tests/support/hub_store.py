"""What a Hub keeps: accounts, datasets, commits, branches, tags, pull requests and files. There is no HTTP in here."""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import yaml

LFS_SUFFIXES = (
    ".arrow",
    ".bin",
    ".gz",
    ".jpg",
    ".npy",
    ".npz",
    ".parquet",
    ".png",
    ".pt",
    ".safetensors",
    ".tar",
    ".zip",
)
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
REGULAR_LIMIT = 10 * 2**20  # bytes; the Hub keeps no larger file in git itself
MAIN = "refs/heads/main"


class HubError(Exception):
    """An answer that is not 2xx: its status, the X-Error-Code that clients tell errors apart by, and the message."""

    def __init__(self, status: int, message: str, code: str | None = None, body: dict[str, Any] | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.body = {"error": message} | (body or {})
        self.headers: dict[str, str] = {}


@dataclass(frozen=True)
class Account:
    """Who a token speaks for, and whether it may write."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        return namespace in (self.name, *self.orgs)


@dataclass(frozen=True)
class Blob:
    """The content of a file, kept in git itself or, with `lfs`, beside it."""

    content: bytes = field(repr=False)
    lfs: bool = False
    xet_hash: str | None = None

    @property
    def size(self) -> int:
        return len(self.content)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """The small file that git keeps in place of an LFS file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def oid(self) -> str:
        """The id git gives to what it keeps."""
        kept = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    @property
    def etag(self) -> str:
        """What tells whether the content changed: clients name the file in their cache by it."""
        return self.sha256 if self.lfs else self.oid


def is_lfs(path: str, size: int, sample: bytes, limit: int = REGULAR_LIMIT) -> bool:
    """Whether a file goes beside git: by its name, by its size, or because it is not text."""
    return path.lower().endswith(LFS_SUFFIXES) or size > limit or b"\0" in sample


@dataclass(frozen=True)
class Commit:
    """All files of a dataset at one time."""

    id: str
    parent: "Commit | None"
    title: str
    message: str
    author: str
    date: datetime
    files: Mapping[str, Blob] = field(repr=False)

    def history(self) -> Iterator["Commit"]:
        """This commit and all before it, newest first."""
        commit: Commit | None = self
        while commit is not None:
            yield commit
            commit = commit.parent

    def missing(self) -> HubError:
        """What to raise when a path is not in here: clients remember for which commit that is so."""
        error = HubError(404, "Entry not found", "EntryNotFound")
        error.headers["X-Repo-Commit"] = self.id
        return error

    def file(self, path: str) -> Blob:
        """The file at a path.

        Raises:
            HubError: 404, EntryNotFound.
        """
        if path not in self.files:
            raise self.missing()
        return self.files[path]

    def folders(self) -> dict[str, str]:
        """Every folder and an id of what it holds."""
        content: dict[str, str] = {}
        for path, blob in sorted(self.files.items()):
            while "/" in path:
                path = path.rpartition("/")[0]
                content[path] = content.get(path, "") + blob.oid
        return {path: hashlib.sha1(oids.encode()).hexdigest() for path, oids in content.items()}


@dataclass
class Pull:
    """A pull request: its commits are under refs/pr/<num>."""

    num: int
    title: str
    author: str
    base: Commit
    created: datetime
    status: str = "open"
    merged_as: str | None = None

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


def edited(files: Mapping[str, Blob], changes: Mapping[str, Blob | None]) -> dict[str, Blob]:
    """The files after changes: a blob is written to its path, None deletes the path, or the folder if it ends in /."""
    result = dict(files)
    for path, blob in changes.items():
        if blob is not None:
            result[path] = blob
            continue
        gone = [name for name in result if name == path or (path.endswith("/") and name.startswith(path))]
        if not gone:
            raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        for name in gone:
            del result[name]
    return result


class Repo:
    """A dataset: its references and every commit that was ever made."""

    def __init__(self, id: str, private: bool = False, gated: str | bool = False):
        self.id, self.private, self.gated = id, private, gated
        self.namespace, self.name = id.split("/")
        self.granted: set[str] = set()  # who may download in spite of the gate
        self.commits: dict[str, Commit] = {}
        self.pulls: dict[int, Pull] = {}
        self.uploads: dict[str, Blob] = {}  # LFS files by sha256, in a commit or not
        self.refs: dict[str, Commit] = {}
        first = {".gitattributes": Blob(GITATTRIBUTES)}
        self.refs[MAIN] = self._record(None, first, "initial commit", "", self.namespace)

    def _record(self, parent: Commit | None, files: dict[str, Blob], title: str, message: str, author: str) -> Commit:
        """Make a commit that no reference points to yet."""
        tree = "".join(f"{path} {blob.oid}\n" for path, blob in sorted(files.items()))
        seed = f"{self.id} {len(self.commits)} {parent and parent.id} {title} {message} {author}\n{tree}"
        id = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[id] = Commit(id, parent, title, message, author, datetime.now(UTC), files)
        return self.commits[id]

    def ref(self, revision: str) -> str:
        """The full name of the reference that a revision names.

        Raises:
            HubError: 404, RevisionNotFound.
        """
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return name
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, refs/pr/<num> or the first seven or more digits of its id name.

        Raises:
            HubError: 404, RevisionNotFound.
        """
        if len(revision) >= 7:
            for id, commit in self.commits.items():
                if id.startswith(revision):
                    return commit
        return self.refs[self.ref(revision)]

    def commit(
        self,
        changes: Mapping[str, Blob | None],
        title: str,
        message: str = "",
        author: str | None = None,
        revision: str = "main",
        parent: str | None = None,
    ) -> Commit:
        """Commit changes (see `edited`) on a branch or a pull request.

        Args:
            parent: the id that the head must have, or its first digits.

        Raises:
            HubError: 404 no such branch or no such file to delete, 412 the head is another commit than `parent`.
        """
        ref = self.ref(revision)
        if ref.startswith("refs/tags/"):
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        self.refs[ref] = self._on_top(self.refs[ref], changes, title, message, author, parent)
        return self.refs[ref]

    def _on_top(self, head: Commit, changes, title, message, author, parent) -> Commit:
        """Make a commit after another that no reference points to yet."""
        if parent is not None and not head.id.startswith(parent.lower()):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        return self._record(head, edited(head.files, changes), title, message, author or self.namespace)

    def open_pull(
        self,
        changes: Mapping[str, Blob | None],
        title: str,
        message: str = "",
        author: str | None = None,
        revision: str = "main",
        parent: str | None = None,
    ) -> Pull:
        """Commit changes to a new pull request against a branch; without changes it starts empty."""
        base = self.resolve(revision)
        head = self._on_top(base, changes, title, message, author, parent) if changes else base
        num = len(self.pulls) + 1
        self.pulls[num] = Pull(num, title, author or self.namespace, base, datetime.now(UTC))
        self.refs[f"refs/pr/{num}"] = head
        return self.pulls[num]

    def merge(self, pull: Pull, author: str) -> Commit:
        """Bring a pull request's changes to main.

        Raises:
            HubError: 409 it is not open, or main has changed one of its files since.
        """
        if pull.status != "open":
            raise HubError(409, f"Pull request {pull.num} is {pull.status}")
        before, after, main = pull.base.files, self.refs[pull.ref].files, self.refs[MAIN].files
        paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        if any(main.get(path) != before.get(path) for path in paths):
            raise HubError(409, f"Pull request {pull.num} has conflicts")
        changes = {path: after.get(path) for path in paths}
        commit = self.commit(changes, f"{pull.title} (#{pull.num})", author=author)
        pull.status, pull.merged_as = "merged", commit.id
        return commit

    def blob(self, path: str, content: bytes) -> Blob:
        """The content as it would be kept under that path."""
        blob = Blob(content, lfs=is_lfs(path, len(content), content[:512]))
        if blob.lfs:
            self.uploads.setdefault(blob.sha256, blob)
        return self.uploads.get(blob.sha256, blob) if blob.lfs else blob


class Store:
    """All datasets and accounts, and who may do what."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}  # by token
        self.repos: dict[str, Repo] = {}

    def add_user(self, name: str, role: str = "write", orgs: tuple[str, ...] = ()) -> str:
        """Make an account, or one more token of it, and return the token."""
        token = f"hf_{secrets.token_hex(17)}"
        self.accounts[token] = Account(name, role, orgs)
        return token

    def account(self, token: str | None) -> Account | None:
        """Who a token belongs to; None without a token.

        Raises:
            HubError: 401, the token is nobody's.
        """
        if token is None:
            return None
        if token not in self.accounts:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.accounts[token]

    def create(self, id: str, private: bool = False, gated: str | bool = False) -> Repo:
        """Make a dataset with a first commit, as the Hub does.

        Raises:
            HubError: 409, it exists.
        """
        if id in self.repos:
            raise HubError(409, "You already created this dataset repo")
        self.repos[id] = Repo(id, private, gated)
        return self.repos[id]

    def visible(self, id: str, account: Account | None) -> Repo:
        """The dataset, for who may know that it exists.

        Raises:
            HubError: RepoNotFound; 401 for the nameless, 404 for the others.
        """
        repo = self.repos.get(id)
        if repo is None or (repo.private and not (account and account.owns(repo.namespace))):
            missing = (404, "Repository not found") if account else (401, "Invalid username or password.")
            raise HubError(*missing, code="RepoNotFound")
        return repo

    def readable(self, id: str, account: Account | None) -> Repo:
        """The dataset, for who may download its files.

        Raises:
            HubError: as `visible`; GatedRepo, 401 for the nameless and 403 for the others.
        """
        repo = self.visible(id, account)
        if repo.gated and not (account and (account.owns(repo.namespace) or account.name in repo.granted)):
            asked = "be authenticated" if account is None else "ask for access and be in the authorized list"
            message = f"Access to dataset {id} is restricted. You must {asked} to access it."
            raise HubError(403 if account else 401, message, "GatedRepo")
        return repo

    def writable(self, id: str, account: Account | None, pull: bool = False) -> Repo:
        """The dataset, for who may write to it; with `pull`, for who may open a pull request.

        Raises:
            HubError: as `visible`; 401 RepoNotFound for the nameless, 403 for the others.
        """
        repo = self.visible(id, account)
        # Over https clients take this answer for a missing repository by its address; over http they need the code.
        if account is None:
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        self.allow(account, account.name if pull else repo.namespace)
        return repo

    def allow(self, account: Account | None, namespace: str) -> Account:
        """Raise unless the account may write in a namespace.

        Raises:
            HubError: 401 for the nameless, 403 for the others.
        """
        if account is None:
            raise HubError(401, "Invalid username or password.")
        if account.role != "write" or not account.owns(namespace):
            raise HubError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')
        return account


def card(readme: bytes) -> Any:
    """The YAML that opens a README: None if there is none.

    Raises:
        yaml.YAMLError: it does not parse.
    """
    head, *rest = readme.decode(errors="replace").split("---\n", 2)
    return yaml.safe_load(rest[0]) if head.strip() == "" and len(rest) == 2 else None
