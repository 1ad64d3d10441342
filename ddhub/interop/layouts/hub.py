"""Labelled image datasets that `datasets.load_dataset` reads: a Hub id or local folder (rethinkdc's sets, D3HR's).

rethinkdc's sets have columns `image` and `class_id`, plain integers without names. There is no export, because an
artifact is such a dataset already.
"""

from pathlib import Path

from ddhub.artifact.manifest_parts import FileRecord
from ddhub.base import hub_client, hub_faults, links
from ddhub.base.errors import UserError
from ddhub.base.units import listed
from ddhub.data import source
from ddhub.data.spec import SourceSpec
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading

# Files that identify such a folder. Other tables can be anything and need `--layout hub`.
TABLES = ("*.parquet", "*.arrow", "metadata.csv", "metadata.jsonl")


def detect(path: Path, how: Reading) -> bool:
    """Accept `owner/name` that is no local path, or a folder with tables or with a folder per split."""
    if not path.exists():
        return hub_client.is_id(str(path)) and path.suffix not in reading.SINGLE
    if not path.is_dir():
        return False
    tables = any(any(place.glob(pattern)) for place in (path, path / "data") for pattern in TABLES)
    return tables or (path / "train").is_dir()


def read(path: Path, how: Reading) -> Foreign:
    """Read one split as uint8 pixels, with the dataset's class names."""
    local = path.is_dir()
    outside = next((p for p in path.rglob("*") if links.leads_out(path, p)), None) if local else None
    if outside is not None:
        raise UserError(
            f"{outside.relative_to(path)}: is a link that leads out of the folder; refused",
            next="put the file itself there",
        )
    spec = SourceSpec(
        dataset=path.name if local else str(path),
        path=str(path.absolute()) if local else None,
        revision=None if local else how.revision,
        config=how.config,
        image=how.image,
        label=how.label,
        train=how.split,
        range=list(how.range) if how.range else None,
        background=how.background,
    )
    try:
        split, _, _ = source.load_train(spec, limit=how.limit)
    except UserError as fault:
        said = str(fault).splitlines()[0].removeprefix("source: ").replace("source.", "")
        where = path.name if local else str(path)
        then = "--config NAME" if "which subset?" in said else "--image, --label, --split or --config NAME"
        if fault.next and "source.range" in fault.next:
            then = "--range BLACK,WHITE"
        refused = None if local else hub_faults.of_hub(fault)
        if refused is not None:
            then = hub_faults.explain(refused, str(path))[1]
        raise UserError(f"{where}: as a set of images: {said}", next=then) from fault
    notes = []
    if local:
        paths = sorted(p for p in path.rglob("*") if p.is_file() and not p.relative_to(path).as_posix().startswith("."))
        records = reading.records(paths, path)
    else:
        decoded = FileRecord(sha256=split.fingerprint.removeprefix("sha256:"), bytes=split.images.nbytes)
        records = {f"{path}@{split.spec.revision}": decoded}
        notes = ["the hash is of the decoded images, labels and class names of the Hub dataset"]
    notes += [f"read from the subset {how.config}"] if how.config else []
    columns = source.encoded(split.spec, how.split, theirs=True).dataset.features
    others = [name for name in columns if name not in (split.spec.image, split.spec.label)]
    notes += [f"left out: columns that are neither image nor class ({listed(others, 5)})"] if others else []
    return Foreign("hub", split.images, split.labels, records, groups=split.classes, notes=notes)


LAYOUT = Layout(detect=detect, read=read, uses=("image", "label", "split", "config", "range", "background"))
