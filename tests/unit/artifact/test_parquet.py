"""The data files: what goes in comes out, to the bit, and `datasets` reads the same."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ddhub.artifact import folder as folders
from ddhub.artifact import parquet
from ddhub.artifact.parquet import Rows
from ddhub.base.errors import UserError

CLASSES = ["elm", "oak", "yew", "fir"]


def rows(count: int, channels: int = 3, soft=torch.float16, pixels=torch.float16) -> Rows:
    """Random rows with every column that a set can have, but `soft_index`."""
    draw = torch.Generator().manual_seed(count)
    shape = (count, channels, 8, 8)
    return Rows(
        torch.randint(256, shape, generator=draw, dtype=torch.uint8),
        torch.randint(4, (count,), generator=draw),
        None if soft is None else torch.randn(count, 4, generator=draw).to(soft),
        None,
        None if pixels is None else torch.randn(shape, generator=draw).to(pixels),
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_rows_come_back_to_the_bit(tmp_path, monkeypatch, channels, kind):
    """Through shards and row groups of odd sizes."""
    monkeypatch.setattr(parquet, "SHARD_ROWS", 10)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    given = rows(23, channels, kind, kind)
    parquet.write(tmp_path, given, CLASSES)
    assert len(parquet.shards(tmp_path)) == 3
    assert parquet.count(tmp_path) == 23
    assert parquet.class_names(tmp_path) == CLASSES
    found = folders.read_data(tmp_path, (channels, 8, 8), 4)
    for a, b in zip(given.columns(), found.columns(), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a.to(b.dtype), b)


def test_datasets_reads_what_ddhub_reads(tmp_path):
    """Plain load_dataset gives the same pixels, labels, soft labels and inputs."""
    import datasets

    given = rows(7)
    parquet.write(tmp_path, given, CLASSES)
    table = datasets.load_dataset(str(tmp_path), split="train")
    assert table.features["label"].names == CLASSES
    assert np.array_equal(np.stack([np.asarray(i) for i in table["image"]]).transpose(0, 3, 1, 2), given.images)
    assert table["label"][:] == given.labels.tolist()
    numbers = table.with_format("numpy")
    assert np.array_equal(numbers["soft_label"][:], given.soft)
    assert np.array_equal(numbers["pixels"][:], given.pixels)


def test_the_largest_labels_are_kept_and_the_rest_counts_as_its_mean(tmp_path):
    """`soft_index` names the classes; what is left out has the mean of all that was left out."""
    given = rows(9, pixels=None)
    values, index, rest = folders.keep_top(given.soft, 3)
    parquet.write(tmp_path, Rows(given.images, given.labels, values, index), CLASSES)
    found = folders.read_data(tmp_path, (3, 8, 8), 4, rest)
    smallest = given.soft.float().min(1, keepdim=True)
    assert rest == pytest.approx(smallest.values.mean().item(), abs=1e-3)
    expected = given.soft.float().scatter(1, smallest.indices, rest)
    assert torch.allclose(found.soft, expected)
    assert found.index is None
    with pytest.raises(UserError, match="soft_index"):
        folders.read_data(tmp_path, (3, 8, 8), 4)


def test_labels_of_many_classes_fit_their_index():
    """Class numbers beyond 16 bits are kept whole."""
    soft = torch.zeros(2, 40_000)
    soft[:, 39_999] = 1
    assert folders.keep_top(soft, 1)[1].tolist() == [[39_999], [39_999]]


def spoil(folder, change):
    """Rewrite the data file through a change of its table."""
    path = parquet.shards(folder)[0]
    pq.write_table(change(pq.read_table(path)), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns("label"), "no column 'label'"),
        (lambda t: t.slice(0, 0), "holds no images"),
        (lambda t: t.set_column(0, "image", [[{"bytes": b"GIF89a", "path": None}] * len(t)]), "row 0: cannot be"),
        (lambda t: t.set_column(0, "image", [[{"bytes": None, "path": "x"}] * len(t)]), "row 0: not an image"),
        (lambda t: t.set_column(1, "label", [[7] * len(t)]), "values outside 0..3"),
        (lambda t: t.set_column(1, "label", [["elm"] * len(t)]), "not one integer"),
        (lambda t: t.set_column(2, "soft_label", [[[1.0, 2.0]] * len(t)]), "not 4 finite numbers"),
        (lambda t: t.set_column(2, "soft_label", [[[float("nan")] * 4] * len(t)]), "not 4 finite numbers"),
        (lambda t: t.set_column(2, "soft_label", [[[1.0] * (n % 2 + 3) for n in range(len(t))]]), "numbers per row"),
        (lambda t: t.set_column(3, "pixels", [[[1.0]] * len(t)]), "column 'pixels'"),
    ],
)
def test_a_file_that_is_no_set_is_refused_by_name(tmp_path, change, words):
    """Whatever strangers put in, the error names the place."""
    parquet.write(tmp_path, rows(6), CLASSES)
    spoil(tmp_path, change)
    with pytest.raises(UserError, match=words):
        folders.read_data(tmp_path, (3, 8, 8), 4)


def test_images_of_another_size_are_refused_before_they_are_decoded(tmp_path):
    """A picture of a million pixels is not unpacked to find out."""
    parquet.write(tmp_path, rows(2), CLASSES)
    with pytest.raises(UserError, match="an image of 8x8, not 16x16"):
        folders.read_data(tmp_path, (3, 16, 16), 4)
