"""--tune chooses on validation data, for every side of a comparison alike, and says what it cost."""

import json
from types import SimpleNamespace

import pytest

from ddhub import api
from ddhub.data import source
from ddhub.evaluation import tuning

pytestmark = pytest.mark.slow


def test_rates_are_chosen_on_validation_data(folder, monkeypatch, capfd):
    """The best of the tried files is what rows use; test data is opened once, to score rows; nothing runs twice."""
    opened = []
    load_test = source.load_test
    monkeypatch.setattr(source, "load_test", lambda spec: opened.append(spec) or load_test(spec))
    how = {"tune": True, "overrides": ["epochs=2", "min_steps=0"], "seeds": 1, "threads": 1}
    report = api.evaluate(str(folder), ["convnet2_w8", "vit_tiny_w12"], **how).to_dict()
    assert len(opened) == 1
    assert "tuning: scored on 143 real images of the validation part\n" in capfd.readouterr().err
    tried = sorted((folder / "evaluation" / "tuning").glob("*.json"))
    assert len(tried) == 2 * 2 * 7  # architectures, kinds of data, five rates and two more decays
    for row in report["rows"]:
        start = f"{row['arch']}-native-{row['data']}-"
        scores = [json.loads(path.read_text()) for path in tried if path.name.startswith(start)]
        best = max(scores, key=lambda found: found["validation_top1"])
        assert row["tuned"]["validation_top1"] == best["validation_top1"]
        assert (row["lr"], row["settings"]["weight_decay"]) in {
            (s["lr"], s["weight_decay"]) for s in scores if s["validation_top1"] == best["validation_top1"]
        }
        assert row["tuned"]["trainings"] == len(scores) == 7
        assert row["tuned"]["seconds"] == pytest.approx(sum(found["seconds"] for found in scores), abs=0.051)
    assert {entry["protocol"] for entry in report["summary"]} == {"native epochs=2 min_steps=0 tuned"}
    before = {path: path.stat().st_mtime_ns for path in tried}
    again = api.evaluate(str(folder), ["convnet2_w8", "vit_tiny_w12"], **how).to_dict()
    assert again["rows"] == report["rows"]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "evaluation" / "tuning").glob("*.json")}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, ""),
        ({"imported": object()}, "; whether the set was distilled from them too is not known"),
        ({"method": {"name": "apm", "stopping": {"every": 10}}}, "; the set was chosen on them too (method.stopping)"),
        (
            {"merged": [SimpleNamespace(method={"name": "apm", "stopping": {"every": 10}})]},
            "; the set was chosen on them too (method.stopping)",
        ),
    ],
)
def test_what_else_the_validation_images_were_used_for_is_said(record, told):
    """An imported set may be made from them, and a set with `stopping` was chosen on them."""
    manifest = SimpleNamespace(
        **{"imported": None, "method": {"name": "apm", "stopping": None}, "merged": None, **record}
    )
    assert tuning.seen(manifest) == told


@pytest.mark.parametrize(("best", "word"), [(0, "lowest"), (2, None), (4, "highest")])
def test_a_best_rate_at_the_edge_is_a_warning(best, word, caplog):
    """A better one may lie beyond; in the middle there is nothing to say."""
    tried = [{"lr": 0.01 * (place + 1), "validation_top1": float(place == best)} for place in range(5)]
    tuning.warn_of_edge(("convnet", "native", "random"), tried)
    told = [record.getMessage() for record in caplog.records]
    assert [f"convnet native random: the {word} rate" in text for text in told] == [True] * (word is not None)
