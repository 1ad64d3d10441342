"""What packaging keeps: whitening, floats only where 8 bits cost accuracy, labels of one teacher or of all."""

import json

import pytest
import torch
from safetensors.torch import load_file

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import source_location
from ddhub.artifact.run_state import STATE
from ddhub.base.errors import UserError
from ddhub.distillation import packaging, recipes
from ddhub.distillation.task import Task
from ddhub.training import device, teachers
from ddhub.training.teachers import Teachers

pytestmark = pytest.mark.slow

QUICK = [
    "teachers={arch: convnet2_w8, count: 2, epochs: 2}",
    "evaluate={epochs: 3, packaging_seeds: 2, full_epochs: 1}",
    "method={name: random}",
]


def make(folder, *overrides, source):
    where = [f"source={{dataset: tests/colours, path: {source}}}", "augment=dsa"]
    api.distill("digits_ipc10", out=folder, overrides=[*QUICK, *where, *overrides], threads=1)
    return folders.read(folder)


def test_whitening_travels_with_the_set(image_folder, tmp_path):
    """Inputs rebuilt from the shipped matrix equal whitened pixels, and evaluation uses them."""
    found = make(tmp_path / "set", "preprocess.zca=true", source=image_folder)
    assert found.manifest.preprocess.zca == "preprocess.safetensors"
    assert found.manifest.bytes.preprocess == (tmp_path / "set" / "preprocess.safetensors").stat().st_size
    tensors = load_file(tmp_path / "set" / "preprocess.safetensors")
    flat = (found.images.float() / 255).flatten(1) - tensors["mean"]
    torch.testing.assert_close(found.inputs.flatten(1), flat @ tensors["matrix"])
    rows = api.evaluate(str(found.folder), seeds=1, protocols=("native", "dynamic"), threads=1).to_dict()["rows"]
    assert len(rows) == 4


@pytest.mark.parametrize("which", ["mean", "one"])
def test_soft_labels_are_the_teachers_word_on_the_shipped_pixels(which, image_folder, tmp_path):
    """The stored logits are those of the shipped teachers on the images as read back, rounded to float16."""
    found = make(tmp_path / "set", f"labels.teachers={which}", source=image_folder)
    shipped = teachers.load(found.teacher_files, decisions=device.Decisions())
    expected = shipped.label(found.inputs, None if which == "mean" else 0)
    torch.testing.assert_close(found.soft_labels, expected.half().float(), rtol=2e-3, atol=2e-3)


def test_hard_labels_need_no_teachers(image_folder, tmp_path):
    """Without teachers the set has classes only, its protocol is cross-entropy, and dynamic labels are refused."""
    found = make(tmp_path / "set", "labels.form=hard", "teachers.count=0", source=image_folder)
    assert found.soft_labels is None and found.teacher_files == []
    assert found.manifest.protocol.loss == "ce"
    assert api.evaluate(str(found.folder), ["convnet2_w8"], seeds=1, threads=1).to_dict()["summary"]
    with pytest.raises(UserError, match="ships no teachers"):
        api.evaluate(str(found.folder), protocols=("dynamic",))


def test_floats_are_shipped_only_where_8_bits_cost_accuracy(image_folder, tmp_path, monkeypatch):
    """Where the scores say so, column `pixels` appears and is what a network is trained on."""
    assert not packaging.worth_floats({"float": [0.50, 0.51, 0.49], "packaged": [0.50, 0.50, 0.50]})
    assert not packaging.worth_floats({"float": [0.60], "packaged": [0.50]})
    assert not packaging.worth_floats({"float": [0.51, 0.53], "packaged": [0.50, 0.51]})  # two networks say little
    assert packaging.worth_floats({"float": [0.50, 0.51, 0.52], "packaged": [0.49, 0.50, 0.51]})
    plain = make(tmp_path / "plain", source=image_folder)
    assert plain.pixels is None and plain.manifest.preprocess.pixels_space is None
    monkeypatch.setattr(packaging, "worth_floats", lambda scores: True)
    exact = make(tmp_path / "exact", source=image_folder)
    assert exact.manifest.preprocess.pixels_space == "input"
    assert exact.pixels.shape == exact.images.shape
    assert torch.equal(exact.inputs, exact.pixels)
    torch.testing.assert_close(exact.pixels, exact.preprocess.inputs(exact.images), rtol=1e-3, atol=5e-3)


def test_too_few_trainings_to_tell_a_loss_are_said(image_folder, tmp_path, monkeypatch, capfd):
    """In the log. The manifest holds how uncertain two trainings leave the cost of 8 bits."""
    scores = iter([0.50, 0.52, 0.49, 0.50])
    monkeypatch.setattr(Task, "validate", lambda *_, **__: next(scores))
    found = make(tmp_path / "set", source=image_folder)
    assert found.manifest.packaging.uncertainty == pytest.approx(12.706 * 0.005, rel=1e-3)
    said = (
        "2 trainings with each form cannot tell whether 8 bits cost 3 points: the 95% interval of the cost extends 6.4"
    )
    assert said in capfd.readouterr().err


def test_what_was_measured_is_not_measured_again(image_folder, tmp_path, monkeypatch):
    """A command that is stopped in the middle goes on after the last training, and gives the same set."""
    whole, usual, asked = make(tmp_path / "whole", source=image_folder), Task.validate, []

    def validate(task, synthetic, *, seed):
        asked.append(seed)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return usual(task, synthetic, seed=seed)

    monkeypatch.setattr(Task, "validate", validate)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", source=image_folder)
    cut = make(tmp_path / "cut", source=image_folder)
    assert asked == [0, 1, 0, 0, 1]  # two as distilled, the third is cut off; then it and the fourth
    assert cut.manifest.packaging == whole.manifest.packaging
    assert not (tmp_path / "cut" / STATE / packaging.MEASURED).exists()


def test_an_artifact_tells_nobody_where_its_source_lay(image_folder, tmp_path):
    """The local path is in no file that is published; the machine that made the set still finds the source."""
    found = make(tmp_path / "set", source=image_folder)
    for path in found.folder.rglob("*"):
        if path.is_file() and ".ddhub" not in path.parts:
            assert str(image_folder).encode() not in path.read_bytes(), path
    assert json.loads((found.folder / ".ddhub" / "run.json").read_text())["source_path"] == str(image_folder)
    assert found.manifest.made.overrides[-2:] != []


def test_the_card_is_complete_and_inert(image_folder, tmp_path):
    """Its header is YAML with the licence and configs; words from the source cannot start Markdown or HTML."""
    import yaml

    from ddhub.reports import escaping

    found = make(tmp_path / "set", "publish={license: mit, pretty_name: '<b>Col|ours</b>'}", source=image_folder)
    text = (found.folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "mit"
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert {"dataset-distillation", "ipc-10", "random"} <= set(header["tags"])
    assert "<b>" not in text.split("---\n", 2)[2]
    assert escaping.plain("a|b") == "a&#124;b"


def test_a_licence_and_title_filled_in_later_reach_the_finished_set(image_folder, tmp_path):
    """The same recipe with other texts changes manifest and card; payload, rows and the source's place stay."""
    before = make(tmp_path / "set", source=image_folder)
    assert before.manifest.license == "unknown"
    after = make(tmp_path / "set", "publish={license: mit, pretty_name: Our colours}", source=image_folder)
    text = (after.folder / "README.md").read_text()
    assert "license: mit" in text and "# Our colours" in text
    assert after.manifest.license == "mit" and after.manifest.files == before.manifest.files
    assert json.loads((after.folder / "croissant.json").read_text())["license"] == "mit"
    assert source_location.remembered(after.manifest) == str(image_folder)
    assert api.verify(str(after.folder)).faults == []
    assert make(tmp_path / "set", source=image_folder).manifest == before.manifest


@pytest.mark.parametrize("license", ["CC BY 4.0", "My own", ""])
def test_a_licence_that_the_hub_has_no_name_for_is_refused_before_work(license):
    """The Hub refuses a card with such a licence, after hours of work."""
    with pytest.raises(UserError, match="no licence as the Hub names it"):
        recipes.read("digits_ipc1", [f"publish={{license: '{license}'}}"])


def test_logits_beyond_half_precision_are_refused_before_the_method_begins(tmp_path, monkeypatch):
    """Real images show it right after the teachers; what is advised is distilled."""
    label, distilled = Teachers.label, []
    monkeypatch.setattr(Teachers, "label", lambda self, *args, **told: label(self, *args, **told) * 1e6)
    monkeypatch.setattr("ddhub.distillation.methods.random.distill", lambda *_, **__: distilled.append(1))
    with pytest.raises(
        UserError, match=r"half precision, up to 65504\n  next: --set teachers\.lr=0\.005, or --set lab"
    ):
        api.distill("digits_ipc1", out=tmp_path / "set", overrides=QUICK, threads=1)
    assert distilled == [] and not (tmp_path / "set" / "ddhub.json").exists()
    monkeypatch.undo()
    api.distill("digits_ipc1", out=tmp_path / "hard", overrides=[*QUICK, "labels.form=hard"], threads=1)
