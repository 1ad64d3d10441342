"""Encoded images of a `datasets.Dataset` to uint8 arrays: odd modes converted, resized where the source says so."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ddhub.errors import UserError
from ddhub.recipe import SourceSpec


def encoded(dataset: Any, column: str) -> Any:
    """A dataset of the images alone, as encoded bytes."""
    import datasets

    return dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def opened(item: dict[str, Any] | None, spec: SourceSpec, use: Callable[[Any], Any]) -> Any:
    """Open one encoded image and use it; whatever is wrong with the file is said in one sentence."""
    from PIL import Image

    if item is None:
        raise UserError(f"source: {spec.dataset}: a row has no image in column '{spec.image}'")
    try:
        with Image.open(io.BytesIO(item["bytes"]) if item["bytes"] is not None else item["path"]) as image:
            return use(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise UserError(
            f"source: {spec.dataset}: an image cannot be decoded: {' '.join(str(fault).split())[:300]}"
        ) from fault


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
