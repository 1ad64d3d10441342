"""Publishing and fetching over real HTTP: a push is whole or not at all, and what went wrong is said in a sentence.

The clients are the real ones. In this file they run in the test's own process, with their endpoint and caches moved.
In test_publish.py they run in processes of their own.
"""

import json
import math
import shlex

import pytest
from click.testing import CliRunner
from conftest import QUICK
from hub_server import Corrupt, Cut, Drop, Status
from sets import content, rewrite

from ddhub import api
from ddhub.artifact import hub, manifest
from ddhub.artifact.parquet import Rows
from ddhub.base import hub_client
from ddhub.base.errors import UserError
from ddhub.cli import app

pytestmark = pytest.mark.slow

ID = "alice/digits"


def served(server) -> dict[str, bytes]:
    """What the repo holds, but for what the Hub puts there itself."""
    return {name: data for name, data in server.files(ID).items() if name != ".gitattributes"}


def test_a_push_is_one_commit_that_holds_the_folder(server, folder):
    """Every published file, byte for byte, and nothing else; running state stays at home."""
    (folder / "notes.txt").write_text("mine")
    before = len(server.commits(ID)) if ID in server.store.repos else 0
    done = api.push(folder, ID).to_dict()
    assert done["url"] == f"{server.url}/datasets/{ID}"
    assert served(server) == content(folder)
    assert len(server.commits(ID)) <= before + 2  # the repo's own first one, and ours
    assert server.commits(ID)[0].id == done["commit"]
    assert not [name for name in server.files(ID) if name.startswith((".ddhub", "notes"))]


def test_the_card_on_the_hub_names_the_repo(server, folder):
    """What people copy from the card loads this set, in the folder too once it is published."""
    assert f'"{ID}"' not in (folder / "README.md").read_text()
    api.push(folder, ID)
    assert f'"{ID}"' in served(server)["README.md"].decode()
    assert f"datasets/{ID}" in served(server)["croissant.json"].decode()
    assert manifest.read(folder).repo_id == ID
    assert api.verify(str(folder)).ok


def test_identical_content_makes_no_commit(server, folder):
    """The second push finds everything there and says so."""
    first = api.push(folder, ID).to_dict()
    again = api.push(folder, ID).to_dict()
    assert again == {**first, "changed": False}
    assert len(server.seen("commit")) == 1


def test_new_results_of_the_same_set_need_no_yes(server, folder):
    """Rows and card may change; the payload is the same set."""
    api.push(folder, ID)
    api.evaluate(str(folder), ["convnet2_w8"], baselines=[], threads=1)
    assert api.push(folder, ID).to_dict()["changed"]
    assert served(server) == content(folder)


def test_another_set_is_replaced_only_with_yes(server, folder, tmp_path):
    """The files of the old one go; they stay in the history."""
    api.push(folder, ID)
    old = served(server)
    other = tmp_path / "other"
    api.distill("digits_ipc1", out=other, overrides=[*QUICK, "seed=1"], threads=1)
    (folder / "assets" / "more.png").write_bytes((folder / "assets" / "images.png").read_bytes())
    api.push(folder, ID)
    with pytest.raises(UserError, match="another set already"):
        api.push(other, ID)
    assert set(served(server)) == {*old, "assets/more.png"}
    api.push(other, ID, yes=True)
    assert served(server) == content(other)


def test_somebody_elses_files_are_replaced_only_with_yes(server, folder):
    """A repo of another kind is not taken over by mistake."""
    server.create_repo(ID)
    server.commit(ID, {"train.csv": b"a,b\n"})
    with pytest.raises(UserError, match="other files already; nothing was pushed"):
        api.push(folder, ID)
    assert served(server) == {"train.csv": b"a,b\n"}
    assert not server.seen("commit")


def test_files_that_the_folder_lacks_are_deleted_only_with_yes(server, folder):
    """Somebody's rows on the Hub are not lost in silence."""
    api.push(folder, ID)
    theirs = dict(served(server), **{"evaluation/x.json": b"{}"})
    server.commit(ID, {"evaluation/x.json": b"{}"})
    with pytest.raises(UserError, match=r"files that this folder lacks \(evaluation/x.json\)"):
        api.push(folder, ID)
    assert served(server) == theirs


def test_private_branch_and_pull_request(server, folder):
    """--private, --revision and --create-pr do what they say; main stays as it was."""
    api.push(folder, ID, private=True)
    assert server.repo(ID).private
    main = server.commits(ID)[0].id
    path = folder / "recipe.yaml"
    assert path.exists()
    (folder / "assets" / "more.png").write_bytes((folder / "assets" / "images.png").read_bytes())
    done = api.push(folder, ID, revision="v2").to_dict()
    assert server.commits(ID, "v2")[0].id == done["commit"]
    assert "assets/more.png" in server.files(ID, "v2")
    (folder / "assets" / "most.png").write_bytes((folder / "assets" / "images.png").read_bytes())
    proposed = api.push(folder, ID, create_pr=True).to_dict()
    assert "discussions" in proposed["url"] or "pr" in proposed["url"]
    assert server.commits(ID)[0].id == main
    with pytest.raises(UserError, match="--private cannot hold"):
        server.create_repo("alice/open")
        api.push(folder, "alice/open", private=True)


def test_a_broken_set_is_not_pushed(server, folder):
    """Verification comes first; the Hub is not even asked."""
    (folder / "recipe.yaml").write_text("name: other\n")
    with pytest.raises(UserError, match=r"recipe.yaml: damaged[\s\S]*nothing was pushed"):
        api.push(folder, ID)
    assert server.requests == []


FAULTS = {
    "the token is refused": ("preupload", Status(401), "does not accept the token", "hf auth login"),
    "too many requests": ("commit", Status(429, retry_after=77), "pause", "77 seconds"),
    "a fault of the Hub": ("info", Status(503), "internal fault (503)", "again later"),
    "preupload forbidden": ("preupload", Status(403), "may not do this", "write access"),
    "preupload keeps failing": ("preupload", Status(500), "internal fault (500)", "again later"),
    "upload keeps failing": ("lfs-put", Status(503), "", "again"),
    "upload cut": ("lfs-put", Drop(), "", "again"),
    "commit refused": ("commit", Status(403), "may not do this", "write access"),
    "commit conflict": ("commit", Status(409), "somebody else changed", "again"),
    "commit fails": ("commit", Status(500), "internal fault (500)", "again later"),
    "commit cut": ("commit", Drop(), "connection", "again"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leaves_the_old_revision_whole(server, folder, name):
    """One sentence, a next command, no token in it; and when the Hub is well again, the same command succeeds."""
    kind, fault, words, then = FAULTS[name]
    api.push(folder, ID)
    old = served(server)
    (folder / "assets" / "more.png").write_bytes((folder / "assets" / "images.png").read_bytes() + b"more")
    server.fail(kind, fault, times=math.inf)
    with pytest.raises(UserError) as caught:
        api.push(folder, ID)
    text = str(caught.value)
    assert words in text and then in text
    assert server.token not in text
    assert served(server) == old
    server.heal()
    api.push(folder, ID)
    assert served(server) == content(folder)


def test_a_lost_answer_does_not_hide_a_commit_that_took_effect(server, folder, capsys):
    """The connection breaks after the Hub made the commit: the push looks, finds it, and ends well."""
    server.fail("commit", Drop(done=True))
    done = api.push(folder, ID).to_dict()
    assert served(server) == content(folder)
    assert done["commit"] == server.commits(ID)[0].id
    assert "the answer was lost, but the commit is there" in capsys.readouterr().err


def test_somebody_elses_commit_in_between_is_not_overwritten(server, folder):
    """Our commit names the parent that it was made for; the Hub refuses it, and theirs stays."""
    api.push(folder, ID)
    (folder / "assets" / "more.png").write_bytes((folder / "assets" / "images.png").read_bytes() + b"more")
    server.before("commit", lambda: server.commit(ID, {"theirs.txt": b"hello"}))
    with pytest.raises(UserError, match="somebody else changed the repo"):
        api.push(folder, ID)
    assert "theirs.txt" in served(server) and "assets/more.png" not in served(server)


def test_bytes_that_the_hub_garbles_are_noticed(server, folder):
    """What is read back is compared, not believed."""
    server.fail("resolve", Corrupt(), method="GET", path="train-00000", times=math.inf)
    with pytest.raises(UserError) as caught:
        api.push(folder, ID)
    assert "published at" in str(caught.value)


def test_a_push_without_a_token_says_how_to_get_one(server, folder, monkeypatch, tmp_path):
    """Nothing is sent."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="no Hugging Face token"):
        api.push(folder, ID)
    assert server.requests == []


def test_a_name_that_is_no_repo_id_is_refused(server, folder):
    """Before anything is sent."""
    with pytest.raises(UserError, match="not a repo id"):
        api.push(folder, "digits")


def test_somebody_elses_name_is_refused(server, folder):
    """Bob's repos are Bob's."""
    with pytest.raises(UserError) as caught:
        api.push(folder, "bob/digits")
    assert "write access" in str(caught.value)


def test_pull_gives_the_folder_back_and_the_cache_serves_offline(server, folder, tmp_path, monkeypatch):
    """Byte for byte; offline after the first time; verified; a second copy does not overwrite the first."""
    from huggingface_hub import constants

    api.push(folder, ID)
    done = api.pull(ID, tmp_path / "copy").to_dict()
    assert content(tmp_path / "copy") == content(folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = hub.fetch(ID)
    assert place.name == f"{ID}@{done['commit']}"
    assert api.verify(ID).to_dict() == {"set": place.name, "faults": []}
    with pytest.raises(UserError, match="is there already"):
        api.pull(ID, tmp_path / "copy")


@pytest.mark.parametrize("fault", [Status(500), Cut(), Drop(), Corrupt()], ids=lambda f: type(f).__name__)
def test_a_broken_download_leaves_no_folder(server, folder, tmp_path, fault):
    """Half a set is never taken for a set; the next pull succeeds."""
    api.push(folder, ID)
    server.fail("resolve", fault, method="GET", path="train-00000", times=math.inf)
    with pytest.raises(UserError):
        api.pull(ID, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".copy")]
    server.heal()
    api.pull(ID, tmp_path / "copy")


def test_a_faulty_set_that_is_pulled_ends_with_the_advice_of_the_fault(server, folder, tmp_path):
    """The copy does not stay. A fault without advice of its own ends with the command that names all faults."""
    api.push(folder, ID)
    (folder / "recipe.yaml").write_text("name: other")
    server.commit(ID, content(folder))
    with pytest.raises(UserError, match=r"recipe\.yaml: damaged") as caught:
        api.pull(ID, tmp_path / "copy")
    assert caught.value.next == "fetch the set again, or make it again with ddhub distill"
    rewrite(folder, lambda rows: Rows(rows.images, rows.labels))
    server.commit(ID, content(folder))
    with pytest.raises(UserError, match="copy/data: column 'soft_label' is missing") as caught:
        api.pull(ID, tmp_path / "copy")
    assert caught.value.next == f"ddhub verify {ID}"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("alice/none", "no dataset alice/none on the Hub"),
        ("alice/digits@nowhere", "no such revision"),
        ("alice/plain", "no ddhub.json"),
        ("./here", "no such folder"),
        ("nobody", "no such folder"),
        ("digits_ipc1", "a recipe, not a set"),
    ],
)
def test_what_cannot_be_fetched_is_said(server, folder, reference, words):
    """One sentence and a next command, exit code 1, no traceback."""
    api.push(folder, ID)
    server.create_repo("alice/plain")
    server.commit("alice/plain", {"data.csv": b"x"})
    result = CliRunner().invoke(app.main, ["verify", reference])
    assert result.exit_code == 1
    assert words in result.output and "next:" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("branch", ["v2", "topic/1"])
def test_a_set_of_another_revision_is_named(server, folder, tmp_path, branch):
    """A set that is on a branch alone, proposed alone, or not at the revision that was asked for."""
    server.create_repo(ID)
    hub_client.client().create_branch(ID, branch=branch, repo_type="dataset")
    server.commit(ID, content(folder), revision=branch)
    with pytest.raises(UserError, match=f"main holds no set; one is at {branch}") as caught:
        api.pull(ID, tmp_path / "copy")
    assert caught.value.next == f"the same command with {shlex.quote(f'{ID}@{branch}')}"
    assert api.pull(f"{ID}@{branch}", tmp_path / "copy").repo_id == ID
    with pytest.raises(UserError, match=f"the repo has no such revision; it has main, {branch}"):
        api.verify(f"{ID}@v")
    with pytest.raises(UserError, match=f"the repo has no such revision; it has main, {branch}"):
        api.evaluate(f"{ID}@v", source="digits")
    server.fail("refs", Status(500), times=math.inf)
    with pytest.raises(UserError, match="the repo holds no ddhub"):
        api.verify(ID)


def test_a_proposed_set_is_named(server, folder):
    """A set that is pushed with --create-pr alone is at refs/pr/1."""
    server.create_repo(ID)
    api.push(folder, ID, create_pr=True)
    with pytest.raises(UserError, match="main holds no set; one is at refs/pr/1") as caught:
        api.verify(ID)
    assert caught.value.next == f"the same command with {ID}@refs/pr/1"
    assert api.verify(f"{ID}@refs/pr/1").ok


@pytest.mark.parametrize("typed", ["sets/firts", "stes/first"])
@pytest.mark.parametrize("command", [["verify"], ["evaluate", "--source", "digits"], ["export", "--layout", "dc"]])
def test_a_misspelt_path_is_no_riddle_about_the_hub(server, tmp_path, monkeypatch, typed, command):
    """Neither a folder nor a repo: the path that is like it is named, also by its folder."""
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / "sets" / "first"
    beside.mkdir(parents=True)
    (beside / "ddhub.json").write_text("{}")
    out = ["--out", "out"] if command[0] == "export" else []
    result = CliRunner().invoke(app.main, [command[0], typed, *command[1:], *out])
    assert result.exit_code == 1
    assert "no such folder" in result.output and "did you mean 'sets/first'?" in result.output
    assert "next: the same command with sets/first" in result.output
    if command == ["verify"] and typed == "sets/firts":  # before the Hub is asked, which takes time
        assert "sets/firts: no such folder here; did you mean 'sets/first'; asking the Hub" in result.output
        assert "no dataset sets/firts on the Hub" in result.output
    nothing = CliRunner().invoke(app.main, ["verify", "sets/x"]).output
    assert "no such folder here; sets holds first\n" in nothing and "check the name" in nothing


@pytest.mark.parametrize(
    "command",
    [
        ["import", "./picutres/a.pt", "--source", "digits", "--out", "out"],
        ["evaluate", "./picutres/a.pt", "--source", "digits"],
        ["init", "./picutres"],
        ["distill", "digits_ipc1", "--set", "source.path=picutres", "--set", "source.dataset=own", "--out", "out"],
    ],
)
def test_a_misspelt_file_or_source_is_answered_with_what_is_like_it(tmp_path, monkeypatch, command):
    """Without the Hub, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.pt").write_bytes(b"")
    result = CliRunner().invoke(app.main, command)
    assert result.exit_code == 1
    assert "no such f" in result.output and "did you mean '" in result.output and "pictures" in result.output


def test_a_set_is_evaluated_by_its_id(server, folder, tmp_path, monkeypatch):
    """Rows go beside, not into the cache; they name the commit."""
    monkeypatch.chdir(tmp_path)
    done = api.push(folder, ID).to_dict()
    report = api.evaluate(ID, ["convnet2_w8"], seeds=1, threads=1).to_dict()
    assert {row["data"] for row in report["rows"]} == {"distilled", "random"}
    assert {row["set"] for row in report["rows"]} == {f"{ID}@{done['commit']}"}
    assert len(list((tmp_path / "ddhub-evaluations" / "alice--digits" / "evaluation").glob("*.json"))) == 2
    assert api.verify(ID).ok


def test_the_commands_print_what_to_type_next(server, folder, tmp_path):
    """The URL and the load_dataset line; JSON where asked."""
    runner = CliRunner()
    pushed = runner.invoke(app.main, ["push", str(folder), ID])
    assert pushed.exit_code == 0
    assert pushed.stdout.splitlines() == [f"{server.url}/datasets/{ID}", f'load_dataset("{ID}")']
    pulled = runner.invoke(app.main, ["pull", ID, str(tmp_path / "copy"), "--json"])
    assert json.loads(pulled.stdout)["repo_id"] == ID
    verified = runner.invoke(app.main, ["verify", str(tmp_path / "copy"), "--json"])
    assert json.loads(verified.stdout)["faults"] == []
