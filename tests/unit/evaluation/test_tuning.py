"""--tune chooses on validation data, for every side of a comparison alike, and says what it cost."""

import json

import pytest

from ddhub import api
from ddhub.data import source

pytestmark = pytest.mark.slow


def test_rates_are_chosen_on_validation_data(folder, monkeypatch):
    """The best of the tried files is what rows use; test data is opened once, to score rows; nothing runs twice."""
    opened = []
    load_test = source.load_test
    monkeypatch.setattr(source, "load_test", lambda spec: opened.append(spec) or load_test(spec))
    how = {"tune": True, "overrides": ["epochs=2", "min_steps=0"], "seeds": 1, "threads": 1}
    report = api.evaluate(str(folder), ["convnet2_w8", "vit_tiny_w12"], **how).to_dict()
    assert len(opened) == 1
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
        assert row["tuned"]["trainings"] == 7 and row["tuned"]["seconds"] > 0
    assert {entry["protocol"] for entry in report["summary"]} == {"native epochs=2 min_steps=0 tuned"}
    before = {path: path.stat().st_mtime_ns for path in tried}
    again = api.evaluate(str(folder), ["convnet2_w8", "vit_tiny_w12"], **how).to_dict()
    assert again["rows"] == report["rows"]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "evaluation" / "tuning").glob("*.json")}
