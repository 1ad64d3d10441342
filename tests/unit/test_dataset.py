"""`ddhub.load`: what a user trains on."""

import ast
import dataclasses
import inspect
import math
import re

import pytest
import torch

import ddhub
from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.base.errors import UserError

pytestmark = pytest.mark.slow


def test_a_set_loads_as_tensors(folder):
    """Images, labels, preprocessing and protocol agree with the folder."""
    loaded = ddhub.load(folder)
    found = folders.read(folder)
    assert len(loaded) == 10 and loaded.classes == [str(digit) for digit in range(10)]
    assert torch.equal(loaded.inputs, found.inputs)
    assert torch.allclose(loaded.preprocess(loaded.images), found.inputs, atol=1e-6)
    assert torch.allclose(loaded.preprocess(loaded.images.float() / 255), found.inputs, atol=1e-6)
    assert loaded.protocol == found.manifest.protocol


def test_batches_are_shuffled_and_augmented_anew(folder):
    """As few batches of one size as fit, no image twice in an epoch; the same for the same seed."""
    loaded = ddhub.load(folder)
    batches = list(loaded.batches(epochs=2, batch=4))
    assert [len(labels) for _, labels, _ in batches] == [3, 3, 3] * 2
    for part in (batches[:3], batches[3:]):
        assert len(set(torch.cat([labels for _, labels, _ in part]).tolist())) == 9
    again = list(loaded.batches(epochs=2, batch=4))
    assert all(torch.equal(a, b) for x, y in zip(batches, again, strict=True) for a, b in zip(x, y, strict=True))
    other = next(loaded.batches(batch=4, seed=1))
    assert not torch.equal(other[0], batches[0][0])


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 9, 10, 256])
def test_batches_are_as_large_as_the_cards_script_makes_them(folder, batch):
    """The script's own expressions are evaluated."""
    (script,) = re.findall(
        r"^```python\n(\"\"\"Train.*?)^```$", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    tree = list(ast.walk(ast.parse(script)))
    steps = next(
        node.value for node in tree if isinstance(node, ast.Assign) and "steps" in ast.unparse(node.targets[0])
    )
    rows = next(node.iter for node in tree if isinstance(node, ast.For) and "randperm" in ast.unparse(node.iter))
    loaded = ddhub.load(folder)
    names = {"math": math, "torch": torch, "inputs": loaded.inputs, "BATCH": batch, "device": "cpu"}
    names["steps"] = eval(ast.unparse(steps), names)
    expected = [len(part) for part in eval(ast.unparse(rows), names)]
    assert [len(labels) for _, labels, _ in loaded.batches(batch=batch)] == expected


def test_a_row_is_inputs_and_labels(folder):
    """One, or several by a slice or a list; a DataLoader collates them."""
    loaded = ddhub.load(folder)
    inputs, label, soft = loaded[3]
    assert torch.equal(inputs, loaded.inputs[3]) and int(label) == 3 and soft.shape == (10,)
    assert [part.shape[0] for part in loaded[2:5]] == [3, 3, 3]
    assert loaded[[1, 8]][1].tolist() == [1, 8]
    with pytest.raises(IndexError):
        loaded[10]
    batch = next(iter(torch.utils.data.DataLoader(loaded, batch_size=4)))
    assert batch[0].shape == (4, 1, 8, 8) and batch[1].tolist() == [0, 1, 2, 3]


def test_the_loss_is_the_protocols(folder):
    """Of a batch as it comes; zero where logits are the stored ones; soft labels are asked for where needed."""
    loaded = ddhub.load(folder)
    assert loaded.protocol.loss == "l1_logits"
    assert float(loaded.loss(loaded.soft_labels, loaded.labels, loaded.soft_labels)) == 0
    inputs, *rest = next(loaded.batches())
    logits = torch.zeros(len(inputs), 10)
    assert float(loaded.loss(logits, *rest)) == pytest.approx(float(rest[1].abs().mean()))
    with pytest.raises(UserError, match="learns from soft labels"):
        loaded.loss(logits, rest[0])


@pytest.mark.parametrize(("form", "temperature"), [("logits", 2.0), ("probabilities", 1.0)])
def test_a_soft_cross_entropy_learns_probabilities(folder, form, temperature):
    """Stored logits are softened first, as the evaluator does it."""
    loaded = ddhub.load(folder)
    record = loaded.manifest.model_copy(
        update={"labels": loaded.manifest.labels.model_copy(update={"form": form, "temperature": temperature})}
    )
    protocol = loaded.protocol.model_copy(update={"loss": "soft_ce"})
    stored = loaded.soft_labels if form == "logits" else loaded.soft_labels.softmax(1)
    changed = dataclasses.replace(loaded, manifest=record, protocol=protocol)
    logits = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(logits, (loaded.soft_labels / temperature).softmax(1))
    assert torch.allclose(changed.loss(logits, loaded.labels, stored), expected)


def test_a_set_moves_to_a_device_whole(folder):
    """Tensors, preprocessing and batches; the set that was moved stays where it was."""
    loaded = ddhub.load(folder)
    moved = loaded.to("meta")
    assert {part.device.type for part in (*moved[:], moved.images)} == {"meta"}
    assert loaded.inputs.device.type == "cpu" and loaded.to("cpu").inputs.device.type == "cpu"
    assert next(loaded.batches(device="cpu"))[0].device.type == "cpu"


def test_a_set_shows_itself(folder):
    """One line, and its pictures in a notebook."""
    loaded = ddhub.load(folder)
    assert repr(loaded) == f"<DistilledSet {folder}: 10 images of 1x8x8, 10 classes, soft labels (logits)>"
    assert "data:image/png;base64," in loaded._repr_html_()


def test_teachers_label_on_the_fly(folder):
    """On the set itself they say what the set stores, to the precision of its floats."""
    loaded = ddhub.load(folder)
    assert torch.allclose(loaded.teach(loaded.inputs), loaded.soft_labels, atol=0.01)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda images: images.float(), "go from 0 to 255"),
        (lambda images: images.long(), "not torch.int64"),
        (lambda images: images.float() / 0, "go from nan to"),
        (lambda images: images.numpy(), "torch.Tensor"),
        (lambda images: images.permute(0, 2, 3, 1), r"not \(10, 8, 8, 1\)"),
        (lambda images: images.expand(-1, 3, -1, -1), r"not \(10, 3, 8, 8\)"),
    ],
    ids=["0 to 255", "integers", "not finite", "array", "channels last", "channels"],
)
def test_what_are_no_pixels_is_refused(spoil, said, folder):
    """Each of these gave wrong inputs without a word."""
    loaded = ddhub.load(folder)
    with pytest.raises(UserError, match=said) as caught:
        loaded.preprocess(spoil(loaded.images))
    assert caught.value.next


def test_inputs_are_not_preprocessed_twice_nor_pixels_taught(folder):
    """Both gave wrong numbers; a little overshoot of resizing is none."""
    loaded = ddhub.load(folder)
    with pytest.raises(UserError, match="preprocess: takes uint8, or floats"):
        loaded.preprocess(loaded.inputs)
    with pytest.raises(UserError, match=r"teach: takes network inputs, and not torch\.uint8"):
        loaded.teach(loaded.images)
    assert loaded.preprocess(loaded.images / 255 * 1.2 - 0.1).isfinite().all()


def test_rows_come_in_torch_format(folder):
    """As `datasets` gives them to anybody."""
    row = ddhub.load(folder).dataset()[0]
    assert row["image"].shape == (1, 8, 8)
    assert row["soft_label"].dtype == torch.float32


def test_preprocessing_can_be_exported_and_mapped(folder):
    """Programs that are traced have no values that a check could read."""
    loaded = ddhub.load(str(folder))
    pixels = loaded.images[:4] / 255
    exported = torch.export.export(loaded.preprocess, (pixels,)).module()
    assert torch.allclose(exported(pixels), loaded.preprocess(pixels))
    assert torch.allclose(torch.func.vmap(loaded.preprocess)(pixels[None])[0], loaded.preprocess(pixels))
    with pytest.raises(UserError, match="teach: takes network inputs, and not ndarray"):
        loaded.teach(pixels.numpy())


def test_whitening_is_part_of_the_preprocessing(tmp_path, image_folder):
    """The module whitens test images as the set was whitened."""
    from conftest import QUICK

    source = f"source={{dataset: {image_folder}, resolution: 8, validation: 0.3}}"
    api.distill("digits_ipc1", out=tmp_path / "w", overrides=[*QUICK, source, "preprocess.zca=true"], threads=1)
    loaded = ddhub.load(tmp_path / "w")
    assert torch.allclose(loaded.preprocess(loaded.images), loaded.inputs, atol=1e-5)
    assert "zca" in loaded.preprocess.state_dict()


def test_a_damaged_set_does_not_load(folder):
    """The file is named."""
    (folder / "teachers" / "00.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"00\.safetensors: damaged"):
        ddhub.load(folder)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda loaded: loaded.to("gpu"), "device='gpu': not available here\n  next: device='cpu'$"),
        (lambda loaded: loaded.to(5), "device=5: a text or a device belongs here"),
        (lambda loaded: loaded.batches(device="gpu"), "device='gpu': not available here\n  next: device='cpu'$"),
        (lambda loaded: loaded.batches(device=torch.device("cuda:99")), "device='cuda:99': not available here"),
        (lambda loaded: loaded.batches("x"), "epochs='x': a whole number belongs here"),
        (lambda loaded: loaded.batches(batch=0), "batch=0: at least 1"),
        (lambda loaded: loaded.batches(epochs=-1), "epochs=-1: at least 0"),
        (lambda loaded: loaded.batches(epoch=1), "epoch: ddhub.DistilledSet.batches has no such argument; did you"),
        (lambda loaded: loaded.loss(torch.zeros(4, 1), *loaded[:4][1:]), r"loss: logits are \(4, 1\), and 10 classes"),
        (lambda loaded: loaded.loss(torch.zeros(4, 10), *loaded[:3][1:]), r"loss: labels are \(3,\), .* need \(4,\)"),
        (lambda loaded: loaded.loss(torch.zeros(4, 10), loaded.labels[:4], torch.zeros(10)), r"loss: soft are \(10,\)"),
        (lambda loaded: loaded.teach(torch.randn(2, 3, 8, 8)), r"shape \(B, 1, 8, 8\), and not \(2, 3, 8, 8\)"),
    ],
)
def test_wrong_arguments_of_a_loaded_set_are_sentences(call, said, folder):
    """At the call, and not at the first batch. They were errors of torch, or batch=0 took the protocol's."""
    with pytest.raises(UserError, match=said) as caught:
        call(ddhub.load(folder))
    assert caught.value.next


@pytest.mark.parametrize("name", ["to", "batches", "loss", "teach"])
def test_what_a_loaded_set_refuses_is_documented(name):
    """As for the functions of the package."""
    assert "\nRaises:\n    UserError: " in inspect.getdoc(getattr(ddhub.DistilledSet, name))
