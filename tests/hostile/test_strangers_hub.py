"""Strangers' repos: a set is read at one commit whatever happens to its branch; nothing lands elsewhere."""

import gzip
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import QUICK, coloured, parquet_files, write_folder
from hub_client import in_client
from hub_http import Answer
from hub_server import Changed, HubServer, Status
from sets import content
from strangers import refused, said

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import hub
from ddhub.base import hub_answers, limits
from ddhub.data import opening
from ddhub.interop import hub_set
from ddhub.interop.reading import Reading

ID = "alice/digits"


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Another set of the same name and files: what a push would replace it with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("other") / "set"
        api.distill("digits_ipc1", out=folder, overrides=[*QUICK, "seed=1"], threads=1)
    return folder


@pytest.mark.parametrize("kind", ["resolve", "revision"])
@pytest.mark.parametrize("place", [1, 2, 3, 5])
def test_a_branch_that_moves_between_two_requests_gives_one_set(server, folder, other, kind, place):
    """The old one or the new one, whole: the commit is looked up once."""
    server.create_repo(ID)
    first = server.commit(ID, content(folder))
    moved: list[str] = []
    server.before(kind, lambda: moved.append(server.commit(ID, content(other))), after=place)
    found = hub.fetch(ID)
    assert found.commit in (first, *moved)
    expected = folder if found.commit == first else other
    assert content(found.folder) == content(expected)
    assert len(folders.read(found.folder).labels) == 10


def test_names_in_a_repo_that_lead_out_are_not_followed(server, folder, tmp_path):
    """Nothing appears outside of the cache, and a set that holds such names is refused or read without them."""
    server.create_repo(ID)
    odd = ("data/../../../../../evil.parquet", "evaluation/../../../../../evil.json", "/tmp/ddhub-evil.json")
    before = {path for path in tmp_path.rglob("*") if "hub" not in path.parts}
    for name in odd:
        server.commit(ID, {**content(folder), name: b"{}"})
        said(lambda: hub.fetch(ID))
        server.commit(ID, {name: None})
    appeared = {path for path in tmp_path.rglob("*") if "hub" not in path.parts} - before
    assert {path.relative_to(tmp_path).parts[0] for path in appeared} <= {"cache"}
    assert not [path for path in tmp_path.rglob("*evil*")] and not Path("/tmp/ddhub-evil.json").exists()


def test_what_a_repo_serves_is_checked_before_it_is_believed(server, folder):
    """A data file of another length or content, and a manifest that names a file that is not there."""
    server.create_repo(ID)
    data = "data/train-00000-of-00001.parquet"
    server.commit(ID, {**content(folder), data: b"PAR1"})
    refused(lambda: folders.read(hub.fetch(ID).folder), data, "damaged")
    server.commit(ID, {**content(folder), data: None})
    refused(lambda: folders.read(hub.fetch(ID).folder), data, "missing")


def with_json(change) -> Changed:
    """The answer's document as a function makes it again."""
    return Changed(lambda answer: replace(answer, body=json.dumps(change(json.loads(answer.body))).encode()))


DESCRIPTIONS = {
    "no document": lambda told: [],
    "no commit": lambda told: {**told, "sha": None},
    "a path": lambda told: {**told, "sha": "../../../../victim/x"},
    "a long commit": lambda told: {**told, "sha": "a" * 10**5},
    "cursor movement": lambda told: {**told, "sha": "\x1b[2J"},
    "files that are none": lambda told: {**told, "siblings": "x"},
    "files without names": lambda told: {**told, "siblings": [{"rfilename": None}]},
}


@pytest.mark.parametrize("change", DESCRIPTIONS.values(), ids=list(DESCRIPTIONS))
def test_a_description_that_is_none_is_a_sentence(server, folder, change, tmp_path):
    """Of a set, a set of other tools, a source, and what is pushed to."""
    server.create_repo(ID)
    server.commit(ID, content(folder))
    for kind in ("info", "revision"):
        server.fail(kind, with_json(change), times=math.inf)
    before = sorted(tmp_path.rglob("*"))
    for call in (
        lambda: hub.fetch(ID),
        lambda: hub.pin(ID, None),
        lambda: opening.resolve_revision(ID, None),
        lambda: hub_set.fetched(Path(ID), Reading()),
        lambda: api.push(folder, ID),
    ):
        assert len(refused(call, ID)) < 2000
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
def test_a_header_that_names_a_file_elsewhere_is_refused(server, folder, tmp_path, name):
    """The client calls what it downloads by it; of a file that is there, and of one that is not."""
    from huggingface_hub import close_session

    def led_out(answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, name: '"../../../../victim/x"'})

    server.create_repo(ID)
    server.commit(ID, content(folder))
    server.fail("resolve", Changed(led_out), times=math.inf)
    refused(lambda: hub.fetch(ID), ID, "leads out of the cache")
    close_session()  # the client makes a new one after some faults
    server.commit(ID, {"ddhub.json": None})
    refused(lambda: hub.fetch(ID), ID, "leads out of the cache")
    assert not [path for path in tmp_path.rglob("victim*")]


def test_a_set_is_whole_or_refused(server, folder):
    """A list that the Hub refuses is not asked for; a file that it refuses is not called missing."""
    server.create_repo(ID)
    server.commit(ID, content(folder))
    server.fail("tree", Status(403), times=math.inf)
    server.fail("resolve", Status(403), path="teachers", times=math.inf)
    refused(lambda: hub.fetch(ID), "403")
    refused(lambda: api.verify(ID), "403")
    server.fail("info", Status(503), times=math.inf)
    refused(lambda: api.verify(ID), "teachers/00.safetensors is not in the cache", "503")
    server.heal()
    assert api.verify(ID).ok


def test_a_set_larger_than_one_is_read_is_not_fetched(server, folder, monkeypatch):
    """By the sizes that the Hub announces, and by the number of its files."""

    def announced(told: dict) -> dict:
        return {**told, "siblings": [{**each, "size": 10**15} for each in told["siblings"]]}

    server.create_repo(ID)
    server.commit(ID, content(folder))
    server.fail("info", with_json(announced))
    refused(lambda: hub.fetch(ID), ID, "more than the 16")
    monkeypatch.setattr(hub, "MOST_FILES", 3)
    refused(lambda: hub.fetch(ID), ID, "more than the 16")
    assert not server.seen("resolve")


def read_source() -> list:
    """Read a source from the Hub: the revision that is recorded, how many images it has, and the client's waits."""
    import time

    from ddhub.data import source
    from ddhub.data.spec import SourceSpec

    waits = []
    time.sleep = waits.append
    split, _, _ = source.load_train(SourceSpec(dataset="alice/colours"))
    return [split.spec.revision, len(split), sum(wait for wait in waits if wait >= 1)]


def test_an_absent_hub_is_asked_once_for_a_source(tmp_path, monkeypatch):
    """Each request of `datasets` would try for half a minute; what was fetched before is read at once."""
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "ddhub"))
    made = write_folder(tmp_path / "made", {"train": coloured(12, 0)})
    files = parquet_files(made)
    with HubServer(tmp_path / "hub") as server:
        server.create_repo("alice/colours")
        pinned = server.commit("alice/colours", files)
        assert in_client(read_source, server, home=str(tmp_path / "home")) == [pinned, 12, 0]
        for kind in ("info", "revision", "resolve", "tree", "refs", "paths-info"):
            server.fail(kind, Status(503), times=math.inf)
        shutil.rmtree(tmp_path / "ddhub")  # the pixels that were kept
        assert in_client(read_source, server, home=str(tmp_path / "home")) == [pinned, 12, 0]


def test_a_source_is_read_at_the_commit_that_is_recorded(tmp_path):
    """The branch moves after it was looked up; what is decoded is what the manifest will name."""

    def files(count: int) -> dict[str, bytes | None]:
        made = write_folder(tmp_path / f"made{count}", {"train": coloured(count, 0)})
        return parquet_files(made)

    first, second = files(30), files(12)
    with HubServer(tmp_path / "hub") as server:
        server.create_repo("alice/colours")
        pinned = server.commit("alice/colours", first)
        server.before("resolve", lambda: server.commit("alice/colours", second))
        assert in_client(read_source, server, home=str(tmp_path / "home")) == [pinned, 30, 0]
        assert len(server.commits("alice/colours")) > 2
    assert io.BytesIO(first.popitem()[1]).read(4) == b"PAR1"


def test_a_list_without_end_is_ended(server, folder, monkeypatch):
    """By the number of its pages, and by their bytes: `push` waited for ever."""
    server.create_repo(ID)
    server.commit(ID, content(folder))
    again = f'<{server.url}/api/datasets/{ID}/tree/main>; rel="next"'

    def endless(answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, "Link": again})

    server.fail("tree", Changed(lambda answer: endless(replace(answer, body=b"[]"))), times=math.inf)
    monkeypatch.setattr(limits, "PAGES", 20)
    refused(lambda: api.push(folder, ID), ID, "more than 20 pages")
    server.heal()
    server.fail("tree", Changed(endless), times=math.inf)
    monkeypatch.setattr(limits, "PAGES", 10**6)
    monkeypatch.setattr(limits, "ANSWER_BYTES", 10**5)
    refused(lambda: api.push(folder, ID), ID, "more than 100,000 bytes")
    server.heal()
    assert api.push(folder, ID, yes=True).repo_id == ID


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_ended(server, folder, monkeypatch, packed):
    """Also one that unpacks to more than it seems; the client asks for none that is packed."""
    body = json.dumps([" " * 10**6]).encode()
    bomb = {"body": gzip.compress(body) if packed else body}
    server.create_repo(ID)
    server.commit(ID, content(folder))
    monkeypatch.setattr(limits, "ANSWER_BYTES", 10**5)
    heads = {"Content-Type": "application/json", **({"Content-Encoding": "gzip"} if packed else {})}
    for kind in ("info", "revision", "tree"):
        server.fail(kind, Changed(lambda answer: replace(answer, headers=heads, **bomb)), times=math.inf)
    for call in (lambda: hub.pin(ID, None), lambda: api.push(folder, ID), lambda: hub_set.fetched(Path(ID), Reading())):
        refused(call, ID, "an answer of more than")


def test_an_answer_that_drips_is_ended(server, folder, monkeypatch):
    """However small its drops are."""
    server.create_repo(ID)
    server.commit(ID, content(folder))
    monkeypatch.setattr(hub_answers, "LONGEST", -1.0)
    refused(lambda: hub.pin(ID, None), ID, "an answer that took more than")


def test_a_file_of_an_announced_terabyte_is_no_fault_of_xet(server, folder):
    """The client's own words speak of xet, and so did the advice."""

    def announced(answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, "X-Linked-Size": str(10**12), "X-Linked-Etag": '"a"'})

    server.create_repo(ID)
    server.commit(ID, content(folder))
    server.fail("resolve", Changed(announced), times=math.inf, method="HEAD")
    told = refused(lambda: hub.fetch(ID), ID, "more than 50 GB")
    assert "xet" not in told.lower()


@pytest.mark.parametrize(
    ("status", "words"), [(401, "hf auth login"), (404, "check the name"), (429, "in "), (503, "later")]
)
def test_the_advice_on_a_refused_import_is_that_of_the_hub(server, tmp_path, status, words):
    """It named columns and splits, whatever the Hub said."""
    server.create_repo("alice/pictures")
    server.commit("alice/pictures", {"data/train.parquet": b"PAR1"})
    for kind in ("info", "revision", "resolve", "tree", "paths-info"):
        server.fail(kind, Status(status), times=math.inf)
    told = refused(
        lambda: api.import_set("alice/pictures", source="digits", layout="hub", out=tmp_path / "out"), "alice/pictures"
    )
    assert words in told.splitlines()[-1] and "--label" not in told
