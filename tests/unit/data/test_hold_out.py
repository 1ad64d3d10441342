"""A source without a test split: a share of every class is kept for testing before anything else happens."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import coloured
from PIL import Image

from ddhub.base.errors import UserError
from ddhub.data import image_cache, source
from ddhub.data.spec import SourceSpec


@pytest.fixture
def untested(make_folder):
    """60 images of three colours in a train split, and no other split."""
    return make_folder({"train": coloured(60, 0)})


def refused(spec: SourceSpec) -> str:
    with pytest.raises(UserError) as caught:
        source.load_train(spec)
    return str(caught.value)


def held(folder, **given) -> SourceSpec:
    return SourceSpec(dataset=str(folder), **{"hold_out": 0.25, **given})


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_the_parts_are_apart_and_every_class_is_in_both(untested):
    """5 of 20 images a class are tested on; training and test part share none and leave none out."""
    train, training, validation = source.load_train(held(untested))
    test = source.load_test(held(untested))
    whole = source.load_train(SourceSpec(dataset=str(untested)))[0]
    assert test.labels.bincount().tolist() == [5, 5, 5]
    assert train.labels.bincount().tolist() == [15, 15, 15]
    assert len(training) + len(validation) == 45
    assert rows(train.images) | rows(test.images) == rows(whole.images)
    assert not rows(train.images) & rows(test.images)
    assert train.fingerprint != test.fingerprint


def test_the_draw_follows_its_seed_alone(untested):
    """The same seed draws the same images again, another seed others; the validation part is drawn apart from it."""
    first = rows(source.load_test(held(untested)).images)
    assert first == rows(source.load_test(held(untested, validation=0.5)).images)
    assert first != rows(source.load_test(held(untested, split_seed=1)).images)
    assert first != rows(source.load_test(held(untested, hold_out=0.5)).images)


def test_distilling_decodes_no_test_image(untested, monkeypatch):
    """Only the rows that are trained on are decoded, and cached."""
    seen = []
    write = image_cache.write
    monkeypatch.setattr(image_cache, "write", lambda images, *how: seen.append(len(images)) or write(images, *how))
    source.load_train(held(untested))
    assert seen == [45]


def test_words_as_labels_are_numbered_alike_in_both_parts(make_folder):
    """Classes that are only values of a column are the same in both parts."""
    images, labels = coloured(30, 0)
    folder = make_folder({"train": (images, [("b", "a", "c")[label] for label in labels])}, names=None)
    assert source.load_train(held(folder))[0].classes == source.load_test(held(folder)).classes == ("a", "b", "c")


def test_a_class_that_cannot_be_divided_is_named(make_folder):
    """Two images cannot be trained on, validated on and tested on."""
    images, _ = coloured(8, 0)
    folder = make_folder({"train": (images, [0, 0, 0, 1, 1, 1, 2, 2])})
    assert "class 'blue' has 2 images; training, validation and test take 3" in refused(held(folder))


def test_digits_have_a_test_split():
    """A second test part of them would be no test."""
    assert "digits has a test split" in refused(SourceSpec(dataset="digits", hold_out=0.2))


@pytest.mark.parametrize("stored", ["as files", "in a table"])
def test_a_copy_of_what_is_trained_on_is_not_tested_on(stored, tmp_path, untested, capsys):
    """Whatever its class and wherever it is stored; what is trained on is as it was, and how many there are is said."""
    folder = pictures(tmp_path / "pictures") if stored == "as files" else untested
    spec = held(folder, hold_out=0.5)
    train, test = source.load_train(spec)[0], source.load_test(spec)
    assert "copies" not in capsys.readouterr().err
    if stored == "as files":
        for number in range(4):  # half of the class are copies of the other half
            (folder / "red" / f"{number}.png").write_bytes((folder / "red" / f"{number + 4}.png").read_bytes())
    else:
        double(folder)
    after, tested = source.load_train(spec)[0], source.load_test(spec)
    told = capsys.readouterr().err
    left_out = int(re.search(r"(\d+) of \d+ held-out pictures are left out of the test", told)[1])
    assert not rows(after.images) & rows(tested.images) and left_out > 0
    assert len(after) == len(tested) + left_out
    if stored == "as files":
        assert len(after) == len(train) and len(tested) == len(test) - left_out
    assert torch.equal(source.load_test(spec).images, tested.images)  # from the cache
    assert f"{left_out} of" in capsys.readouterr().err


def pictures(folder):
    """Eight pictures of noise in each of three folders."""
    for number, label in enumerate(("red", "green", "blue")):
        (folder / label).mkdir(parents=True)
        for index in range(8):
            noise = np.random.default_rng([number, index]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(folder / label / f"{index}.png")
    return folder


def double(folder):
    """Every row of a dataset is there twice."""
    (path,) = folder.rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)


def test_where_only_copies_were_held_out_there_is_no_test(tmp_path):
    """Said with what to do."""
    folder = pictures(tmp_path / "pictures")
    for path in folder.rglob("*.png"):
        path.write_bytes((folder / "red" / "0.png").read_bytes())
    with pytest.raises(UserError, match="are copies of training pictures") as caught:
        source.load_test(held(folder))
    assert caught.value.next == "remove copies from the source"
