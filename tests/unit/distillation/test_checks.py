"""What can be known to fail is found before any work, and leaves nothing behind."""

import contextlib
import copy
import shutil
from collections import namedtuple

import pytest
from conftest import coloured

from ddhub import api
from ddhub.base import files, free_space, new_folder
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.data import image_cache
from ddhub.distillation import checks, recipes

SMALL = {
    "name": "colours",
    "ipc": 2,
    "teachers": {"arch": "convnet2_w8", "count": 1, "epochs": 1},
    "method": {"name": "random"},
    "evaluate": {"epochs": 1, "packaging_seeds": 1, "seeds": 1},
}


@pytest.fixture(autouse=True)
def undecoded(monkeypatch):
    """No image is decoded in these tests."""
    monkeypatch.setattr(image_cache, "write", lambda *_: pytest.fail("an image is decoded"))


def refused(folder, out, *overrides: str) -> str:
    data = {**copy.deepcopy(SMALL), "source": {"dataset": "colours", "path": str(folder)}}
    recipe = recipes.resolve(data, "colours", overrides)
    with pytest.raises(UserError) as caught:
        checks.check(recipe, out, Resources(threads=1))
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("teachers.arch=convnt2", "did you mean 'convnet2'"),
        ("teachers.arch=timm:inception_v3", "cannot run on 12x12 images"),
        ("source.label=kind", "source.label: no column 'kind'"),
        ("source.image=img", "source.image: no column 'img'"),
        ("source.train=training", "has no split 'training', only train, test"),
        (
            "ipc=19",
            "ipc: 19 images per class asked for, and class 'red' has 18 in the training part (20 images in all)",
        ),
        ("source={dataset: x, path: PATH, hold_out: 0.5, validation: 0.2}", ""),
        ("labels.top_k=4", "labels.top_k: 4 of 3 classes"),
    ],
)
def test_a_fault_of_the_recipe_is_found_before_an_image_is_decoded(override, said, image_folder, tmp_path):
    """One sentence each, and no folder for the set."""
    override = override.replace("PATH", str(image_folder))
    more = ("ipc=9",) if "hold_out" in override else ()
    said = said or "ipc: 9 images per class asked for, and class 'red' has 8"
    assert said in refused(image_folder, tmp_path / "set", override, *more)
    assert not (tmp_path / "set").exists()


def test_a_folder_without_permission_is_found_first(image_folder, tmp_path, monkeypatch):
    """Before hours go into a set that cannot be written."""
    monkeypatch.setattr(checks.os, "access", lambda path, mode: False)
    assert f"{tmp_path}: no permission to write" in refused(image_folder, tmp_path / "deep" / "set")


def test_a_file_where_the_folder_belongs_is_found_first(image_folder, tmp_path):
    """Whoever gave its path meant something else."""
    (tmp_path / "taken").write_text("mine")
    assert "is a file" in refused(image_folder, tmp_path / "taken" / "set")


def test_a_full_disk_is_found_first(image_folder, tmp_path, monkeypatch):
    """It is said how much is needed."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(free_space.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 100, 100))
    assert "the set and its checkpoints take" in refused(image_folder, tmp_path / "set")
    assert "and 100 B are free" in refused(image_folder, tmp_path / "set")


def test_a_source_without_a_test_split_is_told_before(make_folder, tmp_path, capsys):
    """The way out is named; a held-out part is one."""
    folder = make_folder({"train": coloured(30, 0)})
    for more in ({}, {"hold_out": 0.2}):
        data = {**copy.deepcopy(SMALL), "source": {"dataset": "colours", "path": str(folder), **more}}
        checks.check(recipes.resolve(data, "colours", ()), tmp_path / "set", Resources(threads=1))
        assert ("--set source.hold_out=0.2" in capsys.readouterr().err) is not bool(more)


def test_a_failed_start_leaves_no_folder(image_folder, tmp_path, monkeypatch):
    """Neither of the set nor above it; what was there before stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_cache, "write", lambda *_: (_ for _ in ()).throw(UserError("an image is damaged")))
    path = tmp_path / "colours.yaml"
    path.write_text(
        recipes.resolve({**copy.deepcopy(SMALL), "source": {"dataset": str(image_folder)}}, "colours", ()).yaml()
    )
    with pytest.raises(UserError, match="an image is damaged"):
        api.distill(path, threads=1)
    assert not (tmp_path / "distilled").exists()
    (tmp_path / "distilled").mkdir()
    with pytest.raises(UserError, match="an image is damaged"):
        api.distill(path, threads=1)
    assert list((tmp_path / "distilled").iterdir()) == []


def test_a_folder_that_another_has_just_locked_is_not_taken_away(tmp_path):
    """Two began at once: the one that was refused removed the folder of the other, which then failed too."""
    folder = tmp_path / "set"
    with contextlib.ExitStack() as other:
        with pytest.raises(UserError, match="busy"), new_folder.no_stub(folder, folder / "begun.json"):
            other.enter_context(files.locked(folder / "lock"))
            with files.locked(folder / "lock", busy="busy"):
                pass
        assert (folder / "lock").exists()
    new = tmp_path / "new"
    with pytest.raises(UserError), new_folder.no_stub(new, new / "begun.json"), files.locked(new / "lock"):
        raise UserError("no image")
    assert not new.exists()


def test_work_that_was_begun_is_never_taken_away(tmp_path):
    """A failure later keeps the folder, whatever is in it."""
    for kept in ("begun.json", "mine.txt"):
        folder = tmp_path / kept / "set"
        with pytest.raises(KeyboardInterrupt), new_folder.no_stub(folder, folder / "begun.json"):
            folder.mkdir(parents=True)
            (folder / kept).write_text("work")
            raise KeyboardInterrupt
        assert (folder / kept).read_text() == "work"
    shutil.rmtree(tmp_path / "mine.txt")
