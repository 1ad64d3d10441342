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
from ddhub.base.errors import UserError
from ddhub.base.files import is_path
from ddhub.data import source as sources
from ddhub.data.preprocess import Preprocess
from ddhub.interop import conventions, input_space
from ddhub.interop import layout as layouts
from ddhub.interop.input_space import InputSpace
from ddhub.interop.layout import Layout


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
            next=f"ddhub push {source} OWNER/NAME",
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
    """The command that imports the exported files."""
    source = found.manifest.source.dataset
    local = source_location.remembered(found.manifest)
    told = ["--layout", layout] if is_path(layout) else []
    told += ["--source", local if local and source.startswith("./") else source]
    if local and not source.startswith("./"):
        told += ["--set", f"source.path={local}"]
    if local:  # its pictures may have other sizes
        told += ["--set", f"source.resolution={found.manifest.source.resolution}"]
    if conventions.disputed_order(layout, source) and layout != "folder":
        told += ["--order", "source"]
    words = ["ddhub", "import", str(out), *told, *values.options, "--out", f"{out}-imported"]
    return shlex.join(words)


def _left_out(found: Artifact, layout: str, forms: tuple[str, ...]) -> list[str]:
    record = found.manifest
    lost = ["statistics and protocol" if layout == "folder" else "class names, statistics and protocol"]
    if record.labels.form != "hard" and record.labels.form not in forms:
        lost.append(f"soft labels ({record.labels.form}): {layout} holds classes alone")
    if layout == "folder" and record.preprocess.pixels_space is not None:
        lost.append("column pixels: 8 bits cannot hold the set's float inputs")
    if record.groups > 1:
        lost.append(f"which of the {record.groups} groups an image is of")
    if record.teachers:
        lost.append(f"{len(record.teachers)} teachers")
    return lost
