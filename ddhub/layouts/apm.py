"""Adversarial prediction matching's own files (DD_APM, arXiv:2312.08912): `..._best.pt`.

A dict: `data` is [images float32 (N, C, H, W), logits float32 (N, K) of one teacher], class by class;
`accs_all_exps` is not read. Whitened (kornia's ZCA) where it was run with `--zca`, else normalised.
"""

from pathlib import Path

from torch import Tensor

from ddhub import families, foreign
from ddhub.artifact import Artifact
from ddhub.errors import UserError
from ddhub.foreign import Foreign, Reading

HOLDS = ("logits",)


def detect(path: Path, how: Reading) -> bool:
    """A torch file with one pair of tensors, the second of them a matrix."""
    if path.suffix not in (".pt", ".pth") or not path.is_file():
        return False
    content = foreign.load(path, how)
    pair = content.get("data") if isinstance(content, dict) else None
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)


def read(path: Path, how: Reading) -> Foreign:
    """Read the pair; the class of an image is its place."""
    content = foreign.load(path, how)
    pair = content.get("data") if isinstance(content, dict) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise UserError(f"{path.name}: key 'data' is not [images, logits], as the layout apm has it")
    images = foreign.pictures(pair[0], f"{path.name}: data[0]", how)
    soft = foreign.matrix(pair[1], f"{path.name}: data[1]", how)
    return Foreign("apm", images, None, foreign.records([path], path.parent), soft, "logits", method="apm")


def write(found: Artifact, folder: Path) -> None:
    """Write `DATASET_ConvNet_NNipc_best.pt`."""
    assert found.soft_labels is not None
    order = found.labels.argsort(stable=True)
    name = f"{families.spelling(found.manifest.source.dataset)}_ConvNet_{found.manifest.ipc}ipc_best.pt"
    pair = [found.inputs[order].clone(), found.soft_labels[order].clone()]
    foreign.save(folder / name, {"data": pair, "accs_all_exps": {}})
