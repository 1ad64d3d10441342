"""Strangers' files: tables, pictures, tensors, archives. Each is read, or refused in a sentence; none is run."""

import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from foreign_files import build, encoded, foreign_read, tree
from hypothesis import given
from PIL import Image
from safetensors.torch import load_file, save
from sets import rehash
from strangers import CHANGES, fuzzed, refused, said, spoiled

from ddhub.artifact import folder as folders
from ddhub.artifact import parquet
from ddhub.artifact.parquet import Rows
from ddhub.data import decode, preprocess
from ddhub.interop import reading
from ddhub.interop.reading import Reading
from ddhub.reports import verify
from ddhub.training import architectures, teacher_file, teachers

CLASSES = ["elm", "oak", "yew"]
DATA = "data/train-00000-of-00001.parquet"
FLOATS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def a_table(folder: Path, count: int = 6) -> Path:
    """A data file of 8x8 pictures with all columns."""
    pictures = torch.arange(count * 3 * 64, dtype=torch.int64).remainder(251).to(torch.uint8).view(count, 3, 8, 8)
    labels = torch.arange(count) % 3
    parquet.write(folder, Rows(pictures, labels, FLOATS[:count].half(), None, pictures.half(), labels * 0), CLASSES)
    return folder / DATA


def read(folder: Path) -> folders.Rows:
    return folders.read_data(folder, (3, 8, 8), 3)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> bytes:
    return a_table(tmp_path_factory.mktemp("table")).read_bytes()


@fuzzed(80)
@given(changes=CHANGES)
def test_spoilt_parquet_is_read_or_refused(table, tmp_path_factory, changes):
    """Whatever arrow makes of it."""
    folder = tmp_path_factory.mktemp("spoilt")
    (folder / "data").mkdir()
    (folder / DATA).write_bytes(spoiled(table, changes))
    said(lambda: read(folder), str(folder))
    said(lambda: parquet.class_names(folder), DATA)
    said(lambda: parquet.column_features(folder), DATA)
    said(lambda: parquet.pictures(folder), DATA)


def pictures(content: bytes | None, path: str | None = None) -> pa.Array:
    return pa.array([{"bytes": content, "path": path}] * 6)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(/etc/passwd) (r) file\nshowpage\n"
LISTS = pa.list_(pa.float16())
COLUMNS = {
    "a list as label": ("label", pa.array([[1]] * 6), "column 'label' is not one integer per row"),
    "no label": ("label", pa.nulls(6, pa.int64()), "column 'label' is not one integer per row"),
    "labels of floats": ("label", pa.array([float("nan")] * 6), "column 'label' is not one integer per row"),
    "labels beyond": ("label", pa.array([2**64 - 1] * 6, pa.uint64()), "values outside 0..2"),
    "labels of texts": ("label", pa.array([1] * 6).cast(pa.string()).dictionary_encode(), "not one integer per row"),
    "soft labels of texts": ("soft_label", pa.array([["a"] * 3] * 6), "column 'soft_label' is not"),
    "soft labels in lists": ("soft_label", pa.array([[[1.0]] * 3] * 6), "column 'soft_label' is not"),
    "soft labels that are numbers": ("soft_label", pa.array([1.0] * 6), "column 'soft_label' is not a list"),
    "soft labels of none": ("soft_label", pa.array([[]] * 6, LISTS), "soft_label is not 3 finite numbers"),
    "soft labels with holes": ("soft_label", pa.array([[1.0, None, 2.0]] * 6), "soft_label is not 3 finite numbers"),
    "soft labels missing": ("soft_label", pa.array([None] * 6, LISTS), "column 'soft_label' is not"),
    "soft labels of whole numbers": ("soft_label", pa.array([[1, 2, 3]] * 6), "column 'soft_label' is not"),
    "infinite soft labels": ("soft_label", pa.array([[float("inf")] * 3] * 6), "soft_label is not 3 finite numbers"),
    "pixels of texts": ("pixels", pa.array(["x"] * 6), "column 'pixels'"),
    "pixels that are structs": ("pixels", pa.array([{"a": 1.0}] * 6), "column 'pixels'"),
    "infinite pixels": ("pixels", pa.array([[float("nan")] * 192] * 6), "pixels holds values that are not finite"),
    "groups of texts": ("group", pa.array(["x"] * 6), "column 'group' is not one integer per row"),
    "bare bytes as image": ("image", pa.array([b"x"] * 6), "has no column 'image'"),
    "numbers as image": ("image", pa.array([{"bytes": 3, "path": ""}] * 6), "row 0: not an image"),
    "another's file as image": ("image", pictures(None, "/etc/hostname"), "row 0: not an image"),
    "a program as image": ("image", pictures(EPS), "row 0: cannot be decoded"),
    "half an image": ("image", pictures(encoded(Image.new("RGB", (8, 8)))[:40]), "row 0: cannot be decoded"),
    "an image with a long tail": ("image", pictures(encoded(Image.new("RGB", (8, 8))) + b"0" * 10**5), "bytes for an"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_wrong_column_is_named(name, table, tmp_path):
    """In one sentence."""
    column, values, words = COLUMNS[name]
    (tmp_path / "data").mkdir()
    whole = pq.read_table(io.BytesIO(table))
    pq.write_table(whole.set_column(whole.schema.names.index(column), column, values), tmp_path / DATA)
    assert len(refused(lambda: read(tmp_path), str(tmp_path), words).splitlines()) == 1


def test_a_footer_whose_columns_are_no_text_is_refused(table, tmp_path):
    """Found by a long fuzz: arrow decodes a column's path only when it is asked for it."""
    (tmp_path / "data").mkdir()
    assert table.count(b"soft_label") == 3  # in the schema, in the row group, in the header of `datasets`
    for at in (1, 2):
        parts = table.split(b"soft_label")
        spoilt = b"soft_label".join(parts[:at]) + b"soft_lab\xe4l" + b"soft_label".join(parts[at:])
        (tmp_path / DATA).write_bytes(spoilt)
        assert len(refused(lambda: read(tmp_path), DATA, "'utf-8' codec").splitlines()) == 1


def test_columns_that_are_no_sets_are_left_where_they_are(table, tmp_path):
    """One that would unpack to anything is not unpacked; one name twice, or a header of another's, is said."""
    (tmp_path / "data").mkdir()
    whole = pq.read_table(io.BytesIO(table))
    pq.write_table(whole.append_column("more", pa.array(["x"] * 6)), tmp_path / DATA)
    assert len(read(tmp_path)) == 6
    pq.write_table(whole.append_column("label", pa.array([0] * 6)), tmp_path / DATA)
    refused(lambda: read(tmp_path), DATA)
    for header in (b"{", b'{"info": 3}', b'{"info": {"features": {"label": {"_type": "Nonsense"}}}}', b"\xff", b"[]"):
        pq.write_table(whole.replace_schema_metadata({b"huggingface": header}), tmp_path / DATA)
        said(lambda: parquet.column_features(tmp_path), DATA)
        said(lambda: parquet.class_names(tmp_path), DATA)
    pq.write_table(whole.slice(0, 0), tmp_path / DATA)
    refused(lambda: read(tmp_path), "holds no images")


def png_that_claims(side: int) -> bytes:
    """A PNG of a few bytes whose header promises so many pixels a side, and whose data would be as many zeros."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10**6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@fuzzed(150)
@given(CHANGES, st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]))
def test_spoilt_pictures_are_decoded_or_refused(changes, kind):
    content = spoiled(encoded(Image.new("RGB", (8, 8), (9, 99, 199)), kind), changes)
    where = "source: d: an image"
    said(
        lambda: decode.picture(content, where, lambda image: decode.array(image, decode.Rules(), where, False, 8)),
        where,
    )


def test_pictures_are_looked_at_before_they_are_decoded(tmp_path, make_folder):
    """A bomb is refused by its header, in a table, in a folder, in a source; other programs' formats are not opened."""
    for content, words in ((png_that_claims(40_000), "exceeds limit"), (png_that_claims(10_000), "10000x10000 pixels")):
        refused(lambda content=content: decode.picture(content, "here", np.array), "here", words)
    refused(lambda: decode.picture(EPS, "here", np.array), "here: cannot be decoded (none of BMP")
    path = tree(tmp_path / "set") / "00000" / "class00000_id00000.png"
    path.write_bytes(png_that_claims(3000))
    refused(lambda: foreign_read(tmp_path / "set"), "00000/class00000_id00000.png: claims 3000x3000 pixels")
    for image in (Image.new(mode, (8, 8)) for mode in ("1", "LA", "P", "RGBA", "CMYK", "I;16")):
        content = encoded(image, "TIFF" if image.mode == "CMYK" else "PNG")
        assert decode.picture(content, "here", lambda image: image.convert("RGB").size) == (8, 8)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> dict[str, tuple[str, bytes]]:
    """One file of each layout: its name and its bytes."""
    folder = tmp_path_factory.mktemp("theirs")
    found = {}
    for layout in ("apm", "dc", "kip", "eccv24", "datm"):
        path = build(layout, folder / layout)
        path = path / "labels_best.pt" if path.is_dir() else path
        found[layout] = (path.name, path.read_bytes())
    torch.save(
        {"data": [[torch.zeros(6, 3, 12, 12), torch.zeros(6, dtype=torch.long)]]},
        folder / "old.pt",
        _use_new_zipfile_serialization=False,
    )
    found["legacy"] = ("old.pt", (folder / "old.pt").read_bytes())
    return found


@fuzzed(80)
@given(changes=CHANGES, layout=st.sampled_from(["apm", "dc", "kip", "eccv24", "datm", "legacy"]))
def test_spoilt_files_of_other_tools_are_read_or_refused(theirs, tmp_path_factory, changes, layout):
    name, content = theirs[layout]
    folder = tmp_path_factory.mktemp("spoilt")
    if layout == "datm":
        build("datm", folder)
    (folder / name).write_bytes(spoiled(content, changes))
    said(lambda: foreign_read(folder if layout == "datm" else folder / name))


@fuzzed(40)
@given(changes=CHANGES)
def test_spoilt_teachers_and_whitenings_are_read_or_refused(finished, tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("spoilt") / "00.safetensors"
    path.write_bytes(spoiled((finished / "teachers" / "00.safetensors").read_bytes(), changes))
    from ddhub.training import device

    said(lambda: teacher_file.facts(path), "00.safetensors")
    said(lambda: teachers.load([path], decisions=device.Decisions(), of=(10, 1, 8)), "00.safetensors")
    said(lambda: preprocess.load_whitening(path, 64), "00.safetensors")


def test_teachers_are_of_the_sets_own_kind(finished, tmp_path):
    """Sizes and weights are looked at before a network of them is made."""
    from ddhub.training import device

    path = tmp_path / "00.safetensors"
    good = {"arch": "convnet2_w8", "classes": 10, "channels": 1, "side": 8, "validation_top1": 0.5}
    weights = architectures.build("convnet2_w8", 10, 1, 8, seed=0).state_dict()

    def load(facts: dict, tensors: dict = weights):
        path.write_bytes(save(tensors, {"ddhub": json.dumps(facts)}))
        return teachers.load([path], decisions=device.Decisions(), of=(10, 1, 8))

    assert len(load(good)) == 1
    for change in ({"classes": 10**12}, {"side": 2**30}, {"channels": 7}, {"classes": 11}):
        refused(lambda change=change: load({**good, **change}), "00.safetensors", "its weights are not of")
    for change in ({"arch": "convnet2_w9"}, {"classes": float("inf")}, {"arch": "timm:hf-hub:me/x"}, {"arch": "os"}):
        refused(lambda change=change: load({**good, **change}), "00.safetensors")
    refused(lambda: load({**good, "arch": "convnet6_w99999"}), "cannot run")
    refused(lambda: load({**good, "arch": "convnet2_w9000"}), "00.safetensors: its", "weights are not the 729")
    refused(lambda: load(good, {name: value.double() for name, value in weights.items()}), "weights are not those")
    refused(lambda: load(good, {name: value * float("nan") for name, value in weights.items()}), "not finite")
    large = load(good, {name: torch.full_like(value, 3e38) for name, value in weights.items()})
    refused(lambda: large.label(torch.ones(3, 1, 8, 8)), "00.safetensors", "labels that are not finite")


def each(change):
    """A change of every tensor of a teacher."""
    return lambda weights: {name: change(value) for name, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (each(lambda value: value * float("inf")), "weights that are not finite"),
        (each(lambda value: value.double()), "is float64 (8, 1, 3, 3), not float32 (8, 1, 3, 3)"),
        (each(lambda value: value.bfloat16()), "is bfloat16 (8, 1, 3, 3), not float32 (8, 1, 3, 3)"),
        (each(lambda value: value[..., None]), "is float32 (8, 1, 3, 3, 1), not float32 (8, 1, 3, 3)"),
        (lambda weights: {f"net.{name}": value for name, value in weights.items()}, "is missing, not float32"),
        (lambda weights: {**weights, "odd": torch.zeros(10)}, "'odd' is float32 (10,), not one of them"),
    ],
)
def test_a_set_whose_teachers_teach_nothing_is_no_good_one(folder, change, words):
    """Its hashes are right: whoever made it wrote them. `verify` said that all was well, `evaluate` refused it."""
    path = folder / "teachers" / "00.safetensors"
    told = teacher_file.facts(path)
    path.write_bytes(save(change(load_file(path)), {"ddhub": json.dumps(told)}))
    rehash(folder)
    (found,) = (fault for fault in verify.faults(folder) if fault.startswith(str(path)))
    assert words in found
    refused(lambda: architectures.build("convnet3_w99999", 10, 3, 32, seed=0), "weights are more than")


CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (10 * 2**30, 10 * 2**30))
from pathlib import Path
from ddhub.artifact import folder as folders
from ddhub.base.errors import UserError
from ddhub.interop import reading
from ddhub.interop.reading import Reading
for name in sys.argv[1:]:
    path = Path(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        if path.is_dir():
            folders.read_data(path, (3, 8, 8), 3)
        elif path.suffix == ".npz":
            reading.arrays(path, Reading(limit=5 * 10**7))
        else:
            reading.pictures(reading.load(path, Reading(limit=10**9)), path.name, Reading(limit=10**9))
        print(path.name, "was read")
    except UserError as fault:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(path.name, "grew" if grown > 700 else "", str(fault).splitlines()[0], sep="|")
"""


def a_bomb(folder: Path, rows: int, picture: bytes, **other: pa.Array) -> Path:
    """A data file of a few kilobytes: one picture, many times."""
    (folder / "data").mkdir(parents=True)
    images = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([picture], pa.binary()))
    structs = pa.StructArray.from_arrays([images, pa.nulls(rows, pa.string())], ["bytes", "path"])
    content = pa.table({"image": structs, "label": pa.array(np.zeros(rows, np.int64)), **other})
    pq.write_table(content, folder / DATA, store_schema=False, dictionary_pagesize_limit=10**9, row_group_size=10**7)
    return folder


def test_bombs_are_refused_in_little_memory(tmp_path):
    """A few bytes that stand for much: rows, values, tensors, archives; in a process with a bound of its own."""
    tiny = encoded(Image.new("RGB", (8, 8)))
    wide = pa.array(np.zeros(4 * 10**6, np.float32))
    bombs = [
        a_bomb(tmp_path / "large-picture", 200, b"x" * 30_000_000),
        a_bomb(tmp_path / "wide-labels", 4, tiny, soft_label=pa.FixedSizeListArray.from_arrays(wide, 10**6)),
        a_bomb(tmp_path / "wide-pixels", 4, tiny, pixels=pa.FixedSizeListArray.from_arrays(wide, 10**6)),
    ]
    for name, kind, length, stored in (("zeros", "<f4", 25 * 10**6, 1), ("claims", "<f8", 10**13, 0)):
        archive = zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        with archive, archive.open("images.npy", "w") as file:
            header = {"descr": kind, "fortran_order": False, "shape": (length,)}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(stored):
                file.write(b"\0" * 10**8)
    torch.save(torch.zeros(1).expand(10**7, 1, 4, 4), tmp_path / "strides.pt")
    torch.save(torch.zeros(8, device="meta").expand(10**6, 8), tmp_path / "meta.pt")
    torch.save(torch.zeros(4, 4).to_sparse(), tmp_path / "sparse.pt")
    bombs += [tmp_path / name for name in ("zeros.npz", "claims.npz", "strides.pt", "meta.pt", "sparse.pt")]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, bombs)], capture_output=True, text=True, timeout=600, check=False
    )
    told = dict(line.split("|", 1) for line in done.stdout.splitlines())
    expected = {
        "large-picture": "column 'image' holds more than 200 rows of such a set can",
        "wide-labels": "column 'soft_label' holds more than 4 rows of such a set can",
        "wide-pixels": "column 'pixels' holds more than 4 rows of such a set can",
        "zeros.npz": "holds 100.0 MB, more than the 50.0 MB that are read",
        "claims.npz": "is not a file of plain numpy arrays",
        "strides.pt": "claims 160000000 numbers, more than its file holds",
        "meta.pt": "asks for 'torch._utils._rebuild_meta_tensor_no_storage', which is not data",
        "sparse.pt": "asks for 'torch._utils._rebuild_sparse_tensor', which is not data",
    }
    assert told.keys() == expected.keys(), done.stderr
    for name, words in expected.items():
        assert told[name].startswith("|") and words in told[name], told[name]


def test_archives_that_unpack_to_much_more_than_themselves_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ddhub.base.limits.UNPACKED", 10**6)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((4000, 12, 12, 3), np.float32))
    refused(lambda: reading.arrays(tmp_path / "bomb.npz", Reading()), "bomb.npz", "times its own size", "--max-bytes")
    assert reading.arrays(tmp_path / "bomb.npz", Reading(limit=10**9))["images"].shape == (4000, 12, 12, 3)


def test_members_of_archives_stay_inside_and_archives_are_not_unpacked(tmp_path):
    """Names that lead out are read as data or refused; no file appears anywhere."""
    inner = tmp_path / "in"
    inner.mkdir()
    for name in ("evil.pt", "evil.npz", "evil.zip"):
        with zipfile.ZipFile(inner / name, "w") as archive:
            for member in ("../../out.npy", "/tmp/ddhub-out.npy", "evil/data.pkl", "evil/../../out"):
                archive.writestr(member, b"\x80\x02}q\x00.")
        refused(lambda name=name: foreign_read(inner / name), name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.npz", "evil.pt", "evil.zip", "in"]
    assert not Path("/tmp/ddhub-out.npy").exists()
