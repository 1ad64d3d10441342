"""Preprocessing: statistics and whitening against theory, and the way back to pixels."""

from types import SimpleNamespace

import pytest
import torch

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.data import preprocess, spec
from ddhub.data import source as sources
from ddhub.distillation import pipeline, recipes, task
from ddhub.evaluation.probe import teacher
from ddhub.training import teachers


def pictures(count: int = 300, channels: int = 3, side: int = 4, seed: int = 0) -> torch.Tensor:
    """uint8 images whose neighbouring pixels resemble each other, as real ones do."""
    noise = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
    smooth = noise.mean((2, 3), keepdim=True) * 4 + noise.cumsum(3) * 0.3
    return ((smooth + 2) * 64).clamp(0, 255).round().to(torch.uint8)


EVERY = torch.arange(300)


@pytest.fixture(params=[False, True], ids=["mean-std", "zca"])
def fitted(request):
    return preprocess.fit(pictures(), EVERY, zca=request.param)


def test_statistics_are_those_of_the_chosen_images():
    """Mean and (biased) standard deviation per channel, of the rows in the index and no others."""
    images, index = pictures(), torch.tensor([3, 7, 250, 11])
    found = preprocess.fit(images, index, zca=False)
    unit = images[index].double() / 255
    torch.testing.assert_close(torch.tensor(found.mean).double(), unit.mean((0, 2, 3)), rtol=1e-6, atol=0)
    spread = unit.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(found.std).double(), spread, rtol=1e-6, atol=0)
    assert found.zca is None and found.zca_mean is None


def test_statistics_do_not_depend_on_the_order():
    """Integer sums are exact: any order of the images, and more of them than fit one chunk, give the same bits."""
    images = pictures(5000, 1)
    turned = preprocess.fit(images, torch.arange(5000).flip(0), zca=False)
    assert preprocess.fit(images, torch.arange(5000), zca=False) == turned


def test_a_constant_channel_stays_finite():
    """A channel that never changes has no spread to divide by."""
    images = pictures()
    images[:, 1] = 77
    found = preprocess.fit(images, EVERY, zca=False)
    assert found.inputs(images).isfinite().all()
    assert torch.equal(found.pixels(found.inputs(images))[0], images)


def test_mean_and_std_normalise():
    """Inputs of the fitted images have mean 0 and spread 1 in every channel."""
    inputs = preprocess.fit(pictures(), EVERY, zca=False).inputs(pictures())
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=0)


def test_whitened_covariance_is_that_of_theory():
    """With eigenvalues s and eigenvectors V of the covariance, whitened inputs have V diag(s / (s + eps)) V^T."""
    images = pictures()
    found = preprocess.fit(images, EVERY, zca=True)
    flat = images.flatten(1).double() / 255
    s, v = torch.linalg.eigh(torch.cov(flat.T, correction=0))
    whitened = found.inputs(images).flatten(1).double()
    torch.testing.assert_close(whitened.mean(0), torch.zeros(48).double(), rtol=0, atol=1e-5)
    expected = v @ torch.diag(s / (s + 0.1)) @ v.T
    torch.testing.assert_close(torch.cov(whitened.T, correction=0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.zca, found.zca.T, rtol=0, atol=1e-6)
    assert preprocess.ZCA_EPS == 0.1


def test_whitening_counts_the_chosen_images_only():
    """Rows outside the index (validation, that is) leave no trace in it."""
    images, index = pictures(), torch.arange(0, 300, 2)
    found = preprocess.fit(images, index, zca=True)
    images[1::2] = 0
    again = preprocess.fit(images, index, zca=True)
    assert torch.equal(found.zca, again.zca) and torch.equal(found.zca_mean, again.zca_mean)


def test_inputs_turn_back_into_the_same_pixels(fitted):
    """uint8 to inputs and back loses nothing, for images that were not fitted either."""
    other = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for images in (pictures(), other):
        inputs = fitted.inputs(images)
        assert inputs.dtype == torch.float32 and inputs.shape == images.shape
        torch.testing.assert_close(fitted.unit(inputs), images.float() / 255, rtol=0, atol=1e-5)
        pixels, clipped = fitted.pixels(inputs)
        assert torch.equal(pixels, images) and clipped == 0


def test_project_keeps_displayable_images_and_clips_the_rest(fitted):
    """What is in [0, 1] stays; what is outside goes to the nearest end, value by value."""
    inside = fitted.inputs(pictures())
    torch.testing.assert_close(fitted.project(inside), inside, rtol=1e-4, atol=1e-5)
    unit = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 3 - 1
    projected = fitted.unit(fitted.project(fitted.inputs_from_unit(unit)))
    torch.testing.assert_close(projected, unit.clamp(0, 1), rtol=0, atol=1e-4)


def test_the_clipped_share_is_counted(fitted):
    """Values beyond what rounds into the range count, each once; those within half a level do not."""
    unit = torch.full((10, 3, 4, 4), 0.5)  # 480 values
    unit.view(-1)[:24] = 1.2
    unit.view(-1)[24:36] = -0.2
    unit.view(-1)[36:48] = 1 + 0.4 / 255
    pixels, clipped = fitted.pixels(fitted.inputs_from_unit(unit))
    assert clipped == pytest.approx(36 / 480)
    assert pixels.view(-1)[:48].tolist() == [255] * 24 + [0] * 12 + [255] * 12


def test_whitening_survives_its_file(tmp_path):
    """safetensors keeps the bits, so a downloaded set has the same inputs."""
    found = preprocess.fit(pictures(), EVERY, zca=True)
    path = tmp_path / "preprocess.safetensors"
    path.write_bytes(found.to_bytes())
    mean, matrix = preprocess.load_whitening(path, 48)
    again = preprocess.Preprocess(found.mean, found.std, mean, matrix)
    assert torch.equal(again.inputs(pictures()), found.inputs(pictures()))


FIELD = ["preprocess.statistics=field"]


def field_recipe(folder, **source):
    """A quick recipe of CIFAR-10 by the field's constants, read from a folder of images."""
    told = {"dataset": "uoft-cs/cifar10", "path": str(folder), "resolution": 8, "validation": 0.2, **source}
    return recipes.validate(
        {
            "name": "constants",
            "ipc": 2,
            "source": told,
            "preprocess": {"statistics": "field"},
            "teachers": {"arch": "convnet2_w8", "count": 1, "epochs": 1},
            "method": {"name": "random"},
            "evaluate": {"epochs": 2, "packaging_seeds": 1, "seeds": 1},
        },
        "here",
    )


@pytest.mark.parametrize(
    ("dataset", "mean", "std"),
    [
        ("uoft-cs/cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("uoft-cs/cifar100", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("zh-plus/tiny-imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("ILSVRC/imagenet-1k", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("ylecun/mnist", (0.1307,), (0.3081,)),
    ],
)
def test_the_constants_are_those_of_the_authors_code(dataset, mean, std):
    """As DD_APM has them, CIFAR-100 with CIFAR-10's; white and black become what they are there."""
    asked = recipes.read("cifar10_ipc10_small", [f"source.dataset={dataset}", *FIELD])
    found = task.constants(asked)
    assert (found.mean, found.std, found.statistics, found.zca) == (mean, std, "field", None)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, len(mean), 1, 1)
    expected = [[(value - m) / s for m, s in zip(mean, std, strict=True)] for value in (0, 1)]
    torch.testing.assert_close(found.inputs(pixels).flatten(1), torch.tensor(expected))


def test_a_set_by_the_fields_constants_says_so_and_is_trained_by_them(image_folder, tmp_path, monkeypatch):
    """Manifest, what is read back, teachers and card agree; no statistics of the source are taken."""
    monkeypatch.setattr(preprocess, "fit", lambda *_, **__: pytest.fail("nothing is fitted"))
    asked = tmp_path / "constants.yaml"
    asked.write_text(field_recipe(image_folder).yaml().replace("path: null", f"path: {image_folder}"))
    folder = api.distill(str(asked), out=tmp_path / "set", threads=1).to_dict()["folder"]
    found = folders.read(tmp_path / "set")
    known = found.manifest.preprocess
    assert (known.statistics, known.mean, known.std) == ("field", [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
    assert found.preprocess == preprocess.field("cifar10")
    assert "constants of the field" in " ".join((tmp_path / "set" / "README.md").read_text().split())
    assert str(folder) == str(tmp_path / "set")


def test_teachers_of_other_statistics_are_other_teachers(image_folder, tmp_path):
    """Their files have names of their own, and a probe that takes them from the cache gives them their own inputs."""
    field = field_recipe(image_folder)
    fitted = field.model_copy(update={"preprocess": spec.PreprocessSpec()})
    asked = Resources(device="cpu", threads=1, compile=False)
    tasks = [pipeline.untaught(each, tmp_path / str(number), asked) for number, each in enumerate((field, fitted))]
    files = [pipeline.lessons(each, 0).paths for each in tasks]
    assert files[0] != files[1]
    known = teachers.obtain(pipeline.lessons(tasks[0], 0))
    ((paths, identity),) = teachers.cached(tasks[0].source.fingerprint)
    assert paths == list(known.files) == files[0] and identity[4] == [
        [*tasks[0].preprocess.mean],
        [*tasks[0].preprocess.std],
    ]
    source = SimpleNamespace(fingerprint=tasks[0].source.fingerprint, channels=3, resolution=8)
    without = SimpleNamespace(manifest=SimpleNamespace(teachers=[], source=source, classes=tasks[0].source.classes))
    found = teacher.at_hand(without, lambda: tasks[0].source, tasks[0].decisions)
    assert (found.kind, found.preprocess) == ("cached", tasks[0].preprocess)


def test_recipes_from_before_the_choice_keep_their_hash():
    """`fitted` is not part of what is hashed and published; the constants are."""
    before, after = (recipes.read("cifar10_ipc10_small", told) for told in ([], ["preprocess.statistics=fitted"]))
    assert before.hash == after.hash and before.content()["preprocess"] == {"zca": False}
    other = recipes.read("cifar10_ipc10_small", FIELD)
    assert other.hash != before.hash and other.content()["preprocess"] == {"zca": False, "statistics": "field"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (["source.dataset=digits"], "preprocess.statistics: field: no constants are known for digits"),
        (["source.dataset=me/leaves"], "preprocess.statistics: field: no constants are known for me/leaves"),
        (["source.channels=1"], "preprocess.statistics: field: channels are 3 per constant, and source.channels is 1"),
        (["preprocess.zca=true"], "statistics 'field' and zca true exclude each other"),
        (["preprocess.statistics=authors"], "preprocess.statistics"),
    ],
)
def test_a_source_without_constants_is_refused_before_it_is_read(changes, fault, monkeypatch, tmp_path):
    """By `distill` and by `plan`, with the setting that would do."""
    monkeypatch.setattr(sources, "load_train", lambda *_: pytest.fail("nothing is read"))
    told = [*FIELD, *changes]
    shape = {"images": 100, "classes": 10, "side": 8}
    for does in (
        lambda: api.distill("cifar10_ipc10_small", out=tmp_path / "set", overrides=told, threads=1),
        lambda: api.plan("cifar10_ipc10_small", overrides=["ipc=5", *told], threads=1, **shape),
    ):
        with pytest.raises(UserError) as caught:
            does()
        assert fault in str(caught.value)


def test_constants_of_colours_refuse_grey_images(tmp_path, make_folder):
    """Where the recipe leaves channels to the source, the source says."""
    from PIL import Image

    grey = [Image.new("L", (8, 8), 20 * number) for number in range(12)]
    folder = make_folder({"train": (grey, [0, 1, 2] * 4), "test": (grey, [0, 1, 2] * 4)})
    with pytest.raises(UserError, match="constants for 3 channels, the source has 1"):
        pipeline.untaught(field_recipe(folder), tmp_path / "set", Resources(device="cpu", threads=1))
