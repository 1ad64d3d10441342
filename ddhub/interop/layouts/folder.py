"""Folders of image files, one folder per class: SRe2L and CDA `newNNN/classNNN_idNNN.jpg`, RDED `syn_data/NNNNN/...`.

A class folder is named by the class's number or name. Labels beside them (FKD) belong to augmented views of a training
run, and not to the set.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ddhub.artifact import parquet
from ddhub.artifact.folder import Artifact
from ddhub.base import files, limits
from ddhub.base.errors import UserError, next_step
from ddhub.base.units import counted
from ddhub.data import decode as decodes
from ddhub.data import survey
from ddhub.data.decode import Rules
from ddhub.data.unpacking import OF_OTHERS
from ddhub.interop import reading
from ddhub.interop.layout import Layout
from ddhub.interop.reading import Foreign, Reading

CLASSES = "classes.txt"  # class names, one per line, beside numbered folders
# A broken file with such a name is a damaged picture. A broken file with another name is not part of the set.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm")
FKD = "FKD_"  # how folders of labels beside the classes begin
TABLES = (".parquet", ".arrow", ".pt", ".pth", ".npz", ".zip", ".tar")  # files of other layouts


@dataclass(frozen=True)
class ClassFolders:
    """The content of a folder of class folders."""

    classes: dict[Path, list[Path]]  # the picture files of each class folder, in the order of their numbers
    left_out: list[str]  # descriptions of content that is not part of the set


def _root(path: Path) -> Path:
    return path / "syn_data" if (path / "syn_data").is_dir() else path


def _folders(root: Path) -> list[Path]:
    """The folders that may be classes."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((*OF_OTHERS, FKD)))


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture, by name or content. `._name` is a leftover of macOS."""
    if path.name.startswith(".") or not path.is_file():
        return False
    return path.suffix.lower() in SUFFIXES or decodes.is_picture(path)


def _look(root: Path) -> ClassFolders:
    """Separate classes from other content, by what the files hold."""
    classes, left, beside = {}, Counter[str](), []
    for folder in _folders(root):
        entries = sorted(folder.iterdir(), key=_by_number)
        pictures = [path for path in entries if _is_picture(path)]
        if pictures:
            classes[folder] = pictures
            left.update(_kind(path) for path in entries if path not in set(pictures))
        else:
            beside.append(folder.name)
    loose = sum(_is_picture(path) for path in root.iterdir())
    told = [f"{counted(loose, 'picture')} beside the class folders"] if loose else []
    told += [f"{count} {kind} beside the pictures" for kind, count in sorted(left.items())]
    apart = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name.startswith(OF_OTHERS))
    told += [f"folders of other programs ({', '.join(apart[:5])})"] if apart else []
    return ClassFolders(classes, told + ([f"folders without pictures ({', '.join(beside[:5])})"] if beside else []))


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folders"
    return f"{path.suffix} files" if path.suffix and not path.name.startswith(".") else "hidden or nameless files"


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    """A sort key by the numbers in a name: image10 comes after image9."""
    parts = re.split(r"(\d+)", path.name)
    return [(t.isdecimal(), int(t) if t.isdecimal() else 0, t) for t in parts]


def detect(path: Path, how: Reading) -> bool:
    """Accept a folder of folders of pictures without files of other layouts."""
    if not path.is_dir():
        return False
    folders = {folder: list(folder.iterdir()) for folder in _folders(_root(path))}
    bare = [folder for folder, entries in folders.items() if not any(map(_is_picture, entries))]
    return len(bare) < len(folders) and not any(_holds_data(entry) for folder in bare for entry in folders[folder])


def _holds_data(entry: Path) -> bool:
    """Whether a folder without pictures may hold a set: a table, or pictures further down."""
    return entry.suffix in TABLES or (entry.is_dir() and any(map(_is_picture, entry.iterdir())))


def read(path: Path, how: Reading) -> Foreign:
    """Decode every image as a viewer shows it. All must have one size."""
    if not path.is_dir():
        raise UserError(
            f"{path.name}: is no folder of class folders",
            next=f"unpack an archive and import the folder; or {reading.ANY_LAYOUT}",
        )
    root = _root(path)
    found = _look(root)
    paths = [picture for pictures in found.classes.values() for picture in pictures]
    if not paths:
        raise UserError(
            f"{path.name}: holds no class folders with images", next=f"put the pictures of each class into {path}/CLASS"
        )
    _refuse_links([root, *found.classes, *paths], path)
    reading.check_names(folder.name for folder in found.classes)
    if len(found.classes) > limits.CLASSES:
        raise UserError(f"{path.name}: {len(found.classes)} classes, more than the {limits.CLASSES} that are read")
    with next_step("fetch the file again, or move it out of the folder"):
        images, notes = _decoded(paths, path, how)
    own = tuple(re.sub(r"^new(?=\d+$)", "", folder.name) for folder in found.classes)
    lines = _lines(root, own)
    numbers = range(len(own)) if lines is None else map(int, own)
    sizes = torch.tensor([len(pictures) for pictures in found.classes.values()])
    labels = torch.tensor(list(numbers)).repeat_interleave(sizes)
    groups = own if lines is None else lines
    notes += ["FKD labels beside the images are left out"] if any(root.glob("FKD_*")) else []
    notes += [f"left out: {text}" for text in found.left_out]
    return Foreign("folder", images, labels, reading.records(paths, path), groups=groups, notes=notes)


def _lines(root: Path, folders: tuple[str, ...]) -> tuple[str, ...] | None:
    """The lines of `classes.txt`: the names of class 0, 1, ..., with or without a folder. None if it names none."""
    path = root / CLASSES
    if not path.is_file() or path.is_symlink() or not all(name.isdecimal() and len(name) < 10 for name in folders):
        return None
    if path.stat().st_size > limits.CLASSES * limits.CLASS_NAME:
        raise UserError(
            f"{CLASSES}: is longer than any list of classes", next=f"a class name per line in {path}, or remove it"
        )
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\r\n").splitlines()
    outside = next((name for name in folders if int(name) >= len(lines)), None)
    if outside is not None:
        raise UserError(
            f"{CLASSES}: names {len(lines)} classes, and there is a folder '{outside}'",
            next=f"a line for every class in {path}, or remove it",
        )
    return tuple(lines)


def _refuse_links(paths: list[Path], root: Path) -> None:
    # A stranger's archive could point at private pictures of the reader. They would then be published.
    for path in paths:
        if path.is_symlink():
            raise UserError(f"{path.relative_to(root)}: is a symbolic link; refused", next="put the file itself there")


def _decoded(paths: list[Path], root: Path, how: Reading) -> tuple[torch.Tensor, list[str]]:
    """All images as uint8 (N, C, H, W), grey only if all are grey, and notes on them."""
    headers = [survey.header(str(path), str(path.relative_to(root))) for path in paths]
    for header in headers:
        _check_size(header, headers[0])
    grey = all(header.grey for header in headers)
    (side, _), channels = headers[0].size, 1 if grey else 3
    if channels * side * side * len(paths) > how.limit:
        raise UserError(f"{root.name}: {len(paths)} images are more than is read", next="--max-bytes BYTES")
    rules = _rules(how)
    wide = [(str(path), header.where) for path, header in zip(paths, headers, strict=True) if header.wide]
    if wide and rules.range is None:
        rules = survey.ranged(wide, rules)
    images = np.empty((len(paths), channels, side, side), np.uint8)
    for place, array in enumerate(_arrays(paths, headers, rules, grey)):
        images[place] = array
    notes = ["JPEG files are kept as the pixels they decode to"] if any(h.lossy for h in headers) else []
    notes += [survey.range_text(rules.range)] if wide and rules.range else []
    clear = sum(header.transparent for header in headers)
    notes += [f"{clear} pictures have transparency: shown on {rules.background} (--background)"] if clear else []
    return torch.from_numpy(images), notes


def _arrays(paths: list[Path], headers: list[survey.Header], rules: Rules, grey: bool) -> Iterator[np.ndarray]:
    for path, header in zip(paths, headers, strict=True):

        def decode(image: object, where: str = header.where) -> np.ndarray:
            return decodes.array(image, rules, where, grey)

        yield decodes.picture(path, header.where, decode)


def _rules(how: Reading) -> Rules:
    """The decoding rules from the user."""
    bounds = (how.range[0], how.range[1]) if how.range else None
    return Rules(bounds, how.background or Rules.background, option="--range {:g},{:g}")


def _check_size(header: survey.Header, first: survey.Header) -> None:
    """Refuse pictures that are too large, not square, or of different sizes."""
    (width, height), (side, _) = header.size, first.size
    if max(width, height) > limits.SIDE:
        raise UserError(f"{header.where}: claims {width}x{height} pixels; refused")
    if width != height or width != side:
        wanted = "a square" if header is first else f"{side}x{side} as the others"
        raise UserError(
            f"{header.where}: is {width}x{height}, not {wanted}",
            next="move pictures that are not of the set out of its folder",
        )


def write(found: Artifact, folder: Path, named: bool = False) -> None:
    """Write `NNNNN/classNNNNN_idNNNNN.png`, and `classes.txt` with the class names, one per line in label order.

    The format is PNG, because JPEG would change the pixels.

    Args:
        named: name the folders by their classes.
    """
    classes = found.manifest.classes
    odd = next((name for name in classes if name in ("", ".", "..") or "/" in name or name.startswith(".")), None)
    if named and odd is not None:
        raise UserError(f"--named: '{odd}' cannot be the name of a folder", next=f"without --named: see {CLASSES}")
    seen = [0] * len(classes)
    for image, label in zip(found.images, found.labels.tolist(), strict=True):
        own = classes[label] if named else f"{label:05d}"
        files.write_bytes(folder / own / f"class{label:05d}_id{seen[label]:05d}.png", parquet.png(image))
        seen[label] += 1
    files.write_bytes(folder / CLASSES, "".join(f"{name}\n" for name in classes).encode())


LAYOUT = Layout(detect=detect, read=read, write=write, uses=("range", "background"), named=True)
