"""Networks of other families than a set's own are trained in a way of their own, distilled and random alike."""

from dataclasses import replace

import pytest

from ddhub import api
from ddhub.training import architectures, fit, optimisation
from ddhub.training.device import Decisions
from ddhub.training.network import network
from ddhub.training.protocol import Protocol

pytestmark = pytest.mark.slow

OWN = Protocol(loss="l1_logits", augment="none", lr=0.02, epochs=4, batch=8, min_steps=60)
OPTIMISER = {"optimizer", "lr", "weight_decay", "schedule"}


@pytest.mark.parametrize(
    ("arch", "family"),
    [
        ("convnet", "convnet"),
        ("convnet3_w32", "convnet"),
        ("resnet18", "resnet"),
        ("resnet18_in_w16", "resnet"),
        ("timm:resnet50", "resnet"),
        ("vgg11_in", "vgg"),
        ("timm:vgg16", "vgg"),
        ("alexnet_in_w32", "alexnet"),
        ("vit_tiny_w64", "vision_transformer"),
        ("timm:vit_small_patch16_224", "vision_transformer"),
        ("timm:mobilenetv3_small_050", "mobilenetv3"),
    ],
)
def test_depth_width_and_norm_make_no_other_family(arch, family):
    """A family is what the field calls one: all ConvNets, all ResNets, all VGGs, all ViTs."""
    assert architectures.family(arch) == family


@pytest.mark.parametrize("name", architectures.TABLE)
def test_a_name_of_ours_is_of_the_family_that_timm_has_it_in(name):
    """Where timm has the network, our short name is of the same family as timm's."""
    theirs = {"resnet": "timm:resnet18", "vgg": "timm:vgg11", "vision_transformer": "timm:vit_tiny_patch16_224"}
    family = architectures.family(name)
    assert family in ("convnet", "alexnet") or architectures.family(theirs[family]) == family


@pytest.mark.parametrize("arch", ["resnet18_w4", "resnet18_in_w4", "vgg11_in_w4", "vgg11_w4", "alexnet_in_w8"])
def test_other_families_have_an_optimiser_of_their_own(arch):
    """AdamW with a cosine, and more steps; labels, loss, augmentation and batches are the set's."""
    net = network(arch, 3, 1, 16, Decisions())
    found = optimisation.for_other_family(OWN, net.skeleton)
    family = fit.family_of(net, found)
    assert (found.lr, family.optimizer, family.lr, family.schedule) == (3e-3, "adamw", None, "cosine")
    assert family.weight_decay == 0.05 and fit.plan(16, found, family) == (30, 2)
    assert found.model_copy(update=OWN.model_dump(include=OPTIMISER)) == OWN.model_copy(update={"patient": True})


@pytest.mark.parametrize("arch", ["convnet2_w4", "vit_tiny_w12"])
def test_a_chosen_schedule_counts_beside_sgd_too(arch):
    """Every other setting of the family stays."""
    net = network(arch, 3, 1, 16, Decisions())
    before, after = (fit.family_of(net, OWN.model_copy(update={"schedule": name})) for name in (None, "cosine_to_zero"))
    assert after == replace(before, schedule="cosine_to_zero") != before


def test_transformers_get_more_steps_and_nothing_else():
    """They have AdamW everywhere, at a rate of their own."""
    net = network("vit_tiny_w12", 3, 1, 16, Decisions())
    found = optimisation.for_other_family(OWN, net.skeleton)
    assert found == OWN.model_copy(update={"patient": True})
    family, own = fit.family_of(net, found), fit.family_of(net, OWN)
    assert family == replace(own, patient=True) and fit.plan(16, found, family) == (30, 2)
    assert (family.optimizer, family.lr) == ("adamw", 5e-4)


def test_what_a_user_decides_stays():
    """A rate; an optimiser with its own rate and schedule; epochs, also where they are few."""
    net, told = architectures.build("alexnet_in_w8", 3, 1, 8, seed=0), OWN.model_copy(update={"lr": 0.3})
    assert optimisation.for_other_family(told, net, {"lr"}).lr == 0.3
    sgd = optimisation.for_other_family(told, net, {"optimizer"})
    assert sgd == told.model_copy(update={"patient": True})
    assert optimisation.for_other_family(told, net, {"epochs"}).patient is False


def test_full_data_trains_other_families_in_the_same_way(folder):
    """A share of full data compares two trainings by one rule. Plain SGD leaves a network without norms at chance."""
    report = api.evaluate(
        str(folder), ["alexnet_in_w8"], baselines=["full"], overrides=["native.min_steps=5"], seeds=1, threads=1
    ).to_dict()
    (full,) = [row for row in report["rows"] if row["data"] == "full"]
    assert (full["optimizer"], full["lr"], full["protocol_version"]) == ("adamw", 3e-3, 2)


def test_rows_say_what_was_used_and_the_sets_own_family_keeps_its_protocol(folder):
    """Of one set: its own network by the manifest, another family by its row, the same for distilled and random."""
    report = api.evaluate(
        str(folder), ["convnet2_w4", "alexnet_in_w8"], protocols=["native", "dc-bench"],
        overrides=["dc-bench.epochs=2", "native.min_steps=5"], seeds=1, threads=1,
    ).to_dict()  # fmt: skip
    rows = {(row["arch"], row["protocol"], row["data"]): row for row in report["rows"]}
    assert len(rows) == 8
    for data in ("distilled", "random"):
        own, other = rows["convnet2_w4", "native", data], rows["alexnet_in_w8", "native", data]
        assert (own["optimizer"], own["lr"], own["epochs"], own["settings"]["loss"]) == ("sgd", 0.02, 2, "l1_logits")
        assert own["family"]["patient"] is False and own["family"]["schedule"] == "half"
        assert (other["optimizer"], other["lr"], other["epochs"]) == ("adamw", 3e-3, 5)
        assert other["settings"]["loss"] == "l1_logits" and other["family"]["schedule"] == "cosine"
        assert other["family"]["source"] == "the protocol" and "momentum" in own["family"]["source"]
        bench = rows["alexnet_in_w8", "dc-bench", data]
        assert (bench["optimizer"], bench["lr"], bench["epochs"], bench["settings"]["loss"]) == ("sgd", 0.01, 2, "ce")
