"""A first recipe for somebody's own pictures: what is chosen follows from what they are and from the time."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ddhub.base.errors import UserError
from ddhub.base.strict_yaml import parse_yaml
from ddhub.data.first_look import Holdings
from ddhub.data.spec import SourceSpec
from ddhub.distillation import first_recipe
from ddhub.distillation.first_recipe import PictureOptions
from ddhub.distillation.plan import planning
from ddhub.training import architectures

PHOTOS = Holdings(
    SourceSpec(dataset="photos", path="/here/photos", image="image", label="label"),
    ("cat", "dog", "owl", "yak"),
    (60, 60, 60, 60),
    side=120,
    uniform=False,
    channels=3,
    tested=False,
)


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """A machine whose seconds are the parameters of the network, so that no try on noise decides the test."""
    tried = []

    def plan(recipe, resources, told):
        work = int(recipe.teachers.arch.rpartition("_w")[2]) * recipe.source.resolution**2 / 64
        assert told.side == recipe.source.resolution
        spent = {
            "teachers": work * recipe.teachers.count * recipe.teachers.epochs / 1500,
            "distill": work * recipe.method["iterations"] / 200,
            "packaging": work * recipe.evaluate.packaging_seeds * recipe.evaluate.epochs / 3000,
        }
        return SimpleNamespace(phases=[SimpleNamespace(phase=a, wall_seconds=b) for a, b in spent.items()])

    monkeypatch.setattr(planning, "plan", plan)
    monkeypatch.setattr(planning, "try_out", lambda recipe, *_: tried.append(recipe.teachers.arch))
    return tried


def chosen(held: Holdings = PHOTOS, **asked) -> first_recipe.Choice:
    return first_recipe.start(held, PictureOptions(**asked))


def test_the_recipe_is_yaml_with_comments_that_reads_back():
    """What is written is what is chosen; every part of it says what it is for."""
    found = chosen()
    recipe = found.recipe
    assert (recipe.name, recipe.source.path, recipe.source.dataset) == ("photos", "/here/photos", "photos")
    assert recipe.ipc == 5 and recipe.method["name"] == "apm"
    assert recipe.method["blend"] == 0.25  # sets of the whole way taught next to nothing from some small folders
    assert found.text.count("#") > 10
    assert all(len(line) <= 120 for line in found.text.splitlines())


def test_a_test_part_is_held_out_only_where_there_is_none():
    """The split of a source that has one is tested on."""
    assert chosen().recipe.source.hold_out == first_recipe.HOLD_OUT
    assert any("held out before anything else" in line for line in chosen().reasons)
    tested = chosen(replace(PHOTOS, tested=True))
    assert tested.recipe.source.hold_out is None and tested.recipe.source.test == "test"
    assert not any("held out" in line for line in tested.reasons)


@pytest.mark.parametrize("side", range(4, 10))
def test_a_network_for_pictures_of_any_side_runs(side):
    """Those of 4 to 7 pixels had a ConvNet of one block, which is no architecture."""
    arch = chosen(replace(PHOTOS, side=side, uniform=True)).recipe.teachers.arch
    architectures.try_out(arch, 4, 3, side)


def test_flips_are_a_stated_default():
    """On, and said so; off where asked."""
    assert "flip" in chosen().recipe.augment.split("_")
    assert any("--no-flips" in line for line in chosen().reasons)
    without = chosen(flips=False)
    assert without.recipe.augment == "color_crop_cutout_scale_rotate"
    assert any("without flips" in line for line in without.reasons)


def test_more_time_buys_larger_networks_and_pictures(seconds):
    """The work grows with the minutes, and never past them where something smaller is known."""
    found = [chosen(minutes=minutes) for minutes in (10, 20, 40, 200)]
    works = [start.seconds for start in found]
    assert works == sorted(works) and len(set(works)) == 4
    assert all(start.seconds <= 60 * minutes for start, minutes in zip(found, (10, 20, 40, 200), strict=True))
    assert found[-1].recipe.source.resolution == 64


def test_too_little_time_takes_the_least_and_says_so():
    """A recipe all the same: whoever waits longer has a set."""
    found = chosen(minutes=0.1)
    assert found.recipe.method["iterations"] == 12
    assert (found.recipe.teachers.count, found.recipe.teachers.epochs) == (1, 10)
    time, few = found.reasons[-2:]
    assert "more than the 0.1 minutes asked for" in time
    needed = int(re.search(r"12 barely move the images. --minutes (\d+) allows 40", few)[1])
    assert chosen(minutes=needed).recipe.method["iterations"] >= 40
    assert not any("few updates" in line for line in chosen(minutes=needed).reasons)


@pytest.mark.parametrize("minutes", [2, 3, 5, 15, 60])
def test_most_of_the_time_goes_into_distilling(minutes):
    """Updates fill the time; the check of packaging keeps to its share, with fewer networks where it must."""
    found = chosen(minutes=minutes)
    parts = {name: first_recipe_seconds(found, name) for name in ("distill", "packaging")}
    assert parts["distill"] > found.seconds / 2
    assert parts["packaging"] <= max(first_recipe.CHECKED * 60 * minutes, found.seconds / 5)
    assert 0.75 * 60 * minutes < found.seconds <= 60 * minutes


def test_what_is_chosen_was_tried_on_noise(seconds):
    """The time that is told rests on a try of the network that is chosen; larger ones that cannot fit are not tried."""
    found = chosen(minutes=20)
    assert seconds[-1] == found.recipe.teachers.arch and len(seconds) == 1


def first_recipe_seconds(found: first_recipe.Choice, phase: str) -> float:
    """The seconds of a phase by the forecast."""
    told = planning.SourceSize(1, 1, found.recipe.source.resolution)
    return next(row.wall_seconds for row in planning.plan(found.recipe, None, told).phases if row.phase == phase)


def test_classes_too_small_to_be_divided_are_refused_before_anything_is_chosen():
    """Training, validation and test take an image each."""
    with pytest.raises(UserError, match=r"class 'dog' has 2 images; training, validation and test take 3"):
        chosen(replace(PHOTOS, counts=(60, 2, 60, 60)))
    assert chosen(replace(PHOTOS, counts=(60, 2, 60, 60), tested=True)).recipe.ipc == 1


@pytest.mark.parametrize(
    ("held", "side"),
    [
        (replace(PHOTOS, side=28, uniform=True, channels=1), 28),
        (replace(PHOTOS, side=48, uniform=False), 32),
        (replace(PHOTOS, side=20, uniform=False), 16),
        (replace(PHOTOS, side=5, uniform=False), 8),
    ],
)
def test_pictures_are_not_enlarged_without_need(held, side):
    """Squares of one size stay as they are; others become the next smaller usual size."""
    assert chosen(held, minutes=10**6).recipe.source.resolution == side


@pytest.mark.parametrize(("count", "ipc"), [(3, 1), (8, 1), (12, 2), (60, 5), (1000, 10)])
def test_images_per_class_follow_the_smallest_class(count, ipc):
    """Some real images for each that is made; one at least."""
    assert chosen(replace(PHOTOS, counts=(5000, count, 5000, 5000))).recipe.ipc == ipc


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("photos", "photos"),
        ("my photos (2)", "my_photos_2"),
        ("Mes photos été", "Mes_photos_ete"),
        ("...", "pictures"),
        ("猫", "pictures"),
    ],
)
def test_any_folder_gives_a_valid_name(folder, name):
    """And the recipe keeps the folder's own name as YAML that reads back."""
    held = replace(PHOTOS, spec=PHOTOS.spec.model_copy(update={"dataset": folder, "path": f"/here/{folder}: #1"}))
    found = chosen(held)
    assert found.name == name == found.recipe.name
    assert parse_yaml(found.text, "x")["source"]["path"] == f"/here/{folder}: #1"
    assert found.recipe.source.dataset == folder


def test_what_the_user_decided_is_kept():
    """Images per class, pixels and name."""
    recipe = chosen(ipc=3, resolution=48, name="mine").recipe
    assert (recipe.ipc, recipe.source.resolution, recipe.name) == (3, 48, "mine")
