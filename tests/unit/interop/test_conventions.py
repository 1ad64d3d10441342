"""Every timm family at 32 px: a small one of its models trains, or is refused in a sentence."""

import warnings
from collections.abc import Iterator
from itertools import islice

import pytest
import timm
import torch
from torch import nn

from ddhub.base.errors import UserError
from ddhub.training import architectures, device, fit
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol

pytestmark = pytest.mark.slow

SIDE, CLASSES, COUNT = 32, 10, 4
FEW = 6_000_000  # parameters that one may have to be trained here; where a family has none so small, shapes are tried
SHORTEST = 8  # names of a family that are looked at
MEMBERS = 4  # of a family that are tried until one runs: some are feature extractors, or want large images
# With timm 1.0.31, of 98 families. One that a newer timm brings may be refused too.
# Tried in every run of the tests. All families are where a release of timm is tried: `make bounds`.
USUAL = {
    *("beit", "convmixer", "convnext", "densenet", "efficientnet", "ghostnet", "inception_v3", "levit", "maxxvit"),
    *("mlp_mixer", "mobilenetv3", "regnet", "resnet", "swin_transformer", "vgg", "vision_transformer"),
}
REFUSED = {"csatv2", "efficientformer", "inception_resnet_v2", "inception_v3", "inception_v4"}


class TooMany(BaseException):
    """Ends the building of a network that is too large; not an Exception, which timm may catch."""


def is_small(name: str) -> bool:
    """Whether a model has few parameters, counted while it is built without memory."""
    total, register = 0, nn.Module.register_parameter

    def count(net: nn.Module, key: str, value: nn.Parameter | None) -> None:
        nonlocal total
        total += 0 if value is None else value.numel()
        if total > FEW:
            raise TooMany
        register(net, key, value)

    with pytest.MonkeyPatch.context() as patch, architectures.shapes_alone():
        patch.setattr(nn.Module, "register_parameter", count)
        try:
            timm.create_model(name, num_classes=CLASSES)
        except TooMany:
            return False
    return True


def members(family: str) -> Iterator[tuple[str, bool]]:
    """The models of its shortest names and whether they are small: the small ones, or all where there is none."""
    names = sorted(timm.list_models(module=family), key=lambda name: (len(name), name))[:SHORTEST]
    none = True
    for name in names:
        if is_small(name):
            none = False
            yield name, True
    yield from ((name, False) for name in names if none)


def refusal(family: str) -> str | None:
    """Why none of a family's models runs; None where one does, and trains if it is small."""
    said = []
    for name, small in islice(members(family), MEMBERS):
        try:
            (trains if small else runs)(f"timm:{name}")
            return None
        except UserError as fault:
            assert f"arch 'timm:{name}': cannot run on 32x32 images: " in str(fault)
            assert len(str(fault)) > len(name) + 60  # it says why
            said.append(str(fault))
    return "\n".join(said)


def runs(arch: str) -> None:
    """Shapes alone."""
    with torch.device("meta"):
        architectures.try_out(arch, CLASSES, 3, SIDE)


def trains(arch: str) -> None:
    """One step, after which all is finite and scores repeat."""
    network = networks.Network(arch, CLASSES, 3, SIDE, device.Decisions())
    images = torch.randn(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    protocol = Protocol(loss="ce", augment="none", lr=0.01, epochs=1, batch=COUNT, min_steps=0)
    weights = fit.fit(network, fit.Examples(images, torch.arange(COUNT)), protocol, seed=0)[-1]
    with torch.no_grad():
        logits, again = (network.forward(weights, images) for _ in range(2))
    assert logits.shape == (COUNT, CLASSES) and logits.isfinite().all(), arch
    assert torch.equal(logits, again), f"{arch} draws when it is scored"


def every() -> list:
    """timm's families, the unusual ones marked `sweep`; `architectures` are our own."""
    found = [family for family in timm.list_modules() if family != "architectures"]
    return [pytest.param(family, marks=[] if family in USUAL else pytest.mark.sweep) for family in found]


@pytest.mark.parametrize("family", every())
def test_a_family_trains_or_is_refused_in_a_sentence(family):
    """Nothing else ends it: no other exception, and no family lost that ran before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        why = refusal(family)
    assert why is None or family in REFUSED or timm.__version__ != "1.0.31", why
