"""Sets go out to other tools and come back the same; their files are read under the names and shapes they go by."""

import dataclasses
import shlex
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from foreign_files import PLAIN, bring, build, inputs, soft
from PIL import Image

import ddhub
from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import source_location
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.interop import conventions, exporting, importing
from ddhub.interop import layout as layouts
from ddhub.interop.layouts import idc
from ddhub.interop.reading import Reading

pytestmark = pytest.mark.slow

CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def distilled(out, source, dataset, *more):
    """A small set of random images in two groups with one teacher, made as if of a known dataset."""
    quick = [
        "teachers={arch: convnet2_w8, count: 1, epochs: 1}",
        "evaluate={epochs: 1, packaging_seeds: 1, full_epochs: 1}",
        "method={name: random}",
        "augment=dsa",
        f"source={{dataset: {dataset}, path: {source}}}",
        *more,
    ]
    api.distill("digits_ipc10", out=out, overrides=quick, threads=1)
    return folders.read(out)


@pytest.fixture(scope="module")
def grouped_once(image_folder, tmp_path_factory):
    """Two groups of five images per class: labels come 0..2, 0..2 in the rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(tmp_path_factory.mktemp("home")))
        return distilled(
            tmp_path_factory.mktemp("grouped") / "set", image_folder, "uoft-cs/cifar10", "ipc=10", "groups=2"
        )


@pytest.fixture
def grouped(grouped_once, image_folder):
    """That set, as one that was made in this test's cache."""
    source_location.remember(grouped_once.manifest, str(image_folder))
    return grouped_once


def run(command):
    """A command as it is printed."""
    words = shlex.split(command)
    assert words[0] == "ddhub"
    return CliRunner().invoke(app.main, words[1:])


def row_order(found):
    return found.labels.argsort(stable=True)


def test_an_export_of_pictures_of_several_sizes_is_read_back(make_folder, tmp_path):
    """The command names the size to which the source's pictures were brought."""
    pictures = [Image.new("RGB", (12 + 4 * (k % 2), 12), (12 * k, 40 * (k % 3), 90)) for k in range(20)]
    source = make_folder({"train": (pictures, [k % 2 for k in range(20)])}, names=["even", "odd"])
    distilled(tmp_path / "set", source, "own", "ipc=2", "source.resolution=8", "source.hold_out=0.2")
    told = run(api.export(tmp_path / "set", "mtt", tmp_path / "theirs").to_dict()["read_with"])
    assert told.exit_code == 0, told.output
    sources = [folders.read(tmp_path / name).manifest.source for name in ("set", "theirs-imported")]
    assert sources[0] == sources[1]  # the held out test part too, which the import took for training images


def test_an_export_is_read_back_with_the_protocol_of_the_set(image_folder, tmp_path):
    """Rate and epochs where the loss is the same, what else differs is said; the method and licence stay."""
    settings = ["evaluate={epochs: 3, lr: 0.07, batch: 32, packaging_seeds: 1}", "publish.license=mit"]
    found = distilled(tmp_path / "set", image_folder, "./own", "ipc=2", *settings).manifest
    done = api.export(tmp_path / "set", "apm", tmp_path / "theirs").to_dict()
    assert "of the protocol, beside what an import takes: batch 32 (256)" in done["left_out"]
    assert run(done["read_with"]).exit_code == 0
    again = folders.read(tmp_path / "theirs-imported").manifest
    assert again.protocol == found.protocol.model_copy(update={"batch": 256, "min_steps": again.protocol.min_steps})
    assert (again.method["name"], again.license, again.source) == ("random", "mit", found.source)
    done = api.export(tmp_path / "set", "dc", tmp_path / "hard").to_dict()  # the rate is of another loss
    assert "--lr" not in done["read_with"] and run(done["read_with"]).exit_code == 0
    assert "training by l1_logits: an import trains as the layout's family does, by ce" in done["left_out"]


@pytest.mark.parametrize("layout", ["apm", "dc", "mtt", "datm", "eccv24", "folder", "idc"])
def test_an_export_is_read_back_as_the_same_set(layout, grouped, tmp_path):
    """By the command that it prints: images and labels of two groups, class by class; pixels equal to rounding."""
    done = api.export(grouped.folder, layout, tmp_path / "theirs").to_dict()
    told = run(done["read_with"])
    assert told.exit_code == 0, told.output
    again = folders.read(importing.Path(f"{tmp_path / 'theirs'}-imported"))
    order = row_order(grouped)
    assert torch.equal(again.labels, grouped.labels[order])
    assert torch.equal(again.images, grouped.images[order])
    assert again.manifest.classes == grouped.manifest.classes
    if layout in ("apm", "datm"):
        assert torch.equal(again.soft_labels, grouped.soft_labels[order])


@pytest.mark.parametrize("layout", ["apm", "dc", "mtt"])
def test_peers_find_their_own_statistics(layout, grouped, tmp_path):
    """A tool that undoes CIFAR-10's usual constants sees the set's pixels, not up to 33 of 255 beside them."""
    api.export(grouped.folder, layout, tmp_path / "theirs")
    path = next(path for path in (tmp_path / "theirs").iterdir() if "labels" not in path.name)
    content = torch.load(path, weights_only=False)
    images = {"apm": lambda c: c["data"][0], "dc": lambda c: c["data"][-1][0], "mtt": lambda c: c}[layout](content)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in CIFAR)
    pixels = (images * std + mean) * 255
    assert (pixels - grouped.images[row_order(grouped)].float()).abs().max() < 1e-3
    assert not np.allclose(grouped.preprocess.mean, CIFAR[0])


def test_a_whitened_set_goes_out_under_the_whitening_that_an_import_fits(image_folder, tmp_path):
    """Its own matrix is of the training part alone; families fit theirs on the whole train split."""
    found = distilled(tmp_path / "set", image_folder, "uoft-cs/cifar10", "ipc=2", "preprocess={zca: true}")
    done = api.export(found.folder, "mtt", tmp_path / "theirs").to_dict()
    assert "--zca" in done["read_with"]
    assert run(done["read_with"]).exit_code == 0
    again = folders.read(tmp_path / "theirs-imported")
    assert torch.equal(again.images, found.images) and again.manifest.preprocess.zca
    api.export(found.folder, "dc", tmp_path / "plain")  # whose sets are never whitened
    images = torch.load(next((tmp_path / "plain").iterdir()), weights_only=False)["data"][0][0]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in CIFAR)
    assert ((images * std + mean) * 255 - found.images.float()).abs().max() < 1e-2


def test_kip_s_targets_go_out_class_by_class(image_folder, tmp_path):
    """A reader that makes classes of places gets them right."""
    path = build("kip", tmp_path / "theirs")
    held = dict(np.load(path))
    order = [4, 0, 2, 5, 1, 3]
    np.savez(path, images=held["images"][order], labels=held["labels"][order])
    found = bring(path, tmp_path / "set", image_folder)
    done = api.export(found.folder, "kip", tmp_path / "back").to_dict()
    labels = np.load(tmp_path / "back" / done["files"][0])["labels"].argmax(1)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("layout", "dataset", "name"),
    [
        ("dc", "zh-plus/tiny-imagenet", "res_RANDOM_tinyimagenet_ConvNetD4_10ipc.pt"),
        ("dc", "uoft-cs/cifar100", "res_RANDOM_CIFAR100_ConvNet_10ipc.pt"),
        ("eccv24", "zh-plus/tiny-imagenet", "tinyimagenet.pt"),
        ("idc", "uoft-cs/cifar10", "data.pt"),
    ],
)
def test_files_have_the_names_that_peers_look_for(layout, dataset, name, grouped, tmp_path):
    source = grouped.manifest.source.model_copy(update={"dataset": dataset})
    found = dataclasses.replace(grouped, manifest=grouped.manifest.model_copy(update={"source": source}))
    (tmp_path / "out").mkdir()
    layouts.load(layout).write(found, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_class_folders_can_have_names(grouped, tmp_path):
    """`--named`, or classes.txt beside numbers; both are read by name."""
    api.export(grouped.folder, "folder", tmp_path / "named", named=True)
    assert {path.name for path in (tmp_path / "named").iterdir()} == {"red", "green", "blue", "classes.txt"}
    api.export(grouped.folder, "folder", tmp_path / "numbered")
    assert (tmp_path / "numbered" / "classes.txt").read_text() == "red\ngreen\nblue\n"
    (tmp_path / "numbered" / "classes.txt").write_text("blue\nred\ngreen\n")
    source = grouped.manifest.source
    spec = {"overrides": [f"source.path={source_location.remembered(grouped.manifest)}"]}
    again = bring(tmp_path / "numbered", tmp_path / "a", source.dataset, **spec)
    assert again.labels.bincount().tolist() == [10, 10, 10] and again.labels[0] == 2
    assert "class order: by name" in again.manifest.imported.notes
    with pytest.raises(UserError, match="--layout folder --named"):
        api.export(grouped.folder, "mtt", tmp_path / "no", named=True)


@pytest.mark.parametrize("layout", ["apm", "datm", "mtt"])
def test_classes_of_different_sizes_are_no_places(layout, image_folder, tmp_path):
    """Without class numbers, readers would give 1, 2 and 3 images two of each class."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    hard = torch.tensor([0, 1, 1, 2, 2, 2])
    torch.save(inputs(), theirs / "images_best.pt")
    torch.save(hard, theirs / "labels_best.pt")
    found = bring(theirs, tmp_path / "set", image_folder, **PLAIN)
    form = "probabilities" if layout == "mtt" else "logits"
    record = found.manifest.model_copy(update={"labels": found.manifest.labels.model_copy(update={"form": form})})
    found = dataclasses.replace(found, manifest=record, soft_labels=soft().softmax(1))
    with pytest.raises(
        UserError, match=rf"1 to 3 images per class.* {layout} stores {form} without.*\n  next: --layout dc"
    ):
        exporting.check_holds(found, layout, layouts.load(layout))


def test_a_class_without_images_comes_back_from_its_folders(image_folder, tmp_path):
    """classes.txt names it, so its missing folder is no sign of another source."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    torch.save(inputs(), theirs / "images_best.pt")
    torch.save(torch.tensor([0, 0, 0, 2, 2, 2]), theirs / "labels_best.pt")
    found = bring(theirs, tmp_path / "set", image_folder, **PLAIN)
    api.export(found.folder, "folder", tmp_path / "folders")
    again = bring(tmp_path / "folders", tmp_path / "again", image_folder)
    assert torch.equal(again.labels, found.labels) and torch.equal(again.images, found.images)
    with pytest.raises(UserError, match="without images: green"):
        shutil.copytree(tmp_path / "folders" / "00000", tmp_path / "named" / "red")
        shutil.copytree(tmp_path / "folders" / "00002", tmp_path / "named" / "blue")
        bring(tmp_path / "named", tmp_path / "no", image_folder)


PAIRS = [
    ("CIFAR10_IPC2_images.pt", "CIFAR10_IPC2_labels.pt", None),
    ("CIFAR10_IPC2_normalize_images.pt", "CIFAR10_IPC2_normalize_labels.pt", None),
    ("images.pt", "labels.pt", None),
    ("images.pt", "labels.pt", "lr.pt"),
]


@pytest.mark.parametrize("whole", [False, True], ids=["image file", "folder"])
@pytest.mark.parametrize(("images", "labels", "rate"), PAIRS)
def test_a_labels_file_beside_the_images_is_read(images, labels, rate, whole, image_folder, tmp_path):
    """DC-BENCH's, DataDAM's and DD-Ranking's names: classes are the file's, not the places'."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    order = torch.tensor([2, 0, 1, 1, 0, 2])
    torch.save(inputs(), folder / images)
    torch.save(order.float(), folder / labels)  # floats that are whole numbers
    if rate:
        torch.save(torch.tensor(0.03), folder / rate)
    found = bring(folder if whole else folder / images, tmp_path / "set", image_folder, **PLAIN)
    assert found.labels.tolist() == order.tolist() and torch.equal(found.inputs, inputs())
    assert found.manifest.protocol.lr == pytest.approx(0.03 if rate else 0.01)
    with pytest.raises(UserError, match=f"name the images: .*{images}"):
        bring(folder / labels, tmp_path / "again", image_folder, **PLAIN)


@pytest.mark.parametrize("stem", ["{}", "A_{}", "{}_best"])
@pytest.mark.parametrize("hard", [False, True], ids=["alone", "beside hard ones"])
@pytest.mark.parametrize("form", ["probabilities", "logits"])
def test_a_file_of_soft_labels_is_read(form, hard, stem, image_folder, tmp_path):
    """It fitted no layout alone, and was left out without a word beside hard labels."""
    theirs = soft().softmax(1) if form == "probabilities" else soft()
    torch.save(inputs(), tmp_path / f"{stem.format('images')}.pt")
    torch.save(theirs, tmp_path / f"{stem.format('soft_labels')}.pt")
    order = torch.tensor([2, 0, 1, 1, 0, 2]) if hard else torch.tensor([0, 0, 1, 1, 2, 2])
    if hard:
        torch.save(order, tmp_path / f"{stem.format('labels')}.pt")
    layout = "auto" if form == "probabilities" else "datm"
    for place in (tmp_path, tmp_path / f"{stem.format('images')}.pt"):
        out = tmp_path.with_name(f"{tmp_path.name}-{place.suffix}")
        found = bring(place, out, image_folder, layout=layout, **PLAIN)
        assert torch.equal(found.soft_labels, theirs) and found.manifest.labels.form == form
        assert found.labels.tolist() == order.tolist()
        assert any("largest soft label at another class" in note for note in found.manifest.imported.notes)
        assert len(found.manifest.imported.files) == 2 + hard


@pytest.mark.parametrize("hard", [False, True], ids=["alone", "beside hard ones"])
def test_one_file_of_soft_labels_serves_images_in_parts(hard, image_folder, tmp_path):
    """It was left out without a word."""
    for number in (0, 1):
        torch.save(inputs()[3 * number :][:3].clone(), tmp_path / f"images_best_{number}.pt")
    torch.save(soft().softmax(1), tmp_path / "soft_labels_best.pt")
    if hard:
        torch.save(torch.arange(3).repeat_interleave(2), tmp_path / "labels_best.pt")
    found = bring(tmp_path, tmp_path.with_name(f"{tmp_path.name}-set"), image_folder, **PLAIN)
    assert torch.equal(found.soft_labels, soft().softmax(1)) and torch.equal(found.inputs, inputs())


@pytest.mark.parametrize("name", ["set.pkl", "set.npy", "set.safetensors"])
def test_a_file_of_no_layout_says_how_to_write_one(name, tmp_path):
    """Every other layout refuses it too, so there is no use in trying them."""
    (tmp_path / name).write_bytes(b"\x80\x04}\x94.")
    with pytest.raises(UserError, match="fits none of the layouts") as caught:
        importing.find(tmp_path / name, "auto", Reading())
    assert "torch.save([images, labels], 'set.pt')" in caught.value.next


def test_files_of_soft_labels_that_contradict_are_refused(image_folder, tmp_path):
    """Two of soft labels, too few rows, and probabilities where logits are expected, also beside a rate."""
    folder = build("tesla", tmp_path / "theirs")
    torch.save(torch.tensor(0.03), folder / "lr_best.pt")
    found = bring(folder, tmp_path / "set", image_folder, **PLAIN)  # it was read as logits, for its rate
    assert found.manifest.labels.form == "probabilities" and found.manifest.protocol.lr == pytest.approx(0.03)
    with pytest.raises(UserError, match=r"holds probabilities, not logits\n  next: --layout mtt"):
        bring(folder, tmp_path / "no", image_folder, layout="datm", **PLAIN)
    torch.save(soft().softmax(1), folder / "soft_labels_best.pt")
    with pytest.raises(UserError, match=r"labels_best\.pt and soft_labels_best\.pt: both hold soft labels\n  next: "):
        bring(folder, tmp_path / "no", image_folder, **PLAIN)
    torch.save(torch.arange(3).repeat_interleave(2), folder / "labels_best.pt")
    torch.save(soft(5).softmax(1), folder / "soft_labels_best.pt")
    with pytest.raises(UserError, match="6 images and 5 labels"):
        bring(folder, tmp_path / "no", image_folder, **PLAIN)


def test_dc_bench_s_names_say_its_statistics(tmp_path, image_folder):
    """Nobody is asked for --zca: that tool normalises."""
    torch.save(inputs(), tmp_path / "CIFAR10_IPC2_normalize_images.pt")
    torch.save(torch.tensor([0, 0, 1, 1, 2, 2]), tmp_path / "CIFAR10_IPC2_normalize_labels.pt")
    path = tmp_path / "CIFAR10_IPC2_normalize_images.pt"
    found = bring(path, tmp_path / "set", "uoft-cs/cifar10", overrides=[f"source.path={image_folder}"])
    assert tuple(found.manifest.preprocess.mean) == CIFAR[0] and found.manifest.preprocess.zca is None


def test_of_several_pairs_in_a_folder_one_is_asked_for(image_folder, tmp_path):
    for ipc in (1, 2):
        torch.save(inputs(3 * ipc), tmp_path / f"CIFAR10_IPC{ipc}_images.pt")
        torch.save(torch.arange(3).repeat(ipc), tmp_path / f"CIFAR10_IPC{ipc}_labels.pt")
    with pytest.raises(UserError, match=r"holds 2 sets(.|\n)*next: name one of them, as .*IPC1_images\.pt"):
        bring(tmp_path, tmp_path / "set", image_folder, **PLAIN)


def test_places_give_no_labels_where_a_file_of_labels_lies(image_folder, tmp_path):
    """The challenge's layout refuses, and says which file it would have ignored."""
    torch.save(inputs(30), tmp_path / "cifar100.pt")
    torch.save(torch.arange(30) % 3, tmp_path / "my_labels.pt")
    with pytest.raises(UserError, match=r"my_labels\.pt lies beside it"):
        bring(tmp_path / "cifar100.pt", tmp_path / "set", image_folder, layout="eccv24", **PLAIN)
    (tmp_path / "my_labels.pt").unlink()
    assert bring(tmp_path / "cifar100.pt", tmp_path / "set", image_folder, **PLAIN).manifest.ipc == 10


def test_labels_that_are_no_whole_numbers_are_refused(image_folder, tmp_path):
    torch.save(inputs(), tmp_path / "images_best.pt")
    torch.save(torch.tensor([0, 0, 1, 1, 2, 1.5]), tmp_path / "labels_best.pt")
    with pytest.raises(UserError, match=r"labels_best\.pt: .*no whole numbers"):
        bring(tmp_path, tmp_path / "set", image_folder, **PLAIN)


def reference_tiles(image, factor):
    """Tiles of one image (C, S, S) by hand: padded by 0.5, cut row by row, enlarged by PIL's bilinear rule."""
    side = image.shape[-1]
    tile = -(-side // factor)
    padded = torch.full((image.shape[0], tile * factor, tile * factor), 0.5)
    padded[:, :side, :side] = image
    found = []
    for row in range(factor):
        for column in range(factor):
            part = padded[:, row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            planes = [Image.fromarray(plane.numpy()).resize((side, side), Image.Resampling.BILINEAR) for plane in part]
            found.append(torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])))
    return torch.stack(found)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_tiles_are_cut_and_enlarged(factor):
    """As two lines of PIL do it, also where the factor does not divide the side."""
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    cut = idc.cut(images, factor).view(3, factor**2, 3, 12, 12)
    for image, tiles in zip(images, cut, strict=True):
        torch.testing.assert_close(tiles, reference_tiles(image, factor), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [list, tuple, lambda pair: {"images": pair[0], "labels": pair[1]}])
def test_idc_s_files_are_read_with_the_factor_that_is_said(form, image_folder, tmp_path):
    """Pixels in [0, 1]; it asks for the factor; 2 makes four images of each."""
    pixels, labels = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    path = tmp_path / "data_best.pt"
    torch.save(form([pixels, labels]), path)
    with pytest.raises(UserError, match=r"next: --factor 2 \(2 x 2 tiles, the usual\), or --factor 1"):
        bring(path, tmp_path / "set", image_folder)
    whole = bring(path, tmp_path / "whole", image_folder, factor=1)
    assert whole.manifest.ipc == 2 and whole.manifest.imported.layout == "idc"
    assert torch.equal(whole.images, (pixels * 255).round().byte())
    torch.testing.assert_close(whole.preprocess.unit(whole.inputs), pixels)
    found = bring(path, tmp_path / "set", image_folder, factor=2)
    assert found.manifest.ipc == 8 and found.labels.tolist() == [k % 3 for k in range(6) for _ in range(4)]
    torch.testing.assert_close(found.preprocess.unit(found.inputs)[4:8], reference_tiles(pixels[1], 2))
    with pytest.raises(UserError, match="--factor 9"):
        bring(path, tmp_path / "no", image_folder, factor=9)


def test_idc_s_statistics_are_its_own(image_folder, tmp_path):
    """CIFAR-100 under CIFAR-10's, as its code has it."""
    assert conventions.statistics("idc", "uoft-cs/cifar100").mean == CIFAR[0]
    assert conventions.statistics("idc", "./anything").mean is None


@pytest.mark.parametrize("bare", [False, True], ids=["in a dict", "bare"])
def test_one_dc_experiment_needs_no_list(bare, image_folder, tmp_path):
    """As DataDAM's files on the Hub; normalised values tell it from IDC's pixels."""
    pair = [inputs(), torch.tensor([2, 0, 1, 1, 0, 2])]
    torch.save(pair if bare else {"data": pair}, tmp_path / "res_DataDAM_CIFAR10_ConvNet_2ipc_.pt")
    found = bring(tmp_path, tmp_path / "set", image_folder, **PLAIN)
    assert found.manifest.imported.layout == "dc" and found.labels.tolist() == [2, 0, 1, 1, 0, 2]
    assert torch.equal(found.inputs, inputs())


@pytest.mark.parametrize("form", ["hwc", "grad", "half", "legacy", "onehot", "int32", "floatlab", "shuffled"])
def test_tensors_of_odd_forms_are_read_or_named(form, image_folder, tmp_path):
    """As other tools write them: channels last, parameters, half precision, old files, one-hot labels."""
    images, labels = inputs(), torch.tensor([0, 0, 1, 1, 2, 2])
    options = {"_use_new_zipfile_serialization": False} if form == "legacy" else {}
    order = torch.tensor([4, 1, 2, 0, 5, 3]) if form == "shuffled" else torch.arange(6)
    changed = {
        "hwc": lambda: (images.permute(0, 2, 3, 1).contiguous(), labels),
        "grad": lambda: (torch.nn.Parameter(images), labels),
        "half": lambda: (images.half(), labels),
        "onehot": lambda: (images, torch.nn.functional.one_hot(labels, 3).float()),
        "int32": lambda: (images, labels.int()),
        "floatlab": lambda: (images, labels.float()),
    }.get(form, lambda: (images[order], labels[order]))()
    torch.save(changed[0], tmp_path / "images_best.pt", **options)
    torch.save(changed[1], tmp_path / "labels_best.pt", **options)
    found = bring(tmp_path, tmp_path / "set", image_folder, **PLAIN)
    assert found.labels.tolist() == labels[order].tolist() and found.manifest.labels.form == "hard"
    torch.testing.assert_close(found.inputs, images[order], rtol=0, atol=2e-3 if form == "half" else 0)


@pytest.mark.parametrize(("scale", "advice"), [(255, "--mean 0,0,0 --std 0.0039"), (1, "--mean 0,0,0 --std 1.0")])
def test_pixels_are_no_normalised_inputs(scale, advice, image_folder, tmp_path):
    """Floats in 0..255 or 0..1 under a mean and deviation are refused; what it advises runs."""
    pixels = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * scale
    torch.save(pixels, tmp_path / "images_best.pt")
    torch.save(torch.tensor([0, 0, 1, 1, 2, 2]), tmp_path / "labels_best.pt")
    with pytest.raises(UserError, match=f"are pixels in 0..{scale}(.|\n)*{advice}") as caught:
        bring(tmp_path, tmp_path / "set", image_folder, **PLAIN)
    words = str(caught.value).split("next: ")[1].split(", if")[0].split()
    mean, std = (tuple(map(float, words[k].split(","))) for k in (1, 3))
    found = bring(tmp_path, tmp_path / "set", image_folder, mean=mean, std=std)
    assert torch.equal(found.images, (pixels / scale * 255).round().byte())


@pytest.mark.parametrize("array", [torch.tensor, np.float32, np.float64], ids=["torch", "float32", "float64"])
def test_statistics_are_taken_as_arrays(array, image_folder, tmp_path):
    """They are what a training script has at hand; the manifest holds the numbers of a list."""
    path, mean, std = build("mtt", tmp_path / "theirs"), (0.5, 0.25, 0.5), (0.25, 0.5, 0.25)
    listed = bring(path, tmp_path / "listed", image_folder, mean=mean, std=std).manifest
    told = {"mean": array(mean), "std": array(std), "lr": np.float64(0.01)}
    made = ddhub.import_set(path, out=tmp_path / "set", source=str(image_folder), **told)
    assert made.manifest.preprocess == listed.preprocess and made.manifest.preprocess.mean == list(mean)
    assert "mean [0.5, 0.25, 0.5]" in str(made.manifest.imported.notes)


def test_what_fits_no_layout_is_described(image_folder, tmp_path):
    """The message says what the file holds."""
    np.savez(tmp_path / "set.npz", x_train=np.zeros((6, 12, 12, 3), np.uint8), y_train=np.zeros(6, np.int64))
    with pytest.raises(UserError, match=r"holds dict of 2 \(x_train: uint8 \(6, 12, 12, 3\), y_train: int64 \(6,\)\)"):
        bring(tmp_path / "set.npz", tmp_path / "set", image_folder)
    torch.save([inputs(), inputs(), torch.zeros(3)], tmp_path / "odd.pt")
    with pytest.raises(UserError, match=r"holds list of 3 \(float32 \(6, 3, 12, 12\), "):
        bring(tmp_path / "odd.pt", tmp_path / "set", image_folder)


def test_what_an_import_prints_runs(image_folder, tmp_path):
    """12 px have no usual depth of ConvNet; the printed command names one that fits, and evaluates."""
    path = build("datm", tmp_path / "theirs")
    options = ["--mean", "0.4,0.4,0.4", "--std", "0.2,0.2,0.2", "--epochs", "1"]
    out = tmp_path / "a folder" / "set"
    told = CliRunner().invoke(
        app.main, ["import", str(path), "--source", str(image_folder), "--out", str(out), *options]
    )
    assert told.exit_code == 0, told.output
    command = told.output.split("next:")[1].strip()
    done = run(f"{command} --seeds 1 --threads 1 --no-probe")
    assert done.exit_code == 0, done.output


def test_a_source_of_another_size_is_said_with_a_command_that_runs(tmp_path, image_folder):
    """Digits are kept as they are; other sources can be read at the set's size."""
    path = build("mtt", tmp_path / "theirs")
    with pytest.raises(UserError, match=r"digits are 8x8 and grey\n  next: --source DATASET"):
        bring(path, tmp_path / "set", "digits", **PLAIN)
    torch.save(inputs(side=8), path / "images_best.pt")
    with pytest.raises(UserError) as caught:
        bring(path, tmp_path / "set", image_folder, **PLAIN)
    sets = [word for word in str(caught.value).split("next: ")[1].split(",")[0].split() if word != "--set"]
    assert bring(path, tmp_path / "set", image_folder, overrides=sets, **PLAIN).images.shape[-1] == 8


def test_digits_are_not_mirrored(tmp_path):
    """Nor by the protocols of other tools' sets; clothes are."""
    for name in ("ylecun/mnist", "ufldl-stanford/svhn", "digits"):
        assert conventions.protocol("dc", name, 10, "hard", None)[0].augment == "color_crop_cutout_scale_rotate"
    assert conventions.protocol("dc", "zalando-datasets/fashion_mnist", 10, "hard", None)[0].augment == "dsa"
