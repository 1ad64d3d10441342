"""One reader of pictures: a kind of file has the same pixels as a source, in an import and in the card's script."""

import ast
import io
import os
import re
import struct
import threading
import zlib
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from ddhub.artifact import manifest
from ddhub.base import strict_yaml
from ddhub.base.errors import UserError
from ddhub.data import decode, survey
from ddhub.data import source as sources
from ddhub.data.decode import Rules
from ddhub.data.spec import SourceSpec
from ddhub.interop import layout as layouts
from ddhub.interop.reading import Reading
from ddhub.reports import card

pytestmark = pytest.mark.slow

SIDE = 8
TABLE = Path(__file__).parents[3] / "docs" / "pictures.md"


def values(seed: int, *shape: int) -> np.ndarray:
    """Numbers in [0, 1] with black and white among them."""
    found = np.random.default_rng(seed).random((SIDE, SIDE, *shape))
    found.flat[0], found.flat[-1] = 0, 1
    return found


def grey8(seed: int) -> np.ndarray:
    return (values(seed) * 255).round().astype(np.uint8)


def rgb8(seed: int) -> np.ndarray:
    return (values(seed, 3) * 255).round().astype(np.uint8)


def file(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray, bits: int, colours: int, extra: bytes = b"") -> bytes:
    """A PNG that Pillow does not write: `colours` is 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    kind = ">u2" if bits == 16 else "u1"
    rows = b"".join(b"\0" + row.astype(kind).tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def turned(seed: int, orientation: int, kind: str, **options) -> tuple[bytes, np.ndarray]:
    """A file as a phone stores it, and how it is shown."""
    shown = Image.fromarray(rgb8(seed))
    back = {3: "ROTATE_180", 5: "TRANSPOSE", 6: "ROTATE_90", 8: "ROTATE_270"}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file(shown.transpose(Image.Transpose[back]), kind, exif=exif, **options), np.asarray(shown)


def over(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What is seen on white, to rounding."""
    share = alpha[..., None] / 255
    colour = colour if colour.ndim == 3 else np.repeat(colour[..., None], 3, 2)
    return (colour * share + 255 * (1 - share)).round().astype(np.uint8)


def as_datasets(content: bytes) -> np.ndarray:
    """What datasets shows, as RGB."""
    return np.asarray(datasets.Image().decode_example({"bytes": content, "path": None}).convert("RGB"))


def seen(content: bytes) -> tuple[bytes, np.ndarray]:
    return content, as_datasets(content)


def transparent_palette(seed: int, kind: str) -> tuple[bytes, np.ndarray]:
    """The darker half of a palette's 16 colours is clear."""
    image = Image.fromarray(rgb8(seed)).quantize(16)
    colours = np.asarray(image.getpalette()[:48], np.uint8).reshape(16, 3)
    clear = [7] if kind == "GIF" else [place for place in range(16) if colours[place].sum() < 380]
    alpha = np.where(np.isin(np.asarray(image), clear), 0, 255)
    told = clear[0] if kind == "GIF" else bytes(0 if place in clear else 255 for place in range(16))
    return file(image, kind, transparency=told), over(colours[np.asarray(image)], alpha)


def wide(seed: int, white: float, dtype: str, kind: str) -> tuple[bytes, np.ndarray]:
    stored = (values(seed) * white).astype(dtype)
    if not dtype.startswith("f"):
        stored = (values(seed) * white).round().astype(dtype)
    return file(stored, kind), np.repeat((stored.astype(np.float64) * (255 / white)).round()[..., None], 3, 2)


def pgm(seed: int) -> tuple[bytes, np.ndarray]:
    stored = (values(seed) * 4095).round()
    content = f"P5 {SIDE} {SIDE} 4095\n".encode() + stored.astype(">u2").tobytes()
    return content, np.repeat((stored * (255 / 4095)).round()[..., None], 3, 2)


def half_clear_grey(seed: int) -> tuple[bytes, np.ndarray]:
    grey = grey8(seed)
    return png(grey, 8, 0, chunk(b"tRNS", struct.pack(">H", int(grey[3, 3])))), over(
        grey, np.where(grey == grey[3, 3], 0, 255)
    )


def rgba(seed: int, kind: str = "PNG", **options) -> tuple[bytes, np.ndarray]:
    """A shape that lives in alpha alone."""
    alpha = grey8(seed)
    pixels = np.concatenate([np.zeros((SIDE, SIDE, 3), np.uint8), alpha[..., None]], 2)
    return file(pixels, kind, **options), over(pixels[..., :3], alpha)


def la16(seed: int) -> tuple[bytes, np.ndarray]:
    grey, alpha = grey8(seed), grey8(seed + 100)
    return png(np.stack([grey, alpha], 2).astype(int) * 257, 16, 4), over(grey, alpha)


# What it is, its suffix, a file of it and the pixels (H, W, 3) that it shows, and what is set to read it.
KINDS = {
    "PNG, 8-bit colour": ("png", lambda s: seen(file(rgb8(s), "PNG")), {}),
    "PNG, 8-bit grey": ("png", lambda s: seen(file(grey8(s), "PNG")), {}),
    "PNG, 1-bit": ("png", lambda s: seen(file(grey8(s) > 100, "PNG")), {}),
    "PNG, palette": ("png", lambda s: seen(file(Image.fromarray(rgb8(s)).quantize(32), "PNG")), {}),
    "PNG, suffix in capitals": ("PNG", lambda s: seen(file(rgb8(s), "PNG")), {}),
    "GIF": ("gif", lambda s: seen(file(rgb8(s), "GIF")), {}),
    "BMP": ("bmp", lambda s: seen(file(rgb8(s), "BMP")), {}),
    "WebP": ("webp", lambda s: seen(file(rgb8(s), "WEBP", lossless=True)), {}),
    "JPEG": ("jpg", lambda s: seen(file(rgb8(s), "JPEG")), {}),
    "JPEG, grey": ("jpeg", lambda s: seen(file(grey8(s), "JPEG")), {}),
    "JPEG, CMYK": ("jpg", lambda s: seen(file(Image.fromarray(rgb8(s)).convert("CMYK"), "JPEG")), {}),
    "JPEG, turned by EXIF": ("jpg", lambda s: seen(turned(s, (3, 5, 6, 8)[s % 4], "JPEG")[0]), {}),
    "PNG, turned by EXIF": ("png", lambda s: turned(s, 6, "PNG"), {}),
    "WebP, turned by EXIF": ("webp", lambda s: turned(s, 8, "WEBP", lossless=True), {}),
    "TIFF, 8-bit colour": ("tif", lambda s: seen(file(rgb8(s), "TIFF")), {}),
    "TIFF, turned": ("tiff", lambda s: turned(s, 6, "TIFF"), {}),
    "PNG, 16-bit grey": ("png", lambda s: wide(s, 65535, "u2", "PNG"), {}),
    "TIFF, 16-bit grey": ("tif", lambda s: wide(s, 65535, "u2", "TIFF"), {}),
    "TIFF, 16-bit grey, big-endian": ("tif", lambda s: wide(s, 65535, ">u2", "TIFF"), {}),
    "PGM, 12-bit (the file says so)": ("pgm", pgm, {}),
    "PNG, 12 bits in 16": ("png", lambda s: wide(s, 4095, "u2", "PNG"), {"range": [0.0, 4095.0]}),
    "TIFF, 32-bit grey, 0 to 255": ("tif", lambda s: wide(s, 255, "i4", "TIFF"), {}),
    "TIFF, float grey, 0 to 1": ("tif", lambda s: wide(s, 1, "f4", "TIFF"), {}),
    "TIFF, float grey, 0 to 255": ("tif", lambda s: wide(s, 255, "f4", "TIFF"), {}),
    "PNG, 16-bit colour": ("png", lambda s: seen(png(rgb8(s).astype(int) * 257, 16, 2)), {}),
    "PNG, colour and alpha": ("png", rgba, {}),
    "WebP, colour and alpha": ("webp", lambda s: rgba(s, "WEBP", lossless=True, exact=True), {}),
    "PNG, grey and alpha": (
        "png",
        lambda s: (
            file(Image.merge("LA", (Image.fromarray(grey8(s)), Image.fromarray(grey8(s + 50)))), "PNG"),
            over(grey8(s), grey8(s + 50)),
        ),
        {},
    ),
    "PNG, 16-bit grey and alpha": ("png", la16, {}),
    "PNG, palette with clear colours": ("png", lambda s: transparent_palette(s, "PNG"), {}),
    "GIF with a clear colour": ("gif", lambda s: transparent_palette(s, "GIF"), {}),
    "PNG, grey with a clear value": ("png", half_clear_grey, {}),
}


def tree(folder: Path, name: str) -> np.ndarray:
    """Class folders with four files of a kind each; the pixels (N, H, W, 3) that they show."""
    suffix, make, _ = KINDS[name]
    shown = []
    for seed in range(12):
        content, pixels = make(seed)
        place = folder / f"c{seed // 4}" / f"{seed:02d}.{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        shown.append(pixels)
    return np.stack(shown)


def in_rgb(images: torch.Tensor) -> np.ndarray:
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy().astype(int)


def by_the_script(folder: Path, spec: SourceSpec, finished: Path) -> torch.Tensor:
    """What `pixels` of a card's script makes of the images that load_dataset shows."""
    record = manifest.read(finished)
    known = {key: getattr(spec, key) for key in ("resolution", "channels", "image", "label", "range", "background")}
    source = record.source.model_copy(update={**known, "dataset": "./pictures"})
    changed, recipe = record.model_copy(update={"source": source}), strict_yaml.read(finished / "recipe.yaml")
    text = card.render(changed, recipe, None, card.describe(finished))
    script = next(part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def pixels" in part)
    code = ast.parse(script)
    code.body = [node for node in code.body if isinstance(node, ast.FunctionDef) and node.name == "pixels"]
    space = {"np": np, "torch": torch, "Image": Image, "SIDE": spec.resolution, "CHANNELS": spec.channels}
    exec(compile(code, "card", "exec"), space)
    rows = datasets.load_dataset(str(folder), split="train")
    return torch.stack([space["pixels"](image) for image in rows["image"]])


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, int]]:
    """By kind and reader, the largest difference from what is shown, as far as this process has measured them."""
    return {}


def differences(name: str, pictures, finished) -> dict[str, int]:
    """What each reader makes of a kind of picture: one array for all, this far from the one that a viewer shows."""
    shown, settings = tree(pictures, name).astype(int), KINDS[name][2]
    split = sources.load_train(SourceSpec(dataset=str(pictures), **settings))[0]
    bounds = tuple(settings["range"]) if "range" in settings else None
    imported = layouts.load("folder").read(pictures, Reading(range=bounds)).images
    script = by_the_script(pictures, split.spec, finished)
    assert torch.equal(split.images, imported) and torch.equal(split.images, script)
    assert len(split.images.unique()) > 1
    assert SourceSpec.model_validate(split.spec.model_dump()) == split.spec  # as a manifest says it
    read = {"source": split.images, "import": imported, "script": script}
    return {reader: int(np.abs(in_rgb(images) - shown).max()) for reader, images in read.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_is_read_alike(name, tmp_path, finished, results):
    """As a source, as a set's folder and by the card's script: one array, and the one that a viewer shows."""
    results[name] = differences(name, tmp_path / "pictures", finished)
    exact = "alpha" not in name  # Pillow's compositing rounds to within one step
    assert max(results[name].values()) <= (0 if exact else 1)


def test_the_table_in_the_docs_is_what_was_measured(tmp_path, finished, results):
    """One line per kind; DDHUB_GOLDEN=write pytest tests/unit/data/test_pictures.py writes it again."""
    for number, name in enumerate(KINDS):
        if name not in results:  # another process has measured it
            results[name] = differences(name, tmp_path / str(number), finished)
    lines = ["| kind of file | set to read it | source | import | card's script |", "| --- | --- | --- | --- | --- |"]
    for name, (_, _, settings) in KINDS.items():
        told = f"`source.range=[0,{settings['range'][1]:g}]`" if settings else "-"
        found = [("the same" if off == 0 else f"the same to {off} of 255") for off in results[name].values()]
        lines.append(f"| {name} | {told} | {' | '.join(found)} |")
    table, text = "\n".join(lines), TABLE.read_text()
    begin, end = "<!-- table: made by tests/unit/data/test_pictures.py -->\n", "\n<!-- end of table -->"
    if os.environ.get("DDHUB_GOLDEN") == "write":
        TABLE.write_text(text[: text.index(begin) + len(begin)] + table + text[text.index(end) :])
    assert f"{begin}{table}{end}" in TABLE.read_text()


def tiff(pixels: np.ndarray, kind: str, photometric: int = 1, sample: int = 1, extra: int | None = None) -> bytes:
    """A TIFF that Pillow does not write: grey, or of several channels, with its tags of meaning."""
    data, channels = pixels.astype(f"<{kind}").tobytes(), pixels.size // SIDE**2
    tags = {256: SIDE, 257: SIDE, 258: 8 * int(kind[1:]), 259: 1, 262: photometric, 273: 200, 277: channels, 278: SIDE}
    tags |= {279: len(data), 339: sample, **({} if extra is None else {338: extra})}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4)).ljust(200, b"\0") + data


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: tiff(values(0) * 65535, "u2", photometric=0), "in which 0 is white"),
        (lambda: tiff(values(0), "f4", photometric=0, sample=3), "in which 0 is white"),
        (lambda: tiff(values(0) * 255 - 128, "i1", sample=2), "signed 8-bit values"),
        (lambda: tiff(values(0) * (2**32 - 1), "u4"), "beyond 2^31"),
        (
            lambda: png(rgb8(0).astype(int) * 257, 16, 2, chunk(b"tRNS", struct.pack(">HHH", 257, 514, 771))),
            "16 bits a channel with a transparent colour",
        ),
    ],
)
def test_files_that_pillow_reads_wrongly_are_refused(content, says):
    """With what the file holds, and what to make of it."""
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        ranged(content())
    assert "convert it to a PNG of 8 bits" in str(caught.value)


def clear(kind: str, channels: int, opaque: int = 0) -> np.ndarray:
    """Values of 2/3, and a last channel whose first half is opaque and whose other half is as said."""
    most = 2 ** (8 * int(kind[1:])) - 1
    found = np.full((SIDE, SIDE, channels), most * 2 // 3)
    found[..., -1] = most
    found[SIDE // 2 :, :, -1] = opaque
    return found


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_fourth_channel_without_a_meaning_is_refused(kind):
    """Pillow takes it for alpha, libtiff for alpha that the colours are multiplied by. Named or opaque, it is read."""

    def read(extra=None, **how):
        content = tiff(clear(kind, 4, **how), kind, photometric=2, extra=extra)
        return decode.picture(content, "x.tif", lambda image: decode.array(image, Rules(), "x.tif", False))

    with pytest.raises(UserError, match=r"x\.tif: a TIFF with a fourth channel") as caught:
        read()
    assert "convert it to a PNG of 8 bits" in str(caught.value)
    assert np.unique(read(opaque=2 ** (8 * int(kind[1:])) - 1)).tolist() == [170]
    assert np.unique(read(extra=0)).tolist() == [170]
    assert np.unique(read(extra=2)).tolist() == [170, 255]


def test_grey_that_is_multiplied_by_its_alpha_is_read():
    """Pillow's mode La, which it converts to LA alone."""
    content = tiff(clear("u1", 2), "u1", extra=1)
    shown = decode.picture(content, "x", lambda image: decode.array(image, Rules(), "x", True))
    assert np.unique(shown).tolist() == [170, 255]


def test_whole_tiffs_of_these_kinds_are_read():
    """The same files with the usual meaning of their tags."""
    shown = decode.picture(
        tiff(values(0) * 65535, "u2"), "x", lambda image: decode.array(image, Rules((0, 65535)), "x", True)
    )
    assert np.abs(shown[0] - values(0) * 255).max() < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_whose_end_was_never_written_is_damaged(kind, tmp_path):
    """It has its whole length, and zeros from somewhere on, which decoders pass over. Zeros after the end are none."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = file(noise, kind)
    for content in (whole[:900] + bytes(len(whole) - 900), whole[:900] + bytes(5000 + len(whole) - 900)):
        (tmp_path / "cut").write_bytes(content)
        for form in (content, tmp_path / "cut"):
            with pytest.raises(decode.Damaged, match="its end was never written"):
                decode.header(form, "x", lambda image: None)
    assert decode.header(whole + bytes(5000), "x", lambda image: image.size) == (64, 64)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "it is empty"), (b"<html>", "a web page"), (bytes(99), "zeros"), (b"....ftypheic", "a HEIC picture")],
)
def test_what_a_file_is_that_is_no_picture_is_said(content, says):
    """By its first bytes."""
    with pytest.raises(decode.Damaged, match=says):
        decode.header(content, "x", lambda image: None)


def ranged(*files_: bytes, rules: Rules | None = None) -> Rules:
    return survey.ranged([(content, f"file {place}") for place, content in enumerate(files_)], rules or Rules())


@pytest.mark.parametrize(
    ("dtype", "white", "kind"),
    [
        ("u2", 4095, "PNG"),
        ("u2", 255, "PNG"),
        ("i4", 100, "TIFF"),
        ("i4", 5000, "TIFF"),
        ("f4", 3, "TIFF"),
        ("f4", 0.2, "TIFF"),
    ],
)
def test_a_range_that_cannot_be_told_is_asked_for(dtype, white, kind):
    """By the file's name, its values and the option; what the option says is then taken."""
    content, shown = wide(0, white, dtype, kind)
    with pytest.raises(UserError) as caught:
        ranged(content)
    assert (
        "file 0" in str(caught.value) and f"{white:g}" in str(caught.value) and "source.range=[0," in str(caught.value)
    )
    pixels = decode.picture(content, "x", lambda image: decode.array(image, Rules((0, white)), "x", True))
    np.testing.assert_array_equal(pixels[0], shown[..., 0])


def test_negative_values_and_those_that_are_none_are_refused():
    """With what they are; a range that begins below 0 is taken."""
    signed = file((values(0) * 2 - 1).astype("f4"), "TIFF")
    with pytest.raises(UserError, match="from -1 to 1"):
        ranged(signed)
    shown = decode.picture(signed, "x", lambda image: decode.array(image, Rules((-1, 1)), "x", True))
    np.testing.assert_array_equal(shown[0], (values(0).astype("f4") * 255).round())
    with pytest.raises(UserError, match="no numbers"):
        ranged(file(np.full((SIDE, SIDE), np.nan, "f4"), "TIFF"))


def test_values_beyond_the_range_name_their_file(tmp_path):
    """A picture that the survey did not see is checked when it is decoded."""
    for place in range(600):
        white = 65535 if place == 304 else 255  # between the rows that are looked at
        folder = tmp_path / "pictures" / ("a" if place < 300 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place:03d}.tif").write_bytes(wide(place, white, "i4", "TIFF")[0])
    looked = np.linspace(0, 599, survey.LOOKED).round().astype(int)
    if 304 in looked:
        pytest.fail("the odd picture has to lie between those that are looked at")
    with pytest.raises(UserError) as caught:
        sources.load_train(SourceSpec(dataset=str(tmp_path / "pictures")))
    assert "b/304.tif" in str(caught.value) and "outside of 0 to 255" in str(caught.value)


def test_16_bit_colour_of_fewer_bits_is_not_made_black():
    """Pillow reads the upper 8 bits, which hold nothing of 12-bit values."""
    with pytest.raises(UserError, match="convert the files to 8 bits"):
        ranged(png((values(0, 3) * 4095).astype(int), 16, 2))


def test_the_background_can_be_chosen(tmp_path):
    """It is recorded where it mattered; what is no colour is refused."""
    tree(tmp_path / "pictures", "PNG, colour and alpha")
    where = str(tmp_path / "pictures")
    white = sources.load_train(SourceSpec(dataset=where))[0]
    black = SourceSpec(dataset=where, background="black")
    with pytest.raises(UserError) as caught:  # black shapes on black
        sources.load_train(black)
    assert "blank" in str(caught.value)
    red = sources.load_train(SourceSpec(dataset=where, background="#ff0000"))[0]
    assert white.spec.background == "white" and red.spec.background == "#ff0000"
    assert torch.equal(white.images[:, 0], red.images[:, 0]) and red.images[:, 1:].max() == 0
    with pytest.raises(UserError, match="is no colour"):
        sources.load_train(SourceSpec(dataset=where, background="whitish"))


def test_ordinary_pictures_leave_nothing_in_the_manifest(image_folder):
    """Neither a range nor a background where no picture has one; hashes of older recipes stay."""
    spec = sources.load_train(SourceSpec(dataset=str(image_folder)))[0].spec
    assert not {"range", "background", "skip_damaged"} & set(spec.model_dump())


@pytest.mark.parametrize("name", ["PNG, 16-bit grey", "TIFF, float grey, 0 to 1"])
def test_the_range_that_was_found_can_be_written_down(name, tmp_path):
    """As recipes and manifests have it: what is read back is the same."""
    tree(tmp_path / "pictures", name)
    spec = sources.load_train(SourceSpec(dataset=str(tmp_path / "pictures")))[0].spec
    assert spec.range is not None and SourceSpec.model_validate(spec.model_dump()) == spec


def test_pixels_in_flight_are_bounded(monkeypatch):
    """Large pictures wait for each other; one that is larger than the bound goes alone."""
    turnstile = decode._Turnstile(100)
    monkeypatch.setattr(decode, "_turnstile", turnstile)
    inside, most, lock = [0], [0], threading.Lock()

    def look(image):
        with lock:
            inside[0] += image.width * image.height
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.01)
        with lock:
            inside[0] -= image.width * image.height

    small = file(np.zeros((6, 6), np.uint8), "PNG")
    threads = [threading.Thread(target=decode.picture, args=(small, "x", look)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 36 <= most[0] <= 100 and turnstile.inside == 0
    decode.picture(file(np.zeros((20, 20), np.uint8), "PNG"), "x", look)
    assert turnstile.inside == 0


def test_a_16_bit_picture_is_scaled_in_strips(monkeypatch):
    """The same pixels however many rows are scaled at once."""
    content, shown = wide(3, 65535, "u2", "PNG")
    for strip in (1, 20, 2**20):
        monkeypatch.setattr(decode, "STRIP", strip)
        found = decode.picture(content, "x", lambda image: decode.array(image, Rules((0, 65535)), "x", True))
        np.testing.assert_array_equal(found[0], shown[..., 0])
