"""Strangers' repos: a set is read at one commit whatever happens to its branch; nothing lands elsewhere."""

import io
from pathlib import Path

import pytest
from conftest import QUICK, coloured, write_folder
from hub_client import in_client
from hub_server import HubServer
from strangers import refused, said

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import hub

ID = "alice/digits"


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Another set of the same name and files: what a push would replace it with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("other") / "set"
        api.distill("digits_ipc1", out=folder, overrides=[*QUICK, "seed=1"], threads=1)
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    return {name: path.read_bytes() for name, path in hub.published(folder).items()}


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


def read_source() -> list:
    """Read a source from the Hub: the revision that is recorded, and how many images it has."""
    from ddhub.data import source
    from ddhub.data.spec import SourceSpec

    split, _, _ = source.load_train(SourceSpec(dataset="alice/colours"))
    return [split.spec.revision, len(split)]


def test_a_source_is_read_at_the_commit_that_is_recorded(tmp_path):
    """The branch moves after it was looked up; what is decoded is what the manifest will name."""

    def files(count: int) -> dict[str, bytes | None]:
        made = write_folder(tmp_path / f"made{count}", {"train": coloured(count, 0)})
        return {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*.parquet")}

    first, second = files(30), files(12)
    with HubServer(tmp_path / "hub") as server:
        server.create_repo("alice/colours")
        pinned = server.commit("alice/colours", first)
        server.before("resolve", lambda: server.commit("alice/colours", second))
        assert in_client(read_source, server, home=str(tmp_path / "home")) == [pinned, 30]
        assert len(server.commits("alice/colours")) > 2
    assert io.BytesIO(first.popitem()[1]).read(4) == b"PAR1"
