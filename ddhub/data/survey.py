"""A survey of a source's pictures, by a sample of its rows: side, channels and range of values.

A source may be sorted by class, so its first rows are not representative. The headers of LOOKED rows are read, which
is cheap. Pictures of more than 8 bits are decoded until enough pixels are seen.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ddhub.base import limits
from ddhub.base.errors import UserError
from ddhub.base.units import listed
from ddhub.data import decode, misread
from ddhub.data.decode import Rules
from ddhub.data.encoded_images import Content, Encoded
from ddhub.data.spec import SourceSpec

LOOKED = 256  # rows whose headers are read
ENOUGH = 2**26  # pixels decoded to find the range of pictures with more than 8 bits
EIGHT, SIXTEEN = 255.0, 65535.0


@dataclass(frozen=True)
class Header:
    """The facts about a picture before decoding."""

    where: str
    size: tuple[int, int]  # as a viewer shows it
    grey: bool
    wide: bool  # whether its range must be found
    transparent: bool
    lossy: bool  # whether it is a JPEG


def header(content: Content, where: str) -> Header:
    """Read the header of one picture."""

    def look(image: Any) -> Header:
        wide = decode.is_wide(image) or decode.is_wide_colour(image)
        grey, size = decode.is_grey(image), decode.upright_size(image)
        return Header(where, size, grey, wide, decode.is_transparent(image), image.format == "JPEG")

    found: Header = decode.header(content, where, look)
    return found


def survey(images: Encoded) -> dict[str, Any]:
    """Resolution, channels and range of a source: the given ones, or those found in a sample of rows.

    Raises:
        UserError: if they cannot be found, with the option that sets them.
    """
    spec, looked = images.spec, headers(images)
    found, wide = list(looked.values()), [row for row, header in looked.items() if header.wide]
    rules = rules_of(spec)
    if wide and spec.range is None:
        pairs = ((images.content(row, item), images.where(row, item)) for row, item in _some(images, wide))
        rules = ranged(pairs, rules)
    channels = spec.channels or (1 if all(header.grey for header in found) else 3)
    return {"resolution": side(spec, found), "channels": channels, "range": rules.range and list(rules.range)}


def headers(images: Encoded) -> dict[int, Header]:
    """The headers of a sample of rows, by row number.

    Raises:
        UserError: for a damaged picture that is not skipped, or if no picture can be read.
    """
    spec, found = images.spec, {}
    for row, item in images.spread(LOOKED).items():
        try:
            found[row] = header(images.content(row, item), images.where(row, item))
        except decode.Damaged as fault:
            if not spec.skip_damaged:
                raise UserError(fault.args[0], next=decode.SKIP) from fault
    if not found:
        raise UserError(f"source: {spec.dataset}: split '{images.split}' has no image that can be read")
    return found


def _some(images: Encoded, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
    import numpy as np

    return images.only(np.asarray(rows)).items()


def rules_of(spec: SourceSpec) -> Rules:
    """The decoding rules in a source's spec."""
    bounds = (spec.range[0], spec.range[1]) if spec.range else None
    return Rules(bounds, spec.background or Rules.background)


def side(spec: SourceSpec, found: Sequence[Header]) -> int:
    """The side of the square pictures: the given one, or the common one."""
    if spec.resolution is not None:
        return spec.resolution
    sizes = {header.size for header in found}
    if len(sizes) > 1 or len(set(*sizes)) > 1:
        shown = listed([f"{width}x{height}" for width, height in sorted(sizes)], 3)
        raise UserError(
            f"source.resolution: images have different sizes or are not square ({shown})",
            next="--set source.resolution=64 (images are resized to a square by a box filter)",
        )
    only = sizes.pop()[0]
    if not 4 <= only <= limits.SIDE:
        raise UserError(
            f"source.resolution: images of {only} pixels a side; 4 to {limits.SIDE} are read",
            next="--set source.resolution=64 (images are resized to a square by a box filter)",
        )
    return only


@dataclass(frozen=True)
class Extent:
    """The smallest and largest value of pictures of one kind, and the place of the largest."""

    low: float
    high: float
    where: str

    def beside(self, other: "Extent") -> "Extent":
        """The extent of both together."""
        return Extent(
            min(self.low, other.low), max(self.high, other.high), max(self, other, key=lambda e: e.high).where
        )


def ranged(pictures: Iterable[tuple[Content, str]], rules: Rules) -> Rules:
    """The rules with the range of pictures of more than 8 bits, found from a sample.

    Raises:
        UserError: if the range is ambiguous, or if kinds with different ranges are mixed.
    """
    kinds: dict[str, list[Extent]] = defaultdict(list)
    pixels = 0
    for content, where in pictures:
        if pixels > ENOUGH and kinds:
            break
        seen = decode.picture(content, where, lambda image, where=where: extent(image, where))  # type: ignore[misc]
        if seen is not None:
            kinds[seen[0]].append(seen[1])
            pixels += seen[2]
    ranges = {kind: _range(kind, _together(extents), rules) for kind, extents in kinds.items()}
    if len(set(ranges.values())) > 1:
        shown = "; ".join(
            f"{_together(kinds[kind]).where} is {kind}, {low:g} to {high:g}" for kind, (low, high) in ranges.items()
        )
        raise UserError(f"pictures of different ranges: {shown}", next="make them alike: one range is read of a source")
    bounds = next(iter(ranges.values()), None)
    return Rules(bounds, rules.background, rules.option)


def _together(extents: Sequence[Extent]) -> Extent:
    whole = extents[0]
    for extent in extents[1:]:
        whole = whole.beside(extent)
    return whole


def extent(image: Any, where: str) -> tuple[str, Extent, int] | None:
    """Kind, extent and pixel count of a picture of more than 8 bits; None for other pictures."""
    import numpy as np

    pixels = image.width * image.height
    if decode.is_wide_colour(image):  # Pillow reads only the upper 8 bits
        values = np.asarray(image.convert("RGB"))
        return "16-bit colour", Extent(int(values.min()) * 256, int(values.max()) * 256, where), pixels
    if not decode.is_wide(image):
        return None
    scaled = image.mode == "I" and image.format == "PPM"  # Pillow scales it to 16 bits
    kind = "float grey" if image.mode == "F" else "32-bit grey" if image.mode == "I" and not scaled else "16-bit grey"
    image.load()
    lows, highs = zip(*((values.min(), values.max()) for _, _, values in decode.strips(image)), strict=True)
    low, high = float(min(lows)), float(max(highs))
    if not np.isfinite([*lows, *highs]).all():
        raise UserError(f"{where}: {kind} that holds values that are no numbers", next="mend or leave out this file")
    misread.refuse_unsigned(image, low, where)
    return kind, Extent(0.0 if scaled else low, SIXTEEN if scaled else high, where), pixels


def _range(kind: str, seen: Extent, rules: Rules) -> tuple[float, float]:
    """The values of black and white, if the seen values allow only one choice.

    Raises:
        UserError: if several choices are possible.
    """
    white = {"16-bit grey": [SIXTEEN], "16-bit colour": [SIXTEEN], "32-bit grey": [EIGHT, SIXTEEN]}
    for top in white.get(kind, [1.0, EIGHT, SIXTEEN]):
        if seen.low >= 0 and top / 2 < seen.high <= top:  # the highest bit is in use
            return 0.0, top
    guess = (min(0.0, seen.low), 1.0 if seen.high <= 1 else 2.0 ** max(1, int(seen.high)).bit_length() - 1)
    raise UserError(
        f"{seen.where}: {kind} with values from {seen.low:g} to {seen.high:g}; which of them is white cannot be told",
        next="convert the files to 8 bits; Pillow reads no more of colour"
        if kind == "16-bit colour"
        else rules.advice(*guess),
    )


def range_text(bounds: tuple[float, float]) -> str:
    """A range in words."""
    low, high = bounds
    scale = f"1/{(high - low) / 255:g}" if high - low >= 255 else f"{255 / (high - low):g}"
    how = "taken as they are" if (low, high) == (0, 255) else f"scaled by {scale}"
    return f"pictures of more than 8 bits: values from {low:g} to {high:g}, {how}"
