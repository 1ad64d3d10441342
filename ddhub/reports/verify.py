"""Verification of a set: every fault is named, and none is mended.

Memory is bounded, because the data files are read by row groups. torch is imported only for `pixels` and for teachers.
Shapes: B rows of one group, K classes, C H W image.
"""

import os
import re
from pathlib import Path

import numpy as np

from ddhub.artifact import manifest, parquet, payload_hashes
from ddhub.artifact.file_names import CARD, RECIPE, REPORT
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.parquet import Arrays
from ddhub.base import files, limits, links, redact, strict_json, strict_yaml
from ddhub.base.errors import UserError
from ddhub.base.units import listed
from ddhub.data import whitening
from ddhub.evaluation import rows
from ddhub.reports import croissant, summary, tables
from ddhub.reports.documents import Evaluation
from ddhub.training import teacher_file

SUM_TOLERANCE = 0.01  # tolerance for a sum of float16 probabilities over many classes


def faults(folder: Path) -> list[str]:
    """The faults of an artifact folder, one line each, naming the file; empty for a sound set."""
    try:
        record = manifest.read(folder)
    except UserError as fault:
        return str(fault).splitlines()
    found = payload_hashes.file_faults(folder, record) + _links(folder)
    contradictions = manifest.contradictions(record, f"{folder}/ddhub.json")
    found += contradictions
    # Data cannot be read by a contradictory manifest.
    checks = () if contradictions else (_data, _preprocessing, _teachers, croissant.faults)
    for check in (*checks, _recipe, _results):
        try:
            found += check(folder, record)
        except UserError as fault:
            found.append(fault.args[0])
    # A damaged file causes faults in several checks. Each fault is listed once. File names can hold anything.
    return list(dict.fromkeys(map(redact.shown, found)))


def _links(folder: Path) -> list[str]:
    """Links out of the folder, to files or folders. Nothing is read, written or published through them."""
    places = [Path(at) / name for at, folders, names in os.walk(folder) for name in (*folders, *names)]
    out = sorted(path for path in places if path.is_symlink() and links.leads_out(folder, path))
    return [f"{path}: is a link that leads out of the folder" for path in out]


def _data(folder: Path, record: Manifest) -> list[str]:
    """Faults of the data files: columns, counts, classes, ranges."""
    where = f"{folder}/data"
    if not parquet.shards(folder):
        return [f"{where}: holds no train-*.parquet"]
    found = []
    names = parquet.class_names(folder)
    if names != record.classes:
        found.append(f"{where}: column 'label' does not carry the manifest's class names")
    classes = len(record.classes)
    counts = np.zeros(classes, np.int64)
    first, rows_of = 0, None
    if record.groups * classes <= parquet.count(folder):  # otherwise some group lacks a class
        rows_of = np.zeros((record.groups, classes), np.int64)
    elif record.groups > 1:
        found.append(f"{where}: has fewer rows than {record.groups} groups of {classes} classes")
    for part in parquet.arrays(folder, record.stored_shape):
        found += [f"{where}: {fault}" for fault in _columns(part, record)]
        if part.labels.min() < 0 or part.labels.max() >= classes:
            return [*found, f"{where}: column 'label' has values outside 0..{classes - 1}"]
        counts += np.bincount(part.labels, minlength=classes)
        found += [f"{where}: rows from {first}: {fault}" for fault in _count_groups(part, rows_of)]
        found += [f"{where}: rows from {first}: {fault}" for fault in _ranges(part, record)]
        first += len(part)
    found += [f"{where}: {fault}" for fault in _groups(rows_of, record)]
    odd = (counts != np.array(record.counts)).nonzero()[0].tolist()
    wrong = [f"'{record.classes[k]}' has {counts[k]}" for k in odd]
    if wrong:
        found.append(f"{where}: {record.ipc_text} images per class are promised, but {listed(wrong, 3)}")
    return found


def _count_groups(part: Arrays, rows_of: np.ndarray | None) -> list[str]:
    """Count the rows of each group and class, if rows have groups."""
    if part.group is None or rows_of is None:
        return []
    groups, classes = rows_of.shape
    if part.group.min() < 0 or part.group.max() >= groups:
        return [f"column 'group' has values outside 0..{groups - 1}"]
    places = part.group * classes + part.labels
    rows_of += np.bincount(places, minlength=groups * classes).reshape(groups, classes)
    return [] if (np.diff(part.group) >= 0).all() else ["column 'group' is not in order"]


def _groups(rows_of: np.ndarray | None, record: Manifest) -> list[str]:
    """Differences between the counts of groups and the manifest."""
    if rows_of is None:
        return []
    expected = np.array(record.counts_of_groups)
    wrong = [] if record.groups == 1 or not rows_of.any() else (rows_of != expected).any(1).nonzero()[0].tolist()
    if not wrong:
        return []
    promised = manifest.ipc_text(record.counts_of_groups[wrong[0]])
    return [f"group {wrong[0]} has not {promised} images of every class"]


def _columns(part: Arrays, record: Manifest) -> list[str]:
    """Differences between the existing columns and the manifest's."""
    promised = {
        "soft_label": record.labels.form != "hard",
        "soft_index": record.labels.top_k is not None,
        "pixels": record.preprocess.pixels_space is not None,
        "group": record.groups > 1,
    }
    present = {"soft_label": part.soft, "soft_index": part.index, "pixels": part.pixels, "group": part.group}
    found = []
    for name, wanted in promised.items():
        if wanted != (present[name] is not None):
            found.append(f"column '{name}' is {'missing' if wanted else 'there, which the manifest does not say'}")
    width = record.labels.top_k or len(record.classes)
    if part.soft is not None and part.soft.shape[1] != width:
        found.append(f"column 'soft_label' has {part.soft.shape[1]} values per image, not {width}")
    return found


def _ranges(part: Arrays, record: Manifest) -> list[str]:
    """Values that are out of range."""
    found = []
    for name, column in (("soft_label", part.soft), ("pixels", part.pixels)):
        if column is not None and not np.isfinite(column).all():
            found.append(f"column '{name}' holds values that are not finite")
    if part.index is not None and (part.index.min() < 0 or part.index.max() >= len(record.classes)):
        found.append(f"column 'soft_index' has values outside 0..{len(record.classes) - 1}")
    if part.soft is not None and record.labels.form == "probabilities":
        sums = part.soft.astype(np.float32).sum(1)
        over = sums.max() > 1 + SUM_TOLERANCE
        under = record.labels.top_k is None and sums.min() < 1 - SUM_TOLERANCE
        if part.soft.min() < 0 or over or under:
            found.append("column 'soft_label' holds no probabilities, which the manifest says it does")
    return found


def _preprocessing(folder: Path, record: Manifest) -> list[str]:
    """Faults of the whitening's shape and values, and differences between `pixels` and the displayed pictures."""
    found = None
    if record.preprocess.zca:
        path = folder / record.preprocess.zca
        if not path.is_file():
            return []  # reported already
        found = whitening.read(path, record.source.channels * record.source.resolution**2)
    if record.preprocess.pixels_space is None or record.imported is not None:
        return []
    import torch

    from ddhub.data.preprocess import Preprocess

    known = (tuple(record.preprocess.mean), tuple(record.preprocess.std))
    preprocess = Preprocess(*known, *(map(torch.from_numpy, found) if found else ()))
    first = next(parquet.read(folder, record.stored_shape), None)
    if first is None or first.pixels is None:
        return []
    shown, _ = preprocess.pixels(first.pixels.float())
    if (shown.int() - first.images.int()).abs().float().mean() > 2:  # float16 changes display values by less than 1
        return [f"{folder}/data: columns 'pixels' and 'image' do not show the same pictures"]
    return []


def _teachers(folder: Path, record: Manifest) -> list[str]:
    """Differences of each teacher's file from its entry in the manifest, or else from the network that it names."""
    found = []
    for teacher in record.teachers:
        path = folder / teacher.file
        if not path.is_file():
            continue  # reported already
        expected = {
            "arch": teacher.arch,
            "classes": len(record.classes),
            "channels": record.source.channels,
            "side": record.source.resolution,
        }
        try:
            facts = teacher_file.facts(path)
            wrong = [name for name, value in expected.items() if facts[name] != value]
            found += [f"{path}: its {name} is {facts[name]!r}, not {expected[name]!r}" for name in wrong]
            if not wrong:
                _check_weights(path)
        except UserError as fault:
            found.append(fault.args[0])
    return found


def _check_weights(path: Path) -> None:
    """Refuse a teacher whose weights no training could load."""
    from ddhub.training import device, teachers

    teachers.load([path], decisions=device.Decisions())


def _recipe(folder: Path, record: Manifest) -> list[str]:
    """Differences between recipe and manifest."""
    path = folder / RECIPE
    if not path.is_file():
        return [] if RECIPE in record.files else [f"{path}: missing"]
    content = strict_yaml.read(path)
    if not isinstance(content, dict):
        return [f"{path}: not a recipe"]
    content = {"groups": 1, **content}  # imported sets and older recipes have no key `groups`
    expected = {"name": record.name, "ipc": record.ipc, "groups": record.groups}
    return [f"{path}: {key} is not the manifest's" for key, value in expected.items() if content.get(key) != value]


def _results(folder: Path, record: Manifest) -> list[str]:
    """Differences between report, card and rows."""
    try:
        found = rows.of(record, folder / "evaluation")
        built, copies = summary.build(record.name, found), rows.each_once(found)[1]
        said = [*([f"{folder / 'evaluation'}: {copies}"] if copies else []), *_report(folder, built)]
    except UserError as fault:
        return [fault.args[0], *_card(folder, record, None)]
    return said + _card(folder, record, built)


def _report(folder: Path, built: Evaluation) -> list[str]:
    """Differences between the report and its rows."""
    path = folder / REPORT
    if not path.is_file():
        return [f"{path}: missing, with rows in evaluation/"] if built.rows else []
    agrees = summary.agrees(strict_json.read(path), built)
    return [] if agrees else [f"{path}: is not the summary of the rows in evaluation/"]


def _card(folder: Path, record: Manifest, built: Evaluation | None) -> list[str]:
    """Differences between the card's header and the manifest, and between its results and the report."""
    path = folder / CARD
    if not path.is_file():
        return [f"{path}: missing"]
    with files.regular(path) as file:
        text = file.read(2 * limits.YAML_BYTES).decode(errors="replace")
    found_header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    header = strict_yaml.parse_yaml(found_header[1], f"{path}: header") if found_header else None
    if not isinstance(header, dict):
        return [f"{path}: has no YAML header"]
    found = []
    if header.get("license") != record.license:
        found.append(f"{path}: license is not the manifest's '{record.license}'; publish.license of the recipe sets it")
    configs = header.get("configs")
    listed = configs if isinstance(configs, list) else []
    paths = [entry.get("data_files") for entry in listed if isinstance(entry, dict)]
    if paths != [[{"split": "train", "path": "data/train-*.parquet"}]]:
        found.append(f"{path}: configs do not name data/train-*.parquet as split train")
    if built is not None and built.rows and tables.results(built) not in text:
        found.append(f"{path}: its results are not those of the rows in evaluation/")
    shown = dict.fromkeys(re.findall(r"\]\((assets/[\w.-]+\.png)\)", text))
    missing = [name for name in shown if not (folder / name).is_file()]
    return found + [f"{folder / name}: missing, and the card shows it" for name in missing]
