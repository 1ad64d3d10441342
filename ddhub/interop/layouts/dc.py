"""Dataset condensation's files (DC, DSA, DM: github.com/VICO-UoE/DatasetCondensation): `res_DC_..._10ipc.pt`.

A dict: `data` is a list of experiments, each [images float32 (N, C, H, W), labels int64 (N,)], normalised.
DC-BENCH reads the last experiment. Some files hold one experiment without the list, or without the dict (DataDAM).
"""

import re
from pathlib import Path
from typing import Any

from ddhub.artifact.folder import Artifact
from ddhub.base.errors import UserError
from ddhub.data import catalog
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading


def _experiments(content: Any) -> list[Any] | None:
    found = content.get("data") if isinstance(content, dict) else None
    pairs = isinstance(found, list) and found and all(isinstance(p, list | tuple) and len(p) == 2 for p in found)
    if pairs:
        return found
    alone = reading.pair(content if found is None else found)
    return [list(alone)] if alone is not None else None


def detect(path: Path, how: Reading) -> bool:
    """Accept a torch file with a list of pairs, or with one pair of normalised images."""
    if not reading.is_torch(path):
        return False
    content = reading.load(path, how)
    alone = reading.pair(content)
    return _experiments(content) is not None and (alone is None or not reading.is_unit(alone[0]))


def read(path: Path, how: Reading) -> Foreign:
    """Read one experiment. The user must choose if there are several."""
    found = _experiments(reading.load(path, how))
    if found is None:
        raise UserError(
            f"{path.name}: key 'data' is not a list of [images, labels], as the layout dc has it",
            next=reading.ANY_LAYOUT,
        )
    chosen = how.experiment if how.experiment is not None or len(found) > 1 else 0
    if chosen is None or not 0 <= chosen < len(found):
        raise UserError(
            f"{path.name}: holds {len(found)} experiments, numbered from 0; DC-BENCH reads the last",
            next=f"--experiment {len(found) - 1}",
        )
    where = f"{path.name}: data[{chosen}]"
    images = reading.pictures(found[chosen][0], f"{where}[0]", how)
    labels = reading.numbers(found[chosen][1], f"{where}[1]", how)
    named = re.match(r"res_([A-Za-z0-9]+)_", path.name)
    notes = [f"experiment {chosen} of {len(found)} in the file"] if len(found) > 1 else []
    return Foreign(
        "dc",
        images,
        labels,
        reading.records([path], path.parent),
        method=named.group(1).lower() if named else None,
        notes=notes,
    )


def write(found: Artifact, folder: Path) -> None:
    """Write `res_METHOD_DATASET_ConvNet_NNipc.pt` with one experiment."""
    record = found.manifest
    method = "".join(letter for letter in str(record.method["name"]).upper() if letter.isalnum()) or "DDHUB"
    dataset, net = catalog.spelling(record.source.dataset), "ConvNet"
    if catalog.dataset(record.source.dataset) == "tiny":
        dataset, net = "tinyimagenet", "ConvNetD4"  # the name that DC-BENCH expects
    name = f"res_{method}_{dataset}_{net}_{record.ipc}ipc.pt"
    content = {"data": [[found.inputs.clone(), found.labels.clone()]], "accs_all_exps": {}}
    reading.save(folder / name, content)


LAYOUT = Layout(detect=detect, read=read, write=write, uses=("experiment",))
