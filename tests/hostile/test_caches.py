"""Damaged caches: what was changed on the disk is noticed, made again and said so; nothing is computed from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, examples

from ddhub.base import checked_files, files
from ddhub.data import source
from ddhub.data.spec import SourceSpec
from ddhub.distillation.plan import history
from ddhub.training import device, teachers
from ddhub.training import network as networks
from ddhub.training.protocol import TeacherSpec


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch):
    """What this process proved or wrote before is looked at again, as another process would."""
    monkeypatch.setattr(checked_files, "_proven", set())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def turn(path: Path) -> None:
    """The rows of an array in the other order."""
    np.save(path, np.load(path)[::-1])


SPOILS = {
    "images.npy": [flip, turn],
    "labels.npy": [flip, turn],
    "meta.json": [lambda path: path.write_text(path.read_text().replace("red", "rot"))],
}
CUTS = [
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:40]),
    lambda path: path.write_bytes(b"[]"),
]
CASES = [(name, number) for name in SPOILS for number in range(len(SPOILS[name]) + len(CUTS))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_decoded_images_that_were_changed_are_decoded_again(image_folder, name, number, monkeypatch, capsys):
    """A bit, the order, another class name, a file that is gone, empty, cut, or something else."""
    spec = SourceSpec(dataset=str(image_folder))
    good = source.load_train(spec)[0]
    images, labels = good.images.clone(), good.labels.clone()
    folder = next(path.parent for path in (files.home() / "images").rglob("images.npy"))
    monkeypatch.setattr(checked_files, "_proven", set())
    capsys.readouterr()
    [*SPOILS[name], *CUTS][number](folder / name)
    again = source.load_train(spec)[0]
    assert (again.images == images).all() and (again.labels == labels).all()
    assert (again.classes, again.fingerprint) == (good.classes, good.fingerprint)
    told = capsys.readouterr().err
    assert "are damaged; decoding them again" in told or (name == "meta.json" and "decoding 60 images" in told)


def test_a_survey_that_was_changed_is_made_again(image_folder):
    """What decides of resolution and channels is not believed without its hash."""
    spec = SourceSpec(dataset=str(image_folder))
    source.load_train(spec)
    path = next((files.home() / "images").glob("*.json"))
    path.write_text(path.read_text().replace('"resolution": 12', '"resolution": 6'))
    assert source.load_train(spec)[0].spec.resolution == 12
    for odd in ("", "[]", "{", '{"content": 5}'):
        path.write_text(odd)
        assert source.load_train(spec)[0].spec.resolution == 12


def test_files_are_read_once_a_process_and_again_when_they_change(tmp_path, monkeypatch):
    """By size and time; a large one with the stamp of when it was written is believed."""
    path, reads = tmp_path / "file", []
    path.write_bytes(b"content")

    def check() -> bool:
        reads.append(1)
        return path.read_bytes() == b"content"

    assert checked_files.unchanged([path], check) and checked_files.unchanged([path], check) and len(reads) == 1
    flip(path)
    assert not checked_files.unchanged([path], check) and not checked_files.unchanged([path], check) and len(reads) == 3
    monkeypatch.setattr(checked_files, "LARGE", 3)
    assert checked_files.unchanged([path], check, [checked_files.stamp(path)]) and len(reads) == 3


def lessons(count: int = 1) -> teachers.Lessons:
    network = networks.network("convnet2_w8", 3, 1, 8, device.Decisions("cpu", 1))
    part = examples(12)
    return teachers.Lessons(
        TeacherSpec(arch="convnet2_w8", count=count, epochs=1), [network] * count, part, part, "none", ["id"]
    )


@pytest.mark.parametrize("spoil", [flip, *CUTS[1:]])
def test_a_cached_teacher_that_was_changed_is_trained_again(spoil, monkeypatch, capsys):
    """The same bytes come out; another source's teachers are not offered damaged."""
    first = teachers.obtain(lessons())
    path = first.files[0]
    good = path.read_bytes()
    monkeypatch.setattr(checked_files, "_proven", set())
    spoil(path)
    assert teachers.cached("id") == []
    again = teachers.obtain(lessons())
    assert path.read_bytes() == good and again.cached == 0
    assert "the teacher cached there is damaged; training it again" in capsys.readouterr().err


@pytest.mark.parametrize("odd", ["", "[]", "nan", '"5"', "{", "-3", "true", "1e400"])
def test_odd_seconds_of_a_teacher_count_as_none(odd):
    """The clock of a cached teacher is for people; damaged, it is no traceback."""
    made = teachers.obtain(lessons())
    next((files.home() / "teachers").glob("*.seconds.json")).write_text(odd)
    assert teachers.seconds(made) in (0.0, 1.0)


@pytest.mark.parametrize("odd", ["", "[]", "{}", "5", '{"machine": 5, "method": 5}', "\x00", "{" * 100])
def test_odd_lines_of_history_count_as_none(odd):
    """What past runs took is for people too."""
    path = files.home() / "plan" / "history.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(odd)
    assert history.past("cpu", "apm")["runs"] == 0


def test_a_distillation_goes_on_over_a_damaged_cache(tmp_path, image_folder):
    """The set of a cache that was damaged is the set of a cache that was not."""
    from ddhub import api

    how = {"overrides": [*QUICK, f"source={{dataset: {image_folder}, resolution: 12}}", "ipc=1"], "threads": 1}
    api.distill("digits_ipc1", out=tmp_path / "first", **how)
    for path in (files.home() / "images").rglob("images.npy"):
        flip(path)
    for path in (files.home() / "teachers").glob("*.safetensors"):
        flip(path)
    api.distill("digits_ipc1", out=tmp_path / "second", **how)
    first, second = (json.loads((tmp_path / name / "ddhub.json").read_text())["files"] for name in ("first", "second"))
    same = {name for name in first if name.startswith(("data/", "teachers/"))}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
