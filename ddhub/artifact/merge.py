"""Merging: sets made independently, with the same source and teachers, become one set.

Everything that a reader of images and labels must know has to be the same in all parts. Each difference is reported.
Rows are copied byte for byte, set after set, and column `group` tells the parts apart. Nothing is measured again. The
costs of packaging and the copy checks stay with the parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddhub import __version__
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest, parquet, payload_hashes, set_name, source_location
from ddhub.artifact.file_names import MANIFEST, RECIPE
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.manifest_parts import MOST_GROUPS, ByteCounts, Imported, Making, Part
from ddhub.base import files, strict_yaml
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say, warn

# These keys may differ between parts: names that reading does not need, and figures that are averaged.
FREE = ("source.revision", "source.image", "source.label", "preprocess.clipped", "labels.rest")


@dataclass(frozen=True)
class MergedPart:
    """A set to merge."""

    name: str  # the folder, or owner/name@commit
    folder: Path
    record: Manifest
    recipe: dict[str, Any]
    on_hub: bool

    @property
    def parts(self) -> list[Part]:
        """The sets that were distilled as a whole: this one, or those merged into it."""
        return self.record.merged or [_part(self.record, self.name if self.on_hub else None)]

    @property
    def recipes(self) -> list[dict[str, Any]]:
        """The recipes of these sets."""
        payload = manifest.identity(self.record.files)
        return self.recipe.get("merged") or [{"name": self.record.name, "payload": payload, "recipe": self.recipe}]


def read(name: str, folder: Path) -> MergedPart:
    """Read the facts of a set, and check its files against their hashes.

    Raises:
        UserError: naming the missing or damaged file.
    """
    record = manifest.read(folder)
    folders.check_files(folder, record)
    path = folder / RECIPE
    described = strict_yaml.read(path)
    if not isinstance(described, dict):
        raise UserError(f"{path}: not a recipe", next=f"ddhub verify {quoted(name)}")
    return MergedPart(name, folder, record, described, on_hub=name != str(folder))


def merge(sets: Sequence[MergedPart], out: Path, name: str) -> None:
    """Write payload and manifest of the merged set into the empty folder `out`.

    Raises:
        UserError: listing every difference of sets that must agree, or naming sets with the same images.
    """
    set_name.check_name(name)
    if len(sets) < 2:
        raise UserError("merge: takes two sets or more", next="ddhub merge A B --out DIR")
    _refuse_repeated(sets)
    _refuse_different(sets)
    _refuse_contained(sets)
    _warn_of_one_start(sets)
    first, groups = sets[0], sum(one.record.groups for one in sets)
    if groups > MOST_GROUPS:
        raise UserError(f"merge: {groups} groups, and column 'group' counts to {MOST_GROUPS}")
    say(f"{name}: merging {len(sets)} sets, {groups} groups in all")
    parquet.merge(out, [(one.folder, one.record.groups) for one in sets], first.record.classes)
    for shared in first.record.files:
        if shared.startswith("teachers/") or shared == first.record.preprocess.zca:
            files.write_bytes(out / shared, (first.folder / shared).read_bytes())
    record = _manifest(sets, name, groups)
    files.write_bytes(out / RECIPE, strict_yaml.to_yaml(_recipe_content(sets, record)).encode())
    records = payload_hashes.file_records(out)
    data = sum(file.bytes for path, file in records.items() if path.startswith("data/"))
    labels = sum(one.record.bytes.labels for one in sets)
    counts = first.record.bytes.model_copy(update={"images": data - labels, "labels": labels})
    whole = record.model_copy(update={"files": records, "bytes": counts})
    files.write_bytes(out / MANIFEST, manifest.dump(whole))
    known = [source_location.remembered(one.record) for one in sets]
    local = next((path for path in known if path is not None), None)
    source_location.remember(whole, local)


def _refuse_repeated(sets: Sequence[MergedPart]) -> None:
    """Refuse a set that occurs twice, alone or inside a merged one."""
    seen: dict[str, str] = {}
    for one in sets:
        for part in one.parts:
            if part.payload in seen:
                raise UserError(
                    f"{seen[part.payload]} and {one.name}: both hold the set '{part.name}' ({part.payload[:12]})",
                    next="let every set be there once",
                )
            seen[part.payload] = one.name


def _refuse_different(sets: Sequence[MergedPart]) -> None:
    """Refuse sets whose images or labels need different readers."""
    first, known = sets[0], _facts(sets[0])
    faults = []
    for other in sets[1:]:
        facts = _facts(other)
        for file, key in dict.fromkeys([*known, *facts]):
            ours, theirs = known.get((file, key)), facts.get((file, key))
            if ours != theirs:
                shown = f"{_short(ours, theirs)} against {_short(theirs, ours)}"
                faults.append(f"{first.name}/{file} and {other.name}/{file}: {key}: {shown}")
    if faults:
        raise UserError("\n".join(faults), next="make them of one recipe: ddhub distill RECIPE --set seed=1, 2, ...")


def _facts(one: MergedPart) -> dict[tuple[str, str], Any]:
    """The facts that all parts must share, by file and key."""
    record = one.record
    sections = ("source", "preprocess", "labels", "protocol")
    keys = {f"{name}.{key}": value for name in sections for key, value in getattr(record, name).model_dump().items()}
    keys = {key: value for key, value in keys.items() if key not in FREE}
    keys |= {"classes": record.classes, "teachers": [teacher.arch for teacher in record.teachers]}
    keys["imported.layout"] = record.imported and record.imported.layout
    facts = {(MANIFEST, key): value for key, value in keys.items()}
    for path in [record.preprocess.zca, *(teacher.file for teacher in record.teachers)]:
        if path is not None:
            facts[path, "sha256"] = record.files[path].sha256
    columns = parquet.kinds(one.folder)
    return facts | {("data", f"column '{name}'"): kind for name, kind in columns.items()}


def _short(value: Any, other: Any) -> str:
    """A value for an error message. For a list, the first item that differs."""
    if isinstance(value, list) and isinstance(other, list):
        if len(value) != len(other):
            return f"{len(value)} of them"
        place = next(index for index, (a, b) in enumerate(zip(value, other, strict=True)) if a != b)
        return f"{value[place]!r} at {place}"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_contained(sets: Sequence[MergedPart]) -> None:
    """Refuse a set whose images all occur in another set. Labels and storage do not matter."""
    pictures = [parquet.pictures(one.folder) for one in sets]
    for place, one in enumerate(sets):
        for other in range(len(sets)):
            if other != place and pictures[place] <= pictures[other]:
                raise UserError(f"{one.name}: all of its images are in {sets[other].name}", next="leave it out")


def _warn_of_one_start(sets: Sequence[MergedPart]) -> None:
    """Warn of sets with one seed that began from real images: both drew from the same training images."""
    seen: dict[int, str] = {}
    for one in sets:
        for part in one.parts:
            if part.init not in ("real", "easy") or part.seed is None:
                continue
            if part.seed in seen:
                warn(
                    f"WARNING: {seen[part.seed]} and {part.name} have seed {part.seed}, so their images began as the "
                    "same training images and can still be alike\n"
                    "  next: ddhub distill RECIPE --set seed=N, with another N for each set"
                )
            seen[part.seed] = part.name


def _part(record: Manifest, hub: str | None) -> Part:
    return Part(
        name=record.name,
        hub=hub,
        payload=manifest.identity(record.files),
        **{key: getattr(record, key) for key in Part.model_fields if key not in ("name", "hub", "payload")},
    )


def _manifest(sets: Sequence[MergedPart], name: str, groups: int) -> Manifest:
    """The merged manifest without its files: shared facts, sums and means."""
    first, records = sets[0].record, [one.record for one in sets]
    inits = [record.init for record in records]
    counts = [sum(column) for column in zip(*(record.counts for record in records), strict=True)]
    return first.model_copy(
        update={
            "name": name,
            "ipc": max(counts),
            "unequal": counts if len(set(counts)) > 1 else None,
            "groups": groups,
            "merged": [part for one in sets for part in one.parts],
            "preprocess": first.preprocess.model_copy(update={"clipped": _mean(records, _clipped)}),
            # Equal to the mean over all values left out, because every image leaves out as many.
            "labels": first.labels.model_copy(update={"rest": _mean(records, _rest)}),
            "method": _method([record.method for record in records]),
            "seed": first.seed if all(record.seed == first.seed for record in records) else None,
            "init": " and ".join(dict.fromkeys(i for i in inits if i)) if all(inits) else None,
            "packaging": None,
            "memorisation": None,
            "imported": _imported(records),
            "repo_id": None,
            "made": _made(records),
            "files": {},
            "bytes": ByteCounts(images=0, labels=0, preprocess=first.bytes.preprocess, teachers=first.bytes.teachers),
        }
    )


def _clipped(record: Manifest) -> float:
    return record.preprocess.clipped


def _rest(record: Manifest) -> float | None:
    return record.labels.rest


def _mean(records: Sequence[Manifest], value: Any) -> float | None:
    """The mean of a figure over all images; None if a part lacks it."""
    if value(records[0]) is None:
        return None
    weights = [sum(record.counts) for record in records]
    pairs = zip(records, weights, strict=True)
    return float(sum(value(record) * weight for record, weight in pairs) / sum(weights))


def _method(methods: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The names of the parts' methods, and the settings that all parts share."""
    shared = {key: value for key, value in methods[0].items() if all(m.get(key) == value for m in methods)}
    return {**shared, "name": "+".join(dict.fromkeys(str(method["name"]) for method in methods))}


def _imported(records: Sequence[Manifest]) -> Imported | None:
    """The origin of imported parts, which share one layout."""
    found = [(record.name, record.imported) for record in records if record.imported is not None]
    if not found:
        return None
    read = {f"{name}/{file}": known for name, imported in found for file, known in imported.files.items()}
    notes = dict.fromkeys(note for _, imported in found for note in imported.notes)
    return Imported(layout=found[0][1].layout, files=read, notes=list(notes))


def _made(records: Sequence[Manifest]) -> Making:
    """The cost of all parts. Seconds are summed, except those of the shared teachers."""
    every = [record.made for record in records]
    phases: dict[str, float] = {}
    for made in every:
        for phase, seconds in made.phases.items():
            before = phases.get(phase, 0.0)
            phases[phase] = max(before, seconds) if phase == "teachers" else round(before + seconds, 1)
    known = all(made.seconds is not None for made in every)
    peaks = [made.peak_bytes for made in every if made.peak_bytes is not None]
    return Making(
        ddhub=__version__,
        torch=torch.__version__,
        device=every[0].device if len({made.device for made in every}) == 1 else None,
        seconds=round(sum(phases.values()), 1) if known else None,
        phases=phases if known else {},
        peak_bytes=max(peaks) if len(peaks) == len(every) else None,
    )


def _recipe_content(sets: Sequence[MergedPart], record: Manifest) -> dict[str, Any]:
    """The content of `recipe.yaml`: the recipes of all parts, because no single run makes the merged set."""
    source, license = record.source.dataset, record.source.license
    images = f"{record.ipc_text} images per class in {record.groups} groups"
    pretty = f"{source.split('/')[-1]} distilled by {record.method['name']}, {images}"
    return {
        "name": record.name,
        "ipc": record.ipc,
        "groups": record.groups,
        "merged": [entry for one in sets for entry in one.recipes],
        "evaluate": sets[0].recipe.get("evaluate", {}),
        "publish": {"license": license, "pretty_name": pretty},
    }
