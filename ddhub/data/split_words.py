"""Names of folders and files that say a split, as `datasets` reads them, and names that people mean so.

`datasets` reads `trainset` and `testset` as folders of one split, and so as images to train on. Such folders are
refused.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath

from ddhub.base import limits
from ddhub.base.errors import UserError

# The splits of `datasets`, and the words in the names of folders or files by which it tells them.
SPLITS = {
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
EDGE = "[-._ 0-9]"  # what may stand beside such a word
IN_FOLDER = {split: re.compile(rf"(?:^|{EDGE})(?:{words})(?:{EDGE}|$)") for split, words in SPLITS.items()}
IN_FILE = {split: re.compile(rf"(?:^|{EDGE})(?:{words}){EDGE}") for split, words in SPLITS.items()}
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".zip", ".tar", ".gz", ".tgz")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")  # how the names of a split's parts end
LEVELS = 4  # folders of a Hub dataset, from above, whose names are looked at
# What people write beside the word, in a name that says nothing but the split.
BESIDE = re.compile("(?:s|set|data|dataset|images?|imgs?|pictures?|pics|photos?|samples?|files?|split|folder)?")


def of_folder(folder: Path) -> list[str]:
    """The splits that `datasets` takes a folder for, by its name and those of its parents."""
    return [split for split, word in IN_FOLDER.items() if any(word.search(part) for part in folder.parts)]


def of_file(name: str) -> list[str]:
    """The splits that `datasets` takes a file for, by its own name."""
    return [split for split, word in IN_FILE.items() if word.search(name)]


def meant(name: str) -> tuple[str, str] | None:
    """The split that a name begins or ends with, in any case, and the rest of the name; None if there is none."""
    found = _cut(name)
    return None if found is None else (found[0], _trimmed("".join(found[1:]).lower()))


def _cut(name: str) -> tuple[str, str, str] | None:
    """The split that a name says, and what stands before and behind its word, one of them empty."""
    plain = name.lower()
    words = [(word, split) for split, known in SPLITS.items() for word in known.split("|")]
    for word, split in sorted(words, key=lambda each: -len(each[0])):
        if plain.startswith(word):
            return split, "", name[len(word) :]
        if plain.endswith(word):
            return split, name[: -len(word)], ""
    return None


def _trimmed(rest: str) -> str:
    return re.sub(f"^{EDGE}+|{EDGE}+$", "", rest)


def _divided(name: str) -> tuple[str, str] | None:
    """The split and the class in a name that shows where one ends: `trainA`, `horsesTest`, `Train_horses`.

    `trainer` and `tester` show no such place.
    """
    found = _cut(name)
    if found is None or not _trimmed(found[1] + found[2]):
        return None
    split, before, behind = found
    at = len(before) or len(name) - len(behind)
    left, right = name[at - 1], name[at]
    told = re.match(EDGE, left if before else right) or (left.islower() and right.isupper())
    return (split, _trimmed(before + behind)) if told else None


def refuse_misnamed(folder: Path) -> None:
    """Refuse folders or tables that are named as splits in a way that `datasets` does not read.

    A folder whose README names the files of each split is not refused.

    Raises:
        UserError: with the commands to rename them.
    """
    if not folder.is_dir() or _names_files(folder):
        return
    place, there = folder, _entries(folder)
    while len(there) == 1 and there[0].is_dir() and not there[0].is_symlink():
        place, there = there[0], _entries(there[0])
    folders = [path for path in there if path.is_dir()]
    odd = _misnamed(folders) or _misnamed([path for path in there if path.suffix.lower() in TABLES])
    if odd:
        named = [path for path in there if meant(_stem(path)) and (path.is_dir() == odd[0].is_dir())]
        raise UserError(
            f"source: {place}: {', '.join(path.name for path in named)} would not be read as splits of their own:"
            " such names are train and test, in small letters, or train-NAME and test-NAME",
            next="; ".join(shlex.join(["mv", str(path), str(_better(path, named))]) for path in odd),
        )
    moves = _splits_of_classes(folders)
    if moves:
        raise UserError(
            f"source: {place}: {', '.join(path.name for path in moves)} would be read as classes, and their names say"
            " splits: a split is a folder train or test, with a folder for each class",
            next="; ".join(
                [
                    shlex.join(["mkdir", "-p", *sorted({str(target.parent) for target in moves.values()})]),
                    *(shlex.join(["mv", str(path), str(target)]) for path, target in moves.items()),
                ]
            ),
        )


def refuse_merged(repo_id: str, names: Iterable[str]) -> None:
    """Refuse a Hub dataset whose folders or tables are named as splits, and are read as one split.

    Args:
        names: the files that `datasets` reads as one split, by their paths in the repo.

    Raises:
        UserError: with the commands to fetch the files and to rename them.
    """
    copy = repo_id.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as root:  # empty folders and files of these names
        inside = [path for path in map(PurePosixPath, names) if not path.is_absolute() and ".." not in path.parts]
        for parts in {path.parts[:-1][:LEVELS] for path in inside}:
            Path(root, *parts).mkdir(parents=True, exist_ok=True)
        for path in inside:
            if path.suffix.lower() in TABLES and len(path.parts) <= LEVELS:
                Path(root, path).touch()
        try:
            refuse_misnamed(Path(root))
        except UserError as fault:
            fetch = shlex.join(["hf", "download", repo_id, "--repo-type", "dataset", "--local-dir", copy])
            then = f"{fetch}; {str(fault.next).replace(root, copy)}; then --set source.path={shlex.quote(copy)}"
            raise UserError(fault.args[0].replace(root, repo_id), next=then) from None


def _splits_of_classes(folders: Sequence[Path]) -> dict[Path, Path]:
    """A place for each folder of pictures, if all are named by split and class, and a class is there in two splits."""
    told = {path: found for path in folders if (found := _divided(path.name)) is not None}
    kinds = [kind for _, kind in set(told.values())]
    if len(told) < len(folders) or len(set(kinds)) == len(kinds) or all(map(_is_read, folders)):
        return {}
    if any(map(_folders_in, folders)):
        return {}
    return {path: path.parent / split / kind for path, (split, kind) in told.items()}


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))


def _names_files(folder: Path) -> bool:
    """Whether the header of a README says which files belong to a split."""
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(limits.YAML_BYTES)
    except OSError:
        return False
    head = text.split(b"\n---")[0]
    return head.startswith(b"---") and (b"data_files" in head or b"data_dir" in head)


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else SHARD.sub("", path.name.partition(".")[0])


def _is_read(path: Path) -> bool:
    """Whether `datasets` takes an entry for the split that its name says."""
    said = meant(_stem(path))
    return said is not None and said[0] in (of_folder(Path(path.name)) if path.is_dir() else of_file(path.name))


def _misnamed(entries: Sequence[Path]) -> list[Path]:
    """The entries that are meant as splits, beside others of another split, and are not read as such."""
    named = [path for path in entries if meant(_stem(path))]
    found = set()
    for a, b in combinations(named, 2):
        if not (_is_read(a) and _is_read(b)) and _are_a_pair(a, b):
            found |= {path for path in (a, b) if not _is_read(path)}
    return sorted(found)


def _are_a_pair(a: Path, b: Path) -> bool:
    """Whether two entries are two splits of the same kind of images, and not two classes."""
    first, second = meant(_stem(a)), meant(_stem(b))
    if first is None or second is None or first[0] == second[0]:
        return False
    if BESIDE.fullmatch(first[1]) and BESIDE.fullmatch(second[1]):
        return True
    return bool(_folders_in(a) & _folders_in(b)) if a.is_dir() else first[1] == second[1]


def _folders_in(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")}


def _better(path: Path, named: Sequence[Path]) -> Path:
    """A name that `datasets` reads, and that no other entry has."""
    said = meant(_stem(path))
    assert said is not None
    ending = "" if path.is_dir() else path.name[len(_stem(path)) :]
    target = path.with_name(said[0] + ending)
    alike = [each for each in named if (meant(_stem(each)) or ("",))[0] == said[0]]
    return target if len(alike) == 1 else path.with_name(f"{said[0]}-{path.name}")
