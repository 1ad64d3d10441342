"""`ddhub.load`: what a user trains on."""

import pytest
import torch

import ddhub
from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.base.errors import UserError


def test_a_set_loads_as_tensors(folder):
    """Images, labels, preprocessing and protocol agree with the folder."""
    loaded = ddhub.load(folder)
    found = folders.read(folder)
    assert len(loaded) == 10 and loaded.classes == [str(digit) for digit in range(10)]
    assert torch.equal(loaded.inputs, found.inputs)
    assert torch.allclose(loaded.preprocess(loaded.images), found.inputs, atol=1e-6)
    assert torch.allclose(loaded.preprocess(loaded.images.float() / 255), found.inputs, atol=1e-6)
    assert loaded.protocol == found.manifest.protocol


def test_batches_cover_the_set_every_epoch(folder):
    """Shuffled and augmented anew, the same for the same seed."""
    loaded = ddhub.load(folder)
    batches = list(loaded.batches(epochs=2, batch=4))
    assert [len(labels) for _, labels, _ in batches] == [4, 4, 2] * 2
    for part in (batches[:3], batches[3:]):
        assert sorted(torch.cat([labels for _, labels, _ in part]).tolist()) == list(range(10))
    again = list(loaded.batches(epochs=2, batch=4))
    assert all(torch.equal(a, b) for x, y in zip(batches, again, strict=True) for a, b in zip(x, y, strict=True))
    other = next(loaded.batches(batch=4, seed=1))
    assert not torch.equal(other[0], batches[0][0])


def test_teachers_label_on_the_fly(folder):
    """On the set itself they say what the set stores, to the precision of its floats."""
    loaded = ddhub.load(folder)
    assert torch.allclose(loaded.teach(loaded.inputs), loaded.soft_labels, atol=0.01)


def test_rows_come_in_torch_format(folder):
    """As `datasets` gives them to anybody."""
    row = ddhub.load(folder).dataset()[0]
    assert row["image"].shape == (1, 8, 8)
    assert row["soft_label"].dtype == torch.float32


def test_whitening_is_part_of_the_preprocessing(tmp_path, image_folder):
    """The module whitens test images as the set was whitened."""
    from conftest import QUICK

    source = f"source={{dataset: {image_folder}, resolution: 8, validation: 0.3}}"
    api.distill("digits_ipc1", out=tmp_path / "w", overrides=[*QUICK, source, "preprocess.zca=true"], threads=1)
    loaded = ddhub.load(tmp_path / "w")
    assert torch.allclose(loaded.preprocess(loaded.images), loaded.inputs, atol=1e-5)
    assert "zca" in loaded.preprocess.state_dict()


def test_a_damaged_set_does_not_load(folder):
    """The file is named."""
    (folder / "teachers" / "00.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"00\.safetensors: damaged"):
        ddhub.load(folder)
