"""Stored images and what networks see of them."""

import pytest
import torch
import torch.nn.functional as F

from ddhub.data import enlarge


@pytest.mark.parametrize(("small", "side"), [(16, 32), (4, 8), (21, 63), (8, 64)])
def test_enlarging_is_bilinear(small, side):
    images = torch.randn(3, 2, small, small)
    wanted = F.interpolate(images, side, mode="bilinear", align_corners=False)
    assert torch.allclose(enlarge.enlarged(images, side), wanted, atol=1e-5)


def test_gradients_reach_the_stored_pixels():
    images = torch.randn(2, 1, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda stored: enlarge.enlarged(stored, 8), images)


def test_whole_images_stay_the_same_tensor():
    inputs, pixels = torch.randn(2, 1, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert enlarge.enlarged(inputs, 8) is inputs and enlarge.enlarged(inputs, 4) is inputs  # nothing is reduced unasked
    assert enlarge.enlarged_pixels(pixels, 8) is pixels
    assert enlarge.reduced(pixels, 1) is pixels


def test_reducing_takes_means_and_rounds():
    pixels = torch.tensor([[[[0, 255], [255, 255]]]], dtype=torch.uint8)
    assert enlarge.reduced(pixels, 2).tolist() == [[[[191]]]]  # of 191.25


def test_enlarged_pixels_stay_in_range():
    pixels = torch.tensor([[[[0, 255], [255, 0]]]], dtype=torch.uint8)
    shown = enlarge.enlarged_pixels(pixels, 4)
    assert shown.dtype == torch.uint8 and int(shown.min()) == 0 and int(shown.max()) == 255
