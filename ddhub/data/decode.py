"""Encoded images, strangers' among them, to uint8 arrays: odd modes converted, resized where the source says so."""

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ddhub.base import files, limits
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.data.spec import SourceSpec

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # an EPS, for one, is a program


def picture(content: bytes | str | Path, where: str, use: Callable[[Any], Any]) -> Any:
    """Open one encoded image, given as bytes or by its path, and use it; its size is looked at before it is decoded.

    Raises:
        UserError: opening with `where`, for what is no image or claims too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not isinstance(content, bytes):
            files.refuse_odd(Path(content))
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
            if image.width * image.height > limits.PIXELS:
                raise UserError(f"{where}: claims {image.width}x{image.height} pixels; refused")
            if image.format in ("JPEG", "MPO"):
                _check_scans(content, where)
            return use(image)
    except UserError:
        raise
    except UnidentifiedImageError as fault:
        raise UserError(f"{where}: cannot be decoded (none of {', '.join(FORMATS)})") from fault
    except Exception as fault:  # PIL raises whatever a broken file leads it to
        raise UserError(f"{where}: cannot be decoded ({one_line(fault, 200)})") from fault


def _check_scans(content: bytes | str | Path, where: str) -> None:
    """Refuse a JPEG of many scans: a few bytes of each have the whole picture decoded once more."""
    scans = (content if isinstance(content, bytes) else Path(content).read_bytes()).count(b"\xff\xda")
    if scans > limits.SCANS:
        raise UserError(f"{where}: has {scans} scans, more than the {limits.SCANS} that are decoded; refused")


def encoded(dataset: Any, column: str) -> Any:
    """A dataset of the images alone, as encoded bytes."""
    import datasets

    return dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def opened(item: dict[str, Any] | None, spec: SourceSpec, use: Callable[[Any], Any]) -> Any:
    """Open one encoded image of a source and use it; whatever is wrong with the file is said in one sentence."""
    where = f"source: {spec.dataset}: an image"
    if item is None:
        raise UserError(f"source: {spec.dataset}: a row has no image in column '{spec.image}'")
    if item["bytes"] is not None:
        return picture(item["bytes"], where, use)
    # A stranger's table can name any file of the reader's, whose picture would then be published.
    path = os.path.normpath(str(item["path"]))
    if not any(Path(path).is_relative_to(root) for root in _roots(spec)):
        raise UserError(f"{where}: is named as {path!r}, outside of the dataset; refused")
    return picture(path, where, use)


def _roots(spec: SourceSpec) -> list[Path]:
    """Where the image files of a source may lie: its folder, or what was fetched of its repo; archives' unpacked."""
    from datasets import config
    from huggingface_hub import constants

    unpacked = Path(config.EXTRACTED_DATASETS_PATH)
    fetched = Path(constants.HF_HUB_CACHE) / f"datasets--{spec.dataset.replace('/', '--')}"
    local = Path(spec.path or spec.dataset).expanduser()
    roots = [unpacked, Path(config.DOWNLOADED_DATASETS_PATH), local if local.is_dir() else fetched]
    return [Path(os.path.abspath(root)) for root in roots]


def pixels(item: dict[str, Any] | None, spec: SourceSpec) -> np.ndarray:
    """One encoded image as uint8 (C, H, W); a box filter resizes, as in the downsampled-ImageNet release."""
    from PIL import Image

    side, grey = (spec.resolution, spec.resolution), spec.channels == 1

    def decode(image: Any) -> np.ndarray:
        if image.mode.startswith("I"):  # 16-bit grey: PIL would clip it
            wide = np.asarray(image, dtype=np.float64) / 257
            image = Image.fromarray(wide.round().clip(0, 255).astype(np.uint8))
        image = image.convert("L" if grey else "RGB")
        if image.size != side:
            image = image.resize(side, Image.Resampling.BOX)
        return np.asarray(image)

    array = opened(item, spec, decode)
    return array[None] if grey else array.transpose(2, 0, 1)


def decoded(raw: Any, spec: SourceSpec) -> Iterator[np.ndarray]:
    """Decoded images in batches, uint8 (B, C, H, W); PIL lets go of the interpreter while it decodes."""
    with ThreadPoolExecutor() as pool:
        for batch in raw.iter(1024):
            yield np.stack(list(pool.map(lambda item: pixels(item, spec), batch[spec.image])))
