"""`ddhub verify` names each fault, and passes what ddhub makes."""

import json
import re

import pytest
from click.testing import CliRunner
from conftest import QUICK
from safetensors.torch import load_file, save_file
from sets import rehash, rewrite

from ddhub import api
from ddhub.artifact import manifest
from ddhub.artifact.parquet import Rows
from ddhub.cli import app
from ddhub.reports import verify
from ddhub.training import architectures, teacher_file

pytestmark = pytest.mark.slow


def test_a_finished_set_has_no_faults(folder):
    """Nor has it any once it is evaluated."""
    assert verify.faults(folder) == []
    api.evaluate(str(folder), ["convnet2_w8"], threads=1)
    assert verify.faults(folder) == []


def test_whitened_sets_with_floats_have_no_faults(tmp_path, image_folder, monkeypatch):
    """The whitening and the exact inputs agree with the pictures."""
    monkeypatch.setattr("ddhub.distillation.packaging.worth_floats", lambda scores: True)
    source = f"source={{dataset: {image_folder}, resolution: 8, validation: 0.3}}"
    out = tmp_path / "white"
    where = [source, "preprocess.zca=true", "ipc=3", "labels.top_k=2"]
    api.distill("digits_ipc1", out=out, overrides=[*QUICK, *where], threads=1)
    assert verify.faults(out) == []
    tensors = load_file(out / "preprocess.safetensors")
    save_file({**tensors, "matrix": tensors["matrix"][:5]}, out / "preprocess.safetensors")
    rehash(out)
    assert any("values a side" in fault for fault in verify.faults(out))


def soft(rows, values):
    return Rows(rows.images, rows.labels, values)


DATA = {
    "pictures and classes": (lambda r: r, []),
    "a class too many": (
        lambda r: Rows(r.images, r.labels.clamp(min=1), r.soft),
        ["1 images per class are promised, but '0' has 0, '1' has 2"],
    ),
    "no soft labels": (lambda r: Rows(r.images, r.labels), ["column 'soft_label' is missing"]),
    "NaN": (lambda r: soft(r, r.soft * float("nan")), ["column 'soft_label' holds values that are not finite"]),
    "few columns": (lambda r: soft(r, r.soft[:, :3].contiguous()), ["has 3 values per image, not 10"]),
    "inputs": (
        lambda r: Rows(r.images, r.labels, r.soft, None, r.images.half()),
        ["column 'pixels' is there, which the manifest does not say"],
    ),
    "label": (lambda r: Rows(r.images, r.labels + 5, r.soft), ["outside 0..9"]),
}


@pytest.mark.parametrize("name", DATA)
def test_wrong_rows_are_named(folder, name):
    """Whatever the hashes say."""
    change, words = DATA[name]
    rewrite(folder, change)
    found = verify.faults(folder)
    assert len(found) == len(words)
    for word, fault in zip(words, found, strict=True):
        assert word in fault


@pytest.mark.parametrize("said", ["convnet2_w9", "convnet2_w8"])
def test_a_teacher_of_another_architecture_has_its_weights(folder, said):
    """Teachers may be of several architectures; each file has the weights of the one that it names."""
    other = architectures.build("convnet2_w9", 10, 1, 8, seed=0).state_dict()
    facts = {**teacher_file.facts(folder / "teachers/00.safetensors"), "arch": said}
    save_file(other, folder / "teachers/01.safetensors", {"ddhub": json.dumps(facts)})
    first = manifest.read(folder).teachers[0]
    second = first.model_copy(update={"arch": said, "file": "teachers/01.safetensors"})
    rehash(folder, teachers=[first, second])
    found = verify.faults(folder)
    if said == "convnet2_w9":
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith(f"{folder}/teachers/01.safetensors: its weights are not those of a convnet2_w8")


def edit(name, old, new):
    """A change of a text file."""

    def change(folder):
        text = (folder / name).read_text()
        assert re.search(old, text)
        (folder / name).write_text(re.sub(old, new, text, count=1))

    return change


def add(path, text):
    """Write one more file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


FAULTS = {
    "no card": (lambda f: (f / "README.md").unlink(), "README.md: missing"),
    "no header": (lambda f: (f / "README.md").write_text("hello"), "has no YAML header"),
    "another split": (edit("README.md", r"train-\*", "test-*"), "configs do not name"),
    "recipe": (edit("recipe.yaml", "ipc: 1", "ipc: 2"), "recipe.yaml: damaged"),
    "no teacher": (lambda f: (f / "teachers/00.safetensors").unlink(), "00.safetensors: missing"),
    "no teacher's file": (lambda f: (f / "teachers/00.safetensors").write_bytes(b"x" * 99), "not a teacher's file"),
    "torn row": (lambda f: add(f / "evaluation" / "row.json", "{"), "row.json: not an evaluation row"),
    "stray data": (lambda f: (f / "data/train-00001-of-00002.parquet").write_bytes(b"x"), "not among the manifest's"),
    "no manifest": (lambda f: (f / "ddhub.json").unlink(), "no ddhub artifact"),
    "torn manifest": (lambda f: (f / "ddhub.json").write_text("{"), "not readable as JSON"),
    "unknown key": (edit("ddhub.json", '"seed"', '"sede"'), "did you mean 'seed'"),
    "path": (edit("ddhub.json", '"recipe.yaml": {', '"../recipe.yaml": {'), "leads out of the folder"),
    "classes": (edit("ddhub.json", '"classes": \\[\n  "0"', '"classes": [\n  "zero"'), "manifest's class names"),
    "twice": (edit("ddhub.json", '"classes": \\[\n  "0"', '"classes": [\n  "1"'), "a name is there twice"),
    "std": (edit("ddhub.json", r'"std": \[\n\s*[\d.]+', '"std": [0.0'), "expected number >= 1e-06"),
    "loss": (edit("ddhub.json", '"form": "logits"', '"form": "hard"'), "needs soft labels"),
    "no data": (lambda f: [p.unlink() for p in (f / "data").iterdir()], "holds no train-"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(folder, name):
    """The line says which file and what is wrong with it."""
    change, words = FAULTS[name]
    change(folder)
    assert words in "\n".join(verify.faults(folder))


def test_numbers_that_nobody_measured_are_found(folder):
    """The report must be the rows' summary, and the card must show the report."""
    api.evaluate(str(folder), ["convnet2_w8"], baselines=[], threads=1)
    report = json.loads((folder / "report.json").read_text())
    report["summary"][0]["mean"] = 0.99
    (folder / "report.json").write_text(json.dumps(report))
    assert [f for f in verify.faults(folder) if "report.json: is not the summary" in f]
    api.card(folder)
    assert verify.faults(folder) == []
    edit("README.md", r"\(n=1\)", "(n=5)")(folder)
    assert [f for f in verify.faults(folder) if "its results are not those of the rows" in f]


def test_a_fault_ends_with_exit_code_1(folder):
    """And each is one line."""
    (folder / "README.md").unlink()
    result = CliRunner().invoke(app.main, ["verify", str(folder)])
    assert result.exit_code == 1
    assert result.stdout == f"{folder}/README.md: missing\n"
