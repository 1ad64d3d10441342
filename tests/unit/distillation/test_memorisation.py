"""The check for copies: exact where it can be, the same however it is cut up, and drawn for people to see."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddhub.artifact import manifest
from ddhub.base import seeds
from ddhub.base.resources import Resources
from ddhub.distillation import memorisation, pipeline, recipes
from ddhub.distillation.methods import apm

pytestmark = pytest.mark.slow

QUICK = [
    "teachers={arch: convnet2_w8, count: 1, epochs: 3}",
    "evaluate={epochs: 3, packaging_seeds: 1}",
    "method={name: random}",
]


@pytest.fixture
def task(tmp_path):
    """What a method sees of the digits."""
    return pipeline.prepare(recipes.read("digits_ipc1", QUICK), tmp_path, Resources(threads=1), 120)[0]


def noise(count: int, side: int = 8) -> torch.Tensor:
    """Random grey images, uint8 (count, 1, side, side)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 1, side, side), generator=generator).to(torch.uint8)


def test_exact_copies_are_found(task):
    """Training images have distance 0 to themselves, in pixels and in features, and all of them are copies."""
    rows = task.training[::40]
    found, pairs = memorisation.check(task, task.source.images[rows], task.source.labels[rows])
    assert found.checked == len(rows)
    assert found.pixels.median == 0
    assert found.pixels.copies == 1
    assert found.pixels.median_held_out > 0.05
    assert found.features.median < 1e-5
    assert found.features.copies == 1
    assert len(pairs) == 10
    assert all(torch.equal(pair.synthetic, pair.by_pixels) for pair in pairs)


def test_copies_at_half_the_side_are_found(tmp_path):
    """Features are compared with those of training images that lost the same detail."""
    task = pipeline.prepare(recipes.read("digits_ipc1", [*QUICK, "preprocess.factor=2"]), tmp_path, Resources(), 120)[0]
    rows = task.training[::40]
    found, _ = memorisation.check(task, task.as_stored(task.source.images[rows]), task.source.labels[rows])
    assert found.pixels.median == 0 and found.pixels.copies == 1
    assert found.features.median < 1e-5 and found.features.copies == 1


def test_held_out_copies_hide_no_copies(task):
    """A held-out image that is in the training part too lies at distance 0 from it, as no unseen image does."""
    images = task.source.images.clone()
    images[task.validation[:2]] = images[task.training[:2]]
    doubled = replace(task, source=replace(task.source, images=images))
    copied = images[task.training[:10]]
    record, _ = memorisation.check(doubled, copied, task.source.labels[task.training[:10]])
    assert record.pixels.copies == 1.0 and record.features.copies == 1.0
    assert record.pixels.median_held_out > 0


def test_images_near_those_that_they_started_as_are_told_apart(task):
    """What the set's images start as counts by its rows; a method that starts from none has no share."""
    started = replace(task, config=apm.Config(init="real"))
    rows = started.initial_rows
    there, _ = memorisation.check(started, task.source.images[rows], task.source.labels[rows])
    assert there.starts == 1
    others = torch.tensor([row for row in task.training.tolist() if row not in set(rows.tolist())][::40])
    elsewhere, _ = memorisation.check(started, task.source.images[others], task.source.labels[others])
    assert elsewhere.starts == 0
    assert memorisation.check(task, noise(5), torch.arange(5))[0].starts is None


def test_images_far_from_all_are_no_copies(task):
    """Noise is farther from the training images than held-out digits are."""
    found, pairs = memorisation.check(task, noise(20), torch.arange(20) % 10)
    assert found.pixels.copies == 0
    assert found.pixels.median > found.pixels.median_held_out
    assert pairs == sorted(pairs, key=lambda pair: pair.distance)


def test_without_teachers_pixels_are_checked_alone(task):
    """No features, and no rows for them in the picture."""
    found, pairs = memorisation.check(replace(task, teachers=None), noise(5), torch.arange(5))
    assert found.features is None
    assert pairs[0].by_features is None


@pytest.mark.parametrize("chunk", [1, 7, 400])
def test_cutting_the_training_images_up_changes_nothing(chunk, task):
    """The same nearest images and distances, which are those of a comparison of all with all."""
    images, training = noise(400), torch.arange(0, 400, 2)
    images[10] = images[20]  # of two that are equally near, the first
    queries = torch.cat([images[20:21], images[100:105] ^ 3, noise(450)[400:]])
    found = memorisation.nearest_by_pixels(queries, images, training, chunk=chunk)
    gaps = (queries.double().flatten(1).unsqueeze(1) - images[training].double().flatten(1)) / 255
    expected = gaps.square().mean(2).sqrt().min(dim=1)
    torch.testing.assert_close(found.distances, expected.values)
    assert torch.equal(found.rows, training[expected.indices])
    assert found.rows[0] == 10
    assert found.distances[0] == 0
    whole, cut = (memorisation.nearest_by_features(queries[:9], task, chunk=size) for size in (10_000, 97 + chunk))
    assert torch.equal(whole.rows, cut.rows)
    torch.testing.assert_close(whole.distances, cut.distances, rtol=0, atol=1e-5)


def test_queries_are_spread_over_the_classes():
    """As many of each class as there are, up to the limit; the same seed draws the same rows."""
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 20)
    chosen = memorisation.spread(labels, 13, seeds.generator(0, "test"))
    assert torch.equal(chosen, memorisation.spread(labels, 13, seeds.generator(0, "test")))
    assert torch.equal(chosen, chosen.unique())
    assert labels[chosen].bincount().tolist() == [5, 3, 5]
    assert len(memorisation.spread(labels, 500, seeds.generator(0, "test"))) == 73


def test_a_made_set_carries_the_check_and_its_picture(tmp_path):
    """In the manifest and beside the images, timed, and no part of the payload; the card shows it."""
    from ddhub import api

    out = tmp_path / "set"
    api.distill("digits_ipc1", out=out, overrides=QUICK, threads=1)
    record = manifest.read(out)
    assert record.memorisation.checked == 10
    assert record.memorisation.pixels.copies == 1
    assert record.made.phases["memorisation"] >= 0
    with Image.open(out / "assets" / "nearest.png") as picture:
        assert picture.width > picture.height > 100
    assert not any(Path(name).parts[0] == "assets" for name in record.files)
    text = (out / "README.md").read_text()
    assert "so all images are copies" in text
    assert "(assets/nearest.png)" in text
