"""Files of trajectory matching (MTT, github.com/GeorgeCazenavette/mtt-distillation, and TESLA): images and labels.

`images_best.pt` is float32 (N, C, H, W) network inputs. `labels_best.pt` is int64 (N,), or float32 (N, K) with rows
that sum to 1 for TESLA with a teacher's labels. Large sets come in parts, `images_best_0.pt`, ....
`images_zca_*.pt` are for viewing. The learned rate is not saved. Pairs of other names are read too (see _pairs.py).
"""

from pathlib import Path

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.layouts import _pairs
from ddhub.interop.reading import Foreign, Reading


def detect(path: Path, how: Reading) -> bool:
    """Accept files of images and labels without a rate; with a rate, no logits."""
    pairs = _pairs.find(path)
    return pairs is not None and (pairs.lr is None or not _pairs.has_logits(pairs, how))


def read(path: Path, how: Reading) -> Foreign:
    """Read all parts in the order of their numbers."""
    pairs = _pairs.find(path)
    if pairs is None:
        raise UserError(f"{path.name}: holds no images_best.pt, as the layout mtt has it", next=reading.ANY_LAYOUT)
    images, (hard, soft) = _pairs.images(pairs, how), _pairs.labels(pairs, how)
    folder = path if path.is_dir() else path.parent
    words = folder.resolve().name.lower().replace("-", "_").split("_")
    zca = None if "zca" not in words else words[max(0, words.index("zca") - 1)] not in ("no", "non", "without")
    notes = [f"whitening read off the folder's name, {folder.resolve().name}"] if zca is not None else []
    records = reading.records(pairs.files, folder)
    lr = _pairs.rate(pairs, how)
    if hard is None and soft is not None and (soft.sum(1) == 1).all() and ((soft == 0) | (soft == 1)).all():
        hard, soft, notes = soft.argmax(1), None, [*notes, "one-hot labels are kept as classes"]
    if soft is None:
        family, method = ("dc", None) if pairs.bench else ("mtt", "mtt")
        notes += ["normalised as DC-BENCH does, which names files so"] if pairs.bench else []
        return Foreign(family, images, hard, records, zca=zca, lr=lr, notes=notes, method=method)
    if not _pairs.are_probabilities(soft):
        where = (pairs.soft or pairs.labels)[0].name
        raise UserError(f"{where}: its rows are no probabilities", next="--layout datm, if they are logits")
    method = "tesla" if hard is None else None
    return Foreign("mtt", images, hard, records, soft, "probabilities", zca=zca, lr=lr, notes=notes, method=method)


def write(found: Artifact, folder: Path) -> None:
    """Write images_best.pt and labels_best.pt."""
    soft = found.manifest.labels.form == "probabilities"
    labels = found.soft_labels if soft and found.soft_labels is not None else found.labels
    reading.save(folder / "images_best.pt", found.inputs.clone())
    reading.save(folder / "labels_best.pt", labels.clone())


LAYOUT = Layout(
    detect=detect, read=read, write=write, uses=(), by_place=("probabilities",), holds=("hard", "probabilities")
)
