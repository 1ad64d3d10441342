"""Preprocessing: statistics and whitening against theory, and the way back to pixels."""

import pytest
import torch

from ddhub.data import preprocess


def pictures(count: int = 300, channels: int = 3, side: int = 4, seed: int = 0) -> torch.Tensor:
    """uint8 images whose neighbouring pixels resemble each other, as real ones do."""
    noise = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
    smooth = noise.mean((2, 3), keepdim=True) * 4 + noise.cumsum(3) * 0.3
    return ((smooth + 2) * 64).clamp(0, 255).round().to(torch.uint8)


EVERY = torch.arange(300)


@pytest.fixture(params=[False, True], ids=["mean-std", "zca"])
def fitted(request):
    return preprocess.fit(pictures(), EVERY, zca=request.param)


def test_statistics_are_those_of_the_chosen_images():
    """Mean and (biased) standard deviation per channel, of the rows in the index and no others."""
    images, index = pictures(), torch.tensor([3, 7, 250, 11])
    found = preprocess.fit(images, index, zca=False)
    unit = images[index].double() / 255
    torch.testing.assert_close(torch.tensor(found.mean).double(), unit.mean((0, 2, 3)), rtol=1e-6, atol=0)
    spread = unit.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(found.std).double(), spread, rtol=1e-6, atol=0)
    assert found.zca is None and found.zca_mean is None


def test_statistics_do_not_depend_on_the_order():
    """Integer sums are exact: any order of the images, and more of them than fit one chunk, give the same bits."""
    images = pictures(5000, 1)
    turned = preprocess.fit(images, torch.arange(5000).flip(0), zca=False)
    assert preprocess.fit(images, torch.arange(5000), zca=False) == turned


def test_a_constant_channel_stays_finite():
    """A channel that never changes has no spread to divide by."""
    images = pictures()
    images[:, 1] = 77
    found = preprocess.fit(images, EVERY, zca=False)
    assert found.inputs(images).isfinite().all()
    assert torch.equal(found.pixels(found.inputs(images))[0], images)


def test_mean_and_std_normalise():
    """Inputs of the fitted images have mean 0 and spread 1 in every channel."""
    inputs = preprocess.fit(pictures(), EVERY, zca=False).inputs(pictures())
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=0)


def test_whitened_covariance_is_that_of_theory():
    """With eigenvalues s and eigenvectors V of the covariance, whitened inputs have V diag(s / (s + eps)) V^T."""
    images = pictures()
    found = preprocess.fit(images, EVERY, zca=True)
    flat = images.flatten(1).double() / 255
    s, v = torch.linalg.eigh(torch.cov(flat.T, correction=0))
    whitened = found.inputs(images).flatten(1).double()
    torch.testing.assert_close(whitened.mean(0), torch.zeros(48).double(), rtol=0, atol=1e-5)
    expected = v @ torch.diag(s / (s + 0.1)) @ v.T
    torch.testing.assert_close(torch.cov(whitened.T, correction=0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.zca, found.zca.T, rtol=0, atol=1e-6)
    assert preprocess.ZCA_EPS == 0.1


def test_whitening_counts_the_chosen_images_only():
    """Rows outside the index (validation, that is) leave no trace in it."""
    images, index = pictures(), torch.arange(0, 300, 2)
    found = preprocess.fit(images, index, zca=True)
    images[1::2] = 0
    again = preprocess.fit(images, index, zca=True)
    assert torch.equal(found.zca, again.zca) and torch.equal(found.zca_mean, again.zca_mean)


def test_inputs_turn_back_into_the_same_pixels(fitted):
    """uint8 to inputs and back loses nothing, for images that were not fitted either."""
    other = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for images in (pictures(), other):
        inputs = fitted.inputs(images)
        assert inputs.dtype == torch.float32 and inputs.shape == images.shape
        torch.testing.assert_close(fitted.unit(inputs), images.float() / 255, rtol=0, atol=1e-5)
        pixels, clipped = fitted.pixels(inputs)
        assert torch.equal(pixels, images) and clipped == 0


def test_project_keeps_displayable_images_and_clips_the_rest(fitted):
    """What is in [0, 1] stays; what is outside goes to the nearest end, value by value."""
    inside = fitted.inputs(pictures())
    torch.testing.assert_close(fitted.project(inside), inside, rtol=1e-4, atol=1e-5)
    unit = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 3 - 1
    projected = fitted.unit(fitted.project(fitted.inputs_from_unit(unit)))
    torch.testing.assert_close(projected, unit.clamp(0, 1), rtol=0, atol=1e-4)


def test_the_clipped_share_is_counted(fitted):
    """Values beyond what rounds into the range count, each once; those within half a level do not."""
    unit = torch.full((10, 3, 4, 4), 0.5)  # 480 values
    unit.view(-1)[:24] = 1.2
    unit.view(-1)[24:36] = -0.2
    unit.view(-1)[36:48] = 1 + 0.4 / 255
    pixels, clipped = fitted.pixels(fitted.inputs_from_unit(unit))
    assert clipped == pytest.approx(36 / 480)
    assert pixels.view(-1)[:48].tolist() == [255] * 24 + [0] * 12 + [255] * 12


def test_whitening_survives_its_file(tmp_path):
    """safetensors keeps the bits, so a downloaded set has the same inputs."""
    found = preprocess.fit(pictures(), EVERY, zca=True)
    path = tmp_path / "preprocess.safetensors"
    path.write_bytes(found.to_bytes())
    mean, matrix = preprocess.load_whitening(path, 48)
    again = preprocess.Preprocess(found.mean, found.std, mean, matrix)
    assert torch.equal(again.inputs(pictures()), found.inputs(pictures()))
