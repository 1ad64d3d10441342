"""The encoded images of a source by row: their bytes, and their names for messages."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ddhub.base import files, hub_client
from ddhub.base.errors import UserError
from ddhub.data.decode import Damaged
from ddhub.data.spec import SourceSpec

Content = bytes | str


def _is_file(path: str | None) -> bool:
    return path is not None and os.path.isabs(path) and os.path.exists(path)


@dataclass(frozen=True)
class Encoded:
    """The stored images of one split. Nothing is decoded."""

    dataset: Any  # with all columns
    spec: SourceSpec  # with the columns filled in
    split: str
    rows: np.ndarray  # row numbers to read, ascending

    @classmethod
    def of(cls, dataset: Any, spec: SourceSpec, split: str) -> "Encoded":
        """All rows of a split."""
        return cls(dataset, spec, split, np.arange(len(dataset)))

    def only(self, rows: np.ndarray) -> "Encoded":
        """A part of the rows."""
        return replace(self, rows=rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def files(self) -> list[Path]:
        """The files of all pictures of the split, where it is a local folder of pictures; none for stored bytes."""
        import datasets
        import pyarrow.compute as pc

        columns = [name for name, kind in self.dataset.features.items() if isinstance(kind, datasets.Image)]
        named = (pc.struct_field(self.dataset.data.column(name), "path") for name in columns)
        of_files = (paths for paths in named if len(paths) and _is_file(paths[0].as_py()))
        return [Path(path) for paths in of_files for path in paths.to_pylist() if path]

    @cached_property
    def _images(self) -> Any:
        import datasets

        column = self.spec.image
        bare, kind = datasets.Image(decode=False), self.dataset.features[column]
        listed = isinstance(kind, datasets.List)
        return self.dataset.select_columns([column]).cast_column(column, datasets.List(bare) if listed else bare)

    def spread(self, count: int) -> "Encoded":
        """At most so many rows, spread over the split."""
        places = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64)
        return self.only(self.rows[places])

    def items(self, size: int = 1) -> Iterator[tuple[int, Any]]:
        """Row numbers and stored images, one by one. `size` of them are read at a time."""
        for start in range(0, len(self), size):
            numbers = self.rows[start : start + size].tolist()
            together = numbers[-1] - numbers[0] + 1 == len(numbers)
            read = self._images[numbers[0] : numbers[-1] + 1] if together else self._images[numbers]
            yield from zip(numbers, read[self.spec.image], strict=True)

    def content(self, row: int, item: Any) -> Content:
        """The bytes of a stored image, or the path of its file.

        Raises:
            UserError: for a row without an image, or with a path out of the dataset.
        """
        if isinstance(item, list):
            if len(item) != 1:
                raise UserError(f"{self.where(row, None)}: holds {len(item)} images; a row has one")
            item = item[0]
        if item is None or (item["bytes"] is None and not item["path"]):
            raise Damaged(f"{self.where(row, None)}: is missing in column '{self.spec.image}'")
        if item["bytes"] is not None:
            return bytes(item["bytes"])
        # A stranger's table can name any private file of the reader. Its picture would then be published.
        path = os.path.normpath(str(item["path"]))
        if not any(Path(path).is_relative_to(root) for root in self._roots):
            raise UserError(f"{self.where(row, item)}: is named as {path!r}, outside of the dataset; refused")
        return path

    @cached_property
    def _roots(self) -> list[Path]:
        """Folders that may hold image files: the source's folder, the repo's cache, unpacked archives."""
        from datasets import config

        unpacked = Path(config.EXTRACTED_DATASETS_PATH)
        local = Path(self.spec.path or self.spec.dataset).expanduser()
        roots = [unpacked, Path(config.DOWNLOADED_DATASETS_PATH), files.home() / "unpacked"]
        roots += [local if local.exists() else hub_client.cache_folder(self.spec.dataset)]
        # `datasets` resolves links when it names the files of a folder.
        return [Path(make(root)) for root in roots for make in (os.path.abspath, os.path.realpath)]

    def where(self, row: int, item: Any) -> str:
        """A row for a message: split, number, class and, if known, file."""
        item = item[0] if isinstance(item, list) and item else item
        path = item.get("path") if isinstance(item, dict) else None
        name = ""
        if path:
            root = Path(self.spec.path or self.spec.dataset).expanduser()
            inside = [r for r in (root.absolute(), root.resolve()) if Path(path).is_relative_to(r)]
            name = f", {Path(path).relative_to(inside[0]) if inside else Path(path).name}"
        return f"source: {self.spec.dataset}: {self.split} row {row}{name}{self._class(row)}: an image"

    def _class(self, row: int) -> str:
        """The row's class for a message, if there is one."""
        if self.spec.label not in self.dataset.features:
            return ""
        kind, value = self.dataset.features[self.spec.label], self._labels[row][self.spec.label]
        named = hasattr(kind, "names") and isinstance(value, int) and 0 <= value < len(kind.names)
        return f", class '{str(kind.names[value] if named else value)[:60]}'"

    @cached_property
    def _labels(self) -> Any:
        return self.dataset.select_columns([self.spec.label])
