"""Sources as people have them: odd folders, tables, splits and labels are read right, or refused with what to type."""

import dataclasses
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import QUICK, coloured, encode, parquet_files, refused, write_folder
from hub_client import in_client
from hub_server import HubServer
from PIL import Image

from ddhub import api
from ddhub.base.errors import UserError
from ddhub.data import first_look, held_out, image_cache
from ddhub.data import source as sources
from ddhub.data.spec import SourceSpec
from ddhub.distillation import checks, first_recipe, recipes
from ddhub.distillation.picture_options import PictureOptions
from ddhub.evaluation import real_images
from ddhub.reports import headlines, summary

pytestmark = pytest.mark.slow

NAMES = ("red", "green", "blue")


def spec(folder: Path, **values) -> SourceSpec:
    return SourceSpec(dataset=str(folder), **values)


def picture(label: int, seed: int, side: int = 12) -> Image.Image:
    """Its brightest channel tells its class."""
    pixels = np.random.default_rng(seed).integers(0, 60, (side, side, 3)).astype(np.uint8)
    pixels[..., label] += 150
    return Image.fromarray(pixels)


def shown(split: sources.Split) -> list[int]:
    """The class that each image shows, as an index into NAMES."""
    return split.images.float().mean((2, 3)).argmax(1).tolist()


def tree(folder: Path, classes: dict[str, int], count: int = 6, first: int = 0) -> Path:
    """Class folders with pictures, drawn from as many seeds."""
    for name, label in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for seed in range(count):
            picture(label, first + seed).save(folder / name / f"{seed:02d}.png")
    return folder


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_first_class_of_grey_pictures_hides_no_colours(tmp_path):
    """Rows all over the source decide channels; one that they missed is named."""
    for place in range(40):
        (tmp_path / "a" / "x").mkdir(parents=True, exist_ok=True)
        picture(0, place).convert("L").save(tmp_path / "a" / "x" / f"{place:02d}.png")
    tree(tmp_path / "a", {"y": 0, "z": 2}, 40)
    assert sources.load_train(spec(tmp_path / "a"))[0].images.shape == (120, 3, 12, 12)


def test_a_late_row_that_differs_is_named(tmp_path, monkeypatch):
    """A colour or a size among rows that nobody looked at ends in what to set, not in grey or squeezed pictures."""
    monkeypatch.setattr("ddhub.data.survey.LOOKED", 4)
    folder = tmp_path / "a"
    for name in ("x", "y"):
        (folder / name).mkdir(parents=True)
        for place in range(10):
            picture(0, place).convert("L").save(folder / name / f"{place}.png")
    picture(2, 0).save(folder / "y" / "1.png")
    message = refused(sources.load_train, spec(folder))
    assert "y/1.png" in message and "class 'y'" in message and "--set source.channels=3" in message
    assert sources.load_train(spec(folder, channels=3))[0].images.shape[1] == 3
    picture(0, 0, side=20).convert("L").save(folder / "y" / "1.png")
    message = refused(sources.load_train, spec(folder))
    assert "is 20x20" in message and "12x12" in message and "--set source.resolution=12" in message
    assert sources.load_train(spec(folder, resolution=12))[0].images.shape == (20, 1, 12, 12)
    # A cache in which every row was resized is no proof that all have one size.
    assert "is 20x20" in refused(sources.load_train, spec(folder))


@pytest.mark.parametrize("content", ["cut", b"", b"<html>403 Forbidden</html>"])
def test_a_damaged_picture_is_named_or_left_out(content, tmp_path, capfd):
    """By split, file and class; `skip_damaged` leaves it out, counts it, and the rest is as it was."""
    folder = tree(tmp_path / "a" / "train", dict(zip(NAMES, range(3), strict=True)))
    whole = sources.load_train(spec(tmp_path / "a"))[0]
    path = folder / "green" / "03.png"
    path.write_bytes(path.read_bytes()[:200] if content == "cut" else content)
    message = refused(sources.load_train, spec(tmp_path / "a"))
    assert (
        "train/green/03.png" in message and "class 'green'" in message and "--set source.skip_damaged=true" in message
    )
    split = sources.load_train(spec(tmp_path / "a", skip_damaged=True))[0]
    assert "left out: 1 damaged picture (source.skip_damaged)" in capfd.readouterr().err
    kept = torch.tensor([row for row in range(18) if row != 9])  # blue, green, red: green's fourth
    assert torch.equal(split.images, whole.images[kept]) and torch.equal(split.labels, whole.labels[kept])
    parts = [split.images.numpy()]
    again = image_cache.fingerprint(parts, split.images.shape, split.labels.numpy(), split.classes)
    assert split.fingerprint == again


def test_a_damaged_row_of_a_table_is_named(make_folder):
    """By its number, where it has no file."""
    images, labels = coloured(12, 0)
    images[7] = type("Torn", (), {"save": lambda self, file, format: file.write(b"no image")})()
    message = refused(sources.load_train, spec(make_folder({"train": (images, labels)})))
    assert "train row 7" in message and "class 'green'" in message


@pytest.mark.parametrize(
    ("missing", "names"),
    [(-1, None), (-1, NAMES), (-100, None), ("", None), ("  ", None), ("-1", None), (None, None)],
)
def test_rows_without_a_label_are_counted_and_left_out(missing, names, make_folder, capfd):
    """They make no class of their own, whatever stands for them."""
    images, labels = coloured(12, 0)
    words = [NAMES[label] for label in labels] if isinstance(missing, str) else list(labels)
    words[::4] = [missing] * 3
    split = sources.load_train(spec(make_folder({"train": (images, words[1:] + words[:1])}, names=names)))[0]
    assert len(split) == 9 and len(split.classes) == 3
    assert "3 of 12 rows have no label" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([-2, -1, 0] * 4, "several negative numbers (-1, -2)"),
        ([[0, 1]] * 12, "holds a list, which is neither"),
        ([0.5, 1.5, 2.5] * 4, "holds 0.5, which is neither"),
        ([4] * 12, "has images of one class, '4'"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, says, tmp_path):
    """Before an image is decoded, with what a label may be."""
    (tmp_path / "a").mkdir()
    rows = pa.table({"image": [png(image) for image in coloured(12, 0)[0]], "label": labels})
    pq.write_table(rows, tmp_path / "a" / "train.parquet")
    message = refused(first_look.look, spec(tmp_path / "a"))
    assert says in message and "next: " in message


@pytest.mark.parametrize(
    ("odd", "says"),
    [("None", "'None' is read as a class"), ("red ", "differ only in case or spaces: 'red' and 'red '")],
)
def test_doubtful_names_of_classes_are_said(odd, says, make_folder, caplog):
    """They stay classes: a word that often stands for none, and a class beside its own twin."""
    images, labels = coloured(12, 0)
    words = [odd, *(NAMES[label] for label in labels[1:])]
    split = sources.load_train(spec(make_folder({"train": (images, words)}, names=None)))[0]
    assert odd in split.classes and says in caplog.text


def test_labels_of_either_sign_are_two_classes(make_folder):
    """-1 beside nothing but 1 is a class, as in the tables of support vector machines."""
    images, labels = coloured(12, 0)
    split = sources.load_train(spec(make_folder({"train": (images, [1 if k else -1 for k in labels])}, names=None)))[0]
    assert split.classes == ("-1", "1") and len(split) == 12


def test_whole_numbers_written_as_fractions_are_labels(make_folder, tmp_path):
    """A table with a missing label stores all of them so."""
    images, labels = coloured(12, 0)
    content = {"image": [encode(i) for i in images], "label": [float(k) for k in labels[:-1]] + [None]}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float64")})
    (tmp_path / "f").mkdir()
    datasets.Dataset.from_dict(content, features=kinds).to_parquet(tmp_path / "f" / "train.parquet")
    split = sources.load_train(spec(tmp_path / "f"))[0]
    assert split.classes == ("0", "1", "2") and len(split) == 11


def permuted(
    folder: Path, split: str, order: tuple[str, ...], count: int = 12, colours: tuple[str, ...] = NAMES
) -> None:
    """A table whose own schema numbers the classes in this order; `colours` are the names of red, green and blue."""
    labels = [place % 3 for place in range(count)]
    content = {
        "image": [encode(picture(colours.index(order[label]), 400 + place)) for place, label in enumerate(labels)],
        "label": labels,
    }
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(order))})
    folder.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(content, features=kinds).to_parquet(folder / f"{split}.parquet")


def test_files_that_number_classes_differently_are_matched_by_name(tmp_path):
    """Train and test, and two files of one split: what a class is called is what its images show."""
    permuted(tmp_path / "a", "train", NAMES)
    permuted(tmp_path / "a", "test", NAMES[::-1])
    for split in (sources.load_train(spec(tmp_path / "a"))[0], sources.load_test(spec(tmp_path / "a"))):
        assert [split.classes[label] for label in split.labels.tolist()] == [NAMES[k] for k in shown(split)]
    permuted(tmp_path / "b", "train-00000-of-00002", NAMES)
    permuted(tmp_path / "b", "train-00001-of-00002", ("green", "blue", "red"))
    both = sources.load_train(spec(tmp_path / "b"))[0]
    assert both.classes == NAMES and both.labels.tolist() == shown(both) and len(both) == 24
    content = datasets.Dataset.from_parquet(str(tmp_path / "b" / "train-00001-of-00002.parquet"))
    other = datasets.ClassLabel(names=["green", "blue", "grey"])
    content.cast_column("label", other).to_parquet(tmp_path / "b" / "train-00001-of-00002.parquet")
    assert "names other classes than" in refused(sources.load_train, spec(tmp_path / "b"))


def test_numbered_names_and_parts_of_splits_are_matched_by_name_too(tmp_path):
    """Names that are numbers out of order; two splits together, and parts of one."""
    numbers = ("0", "1", "2")
    permuted(tmp_path / "n", "train", numbers, colours=numbers)
    permuted(tmp_path / "n", "test", ("2", "1", "0"), colours=numbers)
    test = sources.load_test(spec(tmp_path / "n"))
    assert [int(test.classes[label]) for label in test.labels.tolist()] == shown(test)
    both = sources.load_train(spec(tmp_path / "n", train="train+test"))[0]
    assert [int(both.classes[label]) for label in both.labels.tolist()] == shown(both) and len(both) == 24
    permuted(tmp_path / "n", "train-00001-of-00002", ("1", "2", "0"), colours=numbers)
    (tmp_path / "n" / "train.parquet").rename(tmp_path / "n" / "train-00000-of-00002.parquet")
    assert "in different orders" in refused(sources.load_train, spec(tmp_path / "n", train="train[:50%]"))
    look = first_look.look(spec(tmp_path / "n", test="test[:50%]"))
    assert look.spec.test == "test[:50%]"


def test_a_test_split_may_name_more_classes_than_the_train_split(tmp_path):
    """`datasets` gives both the names of the first file, and then has no name for a label."""
    for split, count in (("train", 2), ("test", 3)):
        images, labels = coloured(12, count)
        rows = pa.table({"image": [{"bytes": png(image), "path": None} for image in images], "label": labels})
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES[:count]))})
        named = {"huggingface": json.dumps({"info": {"features": kinds.to_dict()}})}
        kept = pa.array([label < count for label in labels])
        (tmp_path / "a").mkdir(exist_ok=True)
        pq.write_table(rows.filter(kept).replace_schema_metadata(named), tmp_path / "a" / f"{split}.parquet")
    test = sources.load_test(spec(tmp_path / "a"))
    assert test.classes == NAMES and test.labels.tolist() == shown(test)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A source with train and test, and a set distilled from it. Not to be written to."""
    folder = tmp_path_factory.mktemp("made")
    for name, seed in (("train", 0), ("test", 50)):
        for label, colour in enumerate(NAMES):
            (folder / "source" / name / colour).mkdir(parents=True)
            for place in range(10):
                picture(label, seed + place).save(folder / "source" / name / colour / f"{place}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(folder / "home"))
        source = f"source={{dataset: {folder / 'source'}, validation: 0.2}}"
        hard = ["labels={form: hard}", "evaluate={epochs: 150, packaging_seeds: 1, seeds: 1}", "augment=none"]
        quick = [*QUICK, *hard]
        api.distill("digits_ipc1", out=folder / "set", overrides=[*quick, "ipc=4", source], threads=1)
    return folder / "source", folder / "set"


def scored(made: tuple[Path, Path], tmp_path: Path, **how) -> dict:
    """The row of one training, evaluated into a copy of the set."""
    copy = tmp_path / "set"
    if not copy.exists():
        shutil.copytree(made[1], copy)
    return api.evaluate(str(copy), seeds=1, baselines=(), threads=1, probe=False, **how).to_dict()["rows"][0]


@pytest.mark.parametrize("kind", ["folder", "words"])
def test_a_test_split_that_lacks_a_class_is_scored_on_the_others(kind, made, tmp_path, make_folder, capfd):
    """By their own names; the missing ones are said, and stand in the row."""
    if kind == "folder":
        other = tree(tmp_path / "other" / "test", {"red": 0, "blue": 2}, first=200).parent
    else:
        images = [picture(label, 300 + seed) for seed in range(6) for label in (0, 2)]
        other = make_folder({"test": (images, ["red", "blue"] * 6)}, names=None)
    row = scored(made, tmp_path, test=str(other))
    assert row["top1"] == 1.0 and "(2 of 3 classes)" in row["test_set"]
    said = capfd.readouterr().err
    assert "has no images of 1 of 3 classes (green)" in said


def test_classes_of_a_test_set_in_another_order_are_matched(made, tmp_path):
    """A permuted ClassLabel of `--test` costs nothing."""
    permuted(tmp_path / "other", "test", NAMES[::-1])
    assert scored(made, tmp_path, test=str(tmp_path / "other"))["top1"] == 1.0


@pytest.mark.parametrize("kind", ["remembered", "told"])
def test_training_images_are_no_test_images(kind, made, tmp_path):
    """The source's train split as it is, or some of it in another file and order; allowed where that is asked for.

    The source is known from the cache of the set's maker, or is told.
    """
    source, _ = made
    how = {"source_path": str(source)} if kind == "told" else {}
    if kind == "remembered":
        shutil.copytree(source.parent / "home" / "origins", Path(os.environ["DDHUB_HOME"]) / "origins")
    shutil.copytree(source / "train", tmp_path / "whole")
    shutil.copytree(source / "train" / "red", tmp_path / "some" / "red")
    shutil.copytree(source / "train" / "blue", tmp_path / "some" / "blue")
    (tmp_path / "some" / "red" / "0.png").unlink()
    for name in ("whole", "some"):
        with pytest.raises(UserError, match="100% of its images are training images") as caught:
            scored(made, tmp_path, test=str(tmp_path / name), **how)
        assert "--allow-train" in str(caught.value)
    row = scored(made, tmp_path, test=str(tmp_path / "whole"), allow_train=True, **how)
    assert row["test_set"].endswith("(training images)")
    with pytest.raises(UserError, match="are training images"):
        scored(made, tmp_path, test_settings=["source.test=train"], **how)


@pytest.fixture
def leaky(made, tmp_path):
    """A function (count) -> the source with so many training images among its 30 test images, in other files."""

    def leak(count: int) -> str:
        source = Path(shutil.copytree(made[0], tmp_path / "source"))
        train, test = (sorted((source / name).rglob("*.png")) for name in ("train", "test"))
        for one, other in zip(train[:count], test[:count], strict=True):
            Image.open(one).save(other, compress_level=1)
        return str(source)

    return leak


@pytest.mark.parametrize(("count", "level"), [(1, "INFO"), (6, "WARNING")])
@pytest.mark.parametrize("baselines", [(), ("random",)], ids=["alone", "beside random"])
def test_training_images_in_a_source_s_own_test_split_are_counted(
    count, level, baselines, made, leaky, tmp_path, monkeypatch, caplog
):
    """In the log, the row and the report, with or without baselines; more than a few in a warning."""
    caplog.set_level("INFO", "ddhub")
    monkeypatch.setattr(real_images, "FEW_COPIES", 0.1)
    monkeypatch.setattr(headlines, "FEW_COPIES", 0.1)
    copy = shutil.copytree(made[1], tmp_path / "set")
    how = {"source_path": leaky(count), "baselines": baselines, "overrides": ["epochs=1"], "seeds": 1, "threads": 1}
    report = api.evaluate(copy, probe=False, **how)
    said = f"training images of the set's source ({count} of 30)"
    assert [record.levelname for record in caplog.records if said in record.getMessage()] == [level]
    assert {row.test_copies for row in report.rows} == {count}
    loud = [text for text in headlines.warnings(report) if f"{count} of 30 images" in text]
    assert len(loud) == (level == "WARNING")
    assert f"{count} of 30 images" in " ".join(summary.sentences(report))
    assert f"{count} of 30 images" in (copy / "README.md").read_text()


def read_from_hub(names: list) -> list:
    """The sizes of the train splits of Hub datasets, or the messages of their refusals."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "0"
    from ddhub.base.errors import UserError
    from ddhub.data import source
    from ddhub.data.spec import SourceSpec

    found = []
    for name in names:
        try:
            found.append(len(source.load_train(SourceSpec(dataset=name))[0]))
        except UserError as fault:
            found.append(str(fault))
    return found


def test_splits_of_a_hub_dataset_that_would_be_read_as_one_are_refused(tmp_path):
    """They were trained on together, with the test images among them. A header that names the files is heeded."""
    pictures = {
        f"{kind}/{number}.png": encode(picture(k, number))["bytes"]
        for k, kind in enumerate("ab")
        for number in range(6)
    }
    split = {f"{part}/{name}": data for part in ("trainset", "testset") for name, data in pictures.items()}
    paths = "  - split: train\n    path: [trainset/**, testset/**]\n"
    header = f"---\nconfigs:\n- config_name: default\n  data_files:\n{paths}---\n"
    with HubServer(tmp_path / "hub") as server:
        for name, content in (("alice/odd", split), ("alice/told", {**split, "README.md": header.encode()})):
            server.create_repo(name)
            server.commit(name, content)
        odd, told = in_client(read_from_hub, server, names=["alice/odd", "alice/told"])
    assert "source: alice/odd: testset, trainset would not be read as splits of their own" in odd
    assert "next: hf download alice/odd --repo-type dataset --local-dir odd; mv odd/testset odd/test; mv" in odd
    assert odd.endswith("; then --set source.path=odd") and told == 24


def counted(folder: str, decoded: list, quick: list) -> list:
    """Distill from the Hub, and evaluate without baselines where at most so many images are decoded for the count.

    For each of them: the counts in rows, and what the report says of copies.
    """
    import os
    import shutil

    os.environ["HF_HUB_OFFLINE"] = "0"
    from ddhub import api
    from ddhub.evaluation import real_images
    from ddhub.reports import summary

    if not os.path.exists(folder):
        api.distill("digits_ipc1", out=folder, overrides=quick, threads=1)
    found = []
    for real_images.DECODED in decoded:
        report = api.evaluate(folder, baselines=(), overrides=["epochs=1"], seeds=1, threads=1, probe=False)
        said = [text for text in summary.sentences(report) if "are also training images" in text]
        found.append([[row.test_copies for row in report.rows], said])
        shutil.rmtree(folder + "/evaluation")
    return found


def test_training_images_in_a_hub_source_s_test_split_are_counted(tmp_path):
    """Without baselines too, because all splits of a repo are fetched together; otherwise the report says so."""
    (images, labels), (tested, known) = coloured(30, 0), coloured(12, 1)
    splits = {"train": (images, labels), "test": (images[:3] + tested[3:], labels[:3] + known[3:])}
    made = write_folder(tmp_path / "made", splits)
    with HubServer(tmp_path / "hub") as server:
        server.create_repo("alice/colours")
        server.commit("alice/colours", parquet_files(made))
        quick = [*QUICK, "source={dataset: alice/colours}"]
        how = {"home": str(tmp_path / "home"), "folder": str(tmp_path / "set"), "quick": quick}
        (counts, said), second = in_client(counted, server, decoded=[29, 30], **how)
        assert counts == [None] and said[0].startswith("It is not known how many images of alice/colours test are")
        later = in_client(counted, server, decoded=[0], **how)  # the earlier count is taken
        for counts, said in (second, *later):
            assert counts == [3] and said[0].startswith("3 of 12 images")


def test_a_source_s_own_test_split_of_training_images_is_refused(made, leaky, tmp_path):
    """As it is with `--test`. Nothing is refused where this is allowed, or where nothing is copied."""
    how = {"source_path": leaky(18), "overrides": ["epochs=1"]}
    with pytest.raises(UserError, match="60% of its images are training images") as caught:
        scored(made, tmp_path, **how)
    assert "--allow-train" in str(caught.value)
    assert scored(made, tmp_path, allow_train=True, **how)["test_set"].endswith("(training images)")
    assert scored(made, tmp_path, source_path=str(made[0]), overrides=["epochs=1"])["test_copies"] == 0


@pytest.mark.parametrize("baselines", [(), ("random",)], ids=["alone", "beside random"])
def test_a_held_out_part_of_changed_pictures_is_refused(baselines, made, tmp_path, caplog):
    """One more picture in a class draws its part anew, and pictures that were distilled from are tested on.

    Distilling again says that the pictures have changed.
    """
    source, held = tmp_path / "pictures", tmp_path / "held"
    shutil.copytree(made[0] / "train", source)
    told = f"source={{dataset: {source}, validation: 0.2, hold_out: 0.2}}"
    quick = {"overrides": [*QUICK, "labels={form: hard}", "augment=none", told], "threads": 1}
    for _ in range(2):
        api.distill("digits_ipc1", out=held, **quick)
    assert "was made from other pictures" not in caplog.text
    how = {"source_path": str(source), "baselines": baselines, "overrides": ["epochs=1"]}
    how |= {"seeds": 1, "threads": 1, "probe": False}
    assert api.evaluate(held, **how).rows[0].test_set.endswith("pictures train, 20% held out")
    trained = {image.numpy().tobytes() for image in sources.load_train(spec(source, hold_out=0.2))[0].images}
    picture(0, 99).save(source / "red" / "99.png")
    tested = {image.numpy().tobytes() for image in sources.load_test(spec(source, hold_out=0.2)).images}
    assert trained & tested
    api.distill("digits_ipc1", out=held, **quick)
    assert "was made from other pictures" in caplog.text
    with pytest.raises(UserError, match="have changed since") as caught:
        api.evaluate(held, **how)
    assert "--allow-train" in str(caught.value)
    report = api.evaluate(held, allow_train=True, **how)
    anew = [row for row in report.rows if row.test_set.endswith("(test part drawn anew)")]
    assert len(anew) == 1 + len(baselines) and {row.test_copies for row in anew} == {None}
    assert [text for text in headlines.warnings(report) if "have changed since the set was made" in text]
    assert "was not read" not in " ".join(summary.sentences(report))


def test_the_split_that_is_tested_on_can_be_set(made, tmp_path):
    """`evaluate --set source.test=NAME` reads it; other keys of the source are the set's own."""
    shutil.copytree(made[0], tmp_path / "source")
    (tmp_path / "source" / "test").rename(tmp_path / "source" / "validation")
    how = {"source_path": str(tmp_path / "source")}
    with pytest.raises(UserError, match=r"--set source\.test=validation"):
        scored(made, tmp_path, **how)
    row = scored(made, tmp_path, test_settings=["source.test=validation"], **how)
    assert row["top1"] == 1.0 and row["test_set"].endswith(" validation")
    with pytest.raises(UserError, match=r"only source\.test"):
        scored(made, tmp_path, test_settings=["source.resolution=4"], **how)


@pytest.mark.parametrize(
    ("splits", "advice"),
    [
        (["train", "validation"], "--set source.test=validation"),
        (["training", "testing"], "--set source.train=training --set source.test=testing"),
        (["full"], "--set source.train=full"),
    ],
)
def test_a_missing_split_is_found_before_distilling(splits, advice, tmp_path, make_folder, capfd):
    """With advice that works: the same command with it goes on."""
    data = [{"split": split, "path": f"data/{split}-00000-of-00001.parquet"} for split in splits]
    conf = [{"config_name": "default", "data_files": data}]
    folder = make_folder({split: coloured(30, seed) for seed, split in enumerate(splits)})
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(conf)}\n---\n")
    quick = [*QUICK, f"source={{dataset: {folder}}}"]
    with pytest.raises(UserError) as caught:
        api.distill("digits_ipc1", out=tmp_path / "set", overrides=quick, threads=1)
    assert advice in str(caught.value) and "decoding" not in capfd.readouterr().err
    told = [word for word in advice.split() if word != "--set"]
    api.distill("digits_ipc1", out=tmp_path / "set", overrides=[*quick, *told], threads=1)


def test_a_source_without_test_images_is_said_and_can_be_tested_elsewhere(tmp_path, make_folder, capfd):
    """A warning before distilling, an error when it is evaluated, both with `--test`, which works."""
    folder = make_folder({"train": coloured(30, 0)})
    api.distill("digits_ipc1", out=tmp_path / "set", overrides=[*QUICK, f"source={{dataset: {folder}}}"], threads=1)
    said = capfd.readouterr().err
    assert "no split to test on" in said and said.index("no split to test on") < said.index("decoding")
    how = {"seeds": 1, "baselines": (), "threads": 1, "probe": False}
    with pytest.raises(UserError, match="--test FOLDER"):
        api.evaluate(str(tmp_path / "set"), **how)
    other = make_folder({"test": coloured(12, 1)}, name="other")
    assert api.evaluate(str(tmp_path / "set"), test=str(other), **how).to_dict()["rows"]


def test_folders_of_splits_with_capitals_are_not_mixed(image_folder, tmp_path):
    """`datasets` reads them all as the split train; a class that is called Train is a class."""
    picture = Image.new("RGB", (8, 8), "red")
    for place in ("photos/Train/elm", "photos/Test/elm", "rides/Train", "rides/Car"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(4):
            picture.save(tmp_path / place / f"{number}.png")
    message = refused(sources.load_train, SourceSpec(dataset=str(tmp_path / "photos")))
    assert "Test, Train would not be read as splits of their own" in message
    assert f"mv {tmp_path}/photos/Train {tmp_path}/photos/train" in message
    assert "blank" in refused(sources.load_train, SourceSpec(dataset=str(tmp_path / "rides")))


def test_a_split_is_not_trained_and_tested_on(image_folder):
    """Before anything is read."""
    assert "is the split that is trained on" in refused(sources.check_test, spec(image_folder, test="train"))


def test_a_class_of_one_image_is_trained_on():
    """It is not held out; larger ones hold out their share."""
    labels = torch.tensor([0] * 10 + [1])
    kept, held = held_out.hold_out(labels, 0.2, seed=0)
    assert labels[held].tolist() == [0, 0] and 10 in kept.tolist()
    assert len(held_out.stratified(labels[kept], ("a", "b"), 1, 0)) == 2
    for count in range(1, 40):  # what checks before an image is decoded count with is what is done
        kept, held = held_out.hold_out(torch.zeros(count), 0.2, seed=0)
        assert (len(kept), len(held)) == (count - held_out.size(count, 0.2), held_out.size(count, 0.2))


def test_a_class_of_one_image_passes_the_check_before_an_image_is_decoded():
    """One image per class is distilled of it; of no image nothing is."""
    recipe = recipes.read("digits_ipc1", [])
    held = first_look.Holdings(recipe.source, ("a", "b"), (10, 1), side=8, uniform=True, channels=1, tested=True)
    checks.images(recipe, held)
    with pytest.raises(UserError, match=r"class 'b' .* has no image in the split 'train'"):
        checks.images(recipe, dataclasses.replace(held, counts=(10, 0)))
    renamed = dataclasses.replace(held, classes=("fire truck", "Fire_truck"), counts=(10, 0))
    with pytest.raises(UserError, match="is it 'fire truck'"):
        checks.images(recipe, renamed)
    with pytest.raises(UserError, match="is it 'fire truck'"):
        first_recipe.start(renamed, PictureOptions())


@pytest.mark.parametrize("kind", ["two zips", "one zip", "a zip file"])
def test_zipped_folders_of_pictures_are_read(kind, tmp_path):
    """A zip per split, one zip of all splits, and the path of a zip itself; what macOS adds is left out."""
    plain = tmp_path / "plain"
    for split in ("train", "test"):
        tree(plain / split, dict(zip(NAMES, range(3), strict=True)))
    packed = tmp_path / "packed"
    packed.mkdir()
    for split in ("train", "test") if kind == "two zips" else ("all",):
        root = plain / split if kind == "two zips" else plain
        with zipfile.ZipFile(packed / f"{split}.zip", "w") as archive:
            for path in sorted(root.rglob("*.png")):
                archive.write(path, path.relative_to(root))
            archive.writestr("__MACOSX/red/._00.png", b"fork")
    (packed / "README.md").write_text("pictures\n")
    place = packed / "all.zip" if kind == "a zip file" else packed
    for load in (lambda s: sources.load_train(s)[0], sources.load_test):
        split, wanted = load(spec(place)), load(spec(plain))
        assert split.fingerprint == wanted.fingerprint and len(split) == 18


def test_zips_that_lead_out_or_are_damaged_are_refused(tmp_path):
    """Nothing is written beside the cache."""
    for name, member in (("out", "../../evil.png"), ("bad", None)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "train.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member or "red/0.png", png(picture(0, 0)))
        if member is None:
            content = bytearray(path.read_bytes())
            content[60] ^= 255
            path.write_bytes(content)
        assert "train.zip" in refused(sources.load_train, spec(tmp_path / name))
    assert not list(tmp_path.rglob("evil.png"))


def table(folder: Path, kind: str) -> Path:
    """A source in a form that other tools write."""
    images, labels = coloured(12, 0)
    (folder / "data").mkdir(parents=True)
    if kind == "save_to_disk":
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
        rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=kinds)
        shutil.rmtree(folder)
        datasets.DatasetDict({"train": rows, "test": rows.select(range(6))}).save_to_disk(folder)
        return folder
    encoded = [png(image) for image in images]
    column = {
        "bytes": pa.array(encoded),
        "large bytes": pa.array(encoded, pa.large_binary()),
        "struct": pa.array([{"bytes": each, "path": f"{n}.png"} for n, each in enumerate(encoded)]),
        "list of one": pa.array([[{"bytes": each, "path": None}] for each in encoded]),
    }[kind]
    content = pa.table({"image": column, "label": pa.array([NAMES[label] for label in labels])})
    if kind == "list of one":
        kinds = datasets.Features({"image": datasets.List(datasets.Image()), "label": datasets.Value("string")})
        content = content.cast(kinds.arrow_schema)
    pq.write_table(content, folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("kind", ["bytes", "large bytes", "struct", "list of one", "save_to_disk"])
def test_tables_of_other_tools_are_read(kind, tmp_path):
    """Files as bare bytes, structs without the type that says so, lists of one image, and save_to_disk's folders."""
    images, labels = coloured(12, 0)
    split = sources.load_train(spec(table(tmp_path / "a", kind)))[0]
    assert [split.classes[label] for label in split.labels.tolist()] == [NAMES[label] for label in labels]
    np.testing.assert_array_equal(split.images.permute(0, 2, 3, 1).numpy(), np.stack(images))


def test_a_column_is_one_of_pictures_if_its_first_row_is_missing_or_damaged(tmp_path):
    """Bare bytes have no type that says so; the row is named."""
    encoded = [png(image) for image in coloured(12, 0)[0]]
    for name, first in (("missing", None), ("damaged", b"")):
        (tmp_path / name).mkdir()
        rows = pa.table({"image": pa.array([first, *encoded[1:]]), "label": [0, 1, 2] * 4})
        pq.write_table(rows, tmp_path / name / "train.parquet")
        assert "train row 0, class '0'" in refused(sources.load_train, spec(tmp_path / name))
        assert len(sources.load_train(spec(tmp_path / name, skip_damaged=True))[0]) == 11


def test_tar_archives_without_labels_say_how_to_unpack(tmp_path):
    """`datasets` reads archives of class folders as WebDataset, and drops the folders; labels in .cls are read."""
    for name, suffix in (("a", None), ("b", "cls")):
        (tmp_path / name).mkdir()
        with tarfile.open(tmp_path / name / "train.tar", "w") as archive:
            for place, image in enumerate(coloured(12, 0)[0]):
                for member, content in (
                    (f"red/{place}.png", png(image)),
                    (f"red/{place}.{suffix}", b"%d" % (place % 3)),
                ):
                    if not member.endswith("None"):
                        entry = tarfile.TarInfo(member)
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))
    message = refused(sources.load_train, spec(tmp_path / "a"))
    assert "tar archives without labels" in message and "tar -xf train.tar -C train" in message
    assert sources.load_train(spec(tmp_path / "b"))[0].classes == ("0", "1", "2")


def test_a_saved_folder_that_names_files_elsewhere_is_refused(tmp_path):
    """Its state could name any file of the reader's."""
    folder = table(tmp_path / "a", "save_to_disk")
    path = folder / "train" / "state.json"
    state = json.loads(path.read_text())
    state["_data_files"] = [{"filename": "../../elsewhere.arrow"}]
    path.write_text(json.dumps(state))
    assert "outside of the dataset; refused" in refused(sources.load_train, spec(folder))
    assert "only test, train" in refused(sources.load_train, spec(folder, train="training"))


def test_test_pictures_unlike_the_training_pictures_are_said(tmp_path, capfd):
    """They are made like these, and counted: another size, colours in a grey source."""
    for place in range(6):
        for split, image in (("train", picture(0, place).convert("L")), ("test", picture(0, place, side=24))):
            path = tmp_path / "a" / split / NAMES[place % 3] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    train = sources.load_train(spec(tmp_path / "a"))[0]
    assert "another size" not in capfd.readouterr().err
    assert sources.load_test(train.spec).images.shape[1:] == (1, 12, 12)
    said = capfd.readouterr().err
    assert (
        "6 pictures have another size: resized to 12x12" in said
        and "6 pictures have colours: they are made grey" in said
    )


def test_a_blank_source_is_refused_and_a_constant_channel_is_said(make_folder, capfd):
    """Nothing is wrong with the files, and yet they show nothing."""
    blank = make_folder({"train": ([Image.new("RGB", (12, 12), (5, 6, 7))] * 6, [0, 1, 2] * 2)}, name="blank")
    assert "all 6 images are blank" in refused(sources.load_train, spec(blank))
    images = [Image.merge("RGB", [*picture(0, seed).split()[:2], Image.new("L", (12, 12), 9)]) for seed in range(6)]
    sources.load_train(spec(make_folder({"train": (images, [0, 1, 2] * 2)}, name="constant")))
    assert "channel 2 is 9 in every pixel" in capfd.readouterr().err
    plain = [Image.new("RGB", (12, 12), (seed, 0, 2 * seed)) for seed in range(6)]
    sources.load_train(spec(make_folder({"train": (plain, [0, 1, 2] * 2)}, name="plain")))
    assert "6 of 6 images are of one colour all over" in capfd.readouterr().err


def test_a_test_split_of_another_range_is_said(tmp_path, capfd):
    """8-bit values in 16-bit files, beside training pictures of the full range: they decode to black, or nearly."""
    for split, top in (("train", 65535), ("test", 255)):
        for place in range(6):
            path = tmp_path / "a" / split / NAMES[place % 3] / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.asarray(picture(place % 3, place).convert("L")) / 255
            grey[0, 0], grey[0, 1] = 1, 0
            Image.fromarray((grey * top).astype(np.uint16)).save(path)
    train = sources.load_train(spec(tmp_path / "a"))[0]
    assert "nearly black" not in capfd.readouterr().err
    sources.load_test(train.spec)
    assert "test: nearly black: no pixel of 6 images is above 1 of 255" in capfd.readouterr().err


def test_long_decoding_says_its_rate_and_end(monkeypatch, image_folder, capfd):
    """A line now and then, with images done, images a second and the time left."""
    monkeypatch.setattr(image_cache, "SAID_EVERY", -1)
    monkeypatch.setattr(image_cache, "TOGETHER", 12 * 12 * 3 * 20)
    sources.load_train(spec(image_folder))
    lines = [line for line in capfd.readouterr().err.splitlines() if "images/s" in line]
    assert len(lines) >= 3 and all("/60 " in line and "eta" in line for line in lines)


def test_a_cached_source_is_found_while_the_hub_is_away(monkeypatch, tmp_path):
    """By the commit that was fetched last: as the Hub's client notes it, or as datasets names what it prepared."""
    from huggingface_hub import constants

    from ddhub.data import opening

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    assert "does not answer" in refused(opening.resolve_revision, "someone/colours", None)
    place = tmp_path / "prepared" / "someone___colours" / "default" / "0.0.0" / "c0ffee"
    place.mkdir(parents=True)
    (place / "dataset_info.json").write_text("{}")
    assert opening.resolve_revision("someone/colours", None) == "c0ffee"
    ref = tmp_path / "hub" / "datasets--someone--colours" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("beef")
    assert opening.resolve_revision("someone/colours", None) == "beef"


def test_a_folder_whose_path_is_a_pattern_is_refused_with_a_plain_name(tmp_path):
    """`datasets` would find no picture, and say that the folder holds none. A name within the folder is free."""
    place = write_folder(tmp_path / "photos [2024]" / "trees", {"train": coloured(6, 0)})
    with pytest.raises(UserError, match=r"photos \[2024\]: `datasets` takes") as fault:
        first_look.look(SourceSpec(dataset="trees", path=str(place)))
    assert fault.value.next == f"mv '{tmp_path}/photos [2024]' '{tmp_path}/photos _2024_'"


TABLES = {  # the table's content, what is said, what to do
    "semicolons": ("file_name;label\nx/0.png;x\n", "no commas between its columns", "file_name,label"),
    "no label": ("file_name,note\nx/0.png,a\ny/0.png,b\n", "takes no classes from folders", "move metadata.csv out"),
    "no such file": ("file_name,label\n0.png,x\ny/0.png,y\n", "no such file; a name in metadata.csv counts from", ""),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_file_names_that_cannot_be_read_so_is_explained(kind, tmp_path):
    """With the table's own fault: not that of `datasets`, and no advice that makes a class of every note."""
    text, said, advice = TABLES[kind]
    for image, name in zip(coloured(2, 0)[0], "xy", strict=True):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png")
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(UserError) as fault:
        first_look.look(SourceSpec(dataset="trees", path=str(tmp_path)))
    assert said in str(fault.value) and advice in (fault.value.next or "")


LISTED = {  # the pictures of a row, and how many of six are in none
    "all": ([("0", "1"), ("2", "3"), ("4", "5")], 0),
    "in a second column": ([("0", "1"), ("2", "3")], 2),
    "twice": ([("0", "1"), ("0", "1"), ("0", "2"), ("2", "1")], 3),
}


@pytest.mark.parametrize("kind", LISTED)
def test_pictures_that_a_table_does_not_list_are_counted(kind, tmp_path, capfd):
    """`datasets` leaves them out without a word."""
    listed, left = LISTED[kind]
    for number, image in enumerate(coloured(6, 0)[0]):
        image.save(tmp_path / f"{number}.png")
    rows = [f"{first}.png,{second}.png,{'xy'[number % 2]}" for number, (first, second) in enumerate(listed)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,mask_file_name,label", *rows]))
    first_look.look(SourceSpec(dataset="trees", path=str(tmp_path), image="image"))
    told = capfd.readouterr().err
    assert (f"{left} pictures lie beside" in told) == ("no row" in told) == bool(left)


def test_a_class_folder_that_a_table_does_not_list_is_counted(tmp_path, capfd):
    """The table lies above it."""
    names = [f"{kind}/{number}.png" for kind in "xyz" for number in range(3)]
    for image, name in zip(coloured(9, 0)[0], names, strict=True):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "train" / name)
    rows = [f"{name},{name[0]}" for name in names if name[0] != "z"]
    (tmp_path / "train" / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert first_look.look(SourceSpec(dataset="trees", path=str(tmp_path))).classes == ("x", "y")
    assert "trees train: 3 pictures lie beside" in capfd.readouterr().err


def test_a_file_in_place_of_a_folder_is_told_from_a_wrong_name(tmp_path, monkeypatch):
    """It is there, and a folder around it is read."""
    monkeypatch.chdir(tmp_path)
    Path("my pics.zip").write_bytes(b"")
    with pytest.raises(UserError, match="is a file, and a folder is read") as fault:
        api.init("my pics.zip")
    assert fault.value.next == "mkdir pictures; mv 'my pics.zip' pictures; ddhub init pictures"
