"""Architectures: every name runs, sizes and stems are right, faults are said, timm's registry stays timm's."""

import pytest
import timm
import torch
from torch import nn

from ddhub.base.errors import UserError
from ddhub.training import architectures

TOO_DEEP = {("convnet4", 8), ("convnet5", 8), ("convnet6", 8), ("convnet6", 32)}  # more halvings than the side allows
RUNS = [(name, *size) for name in architectures.TABLE for size in ((1, 8), (3, 32)) if (name, size[1]) not in TOO_DEEP]


def refused(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(("name", "channels", "side"), RUNS)
def test_a_name_of_the_table_runs(name, channels, side):
    """Two images give two rows of logits, and every parameter has a part in them."""
    net = architectures.try_out(name, 5, channels, side)
    images = torch.randn(4, channels, side, side, generator=torch.Generator().manual_seed(0))
    logits = net.train()(images)
    assert logits.shape == (4, 5) and logits.isfinite().all()
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(("name", "side"), sorted(TOO_DEEP))
def test_a_convnet_deeper_than_the_image_says_so(name, side):
    """The reason is in the message, before any work."""
    message = refused(architectures.try_out, name, 5, 3, side)
    assert f"cannot run on {side}x{side} images: {name[-1]} halvings leave nothing of {side} pixels" in message


@pytest.mark.parametrize(
    ("arch", "depth", "width", "channels", "side"),
    [
        ("convnet", 2, 128, 1, 8),
        ("convnet", 3, 128, 3, 32),
        ("convnet", 4, 128, 3, 64),
        ("convnet", 5, 128, 3, 128),
        ("convnet", 6, 128, 3, 224),
        ("convnet2", 2, 128, 3, 32),
        ("convnet3_w32", 3, 32, 3, 32),
        ("convnet2_w8", 2, 8, 1, 8),
        ("convnet_w16", 4, 16, 3, 64),
        ("convnet3", 3, 128, 3, 28),
    ],
)
def test_a_convnet_has_the_parameters_of_its_formula(arch, depth, width, channels, side):
    """depth x [3x3 convolution without bias, affine norm], then linear; `convnet` takes its depth from the side."""
    net = architectures.build(arch, 7, channels, side, seed=0)
    features = width * (side // 2**depth) ** 2
    expected = 9 * width * (channels + (depth - 1) * width) + 2 * width * depth + (features + 1) * 7
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
    assert net.embed(torch.zeros(1, channels, side, side)).shape == (1, features)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.GroupNorm)]
    assert len(norms) == depth and all(layer.num_groups == layer.num_channels == width for layer in norms)


def test_a_side_of_no_usual_depth_asks_for_one():
    """convnet at 28 px has no conventional depth; the message says how to name one."""
    assert "no usual depth for 28 pixels; name it, as in convnet3" in refused(
        architectures.build, "convnet", 10, 1, 28, 0
    )


@pytest.mark.parametrize("side", [8, 32, 64])
def test_small_images_get_a_small_stem(side):
    """At 64 px and below resnet18 opens with a 3x3 convolution of stride 1 and no max-pool."""
    for name in ("resnet18", "resnet18_in"):
        net = architectures.build(name, 10, 3, side, seed=0)
        assert (net.conv1.kernel_size, net.conv1.stride, net.conv1.padding) == ((3, 3), (1, 1), (1, 1))
        assert isinstance(net.maxpool, nn.Identity)


@pytest.mark.parametrize(("name", "side"), [("resnet18", 65), ("resnet18", 224), ("timm:resnet18", 32)])
def test_large_images_and_timm_names_get_timm_stems(name, side):
    """Above 64 px, and under its own name at any size, timm's network is as timm builds it."""
    net = architectures.build(name, 10, 3, side, seed=0)
    assert (net.conv1.kernel_size, net.conv1.stride) == ((7, 7), (2, 2)) and isinstance(net.maxpool, nn.MaxPool2d)


def test_norms_are_what_the_names_say():
    """`_in` nets hold instance norm alone, the plain ones batch norm."""
    for name in ("resnet18", "vgg11"):
        kinds = [type(layer) for layer in architectures.build(f"{name}_in", 10, 3, 32, seed=0).modules()]
        assert nn.GroupNorm in kinds and not any(issubclass(kind, nn.BatchNorm2d) for kind in kinds)
        assert any(
            isinstance(layer, nn.BatchNorm2d) for layer in architectures.build(name, 10, 3, 32, seed=0).modules()
        )


@pytest.mark.parametrize(("side", "patches"), [(8, 16), (32, 64), (64, 64)])
def test_the_vit_cuts_a_small_image_into_patches(side, patches):
    """Eight by eight patches, four by four at 8 px."""
    assert architectures.build("vit_tiny", 10, 3, side, seed=0).patch_embed.num_patches == patches


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:convnext_atto"])
def test_any_timm_model_runs_by_its_full_name(name):
    """With the source's classes and channels."""
    assert architectures.try_out(name, 5, 1, 32)(torch.zeros(2, 1, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("arch", "fault"),
    [
        ("resnet34", "next: write timm:resnet34"),
        ("convent3", "arch 'convent3': unknown; did you mean 'convnet3'?"),
        ("resnet18_w32", "arch 'resnet18_w32': unknown"),
        ("convnet3_w0", "arch 'convnet3_w0': unknown"),
        ("timm:resnet19", "timm has no such model; did you mean 'resnet"),
        ("", "arch '': unknown"),
    ],
)
def test_an_unknown_name_says_what_is_near(arch, fault):
    """Nothing is guessed: a bare timm name is pointed to timm:NAME."""
    assert fault in refused(architectures.resolve, arch)


def test_a_model_that_cannot_run_says_why():
    """Inception's convolutions leave nothing of 32 pixels; where the fault has no words, the failing line is shown."""
    message = refused(architectures.try_out, "timm:inception_v3", 10, 3, 32)
    assert message.startswith("arch 'timm:inception_v3': cannot run on 32x32 images: ") and len(message) > 80
    assert "AssertionError in `_assert(H % self.block_size == 0" in refused(
        architectures.try_out, "timm:halonet_h1", 10, 3, 32
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet18", {}),
        ("crossvit_tiny_240", {}),
        ("xcit_nano_12_p8_224", {"img_size": 8}),
        ("vit_tiny_patch16_224", {"img_size": 8, "dynamic_img_pad": True}),
    ],
)
def test_timm_is_told_what_it_needs_of_a_small_image(name, told):
    """Its size where the model takes one, a border where patches do not divide it; weights hang on the seed alone."""
    architectures._told.cache_clear()
    first, again = (architectures.build(f"timm:{name}", 3, 1, 8, seed=1).state_dict() for _ in range(2))
    assert architectures._told(name, 3, 1, 8) == told
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert architectures.try_out(f"timm:{name}", 3, 1, 8)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_nothing_of_timm_is_overwritten():
    """Every name that ddhub adds to timm's registry opens with ddhub_; `resnet18` is still timm's."""
    owners = {name: timm.model_entrypoint(name).__module__ for name in timm.list_models()}
    assert owners["resnet18"] == "timm.models.resnet"
    ours = {name for name, module in owners.items() if not module.startswith("timm.")}
    assert ours == {f"ddhub_{name}" for name in architectures.TABLE}
    assert timm.create_model("ddhub_convnet3", num_classes=4)(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert "no pretrained weights" in refused(lambda: timm.create_model("ddhub_convnet3", pretrained=True))


@pytest.mark.parametrize("arch", ["convnet2_w8", "resnet18", "vit_tiny"])
def test_the_seed_alone_decides_the_weights(arch):
    """Same seed, same weights, whatever was drawn before; torch's own state is not moved."""
    first = architectures.build(arch, 5, 1, 8, seed=1).state_dict()
    torch.randn(3)
    before = torch.get_rng_state()
    again, other = (architectures.build(arch, 5, 1, 8, seed=seed).state_dict() for seed in (1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("arch", "family"),
    [
        ("vit_tiny", "transformer"),
        ("timm:convnext_atto", "transformer"),
        ("resnet18", "convnet"),
        ("vgg11_in", "convnet"),
    ],
)
def test_the_family_follows_the_norm(arch, family):
    """Networks with layer norm train with AdamW and a cosine, the others with SGD at the protocol's rate."""
    found = architectures.family(architectures.build(arch, 5, 3, 32, seed=0))
    assert found == family
    optimizer, schedule = {"transformer": ("adamw", "cosine"), "convnet": ("sgd", "half")}[found]
    assert (architectures.FAMILIES[found].optimizer, architectures.FAMILIES[found].schedule) == (optimizer, schedule)
