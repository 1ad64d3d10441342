"""The content of a folder of pictures, by file names and some headers. Faults are found before any library loads.

`datasets` names a class by the folder of its pictures. It finds no classes if pictures lie at different depths, and it
silently skips unknown files. This module checks a folder first.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ddhub.base.errors import UserError
from ddhub.base.units import counted, listed
from ddhub.data import copies, split_words
from ddhub.data.unpacking import DOCUMENTS, OF_OTHERS

# Suffixes that `datasets` takes for pictures. Those that ddhub cannot decode are refused by name.
NAMED = """
apng blp bmp bufr bw cur dcx dds dib emf eps fit fits flc fli ftc ftu gbr gif grib icb icns ico iim im
j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpeg mpg msp pbm pcd pcx pgm png pnm ppm ps psd pxr ras rgb
rgba sgi tga tif tiff vda vst webp wmf xbm xpm
"""
PICTURES = frozenset(f".{name}" for name in NAMED.split())
TABLES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl")
ELSEWHERE = (".parquet", ".arrow", ".zip", ".tar", ".gz", ".tgz", ".lmdb", ".npz", ".h5")  # other kinds of data
LEFT_BEHIND = ("thumbs.db", "desktop.ini")  # files of other programs, without a dot
OUTSIDE = 0.1  # share of pictures in folders outside of all splits above which a folder is refused
TABLE = "metadata.csv, with columns file_name and label"
LOOKED = 256  # number of pictures whose headers are read
SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Contents:
    """The content of a folder of pictures. All paths are relative to it."""

    folder: Path
    pictures: tuple[Path, ...]
    unread: tuple[Path, ...]  # files that nothing reads, except documents
    empty: tuple[Path, ...]  # folders without any file below them
    links: tuple[Path, ...]  # links to folders, which `datasets` does not follow

    @property
    def classes(self) -> list[str]:
        """The names of the folders with pictures."""
        return sorted({path.parent.name for path in self.pictures})

    @cached_property
    def splits(self) -> dict[Path, list[str]]:
        """The splits of each picture that `datasets` reads, where folders or files are named as splits.

        Words in the names of folders count. If there are none, words in the names of files count.
        """
        folders = {path.parent: split_words.of_folder(path.parent) for path in self.pictures}
        found = {path: folders[path.parent] for path in self.pictures if folders[path.parent]}
        if found:
            return found
        named = {path: split_words.of_file(path.name) for path in self.pictures}
        return {path: splits for path, splits in named.items() if splits}

    @property
    def divided(self) -> bool:
        """Whether folders or files are named as splits. `datasets` then reads only these."""
        return bool(self.splits)

    @property
    def outside(self) -> list[Path]:
        """The pictures outside of all splits, which `datasets` does not read if there are splits."""
        return [path for path in self.pictures if self.divided and path not in self.splits]


def contents(folder: Path) -> Contents | None:
    """The content of a folder; None if `datasets` does not read it by its folders: tables, archives, a header."""
    pictures, unread, empty, links = [], [], [], []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(OF_OTHERS))
        here = Path(place).relative_to(folder)
        links += [here / name for name in folders if Path(place, name).is_symlink()]
        if not folders and not names:
            empty.append(here)
        for name in sorted(names):
            path = here / name
            if name.startswith(OF_OTHERS) or name.lower() in LEFT_BEHIND:
                continue
            if path.stem.lower() == "metadata" or path.suffix.lower() in ELSEWHERE:
                return None
            if path.suffix.lower() in PICTURES:
                pictures.append(path)
            elif path.suffix.lower() in TABLES or path.suffix.lower() not in DOCUMENTS:
                unread.append(path)
    tabular = not pictures and any(path.suffix.lower() in TABLES for path in unread)
    if tabular or _has_header(folder):
        return None
    return Contents(folder, tuple(pictures), tuple(unread), tuple(empty), tuple(links))


def beside(named: Sequence[Path]) -> int:
    """How many pictures lie where these do, and are none of them.

    Args:
        named: the pictures that a table of labels names. `datasets` leaves out the others without a word.
    """
    places = {_place(folder) for folder in {path.parent for path in named} if folder.is_dir()}
    held = {path for place in places for path in place.rglob("*") if path.suffix.lower() in PICTURES}
    return len(held - set(named))


def _place(folder: Path) -> Path:
    """The folder of the table of labels that names pictures in a folder."""
    return next((each for each in (folder, *folder.parents) if any(each.glob("metadata.*"))), folder)


def _has_header(folder: Path) -> bool:
    """Whether a README names the data files."""
    try:
        with (folder / "README.md").open("rb") as file:
            return file.read(3) == b"---"
    except OSError:
        return False


def check(held: Contents, place: str, skip_damaged: bool) -> None:
    """Refuse a folder that cannot become a set, by its names and headers.

    Args:
        place: the folder as the user named it.
        skip_damaged: whether damaged pictures are left out.

    Raises:
        UserError: saying how the folder should look.
    """
    if held.links:
        raise UserError(
            f"{place}: links to folders are not followed: {listed(sorted(map(str, held.links)), SHOWN)}",
            next="copy the folders there, or link the files in them",
        )
    if not held.pictures:
        kinds = sorted({path.suffix for path in held.unread})
        raise UserError(
            f"{place}: holds no pictures{f', only files that are not read ({listed(kinds, SHOWN)})' if kinds else ''}",
            next="convert them to JPEG or PNG" if kinds else f"put pictures there: {Path(place, 'CLASS', '1.jpg')}",
        )
    split_words.refuse_misnamed(held.folder)
    _check_splits(held, place)
    _check_places(held, place)
    if not skip_damaged:
        _check_headers(held, place)


def _check_splits(held: Contents, place: str) -> None:
    """Refuse pictures that belong to two splits, and many pictures that belong to none beside others that do."""
    twice = next((path for path, splits in held.splits.items() if len(splits) > 1), None)
    if twice is not None:
        raise UserError(
            f"{place}: {twice} is in the splits {' and '.join(held.splits[twice])} at once, by words in its name",
            next="rename the folder that names no split, such as test_tube to testtube",
        )
    if sum(len(path.parts) > 1 for path in held.outside) > OUTSIDE * len(held.pictures):
        inside = next(iter(held.splits))
        raise UserError(
            f"{place}: {inside} is named as the split {held.splits[inside][0]}, so that only splits are read, and not"
            f" {counted(len(held.outside), 'picture')} in none: {listed(list(map(str, held.outside)), SHOWN)}",
            next="rename what names no split, such as train to trains; or move the others into folders train and test",
        )


def _check_places(held: Contents, place: str) -> None:
    """Refuse pictures of fewer than two classes, or at different depths."""
    pictures = list(held.splits) or held.pictures
    depths = Counter(len(path.parts) for path in pictures)
    usual = depths.most_common(1)[0][0]
    if max(map(len, _classes_of_splits(held, pictures).values())) < 2:
        tables = [path for path in held.unread if path.suffix.lower() in TABLES]
        trained = next((path for path in pictures if "train" in held.splits.get(path, ())), pictures[0])
        beside = Path(place, trained.parent)
        raise UserError(
            f"{place}: pictures of one class, or of none: a set needs two classes or more",
            next=f"write {beside}/{TABLE}, from {Path(place, tables[0])}"
            if tables
            else f"put the pictures of every class into a folder of its own, such as {beside}/CLASS, or write {TABLE}",
        )
    odd = [str(path) for path in pictures if len(path.parts) != usual]
    if odd:
        regular = next(path for path in pictures if len(path.parts) == usual)
        raise UserError(
            f"{place}: {counted(len(odd), 'picture')} at another depth than the rest ({regular}): {listed(odd, SHOWN)}",
            next="move each into the folder of its class, or out of the folder",
        )


def _classes_of_splits(held: Contents, pictures: Sequence[Path]) -> dict[str, set[str]]:
    """The class folders of each split. A folder that is itself named as a split, such as train, is none."""
    found: dict[str, set[str]] = {}
    for path in pictures:
        for split in held.splits.get(path, [""]):
            found.setdefault(split, set()).add(path.parent.name)
    return found


def _check_headers(held: Contents, place: str) -> None:
    """Refuse pictures that cannot be opened. In a large folder a sample is opened."""
    from ddhub.data import decode

    step = max(1, len(held.pictures) // LOOKED)
    looked, faults = held.pictures[::step], []
    for path in looked:
        try:
            decode.header(held.folder / path, str(Path(place, path)), lambda image: None)
        except decode.Damaged as fault:
            faults.append(str(fault))
    if faults:
        more = f" (and {len(faults) - 1} more of {len(looked)} looked at)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}", next=decode.SKIP)


def notes(held: Contents) -> list[str]:
    """One line for each thing in a folder that no set uses."""
    told = []
    if held.empty:
        told.append(f"empty folders, which are no classes: {listed(sorted(map(str, held.empty)), SHOWN)}")
    tables = [str(path) for path in held.unread if path.suffix.lower() in TABLES]
    if tables:
        told.append(f"not read: {listed(tables, SHOWN)}; a table of labels is called {TABLE}")
    others = [str(path) for path in held.unread if str(path) not in tables]
    if others:
        kinds = f"{counted(len(others), 'file')} of other kinds ({listed(others, SHOWN)})"
        told.append(f"not read: {kinds}; a picture among them has to become a JPEG or PNG")
    if held.outside:
        shown = listed(list(map(str, held.outside)), SHOWN)
        told.append(f"not read: {counted(len(held.outside), 'picture')} outside of the splits ({shown})")
    twice = copies.repeated(held.folder / path for path in held.pictures)
    if twice:
        apart = "" if held.divided else "; none is trained on and tested on"
        told.append(f"copies, byte for byte: {counted(twice, 'picture')}{apart}")
    above = _above(held.pictures)
    if above:
        told.append(
            f"classes are the folders that pictures lie in ({listed(held.classes, SHOWN)}), not those above"
            f" ({listed(above, SHOWN)}); move the pictures up if that is wrong"
        )
    return told


def _above(pictures: Sequence[Path]) -> list[str]:
    """Parent folders of class folders, if a class name occurs in several of them and they are no splits."""
    places = {path.parent for path in pictures}
    above = {path.parent.name for path in places if path.parent.name and not split_words.of_folder(path.parent)}
    repeated = len({path.name for path in places}) < len(places)
    return sorted(above) if len(above) > 1 and repeated else []
