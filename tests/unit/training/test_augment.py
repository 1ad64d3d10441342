"""DSA: every operation against a slow reference, image by image and pixel by pixel, and how operations are drawn."""

import math

import pytest
import torch
from augmented import augmented

from ddhub.training import augment
from ddhub.training.protocol import DSA_OPERATIONS

SIDE = 8


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def color(x, u):
    x = x + (u[0] - 0.5)
    m = sum(x[c] for c in range(len(x))) / len(x)  # mean over channels, pixel by pixel
    x = torch.stack([(x[c] - m) * 2 * u[1] + m for c in range(len(x))])
    mean = float(x.double().sum() / x.numel())
    return (x - mean) * (u[2] + 0.5) + mean


def crop(x, u):
    side, reach = x.shape[-1], round(x.shape[-1] * 0.125)
    down, right = (min(int(float(v) * (2 * reach + 1)), 2 * reach) - reach for v in u[:2])
    out = torch.zeros_like(x)
    for row in range(side):
        for column in range(side):
            if 0 <= row + down < side and 0 <= column + right < side:
                out[:, row, column] = x[:, row + down, column + right]
    return out


def cutout(x, u):
    side = x.shape[-1]
    half = side // 4  # of a hole of half the side
    centre = [int(float(v) * (side + 1)) for v in u[:2]]
    out = x.clone()
    for row in range(side):
        for column in range(side):
            if centre[0] - half <= row < centre[0] + half and centre[1] - half <= column < centre[1] + half:
                out[:, row, column] = 0
    return out


def flip(x, u):
    return torch.stack([row.flip(0) for row in x.flatten(0, 1)]).view_as(x) if u[0] < 0.5 else x


def scale(x, u):
    sx, sy = (1 / 1.2 + float(v) * (1.2 - 1 / 1.2) for v in u[:2])
    return bilinear(x, lambda across, down: (sx * across, sy * down))


def rotate(x, u):
    turn = math.radians((float(u[0]) - 0.5) * 30)
    cos, sin = math.cos(turn), math.sin(turn)
    return bilinear(x, lambda across, down: (cos * across - sin * down, sin * across + cos * down))


def bilinear(x, move):
    """Sample at moved coordinates, in [-1, 1] from the first pixel's centre to the last's; zeros outside."""
    side, out = x.shape[-1], torch.zeros_like(x)
    for row in range(side):
        for column in range(side):
            across, down = move(2 * column / (side - 1) - 1, 2 * row / (side - 1) - 1)
            right, low = (across + 1) * (side - 1) / 2, (down + 1) * (side - 1) / 2
            for i in (math.floor(low), math.floor(low) + 1):
                for j in (math.floor(right), math.floor(right) + 1):
                    if 0 <= i < side and 0 <= j < side:
                        out[:, row, column] += x[:, i, j] * (1 - abs(low - i)) * (1 - abs(right - j))
    return out


REFERENCES = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", DSA_OPERATIONS)
def test_operation_equals_its_formula(name, channels):
    """The batched operation is the written formula, image by image, also at the ends of the draws."""
    images = draw(24, channels, SIDE, SIDE) * 4 - 2
    u = draw(3, 24, seed=1)
    u[:, 0], u[:, 1] = 0, 1 - 2**-24
    expected = torch.stack([REFERENCES[name](image, u[:, index]) for index, image in enumerate(images)])
    torch.testing.assert_close(augment.FORMULAS[name](images, u), expected, rtol=1e-5, atol=1e-5)


def test_the_references_move_images():
    """Were a reference the identity, the test above would show nothing."""
    images, u = draw(8, 3, SIDE, SIDE), draw(3, 8, seed=1)
    for name, reference in REFERENCES.items():
        assert any(not torch.equal(reference(image, u[:, index]), image) for index, image in enumerate(images)), name


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_crop_and_cutout_have_the_sizes_of_the_paper(side):
    """Shifts reach an eighth of the side both ways; a hole is half the side, and smaller only at the border."""
    ones, u = torch.ones(4000, 1, side, side), draw(3, 4000)
    filled = augment.crop(ones, u).any(-1).sum((1, 2))
    assert filled.min() == side - round(side / 8) and filled.max() == side
    holes = (augment.cutout(ones, u) == 0).sum((1, 2, 3))
    assert holes.max() == (side // 2) ** 2
    assert (holes > 0).all()


def test_rotation_turns_by_up_to_fifteen_degrees_either_way():
    """Read off the image, not off the formula: where a bright line across the centre has gone at its end."""
    side, reach = 65, 32
    line = torch.zeros(1, 1, side, side)
    line[..., reach, :] = 1.0
    for drawn, expected in ((0.0, -15.0), (0.5, 0.0), (1.0, 15.0)):
        turned = augment.rotate(line, torch.tensor([[drawn]]))[0, 0]
        column = turned[:, reach + 24]
        height = float((column * torch.arange(side)).sum() / column.sum()) - reach
        assert abs(math.degrees(math.atan2(height, 24))) == pytest.approx(abs(expected), abs=0.5)
    ends = [augment.rotate(line, torch.tensor([[drawn]]))[0, 0, :reach, reach + 24].sum() > 0.5 for drawn in (0.0, 1.0)]
    assert ends[0] != ends[1]


def test_none_is_the_identity():
    """Nothing is drawn and nothing copied."""
    generator, images = torch.Generator().manual_seed(0), draw(4, 3, SIDE, SIDE)
    before = generator.get_state()
    assert augmented(images, "none", generator) is images
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize("name", DSA_OPERATIONS)
def test_siamese_moves_two_batches_alike(name):
    """From one generator state, one magnitude serves every image of both batches, whatever their sizes."""
    image = draw(1, 3, SIDE, SIDE)
    for seed in range(5):
        moved = [
            augmented(image.expand(count, -1, -1, -1), name, torch.Generator().manual_seed(seed), siamese=True)
            for count in (4, 7)
        ]
        for batch in moved:
            torch.testing.assert_close(batch, moved[0][:1].expand_as(batch))


@pytest.mark.parametrize("name", DSA_OPERATIONS)
def test_without_siamese_every_image_has_its_own_magnitude(name):
    """Thirty copies of one image do not stay copies."""
    moved = augmented(draw(1, 3, SIDE, SIDE).expand(30, -1, -1, -1), name, torch.Generator().manual_seed(0))
    assert len({tuple(image.flatten().tolist()) for image in moved}) > 1


@pytest.mark.parametrize("name", DSA_OPERATIONS)
def test_gradients_flow_through(name):
    """The derivative with respect to the pixels is that of finite differences."""
    images = draw(3, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment.FORMULAS[name](x, draw(3, 3, seed=2).double()), images)


def test_the_generator_alone_decides():
    """Equal states give equal images, other states others; torch's own state is neither read nor moved."""
    images = draw(6, 3, SIDE, SIDE)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again = (augmented(images, "dsa", torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(before, torch.get_rng_state())
    others = [augmented(images, "dsa", torch.Generator().manual_seed(seed)) for seed in range(10)]
    assert sum(torch.equal(first, other) for other in others) == 1  # seed 5 itself


@pytest.mark.parametrize("strategy", ["dsa", "flip", "color_crop_cutout_scale_rotate"])
def test_a_strategy_draws_its_own_operations_only(strategy, monkeypatch):
    """Each of them about as often as the others."""
    drawn = []
    for name in DSA_OPERATIONS:
        monkeypatch.setitem(augment.FORMULAS, name, lambda x, u, name=name: drawn.append(name) or x)
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        augmented(torch.zeros(1, 1, 2, 2), strategy, generator)
    expected = list(DSA_OPERATIONS) if strategy == "dsa" else strategy.split("_")
    assert set(drawn) == set(expected)
    assert min(drawn.count(name) for name in expected) > 0.7 * 600 / len(expected)


def test_a_chain_applies_all_and_a_list_draws_one():
    """`flip+crop` is both, each with its own draws; `flip_crop` is either."""
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    chained = augmented(images, "flip+crop", torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    expected = augment.flip(images, torch.rand(3, 64, generator=generator))
    expected = augment.crop(expected, torch.rand(3, 64, generator=generator))
    assert torch.equal(chained, expected)


def test_a_random_resized_crop_shows_a_part_of_the_image():
    """All of its area gives the image itself; a small part of a ramp is flat, and stays within the image's values."""
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    whole = augment.rrc(ramp, crop_draws(1.0, 0.5, 0.5))
    torch.testing.assert_close(whole, ramp)
    small = augment.rrc(ramp, crop_draws(0.0, 0.5, 1.0))
    side = 0.08**0.5
    assert small.max() <= 1 and small.max() - small.min() == pytest.approx(side, abs=0.01)
    assert small.max() == pytest.approx(1.0, abs=1e-4)


def crop_draws(area, ratio, across):
    """Draws of `rrc` for one image: every try the same, in the middle from top to bottom."""
    return torch.tensor([[area]] * 10 + [[ratio]] * 10 + [[across], [0.5]])


def test_a_crop_that_does_not_fit_is_drawn_again():
    """Nine tries are wider than the image, the tenth fits; where none does, the image is whole."""
    ramp = torch.linspace(0, 1, 16).view(1, 1, 1, 16).expand(1, 1, 16, 16).contiguous()
    torch.testing.assert_close(augment.rrc(ramp, crop_draws(1.0, 1.0, 0.5)), ramp)
    draws = crop_draws(1.0, 1.0, 0.0)
    draws[9], draws[19] = 0.0, 0.5
    seen = augment.rrc(ramp, draws)
    assert seen.max() - seen.min() == pytest.approx(0.08**0.5, abs=0.01)


def test_crops_of_patches_keep_half_of_the_image():
    """`rrc50`, for images of 2 x 2 patches: the smallest has half the area."""
    ramp = torch.linspace(0, 1, 16).view(1, 1, 1, 16).expand(1, 1, 16, 16).contiguous()
    seen = augment.FORMULAS["rrc50"](ramp, crop_draws(0.0, 0.5, 1.0))
    assert seen.max() - seen.min() == pytest.approx(0.5**0.5, abs=0.01)


def test_patches_change_places():
    """Left with right, top with bottom, or both; every image by its own draws."""
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1).expand(4, 1, 4, 4)
    seen = augment.shuffle(image, torch.tensor([[0.9, 0.1, 0.9, 0.1], [0.9, 0.9, 0.1, 0.1], [0.0] * 4]))
    corners = seen[:, 0, ::2, ::2].flatten(1).tolist()
    assert corners == [[1, 2, 3, 4], [2, 1, 4, 3], [3, 4, 1, 2], [4, 3, 2, 1]]


def test_cutmix_pastes_one_box_of_other_images():
    """A quarter of the area at the centre; outside of it nothing changes."""
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    draws = torch.tensor([[0.25] * 3, [0.5] * 3, [0.5] * 3, [0.9, 0.1, 0.5]])
    mixed = augment.cutmix(images, draws)
    changed = (mixed != images).sum((1, 2, 3))
    assert (mixed[:, :, 0, 0] == images[:, :, 0, 0]).all()
    assert sorted(mixed[:, 0, 4, 4].tolist()) == [0, 1, 2]
    assert changed.max() == 16


@pytest.mark.parametrize("name", ["scale", "rotate", "rrc"])
def test_a_deterministic_gradient_samples_alike(name):
    """A GPU's grid_sample has a gradient in no order; gathering pixel by pixel gives the same images and gradients."""
    images, found = draw(5, 2, SIDE, SIDE), []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            given = images.clone().requires_grad_()
            moved = augmented(given, f"{name}+flip", torch.Generator().manual_seed(3))
            found.append((moved.detach(), torch.autograd.grad(moved.square().sum(), given)[0]))
        finally:
            torch.use_deterministic_algorithms(False)
    for plain, gathered in zip(*found, strict=True):
        torch.testing.assert_close(gathered, plain, rtol=1e-4, atol=1e-4)
