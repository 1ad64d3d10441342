"""Sets of other tools on the Hub, in every form that repos hold them: tables, subsets, tensors, archives, pictures."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coloured, encode
from PIL import Image

from ddhub import api
from ddhub.artifact import folder
from ddhub.base.errors import UserError
from ddhub.interop import hub_set
from ddhub.interop.reading import Reading

pytestmark = pytest.mark.slow

ID = "alice/foreign"
NAMES = ("red", "green", "blue")


def saved(content) -> bytes:
    """A torch file's bytes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def pictures(template="{k:05d}/class{k:05d}_id{i:05d}.png", count=2) -> dict[str, bytes]:
    """Pictures of three classes by their path."""
    images, labels = coloured(3 * count, 7)
    seen = [0] * 3
    found = {}
    for image, k in zip(images, labels, strict=True):
        found[template.format(k=k, i=seen[k], name=NAMES[k])] = encode(image)["bytes"]
        seen[k] += 1
    return found


def zipped(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def taped(entries: dict[str, bytes], mode="w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def published(server, entries):
    """A repo with these files; its commit."""
    server.create_repo(ID)
    return server.commit(ID, {"README.md": b"# a set\n", **entries})


def brought(tmp_path, image_folder, **told):
    made = api.import_set(ID, out=tmp_path / "set", source=str(image_folder), **told).to_dict()
    return made, folder.read(tmp_path / "set")


def expected(entries):
    """The pixels of pictures by their path, class by class."""
    return torch.stack(
        [torch.from_numpy(np.array(Image.open(io.BytesIO(entries[name])))).permute(2, 0, 1) for name in sorted(entries)]
    )


@pytest.mark.parametrize("form", ["zip", "zip in a folder", "tar", "tar.gz", "folders", "rded", "sre2l"])
def test_pictures_in_a_repo(form, server, image_folder, tmp_path):
    """In an archive or as they are; classes are the numbers of their folders."""
    plain = pictures(
        "new{k:03d}/class{k:03d}_id{i:03d}.png" if form == "sre2l" else "{k:05d}/class{k:05d}_id{i:05d}.png"
    )
    entries = {
        "zip": {"set.zip": zipped(plain)},
        "zip in a folder": {"data/set.zip": zipped({f"top/inner/{name}": data for name, data in plain.items()})},
        "tar": {"set.tar": taped(plain, "w")},
        "tar.gz": {"set.tar.gz": taped({f"./{name}": data for name, data in plain.items()})},
        "folders": plain,
        "rded": {f"exp/syn_data/{name}": data for name, data in plain.items()},
        "sre2l": {"sre2l.zip": zipped(plain), "FKD_cutmix_fp16.tar.gz": b"labels of every batch"},
    }[form]
    commit = published(server, entries)
    made, found = brought(tmp_path, image_folder)
    assert torch.equal(found.images, expected(plain))
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    imported = made["manifest"]["imported"]
    assert imported["layout"] == "folder" and any(f"fetched from {ID}@{commit}" in note for note in imported["notes"])


def test_class_folders_with_names(server, image_folder, tmp_path):
    published(server, {"set.zip": zipped(pictures("{name}/{i}.png"))})
    _, found = brought(tmp_path, image_folder)
    assert found.labels.tolist() == [2, 2, 1, 1, 0, 0]  # blue, green, red


@pytest.mark.parametrize("form", ["dc", "idc", "pair", "pair in a folder"])
def test_tensors_in_a_repo(form, server, image_folder, tmp_path):
    """One file, or images and labels in two."""
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0, 1, 1, 0, 2])
    told = {} if form == "idc" else {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    entries = {
        "dc": {"cifar10/res_DataDAM_CIFAR10_ConvNet_2ipc_.pt": saved({"data": [images, labels]})},
        "idc": {"cifar10/data_best.pt": saved([images, labels])},
        "pair": {"images_best.pt": saved(images), "labels_best.pt": saved(labels)},
        "pair in a folder": {
            "a/images.pt": saved(images),
            "a/labels.pt": saved(labels),
            "a/lr.pt": saved(torch.tensor(0.2)),
        },
    }[form]
    published(server, entries)
    reading = {"factor": 1} if form == "idc" else {}
    _, found = brought(tmp_path, image_folder, **reading, **told)
    assert found.labels.tolist() == labels.tolist()
    assert torch.equal(found.images, (images * 255).round().byte())
    assert found.manifest.protocol.lr == pytest.approx(0.2 if form == "pair in a folder" else 0.01)


def test_of_several_sets_one_is_asked_for(server, image_folder, tmp_path):
    """By the option that names it; no other is fetched."""
    pair = [torch.randn(6, 3, 12, 12), torch.arange(6) % 3]
    more = {"cifar10/ipc2.pt": saved({"data": [pair]}), "svhn/ipc2.pt": saved({"data": [pair]})}
    published(server, {**more, "raw/set.zip": zipped(pictures())})
    with pytest.raises(UserError, match=r"holds 3 sets: cifar10/ipc2\.pt, raw/set\.zip, svhn/ipc2\.pt\n  next: --file"):
        brought(tmp_path, image_folder)
    assert not (tmp_path / "set").exists()
    told = {"mean": (0.4,) * 3, "std": (0.2,) * 3}
    made, found = brought(tmp_path, image_folder, file="svhn/ipc2.pt", **told)
    assert found.labels.tolist() == pair[1].tolist() and "svhn/ipc2.pt" in " ".join(
        made["manifest"]["imported"]["notes"]
    )
    fetched = [request.path for request in server.seen("resolve")]
    assert fetched and all("svhn" in path for path in fetched)
    with pytest.raises(UserError, match=r"holds no file or folder 'mnist'\n  next: --file: cifar10"):
        api.import_set(ID, out=tmp_path / "no", source=str(image_folder), file="mnist")


def test_one_pair_of_several_by_its_name(server, image_folder, tmp_path):
    """The labels come with the images that are named."""
    entries = {}
    for ipc in (1, 2):
        entries[f"CIFAR10_IPC{ipc}_images.pt"] = saved(torch.randn(3 * ipc, 3, 12, 12))
        entries[f"CIFAR10_IPC{ipc}_labels.pt"] = saved(torch.arange(3).repeat(ipc))
    published(server, entries)
    told = {"mean": (0.4,) * 3, "std": (0.2,) * 3, "file": "CIFAR10_IPC2_images.pt"}
    _, found = brought(tmp_path, image_folder, **told)
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_repo_is_evaluated_by_its_id_at_one_commit(server, image_folder, tmp_path, monkeypatch):
    """Rows name the commit; the same command fetches nothing again; a newer commit is another set."""
    monkeypatch.chdir(tmp_path)
    first = published(server, {"set.zip": zipped(pictures())})
    options = {"source": str(image_folder), "importing": {"epochs": 1}, "seeds": 1, "threads": 1, "probe": False}
    report = api.evaluate(ID, ["convnet2_w8"], **options).to_dict()
    assert {row["set"] for row in report["rows"]} == {f"{ID}@{first}"}
    assert {row["data"] for row in report["rows"]} == {"distilled", "random"}
    before = len(server.seen("resolve"))
    assert api.evaluate(ID, ["convnet2_w8"], **options).to_dict()["rows"] == report["rows"]
    assert len(server.seen("resolve")) == before
    second = server.commit(ID, {"set.zip": zipped(pictures(count=3))})
    again = api.evaluate(ID, ["convnet2_w8"], **options).to_dict()
    assert {row["set"] for row in again["rows"]} == {f"{ID}@{second}"}
    assert {row["train_images"] for row in again["rows"]} == {9}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_in_archives_that_lead_out_are_refused(kind, server, image_folder, tmp_path):
    bad = {**pictures(), "../../evil.png": b"x"}
    published(server, {f"set.{kind}": zipped(bad) if kind == "zip" else taped(bad, "w")})
    with pytest.raises(UserError, match=r"set\.\w+: holds '\.\./\.\./evil\.png', which leads out of it; refused"):
        brought(tmp_path, image_folder)
    assert not list(tmp_path.rglob("*evil*"))


def test_links_in_archives_are_left_out(server, image_folder, tmp_path):
    """Nothing of the reader's own is read through them."""
    file = io.BytesIO(taped(pictures(), "w"))
    with tarfile.open(fileobj=file, mode="a") as archive:
        link = tarfile.TarInfo("00000/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    published(server, {"set.tar": file.getvalue()})
    assert len(brought(tmp_path, image_folder)[1].labels) == 6


def test_more_than_is_read_is_said_before_it_is_fetched(server, image_folder, tmp_path):
    """By the sizes that the repo states, and by those inside an archive."""
    published(server, {"set.zip": zipped(pictures())})
    with pytest.raises(UserError, match=r"more than the 100 B? ?.*\n  next: --max-bytes"):
        brought(tmp_path, image_folder, limit=100)
    assert server.seen("resolve") == []
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0/a.png", bytes(5_000_000))
    server.commit(ID, {"set.zip": file.getvalue()})
    with pytest.raises(UserError, match=r"would unpack to 1 files of 5\.0 MB"):
        brought(tmp_path, image_folder, limit=1_000_000)


def test_a_damaged_archive_is_named(server, image_folder, tmp_path):
    published(server, {"set.zip": zipped(pictures())[:200]})
    with pytest.raises(UserError, match=r"set\.zip: a damaged archive\W.*\n  next: rm .*set\.zip, then") as caught:
        brought(tmp_path, image_folder)
    assert Path(caught.value.next.split(",")[0].removeprefix("rm ")).is_file()


def test_tables_are_left_to_datasets(server):
    """Files beside them change nothing (test_find_set.py reads such repos); an option still names those."""
    picture = pictures()["00000/class00000_id00000.png"]
    published(server, {"data/train-00000-of-00001.parquet": b"rows", "assets/a/preview.png": picture})
    assert hub_set.fetched(Path(ID), Reading()) == (Path(ID), [])
    place, notes = hub_set.fetched(Path(ID), Reading(file="assets/a/preview.png"))
    assert place.read_bytes() == picture and len(notes) == 1
    assert {request.path.rpartition("/")[2] for request in server.seen("resolve")} == {"preview.png"}
