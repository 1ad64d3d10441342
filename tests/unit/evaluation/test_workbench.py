"""What the rows of one evaluation share."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ddhub.artifact import folder as folders
from ddhub.base.resources import Resources
from ddhub.data import enlarge
from ddhub.data.preprocess import Preprocess
from ddhub.evaluation import stored_form, workbench
from ddhub.evaluation.baseline_images import Pool, choose
from ddhub.evaluation.dynamic_labels import ViewLabels
from ddhub.evaluation.request import Cell, EvaluationRequest
from ddhub.training import memory
from ddhub.training.protocol import Protocol


class Counted:
    """Teachers that count how often they are asked."""

    asked = 0

    def label(self, inputs, which=None):
        self.asked += 1
        return inputs.flatten(1)[:, :3] + (which or 0)


def test_views_that_another_row_saw_are_labelled_once():
    """The same labels, and the teachers are asked again for other views alone."""
    teachers, cell = Counted(), Cell("convnet", "dynamic", "distilled", 0)
    protocol = Protocol(loss="l1_logits", lr=0.1, epochs=1, labels="teachers")
    bench = SimpleNamespace(protocol=lambda cell: protocol, teachers=teachers, view_labels=ViewLabels(10**6))
    views = torch.rand(2, 4, 1, 4, 4)
    for _network in range(3):
        label = workbench.teach(bench, cell)
        assert all(torch.equal(label(each), each.flatten(1)[:, :3]) for each in views)
    assert teachers.asked == 2
    assert torch.equal(workbench.teach(bench, cell)(views[0] + 1), (views[0] + 1).flatten(1)[:, :3])
    assert teachers.asked == 3


@pytest.mark.parametrize("classes", [10, 1000])
def test_the_cache_of_labels_keeps_to_its_bytes(classes):
    """Whatever the number of classes. What it holds is not asked for again, and what it lacks is."""
    teachers = SimpleNamespace(label=lambda inputs, which: torch.zeros(len(inputs), classes))
    cache = ViewLabels(50_000)
    for seed in range(100):
        assert cache.of(teachers, None, torch.full((5, 1, 2, 2), float(seed))).shape == (5, classes)
    assert 0 < sum(labels.nbytes for labels in cache.known.values()) <= cache.taken <= 50_000
    assert len(cache.known) < 100


def test_labels_of_views_are_part_of_the_budget(folder):
    """A tenth of `--memory` is theirs. Batches have the rest, or all where no views are labelled."""

    def built(protocol):
        cell = Cell("convnet2_w8", protocol, "distilled", 0)
        asked = Resources(threads=1, memory="100MB")
        return workbench.build(
            folders.read(folder), EvaluationRequest(str(folder), Path, "set", (cell,), (), None, None, asked)
        )

    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "fit_to_budget", lambda decisions, *rest: given.append(rest[-1]) or decisions)
        assert built("dynamic").view_labels.most == 10**7
        built("native")
    assert given == [9 * 10**7, 10**8]


def test_rows_whose_labels_are_stored_ask_no_teacher():
    """Nothing labels their views."""
    bench = SimpleNamespace(protocol=lambda cell: Protocol(loss="ce", lr=0.1, epochs=1, labels="stored"))
    assert workbench.teach(bench, Cell("convnet", "native", "distilled", 0)) is None


@pytest.mark.parametrize(("data", "factor"), [("random", 2), ("random_bytes", 1)])
def test_real_images_have_the_detail_of_the_sets_own_unless_bytes_are_compared(data, factor):
    """Four images, of a set of half the side whose bytes buy two whole ones of each class."""
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 2
    pool = Pool(images, labels, ("a", "b"), torch.arange(12), lambda images: images, lambda images, label: images, 2)
    stored = {"images": int(4.5 * pool.bytes_each), "labels": 0, "preprocess": 0, "teachers": 0}
    record = SimpleNamespace(counts=[2, 2], bytes=SimpleNamespace(**stored), preprocess=SimpleNamespace(factor=2))
    record.labels = SimpleNamespace(form="hard")
    found = SimpleNamespace(manifest=record, preprocess=Preprocess((0.5,), (0.25,)))
    protocols = {"native": SimpleNamespace(labels="hard")}
    bench = SimpleNamespace(set=found, pool=pool, protocols=protocols, protocol=lambda cell: protocols["native"])
    examples = workbench.examples(bench, Cell("convnet", "native", data, 0))
    drawn = choose(data, pool, [2, 2], 0)
    small = found.preprocess.inputs(enlarge.reduced(images[drawn], factor))
    assert torch.equal(examples.images, enlarge.enlarged(small, 8)) and torch.equal(examples.labels, labels[drawn])


@pytest.mark.parametrize("top_k", [None, 2])
def test_real_images_get_labels_with_the_losses_of_the_sets_own(top_k):
    """Half precision and, with top-k labels, the mean of the others in their place."""
    soft = torch.tensor([[1.0, 5.0, 3.0, 0.5], [2.0, -1.0, 7.0001, 0.5]])
    labels = SimpleNamespace(teachers="mean", top_k=top_k)
    teachers = SimpleNamespace(label=lambda inputs, which: soft)
    found = SimpleNamespace(manifest=SimpleNamespace(labels=labels))
    kept = stored_form.soft_labels(found, teachers, torch.zeros(2, 1, 4, 4))
    wanted = [[1.0, 5.0, 3.0, 0.5], [2.0, -1.0, 7.0, 0.5]]
    if top_k:
        rest = (1.0 + 0.5 - 1.0 + 0.5) / 4
        wanted = [[rest, 5.0, 3.0, rest], [2.0, rest, 7.0, rest]]
    assert torch.allclose(kept, torch.tensor(wanted), atol=1e-6)
