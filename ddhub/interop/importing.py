"""Import: a set in another tool's layout becomes an artifact that is loaded and evaluated like a native one.

Missing facts come from conventions.py or from the user, and are recorded. Nothing is guessed.
Shapes: N images, C H W image, K classes.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Unpack

import torch

from ddhub import __version__
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest, parquet, payload_hashes, set_name, source_location
from ddhub.artifact.file_names import MANIFEST, RECIPE, WHITENING
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.manifest_parts import Imported, LabelRecord, Making
from ddhub.artifact.parquet import Rows
from ddhub.base import arguments, files, near_paths, plugins, strict_yaml
from ddhub.base import overrides as changes
from ddhub.base.errors import UserError, at_least, quoted
from ddhub.base.log import say
from ddhub.base.schema import check
from ddhub.data import catalog, plausibility
from ddhub.data import classes as class_names
from ddhub.data import source as sources
from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.data.spec import SourceSpec, is_local
from ddhub.interop import class_order, conventions, hub_set, input_space
from ddhub.interop import layout as layout_module
from ddhub.interop import reading as readings
from ddhub.interop.input_space import StatedSpace
from ddhub.interop.layout import Layout
from ddhub.interop.options import ImportOptions
from ddhub.interop.reading import Foreign, Reading
from ddhub.training.field_networks import CONVNET_DEPTH, usual_depth
from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class ImportRequest:
    """The user's statements about a set. None leaves a fact to the files and the table."""

    source: str  # the dataset it was distilled from: a Hub id, `digits` or a folder
    overrides: Sequence[str] = ()  # `source.KEY=VALUE`
    layout: str = "auto"
    name: str | None = None
    method: str | None = None
    license: str | None = None
    lr: float | None = None
    epochs: int | None = None
    space: StatedSpace = field(default_factory=StatedSpace)
    classes: str | Path | None = None  # a file with one class name per line, in the set's order
    order: str | None = None  # `source` affirms that the set has the source's class order
    reading: Reading = field(default_factory=Reading)


def ask(source: str, **options: Unpack[ImportOptions]) -> ImportRequest:
    """The user's statements, from keyword arguments. Arrays of numpy and torch become lists, as files hold them.

    Raises:
        UserError: for numbers that no set has, such as a rate that is not finite.
    """
    given = {name: arguments.plain(value) for name, value in options.items() if value is not None}
    read, space = (
        {field.name: given.pop(field.name) for field in fields(part) if field.name in given}
        for part in (Reading, StatedSpace)
    )
    overrides = changes.texts(given.pop("overrides", ()))
    if "lr" in given and not 0 < given["lr"] < math.inf:
        raise UserError(f"--lr {given['lr']}: expected a rate above 0", next="--lr 0.01")
    at_least(1, epochs=options.get("epochs"), factor=options.get("factor"), limit=options.get("limit"))
    at_least(0, experiment=options.get("experiment"))
    return ImportRequest(source, overrides, space=StatedSpace(**space), reading=Reading(**read), **given)


def import_set(path: Path, out: Path, asked: ImportRequest) -> Path:
    """Make an artifact from the foreign set at `path`: payload and manifest, in the empty folder `out`.

    Args:
        asked: its `name`, the set's name, is required.

    Raises:
        UserError: for facts that are missing or contradict each other. Nothing is written then.
    """
    assert asked.name is not None
    name = set_name.check_name(asked.name)
    path, fetched = (path, []) if asked.layout == "hub" else hub_set.fetched(path, asked.reading)
    layout, path = find(path, asked.layout, asked.reading)
    layout_module.refuse_unused(asked.reading, layout, path.name)
    found = read(path, layout, asked.reading)
    _refuse_second_rate(asked, found, path.name)
    if found.labels is None:
        readings.refuse_labels_beside(path, found.files)
    spec, local = _source(asked, found)
    space = input_space.settle(asked.space, found, spec.dataset)
    named = _class_file(asked)
    _check_order(asked, found, spec.dataset)
    split, _, _ = sources.load_train(spec)
    found = _in_channels(found, int(split.images.shape[1]))
    _check_shape(found, split, path.name)
    found, order_notes = class_order.settle(found, split.classes, named, asked.order == "source", path.name)
    fitted, space_notes = input_space.fit(space, split)
    if found.unit:
        found = replace(found, images=fitted.inputs_from_unit(found.images), unit=False)
    plausibility.check(found.images, fitted, path.name, real=split.images)
    notes = [*fetched, *found.notes, *order_notes, *space_notes]
    source_location.remember(_write(out, name, layout, asked, found, split, fitted, notes), local)
    for note in notes:
        say(f"note: {note}")
    return out


def evaluation_of(folder: Path) -> str:
    """The command that evaluates an imported set: a ConvNet for its size, and no baselines that need teachers."""
    record = manifest.read(folder)
    side = record.source.resolution
    arch = "convnet" if side in CONVNET_DEPTH else f"convnet{usual_depth(side)}"
    words = ["ddhub", "evaluate", str(folder), "--archs", arch]
    return shlex.join(words if record.labels.form == "hard" else [*words, "--baselines", "none"])


def find(path: Path, layout: str, how: Reading) -> tuple[str, Path]:
    """The layout of the set at a path, and the file or folder that holds it.

    Raises:
        UserError: naming the candidates, if no layout fits or several do.
    """
    _refuse_known(path)
    layouts = plugins.LAYOUTS.every(layout_module.load) if layout == "auto" else {layout: layout_module.load(layout)}
    places = [path]
    if path.is_dir():
        places += sorted(p for p in path.iterdir() if p.suffix in readings.SINGLE and not readings.is_half(p))
    fitting = [(name, place) for place in places for name, each in layouts.items() if _detects(each, place, how)]
    if len(fitting) == 1:
        return fitting[0]
    if layout != "auto" and len(fitting) < 2:
        return layout, path  # the layout's own reader reports best what is missing
    if not fitting:
        if not path.exists():
            raise near_paths.no_set(path)
        what = f"{path}: fits none of the layouts ({', '.join(layouts)})"
        if path.is_file() and path.suffix in readings.SINGLE:
            raise UserError(f"{what}; it holds {_held(path, how)}", next=readings.AS_PAIR)
        raise UserError(what, next=readings.AS_PAIR if path.is_file() else "--layout NAME says what is missing")
    shown = "; ".join(f"{place} (--layout {name})" for name, place in fitting)
    raise UserError(f"{path}: several sets are possible: {shown}", next="name one of these paths and its --layout")


def _detects(layout: Layout, place: Path, how: Reading) -> bool:
    with plugins.blame_plugin(layout.code):
        return layout.detect(place, how)


def read(path: Path, layout: str, how: Reading) -> Foreign:
    """Read a set in a layout, with the content of its files unchanged.

    Raises:
        UserError: for missing parts, or a layout plug-in that returns no set.
    """
    chosen = layout_module.load(layout)
    with plugins.blame_plugin(chosen.code):
        found = chosen.read(path, how)
    if not isinstance(found, Foreign) or found.family not in conventions.PROTOCOLS:
        known = ", ".join(sorted(conventions.PROTOCOLS))
        raise UserError(f"layout {layout}: read returns no Foreign(family, images, ...) with a family of {known}")
    notes = [f"read by code of {chosen.code}"] if chosen.code else []
    return replace(found, notes=[*found.notes, *notes])


def _refuse_second_rate(asked: ImportRequest, found: Foreign, where: str) -> None:
    """Refuse a learning rate that differs from the one in the files."""
    if asked.lr is not None and found.lr is not None and not math.isclose(asked.lr, found.lr, rel_tol=1e-6):
        raise UserError(
            f"--lr {asked.lr:g}: the files of {where} hold the rate {found.lr:g}",
            next="without --lr; ddhub evaluate SET --set native.lr=RATE trains with another rate",
        )


def _held(path: Path, how: Reading) -> str:
    """The content of a file in words."""
    return readings.describe(readings.arrays(path, how) if path.suffix == ".npz" else readings.load(path, how))


def _refuse_known(path: Path) -> None:
    """Refuse artifacts and known files that are no foreign set."""
    if path.is_dir() and (path / MANIFEST).is_file():
        raise UserError(f"{path}: is a ddhub artifact already", next=f"ddhub evaluate {quoted(path)}")
    per_batch = path.is_dir() and any(path.glob("epoch_*/batch_*.tar"))
    if path.name.startswith(("FKD_", "batch_")) or per_batch:
        raise UserError(
            f"{path.name}: holds FKD labels: logits of every batch of a training run, tied to the crop, flip and "
            "mixing drawn for it, which no column of labels can hold",
            next="import the folder of images instead",
        )
    if path.is_file() and path.suffix in (".zip", ".tar", ".gz", ".tgz", ".7z"):
        raise UserError(f"{path.name}: is an archive", next="unpack it, and import the folder")


def _source(asked: ImportRequest, found: Foreign) -> tuple[SourceSpec, str | None]:
    """The source to read, and its local folder. Only the name of a local folder is recorded."""
    data: dict[str, Any] = {"source": {"dataset": asked.source}}
    foreign_keys = [text for text in asked.overrides if not text.strip().startswith("source.")]
    if foreign_keys:
        raise UserError(f"--set {foreign_keys[0]}: here only source.KEY=VALUE can be set", next="ddhub import --help")
    changes.override(data, asked.overrides)
    spec, faults = check(SourceSpec, data["source"], "source.")
    if spec is None:
        raise UserError("\n".join(faults), next="ddhub recipes --keys")
    if spec.path is None and is_local(spec.dataset):
        folder = Path(spec.dataset).expanduser()
        spec = spec.model_copy(update={"dataset": f"./{folder.absolute().name}", "path": str(folder.absolute())})
    if spec.resolution is None and catalog.dataset(spec.dataset) == "imagenet":
        # The source's images differ in size. They are compared at the set's side.
        spec = spec.model_copy(update={"resolution": int(found.images.shape[-1])})
    return spec, str(Path(spec.path).expanduser().absolute()) if spec.path else None


def _class_file(asked: ImportRequest) -> list[str] | None:
    """The class names in the file of `--classes`, one per line."""
    if asked.classes is None:
        return None
    if asked.order is not None:
        raise UserError("--classes and --order both say the class order; give one of them", next="leave --order out")
    try:
        lines = Path(asked.classes).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        told = f"--classes {asked.classes}: cannot be read ({type(fault).__name__})"
        raise UserError(told, next=class_order.NAMES) from fault
    return [line.strip() for line in lines if line.strip()]


def _check_order(asked: ImportRequest, found: Foreign, dataset: str) -> None:
    """Ask for the class order if several are in use and the files name no classes."""
    disputed = conventions.disputed_order(found.family, dataset)
    numbered = not found.groups or all(group.isdigit() for group in found.groups)
    if disputed and numbered and asked.order is None and asked.classes is None:
        raise UserError(
            f"class order: {disputed}, and the files do not say which",
            next="--classes FILE (a class name per line, in the set's order), or --order source to affirm the source's",
        )


def _in_channels(found: Foreign, channels: int) -> Foreign:
    """A set of pictures with the channels of its source. Grey is repeated; equal channels become one."""
    images = found.images
    if images.is_floating_point() or images.shape[1] == channels:
        return found
    if channels == 3:
        return replace(found, images=images.expand(-1, 3, -1, -1).contiguous())
    grey = bool((images == images[:, :1]).all())
    return replace(found, images=images[:, :1].contiguous()) if grey else found


def _check_shape(found: Foreign, split: Split, where: str) -> None:
    ours, theirs = tuple(found.images.shape[1:]), tuple(split.images.shape[1:])
    if ours == theirs:
        return
    if split.spec.dataset == "digits":
        raise UserError(
            f"{where}: images of {ours[0]} channels and {ours[1]}x{ours[2]} pixels, and digits are 8x8 and grey",
            next="--source DATASET: what the set was made from",
        )
    raise UserError(
        f"{where}: images of {ours[0]} channels and {ours[1]}x{ours[2]} pixels, and the source has {theirs[0]} and "
        f"{theirs[1]}x{theirs[2]}",
        next=f"--set source.resolution={ours[1]} --set source.channels={ours[0]}, if it was made from such images",
    )


def _write(
    out: Path,
    name: str,
    layout: str,
    asked: ImportRequest,
    found: Foreign,
    split: Split,
    fitted: Preprocess,
    notes: list[str],
) -> Manifest:
    """Write payload and manifest, and return the manifest. Facts found here are added to `notes`."""
    assert found.labels is not None
    exact = found.images if found.images.is_floating_point() else None
    shown, clipped = (found.images, 0.0) if exact is None else fitted.pixels(exact)
    rows = Rows(shown, found.labels, found.soft, None, exact)
    counts = found.labels.bincount(minlength=len(split.classes)).tolist()
    ipc = max(counts)
    lr = asked.lr if asked.lr is not None else found.lr
    protocol, protocol_notes = conventions.protocol(found.family, split.spec.dataset, ipc, found.form, lr)
    if asked.epochs is not None:
        protocol = protocol.model_copy(update={"epochs": asked.epochs})
    notes += protocol_notes
    layout = plugins.public_name(layout)
    imported = Imported(layout=layout, files=found.files, notes=notes)
    method = {"name": asked.method or found.method or layout}
    license = asked.license or catalog.LICENSES.get(split.spec.dataset)
    parquet.write(out, rows, split.classes)
    if fitted.zca is not None:
        files.write_bytes(out / WHITENING, fitted.to_bytes())
    described = _recipe_content(name, imported, counts, split.spec, protocol, method, license)
    files.write_bytes(out / RECIPE, strict_yaml.to_yaml(described).encode())
    records = payload_hashes.file_records(out)
    record = Manifest(
        name=name,
        ipc=ipc,
        unequal=counts if len(set(counts)) > 1 else None,
        classes=list(split.classes),
        wnids=class_names.wnids(split.classes),
        source=folders.source_record(split, license),
        preprocess=folders.preprocess_record(fitted, rows, clipped),
        labels=LabelRecord(form=found.form),
        teachers=[],
        protocol=protocol,
        method=method,
        imported=imported,
        made=Making(ddhub=__version__, torch=torch.__version__),
        files=records,
        bytes=folders.byte_counts(records, rows),
    )
    files.write_bytes(out / MANIFEST, manifest.dump(record))
    return record


def _recipe_content(
    name: str,
    imported: Imported,
    counts: list[int],
    source: SourceSpec,
    protocol: Protocol,
    method: dict[str, Any],
    license: str | None,
) -> dict[str, Any]:
    """The `recipe.yaml` of an imported set: its origin, its evaluation and its card."""
    pretty = (
        f"{source.dataset.split('/')[-1]} distilled by {method['name']}, {manifest.ipc_text(counts)} images per class"
    )
    return {
        "name": name,
        "imported": imported.model_dump(mode="json"),
        "ipc": max(counts),
        "source": source.model_copy(update={"path": None}).model_dump(mode="json"),
        "method": method,
        "evaluate": {"epochs": protocol.epochs, "lr": protocol.lr, "batch": protocol.batch, "seeds": 5},
        "publish": {"license": license, "pretty_name": pretty},
    }
