"""The main job on scikit-learn's digits: distill, load, evaluate, resume. Small, but nothing in it is a stand-in."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from processes import Chosen, distill, stopped
from sets import payload

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest
from ddhub.base import plugins
from ddhub.base.errors import UserError
from ddhub.evaluation import rows as results

TINY = [
    "teachers.count=2",
    "teachers.epochs=3",
    "teachers.arch=convnet2_w8",
    "evaluate.epochs=4",
    "evaluate.packaging_seeds=1",
    "evaluate.full_epochs=1",
]
APM = [*TINY, "method.iterations=7", "method.student={arch: convnet2_w8, epochs: 5, lr: 0.02}"]
METHODS = {
    "apm": APM,
    "random": [*TINY, "method={name: random}"],
    "dm": [*TINY, "method={name: dm, iterations: 7, arch: convnet2_w8, real: 16}"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One finished artifact."""
    folder = tmp_path_factory.mktemp("made") / "set"
    api.distill("digits_ipc1", out=folder, overrides=APM, threads=1)
    return folder


def test_every_method_has_settings_here():
    """A new method file is tested the moment it exists: give it a line in METHODS."""
    assert set(METHODS) == set(plugins.METHODS.names())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_makes_a_set_that_anybody_can_load(name, tmp_path):
    """Plain datasets reads images, class names and soft labels."""
    import datasets

    api.distill("digits_ipc1", out=tmp_path / name, overrides=METHODS[name], threads=1)
    table = datasets.load_dataset(str(tmp_path / name))
    assert list(table) == ["train"]
    rows = table["train"]
    assert len(rows) == 10
    assert rows.features["label"].names == [str(digit) for digit in range(10)]
    assert rows[0]["image"].size == (8, 8)
    assert rows[0]["image"].mode == "L"
    assert sorted(rows["label"]) == list(range(10))
    assert np.asarray(rows["soft_label"][:]).shape == (10, 10)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_resumes_bit_exactly_after_kill_9(name, tmp_path, monkeypatch):
    """Killed among its teachers and again in its loop, the same command ends with the bytes of an unbroken run."""
    overrides = [*METHODS[name], "teachers.epochs=4"]
    whole, broken, home = tmp_path / "whole", tmp_path / "broken", tmp_path / "home"
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "another home"))
    api.distill("digits_ipc1", out=whole, overrides=overrides, threads=1)
    assert distill(broken, overrides, home, killed_at("teacher_*-*03.pt")) == -signal.SIGKILL
    assert list((home / "teachers").glob("*.run/*03.pt")) and not list((home / "teachers").glob("*.safetensors"))
    if name != "random":
        assert distill(broken, overrides, home, killed_at("distill-*5.pt")) == -signal.SIGKILL
        assert list((home / "teachers").glob("*.safetensors")) and list((broken / ".ddhub").glob("distill-*5.pt"))
    assert not (broken / "ddhub.json").exists()
    assert distill(broken, overrides, home) == 0
    assert payload(broken) == payload(whole)
    assert not list((broken / ".ddhub").glob("distill-*"))  # checkpoints and images in files have served


def killed_at(name: str) -> Chosen:
    """Kill -9 as soon as a file of such a name is in its place."""
    return Chosen("after a rename", 1, named=name)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_makes_groups_within_a_budget_and_resumes_them_after_kill_9(name, tmp_path, monkeypatch):
    """What the budget came to is decided once; a set of two groups is the same whether a process died over it."""
    overrides = [*METHODS[name], "ipc=2", "groups=2", "memory=2GB", "teachers.epochs=4"]
    whole, broken, home = tmp_path / "whole", tmp_path / "broken", tmp_path / "home"
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "another home"))
    api.distill("digits_ipc1", out=whole, overrides=overrides, threads=1)
    decisions = manifest.read(whole).made.decisions
    assert 0 < decisions["micro_batch"] <= 256 and 0 < decisions["chunk"] <= 500
    # `random` has no loop to be killed in.
    chosen = killed_at("teacher_*-*03.pt" if name == "random" else "group_*5.pt")
    assert distill(broken, overrides, home, chosen) == -signal.SIGKILL
    assert not (broken / "ddhub.json").exists()
    assert distill(broken, overrides, home) == 0
    assert payload(broken) == payload(whole) and manifest.read(broken).made.decisions == decisions


def test_a_budget_that_a_methods_uncut_steps_exceed_is_refused(tmp_path):
    """Distribution matching takes all images of a step at once, whatever the budget; it says what that needs."""
    overrides = [*METHODS["dm"], "memory=1MB"]
    with pytest.raises(
        UserError, match="memory: steps, which are not cut into pieces, take more than the budget"
    ) as said:
        api.distill("digits_ipc1", out=tmp_path / "set", overrides=overrides, threads=1)
    assert said.value.next.startswith("--memory ")


def test_a_command_that_is_asked_to_stop_saves_and_goes_on_with_the_same_bytes(tmp_path, monkeypatch):
    """By Ctrl-C among the steps of a teacher, and by SIGTERM in its loop; no claim is left."""
    overrides = [*APM, "teachers.epochs=4"]
    whole, broken, home, said = (tmp_path / name for name in ("whole", "broken", "home", "said.txt"))
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "another home"))
    api.distill("digits_ipc1", out=whole, overrides=overrides, threads=1)
    sets = [text for override in overrides for text in ("--set", override)]
    words = ["distill", "digits_ipc1", "--out", str(broken), "--threads=1", *sets]
    for number, phase, step, saved in (
        (signal.SIGINT, "teacher_1_of_2", 2, "epoch 3 of 4"),
        (signal.SIGTERM, "distill", 4, "step 5 of 7"),
    ):
        said.unlink(missing_ok=True)
        assert stopped(words, home, said, number, phase, step) == 128 + number
        told = said.read_text()
        assert f"{phase.replace('_', ' ')}: saved at {saved}\n" in told and "Traceback" not in told
        assert told.endswith("stopped; the same command goes on from the last checkpoint\n")
        assert not list(home.rglob("*.claim"))
    assert stopped(words, home, said, 0, "", 0) == 0
    assert "distill: resuming at step 6 of 7, 2 teachers from the cache\n" in said.read_text()
    assert payload(broken) == payload(whole)


def test_a_resume_refuses_a_source_that_changed(image_folder, tmp_path, monkeypatch):
    """Other images under the same name are not mixed into a run that was begun."""
    settings = [*APM, "source={dataset: tests/colours}", "augment=dsa", f"source.path={image_folder}"]
    out = tmp_path / "set"
    api.distill("digits_ipc1", out=out, overrides=settings, threads=1)
    begun = json.loads((out / ".ddhub" / "run.json").read_text())
    (out / ".ddhub" / "run.json").write_text(json.dumps({**begun, "fingerprint": "sha256:other"}))
    (out / "ddhub.json").unlink()
    with pytest.raises(UserError, match="begun with other images"):
        api.distill("digits_ipc1", out=out, overrides=settings, threads=1)


def test_another_source_or_method_does_not_inherit_what_the_card_says(tmp_path):
    """A set of other images made from a shipped recipe carries neither its name nor its licence."""
    from ddhub.artifact import recipe
    from ddhub.distillation import recipes

    assert recipes.read("digits_ipc1", ["source={dataset: me/leaves}"]).publish == recipe.PublishSpec()
    assert recipes.read("digits_ipc1", ["method.name=random"]).publish == recipe.PublishSpec(license="cc-by-4.0")
    kept = recipes.read("digits_ipc1", ["source={dataset: me/leaves}", "publish={license: mit}"]).publish
    assert kept.license == "mit"


def test_a_set_does_not_depend_on_test_data(image_folder, tmp_path, monkeypatch):
    """Selection on test data is impossible: whatever the test split holds, even nothing, the payload is the same."""
    import datasets

    poisoned = tmp_path / "poisoned"
    shutil.copytree(image_folder, poisoned)
    for path in poisoned.rglob("test*.parquet"):
        table = datasets.load_dataset("parquet", data_files=str(path), split="train")
        wrong = [2 - label for label in table["label"]]
        features = table.features
        table.remove_columns("label").add_column("label", wrong).cast(features).to_parquet(str(path))
    bare = tmp_path / "bare"
    shutil.copytree(image_folder, bare)
    for path in bare.rglob("test*.parquet"):
        path.unlink()
    readme = bare / "README.md"
    if readme.exists():
        readme.unlink()
    settings = [
        *APM,
        "source={dataset: tests/colours, image: null, label: null}",
        "method.stopping={every: 3, epochs: 2, networks: 1}",
        "augment=dsa",
    ]
    made = []
    for folder in (image_folder, poisoned, bare):
        monkeypatch.setenv("DDHUB_HOME", str(tmp_path / f"home-{folder.name}"))
        out = tmp_path / f"out-{folder.name}"
        api.distill("digits_ipc1", out=out, overrides=[*settings, f"source.path={folder}"], threads=1)
        made.append(payload(out))
    assert made[0] == made[1] == made[2]


def test_an_evaluation_compares_with_random_and_full_data_and_never_runs_a_row_twice(made):
    """Rows carry the contract's keys; the second call trains nothing; the report and the card show the numbers."""
    asked = {"seeds": 2, "protocols": ("native", "dynamic"), "baselines": ("random", "full"), "threads": 1}
    first = api.evaluate(str(made), ["convnet2_w8"], **asked).to_dict()
    rows = sorted((made / "evaluation").glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in rows}
    second = api.evaluate(str(made), ["convnet2_w8"], **asked).to_dict()
    assert first == second
    assert {path: path.stat().st_mtime_ns for path in rows} == before
    assert len(rows) == len(first["rows"]) == 2 * 2 * 2 + 2
    contract = ["format", "set", "arch", "protocol", "data", "seed", "top1", "test_images", "epochs", "lr", "seconds"]
    assert all(key in row for row in first["rows"] for key in [*contract, "device", "decisions"])
    assert {row["test_images"] for row in first["rows"]} == {359}
    report = json.loads((made / "report.json").read_text())
    assert report["summary"] == first["summary"]
    entry = next(e for e in report["summary"] if e["data"] == "distilled" and e["protocol"] == "native")
    shown = f"{100 * entry['mean']:.1f} ± {100 * entry['std']:.1f} (n=2)"
    assert shown in (made / "README.md").read_text()
    folders.read(made)  # the payload's hashes still hold


def test_rows_of_another_payload_are_not_reported(made, tmp_path):
    """A row measured on other bytes is not this set's."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    api.evaluate(str(folder), ["convnet2_w8"], seeds=1, baselines=(), threads=1)
    path = next((folder / "evaluation").glob("*.json"))
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, "payload": "other"}))
    rows = results.of(manifest.read(folder), folder / "evaluation")
    assert all(kept.payload != "other" for kept in rows)


def test_distilling_again_changes_nothing(made):
    """The finished artifact is recognised."""
    before = payload(made)
    api.distill("digits_ipc1", out=made, overrides=APM, threads=1)
    assert payload(made) == before


def test_a_folder_of_another_recipe_is_refused_and_left_alone(made):
    """The error names the keys that differ."""
    before = payload(made)
    with pytest.raises(UserError, match=r"another recipe \(different: ipc\)"):
        api.distill("digits_ipc1", out=made, overrides=[*APM, "ipc=2"], threads=1)
    assert payload(made) == before


def test_a_folder_with_strangers_files_is_refused(tmp_path):
    """Nothing is written beside files that ddhub did not make."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds something else"):
        api.distill("digits_ipc1", out=tmp_path, overrides=APM)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_cannot_work_in_one_folder(tmp_path):
    """The second one says so at once."""
    from ddhub.base import files

    out = tmp_path / "set"
    with files.locked(out / ".ddhub" / "lock"), pytest.raises(UserError, match="another ddhub is working"):
        api.distill("digits_ipc1", out=out, overrides=APM)


def test_more_images_than_a_class_has_are_refused_before_any_training(tmp_path):
    """The class is named."""
    with pytest.raises(UserError, match="class '8' has"):
        api.distill("digits_ipc1", out=tmp_path / "set", overrides=[*APM, "ipc=126"])


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "teachers/00.safetensors", "recipe.yaml"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_payload_is_named(made, tmp_path, name, damage):
    """Whatever happened to it, the file is in the message."""
    folder = tmp_path / "set"
    shutil.copytree(made, folder)
    path = folder / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-10] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=Path(name).name):
        folders.read(folder)
