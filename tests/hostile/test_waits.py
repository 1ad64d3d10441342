"""Strangers' pipes, sockets, devices and claims: nobody waits for them for ever, and odd ones end in a sentence."""

import io
import json
import os
import resource
import shutil
import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from clocks import Clock
from foreign_files import PLAIN, bring, tree
from PIL import Image
from sets import rehash
from some_jobs import signed
from strangers import refused, said

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest
from ddhub.base import files, jobs, strict_json
from ddhub.base.errors import UserError
from ddhub.base.jobs import board, claims
from ddhub.data import decode
from ddhub.evaluation import speed, tuning
from ddhub.interop import importing
from ddhub.reports import verify
from ddhub.training import architectures

ROW = "evaluation/convnet2_w8-native-random-s0-00000000.json"
FILES = (
    *("ddhub.json", "README.md", "recipe.yaml", "report.json", "probe.json", ROW, ".ddhub/run.json"),
    *("data/train-00000-of-00001.parquet", "teachers/00.safetensors", "evaluation/.report.lock"),
)


def soon(call, seconds: float = 600.0) -> None:
    """A call ends soon, in a sentence or well."""
    ended: list[BaseException | None] = []

    def work() -> None:
        try:
            said(call)
            ended.append(None)
        except BaseException as fault:  # of another kind, which fails the test
            ended.append(fault)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert ended, "still waits"
    assert ended[0] is None, repr(ended[0])


def put(path: Path, kind: str) -> None:
    """A thing that is no file in a file's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_a_files_place_keeps_nobody_waiting(name, folder):
    """Whichever file of a set: it is verified, drawn, reported and evaluated, or refused."""
    put(folder / name, "pipe")
    soon(lambda: verify.faults(folder))
    soon(lambda: api.card(folder))
    soon(lambda: api.report([str(folder)]))
    soon(
        lambda: api.evaluate(
            str(folder), ["convnet2_w8"], baselines=[], seeds=1, threads=1, overrides=["epochs=1"], probe=False
        )
    )


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_not_opened_as_one(kind, folder, tmp_path, image_folder):
    """Tables, rows, pickles, pictures."""
    for name in ("data/train-00000-of-00001.parquet", ROW, "teachers/00.safetensors"):
        theirs = Path(shutil.copytree(folder, tmp_path / f"set{len(name)}"))
        put(theirs / name, kind)
        soon(lambda theirs=theirs: verify.faults(theirs))
        soon(lambda theirs=theirs: api.report([str(theirs)]))
    for name in ("a.pt", "a.npz"):
        put(tmp_path / kind / name, kind)
        soon(lambda name=name: bring(tmp_path / kind / name, tmp_path / "out", image_folder, **PLAIN))
    pictures = tree(tmp_path / "pictures")
    put(pictures / "00000" / "class00000_id00009.png", kind)
    soon(lambda: bring(pictures, tmp_path / "out", image_folder, layout="folder"))
    if kind != "folder":
        refused(lambda: files.refuse_odd(pictures / "00000" / "class00000_id00009.png"), "a pipe, a socket or a device")


def write(log: list[Path], path: Path) -> None:
    log.append(path)
    path.write_text("{}")


ODD = {
    "a list": "[]",
    "a number": "5",
    "an object": "{}",
    "a pid beyond": {"pid": 2**70},
    "no pid": {"pid": -1},
    "a pid of text": {"pid": "1"},
    "a host of numbers": {"host": 5},
    "a token of null": {"token": None},
    "no text": "\ud800",
    "nothing": "",
}


@pytest.mark.parametrize("when", [0, 2**32, 4_102_444_800], ids=["long ago", "1970 and more", "2100"])
@pytest.mark.parametrize("name", ODD)
def test_odd_claims_are_nobodys(name, when, tmp_path):
    """Unsigned, of no process, of the future: the job is done."""
    content, out = ODD[name], tmp_path / "a.json"
    path = signed(out, **content) if isinstance(content, dict) else claims.path_of(out)
    if isinstance(content, str):
        path.write_bytes(content.encode(errors="surrogatepass"))
    os.utime(path, (when, when))
    log: list[Path] = []
    soon(lambda: jobs.run_all({out: partial(write, log)}))
    assert log == [out] and not path.exists()


@pytest.mark.parametrize("when", [60, 10**9])
def test_a_claim_ahead_of_the_clock_expires(when, tmp_path):
    """Its clock was set back since; one that is ahead by less than an expiry may be of a machine whose clock is."""
    path = signed(tmp_path / "a", host="another")
    ahead = time.time() + when
    os.utime(path, (ahead, ahead))
    with claims.Claims() as ours:
        assert ours.take(tmp_path / "a") == (when > claims.EXPIRY)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "dangling"])
def test_a_claim_that_is_no_file_is_named(kind, tmp_path):
    path = claims.path_of(tmp_path / "a.json")
    if kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    else:
        put(path, kind)
    refused(lambda: jobs.run_all({tmp_path / "a.json": partial(write, [])}), str(path), f"rm {path}")
    assert not (tmp_path / "nowhere").exists()


def test_waiting_for_a_claim_that_stands_still_ends_with_whose_it_is(tmp_path, monkeypatch):
    """Also where clocks of files never say that it expired; one whose heart beats is waited for."""
    Clock(monkeypatch, board)
    path = signed(tmp_path / "a.json", host="another")
    call = lambda: jobs.run_all({tmp_path / "a.json": partial(write, [])})  # noqa: E731
    refused(call, f"claimed by process {os.getpid()} on another", f"rm {path}")
    beats = iter(range(round(2 * board.PATIENCE / board.POLL)))

    def beat(clock: Clock, seconds: float) -> None:
        clock.now += seconds
        if (number := next(beats, None)) is not None:
            os.utime(path, (begun + number, begun + number))
        else:
            (tmp_path / "a.json").write_text("{}")
            path.unlink(missing_ok=True)

    begun = time.time()
    monkeypatch.setattr(Clock, "sleep", beat)
    call()


FROZEN = {"compile": False, "precision": "float32", "together": 1}


@pytest.mark.parametrize("change", [0, -1, "2", 1.5, {}, [], None, 10**9, True, 2**62])
def test_decisions_that_are_none_are_not_followed(change, tmp_path):
    """How many seeds one program trains, in somebody's file of decisions or rows."""
    assert speed._sound(FROZEN) == FROZEN
    assert speed._sound({**FROZEN, "together": change}) is None
    for odd in ({**FROZEN, "compile": change}, {**FROZEN, "precision": change}):
        assert speed._sound(odd) is None or odd["compile"] is True
    (tmp_path / "a.json").write_text(json.dumps({"decisions": {**FROZEN, "together": change}}))
    assert speed._read(tmp_path / "a.json") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"lr": "1"}', '{"lr": NaN}', "5", '{"lr": [[[[1]]]]}'])
def test_candidates_that_were_not_tried_are_named(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    refused(lambda: tuning._tried(tmp_path / "a.json"), "a.json", "is no candidate that was tried", "rm ")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"identity": [1]}', "5", '{"identity": NaN}', "\x00"])
def test_an_import_that_cannot_be_told_is_made_anew(content, image_folder, make_folder, tmp_path):
    """Whatever lies in import.json."""
    theirs = tree(tmp_path / "pictures")
    asked = importing.ask(str(image_folder), layout="folder")
    from ddhub.evaluation import find_set

    brought = find_set.import_beside_rows(str(theirs), tmp_path / "out", asked)
    (tmp_path / "out" / "import.json").write_text(content)
    assert find_set.import_beside_rows(str(theirs), tmp_path / "out", asked).fresh and brought.fresh
    with pytest.raises(UserError):
        find_set.import_beside_rows(str(theirs), theirs / "out", asked)


@pytest.mark.parametrize("seeds", [2_000_000_000, 20_001, 0, -1])
def test_so_many_seeds_as_no_set_has_are_refused(seeds, folder):
    """In a stranger's recipe, and asked for."""
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**content, "evaluate": {"seeds": seeds}}))
    rehash(folder)
    refused(lambda: api.evaluate(str(folder), ["convnet2_w8"], threads=1, probe=False), "seeds")
    refused(lambda: api.evaluate(str(folder), ["convnet2_w8"], threads=1, probe=False, seeds=seeds), "--seeds")


@pytest.mark.parametrize("arch", ["timm:vit_7b_patch16_dinov3", "timm:vit_giant_patch14_224", "convnet6_w99999"])
def test_networks_of_more_weights_than_any_are_refused_before_they_are_built(arch):
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(lambda: architectures.build(arch, 1000, 3, 224, seed=0), arch, "weights are more than")
    assert time.process_time() - begun < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6  # kB


def test_groups_that_no_rows_fill_are_counted_by_nobody(folder):
    """32,768 groups of ten classes in ten rows: said, and no table of them is made."""
    record = manifest.read(folder)
    rehash(folder, groups=32_768, ipc=32_768)
    assert any("has fewer rows than 32768 groups of 10 classes" in fault for fault in verify.faults(folder))
    assert record.groups == 1


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    assert decode.picture(content, "here", lambda image: image.convert("RGB").size) == (64, 64)
    first = content.index(b"\xff\xda")
    second = content.index(b"\xff\xc4", first)
    many = content[:first] + content[first:second] * 600 + content[second:]
    refused(lambda: decode.picture(many, "here", lambda image: image.load()), "here: has 60", "scans")


def test_json_of_more_values_than_anything_holds_is_refused_unread(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(strict_json.json, "loads", lambda *_, **named: pytest.fail("it was read"))
        refused(lambda: strict_json.parse(b"[" + b"[]," * 10**7 + b"[]]", "here"), "here", "values")
    assert strict_json.parse('["a,b", {}]', "here") == ["a,b", {}]


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("source", {"test": "train"}, "trains and tests on the same split"),
        ("labels", {"temperature": 0}, "labels.temperature"),
        ("labels", {"temperature": -1}, "labels.temperature"),
        (None, {"wnids": ["n00000001"] * 10}, "wnids: one is there twice"),
    ],
)
def test_odd_manifests_do_not_pass(section, change, words, folder):
    content = json.loads((folder / "ddhub.json").read_text())
    (content if section is None else content[section]).update(change)
    (folder / "ddhub.json").write_text(json.dumps(content))
    refused(lambda: folders.read(folder), words)
    assert any(words in fault for fault in verify.faults(folder))
