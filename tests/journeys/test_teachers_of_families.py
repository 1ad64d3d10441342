"""Teachers of several families: they take turns, label as a mean over families, and travel with the set."""

import pytest
import torch

import ddhub
from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.base.errors import UserError
from ddhub.distillation import recipes
from ddhub.reports import verify
from ddhub.training import device, teachers

FAMILIES = ["vgg11_in_w4", "convnet2_w4"]
ONE = [
    *("teachers.epochs=1", "evaluate.epochs=2", "evaluate.packaging_seeds=1"),
    "method={name: apm, iterations: 4, init: easy, student: {arch: convnet2_w4, epochs: 2}}",
]
TWO = [*ONE, f"teachers.arch=[{', '.join(FAMILIES)}]", "teachers.count=4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set with two teachers of each family."""
    folder = tmp_path_factory.mktemp("families") / "set"
    api.distill("digits_ipc1", out=folder, overrides=TWO, threads=1)
    return folder


def test_the_set_ships_them_all_and_its_labels_are_their_mean(made):
    """Each with its own accuracy; whoever loads the set can let them label."""
    found = folders.read(made)
    assert [each.arch for each in found.manifest.teachers] == FAMILIES * 2
    assert found.manifest.home_arch == FAMILIES[0]
    shipped = teachers.load(found.teacher_files, decisions=device.Decisions(), of=found.sizes)
    each = torch.stack([shipped.label(found.inputs, number) for number in range(4)])
    assert torch.allclose(shipped.label(found.inputs), each.mean(0), atol=1e-5)
    assert torch.allclose(found.soft_labels, each.mean(0), atol=0.01)
    loaded = ddhub.load(made)
    assert torch.allclose(loaded.teach(loaded.inputs), each.mean(0), atol=1e-4)
    assert verify.faults(made) == []
    card = (made / "README.md").read_text()
    assert card.index("2 x `vgg11_in_w4`") < card.index("2 x `convnet2_w4`") and "dynamic" in card
    assert "The teachers are of several architectures." in card and "safetensors:" not in card


def test_both_families_are_evaluated_with_labels_of_every_view(made):
    """The set's own is the first; a network of the second is of another family."""
    result = api.evaluate(
        str(made), FAMILIES, protocols=["dynamic"], seeds=1, threads=1, overrides=["min_steps=4", "epochs=2"]
    )
    assert {row.arch: row.optimizer for row in result.rows} == {FAMILIES[0]: "sgd", FAMILIES[1]: "adamw"}


def test_teachers_of_one_family_are_cached_for_all_lists(tmp_path, capsys):
    """The first of a family is the same network in every recipe."""
    api.distill("digits_ipc1", out=tmp_path / "one", overrides=[*ONE, f"teachers.arch={FAMILIES[0]}"], threads=1)
    capsys.readouterr()
    api.distill("digits_ipc1", out=tmp_path / "two", overrides=[*TWO, "teachers.count=2"], threads=1)
    told = capsys.readouterr().err
    assert "teacher 2 of 2: " in told and "teacher 1 of 2: " not in told


def test_groups_and_workers_have_them_all(tmp_path):
    """And the plan counts the networks of both."""
    groups = [*TWO, "ipc=2", "groups=2"]
    api.distill("digits_ipc1", out=tmp_path / "two", overrides=groups, workers=2)
    assert [each.arch for each in folders.read(tmp_path / "two").manifest.teachers] == FAMILIES * 2
    works = {
        row["phase"]: row["works"] for row in api.plan("digits_ipc1", overrides=groups, threads=1).to_dict()["phases"]
    }
    assert [each["name"] for each in works["teachers"]] == ["teachers", "their scores"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("teachers.count=3", "teachers: count: 3 is no multiple of the 2 architectures"),
        ("teachers.arch=[vgg11_in_w4, vgg11_in_w4]", "teachers: arch: names vgg11_in_w4 twice"),
        ("teachers.arch=[]", "teachers.arch: names no architecture"),
        ("teachers.arch=[convnet2_w4, vgg12_in]", "did you mean 'vgg11_in'"),
    ],
)
def test_lists_that_do_not_fit_are_refused(change, message):
    """Before anything runs."""
    with pytest.raises(UserError, match=message):
        api.plan("digits_ipc1", overrides=[*TWO, change])


def test_a_recipe_of_one_family_is_what_it_was():
    """Its content, which is hashed, is the name alone."""
    assert recipes.read("digits_ipc1").content()["teachers"]["arch"] == "convnet2_w32"


def test_a_method_that_needs_teachers_says_so_where_there_are_none(tmp_path):
    """The plan is made all the same."""
    none = [*ONE, "teachers.count=0", "labels.form=hard"]
    phases = {row["phase"]: row for row in api.plan("digits_ipc1", overrides=none, threads=1).to_dict()["phases"]}
    assert phases["teachers"]["works"] == [] and phases["distill"]["works"]
    with pytest.raises(UserError, match="needs teachers"):
        api.distill("digits_ipc1", out=tmp_path / "set", overrides=none, threads=1)
