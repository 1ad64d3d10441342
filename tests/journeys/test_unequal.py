"""Sets whose classes have different numbers of images: coresets, long tails, sets grown class by class."""

import json

import pytest
import torch
from foreign_files import PLAIN, bring, inputs

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest
from ddhub.base.errors import UserError
from ddhub.evaluation import baseline_images, workbench
from ddhub.reports import verify

COUNTS = [4, 1, 2]


def long_tailed(folder, counts=COUNTS, seed=0):
    """MTT's files of a set with so many images of red, green and blue."""
    folder.mkdir(parents=True)
    torch.save(inputs(sum(counts), seed=seed), folder / "images_best.pt")
    torch.save(torch.arange(3).repeat_interleave(torch.tensor(counts)), folder / "labels_best.pt")
    return folder


@pytest.fixture
def tailed(image_folder, tmp_path):
    """The imported set, whose source the machine remembers."""
    return bring(long_tailed(tmp_path / "theirs"), tmp_path / "set", image_folder, epochs=2, **PLAIN)


def test_they_are_imported_and_say_how_many_of_each(tailed):
    """Counts in the manifest, a range on the card, nothing at fault."""
    record = tailed.manifest
    assert (record.ipc, record.unequal, record.counts, record.ipc_text) == (4, COUNTS, COUNTS, "1 to 4")
    assert verify.faults(tailed.folder) == []
    card = (tailed.folder / "README.md").read_text()
    assert "3 classes, 1 to 4 images of each" in card and "1 to 4 images per class" in card
    assert "ipc-4" not in card
    assert any("'green' has 1 image, 'red' 4" in note for note in record.imported.notes)
    assert (tailed.folder / "assets" / "images.png").is_file()


def test_equal_sets_say_nothing_of_it(image_folder, tmp_path):
    found = bring(long_tailed(tmp_path / "theirs", [2, 2, 2]), tmp_path / "set", image_folder, **PLAIN)
    assert found.manifest.unequal is None and found.manifest.counts == [2, 2, 2]
    assert "ipc-2" in (found.folder / "README.md").read_text()


def test_random_images_beside_them_are_as_many_of_each(tailed, monkeypatch):
    """Random, by bytes and herding: shares follow; every row trains."""
    drawn = {}
    choose = baseline_images.choose

    def watched(name, pool, counts, seed):
        chosen = choose(name, pool, counts, seed)
        drawn[name] = pool.labels[chosen].bincount(minlength=3).tolist()
        return chosen

    monkeypatch.setattr(workbench.baseline_images, "choose", watched)
    report = api.evaluate(
        str(tailed.folder),
        ["convnet2_w8"],
        baselines=["random", "random_bytes", "herding"],
        seeds=1,
        threads=1,
        probe=False,
    ).to_dict()
    assert {row["data"] for row in report["rows"]} == {"distilled", "random", "random_bytes", "herding"}
    assert drawn["random"] == drawn["herding"] == COUNTS
    red, green, blue = drawn["random_bytes"]
    assert red >= blue >= green >= 1
    images = {row["data"]: row["train_images"] for row in report["rows"]}
    assert images["distilled"] == images["random"] == images["herding"] == 7


def test_verify_counts_every_class(tailed):
    """A manifest that promises other counts is at fault, and one that contradicts itself too."""
    path = tailed.folder / "ddhub.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "unequal": [4, 2, 1]}))
    assert any(
        "1 to 4 images per class are promised, but 'green' has 1" in fault for fault in verify.faults(tailed.folder)
    )
    path.write_text(json.dumps({**record, "unequal": [3, 1, 2]}))
    assert any("is not one count per class, of which ipc 4 is the largest" in f for f in verify.faults(tailed.folder))
    path.write_text(json.dumps({**record, "unequal": [4, 1]}))
    assert any("is not one count per class" in f for f in verify.faults(tailed.folder))


def test_they_are_merged(tailed, image_folder, tmp_path):
    """With each other and with equal ones: counts add up class by class, groups are counted each for itself."""
    other = bring(long_tailed(tmp_path / "more", [1, 3, 1], 1), tmp_path / "other", image_folder, epochs=2, **PLAIN)
    equal = bring(long_tailed(tmp_path / "even", [2, 2, 2], 2), tmp_path / "equal", image_folder, epochs=2, **PLAIN)
    api.merge(tailed.folder, other.folder, equal.folder, out=tmp_path / "merged")
    record = manifest.read(tmp_path / "merged")
    assert record.counts == [7, 6, 5] and record.groups == 3
    assert record.counts_of_groups == [COUNTS, [1, 3, 1], [2, 2, 2]]
    assert verify.faults(tmp_path / "merged") == []
    assert "| 1 to 4 | 1 |" in (tmp_path / "merged" / "README.md").read_text()


def test_merged_counts_can_become_equal(tailed, image_folder, tmp_path):
    other = bring(long_tailed(tmp_path / "rest", [1, 4, 3], 1), tmp_path / "other", image_folder, epochs=2, **PLAIN)
    api.merge(tailed.folder, other.folder, out=tmp_path / "merged")
    record = manifest.read(tmp_path / "merged")
    assert record.unequal is None and record.ipc == 5
    assert verify.faults(tmp_path / "merged") == []


def test_a_class_may_have_none_yet(image_folder, tmp_path):
    """A set that is grown class by class is scored on all of them."""
    found = bring(long_tailed(tmp_path / "theirs", [2, 2, 0]), tmp_path / "set", image_folder, epochs=1, **PLAIN)
    assert found.manifest.ipc_text == "0 to 2" and verify.faults(found.folder) == []
    report = api.evaluate(str(found.folder), ["convnet2_w8"], seeds=1, threads=1, probe=False).to_dict()
    assert {row["train_images"] for row in report["rows"]} == {4}


@pytest.mark.parametrize(
    ("layout", "says"), [("eccv24", "1 to 4 images per class, and the layout eccv24 has exactly 10")]
)
def test_layouts_that_take_classes_from_places_refuse_them(layout, says, tailed, tmp_path):
    with pytest.raises(UserError, match=says):
        api.export(tailed.folder, layout, tmp_path / "out")
    done = api.export(tailed.folder, "mtt", tmp_path / "mtt").to_dict()
    assert folders.read(tailed.folder).labels.tolist() == torch.load(tmp_path / "mtt" / "labels_best.pt").tolist()
    assert "--mean" in done["read_with"]


def test_a_report_of_several_sets_sorts_them_by_images(tailed, image_folder, tmp_path):
    """The smaller one comes first, whatever the order given."""
    big = bring(long_tailed(tmp_path / "big", [5, 5, 5], 3), tmp_path / "large", image_folder, epochs=1, **PLAIN)
    for each in (tailed, big):
        api.evaluate(str(each.folder), ["convnet2_w8"], baselines=[], seeds=1, threads=1, probe=False)
    document = api.report(big.folder, tailed.folder).to_dict()
    assert [len(report["rows"]) for report in document["sets"]] == [1, 1]
    assert [report["rows"][0]["train_images"] for report in document["sets"]] == [7, 15]
