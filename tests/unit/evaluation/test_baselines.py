"""Baselines choose real images of the training part, class by class, as many as the set or its bytes."""

import json
from pathlib import Path

import pytest
import torch

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import parquet
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.evaluation import baseline_images, workbench
from ddhub.evaluation.baseline_images import Pool
from ddhub.evaluation.baselines import BASELINES
from ddhub.evaluation.protocols import FROZEN, PROTOCOLS
from ddhub.evaluation.request import Cell, EvaluationRequest

pytestmark = pytest.mark.slow


def pool(per_class: int = 12) -> Pool:
    """Three classes of grey 8x8 images; every other image is held out."""
    draw = torch.Generator().manual_seed(0)
    count = 2 * 3 * per_class
    images = torch.randint(256, (count, 1, 8, 8), generator=draw, dtype=torch.uint8)
    labels = torch.arange(count) // 2 % 3
    return Pool(images, labels, ("a", "b", "c"), torch.arange(0, count, 2), flat, scores)


def flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).float() / 255


def scores(images: torch.Tensor, label: int) -> torch.Tensor:
    return flat(images)[:, 0]


@pytest.mark.parametrize("name", ["random", "herding", "kcenter", "kmeans", "el2n", "ccs", "easy"])
def test_a_baseline_stays_in_the_training_part(name):
    """As many of each class, nothing that was held out, nothing twice; the same seed gives the same rows."""
    source = pool()
    rows = baseline_images.choose(name, source, [4] * 3, seed=3)
    assert source.labels[rows].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert set(rows.tolist()) <= set(source.training.tolist()) and len(set(rows.tolist())) == 12
    assert torch.equal(rows, baseline_images.choose(name, source, [4] * 3, seed=3))
    with pytest.raises(UserError, match="12"):
        baseline_images.choose(name, source, [13] * 3, seed=0)


@pytest.mark.parametrize("name", ["random", "herding", "kcenter", "kmeans", "el2n", "ccs", "easy"])
def test_a_baseline_has_as_many_of_each_class_as_the_set(name):
    """Also where these differ, and where a class has none."""
    source = pool()
    rows = baseline_images.choose(name, source, [5, 0, 1], seed=3)
    assert source.labels[rows].tolist() == [0] * 5 + [2]


def test_fresh_real_images_at_equal_compute_stay_in_the_training_part(folder):
    """`--tune` scores its candidates on the others."""
    cell = Cell("convnet2_w8", "native", "equal_compute", 0)
    asked = EvaluationRequest(
        *(str(folder), Path, "set", (cell,), ("epochs=200",), None, None, Resources(threads=1)), tune=True
    )
    bench = workbench.build(folders.read(folder), asked)
    drawn = workbench.examples(bench, cell).index.tolist()
    assert len(drawn) == len(set(drawn)) == 1000
    assert set(drawn) <= set(bench.training.tolist())


def test_bytes_are_shared_as_the_set_s_classes_are():
    """Twice as many of one class stay twice as many; a class without images gets none."""
    source = pool()
    each = sum(len(parquet.png(image)) for image in source.images[source.training]) / len(source.training) + 2
    assert baseline_images.affordable(source, int(each * 9.5), [2, 1, 0]) == [6, 3, 0]
    assert baseline_images.affordable(source, 10**9, [4, 1, 1]) == [12, 3, 3]


def test_what_fits_into_the_bytes_is_counted_in_encoded_images():
    """Between one image of each class and all of them."""
    source = pool()
    each = sum(len(parquet.png(image)) for image in source.images[source.training]) / len(source.training) + 2
    assert baseline_images.affordable(source, int(each * 3 * 5.5), [1] * 3) == [5] * 3
    assert baseline_images.affordable(source, 10, [7] * 3) == [1] * 3
    assert baseline_images.affordable(source, 10**9, [7] * 3) == [12] * 3


def test_every_protocol_and_baseline_makes_rows(folder):
    """What was overridden stands in each row, and stored bytes and equal compute buy hard labels only."""
    others = [name for name in PROTOCOLS if name not in ("native", FROZEN)]
    asked = {"overrides": ["epochs=1"], "seeds": 1, "threads": 1}
    rows = api.evaluate(str(folder), ["convnet2_w8"], protocols=others, **asked).to_dict()["rows"]
    assert len(rows) == 2 * len(others)
    asked["overrides"] += ["full.epochs=1"]
    rows += api.evaluate(str(folder), ["convnet2_w8"], baselines=list(BASELINES), **asked).to_dict()["rows"]
    assert len(rows) == 2 * len(others) + 1 + len(BASELINES)
    versions = {row["protocol"]: row["protocol_version"] for row in rows}
    assert versions["rded"] == 2 and versions["native"] == versions["full"] == 2
    fresh = [row for row in rows if row["data"] == "equal_compute"]
    assert all(row["settings"]["epochs"] == 1 for row in rows if row not in fresh)
    # One epoch of the set's ten images is two of five real ones.
    assert {(row["settings"]["epochs"], row["train_images"]) for row in fresh} == {(2, 5)}
    hard = [row for row in rows if row["data"] in ("random_bytes", "equal_compute")]
    assert {(row["settings"]["loss"], row["settings"]["labels"]) for row in hard} == {("ce", "hard")}
    stored = json.loads((folder / "report.json").read_text())
    assert {entry["protocol"] for entry in stored["summary"]} >= {"native epochs=1", "full epochs=1"}
    assert len(stored["rows"]) == len(rows)


def test_changed_protocols_are_not_averaged_with_the_set_s_own(folder):
    """Two numbers of epochs are two lines of the report."""
    for overrides in ((), ("epochs=1",)):
        api.evaluate(str(folder), ["convnet2_w8"], baselines=[], overrides=overrides, seeds=1, threads=1)
    summary = json.loads((folder / "report.json").read_text())["summary"]
    assert [entry["protocol"] for entry in summary] == ["native", "native epochs=1"]
    assert [entry["n"] for entry in summary] == [1, 1]
