"""Strangers' folders: links, names, labels, and code that lies in them, which is never run."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from foreign_files import PLAIN, Payload, bring, build, encoded, foreign_read, tree
from hypothesis import given
from PIL import Image
from safetensors.torch import save
from sets import rehash
from strangers import CHANGES, fuzzed, refused, said, spoiled

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import hub, manifest, parquet, parquet_file
from ddhub.artifact.parquet import Rows
from ddhub.base import links, plugins
from ddhub.base.errors import UserError
from ddhub.data import held_out, source
from ddhub.data.spec import SourceSpec
from ddhub.reports import verify
from ddhub.training import architectures

CLASSES = ["elm", "oak", "yew"]
DATA = "data/train-00000-of-00001.parquet"
SECRET = "a neighbour's secret"
LINKS = {
    "a payload file": (DATA, "is a link that leads out of the folder"),
    "a teacher": ("teachers/00.safetensors", "is a link that leads out of the folder"),
    "a picture": ("assets/more.png", "is a link that leads out of the folder"),
    "a row": ("evaluation/row.json", ""),
    "a folder": ("assets", "is a link that leads out of the folder"),
    "the card": ("README.md", "is a link that leads out of the folder"),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_out_of_a_folder_are_never_published(name, folder, tmp_path, server):
    """Else a stranger's folder would make its reader publish what lies beside it."""
    path, words = folder / LINKS[name][0], LINKS[name][1]
    outside = tmp_path / "outside"
    if path.is_dir():
        shutil.move(path, outside)
        (outside / "secret.png").write_bytes(SECRET.encode())
    else:
        content = path.read_bytes() if path.exists() else SECRET.encode()
        outside.write_bytes(content)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
    path.symlink_to(outside)
    refused(lambda: api.push(folder, "alice/set"), words)
    if "alice/set" in server.store.repos:
        assert set(server.files("alice/set")) == {".gitattributes"}


def test_paths_of_a_manifest_stay_inside(folder):
    """Named files, teachers and whitenings that lead out are refused before they are opened."""
    known = json.loads((folder / "ddhub.json").read_text())
    entry = {"sha256": "0" * 64, "bytes": 1}
    names = {"../x": "leads out", "/etc/passwd": "leads out", "data/../../x": "leads out", "a\x00b": "no file's name"}
    for name, words in {
        **names,
        "": "no file's name",
        "\u2603" * 200: "no file's name",
        "~/x": "missing",
        "data": "missing",
        "a" * 999: "no file's name",
    }.items():
        (folder / "ddhub.json").write_text(json.dumps({**known, "files": {**known["files"], name: entry}}))
        refused(lambda: folders.read(folder), words)
        assert verify.faults(folder)
    for teacher in ("../../x", "/etc/passwd", "README.md"):
        changed = {**known, "teachers": [{**known["teachers"][0], "file": teacher}]}
        (folder / "ddhub.json").write_text(json.dumps(changed))
        refused(lambda teacher=teacher: folders.read(folder), f"'{teacher}' is not among its files")


def test_a_cache_of_the_hubs_is_a_set_of_links(folder, tmp_path):
    """Those from a snapshot to its blobs belong to it; others lead out."""
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "0" / "data", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "a").write_bytes(b"a")
    (snapshot / "a").symlink_to(blobs / "a")
    (snapshot / "b").symlink_to(folder / "README.md")
    root = snapshot.parent
    assert not links.leads_out(root, snapshot / "a") and links.leads_out(root, snapshot / "b")


def test_tables_that_name_their_readers_files_are_refused(make_folder, tmp_path):
    """A row with a path in place of a picture: else a stranger's set would hold its reader's pictures."""
    import datasets

    private = tmp_path / "private.png"
    Image.new("RGB", (12, 12), "red").save(private)
    folder = tmp_path / "theirs"
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    (folder / "data").mkdir(parents=True)
    for place in (str(private), f"{folder}/../private.png"):
        rows = {"image": [{"bytes": None, "path": place}] * 6, "label": [0, 1, 2] * 2}
        structs = pa.array(rows["image"], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        content = pa.table({"image": structs, "label": pa.array(rows["label"])})
        pq.write_table(content.cast(features.arrow_schema), folder / "data" / "train-00000-of-00001.parquet")
        refused(lambda: foreign_read(folder, "hub"), "private.png", "outside of the dataset; refused")


def test_a_folder_of_pictures_is_read_from_inside_it_alone(image_folder, tmp_path):
    """Plain image files work as a source and as a set; links out of a stranger's folder are refused."""
    folder = tree(tmp_path / "leaves" / "train")
    split, _, _ = source.load_train(SourceSpec(dataset=str(folder.parent)))
    assert len(split) == 6
    (folder / "00000" / "z.png").symlink_to(image_folder)
    refused(lambda: foreign_read(folder.parent, "hub"), "train/00000/z.png", "leads out of the folder")


@fuzzed(12)
@given(changes=CHANGES)
def test_a_spoilt_source_is_read_or_refused(image_folder, tmp_path_factory, changes):
    """Whatever `datasets` makes of its table."""
    folder = tmp_path_factory.mktemp("spoilt") / "theirs"
    shutil.copytree(image_folder, folder)
    path = next(folder.glob("data/train-*"))
    path.write_bytes(spoiled(path.read_bytes(), changes))
    said(lambda: source.load_train(SourceSpec(dataset=str(folder))), "source")


LABELS = {
    "beyond its names": ([0, 1, 7], "ClassLabel", "values outside 0..2"),
    "lists": ([[0], [1], [2]], "List", "holds a list, which is neither a class nor"),
    "fractions": ([0.5, float("nan"), 1.0], "float64", "holds 0.5, which is neither a class nor"),
    "of two lines": (["a\nb", "c", "d"], "string", "is no text of one line"),
    "one class twice as long": (["a" * 2000, "b", "c"], "string", "1000 characters or less"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_no_classes_are_named(name, tmp_path):
    import datasets

    values, kind, words = LABELS[name]
    label = {"ClassLabel": datasets.Value("int64"), "List": datasets.List(datasets.Value("int64"))}.get(kind)
    features = datasets.Features({"image": datasets.Image(), "label": label or datasets.Value(kind)})
    image = {"bytes": encoded(Image.new("RGB", (12, 12))), "path": None}
    rows = datasets.Dataset.from_dict({"image": [image] * 3, "label": values}, features=features)
    path = tmp_path / "theirs" / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    rows.to_parquet(path)
    if kind == "ClassLabel":  # numbers beyond the names that the header gives
        table = pq.read_table(path)
        named = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
        pq.write_table(table.replace_schema_metadata(named.arrow_schema.metadata), path)
    refused(lambda: source.load_train(SourceSpec(dataset=str(tmp_path / "theirs"))), "column 'label'", words)


def test_a_million_classes_end_in_a_sentence(monkeypatch, tmp_path, make_folder):
    """Wherever they come from, before anything is made for each of them."""
    monkeypatch.setattr("ddhub.base.limits.CLASSES", 3)
    images = [Image.new("RGB", (12, 12))] * 4
    folder = make_folder({"train": (images, ["a", "b", "c", "d"])}, names=None)
    refused(lambda: source.load_train(SourceSpec(dataset=str(folder))), "has 4 classes; 1 to 3 are read")
    for name in ("a", "b", "c", "d"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        images[0].save(tmp_path / "tree" / name / "0.png")
    refused(lambda: foreign_read(tmp_path / "tree", "folder"), "tree: 4 classes, more than the 3 that are read")
    kept, held = held_out.hold_out(torch.arange(10**4).repeat(3), 0.3, seed=0)  # in no quadratic time
    assert len(kept) == 2 * 10**4 and len(held) == 10**4


def test_names_that_are_no_text_are_refused(tmp_path):
    """Bytes that are no UTF-8, lines, and characters that move the cursor."""
    for name in (b"\xff\xfe", b"a\nb", b"a\x1b[31m"):
        folder = tree(tmp_path / f"set{name[0]}")
        os.rename(folder / "00000", os.path.join(os.fsencode(folder), name))
        refused(lambda folder=folder: foreign_read(folder, "folder"), "a name that is no text in UTF-8")
    path = build("dc", tmp_path / "dc")
    odd = os.path.join(os.fsencode(path.parent), b"\xff.pt")
    os.rename(path, odd)
    refused(lambda: foreign_read(Path(os.fsdecode(odd)), "dc"), "a name that is no text in UTF-8")
    for digits in ("²", "9" * 200):
        folder = tree(tmp_path / f"digits{len(digits)}")
        os.rename(folder / "00000", folder / digits)
        (folder / "00001" / "class²_id².png").write_bytes((folder / "00001" / "class00001_id00000.png").read_bytes())
        said(lambda folder=folder: foreign_read(folder, "folder"))


def test_a_set_with_odd_names_is_verified_in_plain_letters(folder):
    """Whatever lies in a folder, its faults can be printed."""
    with open(os.path.join(os.fsencode(folder), b"data/train-\xff\x1b.parquet"), "wb") as file:
        file.write(b"x")
    found = verify.faults(folder)
    assert found and all(fault.isprintable() for fault in found)
    refused(lambda: hub.published(folder), "no text in UTF-8")


def test_rows_that_contradict_the_manifest_are_named(folder):
    """A row too many, a set of one class, the same picture twice, no soft labels, whitening of another size."""
    record = manifest.read(folder)
    rows = folders.read_data(folder, (1, 8, 8), 10)
    same = torch.zeros_like(rows.labels)
    for changed, words in (
        (Rows(rows.images, same, rows.soft), "1 images per class are promised, but '0' has 10"),
        (Rows(rows.images[:5], rows.labels[:5], rows.soft[:5]), "1 images per class are promised"),
    ):
        parquet.write(folder, changed, record.classes)
        rehash(folder)
        assert words in "\n".join(verify.faults(folder))
        refused(lambda: folders.read(folder), "other numbers of images per class than its manifest says")
    parquet.write(folder, Rows(rows.images, rows.labels), record.classes)
    rehash(folder)
    refused(lambda: folders.read(folder), "column 'soft_label' is missing")
    (folder / "preprocess.safetensors").write_bytes(save({"mean": torch.zeros(9), "matrix": torch.zeros(9, 9)}))
    rehash(folder, preprocess=record.preprocess.model_copy(update={"zca": "preprocess.safetensors"}))
    refused(lambda: folders.read(folder), "mean and matrix are not of 64 values a side")


def test_nothing_of_a_strangers_folder_is_run(folder, tmp_path, image_folder, monkeypatch):
    """Scripts, set-ups, plug-ins and pickles lie in it; it is loaded, verified, drawn, imported and evaluated."""
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w').close()"
    for name in (
        "set.py",
        "setup.py",
        "conftest.py",
        "__init__.py",
        "sitecustomize.py",
        "apm.py",
        "ddhub.py",
        "torch.py",
    ):
        (folder / name).write_text(code)
    (folder / "method").mkdir()
    (folder / "method" / "__init__.py").write_text(code)
    for name in ("teachers/01.pt", ".ddhub/distill-00000001.pt", "data/state.pkl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(Payload(mark)))
    monkeypatch.chdir(folder)
    assert verify.faults(folder) == []
    api.card(folder)
    import ddhub

    assert len(ddhub.load(str(folder))) == 10
    api.evaluate(str(folder), ["convnet2_w8"], baselines=[], seeds=1, threads=1, probe=False)
    theirs = Path(shutil.copytree(image_folder, tmp_path / "theirs"))
    for name in ("theirs.py", "setup.py", "dataset_infos.py"):
        (theirs / name).write_text(code)
    said(lambda: source.load_train(SourceSpec(dataset=str(theirs))), "theirs")
    said(lambda: bring(theirs, tmp_path / "imported", image_folder, layout="hub", **PLAIN))
    assert not mark.exists()


def test_a_set_names_no_code():
    """Names are ddhub's own, an installed package's, or timm's: none is a module, and none of them a private file."""
    for kind in (plugins.METHODS, plugins.LAYOUTS):
        for name in ("os", "evil/evil", "_pairs", "apm.os", "", "ddhub.cli.app"):
            refused(lambda kind=kind, name=name: kind.find(name), f"no {kind.noun} '{name}'")
    for arch in (
        "timm:hf-hub:me/evil",
        "timm:hf_hub:me/evil",
        "timm:local-dir:/tmp/evil",
        "hf-hub:me/evil",
        "os.system",
    ):
        refused(lambda arch=arch: architectures.build(arch, 10, 3, 32, seed=0))
    assert parquet_file.PICTURE in parquet.READ


def test_a_set_that_cannot_be_read_ends_with_the_command_that_says_all(folder, monkeypatch):
    """Whatever is wrong with it; a fault with advice of its own keeps that."""
    monkeypatch.setattr(folders.limits, "SET_BYTES", 1)
    with pytest.raises(UserError, match="more than") as caught:
        folders.read(folder)
    assert caught.value.next == f"ddhub verify {folder}"
    (folder / "recipe.yaml").write_text("changed: yes\n")
    with pytest.raises(UserError) as caught:
        folders.read(folder)
    assert caught.value.next.startswith("fetch the set again")
