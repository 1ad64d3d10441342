"""Architectures: every name runs, sizes and stems are right, faults are said, timm's registry stays timm's."""

import pytest
import timm
import torch
from conftest import refused
from torch import nn

from ddhub.base.errors import UserError
from ddhub.training import arch_names, architectures, field_networks, optimisation, timm_registry

pytestmark = pytest.mark.slow

TOO_DEEP = {("convnet4", 8), ("convnet5", 8), ("convnet6", 8), ("convnet6", 32)}  # more halvings than the side allows
NO_PIXELS_TO_NORMALISE = {("resnet18_in", 8)}
RUNS = [
    (name, *size)
    for name in architectures.TABLE
    for size in ((1, 8), (3, 32))
    if (name, size[1]) not in TOO_DEEP | NO_PIXELS_TO_NORMALISE
]


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


@pytest.mark.parametrize("arch", ["resnet18_in", "resnet18_in_w16"])
def test_a_network_that_normalises_single_pixels_is_refused(arch):
    """A map of one pixel, normalised by image and channel, is a constant: logits would say nothing of the image."""
    message = refused(architectures.try_out, arch, 5, 1, 8)
    assert message.startswith(f"arch '{arch}': cannot run on 8x8 images: its instance norm sees maps of one pixel")
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    stage = architectures.build(arch, 5, 1, 8, seed=0).layer4[
        1
    ]  # what the refusal is for: its norms erase what they see
    width = stage.conv1.in_channels
    erased = stage.bn1(stage.conv1(torch.randn(4, width, 1, 1)))
    assert erased.abs().max() < 1e-2 and architectures.try_out("resnet18", 5, 1, 8)(images).shape == (4, 5)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(3), nn.GroupNorm(3, 3), nn.GroupNorm(1, 3)])
@pytest.mark.parametrize("side", [1, 2])
def test_only_groups_of_one_value_are_refused(norm, side, monkeypatch):
    """Any norm within the image counts, and any map or group of channels with more than one value is fine."""

    class Net(nn.Sequential):
        def __init__(self, classes, channels, side, width=0):
            super().__init__(nn.AdaptiveAvgPool2d(side), norm, nn.Flatten(), nn.Linear(3 * side**2, classes))

    monkeypatch.setitem(
        architectures.TABLE, "own", lambda classes, channels, given, width=0: Net(classes, channels, side)
    )
    if side == 1 and not (isinstance(norm, nn.GroupNorm) and norm.num_groups == 1):
        assert "maps of one pixel" in refused(architectures.try_out, "own", 5, 3, 8)
    else:
        architectures.try_out("own", 5, 3, 8)


@pytest.mark.parametrize(("side", "sizes"), [(8, [8, 4, 2, 2, 2]), (16, [16, 8, 4, 2, 2]), (32, [32, 16, 8, 4, 2])])
def test_vgg_with_instance_norm_keeps_two_pixels_to_normalise(side, sizes):
    """Each of its five blocks sees maps of 2x2 at least, and maps halve as far as that allows."""
    net, seen = architectures.build("vgg11_in_w8", 5, 3, side, seed=0), []
    for layer in net.features:
        if isinstance(layer, nn.GroupNorm):
            layer.register_forward_hook(lambda layer, given, out: seen.append(out.shape[-1]))
    net(torch.zeros(2, 3, side, side))
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(sizes)) and len(seen) == 8 and seen[0] == side


WIDTHS = [
    ("resnet18_w16", 32, [16] * 5 + [32] * 5 + [64] * 5 + [128] * 5),
    ("resnet18_in_w16", 96, [16] * 5 + [32] * 5 + [64] * 5 + [128] * 5),
    ("vgg11_w16", 32, [16, 32, 64, 64, 128, 128, 128, 128]),
    ("vgg11_in_w10", 32, [10, 20, 40, 40, 80, 80, 80, 80]),
    ("vgg11_w16", 96, [16, 32, 64, 64, 128, 128, 128, 128, 1024, 1024]),
    ("alexnet_in_w32", 32, [32, 48, 64, 48, 48]),
    ("vit_tiny_w64", 32, [64]),
    ("vit_tiny_w48", 8, [48]),
    ("convnet3_w32", 32, [32, 32, 32]),
]


@pytest.mark.parametrize(("arch", "side", "widths"), WIDTHS)
def test_a_width_is_that_of_the_first_stage_and_the_others_follow(arch, side, widths):
    """Every convolution's output, and of a ViT the embedding; all parameters have a part in the logits."""
    net = architectures.try_out(arch, 5, 3, side)
    assert [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)] == widths
    logits = net(torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0)))
    logits.square().sum().backward()
    assert logits.shape == (4, 5) and all(parameter.grad is not None for parameter in net.parameters())


FULL = [("convnet", 128), ("resnet18", 64), ("resnet18_in", 64), ("vgg11", 64), ("vgg11_in", 64), ("alexnet_in", 128)]


LARGE = [(arch, width, 96) for arch, width in (("convnet5", 128), ("resnet18", 64), ("vgg11", 64), ("vit_tiny", 192))]


@pytest.mark.parametrize(("arch", "width", "side"), [*((*pair, 32) for pair in (*FULL, ("vit_tiny", 192))), *LARGE])
def test_the_full_width_by_number_is_the_network_itself(arch, width, side):
    """Modules, shapes and functions are the same; only the seed of the weights hangs on the name."""
    plain, numbered = (architectures.build(name, 5, 3, side, seed=0) for name in (arch, f"{arch}_w{width}"))
    assert repr(plain) == repr(numbered)
    numbered.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(images), numbered.eval()(images))


@pytest.mark.parametrize("arch", ["resnet18_w128", "resnet18_in_w16", "resnet18_in"])
def test_how_a_resnet_of_any_width_starts(arch):
    """Convolutions by He's rule over their outputs. With batch norm every block is the identity, as timm's are.

    With instance norm none is: their normalised sum tells images too little apart to learn from.
    """
    net = architectures.build(arch, 5, 3, 32, seed=0)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            expected = (2 / (layer.out_channels * layer.kernel_size[0] ** 2)) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
    scales = [block.bn2.weight for stage in range(1, 5) for block in getattr(net, f"layer{stage}")]
    assert all((scale == (1 if "_in" in arch else 0)).all() for scale in scales)


def test_a_vit_has_three_heads_or_four():
    """Three as the full one has, four where three do not divide the width; other widths are refused."""
    heads = {
        width: architectures.build(f"vit_tiny_w{width}", 5, 3, 32, 0).blocks[0].attn.num_heads
        for width in (48, 64, 192)
    }
    assert heads == {48: 3, 64: 4, 192: 3}
    assert "a width of 50 divides into neither three heads nor four" in refused(
        architectures.build, "vit_tiny_w50", 5, 3, 32, 0
    )


@pytest.mark.parametrize("arch", ["resnet18", "resnet18_in", "vgg11", "vgg11_in", "alexnet_in", "vit_tiny", "convnet3"])
def test_a_width_of_too_many_weights_is_refused_before_it_takes_memory(arch):
    """A set's own words decide the width: tens of thousands would take hundreds of gigabytes."""
    message = refused(architectures.build, f"{arch}_w99999", 5, 3, 32, 0)
    count = int(message.partition("': ")[2].partition(" weights")[0])
    assert (
        count > architectures.MOST_WEIGHTS and "weights are more than the 1000000000 of the largest network" in message
    )


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
    """convnet at 20 px has no conventional depth; the message says how to name one."""
    assert "no usual depth for 20 pixels; name it, as in convnet3" in refused(
        architectures.build, "convnet", 10, 1, 20, 0
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
        ("resnet18_w0", "arch 'resnet18_w0': unknown"),
        ("resnet19_w16", "arch 'resnet19_w16': unknown"),
        ("convnet3_w0", "arch 'convnet3_w0': unknown"),
        ("efficientnet_b9", "unknown; did you mean 'timm:efficientnet_b8'?"),
        ("timm:resnet19", "timm has no such model; did you mean 'resnet18'?\n  next: timm:resnet18 in its place"),
        ("timm:RESNET50", "next: timm:resnet50 in its place"),
        ("timm:nosuch", "timm has no such model\n  next: python -c 'import timm; print(*timm.list_models())'"),
        ("frozen:nosuch", "timm has no such model\n  next: python -c 'import timm"),
        (
            "timm:resnet18.a1_in1",
            "no weights 'a1_in1' of resnet18; did you mean 'a1_in1k'?\n  next: timm:resnet18.a1_in1k",
        ),
        ("frozen:resnet18.no", "next: frozen:resnet18 in its place"),
        ("timm:", "next: an architecture such as"),
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
    architectures._arguments.cache_clear()
    first, again = (architectures.build(f"timm:{name}", 3, 1, 8, seed=1).state_dict() for _ in range(2))
    assert architectures._arguments(name, 3, 1, 8) == told
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert architectures.try_out(f"timm:{name}", 3, 1, 8)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_nothing_of_timm_is_overwritten():
    """Every name that ddhub adds to timm's registry opens with ddhub_; `resnet18` is still timm's."""
    timm_registry.with_ours()
    owners = {name: timm.model_entrypoint(name).__module__ for name in timm.list_models()}
    assert owners["resnet18"] == "timm.models.resnet"
    ours = {name for name, module in owners.items() if not module.startswith("timm.")}
    assert {f"ddhub_{name}" for name in architectures.TABLE} <= ours  # a page of the docs adds one too
    assert all(name.startswith("ddhub_") for name in ours)
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
    found = optimisation.kind(architectures.build(arch, 5, 3, 32, seed=0))
    assert found == family
    optimizer, schedule = {"transformer": ("adamw", "cosine"), "convnet": ("sgd", "half")}[found]
    assert (optimisation.FAMILIES[found].optimizer, optimisation.FAMILIES[found].schedule) == (optimizer, schedule)


def test_the_work_of_training_is_counted_for_families_that_are_compiled():
    """Three forward passes an image, of two operations a weight and place; nothing for families that are not."""
    first, second, linear = 8 * 9 * 64, 8 * 8 * 9 * 16, 8 * 4 * 2
    assert architectures.training_flops("convnet2_w8", 1, 8, 100) == 3 * 100 * 2 * (first + second + linear)
    assert architectures.training_flops("alexnet_in_w8", 1, 8, 100) == 0


def test_names_are_known_without_torch():
    """Ours as the table has them, and timm's by its source; a name that is nobody's is refused before any import."""
    import timm

    assert set(arch_names.OWN) == set(field_networks.TABLE)
    theirs = {name for name in timm.list_models() if not name.startswith("ddhub_")}
    assert len(theirs) > 1000 and theirs <= arch_names._of_timm()
    for arch in ("convnet3_w32", "timm:resnet34", "frozen:x", "resnet34"):
        arch_names.check(arch)
    with pytest.raises(UserError, match="arch 'resnet19': unknown; did you mean 'resnet18'"):
        arch_names.check("resnet19")
