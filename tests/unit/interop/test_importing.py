"""What an import refuses or asks for: strangers' code, guesses, and files that are not what they say."""

import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from foreign_files import MEAN, PLAIN, STD, Payload, bring, build, inputs, soft, tree
from PIL import Image

from ddhub import api
from ddhub.base.errors import UserError
from ddhub.cli.app import main
from ddhub.interop import conventions, importing, reading
from ddhub.interop.input_space import StatedSpace, settle
from ddhub.interop.reading import Foreign, Reading


@pytest.mark.parametrize("way", ["torch", "pickle", "legacy", "npz"])
def test_a_pickle_that_runs_something_is_refused_and_not_run(way, image_folder, tmp_path):
    """Whatever the container, the payload's file never appears."""
    mark, path = tmp_path / "ran", tmp_path / "evil.pt"
    if way == "torch":
        torch.save({"data": [[inputs(), Payload(mark)]]}, path)
    elif way == "legacy":
        torch.save({"data": [[inputs(), Payload(mark)]]}, path, _use_new_zipfile_serialization=False)
    elif way == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        path = tmp_path / "evil.npz"
        np.savez(path, images=np.array([Payload(mark)], dtype=object), labels=np.zeros(1))
    for layout in ("auto", "kip" if way == "npz" else "dc"):
        with pytest.raises(UserError, match=r"refused, and nothing in it was run|not a file of"):
            bring(path, tmp_path / "set", image_folder, layout=layout, **PLAIN)
    assert not mark.exists() and not (tmp_path / "set").exists()


def test_numpy_scalars_are_read_under_both_of_their_names(tmp_path):
    """Real DC files hold them, from numpy 1 (numpy.core) and numpy 2 (numpy._core)."""
    path = tmp_path / "new.pt"
    torch.save({"data": [], "accs_all_exps": [np.float64(0.25), np.float32(0.5), np.int64(3)]}, path)
    assert reading.load(path, Reading())["accs_all_exps"] == [0.25, 0.5, 3]
    old = tmp_path / "old.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert reading.load(old, Reading())["accs_all_exps"] == [0.25, 0.5, 3]
    assert not any("numpy" in str(entry) for entry in torch.serialization.get_safe_globals())


def test_objects_hidden_in_numpy_scalars_are_refused(tmp_path):
    """Only numbers' dtypes are read."""
    torch.save(np.array([1], dtype="O").dtype, tmp_path / "object.pt")
    with pytest.raises(UserError, match=r"not a file of tensors|refused"):
        reading.load(tmp_path / "object.pt", Reading())


def test_sizes_are_looked_at_before_anything_is_read(image_folder, tmp_path):
    """A large file, an archive that unpacks to more, a tensor that claims more than it stores."""
    path = build("dc", tmp_path / "theirs")
    with pytest.raises(UserError, match=r"more than the 1\.0 kB that are read\n  next: --max-bytes"):
        bring(path, tmp_path / "set", image_folder, limit=1000, **PLAIN)
    bomb = tmp_path / "bomb.npz"
    np.savez_compressed(bomb, images=np.zeros((1000, 12, 12, 3), np.float32), labels=np.zeros((1000, 3), np.float32))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"holds 1\.7 MB"):
        bring(bomb, tmp_path / "set", image_folder, limit=100_000)
    torch.save({"data": [[torch.zeros(1).expand(10**6, 3, 12, 12), torch.zeros(1)]]}, tmp_path / "wide.pt")
    with pytest.raises(UserError, match=r"wide\.pt: data\[0\]\[0\]: claims 432000000 numbers"):
        bring(tmp_path / "wide.pt", tmp_path / "set", image_folder, limit=10**6, **PLAIN)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(UserError, match="compressed"):
        bring(packed, tmp_path / "set", image_folder, **PLAIN)


def test_folders_with_links_bombs_or_odd_sizes_are_refused(image_folder, tmp_path, monkeypatch):
    """Each is named by its path inside the folder."""
    linked = tree(tmp_path / "linked")
    (linked / "00001" / "z.png").symlink_to(linked / "00001" / "class00001_id00000.png")
    with pytest.raises(UserError, match=r"^00001/z\.png: is a symbolic link"):
        bring(linked, tmp_path / "set", image_folder)
    bomb = tree(tmp_path / "bomb")
    Image.new("L", (12, 12)).save(bomb / "00000" / "class00000_id00000.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with pytest.raises(UserError, match=r"00000/class00000_id00000\.png: cannot be decoded .*exceeds limit"):
        bring(bomb, tmp_path / "set", image_folder)
    monkeypatch.undo()
    odd = tree(tmp_path / "odd")
    Image.new("RGB", (13, 13)).save(odd / "00002" / "class00002_id00001.png")
    with pytest.raises(UserError, match=r"id00001\.png: is 13x13, not 12x12"):
        bring(odd, tmp_path / "set", image_folder)
    Image.new("RGB", (5000, 5000)).save(odd / "00000" / "class00000_id00000.png")
    with pytest.raises(UserError, match="claims 5000x5000"):
        bring(odd, tmp_path / "set", image_folder)
    (odd / "00000" / "class00000_id00000.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be decoded"):
        bring(odd, tmp_path / "set", image_folder)


def test_per_batch_labels_and_viewing_images_are_refused_by_name(image_folder, tmp_path):
    """FKD labels cannot be a column; images_zca_* were never trained on."""
    fkd = tmp_path / "FKD_cutmix_fp16"
    (fkd / "epoch_0").mkdir(parents=True)
    with tarfile.open(fkd / "epoch_0" / "batch_0.tar", "w"):
        pass
    renamed = tmp_path / "labels"
    for path in (fkd, fkd / "epoch_0" / "batch_0.tar", tmp_path / "FKD_mixup_fp16.tar.gz"):
        with pytest.raises(UserError, match="FKD labels: logits of every batch"):
            bring(path, tmp_path / "set", image_folder)
    fkd.rename(renamed)
    with pytest.raises(UserError, match="FKD labels"):
        bring(renamed, tmp_path / "set", image_folder)
    viewing = tmp_path / "viewing"
    viewing.mkdir()
    torch.save(inputs(), viewing / "images_zca_500.pt")
    for path in (viewing, viewing / "images_zca_500.pt"):
        with pytest.raises(UserError, match=r"with the whitening undone, for viewing.*\n  next: import images_500\.pt"):
            bring(path, tmp_path / "set", image_folder)


def test_several_candidates_are_listed_and_nothing_is_chosen(image_folder, tmp_path):
    """Two files in a folder, two experiments in a file, iterations of one run; naming one works."""
    both = tmp_path / "both"
    build("dc", both)
    build("eccv24", both)
    with pytest.raises(UserError, match=r"several sets.*cifar100\.pt \(--layout eccv24\); .*res_DM.*\(--layout dc\)"):
        bring(both, tmp_path / "set", image_folder, **PLAIN)
    assert bring(both, tmp_path / "chosen", image_folder, layout="dc", **PLAIN).manifest.method["name"] == "dm"
    several = tmp_path / "res_DSA_CIFAR10_ConvNet_2ipc.pt"
    hard = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.save({"data": [[inputs(seed=seed), hard] for seed in range(5)], "accs_all_exps": {}}, several)
    with pytest.raises(UserError, match=r"5 experiments.*DC-BENCH reads the last\n  next: --experiment 4"):
        bring(several, tmp_path / "set", image_folder, **PLAIN)
    found = bring(several, tmp_path / "set", image_folder, experiment=3, **PLAIN)
    assert torch.equal(found.inputs, inputs(seed=3))
    run = tmp_path / "run"
    run.mkdir()
    for step in (0, 500, 1000):
        torch.save(inputs(seed=step), run / f"images_{step}.pt")
        torch.save(hard, run / f"labels_{step}.pt")
    with pytest.raises(UserError, match="3 iterations of one run"):
        bring(run, tmp_path / "run-set", image_folder, **PLAIN)
    assert torch.equal(
        bring(run / "images_500.pt", tmp_path / "run-set", image_folder, **PLAIN).inputs, inputs(seed=500)
    )


def test_statistics_come_from_the_table_or_are_asked_for(image_folder, tmp_path):
    """CIFAR-100 under each family's own; whitening that nobody states is asked for, as is an unknown dataset."""

    def space(family, dataset, *, zca=None, **told):
        return settle(StatedSpace(**told), Foreign(family, inputs(), None, {}, zca=zca), dataset)

    assert space("dc", "uoft-cs/cifar100").mean == (0.5071, 0.4866, 0.4409)
    assert space("mtt", "uoft-cs/cifar100", zca=False).mean == (0.4914, 0.4822, 0.4465)
    assert space("eccv24", "uoft-cs/cifar100").std == (0.2673, 0.2564, 0.2762)
    assert space("datm", "uoft-cs/cifar100").kind == "zca"
    assert space("apm", "zh-plus/tiny-imagenet", zca=False).mean == (0.485, 0.456, 0.406)
    assert space("apm", "uoft-cs/cifar10", zca=True).kind == "zca"
    assert space("folder", "anything").kind == "fitted"
    for family in ("apm", "mtt"):
        with pytest.raises(UserError, match="--zca or --no-zca"):
            space(family, "uoft-cs/cifar10")
    with pytest.raises(UserError, match="--zca or --no-zca"):
        space("kip", "anything")
    with pytest.raises(UserError, match="--mean A,B,C --std A,B,C, or --zca"):
        bring(build("mtt", tmp_path / "theirs"), tmp_path / "set", image_folder)
    with pytest.raises(UserError, match="go together"):
        space("mtt", "anything", mean=MEAN)
    with pytest.raises(UserError, match="3 numbers each"):
        space("mtt", "anything", mean=MEAN[:1], std=STD[:1])


def test_whitening_is_read_off_mtts_folder_names(image_folder, tmp_path):
    """`cifar10_zca_50` is whitened, `cifar10_no_zca_50` is not; the note says where that came from."""
    found = bring(build("mtt", tmp_path / "colours_zca_2"), tmp_path / "set", image_folder)
    assert found.manifest.preprocess.zca and not found.manifest.preprocess.per_image
    assert "whitening read off the folder's name, colours_zca_2" in found.manifest.imported.notes
    plain = bring(build("mtt", tmp_path / "colours_no_zca_2"), tmp_path / "plain", image_folder, **PLAIN)
    assert plain.manifest.preprocess.zca is None


def test_a_class_order_that_circulates_twice_is_asked_for(image_folder, tmp_path):
    """Tiny ImageNet by its id: asked before the source is even read; a list or an affirmation settles it."""
    path = build("dc", tmp_path / "theirs")
    tiny = {"overrides": [f"source.path={image_folder}"], **PLAIN}
    with pytest.raises(UserError, match=r"two class orders(.|\n)*--classes FILE .*or --order source"):
        bring(path, tmp_path / "set", "zh-plus/tiny-imagenet", **tiny)
    found = bring(path, tmp_path / "set", "zh-plus/tiny-imagenet", order="source", **tiny)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2] and found.manifest.source.dataset == "zh-plus/tiny-imagenet"
    assert "class order: the source's, as affirmed" in found.manifest.imported.notes
    order = tmp_path / "order"
    order.write_text("blue\ngreen\nred\n")
    again = bring(path, tmp_path / "again", "zh-plus/tiny-imagenet", classes=str(order), **tiny)
    assert again.labels.tolist() == [2, 2, 1, 1, 0, 0]
    order.write_text("blue\ngreen\nreed\n")
    with pytest.raises(UserError, match="--classes: the source has no class 'reed'; did you mean 'red'"):
        bring(path, tmp_path / "third", "zh-plus/tiny-imagenet", classes=str(order), **tiny)
    assert conventions.disputed_order("apm", "ILSVRC/imagenet-1k") and not conventions.disputed_order(
        "dc", "uoft-cs/cifar10"
    )


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (inputs(), torch.tensor([0, 0, 1, 1, 2, 3]), r"labels from 0 to 3, outside 0\.\.2"),
        (inputs(), torch.tensor([0, 0, 1, 1, 2]), "6 images and 5 labels"),
        (inputs(side=8), torch.tensor([0, 0, 1, 1, 2, 2]), "3 channels and 8x8 pixels, and the source has 3 and 12x12"),
        (inputs()[:, :2], torch.tensor([0, 0, 1, 1, 2, 2]), r"data\[0\]\[0\]: images of shape \(6, 2, 12, 12\)"),
        (inputs().long(), torch.tensor([0, 0, 1, 1, 2, 2]), r"data\[0\]\[0\]: expected images as a float tensor"),
        (inputs() / 0, torch.tensor([0, 0, 1, 1, 2, 2]), r"data\[0\]\[0\]: holds values that are not finite"),
        (inputs(), soft(), r"data\[0\]\[1\]: expected one class number per image \(N,\), found float32 \(6, 3\)"),
    ],
)
def test_files_that_contradict_the_source_are_refused_by_name(images, labels, says, image_folder, tmp_path):
    """The message names the file and the key; nothing is written."""
    path = tmp_path / "res_DC_CIFAR10_ConvNet_2ipc.pt"
    torch.save({"data": [[images, labels]], "accs_all_exps": {}}, path)
    with pytest.raises(UserError, match=f"^{path.name}: .*{says}"):
        bring(path, tmp_path / "set", image_folder, **PLAIN)
    assert not (tmp_path / "set").exists()


def test_soft_labels_that_do_not_fit_are_refused(image_folder, tmp_path):
    """Another number of classes, rows that are no probabilities, a count that classes do not divide."""
    folder = build("datm", tmp_path / "theirs")
    torch.save(soft(6, 4), folder / "labels_best.pt")
    with pytest.raises(UserError, match="soft labels of 4 classes, and the source has 3"):
        bring(folder, tmp_path / "set", image_folder, **PLAIN)
    with pytest.raises(UserError, match=r"no probabilities\n  next: --layout datm"):
        bring(folder, tmp_path / "set", image_folder, layout="mtt", **PLAIN)
    torch.save(torch.tensor([0, 0, 1, 1, 2, 2]), folder / "labels_best.pt")
    with pytest.raises(UserError, match=r"classes, not logits\n  next: --layout mtt"):
        bring(folder, tmp_path / "set", image_folder, layout="datm", **PLAIN)
    torch.save(torch.tensor(-1.0), folder / "lr_best.pt")
    torch.save(soft(), folder / "labels_best.pt")
    with pytest.raises(UserError, match=r"lr_best\.pt: is not one positive learning rate"):
        bring(folder, tmp_path / "set", image_folder, **PLAIN)
    torch.save(inputs(29), tmp_path / "cifar100.pt")
    with pytest.raises(UserError, match="29 images for 3 classes; the layout has 10 images of each"):
        bring(tmp_path / "cifar100.pt", tmp_path / "set", image_folder, **PLAIN)


def a_pair(folder, images=None, labels=None):
    """A file of IDC's kind."""
    folder.mkdir()
    whole = inputs().sigmoid() if images is None else images
    torch.save([whole, torch.tensor([0, 0, 1, 1, 2, 2]) if labels is None else labels], folder / "data.pt")
    return folder / "data.pt"


def a_tree(folder, classes):
    """Folders of pictures with a list of classes."""
    tree(folder)
    (folder / "classes.txt").write_text(classes)
    return folder


def cut_off(path):
    """A file without its end."""
    path.write_bytes(path.read_bytes()[:-100])
    return path


def half(folder, name):
    """A set without one of its files."""
    build("mtt", folder)
    (folder / name).rename(folder / name.replace("best", "best_1"))
    return folder


@pytest.mark.parametrize(
    ("made", "options", "advice"),
    [
        (lambda f: build("dc", f), ["--layout", "apm"], "leave --layout out, so that every layout is tried"),
        (lambda f: build("dc", f), ["--layout", "folder"], "unpack an archive and import the folder; or leave"),
        (lambda f: build("kip", f), ["--layout", "dc"], "leave --layout out"),
        (lambda f: cut_off(build("dc", f)), [], "fetch the file again, since a download may have broken off"),
        (lambda f: half(f, "labels_best.pt"), [], "fetch it too, into {folder}"),
        (lambda f: half(f, "images_best.pt"), [], "fetch it too, into {folder}"),
        (lambda f: a_pair(f, inputs()[:, :2]), [], "torch.save([images, labels], 'set.pt')"),
        (lambda f: a_pair(f, inputs()[:0], torch.arange(0)), [], "torch.save([images, labels], 'set.pt')"),
        (lambda f: a_pair(f), ["--factor", "9"], "--factor 2 (2 x 2 tiles, the usual), or --factor 1"),
        (lambda f: a_pair(f, labels=torch.arange(6)), ["--factor", "1"], "--source DATASET, what the set was made"),
        (lambda f: a_pair(f, labels=torch.arange(5) // 2), ["--factor", "1"], "fetch images and labels of one run"),
        (lambda f: a_tree(f, "red\n"), [], "a line for every class in {folder}/classes.txt, or remove it"),
        (
            lambda f: a_tree(f, "red\ngreen\nblue\n"),
            ["--classes", "none"],
            "--classes FILE (the source's class names, a line",
        ),
        (lambda f: a_tree(f, "red\ngreen\nblue\n"), ["--set", "ipc=3"], "ddhub import --help"),
        (lambda f: a_tree(f, "red\ngreen\nblue\n"), ["--set", "source.validation=2"], "ddhub recipes --keys"),
    ],
)
def test_a_fault_ends_with_what_to_do_about_it(made, options, advice, image_folder, tmp_path):
    """An option, a command, or the file to mend."""
    path = made(tmp_path / "theirs")
    told = ["--mean", "0.4,0.4,0.4", "--std", "0.2,0.2,0.2", "--source", str(image_folder), *options]
    result = CliRunner().invoke(main, ["import", str(path), "--out", str(tmp_path / "set"), *told])
    assert result.exit_code == 1, result.output
    assert advice.format(folder=path if path.is_dir() else path.parent) in result.stderr.partition("\n  next: ")[2]


def test_rates_and_protocols_come_from_files_table_or_user(image_folder, tmp_path):
    """MTT's learned rate is not in its files: the table's is used and said, unless --lr gives it."""
    path = build("mtt", tmp_path / "theirs")
    found = bring(path, tmp_path / "set", image_folder, **PLAIN)
    assert found.manifest.protocol.lr == 0.01
    assert any("learned rate" in note and "lr 0.01" in note for note in found.manifest.imported.notes)
    told = bring(path, tmp_path / "told", image_folder, lr=0.05, method="MTT", name="mine", **PLAIN)
    assert (told.manifest.protocol.lr, told.manifest.method, told.manifest.name) == (0.05, {"name": "MTT"}, "mine")
    assert not any("learned rate" in note for note in told.manifest.imported.notes)
    apm, _ = conventions.protocol("apm", "uoft-cs/cifar100", 100, "logits", None)
    assert (apm.loss, apm.lr, apm.epochs, apm.batch) == ("l1_logits", 0.04, 600, 256)


def test_arrays_of_no_layout_become_a_set_by_what_the_error_says(image_folder, tmp_path):
    """Keras-style arrays fit nothing; the pair that the error describes is read."""
    pixels, labels = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8), np.arange(6) // 2
    np.savez(tmp_path / "arrays.npz", x_train=pixels, y_train=labels)
    with pytest.raises(UserError, match=r"it holds .*x_train: uint8 \(6, 12, 12, 3\)") as caught:
        bring(tmp_path / "arrays.npz", tmp_path / "set", image_folder)
    assert "torch.save([images, labels], 'set.pt')" in caught.value.next and "--factor 1" in caught.value.next
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    torch.save([images, torch.from_numpy(labels)], tmp_path / "set.pt")
    found = bring(tmp_path / "set.pt", tmp_path / "set", image_folder, factor=1)
    assert torch.equal(found.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_places_that_cannot_be_read_or_written_are_refused_first(image_folder, tmp_path):
    """A set of ours, an archive, a missing file, an --out with something in it, a name that is none."""
    path = build("mtt", tmp_path / "theirs")
    found = bring(path, tmp_path / "set", image_folder, **PLAIN)
    with pytest.raises(UserError, match="is a ddhub artifact already"):
        bring(found.folder, tmp_path / "again", image_folder)
    with pytest.raises(UserError, match="is there already"):
        bring(path, tmp_path / "set", image_folder, **PLAIN)
    with pytest.raises(UserError, match="no such file or folder"):
        bring(tmp_path / "nothing.pt", tmp_path / "again", image_folder)
    (tmp_path / "set.zip").write_bytes(b"")
    with pytest.raises(UserError, match="is an archive"):
        bring(tmp_path / "set.zip", tmp_path / "again", image_folder)
    with pytest.raises(UserError, match="fits none of the layouts"):
        bring(image_folder.parent, tmp_path / "again", image_folder)
    with pytest.raises(UserError, match=r"letters, digits.*\n  next: --name NAME"):
        bring(path, tmp_path / "again", image_folder, name="../elsewhere", **PLAIN)
    with pytest.raises(UserError, match=r"only source\.KEY=VALUE"):
        bring(path, tmp_path / "again", image_folder, overrides=["ipc=3"], **PLAIN)
    with pytest.raises(UserError, match="is there already"):
        api.export(found.folder, "mtt", path)
    assert importing.find(path, "auto", Reading()) == ("mtt", path)


@pytest.mark.parametrize(
    ("layout", "option", "instead"),
    [
        ("dc", {"factor": 2}, "idc"),
        ("mtt", {"experiment": 0}, "dc"),
        ("folder", {"factor": 2}, "idc"),
        ("mtt", {"background": "black"}, "folder or hub"),
        ("apm", {"split": "test"}, "hub"),
        ("kip", {"range": (0, 4095)}, "folder or hub"),
    ],
)
def test_an_option_that_the_layout_does_not_use_is_refused(layout, option, instead, image_folder, tmp_path):
    """Silently dropped, it would give a set that differs from the user's statement, such as tiles left uncut."""
    (name,) = option
    with pytest.raises(UserError, match=rf"--{name}: .* layout {layout}, .*\n  next: .*--layout {instead}, "):
        bring(build(layout, tmp_path / "theirs"), tmp_path / "set", image_folder, **option, **PLAIN)
    assert not (tmp_path / "set").exists()


def test_a_rate_beside_that_of_the_files_is_refused(image_folder, tmp_path):
    """The files hold 0.0123. The same rate said again is no contradiction."""
    path = build("datm", tmp_path / "theirs")
    with pytest.raises(UserError, match=r"--lr 0\.1: the files of theirs hold the rate 0\.0123\n  next: without --lr"):
        bring(path, tmp_path / "set", image_folder, lr=0.1, **PLAIN)
    found = bring(path, tmp_path / "same", image_folder, lr=0.0123, **PLAIN)
    assert found.manifest.protocol.lr == pytest.approx(0.0123)


@pytest.mark.parametrize(("name", "zca"), [("colours_2", True), ("colours_zca_2", None)])
def test_statistics_beside_whitening_are_refused(name, zca, image_folder, tmp_path):
    """Whitening, stated or read off the folder's name, would drop them without a word."""
    with pytest.raises(UserError, match=r"--mean and --std: .*whitened as t.*\n  next: .*--no-zca"):
        bring(build("mtt", tmp_path / name), tmp_path / "set", image_folder, zca=zca, **PLAIN)
