"""Frozen backbones: weights from a file or the Hub's cache, features once, nothing random left in them."""

import argparse
import re
import shlex
import subprocess
import sys

import pytest
import timm
import timm_weights
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.training import architectures, frozen

NAME = "test_resnet"  # timm's own for tests: 0.5 M weights, 160 px


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of timm's own weights, classifier included."""
    return timm_weights.written(NAME, tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def afresh():
    frozen.load.cache_clear()


def pictures(count=3, channels=3, side=12):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, side, side), generator=draw, dtype=torch.uint8)


def test_features_are_those_of_the_file_s_weights(weights):
    """Enlarged with antialiasing to the side, mean and deviation that timm names; of mean square 1; grey as RGB."""
    net = timm.create_model(NAME, pretrained=False, num_classes=0).eval()
    net.load_state_dict(timm.models.load_state_dict(str(weights)), strict=False)
    cfg = net.pretrained_cfg
    for channels in (1, 3):
        images = pictures(channels=channels)
        unit = functional.interpolate(
            images.expand(-1, 3, -1, -1) / 255, cfg["input_size"][1:], mode=cfg["interpolation"], antialias=True
        ).clamp(0, 1)
        mean, std = (torch.tensor(cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        with torch.no_grad():
            wanted = net((unit - mean) / std)
        wanted = wanted / wanted.square().mean(1, keepdim=True).sqrt()
        found = frozen.features(f"frozen:{NAME}@{weights}", images)
        torch.testing.assert_close(found, wanted[..., None, None], rtol=1e-4, atol=1e-4)


def test_features_are_computed_once(weights, monkeypatch):
    """The same images and weights again are read from the cache; other images are not."""
    arch = f"frozen:{NAME}@{weights}"
    first = frozen.features(arch, pictures())
    assert len(list((files.home() / "features").iterdir())) == 1
    monkeypatch.setattr(frozen, "_adapted", lambda *_: pytest.fail("computed again"))
    assert torch.equal(frozen.features(arch, pictures()), first)
    with pytest.raises(pytest.fail.Exception):
        frozen.features(arch, pictures(4))


def test_torch_s_own_format_is_read_without_running_anything(weights, tmp_path):
    """The same weights, by either format; code in a pickle is refused."""
    path = tmp_path / "model.pth"
    torch.save(timm.models.load_state_dict(str(weights)), path)
    assert frozen.load(f"frozen:{NAME}@{path}").weights == frozen.load(f"frozen:{NAME}@{weights}").weights
    torch.save({"state_dict": Evil()}, path)
    frozen.load.cache_clear()
    with pytest.raises(UserError, match="which is not data; refused, and nothing in it was run"):
        frozen.load(f"frozen:{NAME}@{path}")


class Evil:
    def __reduce__(self):
        return pytest.fail, ("it ran",)


@pytest.mark.parametrize("kind", ["a whole network", "a checkpoint of timm's training"])
def test_what_is_advised_for_more_than_weights_makes_a_file_of_weights(kind, weights, tmp_path, monkeypatch):
    """The command is typed as it stands; for a whole network it failed."""
    monkeypatch.chdir(tmp_path)
    net = timm.create_model(NAME)
    net.load_state_dict(timm.models.load_state_dict(str(weights)))
    checkpoint = {"state_dict": net.state_dict(), "args": argparse.Namespace(lr=0.1)}
    torch.save(net if kind == "a whole network" else checkpoint, "saved.pt")
    with pytest.raises(UserError, match="refused, and nothing in it was run") as caught:
        frozen.load(f"frozen:{NAME}@saved.pt")
    command, arch = re.fullmatch(r".*?(python -c .*), then (\S+)", caught.value.next).groups()
    assert ("trust" in caught.value.next) == (kind == "a whole network")
    subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True)
    assert frozen.load(arch).weights == frozen.load(f"frozen:{NAME}@{weights}").weights


def test_weights_that_are_not_finite_are_refused(weights, tmp_path):
    """All features were NaN, and a lower rate was advised."""
    spoilt = load_file(weights)
    spoilt["conv1.0.weight"][0] = torch.nan
    save_file(spoilt, tmp_path / "spoilt.safetensors")
    with pytest.raises(UserError, match=r"not finite, such as conv1\.0\.weight"):
        frozen.load(f"frozen:{NAME}@{tmp_path / 'spoilt.safetensors'}")


def test_weights_of_another_model_are_refused(weights, tmp_path):
    """No layer is left as it was drawn."""
    with pytest.raises(UserError, match=r"lacks \d+ of the weights of timm's test_vit, such as"):
        frozen.load(f"frozen:test_vit@{weights}")
    some = timm.models.load_state_dict(str(weights))
    missing = next(key for key in some if key.startswith("layer1") and key.endswith("weight"))
    some.pop(missing)
    save_file(some, tmp_path / "some.safetensors")
    with pytest.raises(UserError, match=f"lacks 1 of the weights .* such as {missing}"):
        frozen.load(f"frozen:{NAME}@{tmp_path / 'some.safetensors'}")
    (tmp_path / "some.safetensors").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"some\.safetensors: no weights"):
        frozen.load(f"frozen:{NAME}@{tmp_path / 'some.safetensors'}")


UNREADABLE = {
    "nothing": b"",
    "a text": b"hello\n",
    "half a pickle": b"\x80\x02]q\x00(K\x01e.",
    "half an archive": b"PK\x03\x04" + b"\0" * 300,
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_that_holds_no_weights_is_said_to_be_none(name, suffix, tmp_path):
    """In words of ours, with what it should be."""
    path = tmp_path / f"junk.{suffix}"
    path.write_bytes(UNREADABLE[name])
    kind = "a file of safetensors" if suffix == "safetensors" else "what torch.save writes"
    with pytest.raises(UserError, match=rf"junk.{suffix}: no weights of timm's {NAME}: is not {kind}\n  next: .*FILE"):
        frozen.load(f"frozen:{NAME}@{path}")


def test_the_hub_is_asked_once_for_weights_that_are_not_here(monkeypatch):
    """Its client would try again for a minute and more."""
    from huggingface_hub import HfApi

    asked = []
    monkeypatch.setattr(HfApi, "model_info", lambda _, name, **how: asked.append((name, how["timeout"])) or _away())
    with pytest.raises(UserError, match="cannot be fetched: no way there"):
        frozen.load(f"frozen:{NAME}")
    assert len(asked) == 1 and asked[0][0].startswith("timm/") and asked[0][1] <= 10


def _away():
    raise ConnectionError("no way there")


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("frozen:resnet19", "did you mean"),
        ("frozen:", "timm has no such model"),
        ("frozen:resnet18@/tmp", "is no file: '/tmp'"),
        ("frozen:resnet18@nowhere.pt", "no such file of weights: 'nowhere.pt'"),
        ("frozen:ddhub_convnet3", "nobody published weights"),
    ],
)
def test_a_backbone_that_is_not_to_be_had_is_refused_at_once(arch, said):
    with pytest.raises(UserError, match=said):
        architectures.resolve(arch)


def test_published_weights_that_are_not_here_are_said():
    """Offline, with an empty cache: a sentence, and both ways out."""
    with pytest.raises(UserError, match=r"not in the Hub's cache(.|\n)*frozen:test_resnet@FILE"):
        frozen.load(f"frozen:{NAME}")


def test_a_backbone_is_no_teacher(weights):
    """It has no place in a recipe: nothing but an evaluation reads features."""
    with pytest.raises(UserError, match="only for `ddhub evaluate --archs`"):
        architectures.try_out(f"frozen:{NAME}@{weights}", 10, 3, 32)
