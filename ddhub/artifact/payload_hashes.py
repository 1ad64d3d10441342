"""The payload of a set, compared with the hashes in its manifest."""

import re
from pathlib import Path

from ddhub.artifact.file_names import PAYLOAD
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.manifest_parts import FILE_NAME, FileRecord
from ddhub.base import files, links


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Hash and size of each payload file in a folder."""
    paths = sorted(path for pattern in PAYLOAD for path in folder.glob(pattern))
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=files.sha256(path), bytes=path.stat().st_size)
        for path in paths
    }


def file_faults(folder: Path, record: Manifest) -> list[str]:
    """One line per payload file that is missing, damaged, unknown to the manifest, or outside the folder."""
    faults = []
    for name, expected in record.files.items():
        path = folder / name
        if not re.fullmatch(FILE_NAME, name):
            faults.append(f"{folder}/ddhub.json: files: {name[:60]!r} is no file's name")
        elif ".." in Path(name).parts or Path(name).is_absolute():
            faults.append(f"{folder}/ddhub.json: files: '{name}' leads out of the folder")
        elif links.leads_out(folder, path):
            faults.append(f"{path}: is a link that leads out of the folder")
        elif not path.is_file():
            faults.append(f"{path}: missing")
        elif path.stat().st_size != expected.bytes:
            faults.append(f"{path}: damaged: {path.stat().st_size} bytes, {expected.bytes} expected")
        elif files.sha256(path) != expected.sha256:
            faults.append(f"{path}: damaged: its sha256 is not the manifest's")
    named = [teacher.file for teacher in record.teachers] + [n for n in [record.preprocess.zca] if n]
    faults += [f"{folder}/ddhub.json: '{name}' is not among its files" for name in named if name not in record.files]
    there = {path.relative_to(folder).as_posix() for pattern in PAYLOAD for path in folder.glob(pattern)}
    strangers = sorted(there - set(record.files))
    return faults + [f"{folder / name}: not among the manifest's files" for name in strangers]
