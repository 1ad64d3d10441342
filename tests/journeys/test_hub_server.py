"""The Hub of the tests is one to the real clients: what they send, get back and keep against it."""

import hashlib
import http.client
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hub_client import in_client
from hub_server import HubServer

CARD = b"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n# Numbers\n"


def parquet(rows: int) -> bytes:
    """A table of numbers, as the file that datasets reads."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"x": list(range(rows))}), file)
    return file.getvalue()


TRAIN = parquet(1000)
LOAD = "data/train-00000-of-00001.parquet"


def upload(files: dict[str, str], repo: str = "alice/set", again: bool = True) -> list[str]:
    """Create a private dataset and commit files (hex) to it, twice; the two commit ids."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo, repo_type="dataset", private=True)
    api.create_repo(repo, repo_type="dataset", exist_ok=True)

    def commit() -> str:
        added = [CommitOperationAdd(path, bytes.fromhex(content)) for path, content in files.items()]
        return api.create_commit(repo, added, repo_type="dataset", commit_message="first", commit_description="why").oid

    return [commit() for _ in range(1 + again)]


def snapshot(repo: str = "alice/set", revision: str | None = None) -> dict[str, str]:
    """Download all files of a dataset: path -> content (hex)."""
    from pathlib import Path

    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repo, repo_type="dataset", revision=revision))
    return {str(path.relative_to(folder)): path.read_bytes().hex() for path in folder.rglob("*") if path.is_file()}


def hexed(files: dict[str, bytes]) -> dict[str, str]:
    return {path: content.hex() for path, content in files.items()}


def test_what_is_uploaded_is_kept_served_and_not_committed_twice(tmp_path):
    """A card, a small text, an empty file and parquet, which alone goes beside git."""
    files = {"README.md": CARD, "notes.txt": b"two words", "empty": b"", LOAD: TRAIN}
    with HubServer(tmp_path, cdn=True) as hub:
        token = hub.add_user("alice")
        first, second = in_client(upload, hub, token, files=hexed(files))
        assert first == second == hub.commits("alice/set")[0].id
        assert [(made.title, made.message) for made in hub.commits("alice/set")] == [
            ("first", "why"),
            ("initial commit", ""),
        ]
        assert len(hub.seen("commit")) == len(hub.seen("lfs-put")) == 1
        kept = hub.files("alice/set")
        assert kept.pop(".gitattributes")
        assert kept == files
        served = in_client(snapshot, hub, token)
        assert {path: bytes.fromhex(content) for path, content in served.items()} == hub.files("alice/set")
        assert not hub.seen("unknown")
        # The token stays here, though LFS files are put to and fetched from another origin.
        elsewhere = [each for each in hub.requests if each.origin != hub.url]
        assert [(each.kind, each.authorized) for each in elsewhere] == [("lfs-put", False), ("lfs-get", False)]
        assert hub.seen("resolve") and all(each.authorized for each in hub.seen("resolve"))


def references() -> dict[str, Any]:
    """Branch, tag, pull request: make, list, merge and delete them."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api, of = HfApi(), {"repo_id": "alice/set", "repo_type": "dataset"}
    api.create_tag(**of, tag="v1")
    api.create_tag(**of, tag="v1", exist_ok=True)
    api.create_branch(**of, branch="topic/1")

    def commit(title: str, **options):
        changed = [CommitOperationAdd("b.txt", b"b"), CommitOperationDelete("old/")]
        return api.create_commit(**of, operations=changed, commit_message=title, **options)

    on_branch = commit("on a branch", revision="topic/1")
    proposed = commit("proposed", create_pr=True)
    before = api.list_repo_refs(**of, include_pull_requests=True)
    on_main = [api.list_repo_files(**of), api.list_repo_files(**of, revision="refs/pr/1")]
    opened = api.get_discussion_details(**of, discussion_num=proposed.pr_num).status
    api.merge_pull_request(**of, discussion_num=proposed.pr_num)
    try:
        api.delete_branch(**of, branch="main")
    except HfHubHTTPError as error:
        protected = error.response.status_code
    api.delete_branch(**of, branch="topic/1")
    api.delete_tag(**of, tag="v1")
    after = api.list_repo_refs(**of)
    return {
        "branch": on_branch.oid,
        "pull": [proposed.pr_revision, proposed.oid, opened],
        "refs": {ref.ref: ref.target_commit for ref in before.branches + before.tags + before.pull_requests},
        "files": on_main,
        "protected": protected,
        "left": [ref.name for ref in after.branches + after.tags],
        "titles": [commit.title for commit in api.list_repo_commits(**of)],
        "listed": [entry.path for entry in api.list_repo_tree(**of, recursive=True)],
    }


def test_branches_tags_and_pull_requests_are_references_to_commits(hub):
    """A pull request is a commit beside main until it is merged; listings come in pages."""
    hub.create_repo("alice/set")
    head = hub.commit("alice/set", {"a.txt": b"a", "old/one.txt": b"1", "old/two.txt": b"2"})
    hub.page_size = 2
    told = in_client(references, hub, hub.add_user("alice"))
    name, commit, opened = told["pull"]
    assert (name, opened) == ("refs/pr/1", "open")
    assert told["refs"] == {
        "refs/heads/main": head,
        "refs/heads/topic/1": told["branch"],
        "refs/tags/v1": head,
        "refs/pr/1": commit,
    }
    assert told["files"] == [
        [".gitattributes", "a.txt", "old/one.txt", "old/two.txt"],
        [".gitattributes", "a.txt", "b.txt"],
    ]
    assert told["listed"] == [".gitattributes", "a.txt", "b.txt"]
    assert told["titles"] == ["proposed (#1)", "a commit by someone else", "initial commit"]
    assert (told["protected"], told["left"]) == (403, ["main"])


def load(commit: str) -> list[Any]:
    """Load a dataset whole, by tag, by commit and as a stream; count and sum its rows."""
    from datasets import load_dataset

    found = [load_dataset("alice/set", split="train", revision=revision) for revision in (None, "v1", commit)]
    stream = load_dataset("alice/set", split="train", streaming=True)
    return [[len(rows), sum(rows["x"])] for rows in found] + [sum(row["x"] for row in stream)]


def test_load_dataset_reads_what_a_revision_holds(hub):
    """By name, tag and commit, and by ranges when streaming."""
    hub.create_repo("alice/set", private=True)
    old = hub.commit("alice/set", {"README.md": CARD, LOAD: TRAIN})
    hub.repo("alice/set").refs["refs/tags/v1"] = hub.commits("alice/set")[0]
    hub.commit("alice/set", {LOAD: parquet(10)})
    old_rows, new_rows = [1000, sum(range(1000))], [10, sum(range(10))]
    assert in_client(load, hub, hub.add_user("alice"), commit=old) == [new_rows, old_rows, old_rows, new_rows[1]]
    assert any(each.status == 206 for each in hub.seen("resolve", "GET"))
    assert not hub.seen("unknown")


def test_the_command_line_client_uploads_and_downloads(hub, tmp_path):
    """`hf upload` and `hf download`, byte for byte."""
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "train.parquet").write_bytes(TRAIN)
    env = hub.client_env(tmp_path / "home", hub.add_user("alice"))
    for verb, *rest in (("upload", str(tmp_path / "up")), ("download", "--local-dir", str(tmp_path / "down"))):
        command = [sys.executable, "-m", "huggingface_hub.cli.hf", verb, "alice/set", *rest, "--repo-type", "dataset"]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "down" / "train.parquet").read_bytes() == TRAIN


def attempts(tokens: dict[str, str]) -> dict[str, list[str]]:
    """What each token is refused, as exception and status."""
    import tempfile

    from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    def outcome(call, *arguments, **options):
        try:
            call(*arguments, repo_type="dataset", **options)
        except HfHubHTTPError as error:
            return f"{type(error).__name__} {error.response.status_code}"
        return "allowed"

    def commit(api, path, **options):
        api.create_commit("alice/open", [CommitOperationAdd(path, b"hello")], commit_message="mine", **options)

    told = {}
    for who, token in tokens.items():
        api = HfApi(token=token or False)
        told[who] = [
            outcome(api.repo_info, "alice/open"),
            outcome(api.repo_info, "alice/closed"),
            # With a cache of its own: a client that is refused takes what is cached, and says nothing.
            outcome(hf_hub_download, "alice/gated", "a.txt", token=token or False, cache_dir=tempfile.mkdtemp()),
            outcome(api.create_repo, f"alice/by-{who}"),
            outcome(commit, api, f"{who}.txt"),
            outcome(commit, api, f"by-{who}.txt", create_pr=True),
        ]
    return told


def test_a_token_opens_what_is_its_owners(hub):
    """Reading public, private and gated datasets; creating; committing; proposing."""
    for name, options in {"open": {}, "closed": {"private": True}, "gated": {"gated": "auto"}}.items():
        hub.create_repo(f"alice/{name}", **options)
        hub.commit(f"alice/{name}", {"a.txt": b"a"})
    tokens = {
        "owner": hub.add_user("alice"),
        "reader": hub.add_user("alice", role="read"),
        "other": hub.add_user("bob"),
        "stranger": "hf_wrong",
        "nobody": "",
    }
    wrong = "HfHubHTTPError 401"
    assert in_client(attempts, hub, tokens=tokens) == {
        "owner": ["allowed"] * 6,
        "reader": ["allowed"] * 3 + ["HfHubHTTPError 403"] * 3,
        "other": [
            "allowed",
            "RepositoryNotFoundError 404",
            "GatedRepoError 403",
            "HfHubHTTPError 403",
            "HfHubHTTPError 403",
            "allowed",
        ],
        "stranger": [wrong] * 6,
        "nobody": [
            "allowed",
            "RepositoryNotFoundError 401",
            "GatedRepoError 401",
            wrong,
            "RepositoryNotFoundError 401",
            "RepositoryNotFoundError 401",
        ],
    }


def test_xet_carries_files_both_ways(tmp_path):
    """The bytes never pass through the Hub; who has no xet gets them from it all the same."""
    with HubServer(tmp_path, xet=True) as hub:
        token = hub.add_user("alice")
        in_client(upload, hub, token, xet=True, files=hexed({LOAD: TRAIN}))
        assert hub.files("alice/set")[LOAD] == TRAIN
        assert hub.seen("xet-write-token") and not hub.seen("lfs-batch")
        assert in_client(snapshot, hub, token, xet=True)[LOAD] == TRAIN.hex()
        assert hub.seen("xet-read-token")
        assert not [each for each in hub.seen("resolve", "GET") if each.path.endswith(".parquet")]
        assert in_client(snapshot, hub, token, home=str(tmp_path / "plain"))[LOAD] == TRAIN.hex()


def ask(url: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """A request without a client library: status, headers, body."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize(
    ("asked", "status", "part", "range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=6-", 206, b"6789", "bytes 6-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
    ],
)
def test_a_range_is_answered_with_that_part(hub, asked, status, part, range):
    """From the start, to the end, from the end, beyond it."""
    hub.create_repo("alice/set")
    hub.commit("alice/set", {"digits.txt": b"0123456789"})
    answered, headers, body = ask(f"{hub.url}/datasets/alice/set/resolve/main/digits.txt", Range=asked)
    assert (answered, body, headers["Content-Range"]) == (status, part, range)


def test_an_upload_that_is_not_what_it_says_is_refused(hub):
    """Wrong bytes at the upload, wrong size at the check, and a commit of what was never uploaded."""
    hub.create_repo("alice/set")
    key = {"Authorization": f"Bearer {hub.add_user('alice')}"}
    git, api = f"{hub.url}/datasets/alice/set.git/info/lfs", f"{hub.url}/api/datasets/alice/set"
    oid = hashlib.sha256(b"right").hexdigest()
    _, _, batch = ask(f"{git}/objects/batch", "POST", {"objects": [{"oid": oid, "size": 5}]}, **key)
    actions = json.loads(batch)["objects"][0]["actions"]
    line = {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": oid, "size": 5}}
    lines = b"\n".join(json.dumps(each).encode() for each in ({"key": "header", "value": {"summary": "x"}}, line))
    assert ask(actions["upload"]["href"], "PUT", b"wrong")[0] == 400
    assert ask(f"{api}/commit/main", "POST", lines, **key)[0] == 400
    assert ask(actions["upload"]["href"], "PUT", b"right")[0] == 200
    assert ask(actions["verify"]["href"], "POST", {"oid": oid, "size": 6}, **key)[0] == 422
    assert ask(f"{api}/commit/main", "POST", lines, **key)[0] == 200
    assert hub.files("alice/set")["a.bin"] == b"right"


@pytest.mark.parametrize(
    ("readme", "status", "said"),
    [
        ("---\nlicense: mit\n---\ntext", 200, ""),
        ("text without metadata", 200, "empty or missing yaml metadata"),
        ("---\n- mit\n---\n", 400, "must be a mapping"),
        ("---\nlicense: [mit\n---\n", 400, "expected ',' or ']'"),
    ],
)
def test_metadata_of_a_card_is_checked(hub, readme, status, said):
    """Bad YAML is an error, none at all a warning."""
    answered, _, body = ask(f"{hub.url}/api/validate-yaml", "POST", {"content": readme, "repoType": "dataset"})
    found = [each["message"] for each in json.loads(body)["errors"] + json.loads(body)["warnings"]]
    assert answered == status
    assert said in "".join(found) and bool(found) == bool(said)


def test_after_the_end_nothing_answers(tmp_path):
    """Not even on a connection that was kept open."""
    with HubServer(tmp_path) as hub:
        hub.create_repo("alice/set")
        kept = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=10)
        kept.request("GET", "/api/datasets/alice/set")
        assert kept.getresponse().read()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        kept.request("GET", "/api/datasets/alice/set")
        kept.getresponse()
    with pytest.raises(urllib.error.URLError):
        ask(f"{hub.url}/api/datasets/alice/set")
