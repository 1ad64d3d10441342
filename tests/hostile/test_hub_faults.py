"""How the real clients end when the Hub of the tests lets something go wrong."""

import hashlib
import math
from typing import Any

from hub_client import in_client
from hub_server import Corrupt, Cut, Drop, HubServer, Slow, Status

PATH, CONTENT = "data/train.parquet", bytes(range(256)) * 8


def send_folder(parts: list[str]) -> str:
    """Upload a folder of files with these contents (hex): how that ends."""
    import tempfile
    from pathlib import Path

    from huggingface_hub import HfApi

    folder = Path(tempfile.mkdtemp())
    for number, content in enumerate(parts):
        (folder / f"{number}.bin").write_bytes(bytes.fromhex(content))
    try:
        HfApi().upload_folder(repo_id="alice/set", folder_path=folder, repo_type="dataset")
    except Exception as error:
        return type(error).__name__
    return "done"


def test_a_folder_sent_by_xet_is_committed_again_when_the_answer_is_lost(tmp_path):
    """The client cannot know, and this call of its retries; where xet is not offered it gives up."""
    with HubServer(tmp_path, xet=True) as hub:
        hub.create_repo("alice/set")
        hub.fail("commit", Drop(done=True))
        assert in_client(send_folder, hub, hub.add_user("alice"), xet=True, parts=[CONTENT.hex()]) == "done"
        first, second = hub.commits("alice/set")[1::-1]
        assert first.files == second.files and first.files["0.bin"].content == CONTENT
    with HubServer(tmp_path / "plain") as hub:
        hub.create_repo("alice/set")
        assert in_client(send_folder, hub, hub.add_user("alice"), xet=True, parts=[CONTENT.hex()]) == "ConnectionError"
        assert not hub.seen("lfs-batch") and not hub.seen("commit")


def outcomes(cases: list[str], fetch: str) -> list[list[Any]]:
    """For each case an action on a dataset of its own: how it ended, and the waits that were left out."""
    import time

    from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download

    api, waits, told = HfApi(), [], []
    time.sleep = waits.append

    def commit(repo):
        added = [CommitOperationAdd("b.bin", b"\0" * 1000), CommitOperationAdd("README.md", b"---\na: 1\n---\n")]
        api.create_commit(repo, added, repo_type="dataset", commit_message="mine")

    actions = {
        "commit": commit,
        "whoami": lambda repo: api.whoami(),
        "create": lambda repo: api.create_repo(f"{repo}-new", repo_type="dataset"),
        "download": lambda repo: hf_hub_download(repo, fetch, repo_type="dataset"),
        "snapshot": lambda repo: snapshot_download(repo, repo_type="dataset"),
    }
    for number, case in enumerate(cases):
        waits.clear()
        try:
            actions[case](f"alice/case-{number:02}")
            end = "done"
        except Exception as error:
            end = type(error).__name__
        told.append([end, [wait for wait in waits if wait >= 1]])
    return told


BACKOFF = [1, 2, 4, 8, 8]
# action, kind of request, fault, options, how the client ends, its waits in seconds, commits that were made
FAULTS = [
    ("whoami", "whoami", Status(503), {}, "HfHubHTTPError", [], 0),
    ("create", "create", Status(429, retry_after=3), {}, "HfHubHTTPError", [], 0),
    ("commit", "validate-yaml", Status(503), {}, "HfHubHTTPError", [], 0),
    ("commit", "preupload", Status(403), {}, "HfHubHTTPError", [], 0),
    ("commit", "preupload", Status(404, code="RepoNotFound"), {}, "RepositoryNotFoundError", [], 0),
    ("commit", "preupload", Status(429, retry_after=3), {}, "done", [4], 1),
    ("commit", "preupload", Status(500), {"times": 2}, "done", [1, 2], 1),
    ("commit", "preupload", Status(503), {"times": math.inf}, "HfHubHTTPError", BACKOFF, 0),
    ("commit", "preupload", Drop(), {"times": math.inf}, "RemoteProtocolError", BACKOFF, 0),
    ("commit", "preupload", Corrupt(), {}, "UnicodeDecodeError", [], 0),
    ("commit", "lfs-batch", Cut(), {}, "done", [1], 1),
    ("commit", "lfs-put", Drop(), {}, "done", [1], 1),
    ("commit", "lfs-put", Status(403), {}, "RuntimeError", [], 0),
    ("commit", "lfs-verify", Status(404), {}, "RuntimeError", [], 0),
    ("commit", "commit", Status(409), {}, "HfHubHTTPError", [], 0),
    ("commit", "commit", Status(412), {}, "HfHubHTTPError", [], 0),
    ("commit", "commit", Status(503), {}, "HfHubHTTPError", [], 0),
    ("commit", "commit", Status(503), {"after": 2}, "done", [], 1),
    ("commit", "commit", Drop(), {}, "RemoteProtocolError", [], 0),
    ("commit", "commit", Drop(done=True), {}, "RemoteProtocolError", [], 1),
    ("commit", "commit", Cut(), {}, "RemoteProtocolError", [], 1),
    ("commit", "commit", Slow(0.2), {}, "done", [], 1),
    ("download", "resolve", Status(503), {"times": math.inf, "method": "HEAD"}, "LocalEntryNotFoundError", BACKOFF, 0),
    ("download", "resolve", Status(503), {"method": "GET"}, "HfHubHTTPError", [], 0),
    ("download", "resolve", Cut(), {}, "done", [1], 0),
    ("download", "resolve", Cut(), {"times": math.inf}, "RemoteProtocolError", [1] * 5, 0),
    ("download", "resolve", Drop(), {"method": "HEAD"}, "RemoteProtocolError", [], 0),
    ("download", "resolve", Corrupt(), {}, "done", [], 0),
    ("snapshot", "revision", Status(503), {}, "LocalEntryNotFoundError", [], 0),
]


def test_every_fault_ends_as_the_client_documents(hub):
    """In one process; the waits are looked at, not waited for."""
    for number, (_, kind, fault, options, *_) in enumerate(FAULTS):
        hub.create_repo(f"alice/case-{number:02}")
        hub.commit(f"alice/case-{number:02}", {PATH: CONTENT})
        shared = kind in ("whoami", "create", "validate-yaml")  # their address names no dataset
        hub.fail(kind, fault, path="" if shared else f"alice/case-{number:02}", **options)
    told = in_client(outcomes, hub, hub.add_user("alice"), cases=[case[0] for case in FAULTS], fetch=PATH)
    made = [len(hub.commits(f"alice/case-{number:02}")) - 2 for number in range(len(FAULTS))]
    ends = [(*case[:3], end, waits, commits) for case, (end, waits), commits in zip(FAULTS, told, made, strict=True)]
    assert ends == [(*case[:3], *case[4:]) for case in FAULTS]


def digest(path: str) -> str:
    """Download a file: its sha256."""
    from hashlib import sha256
    from pathlib import Path

    from huggingface_hub import hf_hub_download

    return sha256(Path(hf_hub_download("alice/set", path, repo_type="dataset")).read_bytes()).hexdigest()


def test_a_cut_download_goes_on_where_it_stopped(hub):
    """Clients write pieces of 10 MiB, so what is smaller than that begins again."""
    content = bytes(range(256)) * (24 * 2**12)
    hub.create_repo("alice/set")
    hub.commit("alice/set", {"large.bin": content})
    hub.fail("resolve", Cut())
    assert in_client(digest, hub, path="large.bin") == hashlib.sha256(content).hexdigest()
    assert [each.headers.get("range") for each in hub.seen("resolve", "GET")] == [None, f"bytes={10 * 2**20}-"]


def race(parent: str) -> list[Any]:
    """Commit onto a parent: the status it is refused with, or the commit."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        of = {"repo_id": "alice/set", "repo_type": "dataset", "path_in_repo": "mine.txt", "commit_message": "mine"}
        return [HfApi().upload_file(path_or_fileobj=b"mine", parent_commit=parent, **of).oid]
    except HfHubHTTPError as error:
        return [error.response.status_code, error.server_message]


def test_a_commit_in_between_makes_the_next_one_stale(hub):
    """It comes after everything was uploaded and just before the commit."""
    hub.create_repo("alice/set")
    hub.before("commit", lambda: hub.commit("alice/set", {"theirs.txt": b"theirs"}))
    status, message = in_client(race, hub, hub.add_user("alice"), parent=hub.commits("alice/set")[0].id)
    assert (status, message) == (412, "A commit has happened since. Please refresh and try again.")
    assert set(hub.files("alice/set")) == {".gitattributes", "theirs.txt"}
