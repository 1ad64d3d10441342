"""Sets that store images of a part of the resolution (`preprocess.factor`), from the recipe to exports."""

import json
import runpy
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from card_scripts import written
from click.testing import CliRunner
from PIL import Image

from ddhub import api, load
from ddhub.artifact import folder as folders
from ddhub.artifact import parquet
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.cli.app import main
from ddhub.data import enlarge, source
from ddhub.data.spec import SourceSpec
from ddhub.distillation import pipeline, recipes
from ddhub.evaluation import stored_form
from ddhub.evaluation.probe import check
from ddhub.evaluation.probe.teacher import Referee
from ddhub.reports import verify
from ddhub.training import device
from ddhub.training import teachers as teaching

ROOT = Path(__file__).parents[2]
SETTINGS = [
    "ipc=4",
    "preprocess.factor=2",
    "teachers={arch: convnet2_w8, count: 2, epochs: 6}",
    "method={name: apm, iterations: 4, refresh_every: 2, snapshots: 2, views: 2, init: easy, lr_images: 5.0, "
    "student: {arch: convnet2_w8, epochs: 2, batch: 10}}",
    "evaluate={epochs: 40, batch: 10, packaging_seeds: 1, seeds: 2, min_steps: 0}",
]


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Forty digits of 4x4 pixels, which networks see at 8x8. Not to be written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("half") / "set"
        api.distill("digits_ipc1", out=folder, overrides=SETTINGS, threads=1)
        api.evaluate(str(folder), seeds=2, protocols=("native",), baselines=("random", "easy"), threads=1)
    return folder


def test_small_images_are_stored_and_enlarged_for_networks(half):
    found = folders.read(half)
    assert found.manifest.preprocess.factor == 2 and found.manifest.stored_shape == (1, 4, 4)
    assert found.images.shape == (40, 1, 4, 4) and found.inputs.shape == (40, 1, 8, 8)
    stored = found.preprocess.inputs(found.images)
    assert torch.allclose(found.inputs, F.interpolate(stored, 8, mode="bilinear", align_corners=False), atol=1e-5)
    loaded = load(half)
    assert torch.equal(loaded.inputs, found.inputs) and torch.equal(loaded.preprocess(loaded.images), found.inputs)
    assert verify.faults(half) == []


def test_soft_labels_are_the_teachers_for_the_enlarged_images(half):
    found = folders.read(half)
    teachers = teaching.load(found.teacher_files, decisions=device.Decisions(), of=found.sizes)
    assert torch.allclose(teachers.label(found.inputs), found.soft_labels, atol=0.02)
    assert torch.equal(teachers.label(found.inputs), teachers.label(found.preprocess.inputs(found.images)))


def test_the_distiller_moves_stored_pixels(tmp_path):
    """Every update reaches every stored image, and the loop keeps their shape."""
    task, _ = pipeline.prepare(recipes.read("digits_ipc1", SETTINGS), tmp_path, Resources(threads=1), 120)
    first = task.start("easy")[0]
    made, _ = pipeline.carry_out(task, pipeline.Run(tmp_path, "distill"))
    assert first.shape == made.images.shape == (40, 1, 4, 4)
    assert bool(((made.images - first).flatten(1).abs().amax(1) > 0).all())


def test_start_images_are_means_of_squares_of_training_pixels(tmp_path):
    task, _ = pipeline.prepare(recipes.read("digits_ipc1", SETTINGS), tmp_path, Resources(threads=1), 120)
    real = task.source.images[task.initial_rows].float()
    squares = (real[..., ::2, ::2] + real[..., 1::2, ::2] + real[..., ::2, 1::2] + real[..., 1::2, 1::2]) / 4
    wanted = task.preprocess.inputs(squares.round().to(torch.uint8))
    assert torch.allclose(task.start("easy")[0], wanted)


def test_the_copy_check_compares_at_the_stored_size(half):
    """The set hardly moved, so nearly all of its images are nearest to the digits that they started as."""
    assert folders.read(half).manifest.memorisation.starts > 0.9


def test_random_real_images_lose_the_same_detail(half):
    """The baseline's inputs are those of reduced images, labelled by the teachers as the set's own are."""
    found = folders.read(half)
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    wanted = F.interpolate(found.preprocess.inputs(enlarge.reduced(images, 2)), 8, mode="bilinear", align_corners=False)
    assert torch.allclose(stored_form.inputs(found.preprocess, images, 2), wanted, atol=1e-5)
    rows = [json.loads(path.read_text()) for path in (half / "evaluation").glob("*.json")]
    assert {row["data"] for row in rows} == {"distilled", "random", "easy"}


def test_random_real_images_cost_the_bytes_of_reduced_ones(half):
    """The chart of accuracy against bytes shows them."""
    rows = {row["data"]: row for row in map(json.loads, (p.read_text() for p in (half / "evaluation").glob("*.json")))}
    split, training, _ = source.load_train(SourceSpec(dataset="digits"))
    each = [len(parquet.png(image)) for image in enlarge.reduced(split.images[training], 2)]
    wanted = 40 * (sum(each) / len(each) + 2 + 2 * 10)  # with a class and ten logits
    assert rows["random"]["train_bytes"] == pytest.approx(wanted, rel=0.01)


def test_the_probe_expects_the_contrast_of_reduced_images(half):
    """Reduced digits have less contrast. A teacher that is not the set's own took that for another input space."""
    found, split = folders.read(half), source.load_train(SourceSpec(dataset="digits"))[0]
    shown = enlarge.reduced(split.images[:40], 2)
    real = replace(found, images=shown, labels=split.labels[:40])
    shipped = teaching.load(found.teacher_files, decisions=device.Decisions(), of=found.sizes)
    outcome = check.examine(real, Referee(shipped, found.preprocess, "cached"), lambda: split)
    assert outcome.spaces[0].distance < 0.1


def test_the_limit_on_a_set_counts_its_images_enlarged(half, monkeypatch):
    """A small file of a stranger would become large tensors."""
    stored = 40 * (4 * 4 + 8 + 4 * 10)  # bytes of images, classes and soft labels
    monkeypatch.setattr(folders, "limits", SimpleNamespace(SET_BYTES=stored + 40 * 48))
    folders.read(half)
    monkeypatch.setattr(folders, "limits", SimpleNamespace(SET_BYTES=stored + 40 * 48 - 1))
    with pytest.raises(UserError, match="40 rows are more than is read"):
        folders.read(half)


def test_the_short_script_trains_on_enlarged_images(half, make_folder, monkeypatch, capsys):
    """Its network then takes test images of the full size."""
    whole = [Image.fromarray(np.full((8, 8), 25 * k, np.uint8)) for k in range(10)]
    real = make_folder({"test": (whole, list(range(10)))}, names=[str(k) for k in range(10)])
    monkeypatch.setattr("sys.argv", ["train.py", str(half), str(real)])
    runpy.run_path(str(ROOT / "examples/train.py"))
    assert capsys.readouterr().out.startswith("accuracy on the test images: ")


def test_the_example_of_a_plugin_makes_small_images(tmp_path):
    name = ROOT / "examples/plugin/ddhub_example/class_mean.py"
    settings = [*SETTINGS[:3], f"method={{name: {name}}}", *SETTINGS[4:]]
    made = folders.read(Path(api.distill("digits_ipc1", out=tmp_path / "set", overrides=settings, threads=1).folder))
    assert made.images.shape == (40, 1, 4, 4)


def test_the_card_says_so_and_its_script_enlarges(half, tmp_path, monkeypatch):
    """The script's inputs are ddhub's."""
    text = (half / "README.md").read_text()
    assert "images of 4x4 pixels" in text and "Networks see them enlarged to 8x8 pixels." in text
    assert "Real images are reduced and enlarged in the same way, except" in text
    monkeypatch.setattr("sys.argv", ["train.py", str(half)])
    native = written(tmp_path / "scripts", text)[0]
    assert torch.allclose(runpy.run_path(native)["inputs"], folders.read(half).inputs, atol=1e-4)


@pytest.mark.parametrize("layout", ["mtt", "idc", "folder"])
def test_an_export_holds_whole_images(half, layout, tmp_path):
    """By the command that it prints, a set of the networks' size comes back, with the same inputs up to rounding."""
    done = api.export(half, layout, tmp_path / "out").to_dict()
    told = CliRunner().invoke(main, shlex.split(done["read_with"])[1:])
    assert told.exit_code == 0, told.output
    found, again = folders.read(half).whole(), folders.read(tmp_path / "out-imported")
    assert again.images.shape == (40, 1, 8, 8) and again.manifest.preprocess.factor == 1
    assert torch.equal(again.images, found.images[found.labels.argsort(stable=True)])


def test_sets_of_whole_and_of_small_images_do_not_merge(half, finished, tmp_path):
    with pytest.raises(UserError, match=r"preprocess\.factor"):
        api.merge(half, finished, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("preprocess.factor=3", "it must divide them, and leave 4 pixels or more (fitting: 1, 2)"),
        ("preprocess.factor=4", "it must divide them, and leave 4 pixels or more (fitting: 1, 2)"),
        ("preprocess={factor: 2, zca: true}", "preprocess.factor and zca true exclude each other"),
    ],
)
@pytest.mark.parametrize("words", [["plan"], ["distill"], ["distill", "--dry-run"]], ids=" ".join)
def test_factors_that_do_not_fit_are_refused(setting, said, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, [*words, "digits_ipc1", "--set", setting])
    assert ended.exit_code == 1 and said in ended.output


def test_a_manifest_whose_factor_contradicts_it_is_refused(half, tmp_path):
    record = json.loads((half / "ddhub.json").read_text())
    (tmp_path / "ddhub.json").write_text(json.dumps({**record, "preprocess": {**record["preprocess"], "factor": 3}}))
    assert any("preprocess.factor: 3 does not divide source.resolution 8" in fault for fault in verify.faults(tmp_path))


def test_whole_sets_have_no_such_key(finished):
    """Recipes, manifests and hashes from before it stay what they are."""
    assert "factor" not in json.loads((finished / "ddhub.json").read_text())["preprocess"]
    assert "factor" not in recipes.read("digits_ipc1").content()["preprocess"]
