"""What synthetic images start as."""

from dataclasses import replace

import pytest
import torch

from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.distillation import pipeline, recipes
from ddhub.distillation.methods import apm

pytestmark = pytest.mark.slow

QUICK = ["teachers={arch: convnet2_w8, count: 2, epochs: 3}", "method={name: apm, init: easy}", "ipc=4", "groups=2"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Four easy images of every digit, as two groups."""
    made, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("task")
    made.setenv("DDHUB_HOME", str(folder / "home"))
    yield pipeline.prepare(recipes.read("digits_ipc1", QUICK), folder / "out", Resources(threads=1), 120)[0]
    made.undo()


def errors(task, rows):
    """The mean EL2N score of a class's rows."""
    inputs, label = task.preprocess.inputs(task.source.images[rows]), int(task.source.labels[rows[0]])
    return task.teachers.el2n_scores(inputs, label).mean().item()


def test_easy_images_are_those_of_a_draw_that_teachers_err_on_least(task):
    """Training images, as many of every class, none twice, of smaller errors than random ones."""
    usual = replace(task, config=apm.Config())
    rows = task.initial_rows
    assert task.source.labels[rows].tolist() == [label for label in range(10) for _ in range(4)]
    assert set(rows.tolist()) <= set(task.training.tolist()) and len(set(rows.tolist())) == 40
    pairs = list(zip(rows.split(4), usual.initial_rows.split(4), strict=True))
    assert sum(errors(task, easy) < errors(task, drawn) for easy, drawn in pairs) >= 8
    assert torch.equal(task.start("easy")[0], task.preprocess.inputs(task.source.images[rows]))
    other = replace(task, recipe=task.recipe.model_copy(update={"seed": 1}))
    assert not torch.equal(other.initial_rows, rows)


def test_groups_share_the_easy_images_out(task):
    parts = [task.group(number, 1).initial_rows for number in range(2)]
    assert sorted(torch.cat(parts).tolist()) == sorted(task.initial_rows.tolist())


def test_a_class_with_few_images_gives_what_it_has(task):
    """Nothing is left to choose where as many are asked for as there are."""
    few = torch.cat([task.training[task.source.labels[task.training] == label][:4] for label in range(10)])
    assert sorted(replace(task, training=few).initial_rows.tolist()) == sorted(few.tolist())


def test_easy_images_need_teachers(task):
    with pytest.raises(UserError, match="needs teachers"):
        _ = replace(task, teachers=None).initial_rows
