"""Folders of pictures that other tools wrote: read by content, as their source is; the rest is said."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddhub import api, load
from ddhub.base.errors import UserError
from ddhub.data import plausibility
from ddhub.data.preprocess import Preprocess
from ddhub.interop import importing
from ddhub.interop import layout as layouts
from ddhub.interop.reading import Foreign, Reading

SIDE = 8


def folder_set(path: Path, how: Reading | None = None) -> Foreign:
    layout = layouts.load("folder")
    assert layout.detect(path, how or Reading())
    found: Foreign = layout.read(path, how or Reading())
    return found


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    path.write_bytes(buffer.getvalue())


def test_pictures_are_told_by_content_and_the_rest_is_said(tmp_path):
    """Odd and missing suffixes are pictures; arrays, logs and what systems leave behind are not."""
    for label in range(3):
        write(tmp_path / f"{label}" / "0.tif", drawn(10 * label), "TIFF")
        write(tmp_path / f"{label}" / "1", drawn(10 * label + 1))
        write(tmp_path / f"{label}" / "2.JPG_large", drawn(10 * label + 2), "BMP")
        np.save(tmp_path / f"{label}" / "0.npy", drawn(0))
        (tmp_path / f"{label}" / "Thumbs.db").write_bytes(b"thumbs")
        (tmp_path / f"{label}" / "._0.tif").write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX/0", "logs", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "events.out").write_bytes(b"log")
    write(tmp_path / "grid.png", drawn(99))
    found = folder_set(tmp_path)
    wanted = np.stack([drawn(10 * label + place) for label in range(3) for place in range(3)])
    np.testing.assert_array_equal(found.images.permute(0, 2, 3, 1).numpy(), wanted)
    assert found.groups == ("0", "1", "2") and found.labels is not None
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    notes = "\n".join(found.notes)
    for text in (
        "3 .npy files",
        "3 .db files",
        "folders without pictures (logs)",
        "1 picture beside the class folders",
        "folders of other programs (.ipynb_checkpoints, __MACOSX)",
    ):
        assert f"left out: {text}" in notes


@pytest.mark.parametrize("content", [b"", b"<html>403</html>", "cut"])
def test_a_damaged_picture_is_named(content, tmp_path):
    """What is called a picture and is none is not dropped."""
    for label in range(2):
        write(tmp_path / f"{label}" / "0.png", drawn(label))
    path = tmp_path / "1" / "0.png"
    path.write_bytes(path.read_bytes()[:90] if content == "cut" else content)
    with pytest.raises(UserError, match=r"1/0\.png: cannot be decoded") as caught:
        folder_set(tmp_path)
    assert caught.value.next == "fetch the file again, or move it out of the folder"


def test_an_unclear_range_names_the_file_and_the_option(tmp_path):
    """12 bits in 16: with `--range` they are read."""
    stored = [np.linspace(0, 4095, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)] * 2
    for label, pixels in enumerate(stored):
        write(tmp_path / f"{label}" / "0.png", pixels)
    with pytest.raises(UserError, match=r"0/0\.png: 16-bit grey") as caught:
        folder_set(tmp_path)
    assert "--range 0,4095" in str(caught.value)
    found = folder_set(tmp_path, Reading(range=(0, 4095)))
    np.testing.assert_array_equal(found.images[0, 0].numpy(), (stored[0] * (255 / 4095)).round())
    assert any("values from 0 to 4095" in note for note in found.notes)


def test_a_folder_of_tables_is_no_folder_of_pictures(tmp_path):
    """Pictures beside data of another layout do not make it one."""
    write(tmp_path / "assets" / "grid.png", drawn(0))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_bytes(b"PAR1")
    assert not layouts.load("folder").detect(tmp_path, Reading())


def imported(tmp_path: Path, images: dict[str, np.ndarray], source: dict[str, np.ndarray]) -> torch.Tensor:
    """Import a set of class folders, each with one picture, against a source of class folders."""
    from ddhub.artifact import folder

    for name, pixels in images.items():
        write(tmp_path / "set" / name / "0.png", pixels)
    for split in ("train", "test"):
        for name, pixels in source.items():
            for place in range(4):
                write(tmp_path / "source" / split / name / f"{place}.png", np.roll(pixels, place, 0))
    asked = importing.ask(str(tmp_path / "source"), name="set")
    importing.import_set(tmp_path / "set", tmp_path / "out", asked)
    return folder.read(tmp_path / "out").images


def test_a_set_has_as_many_channels_as_its_source(tmp_path):
    """Grey pictures under a colour source are repeated; colour files of grey pictures become grey."""
    colour = {f"{label}": drawn(label) for label in range(2)}
    grey = {name: pixels[..., 0] for name, pixels in colour.items()}
    found = imported(tmp_path / "a", grey, colour)
    np.testing.assert_array_equal(found[0].numpy(), np.stack([grey["0"]] * 3))
    repeated = {name: np.stack([pixels] * 3, 2) for name, pixels in grey.items()}
    found = imported(tmp_path / "b", repeated, grey)
    np.testing.assert_array_equal(found[0].numpy(), grey["0"][None])
    with pytest.raises(UserError, match="images of 3 channels"):
        imported(tmp_path / "c", colour, grey)


def test_a_blank_set_is_refused(tmp_path):
    """As a blank source is."""
    colour = {f"{label}": drawn(label) for label in range(2)}
    with pytest.raises(UserError, match="all 2 images are blank"):
        imported(tmp_path, {name: np.zeros_like(pixels) for name, pixels in colour.items()}, colour)


def test_numbers_of_a_source_whose_classes_are_numbers_in_another_order_are_asked_for(tmp_path):
    """Folders 0, 1, ..., 11 are sorted as text, so the third is 10. A set that numbers classes may mean either."""
    source = {f"{label}": drawn(label) for label in range(12)}
    for name, pixels in source.items():
        write(tmp_path / "source" / "train" / name / "0.png", pixels)
        write(tmp_path / "source" / "train" / name / "1.png", pixels)
        write(tmp_path / "padded" / f"{int(name):05d}" / "0.png", pixels)
        write(tmp_path / "plain" / name / "0.png", pixels)
    pair = [
        torch.stack([torch.from_numpy(each) for each in source.values()]).permute(0, 3, 1, 2) / 255,
        torch.arange(12),
    ]
    torch.save(pair, tmp_path / "set.pt")
    how = {"source": str(tmp_path / "source"), "overrides": ["source.validation=0.5"]}
    for path, more in (("padded", {}), ("set.pt", {"factor": 1})):
        with pytest.raises(UserError, match="does it number '10' as 10, or as 2") as caught:
            api.import_set(tmp_path / path, out=tmp_path / f"of_{path}", **how, **more)
        assert "--order source" in str(caught.value) and "--classes FILE" in str(caught.value)
        api.import_set(tmp_path / path, out=tmp_path / f"of_{path}", order="source", **how, **more)
        found = load(tmp_path / f"of_{path}")
        assert found.classes[2] == "10" and torch.equal(found.images[2], torch.from_numpy(source["2"]).permute(2, 0, 1))
    api.import_set(tmp_path / "plain", out=tmp_path / "of_plain", **how)
    found = load(tmp_path / "of_plain")
    for image, label in zip(found.images, found.labels.tolist(), strict=True):
        assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(source[found.classes[label]]))


def test_folders_whose_order_is_open_are_not_numbered(tmp_path):
    """Numbered folders are the lines of --classes by their numbers; other names need one order, and all classes."""
    source = {f"{label}": drawn(label) for label in range(12)}
    for name, pixels in source.items():
        for place in range(2):
            write(tmp_path / "source" / "train" / f"of{int(name):02d}" / f"{place}.png", pixels)
        write(tmp_path / "numbers" / name / "0.png", pixels)
        write(tmp_path / "names" / f"class_{name}" / "0.png", pixels)
    write(tmp_path / "few" / "class_1" / "0.png", source["1"])
    write(tmp_path / "few" / "class_3" / "0.png", source["3"])
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"of{label:02d}\n" for label in range(12)))
    how = {"source": str(tmp_path / "source"), "overrides": ["source.validation=0.5"]}
    api.import_set(tmp_path / "numbers", out=tmp_path / "out", classes=str(lines), **how)
    found = load(tmp_path / "out")
    for image, label in zip(found.images, found.labels.tolist(), strict=True):
        assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(source[f"{label}"]))
    for told in ({"classes": str(lines)}, {"order": "source"}):
        with pytest.raises(UserError, match="class 2 is 'class_10' by text, 'class_2' by number"):
            api.import_set(tmp_path / "names", out=tmp_path / "of_names", **told, **how)
        with pytest.raises(UserError, match="few: names 2 classes, and the source has 12"):
            api.import_set(tmp_path / "few", out=tmp_path / "of_few", **told, **how)


@pytest.mark.slow
def test_columns_that_no_set_of_images_has_are_said(finished, tmp_path):
    """Soft labels in a table were left out without a word, and the score was that of hard labels."""
    shutil.copytree(finished / "data", tmp_path / "table" / "data")
    api.import_set(tmp_path / "table", out=tmp_path / "set", source="digits")
    (told,) = [note for note in load(tmp_path / "set").manifest.imported.notes if note.startswith("left out: columns")]
    assert "soft_label" in told and "image," not in told


DRAW = torch.Generator().manual_seed(0)  # the same images in every process
NORMAL = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("images", "says", "then"),
    [
        (torch.rand(20, 3, 8, 8, generator=DRAW) * 255, "pixels in 0..255", "--std 0.0039215686"),
        ((torch.rand(20, 3, 8, 8, generator=DRAW) * 255).round() / 64, None, None),
        (torch.rand(20, 3, 8, 8, generator=DRAW), "pixels in 0..1", "--std 1.0,1.0,1.0"),
        (torch.randn(20, 3, 8, 8, generator=DRAW) * 60 + 100, "no normalised pixels", "--std 0.0039215686"),
        (torch.zeros(20, 3, 8, 8), "blank", None),
        (
            (torch.rand(20, 3, 8, 8, generator=DRAW) * 2 - 1)
            .clamp(max=0.9)
            .put_(torch.tensor([5]), torch.tensor([-1.0])),
            "-1..1",
            "0.5",
        ),
        (torch.randn(20, 3, 8, 8, generator=DRAW), None, None),
    ],
)
def test_floats_that_are_not_in_their_space_are_refused(images, says, then):
    """Pixels that were taken for normalised ones, with the statistics that fit; normalised ones pass."""
    if says is None:
        plausibility.check(images, NORMAL, "set.pt")
        return
    with pytest.raises(UserError, match=says) as caught:
        plausibility.check(images, NORMAL, "set.pt")
    assert then is None or then in str(caught.value)
    as_told = Preprocess((0.0,) * 3, (1 / 255 if then and "0.0039" in then else 1.0,) * 3)
    as_told = Preprocess((0.5,) * 3, (0.5,) * 3) if then == "0.5" else as_told
    if then:
        plausibility.check(images, as_told, "set.pt")


def test_a_set_of_less_contrast_than_its_source_is_doubted(caplog):
    """Pixels of 0..1 that are taken for normalised ones become grey; those in their own space say nothing."""
    real = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    whole = Preprocess((0.5,) * 3, (0.2,) * 3)
    plausibility.check(whole.inputs(real), whole, "set.pt", real)
    plausibility.check(real, whole, "pictures", real)
    assert not caplog.text
    plausibility.check(real / 255 * 1.6 - 0.3, whole, "set.pt", real)
    assert "set.pt: its pixels vary by" in caplog.text and "--mean and --std" in caplog.text


def test_a_constant_channel_is_a_warning(caplog):
    """What may be right is said loudly and taken."""
    images = torch.randn(20, 3, 8, 8)
    images[:, 1] = 0.25
    plausibility.check(images, NORMAL, "told.pt")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1 and said[0].startswith("told.pt: channel 1 is 0.25")


def test_whitened_inputs_are_asked_the_same():
    """Pixels that were taken for whitened ones, too."""
    whitened = Preprocess((0.5,) * 3, (0.25,) * 3, torch.zeros(192), torch.eye(192))
    plausibility.check(torch.randn(20, 3, 8, 8), whitened, "set.pt")
    with pytest.raises(UserError, match="inputs that are whitened lie on both sides of 0"):
        plausibility.check(torch.rand(20, 3, 8, 8), whitened, "set.pt")
