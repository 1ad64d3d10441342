"""Protocols are data: what each changes in a set's own, and what a user may override."""

from pathlib import Path

import pytest

from ddhub.artifact import manifest
from ddhub.base.errors import UserError
from ddhub.evaluation import protocols
from ddhub.training.protocol import Protocol


@pytest.fixture
def record(finished):
    """The manifest of a set of digits with one teacher, whose own augmentation leaves flips out."""
    return manifest.read(finished)


def test_every_protocol_resolves_on_a_set_with_teachers(record):
    """Native is the set's own; the others change what they say."""
    found = protocols.resolve(record, list(protocols.PROTOCOLS), 25, [])
    assert found["native"] == record.protocol
    assert found["dynamic"].labels == "teachers" and found["dynamic"].epochs == record.protocol.epochs
    assert found["hard"].loss == "ce" and found["hard"].augment == record.protocol.augment
    assert found["dc-bench"].epochs == 1000 and found["dc-bench"].lr == 0.01
    assert found["rded"].loss == "kl" and found["rded"].batch == 10
    assert (found["rd3"].epochs, found["rd3"].batch, found["rd3"].labels) == (400, 50, "teacher")
    assert found["full"].epochs == 25 and found["full"].loss == "ce"


def test_nobody_mirrors_digits(record):
    """A set whose own augmentation has no flips gets none from any protocol; others keep theirs."""
    found = protocols.resolve(record, ["plain", "dc-bench", "rded"], 25, [])
    assert [found[name].augment for name in ("plain", "dc-bench", "rded")] == [
        "crop",
        "color_crop_cutout_scale_rotate",
        "cutmix",
    ]
    mirrored = record.model_copy(update={"protocol": record.protocol.model_copy(update={"augment": "dsa"})})
    assert protocols.resolve(mirrored, ["plain"], 25, [])["plain"].augment == "flip+crop"


def test_overrides_reach_all_protocols_or_the_one_they_name(record):
    """Full data is trained in its own way unless it is named."""
    found = protocols.resolve(record, ["native", "hard"], 25, ["epochs=7", "hard.lr=3e-3", "full.epochs=2"])
    assert (found["native"].epochs, found["hard"].epochs, found["full"].epochs) == (7, 7, 2)
    assert found["hard"].lr == 0.003 and found["native"].lr == record.protocol.lr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs=0", "epochs: expected whole number > 0 and <= 1,000,000,000"),
        ("epohcs=5", "did you mean 'epochs'"),
        ("hrad.epochs=5", "no protocol 'hrad'"),
        ("epochs", "expected KEY=VALUE"),
        ("lr=fast", "lr"),
        ("native.=1", "expected KEY=VALUE"),
    ],
)
def test_an_override_that_fits_nothing_is_refused(record, override, words):
    """In one sentence that names it."""
    with pytest.raises(UserError) as caught:
        protocols.resolve(record, ["native", "hard"], 25, [override])
    assert words in str(caught.value) and "--set" in str(caught.value)
    assert str(caught.value.next).startswith("--set ") and "native.lr=0.01" not in str(caught.value.next)


def test_a_set_without_teachers_cannot_be_labelled_on_the_fly(record):
    """Nor can one without soft labels be trained on them."""
    bare = record.model_copy(update={"teachers": []})
    with pytest.raises(UserError, match="ships no teachers"):
        protocols.resolve(bare, ["dynamic"], 25, [])
    hard = record.model_copy(update={"labels": record.labels.model_copy(update={"form": "hard"})})
    with pytest.raises(UserError, match="stores no logits"):
        protocols.resolve(hard, ["datm"], 25, [])


def sized(record, classes, side, ipc, home="convnet3"):
    """The manifest of a set of another size that mirrors its images."""
    teachers = [record.teachers[0].model_copy(update={"arch": home})]
    source = record.source.model_copy(update={"resolution": side, "channels": 3})
    protocol = record.protocol.model_copy(update={"augment": "dsa"})
    names = [f"class {number}" for number in range(classes)]
    changes = {"classes": names, "ipc": ipc, "source": source, "protocol": protocol, "teachers": teachers}
    return record.model_copy(update=changes)


@pytest.mark.parametrize(
    ("classes", "side", "ipc", "arch", "lr", "batch", "augment"),
    [
        (10, 32, 1, "convnet4", 1e-3, 10, "flip+cutmix"),
        (10, 32, 50, "resnet18", 1e-3, 100, "flip+cutmix"),
        (100, 32, 10, "resnet18", 1e-3, 100, "flip+cutmix"),
        (100, 32, 10, "convnet3", 2e-3, 25, "flip+cutmix"),
        (200, 64, 50, "convnet4", 1e-3, 100, "flip+cutmix"),
        (1000, 224, 10, "timm:efficientnet_b0", 2e-3, 100, "shuffle+rrc50+flip+cutmix"),
        (1000, 224, 10, "timm:mobilenetv2_100", 2.5e-3, 100, "shuffle+rrc50+flip+cutmix"),
        (1000, 224, 50, "vit_tiny", 1e-4, 200, "shuffle+rrc50+flip+cutmix"),
        (10, 224, 10, "vgg11", 5e-4, 50, "shuffle+rrc50+flip+cutmix"),
    ],
)
def test_rded_trains_as_its_code_does(record, classes, side, ipc, arch, lr, batch, augment):
    """Rate by architecture, batch by size, crops and shuffling where images are made of patches."""
    made = sized(record, classes, side, ipc)
    found = protocols.resolve(made, ["rded"], 25, [])["rded"]
    own = protocols.for_architecture(made, "rded", found, arch, [])
    assert (own.lr, own.batch, own.augment) == (lr, batch, augment)
    assert (own.optimizer, own.temperature, own.epochs) == ("adamw", 20, 300)
    told = protocols.resolve(made, ["rded"], 25, ["lr=0.5", "rded.batch=7"])["rded"]
    assert protocols.for_architecture(made, "rded", told, arch, ["lr=0.5", "rded.batch=7"]) == told


def test_rd3_is_the_same_for_all_sets(record):
    """Whatever their size and architecture."""
    found = [protocols.resolve(sized(record, *size), ["rd3"], 25, [])["rd3"] for size in ((10, 32, 1), (1000, 224, 50))]
    assert found[0] == found[1]
    assert (found[0].optimizer, found[0].lr, found[0].augment) == ("adam", 1e-3, "rrc+flip+cutmix")


def test_the_page_of_protocols_says_each_with_its_version():
    """docs/protocols.md has a section per protocol."""
    page = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()
    for name, protocol in protocols.PROTOCOLS.items():
        assert f"## `{name}`, version {protocol.version}\n" in page
    assert f"## `full`, version {protocols.version('full')}\n" in page


def test_older_manifests_protocols_still_read():
    """What was added since has the value that they meant."""
    old = {"loss": "l1_logits", "augment": "dsa", "optimizer": "sgd", "lr": 0.02, "epochs": 1000, "batch": 256}
    assert Protocol.model_validate(old).labels == "stored"
