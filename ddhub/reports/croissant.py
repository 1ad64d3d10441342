"""The Croissant description of a set, croissant.json, with which `mlcroissant` reads its records.

Croissant 1.1, https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. Paths are relative, so the file
describes a copy of the set's folder. The Hub makes its own description (`/api/datasets/OWNER/NAME/croissant`). This one
adds facts that the Hub does not know: hashes, class names, the meaning of soft labels.
"""

from pathlib import Path
from typing import Any

from ddhub.artifact import parquet, parquet_file
from ddhub.artifact.file_names import CROISSANT
from ddhub.artifact.manifest import Manifest
from ddhub.base import strict_json
from ddhub.base.files import json_bytes
from ddhub.base.hub_client import REPO_ID

HUB = "https://huggingface.co/datasets"
PARQUET = "application/x-parquet"
FILES, RECORDS, CLASSES = "files", "train", "classes"  # ids in the description
# Terms of the vocabulary, as in the specification's context.
TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator"),
    *("source", "subField", "transform"),
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in TERMS},
}
FACTS = ("contentUrl", "sha256", "includes", "column", f"{CLASSES}/label", f"{CLASSES}/name")
IMAGE = "image"
COLUMNS = (IMAGE, "label", "soft_label", "soft_index", "pixels", "group")
NUMBERS = {"int16": "cr:Int16", "int32": "cr:Int32", "halffloat": "cr:Float16", "float": "cr:Float32"}


def render(manifest: Manifest, folder: Path) -> bytes:
    """The description of a set, from its manifest and the header of its first data file."""
    names = sorted(name for name in manifest.files if name.startswith("data/"))
    # mlcroissant checks the hash of a file that records name, but not the hashes in a file set.
    source = {"fileObject": {"@id": names[0]}} if len(names) == 1 else {"fileSet": {"@id": FILES}}
    stored = parquet_file.value_types(parquet.shards(folder)[0])
    fields = [_field(manifest, name, stored[name], source) for name in COLUMNS if name in stored]
    known = {"license": manifest.license, "isBasedOn": _page(manifest.source.dataset), "url": _page(manifest.repo_id)}
    return json_bytes(
        {
            "@context": CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "name": manifest.name,
            "description": _description(manifest),
            **{key: value for key, value in known.items() if value not in (None, "unknown")},
            "keywords": ["dataset-distillation", str(manifest.method["name"]).removeprefix("./")],
            "distribution": [*(_file(manifest, name) for name in names), _files()],
            "recordSet": [_classes(manifest), _node("RecordSet", RECORDS, RECORDS, field=fields)],
        }
    )


def faults(folder: Path, record: Manifest) -> list[str]:
    """Entries that lead a reader to other files, columns or classes than the set's. The file may be missing.

    Raises:
        UserError: for a file that is no JSON.
    """
    path = folder / CROISSANT
    if not path.is_file() or not parquet.shards(folder):
        return []
    said, true = strict_json.read(path), strict_json.parse(render(record, folder), str(path))
    return (
        []
        if _facts(said) == _facts(true)
        else [f"{path}: does not describe the files, columns and classes of this set"]
    )


def _facts(node: Any) -> set[tuple[str, ...]]:
    """The entries that a reader uses, at any place: addresses with hashes, columns, class names."""
    if isinstance(node, list):
        return set().union(*map(_facts, node))
    if not isinstance(node, dict):
        return set()
    own = tuple(str(node.get(key)) for key in FACTS)
    return _facts(list(node.values())) | ({own} if any(key in node for key in FACTS) else set())


def _page(repo_id: str | None) -> str | None:
    """The address of a Hub dataset; None if there is none."""
    return f"{HUB}/{repo_id}" if repo_id and REPO_ID.fullmatch(repo_id) else None


def _description(manifest: Manifest) -> str:
    """The set in one sentence."""
    side, source, method = manifest.stored_side, manifest.source.dataset, manifest.method["name"]
    made = "drawn at random" if method == "random" else f"distilled (method: {method})"
    classes = len(manifest.classes)
    return f"{sum(manifest.counts)} images of {side}x{side} pixels in {classes} classes, {made} from {source}."


def _node(kind: str, id: str, name: str, **more: Any) -> dict[str, Any]:
    """A node of the description. Values of None are left out."""
    return {"@type": f"cr:{kind}", "@id": id, "name": name, **{k: v for k, v in more.items() if v is not None}}


def _file(manifest: Manifest, name: str) -> dict[str, Any]:
    """A data file with its hash."""
    record = manifest.files[name]
    size = f"{record.bytes} B"
    return _node(
        "FileObject", name, name, contentUrl=name, contentSize=size, encodingFormat=PARQUET, sha256=record.sha256
    )


def _files() -> dict[str, Any]:
    """All data files together."""
    return _node("FileSet", FILES, FILES, encodingFormat=PARQUET, includes="data/train-*.parquet")


def _classes(manifest: Manifest) -> dict[str, Any]:
    """The class names, to which `label` refers."""
    label, name = f"{CLASSES}/label", f"{CLASSES}/name"
    return _node(
        "RecordSet",
        CLASSES,
        CLASSES,
        dataType="sc:Enumeration",
        key={"@id": label},
        field=[
            _node("Field", label, "label", dataType="sc:Integer"),
            _node("Field", name, "name", dataType=["sc:Text", "sc:name"]),
        ],
        data=[{label: number, name: title} for number, title in enumerate(manifest.classes)],
    )


def _field(manifest: Manifest, name: str, stored: str, source: dict[str, Any]) -> dict[str, Any]:
    """A column as a field of the records.

    Args:
        stored: arrow's name for the type of its values.
    """
    source = {**source, "extract": {"column": name}}
    if name == IMAGE:
        more: dict[str, Any] = {"dataType": "sc:ImageObject"}
        source["transform"] = {"jsonPath": "bytes"}
    elif name == "label":
        more = {"dataType": "sc:Integer", "references": {"field": {"@id": f"{CLASSES}/label"}}}
    else:
        more = {"dataType": NUMBERS.get(stored), **_shape(manifest, name)}
    return _node("Field", f"{RECORDS}/{name}", name, description=_meaning(manifest, name), source=source, **more)


def _shape(manifest: Manifest, name: str) -> dict[str, Any]:
    """The shape of a column's values, if they are arrays."""
    labels = manifest.labels.top_k or len(manifest.classes)
    shapes = {"soft_label": [labels], "soft_index": [labels], "pixels": list(manifest.stored_shape)}
    if name not in shapes:
        return {}
    return {"isArray": True, "arrayShape": ",".join(map(str, shapes[name]))}


def _meaning(manifest: Manifest, name: str) -> str | None:
    """The meaning of a column, if its name and type do not show it."""
    return {
        "soft_label": f"{manifest.labels.form.capitalize()}.",
        "soft_index": "The classes that the values of soft_label belong to.",
        "pixels": "Network inputs, preprocessed as ddhub.json says; image shows them in 8 bits.",
        "group": "The independently made group of the image.",
    }.get(name)
