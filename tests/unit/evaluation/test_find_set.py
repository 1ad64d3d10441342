"""Any set is evaluated by what it is called: a plain folder, pictures, a Hub dataset; nothing is written into it."""

import io
import json

import pytest
import torch
from click.testing import CliRunner
from conftest import coloured
from foreign_files import PLAIN, build, tree
from hub_client import in_client
from hub_server import HubServer

from ddhub import api
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.data import classes

pytestmark = pytest.mark.slow

QUICK = {"seeds": 1, "threads": 1}


def contents(folder):
    """Every file of a folder, byte for byte."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_plain_folder_of_parquet(image_folder, make_folder, tmp_path, capsys):
    """Imported beside its rows, once; class names in another order are followed; the folder stays as it was."""
    images, labels = coloured(6, 5)
    plain = make_folder({"train": (images, [(2, 0, 1)[k] for k in labels])}, "plain", names=("green", "blue", "red"))
    before, out = contents(plain), tmp_path / "out"
    options = {"source": str(image_folder), "out": out, **QUICK}
    found = api.evaluate(str(plain), ["convnet2_w8"], importing={"epochs": 2}, **options).to_dict()
    assert {row["data"] for row in found["rows"]} == {"distilled", "random"}
    assert {row["set"] for row in found["rows"]} == {"plain"} and {row["epochs"] for row in found["rows"]} == {2}
    assert contents(plain) == before
    assert len(list((out / "evaluation").glob("*.json"))) == 2
    report = json.loads((out / "report.json").read_text())
    assert report["rows"] and report["probe"]["verdict"] == "unknown"
    assert json.loads((out / "probe.json").read_text())["next"] == report["probe"]["next"]
    assert api.verify(str(out / "set")).ok
    assert "importing it into" in capsys.readouterr().err
    again = api.evaluate(str(plain), ["convnet2_w8"], importing={"epochs": 2}, **options).to_dict()
    assert again["rows"] == found["rows"] and "importing it into" not in capsys.readouterr().err
    api.evaluate(str(plain), ["convnet2_w8"], importing={"epochs": 3}, baselines=[], **options)
    assert "imported again" in capsys.readouterr().err
    assert {row["epochs"] for row in json.loads((out / "report.json").read_text())["rows"]} == {3}


def test_a_folder_of_pictures_from_the_command_line(image_folder, tmp_path, monkeypatch):
    """Into ddhub-evaluations/NAME; a probe that trains its teacher finds the set fine."""
    monkeypatch.chdir(tmp_path)
    pictures = tree(tmp_path / "pictures", per_class=4)
    before = contents(pictures)
    given = [
        "evaluate",
        "pictures",
        "--source",
        str(image_folder),
        "--epochs",
        "2",
        "--archs",
        "convnet2_w8",
        "--probe",
    ]
    result = CliRunner().invoke(app.main, [*given, "--seeds", "1", "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["set"] == "pictures" and found["probe"]["verdict"] == "fine"
    assert (tmp_path / "ddhub-evaluations" / "pictures" / "report.json").is_file()
    assert contents(pictures) == before


def test_a_file_of_another_tool_with_import_options(image_folder, tmp_path):
    """The options are those of `ddhub import`."""
    path = build("eccv24", tmp_path / "theirs")
    found = api.evaluate(
        str(path),
        ["convnet2_w8"],
        source=str(image_folder),
        importing={**PLAIN, "epochs": 1, "layout": "eccv24", "name": "theirs"},
        baselines=[],
        out=tmp_path / "out",
        **QUICK,
    ).to_dict()
    assert [row["set"] for row in found["rows"]] == ["theirs"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def on_the_hub(repo: str, commit: str, source: str, place: str) -> dict:
    """Evaluate a Hub dataset that is no artifact, with and without what it needs."""
    import os
    from pathlib import Path

    os.environ["DDHUB_HOME"] = place
    os.chdir(place)
    from ddhub import api
    from ddhub.base.errors import UserError

    said = {}
    for name, reference, options in (
        ("no source", repo, {}),
        ("no config", repo, {"source": source}),
        ("wrong config", repo, {"source": source, "importing": {"config": "c"}}),
        ("artifact", "alice/artifact", {"source": source}),
        ("mean", repo, {"importing": {"mean": (0.5,)}}),
        ("missing", "alice/none", {"source": source}),
    ):
        try:
            api.evaluate(reference, ["convnet2_w8"], **options)
        except UserError as fault:
            said[name] = str(fault)
    importing = {"epochs": 1, "config": "b", "label": "class_id"}
    done = api.evaluate(repo, ["convnet2_w8"], source=source, importing=importing, seeds=1, threads=1).to_dict()
    old = api.evaluate(
        f"{repo}@{commit}", ["convnet2_w8"], source=source, importing=importing, seeds=1, threads=1, baselines=[]
    ).to_dict()
    out = Path(place) / "ddhub-evaluations" / "alice--plain--b"
    rows, record = os.listdir(out / "evaluation"), (out / "set" / "ddhub.json").read_text()
    return {"said": said, "sets": [row["set"] for row in (*done["rows"], *old["rows"])], "rows": rows, "made": record}


def parquet(seed: int, column: str) -> bytes:
    """Six pictures of three classes with plain numbers for labels."""
    import datasets
    from conftest import encode

    images, labels = coloured(6, seed)
    features = datasets.Features({"image": datasets.Image(), column: datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": [encode(i) for i in images], column: labels}, features=features)
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


def test_a_hub_dataset_with_subsets(image_folder, tmp_path):
    """Pinned to one commit that its rows name; what is missing is asked for by its option."""
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train.parquet\n" for name in "ab"
    )
    with HubServer(tmp_path / "hub") as hub:
        token = hub.add_user("alice")
        hub.create_repo("alice/plain")
        first = {"README.md": f"{card}---\n".encode(), "a/train.parquet": parquet(1, "label")}
        hub.commit("alice/plain", {**first, "b/train.parquet": parquet(2, "class_id")})
        old = hub.commits("alice/plain")[0].id
        hub.commit("alice/plain", {"b/train.parquet": parquet(3, "class_id")})
        new = hub.commits("alice/plain")[0].id
        hub.create_repo("alice/artifact")
        hub.commit("alice/artifact", {"ddhub.json": b"{}"})
        home = tmp_path / "here"
        home.mkdir()
        done = in_client(
            on_the_hub, hub, token, repo="alice/plain", commit=old, source=str(image_folder), place=str(home)
        )
    said = done["said"]
    assert "no ddhub.json" in said["no source"] and "ddhub evaluate alice/plain --source DATASET" in said["no source"]
    assert "which subset?" in said["no config"] and said["no config"].endswith("next: --config NAME")
    assert "'a', 'b'" in said["no config"] and "'c' not found" in said["wrong config"]
    assert "is a ddhub artifact" in said["artifact"] and "--source" in said["mean"] and "alice/none" in said["missing"]
    assert done["sets"] == [f"alice/plain@{new}"] * 2 + [f"alice/plain@{old}"]
    assert len([name for name in done["rows"] if name.endswith(".json")]) == 3
    made = json.loads(done["made"])["imported"]
    assert list(made["files"]) == [f"alice/plain@{old}"] and "read from the subset b" in made["notes"]


def test_what_has_to_be_said_is_asked_for(image_folder, finished, tmp_path, monkeypatch):
    """One sentence and what to type; nothing is written."""
    monkeypatch.chdir(tmp_path)
    pictures = tree(tmp_path / "pictures")
    with pytest.raises(UserError, match=r"no ddhub artifact(.|\n)*ddhub evaluate pictures --source DATASET"):
        api.evaluate("pictures")
    path = build("eccv24", tmp_path / "theirs")
    with pytest.raises(UserError, match="--source DATASET"):
        api.evaluate(str(path))
    with pytest.raises(UserError, match="in the set's own folder"):
        api.evaluate("pictures", source=str(image_folder), out=pictures / "out")
    with pytest.raises(UserError, match="is a ddhub artifact"):
        api.evaluate(str(finished), source="digits")
    with pytest.raises(UserError, match=r"mean: for sets that are no ddhub artifacts"):
        api.evaluate(str(finished), importing={"mean": (0.5,)})
    with pytest.raises(UserError, match="no such file or folder"):
        api.evaluate("./nowhere.pt", source="digits")
    assert not (tmp_path / "ddhub-evaluations").exists()


def test_another_test_set_is_followed_by_its_names(image_folder, make_folder, tmp_path):
    """The same pictures under other numbers give the same accuracy; names that nobody knows are refused."""
    images, labels = coloured(30, 1)
    turned = make_folder({"test": (images, [(k + 1) % 3 for k in labels])}, "turned", names=("Blue", "RED", "green"))
    strange = make_folder({"test": (images, labels)}, "strange", names=("rot", "gruen", "blau"))
    options = {
        "source": str(image_folder),
        "importing": {"epochs": 60},
        "baselines": [],
        "out": tmp_path / "out",
        **QUICK,
    }
    pictures = str(tree(tmp_path / "pictures"))
    own, other = (
        api.evaluate(pictures, ["convnet2_w8"], test=test, **options).to_dict() for test in (None, str(turned))
    )
    assert own["rows"][0]["top1"] == other["rows"][0]["top1"] and own["rows"][0]["top1"] > 0.5
    shots = tree(tmp_path / "shots", per_class=3)
    for number, name in enumerate(("red", "green", "blue")):
        (shots / f"{number:05d}").rename(shots / name)
    seen = api.evaluate(pictures, ["convnet2_w8"], test=str(shots), **options).to_dict()
    assert seen["rows"][0]["test_images"] == 9 and seen["rows"][0]["top1"] > 0.5
    both = make_folder({"a": (images, labels), "b": (images, labels)}, "both")
    with pytest.raises(UserError, match="no split to test on, only a, b"):
        api.evaluate(pictures, ["convnet2_w8"], test=str(both), **options)
    with pytest.raises(UserError, match="its classes are not those of the set"):
        api.evaluate(pictures, ["convnet2_w8"], test=str(strange), **options)


def test_classes_are_matched_by_name_and_by_wordnet_id():
    """Ids in names, ids for names and names for ids; never where two could be meant."""
    assert classes.match(["b", "a"], ["a", "b"]) == [1, 0]
    assert classes.match(["Great_White shark", "tench"], ["tench", "great white shark"]) == [1, 0]
    ids, names = ["n01440764", "n01484850"], ["great white shark, white shark", "tench, Tinca tinca"]
    assert classes.match(["n01484850_shark", "n01440764_tench"], ids) == [1, 0]
    assert classes.match(ids, names) == [1, 0] and classes.match(names, ids) == [1, 0]
    assert classes.match(["tench", "great white shark"], ids) == [0, 1]
    assert classes.match(["crane", "crane"], ["n02012849", "n03126707"]) is None
    assert classes.match(["a"], ["a", "b"]) is None and classes.match(["a", "c"], ["a", "b"]) is None
    assert torch.tensor(classes.match(["1", "0"], ["0", "1"])).tolist() == [1, 0]
