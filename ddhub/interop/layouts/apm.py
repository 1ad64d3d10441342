"""Adversarial prediction matching's own files (DD_APM, arXiv:2312.08912): `..._best.pt`.

A dict: `data` is [images float32 (N, C, H, W), logits float32 (N, K) of one teacher], ordered by class.
`accs_all_exps` is not read. Runs with `--zca` give whitened images (kornia's ZCA), other runs normalised ones.
"""

from pathlib import Path

from torch import Tensor

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.data import catalog
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading


def detect(path: Path, how: Reading) -> bool:
    """Accept a torch file with one pair of tensors, the second of them a matrix."""
    if not reading.is_torch(path):
        return False
    content = reading.load(path, how)
    pair = content.get("data") if isinstance(content, dict) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    return all(isinstance(part, Tensor) for part in pair) and pair[1].dim() == 2


def read(path: Path, how: Reading) -> Foreign:
    """Read the pair. The class of an image follows from its position."""
    content = reading.load(path, how)
    pair = content.get("data") if isinstance(content, dict) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise UserError(
            f"{path.name}: key 'data' is not [images, logits], as the layout apm has it", next=reading.ANY_LAYOUT
        )
    images = reading.pictures(pair[0], f"{path.name}: data[0]", how)
    soft = reading.matrix(pair[1], f"{path.name}: data[1]", how)
    return Foreign("apm", images, None, reading.records([path], path.parent), soft, "logits", method="apm")


def write(found: Artifact, folder: Path) -> None:
    """Write `DATASET_ConvNet_NNipc_best.pt`."""
    assert found.soft_labels is not None
    name = f"{catalog.spelling(found.manifest.source.dataset)}_ConvNet_{found.manifest.ipc}ipc_best.pt"
    pair = [found.inputs.clone(), found.soft_labels.clone()]
    reading.save(folder / name, {"data": pair, "accs_all_exps": {}})


LAYOUT = Layout(detect=detect, read=read, write=write, uses=(), by_place=("logits",), holds=("logits",))
