"""Foreign sets in Hub repos as files: tensors, archives and folders of pictures are fetched and unpacked.

A repo's list of files is checked before anything is fetched. All files are read at one commit.
"""

import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ddhub.base import files, hub_client, limits, new_folder, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.base.units import listed, size
from ddhub.data import unpacking
from ddhub.interop import reading
from ddhub.interop.reading import Reading

TABLES = (".parquet", ".arrow", ".csv", ".jsonl")  # files that `datasets` reads
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
SHARD = re.compile(r"-?\d+\.tar$")  # a part of a large dataset, which `datasets` reads
SHOWN = 5  # number of candidates named in a message
MEMBERS = 10**6  # most members of an archive
LINK = 0o12  # the file type of a link, in a zip member's mode


@dataclass(frozen=True)
class Repo:
    """A Hub dataset at one commit, with its files and their sizes."""

    name: str
    commit: str
    sizes: dict[str, int]


def fetched(path: Path, how: Reading) -> tuple[Path, list[str]]:
    """The local place of a set, with notes. A set in a Hub repo's files is fetched and unpacked.

    Local paths, and repos whose tables `datasets` reads, are returned unchanged.

    Raises:
        UserError: if a repo holds several sets, or exceeds the limit.
    """
    if not hub_client.is_id(str(path)) or path.suffix in reading.SINGLE:
        return path, []
    repo = _listed(str(path), how.revision)
    chosen = _chosen(repo, how.file)
    if chosen is None:
        return path, []
    wanted = [name for name in repo.sizes if _belongs(name, chosen)]
    total = sum(repo.sizes[name] for name in wanted)
    if total > how.limit:
        raise UserError(
            f"{repo.name}: {chosen or 'its files'}: {size(total)}, more than the {size(how.limit)} that are read",
            next=f"--max-bytes {total}, if you trust it",
        )
    folder = _cache(repo.name, repo.commit)
    with files.locked(folder.with_name(f"{folder.name}.lock")):
        _fetch(repo, wanted, folder)
        place = folder / chosen
        if place.name.lower().endswith(ARCHIVES):
            place = _unpacked(place, how)
    return _inner(place), [f"fetched from {repo.name}@{repo.commit}{f': {chosen}' if chosen else ''}"]


def _listed(name: str, revision: str | None) -> Repo:
    """The files of a repo at the current commit of a revision. The listing of a commit is cached."""
    commit, sizes = str(revision), {}
    if hub_client.COMMIT.fullmatch(commit):
        listed = strict_json.known(_note(name, commit), limits.JSON_BYTES)
        sizes = {each: length for each, length in listed.items() if isinstance(length, int)}
    if not sizes:
        with hub_client.errors(f"looking up {name}", name):
            found = hub_client.describe(name, revision, sizes=True)
        sizes, commit = dict(found.sizes), found.commit
        files.write_json(_note(name, commit), sizes)
    reading.check_names(sizes)
    odd = next(filter(_leads_out, sizes), None)
    if odd is not None:
        raise UserError(f"{name}: names a file '{odd}', which leads out of it; refused")
    return Repo(name, commit, sizes)


def _cache(name: str, commit: str) -> Path:
    return files.home() / "hub-sets" / f"{name.replace('/', '--')}@{commit}"


def _note(name: str, commit: str) -> Path:
    """The cache file for the listing of a commit."""
    folder = _cache(name, commit)
    return folder.with_name(f"{folder.name}.json")


def _chosen(repo: Repo, asked: str | None) -> str | None:
    """The file or folder of a repo that holds the set; None if its tables hold it."""
    if asked is not None:
        inside = asked.strip("/")
        if not any(_belongs(name, inside) for name in repo.sizes):
            raise UserError(f"{repo.name}: holds no file or folder '{asked}'", next=f"--file: {_few(_sets(repo))}")
        return inside
    if any(name.lower().endswith(TABLES) for name in repo.sizes):
        return None
    found = _sets(repo)
    if len(found) > 1:
        raise UserError(f"{repo.name}: holds {len(found)} sets: {_few(found)}", next=f"--file {found[0]}")
    return found[0] if found else None


def _sets(repo: Repo) -> list[str]:
    """The files and folders of a repo that may each be a set, by path. An empty path is the whole repo."""
    names = [name for name in repo.sizes if not PurePosixPath(name).name.startswith((".", "FKD_", "batch_"))]
    archives = [name for name in names if name.lower().endswith(ARCHIVES)]
    if len(archives) > 1 and all(SHARD.search(name) for name in archives):
        archives = []
    single = [name for name in names if PurePosixPath(name).suffix in reading.SINGLE]
    whole = [name for name in single if not reading.is_half(Path(name))]
    halves = {_folder(name) for name in single if reading.is_half(Path(name))}
    pictures = {_folder(_folder(name)) for name in names if name.lower().endswith(PICTURES) and _folder(name)}
    return sorted({*archives, *whole, *halves, *pictures})


def _leads_out(name: str) -> bool:
    """Whether a file's name in a repo or archive leads out of it."""
    return name.startswith("/") or ".." in PurePosixPath(name).parts


def _folder(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


def _few(names: Sequence[str]) -> str:
    return listed([name or "(all of it)" for name in names], SHOWN)


def _belongs(name: str, chosen: str) -> bool:
    """Whether a file of a repo belongs to the chosen set: the file itself, a file in the folder, or its other half."""
    if chosen in ("", name) or name.startswith(f"{chosen}/"):
        return True
    halves = reading.is_half(Path(name)) and reading.is_half(Path(chosen))
    return halves and _folder(name) == _folder(chosen)


def _fetch(repo: Repo, wanted: Sequence[str], folder: Path) -> None:
    """Fetch files of a repo as plain files into a folder."""
    missing = [name for name in wanted if not (folder / name).is_file()]
    if not missing:
        return
    say(f"{repo.name}: fetching {len(missing)} files, {size(sum(repo.sizes[name] for name in missing))}")
    with files.disk_errors(folder, f"fetching {repo.name}"), hub_client.errors(f"fetching {repo.name}", repo.name):
        hub_client.download(repo.name, repo.commit, missing, folder)


def _unpacked(archive: Path, how: Reading) -> Path:
    """The folder with an archive's plain files. Links and special files are left out."""
    out = archive.with_name(f"{archive.name}.unpacked")
    if out.is_dir():
        return out
    say(f"{archive.name}: unpacking it")
    try:
        with files.disk_errors(out, f"unpacking {archive.name}"), new_folder.whole(out) as staging:
            for name, content in _members(archive, how):
                path = staging / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with content, path.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (UserError, OSError):
        raise
    except Exception as fault:  # zipfile and tarfile raise anything for a broken file
        raise UserError(
            f"{archive.name}: a damaged archive ({one_line(fault, 200)})",
            next=f"rm {quoted(archive)}, then the same command fetches it again",
        ) from fault
    return out


def _members(archive: Path, how: Reading) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of an archive, after a check of their total size."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            plain = [entry for entry in packed.infolist() if not entry.is_dir() and entry.external_attr >> 28 != LINK]
            _check(archive, [(entry.filename, entry.file_size) for entry in plain], how)
            for entry in plain:
                yield entry.filename, packed.open(entry)
        return
    with tarfile.open(archive) as taped:
        members = [member for member in taped if member.isfile()]
        _check(archive, [(member.name, member.size) for member in members], how)
        for member in members:
            content: Any = taped.extractfile(member)
            yield member.name, content


def _check(archive: Path, members: Sequence[tuple[str, int]], how: Reading) -> None:
    """Refuse names that lead out of the archive, and more content than the limit.

    Raises:
        UserError: naming the archive.
    """
    reading.check_names(name for name, _ in members)
    odd = next((name for name, _ in members if _leads_out(name)), None)
    if odd is not None:
        raise UserError(f"{archive.name}: holds '{odd}', which leads out of it; refused")
    total = sum(length for _, length in members)
    most = (
        how.limit
        if how.limit != reading.LIMIT
        else min(how.limit, max(limits.UNPACKED, limits.PACKED * archive.stat().st_size))
    )
    if total > most or len(members) > MEMBERS:
        raise UserError(
            f"{archive.name}: would unpack to {len(members)} files of {size(total)}, more than is read",
            next=f"--max-bytes {total}, if you trust it",
        )


def _inner(place: Path) -> Path:
    """The innermost folder below folders that hold nothing else. Archives often wrap their content in such folders."""
    while place.is_dir():
        inside = [path for path in place.iterdir() if not path.name.startswith(unpacking.OF_OTHERS)]
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name in ("train", "data", "syn_data"):
            break
        if not any(path.is_dir() for path in inside[0].iterdir()) and _has_pictures(inside[0]):
            break  # the only class of a set
        place = inside[0]
    return place


def _has_pictures(folder: Path) -> bool:
    return any(path.name.lower().endswith(PICTURES) for path in folder.iterdir())
