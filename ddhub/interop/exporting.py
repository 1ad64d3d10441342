"""Export: an artifact in somebody else's layout, for tools that read no other."""

from pathlib import Path
from typing import Any

from ddhub.artifact import folder
from ddhub.artifact.folder import Artifact
from ddhub.base import files, plugins
from ddhub.base.errors import UserError
from ddhub.interop import layout as layouts


def export(source: Path, layout: str, out: Path) -> dict[str, Any]:
    """Write the artifact in folder `source` into the new folder `out`, all of it or nothing.

    Returns:
        `files` written, `space` that the values are in, and `left_out`: what the layout has no place for.

    Raises:
        UserError: for a layout that cannot hold the set; says why.
    """
    chosen = layouts.load(layout)
    if chosen.write is None:
        raise UserError(
            f"--layout {layout}: is only read; an artifact is a Hub dataset already",
            next=f"ddhub push {source} OWNER/NAME",
        )
    found = folder.read(source)
    _check_holds(found, layout, chosen.holds)
    files.refuse_taken(out)
    with files.disk_errors(out, "exporting"), files.whole_folder(out) as staging, plugins.blaming(chosen.code):
        chosen.write(found, staging)
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return {
        "folder": str(out),
        "layout": layout,
        "files": written,
        "space": space(found, layout),
        "left_out": _left_out(found, layout, chosen.holds),
    }


def _check_holds(found: Artifact, layout: str, forms: tuple[str, ...]) -> None:
    """Refuse a set without the soft labels that a layout is made of."""
    form = found.manifest.labels.form
    if "hard" not in forms and form not in forms:
        labels = "has hard labels only" if form == "hard" else f"has {form}"
        raise UserError(f"{found.folder}: {labels}, and the layout {layout} holds {forms[0]}", next="--layout mtt")


def space(found: Artifact, layout: str) -> str:
    """What the exported values are, in words; numbers in full, so that they can be given to an import."""
    known = found.manifest.preprocess
    if layout == "folder":
        return "8-bit pixels, as PNG because JPEG would change them"
    if known.per_image:
        return "float32 inputs whitened as KIP does, every image centred and of norm 1"
    if known.zca:
        return f"float32 inputs whitened by ZCA (mean and matrix: {known.zca} of the artifact); read them with ZCA"
    mean, std = (",".join(map(repr, values)) for values in (known.mean, known.std))
    return f"float32 inputs, (pixel / 255 - mean) / std; --mean {mean} --std {std}"


def _left_out(found: Artifact, layout: str, forms: tuple[str, ...]) -> list[str]:
    record = found.manifest
    lost = ["class names, statistics and protocol"]
    if record.labels.form != "hard" and record.labels.form not in forms:
        lost.append(f"soft labels ({record.labels.form}): {layout} holds classes alone")
    if layout == "folder" and found.pixels is not None:
        lost.append("column pixels: 8 bits cannot hold the set's float inputs")
    if record.groups > 1:
        lost.append(f"which of the {record.groups} groups an image is of")
    if record.teachers:
        lost.append(f"{len(record.teachers)} teachers")
    return lost
