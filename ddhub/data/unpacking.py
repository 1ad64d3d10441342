"""Zipped folders of pictures, unpacked once into the cache. `datasets` would take the archive's folder for a class."""

import shutil
import zipfile
from pathlib import Path

from ddhub.base import files, limits, new_folder
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.base.units import size

OF_OTHERS = (".", "__MACOSX")  # how names of other programs' files and folders begin
DOCUMENTS = (".md", ".txt", ".gitattributes", ".json", "")  # suffixes of files that may lie beside the archives


def archives(place: Path) -> list[Path]:
    """The zip files of a source: the place itself, or the files of a folder of archives."""
    if place.is_file():
        return [place] if zipfile.is_zipfile(place) else []
    found = [path for path in [*place.iterdir(), *place.glob("data/*")] if not path.name.startswith(".")]
    found = [path for path in found if path.is_file() and path.suffix.lower() not in DOCUMENTS]
    folders = [path for path in place.iterdir() if path.is_dir() and path.name != "data" and path.name[0] != "."]
    only = bool(found) and not folders and all(path.suffix.lower() == ".zip" for path in found)
    return sorted(found) if only else []


def unpacked(place: Path) -> Path:
    """The source as a folder: the place itself, or its archives unpacked, each into a folder of its name.

    Raises:
        UserError: for an archive that is damaged, leads out of itself, or unpacks to too many bytes.
    """
    found = archives(place)
    if not found:
        return place
    stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in found]
    out = files.home() / "unpacked" / files.digest(stats)[:32]
    with files.locked(out.with_suffix(".lock")):
        if not out.is_dir():
            with files.disk_errors(out, "unpacking"), new_folder.whole(out) as staging:
                for path in found:
                    say(f"unpacking {path}, once; cached in {out}")
                    _unpack(path, staging / path.stem if len(found) > 1 else staging)
    return out


def _unpack(path: Path, out: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir() and not _beside(each.filename)]
            total, packed = sum(each.file_size for each in members), path.stat().st_size
            if total > max(limits.UNPACKED, limits.PACKED * packed):
                raise UserError(f"source: {path}: would unpack to {size(total)}; refused", next="unpack it yourself")
            for member in members:
                target = out / member.filename
                if not target.resolve().is_relative_to(out.resolve()):
                    raise UserError(f"source: {path}: holds {member.filename!r}, which leads out of it; refused")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as fault:
        raise UserError(
            f"source: {path}: cannot be unpacked ({one_line(fault, 200)})", next=f"unzip -t {quoted(path)}"
        ) from fault


def _beside(name: str) -> bool:
    """Whether a member is a leftover of macOS or an editor."""
    return any(part.startswith(OF_OTHERS) for part in name.split("/") if part not in (".", ".."))
