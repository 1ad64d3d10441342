"""What is said of the Hub is true: what landed, what a repo became, what came from the cache; and secrets stay in."""

import logging
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub_http import as_error
from hub_server import Corrupt, Cut, Drop, Fault, Status
from hub_store import HubError
from strangers import refused

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import hub
from ddhub.base import files, hub_client, redact
from ddhub.cli import app

ID = "alice/digits"


def add_row(folder: Path, name: str = "one") -> None:
    """A picture more: something new that is pushed."""
    (folder / "assets" / f"{name}.png").write_bytes((folder / "assets" / "images.png").read_bytes() + name.encode())


def evaluated(folder: Path) -> None:
    api.evaluate(str(folder), ["convnet2_w8"], baselines=[], seeds=1, threads=1, probe=False)


def downloads(server) -> list[str]:
    return [each.path for each in server.seen("resolve", "GET")]


# A repo is made by `push` alone


def test_a_report_never_makes_a_repo(server, folder):
    """Deleted, by id and by folder; the private one that was pushed to is not made again in public."""
    api.push(folder, ID, private=True)
    evaluated(folder)
    hub.fetch(ID)
    del server.store.repos[ID]
    for reference in (str(folder), ID):
        message = refused(lambda reference=reference: api.report(reference, push=True, rows_from=folder), ID)
        assert "no such dataset" in message or "no rows here" in message
    assert ID not in server.store.repos and not server.seen("create")[1:]


def test_a_push_to_where_a_set_was_and_is_no_more_asks(server, folder):
    """Private again, or public where that is said."""
    api.push(folder, ID, private=True)
    del server.store.repos[ID]
    refused(lambda: api.push(folder, ID), "was deleted, renamed or made private", "--private --yes")
    assert ID not in server.store.repos
    api.push(folder, ID, private=True)
    assert server.repo(ID).private
    del server.store.repos[ID]
    api.push(folder, ID, yes=True)
    assert not server.repo(ID).private


def test_nothing_turns_private_into_public(server, folder):
    """A push without --private to a private repo leaves it private; settings are never asked for."""
    server.create_repo(ID, private=True)
    api.push(folder, ID)
    evaluated(folder)
    api.report(str(folder), push=True)
    assert server.repo(ID).private and not server.seen("settings")


def test_a_public_push_of_an_unknown_licence_says_so_first(server, folder, capsys):
    """A private one does not."""
    from ddhub.artifact import manifest

    record = manifest.read(folder)
    source = record.source.model_copy(update={"license": None, "dataset": "somebody/pictures"})
    (folder / "ddhub.json").write_bytes(manifest.dump(record.model_copy(update={"source": source})))
    api.card(folder)
    server.before("commit", lambda: seen.append(capsys.readouterr().err))
    seen: list[str] = []
    api.push(folder, ID)
    assert "the licence of the set's source is not known" in seen[0]
    api.push(folder, "alice/own", private=True)
    assert "licence" not in capsys.readouterr().err


# Landed, not landed, not known


@pytest.mark.parametrize("propose", [False, True])
def test_a_lost_answer_of_a_commit_that_landed(server, folder, propose, capsys):
    """The commit is found and said, as a pull request too; somebody who built on it meanwhile does not hide it."""
    server.create_repo(ID)
    server.fail("commit", Drop(done=True))
    server.before("commits", lambda: server.commit(ID, {"theirs.txt": b"x"}))
    done = api.push(folder, ID, create_pr=propose)
    assert "the answer was lost, but the " in capsys.readouterr().err
    revision = "refs/pr/1" if propose else done.commit
    assert server.files(ID, revision)["ddhub.json"] == (folder / "ddhub.json").read_bytes()
    assert done.url.endswith("/discussions/1") == propose


@pytest.mark.parametrize("propose", [False, True])
def test_a_commit_that_did_not_land_is_said_to_have_not(server, folder, propose):
    """Of a repo that was there, and of one that this push has just made."""
    server.fail("commit", Drop(), times=math.inf)
    said = "no pull request was opened" if propose else "was made just now, and holds no set yet"
    refused(lambda: api.push(folder, ID, create_pr=propose), said)
    server.create_repo("alice/there")
    said = "no pull request was opened" if propose else "alice/there is as it was"
    refused(lambda: api.push(folder, "alice/there", create_pr=propose), said)


@pytest.mark.parametrize("propose", [False, True])
@pytest.mark.parametrize("landed", [False, True])
def test_what_is_not_known_is_not_said(server, folder, propose, landed):
    """The look afterwards fails too; the command that tells is the same one, and it pushes nothing twice."""
    server.create_repo(ID)
    server.fail("commit", Drop(done=landed))
    kind = "discussions" if propose else "commits"
    server.fail(kind, Status(503), after=2 if propose else 1, times=math.inf)
    message = refused(lambda: api.push(folder, ID, create_pr=propose), "whether the commit landed is not known", "503")
    assert "as it was" not in message and "the same command again tells" in message
    server.heal()
    done = api.push(folder, ID, create_pr=propose)
    assert len(server.seen("commit")) == (1 if landed else 2)
    assert server.files(ID, done.commit)["ddhub.json"] == (folder / "ddhub.json").read_bytes()


# Reading back


def test_what_the_hub_serves_wrongly_is_caught_by_every_push(server, folder):
    """The second push finds the hashes right, and is no more content than the first; a whole one is read once."""
    data = "data/train-00000-of-00001.parquet"
    server.fail("resolve", Cut(), method="GET", path=data, times=math.inf)
    for _ in range(2):
        refused(lambda: api.push(folder, ID), "published at", "reading it back")
    server.heal()
    server.fail("resolve", Corrupt(), method="GET", path=data, times=math.inf)
    refused(lambda: api.push(folder, ID), "serves other bytes", data)
    server.heal()
    before = len(downloads(server))
    assert not api.push(folder, ID).changed
    assert [path for path in downloads(server)[before:] if data in path]  # what was left
    before = len(downloads(server))
    api.push(folder, ID)
    assert downloads(server)[before:] == [] and len(server.seen("commit")) == 1


def test_only_what_changed_is_read_back(server, folder):
    """What was served rightly once counts by its hash."""
    api.push(folder, ID)
    add_row(folder)
    before = len(downloads(server))
    api.push(folder, ID)
    assert not [path for path in downloads(server)[before:] if "data/" in path or "teachers/" in path]
    assert [path for path in downloads(server)[before:] if path.endswith("assets/one.png")]


def test_commits_say_what_they_bring(server, folder):
    """The set, results, the card; what goes."""
    api.push(folder, ID)
    evaluated(folder)
    api.push(folder, ID)
    (folder / "assets" / "images.png").touch()
    add_row(folder)
    api.push(folder, ID)
    (folder / "assets" / "one.png").unlink()
    api.push(folder, ID, yes=True)
    name = "digits_ipc1"
    told = [commit.title for commit in server.commits(ID)[3::-1]]
    assert told == [f"{name}: set, card", f"{name}: 1 result, card", f"{name}: card", f"{name}: 1 file less"]


def test_a_report_with_nothing_new_ends_well(server, folder, tmp_path, monkeypatch):
    """By id and by folder: no commit, exit code 0."""
    evaluated(folder)
    api.push(folder, ID)
    monkeypatch.chdir(tmp_path)
    for reference in (str(folder), ID):
        result = CliRunner().invoke(app.main, ["report", reference, "--push"])
        assert result.exit_code == 0, result.output
    assert len(server.seen("commit")) == 1


# Out of the cache


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "ddhub.json", "README.md"])
def test_a_damaged_download_is_fetched_again_once(server, folder, tmp_path, name, capsys):
    """A bit of a cached file is flipped: it is named, and the pull succeeds."""
    api.push(folder, ID)
    place = hub.fetch(ID).folder / name
    blob = place.resolve()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    api.pull(ID, tmp_path / "copy")
    assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()
    told = capsys.readouterr().err
    assert f"{blob}: {name} is damaged in the cache; fetching it again" in told


def test_a_damaged_download_that_cannot_be_had_again_is_named(server, folder, monkeypatch):
    """Offline: the file in the cache is in the sentence."""
    from huggingface_hub import constants

    api.push(folder, ID)
    blob = (hub.fetch(ID).folder / "data/train-00000-of-00001.parquet").resolve()
    blob.write_bytes(b"PAR1" + blob.read_bytes()[4:-1] + b"x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(lambda: folders.read(hub.fetch(ID).folder), "data/train-00000-of-00001.parquet", "damaged")


@pytest.mark.parametrize("how", ["gone", 401, 403, 429, 503, "drop"])
def test_a_repo_out_of_reach_is_read_from_the_cache_and_said(server, folder, tmp_path, monkeypatch, how, capsys):
    """verify, evaluate and report of what was fetched once."""
    monkeypatch.chdir(tmp_path)
    evaluated(folder)
    api.push(folder, ID)
    commit = hub.fetch(ID).commit
    if how == "gone":
        del server.store.repos[ID]
    else:
        for kind in ("info", "revision", "tree", "resolve"):
            server.fail(kind, Drop() if how == "drop" else Status(how), times=math.inf)
    capsys.readouterr()
    assert api.verify(ID).set == f"{ID}@{commit}"
    said = {"gone": "the Hub says 404", "drop": "the Hub cannot be reached"}.get(how, f"the Hub says {how}")
    assert f"{ID}: from the cache, at {commit[:12]}; {said}" in capsys.readouterr().err
    assert api.report(ID).sets[0].rows
    refused(lambda: api.verify("alice/never"))


# Sentences


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("commit", 501, "does not support the request (501)"),
        ("preupload", 403, "may not do this"),
        ("resolve", 403, "may not read"),
    ],
)
def test_a_status_is_said_for_what_it_is(server, folder, kind, status, words):
    """Of writing and of reading."""
    server.create_repo(ID)
    server.commit(ID, {name: path.read_bytes() for name, path in hub.published(folder).items()})
    add_row(folder)
    server.fail(kind, Status(status), times=math.inf)
    call = (lambda: hub.fetch(ID)) if kind == "resolve" else (lambda: api.push(folder, ID))
    message = refused(call, words)
    assert ("write access" in message) == (kind == "preupload")


@pytest.mark.parametrize("name", ["alice/a--b", "alice/x.git", "alice/.x", "alice/x-"])
def test_names_that_no_repo_can_have(server, folder, name):
    """Said before anything is sent."""
    for call in (lambda: api.push(folder, name), lambda: api.verify(name)):
        message = refused(call)
        assert "no valid name" in message or "not a repo id" in message or "no such folder" in message
        assert "connection" not in message
    assert server.requests == []


def test_what_is_not_cached_while_offline(server, monkeypatch):
    """It says that nobody asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(lambda: api.verify(ID), "not in the cache, and HF_HUB_OFFLINE forbids asking", "HF_HUB_OFFLINE=0")
    refused(lambda: hub.pin(ID, None), "HF_HUB_OFFLINE")


def test_nothing_is_pushed_while_offline(server, folder, monkeypatch):
    """It says so, and nothing of a cache, which no push needs."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (lambda: api.push(folder, ID), hub_client.user):
        assert "cache" not in refused(call, "HF_HUB_OFFLINE forbids to reach the Hub", "HF_HUB_OFFLINE=0")
    assert server.requests == []


@pytest.mark.parametrize("name", ["alice/offline", "alice/xet"])
def test_a_repo_of_an_odd_name_is_missing_like_others(server, name):
    """Its name is no fault."""
    refused(lambda: api.verify(name), f"no dataset {name} on the Hub")


def test_somebody_elses_set_can_be_proposed_to(server, folder):
    """A 403 hints at the way that is open."""
    server.create_repo("bob/digits")
    refused(lambda: api.push(folder, "bob/digits"), "may not do this", "--create-pr")
    assert api.push(folder, "bob/digits", create_pr=True).url.endswith("/discussions/1")
    message = refused(lambda: api.push(folder, "bob/none"), "may not do this")
    assert "--create-pr" not in message


@pytest.mark.parametrize("kind", ["create", "commit"])
def test_the_hub_is_waited_for_where_it_asks(server, folder, kind, monkeypatch, capsys):
    """429 with and without a time; one that is too long is said instead."""
    waited: list[float] = []
    monkeypatch.setattr("ddhub.base.hub_client.time.sleep", waited.append)
    server.fail(kind, Status(429, retry_after=7), times=2)
    api.push(folder, ID)
    assert waited == [7, 7] and "again in 7 seconds" in capsys.readouterr().err
    server.fail("create", Status(429, retry_after=4000), times=math.inf)
    refused(lambda: api.push(folder, "alice/other"), "pause (429)", "4000 seconds")


# Foreign datasets


@pytest.fixture
def foreign(server, tmp_path, monkeypatch) -> str:
    """A dataset of two pictures a class that is no artifact."""
    from conftest import coloured, parquet_files, write_folder

    made = write_folder(tmp_path / "made", {"train": coloured(6, 0)})
    server.create_repo("bob/small")
    content = parquet_files(made)
    server.commit("bob/small", content)
    monkeypatch.chdir(tmp_path)
    return "bob/small"


def test_a_foreign_commit_is_known_offline(server, foreign, monkeypatch, capsys):
    """The one that the Hub named last; a repo that is gone is said."""
    commit = hub.pin(foreign, None)
    server.fail("info", Status(503), times=math.inf)
    assert hub.pin(foreign, None) == commit
    assert f"{foreign}: as last seen, at {commit[:12]}; the Hub says 503" in capsys.readouterr().err
    server.heal()
    del server.store.repos[foreign]
    assert hub.pin(foreign, None) == commit
    refused(lambda: hub.pin("bob/never", None), "no dataset bob/never")


def test_the_rows_of_a_foreign_set_are_found_by_its_id(server, foreign, image_folder, finished):
    """`report OWNER/FOREIGN` after an evaluation here, without the Hub; of its commit too, and of no other."""
    import shutil

    out = Path("ddhub-evaluations/bob--small")
    evaluation = Path("made-rows")
    shutil.copytree(finished, evaluation)
    evaluated(evaluation)
    shutil.copytree(evaluation / "evaluation", out / "evaluation")
    commit = hub.pin(foreign, None)
    files.write_json(out / "import.json", {"identity": "x", "set": f"{foreign}@{commit}"})
    asked = len(server.requests)
    assert len(api.report(foreign).sets[0].rows) == len(api.report(f"{foreign}@{commit[:8]}").sets[0].rows) == 1
    assert len(server.requests) == asked
    refused(lambda: api.report(f"{foreign}@{'0' * 40}"))


def test_a_failed_import_leaves_no_folder(server, foreign, tmp_path, image_folder):
    """By evaluate and by import, where the source is none or the set is not there."""
    from ddhub.evaluation import find_set
    from ddhub.interop import importing

    before = sorted(tmp_path.rglob("*/"))
    asked = importing.ask(str(image_folder), layout="dc")
    refused(lambda: find_set.import_beside_rows(foreign, None, asked))
    refused(lambda: find_set.import_beside_rows(foreign, tmp_path / "deep" / "out", asked))
    refused(lambda: api.import_set(foreign, source=str(image_folder), out=tmp_path / "a" / "b", layout="dc"))
    refused(lambda: api.import_set("bob/never", source=str(image_folder), out=tmp_path / "a" / "b"))
    left = {path for path in set(tmp_path.rglob("*/")) - set(before)}
    assert not [path for path in left if path.parts[len(tmp_path.parts)] not in ("cache", "ddhub-home")]


# Secrets


class Signed(Fault):
    """An answer whose words hold an address that is a key."""

    def before(self, hub):
        return as_error(HubError(503, "at https://store.example/x?X-Amz-Signature=abcdef123456&X-Amz-Expires=60"))


def test_addresses_that_are_keys_are_not_shown(server, folder, capfd):
    """In errors and in the lines that the client itself prints about what it tries again."""
    address = "https://store.example/a/b?X-Amz-Credential=AKIA1234&X-Amz-Signature=abcdef123456"
    assert redact.shown(f"PUT {address} failed") == "PUT https://store.example/a/b?*** failed"
    assert redact.shown("https://bob:secret@example.org/x") == "https://***@example.org/x"
    assert redact.shown("https://example.org/datasets?page=2") == "https://example.org/datasets?page=2"
    server.create_repo(ID)
    server.fail("lfs-put", Signed(), times=math.inf)
    assert "abcdef123456" not in refused(lambda: api.push(folder, ID))
    logging.getLogger("huggingface_hub.utils._http").warning("'%s' thrown while requesting PUT %s", "x", address)
    logging.getLogger("httpx").warning("asked %s with %s", address, "hf_" + "a" * 30)
    logging.getLogger("datasets").warning("Bearer abc.def-123456")
    told = "".join(capfd.readouterr())
    assert "abcdef123456" not in told and "aaaaaa" not in told and "abc.def" not in told
