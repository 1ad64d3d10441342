"""croissant.json: mlcroissant takes it without a fault, and reads the rows that were written."""

import dataclasses
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from dataset_cards import HOSTILE, case
from sets import rehash

from ddhub import api
from ddhub.artifact import parquet, payload_hashes
from ddhub.artifact.image_rows import Rows
from ddhub.reports import croissant, verify


def rows(count, channels):
    """Random rows with every column that a set can have."""
    draw = torch.Generator().manual_seed(count)
    shape = (count, channels, 8, 8)
    return Rows(
        torch.randint(256, shape, generator=draw, dtype=torch.uint8),
        torch.randint(10, (count,), generator=draw),
        torch.randn(count, 3, generator=draw).half(),
        torch.randint(10, (count, 3), generator=draw).short(),
        torch.randn(shape, generator=draw),
        torch.arange(count).short(),
    )


def describe(folder, given, **changes):
    """Write rows and their description into a folder."""
    manifest = case(labels={"top_k": 3, "rest": 0.0}, **changes)
    parquet.write(folder, given, manifest.classes)
    manifest = manifest.model_copy(update={"files": payload_hashes.file_records(folder)})
    (folder / "croissant.json").write_bytes(croissant.render(manifest, folder))


# In a process of its own: once `datasets` is imported, pandas makes columns of arrays a type that it cannot cut.
READ = """
import pickle, sys
import mlcroissant, numpy
dataset = mlcroissant.Dataset(sys.argv[1])
assert not dataset.metadata.ctx.issues.errors
rows = [{k: numpy.asarray(v) for k, v in row.items()} for row in dataset.records("train")]
sys.stdout.buffer.write(pickle.dumps((rows, list(dataset.records("classes")))))
"""


@pytest.mark.slow  # a process that imports mlcroissant
@pytest.mark.parametrize(("channels", "shard"), [(1, 10_000), (3, 10)], ids=["one file", "three files"])
def test_mlcroissant_reads_the_rows(tmp_path, monkeypatch, channels, shard):
    """Every column, to the bit, in order; grey and RGB; classes by their names, whatever these hold."""
    pytest.importorskip("mlcroissant")
    monkeypatch.setattr(parquet, "SHARD_ROWS", shard)
    given = rows(23, channels)
    describe(tmp_path, given, classes=HOSTILE, source={"channels": channels})
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "croissant.json"], capture_output=True, check=True)
    found, classes = pickle.loads(done.stdout)
    images = np.stack([row["train/image"].reshape(8, 8, channels).transpose(2, 0, 1) for row in found])
    assert np.array_equal(images, given.images)
    assert [int(row["train/label"]) for row in found] == given.labels.tolist()
    columns = {"soft_label": given.soft, "soft_index": given.index, "group": given.group, "pixels": given.pixels}
    for name, column in columns.items():
        values = np.stack([row[f"train/{name}"] for row in found])
        assert values.dtype == column.numpy().dtype and np.array_equal(values, column), name
    assert [row["classes/name"] for row in classes] == HOSTILE


def test_a_damaged_data_file_is_noticed_by_its_hash(tmp_path):
    """mlcroissant compares the hash that the description has."""
    mlcroissant = pytest.importorskip("mlcroissant")
    without = [dataclasses.replace(rows(count, 1), pixels=None) for count in (5, 6)]
    describe(tmp_path, without[0])
    dataset = mlcroissant.Dataset(tmp_path / "croissant.json")
    assert len(list(dataset.records("train"))) == 5
    parquet.write(tmp_path, without[1], case().classes)
    with pytest.raises(mlcroissant.GenerationError) as fault:
        list(mlcroissant.Dataset(tmp_path / "croissant.json").records("train"))
    assert "is not identical with" in str(fault.value.__cause__)


def test_it_says_what_is_known_and_nothing_else(tmp_path):
    """Licence and addresses are left out where nobody knows them."""
    parquet.write(tmp_path, rows(2, 1), case().classes)
    manifest = case(files=payload_hashes.file_records(tmp_path), source={"dataset": "me/leaves"}, repo_id="me/set")
    said = json.loads(croissant.render(manifest, tmp_path))
    assert (said["isBasedOn"], said["url"]) == tuple(
        f"https://huggingface.co/datasets/{name}" for name in ("me/leaves", "me/set")
    )
    assert "license" not in said
    said = json.loads(croissant.render(case(files=payload_hashes.file_records(tmp_path)), tmp_path))
    assert (said["license"], "url" in said, "isBasedOn" in said) == ("cc-by-4.0", False, False)


def test_a_stale_description_is_a_fault_and_the_card_mends_it(folder):
    """One of other files, or of other classes, misleads its reader; words of one's own do not."""
    path = folder / "croissant.json"
    true = path.read_text()
    for old, new in (('"sha256": "', '"sha256": "0'), ('"classes/name": "3"', '"classes/name": "4"'), (true, "[]")):
        path.write_text(true.replace(old, new, 1))
        assert verify.faults(folder) == [f"{path}: does not describe the files, columns and classes of this set"]
    path.write_text(true.replace('"description": "', '"description": "Ours. ', 1))
    assert verify.faults(folder) == []
    path.write_text("{")
    assert "not readable as JSON" in verify.faults(folder)[0]
    rehash(folder, repo_id="me/set")
    api.card(folder)
    assert verify.faults(folder) == [] and "datasets/me/set" in path.read_text()
    path.unlink()
    assert verify.faults(folder) == []
