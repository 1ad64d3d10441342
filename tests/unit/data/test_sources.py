"""Sources: what is read and how it is decoded, the held-out share, the cache, and what is refused."""

from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import coloured, refused
from huggingface_hub import errors
from PIL import Image

from ddhub.data import held_out, image_cache, source
from ddhub.data.spec import SourceSpec


def spec(folder, **values) -> SourceSpec:
    return SourceSpec(dataset=str(folder), **values)


def test_an_image_folder_loads_with_its_columns_found(image_folder):
    """Columns, side, channels, class names and pixels are those of the files; each split has its own door."""
    split, training, validation = source.load_train(spec(image_folder))
    images, labels = coloured(60, 0)
    assert split.classes == ("red", "green", "blue") and split.labels.tolist() == labels
    assert (split.spec.image, split.spec.label, split.spec.resolution, split.spec.channels) == ("image", "label", 12, 3)
    assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
    np.testing.assert_array_equal(split.images.permute(0, 2, 3, 1).numpy(), np.stack(images))
    assert (len(training), len(validation)) == (54, 6)
    test = source.load_test(spec(image_folder))
    assert len(test) == 30 and test.fingerprint != split.fingerprint


def test_given_columns_are_taken(make_folder):
    """Where two columns would do, the recipe's word decides; other names than the usual ones are no obstacle."""
    two = {"fine": datasets.ClassLabel(names=["a", "b"]), "thumbnail": datasets.Image()}
    folder = make_folder({"train": coloured(30, 0)}, columns=("img", "kind"), extra=two)
    split = source.load_train(spec(folder, image="img", label="kind"))[0]
    assert (split.spec.image, split.spec.label) == ("img", "kind")
    message = refused(source.load_train, spec(folder, label="kind"))
    assert "source.image: cannot tell which column it is (img, thumbnail)" in message
    assert "--set source.label=NAME" in refused(source.load_train, spec(folder, image="img"))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"image": "imag"}, "source.image: no column 'imag'; did you mean 'image'?"),
        ({"label": "fine_label"}, "source.label: no column 'fine_label'; did you mean 'label'?"),
        ({"image": "label"}, "source.image: column 'label' holds no images"),
        ({"train": "training"}, "has no split 'training', only train, test"),
    ],
)
def test_a_missing_column_or_split_is_named(image_folder, given, fault):
    """The message holds the key of the recipe and what there is instead."""
    assert fault in refused(source.load_train, spec(image_folder, **given))


def test_plain_values_serve_as_labels(make_folder):
    """Texts without a ClassLabel become classes in sorted order."""
    images, labels = coloured(9, 0)
    folder = make_folder({"train": (images, [("cat", "ant", "bee")[k] for k in labels])}, names=None)
    split = source.load_train(spec(folder))[0]
    assert split.classes == ("ant", "bee", "cat") and split.labels.tolist()[:3] == [2, 0, 1]


def test_every_kind_of_image_becomes_rgb(make_folder):
    """Grey is repeated, alpha shown on white, palettes looked up, 16 bits scaled and not clipped."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    rgb = np.stack([grey, 255 - grey, grey // 2], -1)
    palette = Image.fromarray(rgb).quantize(64)
    share = grey[..., None] / 255
    on_white = (rgb * share + 255 * (1 - share)).round().astype(np.uint8)
    kinds = [
        (Image.fromarray(rgb), rgb),
        (Image.fromarray(grey), np.stack([grey] * 3, -1)),
        (Image.fromarray(np.concatenate([rgb, grey[..., None]], -1), "RGBA"), on_white),
        (palette, np.asarray(palette.convert("RGB"))),
        (Image.fromarray(grey.astype(np.uint16) * 257), np.stack([grey] * 3, -1)),
        (Image.fromarray(grey > 100), np.stack([np.where(grey > 100, 255, 0)] * 3, -1)),
    ]
    folder = make_folder({"train": ([image for image, _ in kinds], [0, 0, 1, 1, 2, 2])})
    split = source.load_train(spec(folder))[0]
    for image, (given, expected) in zip(split.images, kinds, strict=True):
        off = np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected)
        assert off.max() <= (given.mode == "RGBA"), given.mode


def test_grey_images_keep_one_channel(make_folder):
    """8-bit and 16-bit grey stay grey unless the recipe asks for three channels."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    images = [Image.fromarray(grey), Image.fromarray(grey.astype(np.uint16) * 257), Image.fromarray(255 - grey)]
    folder = make_folder({"train": (images * 2, [0, 1, 2] * 2)})
    split = source.load_train(spec(folder))[0]
    assert split.images.shape == (6, 1, 8, 8) and torch.equal(split.images[0], split.images[1])
    assert source.load_train(spec(folder, channels=3))[0].images.shape == (6, 3, 8, 8)


def test_resizing_is_a_box_filter(make_folder):
    """A pixel of the smaller image is the mean of its box, to the rounding of each direction."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    wide = np.random.default_rng(1).integers(0, 256, (2, 8, 12, 3)).astype(np.uint8)
    images = [Image.fromarray(pixels) for pixels in [*noise, *wide]]
    folder = make_folder({"train": (images, [0, 0, 1, 1, 2, 2])})
    small = source.load_train(spec(folder, resolution=4))[0].images.permute(0, 2, 3, 1).numpy()
    means = [pixels.reshape(4, len(pixels) // 4, 4, 3, 3).mean((1, 3)) for pixels in [*noise, *wide]]
    assert np.abs(small - np.stack(means)).max() <= 1


@pytest.mark.parametrize("sizes", [[(12, 8)] * 3, [(8, 8), (12, 12), (8, 8)]])
def test_images_of_no_common_square_need_a_resolution(make_folder, sizes):
    """Which size to use is asked, not guessed."""
    folder = make_folder({"train": ([Image.new("RGB", size) for size in sizes], [0, 1, 2])})
    message = refused(source.load_train, spec(folder))
    assert "source.resolution: " in message and "--set source.resolution=64" in message


@pytest.mark.parametrize(("share", "held"), [(0.1, [5, 2, 1]), (0.5, [25, 10, 2]), (0.001, [1, 1, 1])])
def test_the_held_out_share_is_stratified(share, held):
    """Disjoint, complete, the asked share of every class, at least one image; only the seed moves it."""
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 5)[torch.randperm(75)]
    kept, validation = held_out.hold_out(labels, share, seed=3)
    assert sorted(kept.tolist() + validation.tolist()) == list(range(75))
    assert labels[validation].bincount().tolist() == held
    assert torch.equal(validation, held_out.hold_out(labels, share, seed=3)[1])
    assert not torch.equal(validation, held_out.hold_out(labels, share, seed=4)[1])


def test_random_images_are_drawn_class_by_class():
    """`ipc` different ones of every class, others for another purpose; too many are refused by the class's name."""
    labels = torch.tensor([0, 1] * 6 + [0] * 8)
    chosen = held_out.stratified(labels, ("cat", "dog"), 5, 0, "init")
    assert labels[chosen].tolist() == [0] * 5 + [1] * 5 and len(set(chosen.tolist())) == 10
    assert not torch.equal(chosen, held_out.stratified(labels, ("cat", "dog"), 5, 0, "baseline"))
    message = refused(held_out.stratified, labels, ("cat", "dog"), 7, 0)
    assert "class 'dog' has 6" in message and "--set ipc=6" in message


def test_images_are_decoded_once(image_folder, monkeypatch):
    """The second load maps the file of the first, and says the same fingerprint."""
    first = source.load_train(spec(image_folder))[0]
    monkeypatch.setattr(image_cache, "write", lambda *_: pytest.fail("decoded again"))
    mapped, from_numpy = [], torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: mapped.append(type(array)) or from_numpy(array))
    second = source.load_train(spec(image_folder))[0]
    assert np.memmap in mapped
    assert torch.equal(first.images, second.images) and first.fingerprint == second.fingerprint
    second.images.zero_()  # in memory only
    assert torch.equal(first.images, source.load_train(spec(image_folder))[0].images)


def test_the_fingerprint_is_that_of_the_content(make_folder):
    """Equal content in another folder has the same one; a changed pixel, label or name has not, even in place."""
    images, labels = coloured(12, 0)
    base = source.load_train(spec(make_folder({"train": (images, labels)})))[0].fingerprint
    assert base.startswith("sha256:") and len(base) == 71
    assert base == source.load_train(spec(make_folder({"train": (images, labels)}, name="copy")))[0].fingerprint
    names = make_folder({"train": (images, labels)}, name="names", names=("red", "green", "azure"))
    relabelled = make_folder({"train": (images, labels[::-1])}, name="relabelled")
    images[7].putpixel((3, 3), (0, 0, 0))
    pixel = make_folder({"train": (images, labels)})  # over the first one
    found = {source.load_train(spec(folder))[0].fingerprint for folder in (names, relabelled, pixel)}
    assert len(found | {base}) == 4


def test_a_local_copy_is_read_in_place_of_the_hub(image_folder):
    """`source.path` says where to read; the id and the fingerprint are those of the content."""
    split = source.load_train(SourceSpec(dataset="someone/colours", path=str(image_folder)))[0]
    assert split.spec.dataset == "someone/colours"
    assert split.fingerprint == source.load_train(spec(image_folder))[0].fingerprint


@pytest.mark.parametrize("names", [("red", "green", "blue"), None])
@pytest.mark.parametrize("hidden", [-1, None])
def test_hidden_labels_are_refused(make_folder, hidden, names):
    """A split without labels, as ImageNet's `test`, cannot teach or score; -1 is no class of its own."""
    folder = make_folder({"train": (coloured(6, 0)[0], [hidden] * 6)}, names=names)
    message = refused(source.load_train, spec(folder))
    assert "split 'train' has no labels (they are hidden)\n  next: --set source.train=SPLIT" in message


def test_an_empty_split_is_refused(make_folder):
    """With the split's name, before anything is decoded."""
    message = refused(source.load_train, spec(make_folder({"train": ([], [])})))
    assert message.startswith("source: ") and "(train)" in message


def test_an_image_that_cannot_be_decoded_is_said(make_folder):
    """No traceback of PIL's, and no half cache that a later load would take for whole."""
    images, labels = coloured(40, 0)
    images[39] = type("Torn", (), {"save": lambda self, file, format: file.write(b"no image")})()
    folder = make_folder({"train": (images, labels)})
    for _ in range(2):
        assert "an image: cannot be decoded" in refused(source.load_train, spec(folder))


def test_digits_split_is_fixed():
    """A stratified fifth is the test split; the two are disjoint, complete and the same on every machine."""
    from sklearn.datasets import load_digits

    train, training, validation = source.load_train(SourceSpec(dataset="digits"))
    test = source.load_test(SourceSpec(dataset="digits"))
    assert abs(len(train) - 1438) < 3 and len(train) + len(test) == 1797
    assert (train.spec.resolution, train.spec.channels, train.images.dtype) == (8, 1, torch.uint8)
    assert len(training) + len(validation) == len(train)
    assert test.labels.bincount().min() >= 34

    def rows(images):
        return sorted(np.asarray(images).round().astype(np.uint8).reshape(len(images), -1).tolist())

    whole = load_digits().images * (255 / 16)
    assert rows(torch.cat([train.images, test.images])) == rows(whole)
    # Written down from the first release: an artifact's manifest carries it.
    assert train.fingerprint.startswith("sha256:38d0374215df0ed1")
    assert test.fingerprint.startswith("sha256:249f5df77bdd9e5d")


@pytest.mark.parametrize("given", [{"train": "valid"}, {"resolution": 32}, {"channels": 3}])
def test_digits_are_kept_as_they_are(given):
    """No other split, size or number of channels."""
    assert refused(source.load_train, SourceSpec(dataset="digits", **given)).startswith("source: digits")


@pytest.mark.parametrize("given", [{"dataset": "./nowhere"}, {"dataset": "a/b", "path": "nowhere"}])
def test_a_missing_folder_is_named(given):
    """A path is never taken for a Hub id."""
    assert "nowhere: no such folder" in refused(source.load_train, SourceSpec(**given))


def test_a_gated_source_says_what_to_accept(monkeypatch):
    """Whether the Hub refuses the id or the files, the next step is its licence page and the login."""
    imagenet = SourceSpec(dataset="ILSVRC/imagenet-1k")
    response = SimpleNamespace(headers={}, request=None)
    advice = "accept the terms at https://huggingface.co/datasets/ILSVRC/imagenet-1k, then: hf auth login"

    def gated(*_, **__):
        raise errors.GatedRepoError("403 Forbidden: access is restricted", response=response)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", gated)
    message = refused(source.load_train, imagenet)
    assert advice in message and "access is restricted" in message

    def not_found(**_):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'ILSVRC/imagenet-1k' is a gated dataset on the Hub.")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(datasets, "load_dataset", not_found)
    assert advice in refused(source.load_train, imagenet)


def test_without_the_hub_a_local_copy_is_offered():
    """Offline, an id that is in no cache ends in the option that reads a folder."""
    message = refused(source.load_train, SourceSpec(dataset="someone/colours"))
    assert "the Hub does not answer for it" in message and "--set source.path=FOLDER" in message
