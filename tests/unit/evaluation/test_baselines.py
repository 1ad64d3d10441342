"""Baselines choose real images of the training part, class by class; selections are checked on points of a line."""

import json

import pytest
import torch

from ddhub import api
from ddhub.artifact import parquet
from ddhub.base.errors import UserError
from ddhub.evaluation import baselines
from ddhub.evaluation.baselines import Pool

pytestmark = pytest.mark.slow

LINE = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])


def pool(per_class: int = 12) -> Pool:
    """Three classes of grey 8x8 images; every other image is held out."""
    draw = torch.Generator().manual_seed(0)
    count = 2 * 3 * per_class
    images = torch.randint(256, (count, 1, 8, 8), generator=draw, dtype=torch.uint8)
    labels = torch.arange(count) // 2 % 3
    return Pool(images, labels, ("a", "b", "c"), torch.arange(0, count, 2), lambda x: x.flatten(1).float() / 255)


def test_herding_follows_the_mean():
    """The mean of 0, 1, 2, 3, 10 is 3.2: first 3, then what keeps the mean nearest."""
    assert baselines.herding(LINE, 2, seed=0).tolist() == [3, 2]
    assert sorted(baselines.herding(LINE, 5, seed=0).tolist()) == [0, 1, 2, 3, 4]


def test_k_center_takes_the_farthest():
    """Wherever it starts, the outlier is among the first two."""
    for seed in range(5):
        chosen = baselines.kcenter(LINE, 3, seed).tolist()
        assert 4 in chosen[:2] and len(set(chosen)) == 3


def test_k_means_takes_one_image_of_each_cluster():
    """Two clusters: the outlier, and the middle of the rest."""
    assert sorted(baselines.kmeans(LINE, 2, seed=0).tolist()) in ([1, 4], [2, 4])
    assert len(set(baselines.kmeans(torch.zeros(6, 2), 3, seed=0).tolist())) == 3


@pytest.mark.parametrize("name", ["random", "herding", "kcenter", "kmeans"])
def test_a_baseline_stays_in_the_training_part(name):
    """As many of each class, nothing that was held out, nothing twice; the same seed gives the same rows."""
    source = pool()
    rows = baselines.choose(name, source, [4] * 3, seed=3)
    assert source.labels[rows].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert set(rows.tolist()) <= set(source.training.tolist()) and len(set(rows.tolist())) == 12
    assert torch.equal(rows, baselines.choose(name, source, [4] * 3, seed=3))
    with pytest.raises(UserError, match="12"):
        baselines.choose(name, source, [13] * 3, seed=0)


@pytest.mark.parametrize("name", ["random", "herding", "kcenter", "kmeans"])
def test_a_baseline_has_as_many_of_each_class_as_the_set(name):
    """Also where these differ, and where a class has none."""
    source = pool()
    rows = baselines.choose(name, source, [5, 0, 1], seed=3)
    assert source.labels[rows].tolist() == [0] * 5 + [2]


def test_bytes_are_shared_as_the_set_s_classes_are():
    """Twice as many of one class stay twice as many; a class without images gets none."""
    source = pool()
    each = sum(len(parquet.png(image)) for image in source.images[source.training]) / len(source.training) + 2
    assert baselines.affordable(source, int(each * 9.5), [2, 1, 0]) == [6, 3, 0]
    assert baselines.affordable(source, 10**9, [4, 1, 1]) == [12, 3, 3]


def test_what_fits_into_the_bytes_is_counted_in_encoded_images():
    """Between one image of each class and all of them."""
    source = pool()
    each = sum(len(parquet.png(image)) for image in source.images[source.training]) / len(source.training) + 2
    assert baselines.affordable(source, int(each * 3 * 5.5), [1] * 3) == [5] * 3
    assert baselines.affordable(source, 10, [7] * 3) == [1] * 3
    assert baselines.affordable(source, 10**9, [7] * 3) == [12] * 3


def test_every_protocol_and_baseline_makes_rows(folder):
    """The whole grid runs; what was overridden stands in each row, and stored bytes buy hard labels only."""
    report = api.evaluate(
        str(folder),
        ["convnet2_w8"],
        protocols=["native", "dynamic", "hard", "plain", "unaugmented", "dc-bench", "datm", "rded", "rd3"],
        baselines=["random", "random_bytes", "herding", "kcenter", "kmeans", "full"],
        overrides=["epochs=1", "full.epochs=1"],
        seeds=1,
        threads=1,
    ).to_dict()
    assert len(report["rows"]) == 9 * 6 + 1
    versions = {row["protocol"]: row["protocol_version"] for row in report["rows"]}
    assert versions["rded"] == 2 and versions["native"] == versions["full"] == 1
    assert all(row["settings"]["epochs"] == 1 for row in report["rows"])
    assert {row["settings"]["loss"] for row in report["rows"] if row["data"] == "random_bytes"} == {"ce"}
    assert {row["protocol"] for row in report["summary"]} >= {"native epochs=1", "full"}
    stored = json.loads((folder / "report.json").read_text())
    assert len(stored["rows"]) == len(report["rows"])


def test_changed_protocols_are_not_averaged_with_the_set_s_own(folder):
    """Two numbers of epochs are two lines of the report."""
    for overrides in ((), ("epochs=1",)):
        api.evaluate(str(folder), ["convnet2_w8"], baselines=[], overrides=overrides, seeds=1, threads=1)
    summary = json.loads((folder / "report.json").read_text())["summary"]
    assert [entry["protocol"] for entry in summary] == ["native", "native epochs=1"]
    assert [entry["n"] for entry in summary] == [1, 1]
