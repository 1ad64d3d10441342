"""Frozen pretrained backbones: timm models that give features once, on which linear classifiers are trained.

`frozen:NAME` is timm's model with its published weights, from the Hub or its cache. `frozen:NAME@FILE` takes weights
from a file in timm's format. The trained network is one linear layer. Its input for an image is the image's features,
of shape (F, 1, 1).
Shapes: N images, C channels, S side, F features, K classes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from ddhub.base import files, hub_client, hub_faults, limits, progress, torch_files
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.data.preprocess import Preprocess
from ddhub.training import timm_registry

PREFIX = "frozen:"
VERSION = 1  # version of the features; a change makes new cache files
BATCH = 64  # images that go through a backbone at once
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # file names in timm's repos
# Exceptions for weights that cannot be fetched.
FAULTS: tuple[type[Exception], ...] = (RuntimeError, KeyError, SafetensorError)


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its classifier, and its input format."""

    net: nn.Module = field(repr=False)
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str  # `bicubic`, or `bilinear` for timm's other kinds
    width: int  # the number of features
    weights: str  # a hash of the weights


def is_frozen(arch: str) -> bool:
    """Whether an architecture's name stands for a frozen backbone."""
    return arch.startswith(PREFIX)


def split(arch: str) -> tuple[str, Path | None]:
    """`frozen:NAME@FILE` as timm's name and the weights file; None for published weights.

    Raises:
        UserError: for a model that timm lacks or has no weights for, or a missing file.
    """
    timm = timm_registry.with_ours()
    name, at, file = arch.removeprefix(PREFIX).partition("@")
    timm_registry.check(PREFIX, name)
    if at and not Path(file).is_file():
        what = "is no file" if Path(file).exists() else "no such file of weights"
        raise UserError(f"arch '{arch}': {what}: {file!r}", next=f"{PREFIX}{name}@FILE")
    if not at and not timm.is_model_pretrained(name):
        raise UserError(
            f"arch '{arch}': nobody published weights for it that timm knows",
            next=f"{PREFIX}{name}@FILE takes them from a file; `timm.list_pretrained()` lists models that have some",
        )
    return name, Path(file) if at else None


def absolute(arch: str) -> str:
    """The name with its file's absolute path, for other processes. Other architectures are unchanged."""
    name, at, file = arch.partition("@")
    return f"{name}@{Path(file).absolute()}" if at and is_frozen(arch) else arch


def title(arch: str) -> str:
    """The architecture's name for rows: without the folder of its file, which is private."""
    name, at, file = arch.partition("@")
    return f"{name}@{Path(file).name}" if at and is_frozen(arch) else arch


def probe(classes: int, channels: int, side: int) -> nn.Module:
    """The linear classifier on features (F, 1, 1).

    Raises:
        UserError: if it is requested for images.
    """
    if side != 1:
        raise UserError(
            "a frozen backbone is only for `ddhub evaluate --archs`: nothing else trains on its features",
            next="convnet or resnet18 in its place; or ddhub evaluate SET --archs frozen:NAME, once SET is made",
        )
    return nn.Sequential(nn.Flatten(), nn.Linear(channels, classes))


@lru_cache(maxsize=2)
def load(arch: str) -> Backbone:
    """Load the backbone of an architecture with its weights.

    Raises:
        UserError: if the weights cannot be found, or belong to another model.
    """
    name, file = split(arch)
    with progress.busy(f"{title(arch)}: loading its weights"):
        net = _published(arch, name) if file is None else _of_file(name, file)
    net.eval().requires_grad_(False)
    config = timm_registry.with_ours().data.resolve_model_data_config(net)
    side = int(config["input_size"][-1])
    with torch.no_grad():
        shape = net(torch.zeros(1, 3, side, side)).shape
    if len(shape) != 2:
        raise UserError(
            f"arch '{title(arch)}': gives {tuple(shape[1:])} for an image, and no features of one dimension"
        )
    smooth = "bicubic" if config["interpolation"] == "bicubic" else "bilinear"
    return Backbone(net, side, tuple(config["mean"]), tuple(config["std"]), smooth, shape[1], _identity(net))


def _published(arch: str, name: str) -> nn.Module:
    """timm's model with its published weights.

    The Hub is asked once first. Without a network, its client would retry for a minute or more.
    """
    faults: tuple[type[Exception], ...] = (*FAULTS, *hub_faults.faults())
    try:
        _need_hub(name)
        net: nn.Module = timm_registry.with_ours().create_model(name, pretrained=True, num_classes=0)
    except faults as fault:
        raise UserError(
            f"arch '{arch}': its weights are not in the Hub's cache and cannot be fetched: {one_line(fault, 200)}",
            next=f"run it once with a connection and without HF_HUB_OFFLINE, or {PREFIX}{name}@FILE",
        ) from fault
    return net


def _need_hub(name: str) -> None:
    """Ask the Hub for a model whose weights are not cached. Raise the client's exception if it fails."""
    from huggingface_hub import try_to_load_from_cache

    told = timm_registry.with_ours().get_pretrained_cfg(name)
    if told is None or not told.hf_hub_id:
        return
    repo, _, revision = told.hf_hub_id.partition("@")
    names = filter(None, (told.hf_hub_filename, *WEIGHTS))
    if not any(isinstance(try_to_load_from_cache(repo, each, revision=revision or None), str) for each in names):
        hub_client.client().model_info(repo, revision=revision or None, timeout=hub_client.PATIENCE)


def _of_file(name: str, file: Path) -> nn.Module:
    """timm's model with the weights of a file. Only its classifier may be missing.

    Raises:
        UserError: for a file without weights, with other weights, or with more than tensors.
    """
    published = f"{PREFIX}{name} takes the published weights; FILE is what `timm` or `torch.save` wrote of a {name}"
    net: nn.Module = timm_registry.with_ours().create_model(name, pretrained=False, num_classes=0)
    try:
        found = load_file(file) if file.suffix == ".safetensors" else _unpickled(file, name)
        missing = [str(key) for key in net.load_state_dict(found, strict=False).missing_keys]
    except UserError:
        raise
    except Exception as fault:  # readers raise anything for a damaged file
        kind = "a file of safetensors" if file.suffix == ".safetensors" else "what torch.save writes"
        what = f"is not {kind}" if not isinstance(fault, RuntimeError) else one_line(fault, 200)
        raise UserError(f"{file}: no weights of timm's {name}: {what}", next=published) from fault
    if missing:
        raise UserError(
            f"{file}: lacks {len(missing)} of the weights of timm's {name}, such as {missing[0]}", next=published
        )
    odd = next((key for key, value in net.state_dict().items() if not value.isfinite().all()), None)
    if odd is not None:
        raise UserError(f"{file}: its weights are not finite, such as {odd}", next=published)
    return net


def _unpickled(file: Path, name: str) -> Any:
    """The weights in a torch file, loaded without running its code.

    A checkpoint of timm's training holds its arguments too, and timm reads it without running anything. The weights of
    a whole saved network come out of it only by running its code.
    """
    safe = f"import timm, torch; torch.save(timm.models.load_state_dict({str(file)!r}), 'weights.pth')"
    whole = f"import torch; torch.save(torch.load({str(file)!r}, weights_only=False).state_dict(), 'weights.pth')"
    then = f"{PREFIX}{name}@weights.pth"
    try:
        torch_files.check(file, limits.SET_BYTES, f'python -c "{safe}", then {then}')
    except UserError as fault:
        if "asks for" in str(fault) and "'argparse." not in str(fault):
            fault.next = f'if you trust its code, which this runs: python -c "{whole}", then {then}'
        raise
    return timm_registry.with_ours().models.load_state_dict(str(file), weights_only=True)


def _identity(net: nn.Module) -> str:
    """A hash of all weights and their names."""
    found = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else str(value).encode())
    return f"sha256:{found.hexdigest()}"


def features(arch: str, images: Tensor, device: str = "cpu") -> Tensor:
    """Features (N, F, 1, 1) of uint8 images (N, C, S, S), computed once for these images and weights.

    Images are adapted to the backbone: three channels, its side, its mean and standard deviation. They are resized
    whole with antialiasing, and never cropped. The features of each image are scaled to a mean square of 1, so that
    one learning rate serves all backbones.
    """
    backbone = load(arch)
    told = {"weights": backbone.weights, "version": VERSION, "images": _content(images), "device": device[:4]}
    path = files.home() / "features" / f"{files.digest(told)}.safetensors"
    if path.is_file():
        return load_file(path)["features"]
    net = backbone.net.to(device)
    parts: Sequence[Tensor] = images.split(BATCH)
    with torch.no_grad(), progress.busy(f"{title(arch)}: features of {len(images)} images"):
        found = torch.cat([net(_adapted(part.to(device), backbone)).cpu() for part in progress.track(parts, "batch")])
    found = found / found.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
    found = found[..., None, None].contiguous()
    files.write_bytes(path, save({"features": found}))
    return found


def _content(images: Tensor) -> str:
    return f"{tuple(images.shape)} {hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()}"


def _adapted(images: Tensor, backbone: Backbone) -> Tensor:
    """uint8 images (B, C, S, S) as the backbone's inputs (B, 3, side, side)."""
    unit = (images.float() / 255).expand(-1, 3, -1, -1)
    size = (backbone.side, backbone.side)
    if tuple(unit.shape[-2:]) != size:
        unit = functional.interpolate(unit, size, mode=backbone.interpolation, antialias=True).clamp(0, 1)
    return Preprocess(backbone.mean, backbone.std).inputs_from_unit(unit)
