"""Export: an artifact in another tool's layout.

Values follow the conventions of the layout's family, on which its tools and an import rely. Images are ordered by
class, because some readers derive classes from positions.
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ddhub.artifact import folder, source_location
from ddhub.artifact.folder import Artifact
from ddhub.base import files, new_folder, plugins
from ddhub.base.errors import UserError, quoted
from ddhub.base.files import is_path
from ddhub.base.overrides import texts
from ddhub.base.units import counted
from ddhub.data import catalog
from ddhub.data import source as sources
from ddhub.data.preprocess import Preprocess
from ddhub.data.spec import SourceSpec
from ddhub.interop import conventions, input_space
from ddhub.interop import layout as layouts
from ddhub.interop.input_space import InputSpace
from ddhub.interop.layout import Layout
from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class Values:
    """The exported values of the images."""

    inputs: Tensor  # float32 (M, C, H, W)
    told: str  # their description
    options: tuple[str, ...] = ()  # options of `ddhub import` that the files do not state


def export(source: Path, layout: str, out: Path, named: bool = False) -> dict[str, Any]:
    """Write the artifact in folder `source` into the new folder `out`, complete or not at all.

    Args:
        named: in the layout `folder`, name class folders by their classes.

    Returns:
        `files` written, `space` of the values, `read_with` (the command to import them), and `left_out` (parts that the
        layout cannot hold).

    Raises:
        UserError: for a layout that cannot hold the set, with the reason.
    """
    chosen = layouts.load(layout)
    if chosen.write is None:
        raise UserError(
            f"--layout {layout}: is only read; an artifact is a Hub dataset already",
            next=f"ddhub push {quoted(source)} OWNER/NAME",
        )
    if named and not chosen.named:
        raise UserError(f"--named: the layout {layout} has no folders", next="--layout folder --named")
    found = _by_class(folder.read(source).whole())
    check_holds(found, layout, chosen)
    out = new_folder.untaken(out)
    values = _values(found, layout)
    found = replace(found, pixels=values.inputs)
    with files.disk_errors(out, "exporting"), new_folder.whole(out) as staging, plugins.blame_plugin(chosen.code):
        chosen.write(found, staging, *([named] if chosen.named else []))
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return {
        "folder": str(out),
        "layout": layout,
        "files": written,
        "space": values.told,
        "read_with": _read_with(found, layout, out, values),
        "left_out": _left_out(found, layout, chosen.holds),
    }


def _by_class(found: Artifact) -> Artifact:
    """The set with its rows ordered by class, and unchanged within each class."""
    order = found.labels.argsort(stable=True)
    columns = ("images", "labels", "soft_labels", "pixels", "groups")
    return replace(found, **{name: c[order] for name in columns if (c := getattr(found, name)) is not None})


def check_holds(found: Artifact, layout: str, chosen: Layout) -> None:
    """Refuse a set without the soft labels that a layout requires, or with classes that the layout would confuse.

    Raises:
        UserError: naming another layout.
    """
    record, forms = found.manifest, chosen.holds
    form = record.labels.form
    if "hard" not in forms and form not in forms:
        labels = "has hard labels only" if form == "hard" else f"has {form}"
        raise UserError(f"{found.folder}: {labels}, and the layout {layout} holds {forms[0]}", next="--layout mtt")
    if form in chosen.by_place and len(set(record.counts)) > 1:
        raise UserError(
            f"{found.folder}: has {record.ipc_text} images per class. The layout {layout} stores {form} without "
            "classes, and its readers take as many images for each",
            next="--layout dc, which stores classes, or --layout folder",
        )


def _values(found: Artifact, layout: str) -> Values:
    """The images with the preprocessing of the layout's family; of the set itself if that is not known."""
    own, family = found.preprocess, conventions.statistics(layout, found.manifest.source.dataset)
    if layout == "folder":
        return Values(found.inputs, "8-bit pixels, as PNG because JPEG would change them")
    if layout == "idc":
        return Values(_unit(found), "float32 pixels in [0, 1], whole images", ("--factor", "1"))
    if own.per_image:
        told = "float32 inputs whitened as KIP does, every image centred and of norm 1"
        return Values(found.inputs, told, ("--zca",))
    if own.zca is not None and (family is None or family.zca is not False):
        return Values(_whitened(found), "float32 inputs whitened by ZCA as the family fits it", ("--zca",))
    mean, std = own.mean, own.std
    if family is not None and family.mean is not None and family.std is not None:
        mean, std = family.mean, family.std
    same = own.zca is None and (mean, std) == (own.mean, own.std)
    inputs = found.inputs if same else Preprocess(mean, std).inputs_from_unit(_unit(found))
    numbers = tuple(",".join(map(repr, values)) for values in (mean, std))
    told = f"float32 inputs, (pixel / 255 - mean) / std; --mean {numbers[0]} --std {numbers[1]}"
    if family is None:
        return Values(inputs, told, ("--mean", numbers[0], "--std", numbers[1]))
    return Values(inputs, f"{told} ({family.source})", () if family.zca is False else ("--no-zca",))


def _unit(found: Artifact) -> Tensor:
    """The images as float pixels (M, C, H, W). [0, 1] can be displayed."""
    return found.images.float() / 255 if found.pixels is None else found.preprocess.unit(found.pixels)


def _whitened(found: Artifact) -> Tensor:
    """The images with the whitening of the field, fitted on all training images. An import fits it again."""
    if found.manifest.imported is not None:
        return found.inputs  # the set has that whitening already
    split, _, _ = sources.load_train(source_location.source_spec(found, None))
    if split.fingerprint != found.manifest.source.fingerprint:
        raise UserError(
            f"{split.spec.path or split.spec.dataset}: is not the source that {found.folder} was made from",
            next="--layout idc or --layout folder, which need no source",
        )
    fitted, _ = input_space.fit(InputSpace("zca", "as the family fits it"), split)
    return fitted.inputs_from_unit(_unit(found))


def _read_with(found: Artifact, layout: str, out: Path, values: Values) -> str:
    """The command that imports the exported files as this set, with its protocol as far as the labels allow it."""
    record, source = found.manifest, found.manifest.source
    told = ["--layout", layout] if is_path(layout) else []
    told += ["--source", source.dataset]
    for text in texts({f"source.{key}": value for key, value in _source_settings(found).items()}):
        told += ["--set", text]
    if conventions.disputed_order(layout, source.dataset) and layout != "folder":
        told += ["--order", "source"]
    if record.method["name"] != layout:
        told += ["--method", str(record.method["name"])]
    if source.license not in (None, catalog.LICENSES.get(source.dataset)):
        told += ["--license", str(source.license)]
    words = ["ddhub", "import", str(out), *told, *values.options, *_training_options(found, layout)]
    return shlex.join([*words, "--out", f"{out}-imported"])


def _source_settings(found: Artifact) -> dict[str, Any]:
    """The settings with which the set's source was read, except those that an import takes anyway."""
    local = source_location.remembered(found.manifest)
    spec = source_location.recorded_spec(found).model_copy(update={"path": local})
    shape = catalog.SHAPES.get(catalog.dataset(spec.dataset) or spec.dataset)
    usual = SourceSpec(dataset=spec.dataset, image="image", label="label")
    if local:
        spec = spec.model_copy(update={"revision": None})
    elif shape is not None:  # pictures in a folder may have other sizes than the Hub's
        usual = usual.model_copy(update={"resolution": shape.side or spec.resolution, "channels": shape.channels})
    known = usual.model_dump()
    return {key: value for key, value in spec.model_dump().items() if value is not None and value != known.get(key)}


def _imported_protocol(found: Artifact, layout: str) -> Protocol | None:
    """The protocol that an import takes from its table; None for a layout that is not in it."""
    record, form = found.manifest, _form(found, layouts.load(layout).holds)
    if layout not in conventions.PROTOCOLS:
        return None
    return conventions.protocol(layout, record.source.dataset, record.ipc, form, None)[0]


def _training_options(found: Artifact, layout: str) -> list[str]:
    """The rate and epochs of the set, if an import takes others. They say nothing about training by another loss."""
    own, theirs = found.manifest.protocol, _imported_protocol(found, layout)
    if theirs is not None and theirs.loss != own.loss:
        return []
    told = [] if theirs is not None and theirs.lr == own.lr else ["--lr", repr(own.lr)]
    return told if theirs is not None and theirs.epochs == own.epochs else [*told, "--epochs", str(own.epochs)]


def _form(found: Artifact, forms: tuple[str, ...]) -> str:
    """The form of the labels in the files."""
    form = found.manifest.labels.form
    return form if form in forms else "hard"


def _left_out(found: Artifact, layout: str, forms: tuple[str, ...]) -> list[str]:
    record = found.manifest
    own, theirs = record.protocol, _imported_protocol(found, layout)
    lost = ["statistics and protocol" if layout == "folder" else "class names, statistics and protocol"]
    if record.labels.form != _form(found, forms):
        lost.append(f"soft labels ({record.labels.form}): {layout} holds classes alone")
    if layout == "folder" and record.preprocess.pixels_space is not None:
        lost.append("column pixels: 8 bits cannot hold the set's float inputs")
    if record.groups > 1:
        lost.append(f"which of the {record.groups} groups an image is of")
    if record.teachers:
        lost.append(counted(len(record.teachers), "teacher"))
    if theirs is not None and theirs.loss != own.loss:
        lost.append(f"training by {own.loss}: an import trains as the layout's family does, by {theirs.loss}")
    elif theirs is not None:
        taken = theirs.model_dump(exclude={"lr", "epochs"}).items()
        other = [f"{key} {getattr(own, key)} ({value})" for key, value in taken if value != getattr(own, key)]
        lost += [f"of the protocol, beside what an import takes: {', '.join(other)}"] if other else []
    return lost
