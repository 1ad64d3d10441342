"""Selections of real images, checked on points of a line."""

import pytest
import torch

from ddhub.data import selection

LINE = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])


def test_herding_follows_the_mean():
    """The mean of 0, 1, 2, 3, 10 is 3.2: first 3, then what keeps the mean nearest."""
    assert selection.herding(LINE, 2, seed=0).tolist() == [3, 2]
    assert sorted(selection.herding(LINE, 5, seed=0).tolist()) == [0, 1, 2, 3, 4]


def test_k_center_takes_the_farthest():
    """Wherever it starts, the outlier is among the first two."""
    for seed in range(5):
        chosen = selection.kcenter(LINE, 3, seed).tolist()
        assert 4 in chosen[:2] and len(set(chosen)) == 3


def test_k_means_takes_one_image_of_each_cluster():
    """Two clusters: the outlier, and the middle of the rest."""
    assert sorted(selection.kmeans(LINE, 2, seed=0).tolist()) in ([1, 4], [2, 4])
    assert len(set(selection.kmeans(torch.zeros(6, 2), 3, seed=0).tolist())) == 3


def test_el2n_takes_the_highest_scores():
    assert selection.el2n(torch.tensor([0.1, 0.9, 0.5, 0.9]), 3, seed=0).tolist() == [1, 3, 2]


def test_easy_keeps_the_lowest_scores_of_a_draw():
    """Of all images where no more are drawn, the lowest; of many, other ones by another seed, mostly low."""
    assert sorted(selection.easy(torch.tensor([0.9, 0.1, 0.5, 0.2]), 2, seed=0).tolist()) == [1, 3]
    many = torch.linspace(0, 1, 1000)
    chosen = [selection.easy(many, 20, seed) for seed in range(2)]
    assert not torch.equal(*chosen) and all(many[rows].mean() < 0.2 for rows in chosen)
    assert all(len(set(rows.tolist())) == 20 for rows in chosen)


def test_ccs_covers_the_scores_and_leaves_out_the_hardest():
    """Twenty scores, of which the six highest count as noise; of the others one in every part of the range."""
    values = torch.cat([torch.full((10,), 0.0), torch.tensor([0.3, 0.5, 0.5, 0.7]), torch.linspace(0.9, 1.4, 6)])
    for seed in range(3):
        chosen = selection.ccs(values, 4, seed)
        assert sorted(values[chosen].tolist()) == pytest.approx([0.0, 0.3, 0.5, 0.7])
    assert sorted(selection.ccs(values, 20, 0).tolist()) == list(range(20))
    assert len(set(selection.ccs(torch.zeros(5), 3, 0).tolist())) == 3
