"""Files of weights of timm's models, as they are initialised."""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def written(name: str, folder: Path) -> Path:
    """A file of a model's weights, classifier included."""
    torch.manual_seed(0)
    path = folder / "model.safetensors"
    save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    return path
