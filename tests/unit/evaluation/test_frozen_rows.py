"""Linear probes of a frozen backbone: rows of their own protocol, random images beside them."""

import json

import pytest
import timm_weights
from conftest import QUICK

from ddhub import api
from ddhub.base.errors import UserError
from ddhub.training import frozen

pytestmark = pytest.mark.slow

NAME = "test_vit"  # timm's own for tests


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return timm_weights.written(NAME, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def made(image_folder, tmp_path):
    """A set of colours, whose source is small."""
    api.distill("digits_ipc1", tmp_path / "set", overrides=[*QUICK, f"source={{dataset: {image_folder}}}"], threads=1)
    return tmp_path / "set"


def test_a_frozen_backbone_beside_a_network(made, weights):
    """Its rows are of protocol `frozen`, whatever was asked; each backs its number by the weights, and no path."""
    arch = f"frozen:{NAME}@{weights}"
    report = api.evaluate(
        str(made),
        [arch, "convnet2_w8"],
        protocols=["hard"],
        baselines=["random", "full"],
        overrides=["epochs=2", "full.epochs=1", "frozen.epochs=200"],
        seeds=1,
        threads=1,
    ).to_dict()
    rows = [row for row in report["rows"] if row["arch"].startswith("frozen:")]
    assert {row["arch"] for row in rows} == {f"frozen:{NAME}@model.safetensors"}
    assert {(row["protocol"], row["protocol_version"]) for row in rows} == {("frozen", 1)}
    assert {row["data"] for row in rows} == {"distilled", "random", "full"} and len(rows) == 3
    assert {row["weights"] for row in rows} == {frozen.load(arch).weights}
    assert {row["epochs"] for row in rows if row["data"] != "full"} == {200}
    assert {row["epochs"] for row in rows if row["data"] == "full"} == {1}
    assert {row["settings"]["labels"] for row in rows} == {"hard"}
    others = [row for row in report["rows"] if row not in rows]
    assert {row["protocol"] for row in others} == {"hard", "full"} and "weights" not in others[0]
    mean = {e["data"]: e["mean"] for e in report["summary"] if e["arch"] == rows[0]["arch"]}
    assert mean["distilled"] > 0.9  # three colours
    assert str(weights.parent) not in json.dumps(report)
    assert not any(str(weights.parent) in path.read_text() for path in (made / "evaluation").glob("*.json"))
    assert "Protocol `frozen`" in (made / "README.md").read_text()
    with pytest.raises(UserError, match=r"--archs frozen:NAME"):
        api.evaluate(str(made), ["convnet2_w8"], protocols=["frozen"])


def test_its_rate_can_be_tuned_on_validation_data(made, weights):
    """On features of the images that were held out."""
    how = {"tune": True, "baselines": [], "overrides": ["epochs=5"], "seeds": 1, "threads": 1}
    row = api.evaluate(str(made), [f"frozen:{NAME}@{weights}"], **how).to_dict()["rows"][0]
    assert row["tuned"]["lr"] == row["lr"] and row["overrides"] == ["epochs=5", "tuned"]
