"""Other tools' layouts: files made to each one's description are imported, evaluated, and given back bit for bit."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from foreign_files import MEAN, PLAIN, STD, bring, build, inputs, soft, tree
from PIL import Image

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.base import plugins
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.data import source as sources
from ddhub.data.spec import SourceSpec
from ddhub.interop import layout
from ddhub.reports import verify

pytestmark = pytest.mark.slow

FLOATS = ("apm", "dc", "mtt", "tesla", "datm", "kip", "eccv24")


def same(a, b):
    """Whether two files of tensors hold the same bits."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def contents(path):
    """What files of a layout hold, without their names where these are free."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = []
    for file in files:
        if file.suffix == ".npz":
            found += [torch.from_numpy(value) for _, value in sorted(np.load(file).items())]
        elif file.name == "classes.txt":
            assert file.read_text().split() == ["red", "green", "blue"]
        elif file.suffix == ".png":
            found.append(torch.from_numpy(np.array(Image.open(file))))
        else:
            value = torch.load(file, weights_only=False)
            found.append(value["data"] if isinstance(value, dict) else value)
    return found


def told(layout):
    return {} if layout in ("folder", "kip") else PLAIN


@pytest.mark.parametrize("layout", [*FLOATS, "folder"])
def test_each_layout_comes_back_bit_for_bit(layout, image_folder, tmp_path):
    """Detected by itself, imported, read back, exported: the same tensors; imported again: the same set."""
    path = build(layout, tmp_path / "theirs")
    found = bring(path, tmp_path / "set", image_folder, **told(layout))
    name = "mtt" if layout == "tesla" else layout
    assert found.manifest.imported.layout == name
    done = api.export(found.folder, name, tmp_path / "back").to_dict()
    assert same(contents(path), contents(tmp_path / "back"))
    place = tmp_path / "back"
    place = place / done["files"][0] if len(done["files"]) == 1 else place
    assert str(tmp_path / "back") in done["read_with"]
    again = bring(place, tmp_path / "again", image_folder, **told(layout))
    assert same([found.images, found.labels, found.inputs], [again.images, again.labels, again.inputs])
    assert (
        found.manifest.files["data/train-00000-of-00001.parquet"]
        == again.manifest.files[next(iter(again.manifest.files))]
    )


@pytest.mark.parametrize(
    ("layout", "form", "loss", "method"),
    [
        ("apm", "logits", "l1_logits", "apm"),
        ("dc", "hard", "ce", "dm"),
        ("mtt", "hard", "ce", "mtt"),
        ("tesla", "probabilities", "soft_ce", "tesla"),
        ("datm", "logits", "soft_ce", "datm"),
        ("kip", "regression", "mse", "kip"),
        ("folder", "hard", "ce", "folder"),
    ],
)
def test_every_form_of_labels_is_evaluated(layout, form, loss, method, image_folder, tmp_path):
    """An imported set trains a network under the family's loss; hard labels beside random images too."""
    path = build(layout, tmp_path / "theirs")
    found = bring(path, tmp_path / "set", image_folder, epochs=2, **told(layout))
    record = found.manifest
    assert (record.labels.form, record.protocol.loss, record.method) == (form, loss, {"name": method})
    assert record.protocol.epochs == 2
    baselines = ["random"] if form == "hard" else []
    report = api.evaluate(str(found.folder), ["convnet2_w8"], baselines=baselines, seeds=1, threads=1).to_dict()
    assert {row["data"] for row in report["rows"]} == {"distilled", *baselines}
    if form != "hard":
        with pytest.raises(UserError, match="--baselines none"):
            api.evaluate(str(found.folder), ["convnet2_w8"], seeds=1, threads=1)


def test_an_imported_set_is_a_hub_dataset_and_says_where_it_is_from(image_folder, tmp_path):
    """load_dataset reads it with floats as stored; manifest, recipe and card know its origin and no local path."""
    import datasets

    path = build("datm", tmp_path / "theirs")
    found = bring(path, tmp_path / "set", image_folder, license="mit", **PLAIN)
    rows = datasets.load_dataset(str(found.folder), split="train").with_format("torch")
    assert rows.features["label"].names == ["red", "green", "blue"]
    assert torch.equal(rows["pixels"][:], inputs()) and torch.equal(rows["soft_label"][:], soft())
    record = found.manifest
    assert record.protocol.lr == pytest.approx(0.0123) and record.protocol.batch == 128
    assert record.imported.files["lr_best.pt"].bytes == (path / "lr_best.pt").stat().st_size
    assert record.seed is None and record.packaging is None and record.teachers == [] and record.made.seconds is None
    assert verify.faults(found.folder) == []
    assert record.source.dataset == "./colours" and record.source.license == "mit"
    assert {note.split(":")[0] for note in record.imported.notes} >= {
        "class order",
        "protocol from the importer's table",
    }
    for file in ("ddhub.json", "recipe.yaml", "README.md"):
        assert str(tmp_path) not in (found.folder / file).read_text()
        assert str(image_folder.parent) not in (found.folder / file).read_text()


def test_what_8_bits_clip_is_only_shown(image_folder, tmp_path):
    """Networks learn the stored floats; the PNGs are those floats undone, rounded and clipped."""
    found = bring(build("mtt", tmp_path / "theirs"), tmp_path / "set", image_folder, **PLAIN)
    assert torch.equal(found.inputs, inputs()) and found.manifest.preprocess.pixels_space == "input"
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    undone = inputs() * std + mean
    assert torch.equal(found.images, (undone.clamp(0, 1) * 255).round().byte())
    assert 0 < found.manifest.preprocess.clipped < 0.5


def test_whitening_is_fitted_as_kornia_fits_it(image_folder, tmp_path):
    """Eps 0.1 on the whole train split in [0, 1], covariance over N - 1; the matrix travels with the set."""
    found = bring(build("mtt", tmp_path / "theirs"), tmp_path / "set", image_folder, zca=True)
    split, _, _ = sources.load_train(SourceSpec(dataset=str(image_folder)))
    flat = split.images.double().flatten(1) / 255
    values, vectors = torch.linalg.eigh(flat.T.cov())
    expected = (vectors * (values.clamp(min=0) + 0.1).rsqrt()) @ vectors.T
    torch.testing.assert_close(found.preprocess.zca.double(), expected, rtol=1e-4, atol=1e-5)
    assert any("N - 1" in note for note in found.manifest.imported.notes)


def test_kip_whitens_every_image_by_itself(image_folder, tmp_path):
    """Test images pass standardising, centring, norm 1 and KIP's matrix; the artifact knows all of it."""
    path = build("kip", tmp_path / "theirs")
    path = path.rename(path.with_name(path.name.replace("nozca", "zca")))
    found = bring(path, tmp_path / "set", image_folder)
    assert found.manifest.preprocess.per_image and found.preprocess.per_image
    split, _, _ = sources.load_train(SourceSpec(dataset=str(image_folder)))
    unit = split.images.double() / 255
    standard = (unit - unit.mean((0, 2, 3), keepdim=True)) / unit.std((0, 2, 3), keepdim=True, correction=0)
    flat = standard.flatten(1) - standard.flatten(1).mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    covariance = flat.T @ flat / len(flat)
    values, vectors = torch.linalg.eigh(covariance + 0.1 * covariance.trace() / len(covariance) * torch.eye(432))
    expected = flat @ ((vectors * values.rsqrt()) @ vectors.T)
    torch.testing.assert_close(
        found.preprocess.inputs(split.images).flatten(1).double(), expected, rtol=1e-3, atol=1e-4
    )
    shown, _ = found.preprocess.pixels(found.preprocess.inputs(split.images))
    assert (shown.float() - split.images.float()).abs().mean() < 40  # brightness is lost, the colours are not
    assert api.export(found.folder, "kip", tmp_path / "back").to_dict()["files"] == [
        "kip_colours_ConvNet_ssize6_zca_nol_noaug_ckpt1000.npz"
    ]
    assert same(contents(path), contents(tmp_path / "back"))


def test_sre2l_jpegs_and_named_folders(image_folder, tmp_path):
    """`newNNN` folders are numbers, other folders are the source's class names; pixels are kept as decoded."""
    jpegs = tree(tmp_path / "sre2l", 11, "new{k:03d}/class{k:03d}_id{i:03d}.jpg")
    found = bring(jpegs, tmp_path / "set", image_folder)
    assert found.manifest.ipc == 11 and found.pixels is None
    expected = np.array(Image.open(jpegs / "new000" / "class000_id010.jpg")).transpose(2, 0, 1)
    assert np.array_equal(found.images[10].numpy(), expected)  # id010 is the eleventh, not the third
    assert list(found.manifest.imported.files) == ["listing of 33 files"]
    named = tree(tmp_path / "named")
    for number, name in enumerate(("red", "green", "blue")):
        (named / f"{number:05d}").rename(named / name)
    again = bring(named, tmp_path / "again", image_folder)
    assert again.labels.tolist() == [2, 2, 1, 1, 0, 0]  # blue, green, red in the folder's order


def test_a_hub_dataset_without_class_names(image_folder, make_folder, tmp_path):
    """rethinkdc's layout: columns image and class_id, plain integers; a table of class names is followed by name."""
    pictures = [Image.open(path) for path in sorted(tree(tmp_path / "pictures").rglob("*.png"))]
    plain = make_folder({"train": (pictures, [0, 0, 1, 1, 2, 2])}, "plain", names=None, columns=("image", "class_id"))
    found = bring(plain, tmp_path / "set", image_folder)
    assert found.manifest.imported.layout == "hub" and found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(found.images[5].numpy(), np.array(pictures[5]).transpose(2, 0, 1))
    named = make_folder({"train": (pictures, [0, 0, 1, 1, 2, 2])}, "named", names=("blue", "red", "green"))
    assert bring(named, tmp_path / "named-set", image_folder).labels.tolist() == [2, 2, 0, 0, 1, 1]
    with pytest.raises(UserError, match="ddhub push"):
        api.export(found.folder, "hub", tmp_path / "back")


def test_parts_are_read_in_the_order_of_their_numbers(image_folder, tmp_path):
    """MTT's large sets: eleven parts, of which the tenth comes after the ninth; a missing one is missed."""
    folder, images = tmp_path / "parts", inputs(33)
    folder.mkdir()
    for part in range(11):
        torch.save(images[3 * part : 3 * part + 3].clone(), folder / f"images_best_{part}.pt")
        torch.save(torch.arange(3), folder / f"labels_best_{part}.pt")
    assert torch.equal(bring(folder, tmp_path / "set", image_folder, **PLAIN).inputs, images)
    (folder / "images_best_7.pt").unlink()
    with pytest.raises(UserError, match=r"images_best_7\.pt: a part"):
        bring(folder, tmp_path / "again", image_folder, **PLAIN)


def test_soft_labels_follow_their_classes(image_folder, tmp_path):
    """With `--classes` in another order, hard and soft labels are renumbered together."""
    order = tmp_path / "classes.txt"
    order.write_text("blue\nred\ngreen\n")
    path = build("datm", tmp_path / "theirs")
    found = bring(path, tmp_path / "set", image_folder, classes=str(order), **PLAIN)
    assert found.labels.tolist() == [2, 2, 0, 0, 1, 1]
    assert torch.equal(found.soft_labels[:, [2, 0, 1]], soft())
    assert torch.equal(found.inputs, inputs())


def test_a_native_set_is_exported_and_read_again(image_folder, tmp_path):
    """The printed statistics bring the same inputs back; what a layout has no place for is said."""
    quick = [
        "teachers={arch: convnet2_w8, count: 1, epochs: 1}",
        "evaluate={epochs: 1, packaging_seeds: 1, full_epochs: 1}",
    ]
    source = ["method={name: random}", "ipc=10", f"source={{dataset: ./colours, path: {image_folder}}}", "augment=dsa"]
    api.distill("digits_ipc10", out=tmp_path / "native", overrides=[*quick, *source], threads=1)
    native = folders.read(tmp_path / "native")
    done = api.export(tmp_path / "native", "mtt", tmp_path / "mtt").to_dict()
    assert done["files"] == ["images_best.pt", "labels_best.pt"]
    assert any("soft labels (logits)" in part for part in done["left_out"])
    mean, std = done["space"].split("--mean ")[1].split(" --std ")
    options = ["--mean", mean, "--std", std, "--source", str(image_folder), "--out", str(tmp_path / "set"), "--json"]
    result = CliRunner().invoke(app.main, ["import", str(tmp_path / "mtt"), *options])
    assert result.exit_code == 0, result.output
    again = folders.read(tmp_path / "set")
    assert same([again.inputs, again.labels], [native.inputs, native.labels])
    assert (again.images.int() - native.images.int()).abs().max() == 0
    api.export(tmp_path / "native", "apm", tmp_path / "apm")
    apm = bring(tmp_path / "apm", tmp_path / "from-apm", image_folder, **PLAIN)  # a folder with one file in it
    assert torch.equal(apm.soft_labels, native.soft_labels) and torch.equal(apm.inputs, native.inputs)
    result = CliRunner().invoke(
        app.main, ["export", str(tmp_path / "native"), "--layout", "eccv24", "--out", str(tmp_path / "e")]
    )
    assert result.exit_code == 0 and "--mean" in result.output, result.output
    assert torch.load(tmp_path / "e" / "colours.pt").shape == (30, 3, 12, 12)


@pytest.mark.parametrize(
    ("layout", "to", "says"),
    [
        ("mtt", "datm", "hard labels only, and the layout datm holds logits"),
        ("mtt", "apm", "holds logits"),
        ("datm", "kip", "has logits, and the layout kip holds regression"),
        ("mtt", "eccv24", "has 2 images per class, and the layout eccv24 has exactly 10"),
        ("mtt", "mt", "did you mean 'mtt'"),
    ],
)
def test_a_layout_that_cannot_hold_the_set_says_why(layout, to, says, image_folder, tmp_path):
    found = bring(build(layout, tmp_path / "theirs"), tmp_path / "set", image_folder, **PLAIN)
    with pytest.raises(UserError, match=says):
        api.export(found.folder, to, tmp_path / "back")
    assert not (tmp_path / "back").exists() and not list(tmp_path.glob(".*partial"))


def test_every_layout_has_the_same_doors():
    """Detection, reading, and writing but for the Hub's."""
    assert plugins.LAYOUTS.names() == ["apm", "datm", "dc", "eccv24", "folder", "hub", "idc", "kip", "mtt"]
    for name in plugins.LAYOUTS.names():
        assert (layout.load(name).write is None) == (name == "hub")
