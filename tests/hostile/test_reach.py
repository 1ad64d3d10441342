"""What strangers' sets and datasets reach: nothing is read, written or followed outside of their own folder or repo."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import COLOURS, coloured, write_folder
from foreign_files import PLAIN, bring
from hub_client import in_client
from hub_server import HubServer
from PIL import Image
from sets import rehash
from strangers import refused

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest, source_location
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.data import dataset_headers
from ddhub.data import source as sources
from ddhub.data.spec import SourceSpec
from ddhub.evaluation import grid
from ddhub.reports import verify
from ddhub.training import architectures

SECRET = (7, 77, 177)  # a colour that only the reader's own pictures have

DATA = "data/train-00000-of-00001.parquet"


@pytest.fixture
def private(tmp_path) -> Path:
    """A folder of the reader's own, beside what strangers send."""
    images = [Image.new("RGB", (12, 12), SECRET)] * 6
    return write_folder(tmp_path / "private", {"train": (images, [0, 1, 2] * 2), "test": (images, [0, 1, 2] * 2)})


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A stranger's folder of ordinary tables."""
    return write_folder(tmp_path / "theirs", {"train": coloured(6, 3)})


def split(path: str) -> list[dict[str, str]]:
    return [{"split": "train", "path": path}]


# The header's keys of one config, given the private folder.
REACHES = {
    "an absolute pattern": lambda p: {"data_files": f"{p}/data/train-*.parquet"},
    "a way up": lambda p: {"data_files": "../private/data/train-*.parquet"},
    "a way down and up": lambda p: {"data_files": "data/../../private/data/train-*.parquet"},
    "a list": lambda p: {"data_files": ["data/*.parquet", f"{p}/data/train-*.parquet"]},
    "a split": lambda p: {"data_files": split(f"{p}/data/train-*.parquet")},
    "a split's list": lambda p: {"data_files": [{"split": "train", "path": [f"{p}/data/train-*.parquet"]}]},
    "an address of the disk": lambda p: {"data_files": f"file://{p}/data/train-00000-of-00001.parquet"},
    "a folder": lambda p: {"data_dir": f"{p}/data"},
    "a folder by a way up": lambda p: {"data_dir": "../private/data"},
    "a folder by the user's home": lambda p: {"data_dir": "~"},
    "an address of the network": lambda p: {"data_files": "http://127.0.0.1:9/train.parquet"},
    "an archive's inside": lambda p: {"data_files": f"zip://train.parquet::{p}/data/x.zip"},
    "another repo": lambda p: {"data_files": "hf://datasets/me/secret/train.parquet"},
}


def with_header(folder: Path, config: dict, name: str = "README.md") -> Path:
    text = yaml.safe_dump({"configs": [{"config_name": "default", **config}]})
    (folder / name).write_text(f"---\n{text}---\n" if name == "README.md" else text)
    return folder


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("reach", REACHES)
def test_a_header_reads_nothing_outside_of_a_strangers_folder(reach, name, theirs, private, image_folder, tmp_path):
    """Whichever way it names it; else the artifact would hold the reader's pictures, and be pushed."""
    with_header(theirs, REACHES[reach](private), name)
    asked = {"layout": "hub", **PLAIN}
    refused(lambda: bring(theirs, tmp_path / "set", image_folder, **asked), name, "leads out of the dataset; refused")
    out = tmp_path / "out"
    refused(
        lambda: api.evaluate(str(theirs), source=str(image_folder), out=out, importing=asked, threads=1), "leads out"
    )
    assert not (tmp_path / "set").exists() and not (out / "set").exists()


def test_a_header_that_stays_inside_is_followed(theirs, image_folder, tmp_path):
    """Its own data files, by a pattern, a split or a folder; and a source's header, which is the user's own."""
    with_header(theirs, {"data_files": split("data/train-*.parquet")})
    assert len(bring(theirs, tmp_path / "a", image_folder, layout="hub", **PLAIN).labels) == 6
    with_header(theirs, {"data_dir": "data"})
    assert len(bring(theirs, tmp_path / "b", image_folder, layout="hub", **PLAIN).labels) == 6
    (tmp_path / "own").mkdir()
    own = with_header(tmp_path / "own", {"data_files": f"{image_folder}/data/train-*.parquet"})
    assert len(sources.load_train(SourceSpec(dataset=str(own)))[0]) == 60


def test_files_that_are_resolved_outside_are_refused_whatever_the_header_says(theirs, private, monkeypatch):
    """The second look, at what `datasets` is about to read."""
    with_header(theirs, {"data_files": f"{private}/data/train-*.parquet"})
    monkeypatch.setattr(dataset_headers, "check", lambda *_: None)
    refused(lambda: dataset_headers.builder(str(theirs), None, None), "lies outside of it; refused")


HEADERS = {
    "a tag": "a: !!python/object/apply:os.system ['true']",
    "another's tag": "a: !thing 1",
    "no YAML": "a: [",
    "a list": "- a\n- b",
    "many aliases": "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" if n else "a0: &a0 [x]" for n in range(9)
    ),
    "itself": "configs: &a [*a]",
    "depth": "a: " + "[" * 900 + "]" * 900,
    "texts for configs": "configs: text",
    "numbers for files": "configs:\n- config_name: default\n  data_files: 5",
    "a huge class": "dataset_info:\n  features:\n  - dtype: {class_label: {names: {'99999999999': a}}}",
    "a class of bytes": "dataset_info: !!binary aGVsbG8=",
    "a huge number": "configs:\n- config_name: default\n  data_files: " + "9" * 5000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_odd_headers_end_in_a_sentence(name, theirs, image_folder, tmp_path):
    """In a stranger's folder, and in a source's."""
    (theirs / "README.md").write_text(f"---\n{HEADERS[name]}\n---\n")
    for attempt in (
        lambda: bring(theirs, tmp_path / "set", image_folder, layout="hub", **PLAIN),
        lambda: sources.load_train(SourceSpec(dataset=str(theirs))),
    ):
        try:
            attempt()
        except UserError as fault:
            assert "theirs" in str(fault) and "Traceback" not in str(fault)


def test_other_programs_tables_are_not_read(theirs, image_folder, tmp_path):
    """Formats that point to other files by themselves."""
    (theirs / DATA).unlink()
    (theirs / "data" / "train.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    refused(lambda: dataset_headers.builder(str(theirs), None, None), "what `datasets` calls hdf5; refused")


def read_source(dataset: str, path: str) -> str:
    from ddhub.base.errors import UserError
    from ddhub.data import source as sources
    from ddhub.data.spec import SourceSpec

    try:
        spec = SourceSpec(dataset=dataset, train="train", test="train")
        for read in (sources.load_train, lambda spec: sources.load_test(sources.find_test(spec))):
            read(spec)
    except UserError as fault:
        return str(fault)
    return "was read"


@pytest.mark.parametrize("reach", ["an absolute pattern", "a split", "a folder", "an address of the disk"])
def test_a_repos_header_reads_nothing_of_this_machine(reach, theirs, private, tmp_path):
    """A Hub dataset as a source or as a set: what its README names lies in the repo, or is refused."""
    with HubServer(tmp_path / "hub") as server:
        token = server.add_user("alice")
        server.create_repo("alice/colours")
        server.commit("alice/colours", {DATA: (theirs / DATA).read_bytes()})
        if reach == "a split":  # once: without the header it is read
            assert in_client(read_source, server, token, dataset="alice/colours", path="") == "was read"
        with_header(theirs, REACHES[reach](private))
        server.commit("alice/colours", {"README.md": (theirs / "README.md").read_bytes()})
        told = in_client(read_source, server, token, dataset="alice/colours", path="")
        assert "README.md" in told and "leads out of the dataset; refused" in told


PLACES = ("assets", "evaluation", "evaluation/tuning", "evaluation/decisions", ".ddhub")


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_written_through_a_link_of_a_set(place, folder, tmp_path):
    """Pictures, rows, locks and claims of card and evaluate; `verify` names the link."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "report.json").write_text("mine")  # as if it were an evaluation
    (victim / "images.png").write_text("mine")
    shutil.rmtree(folder / place, ignore_errors=True)
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).symlink_to(victim)
    before = {path: path.read_bytes() for path in victim.iterdir()}
    for attempt in (
        lambda: api.card(folder),
        lambda: api.evaluate(str(folder), ["convnet2_w8"], seeds=1, threads=1, tune=True, overrides=["epochs=1"]),
    ):
        try:
            attempt()
        except (UserError, ExceptionGroup) as fault:
            assert "leads out of the folder" in str(fault)
    assert {path: path.read_bytes() for path in victim.iterdir()} == before
    assert f"{folder / place}: is a link that leads out of the folder" in verify.faults(folder)


@pytest.mark.parametrize("name", [".report.lock", ".row.json.claim", "metrics.jsonl"])
def test_files_of_our_own_are_never_opened_through_a_link(name, folder, tmp_path):
    """A lock, a claim, a log: else a stranger's folder would have a file of the reader's emptied or written to."""
    from ddhub.base.jobs.claims import Claims
    from ddhub.base.log import Metrics

    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    os.utime(victim, (1, 1))  # as a claim, expired long ago
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / name).symlink_to(victim)
    attempts = {
        ".report.lock": lambda: files.locked(folder / "evaluation" / name).__enter__(),
        ".row.json.claim": lambda: Claims().take(folder / "evaluation" / "row.json"),
        "metrics.jsonl": lambda: Metrics(folder / "evaluation" / name).append(step=1),
    }
    refused(attempts[name], name, "is a link")
    assert victim.read_text() == "mine"


def test_a_set_that_lies_behind_a_link_is_the_users_own(folder, tmp_path):
    """A link to a whole set, as to a larger disk, is followed."""
    (tmp_path / "here").symlink_to(folder)
    api.card(tmp_path / "here")
    assert verify.faults(tmp_path / "here") == []


def changed_source(folder: Path, **source: object) -> folders.Artifact:
    """The set with another source in its manifest."""
    record = manifest.read(folder)
    rehash(folder, source=record.source.model_copy(update=source))
    return folders.read(folder)


@pytest.mark.parametrize("way", ["absolute", "relative", "home", "up", "address", "bare", "id"])
def test_a_manifest_chooses_no_folder_that_is_read(way, folder, private, tmp_path, monkeypatch):
    """Nor does state that came with the folder; the user may."""
    (tmp_path / "owner" / "name").parent.mkdir()
    shutil.copytree(private, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = {
        "absolute": str(private),
        "relative": "./private",
        "home": "~/private",
        "up": f"../{tmp_path.name}/private",
        "address": f"file://{private}",
        "bare": "private",
        "id": "owner/name",
    }
    found = changed_source(folder, dataset=names[way], image="image", label="label", revision=None)
    (folder / ".ddhub").mkdir(exist_ok=True)
    (folder / ".ddhub" / "run.json").write_text(json.dumps({"source_path": str(private)}))
    told = refused(lambda: source_location.source_spec(found, None), names[way], "--set source.path=")
    assert "ddhub.json" in told
    refused(lambda: api.evaluate(str(folder), ["convnet2_w8"], seeds=1, threads=1, probe=False), "source.path=")
    assert source_location.source_spec(found, str(private)).path == str(private)
    assert not (files.home() / "images").exists()


def test_state_that_came_with_a_folder_is_not_followed(folder, private, capsys):
    """A Hub's set with a run.json beside it: the Hub is asked, and what was not read is said."""
    (folder / ".ddhub").mkdir(exist_ok=True)
    (folder / ".ddhub" / "run.json").write_text(json.dumps({"source_path": str(private)}))
    found = changed_source(folder, dataset="alice/colours")
    assert source_location.source_spec(found, None).path is None
    assert f"names '{private}'; not read" in capsys.readouterr().err


def test_a_set_made_here_from_a_folder_is_evaluated_here_wherever_it_lies(image_folder, tmp_path, monkeypatch):
    """Imported, moved, and evaluated without a word of its source; in another user's cache it has to be said."""
    theirs = write_folder(tmp_path / "theirs", {"train": coloured(6, 3)})
    bring(theirs, tmp_path / "set", image_folder, layout="hub", **PLAIN)
    moved = tmp_path / "moved" / "set"
    moved.parent.mkdir()
    (tmp_path / "set").rename(moved)
    assert not (moved / ".ddhub").exists()
    found = api.evaluate(str(moved), ["convnet2_w8"], seeds=1, threads=1, overrides=["epochs=1"], probe=False).to_dict()
    assert len(found["rows"]) == 2
    changed = changed_source(moved, train="test", test="train")  # somebody changed its manifest since
    refused(lambda: source_location.source_spec(changed, None), "no Hub id")
    changed_source(moved, train="train", test="test")
    assert source_location.source_spec(folders.read(moved), None).path == str(image_folder)
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "another"))
    refused(lambda: source_location.source_spec(folders.read(moved), None), "no Hub id", "--set source.path=FOLDER")


ARCHS = (
    "timm:test_resnet.a/../../../../victim/x",
    "timm:resnet18.a/b",
    "timm:../x",
    "timm:/etc/passwd",
    "timm:resnet18..x",
    "timm:resnet18.",
    "timm:.resnet18",
    "timm:resnet18\n",
    "timm:resnet18 ",
    "timm:hf-hub:me/x",
    "timm:timm:resnet18",
    "~root",
    "..",
    "a" * 999,
)


@pytest.mark.parametrize("arch", ARCHS)
def test_names_of_architectures_have_a_pattern(arch):
    """Also where an older timm takes whatever follows a dot for a name of weights."""
    refused(lambda: architectures.resolve(arch), "is no architecture's name")


def test_every_name_of_timms_is_one():
    import timm

    names = [*timm.list_models(), *timm.list_pretrained()]
    assert len(names) > 1000 and all(architectures.NAME.fullmatch(f"timm:{name}") for name in names)
    assert all(architectures.NAME.fullmatch(name) for name in [*architectures.TABLE, "convnet3_w64"])


@pytest.mark.parametrize("text", [*ARCHS, "ä/ö", "\x00", ".hidden", "a:b c", *COLOURS])
def test_names_of_files_are_made_of_safe_letters(text):
    """By one function, whatever the name."""
    name = files.safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name)
    assert Path("a", name).resolve().parent == Path("a").resolve()
    assert files.safe_name("timm:resnet18.a1_in1k") == "timm_resnet18.a1_in1k"
    assert grid.files.safe_name is files.safe_name
