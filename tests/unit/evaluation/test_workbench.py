"""What the rows of one evaluation share."""

from types import SimpleNamespace

import torch

from ddhub.evaluation import workbench
from ddhub.evaluation.dynamic_labels import ViewLabels
from ddhub.evaluation.request import Cell


class Counted:
    """Teachers that count how often they are asked."""

    asked = 0

    def label(self, inputs, which=None):
        self.asked += 1
        return inputs.flatten(1)[:, :3] + (which or 0)


def test_views_that_another_row_saw_are_labelled_once():
    """The same labels, and the teachers are asked again for other views alone."""
    teachers, cell = Counted(), Cell("convnet", "dynamic", "distilled", 0)
    protocol = SimpleNamespace(labels="teachers")
    bench = SimpleNamespace(protocol=lambda cell: protocol, teachers=teachers, view_labels=ViewLabels())
    views = torch.rand(2, 4, 1, 4, 4)
    for _network in range(3):
        label = workbench.teach(bench, cell)
        assert all(torch.equal(label(each), each.flatten(1)[:, :3]) for each in views)
    assert teachers.asked == 2
    assert torch.equal(workbench.teach(bench, cell)(views[0] + 1), (views[0] + 1).flatten(1)[:, :3])
    assert teachers.asked == 3


def test_rows_whose_labels_are_stored_ask_no_teacher():
    """Nothing labels their views."""
    bench = SimpleNamespace(protocol=lambda cell: SimpleNamespace(labels="stored"))
    assert workbench.teach(bench, Cell("convnet", "native", "distilled", 0)) is None
