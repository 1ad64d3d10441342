"""The only decoder of pictures: from encoded images, also strangers', to 8-bit arrays as a viewer shows them.

docs/pictures.md states the rules for rotated photos, more than 8 bits, alpha and palettes. Sources and folders of
other tools' sets are decoded here. The card's script repeats the rules in its own lines.
"""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddhub.base import files, limits
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line
from ddhub.data import misread

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others can be unsafe: an EPS is a program
GREY = ("1", "L", "LA", "La", "I", "F")  # also the modes of 16-bit grey, which begin with I;16
SKIP = "mend or remove it, or leave such pictures out: --set source.skip_damaged=true"
ORIENTATION = 0x0112  # the EXIF tag; values 5 to 8 are rotated by a quarter
AT_ONCE = 2**26  # pixels that all threads together decode at once: about half a gigabyte
EPS = 1e-6  # share of a range that is lost to float32 rounding
COLOURED = 16  # difference between a pixel's channels above which it is not grey
STRIP = 2**20  # pixels with more than 8 bits that are scaled at once


@dataclass(frozen=True)
class Rules:
    """Settings for pictures whose files leave a choice."""

    range: tuple[float, float] | None = None  # the values of black and white, for more than 8 bits
    background: str = "white"  # the colour behind transparent places: a name or #rrggbb
    option: str = "--set 'source.range=[{:g},{:g}]'"  # the option that sets the range

    def advice(self, low: float, high: float) -> str:
        """The option to type, with a suggested range."""
        return f"{self.option.format(low, high)}, if these are black and white"

    @property
    def colour(self) -> tuple[int, int, int, int]:
        """The background as opaque RGBA.

        Raises:
            UserError: if it is no colour.
        """
        from PIL import ImageColor

        try:
            return (*ImageColor.getrgb(self.background)[:3], 255)
        except ValueError as fault:
            raise UserError(
                f"background: {self.background!r} is no colour", next="a name such as white, or #rrggbb"
            ) from fault


class _Turnstile:
    """Lets several small pictures be decoded at once. A large one is decoded alone."""

    def __init__(self, most: int) -> None:
        self.most, self.inside, self.change = most, 0, threading.Condition()

    @contextlib.contextmanager
    def passing(self, pixels: int) -> Iterator[None]:
        """Wait for room, and hold it while the body runs."""
        taken = min(pixels, self.most)
        with self.change:
            self.change.wait_for(lambda: self.inside + taken <= self.most)
            self.inside += taken
        try:
            yield
        finally:
            with self.change:
                self.inside -= taken
                self.change.notify_all()


_turnstile = _Turnstile(AT_ONCE)


def picture(content: bytes | str | Path, where: str, use: Callable[[Any], Any]) -> Any:
    """Open an encoded image, given as bytes or path, and use it. Its header is checked before decoding.

    Raises:
        UserError: opening with `where`, for content that is no image or has too many pixels.
    """
    with _opened(content, where) as image, _turnstile.passing(image.width * image.height):
        return use(image)


def header(content: bytes | str | Path, where: str, use: Callable[[Any], Any]) -> Any:
    """Open an encoded image and use its header. No pixel is decoded."""
    with _opened(content, where) as image:
        return use(image)


@contextlib.contextmanager
def _opened(content: bytes | str | Path, where: str) -> Iterator[Any]:
    """An opened image of a supported format. Any fault becomes one sentence."""
    from PIL import Image, UnidentifiedImageError

    try:
        if not isinstance(content, bytes):
            files.refuse_odd(Path(content))
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
            _check_header(image, where)
            if image.format in ("JPEG", "MPO"):
                _check_scans(content, where)
            misread.refuse(image, where, is_wide(image), is_wide_colour(image))
            if misread.is_cut(content, str(image.format)):
                raise Damaged(f"{where}: cannot be decoded (it ends in zeros: its end was never written)")
            yield image
    except UserError:
        raise
    except FileNotFoundError as fault:
        raise Damaged(f"{where}: no such file; a name in metadata.csv counts from the folder of that table") from fault
    except UnidentifiedImageError as fault:
        told = f"{misread.described(content)}none of {', '.join(FORMATS)}"
        raise Damaged(f"{where}: cannot be decoded ({told})") from fault
    except Exception as fault:  # PIL raises anything for a broken file
        raise Damaged(f"{where}: cannot be decoded ({one_line(fault, 200)})") from fault


def _check_scans(content: bytes | str | Path, where: str) -> None:
    """Refuse a JPEG with many scans. Each scan decodes the whole picture again."""
    scans = (content if isinstance(content, bytes) else Path(content).read_bytes()).count(b"\xff\xda")
    if scans > limits.SCANS:
        raise UserError(f"{where}: has {scans} scans, more than the {limits.SCANS} that are decoded; refused")


def _check_header(image: Any, where: str) -> None:
    """Refuse an image that costs too much to decode, by the sizes in its header."""
    if image.width * image.height > limits.PIXELS:
        raise UserError(f"{where}: claims {image.width}x{image.height} pixels; refused")


class Damaged(UserError):
    """A picture that cannot be decoded."""


def is_picture(content: bytes | Path) -> bool:
    """Whether a file's content is an image, whatever its name."""
    try:
        return bool(header(content, "", lambda image: True))
    except Damaged:
        return False
    except UserError:
        return True  # a picture that is too large


def is_grey(image: Any) -> bool:
    """Whether a picture has no colours, by its mode or palette. Nothing is decoded."""
    if image.mode in ("P", "PA") and image.palette is not None:
        colours = np.frombuffer(bytes(image.getpalette("RGB") or b""), np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in GREY or image.mode.startswith("I;16") or _stored(image).startswith("LA;16")


def has_colours(image: Any) -> bool:
    """Whether a decoded picture has a pixel that is clearly not grey."""
    return bool(np.ptp(np.asarray(image.convert("RGB")), axis=2).max(initial=0) > COLOURED)


def is_wide(image: Any) -> bool:
    """Whether a decoded picture has values of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def is_wide_colour(image: Any) -> bool:
    """Whether a picture has 16 bits per channel, of which Pillow reads the upper 8."""
    return not is_wide(image) and ";16" in _stored(image)


def is_transparent(image: Any) -> bool:
    """Whether a picture can be transparent: by alpha, or by a transparent colour."""
    return bool(image.has_transparency_data)


def _stored(image: Any) -> str:
    """Pillow's name for the pixel layout in the file, such as `RGB;16B`; empty after decoding."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""
    return arguments if isinstance(arguments, str) else str(next(iter(arguments or ("",))))


def upright_size(image: Any) -> tuple[int, int]:
    """Width and height as a viewer shows them. Nothing is decoded."""
    if image.format == "TIFF":  # Pillow rotates these itself
        return image.width, image.height
    # Pillow decodes a PNG to find a tag behind its pixels. Only a decoded one is asked.
    told = image.format != "PNG" or "exif" in image.info or not image.tile
    turned = told and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else (image.width, image.height)


def to_8bit(image: Any, rules: Rules, where: str, grey: bool) -> Any:
    """A picture as 8-bit RGB or grey: rotated upright, scaled from its range, composited on the background.

    Raises:
        UserError: opening with `where`, if values do not fit the range.
    """
    from PIL import Image, ImageOps

    if is_wide_colour(image) and rules.range not in (None, (0, 65535)):
        raise UserError(f"{where}: has 16 bits a channel, of which the upper 8 are read", next="convert it to 8 bits")
    image.load()
    misread.refuse_unnamed(image, where)
    if image.mode == "La":  # Pillow converts it to no other mode
        image = image.convert("LA")
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if is_wide(image):
        image = _scaled(image, rules, where)
    if is_transparent(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, rules.colour), image)
    return image.convert("L" if grey else "RGB")


def _scaled(image: Any, rules: Rules, where: str) -> Any:
    """A picture of more than 8 bits as 8-bit grey, with alpha if one of its values is transparent."""
    from PIL import Image

    if rules.range is None:
        kind = "float grey" if image.mode == "F" else "grey of more than 8 bits"
        raise UserError(f"{where}: is {kind}, unlike those looked at before", next=rules.advice(0, 65535))
    low, high = rules.range
    clear = image.info.get("transparency")
    shown = np.empty((image.height, image.width), np.uint8)
    opaque = None if clear is None else np.empty_like(shown)
    for top, bottom, values in strips(image):
        least, most = values.min(), values.max()
        slack = EPS * (high - low)
        if not low - slack <= least <= most <= high + slack:  # also refuses NaN
            raise UserError(
                f"{where}: holds values from {least:g} to {most:g}, outside of {low:g} to {high:g}, its range",
                next=rules.advice(min(low, least), max(high, most)),
            )
        shown[top:bottom] = ((values - low) * (255 / (high - low))).round()
        if opaque is not None:
            opaque[top:bottom] = np.where(values == clear, 0, 255)
    grey = Image.fromarray(shown)
    return grey if opaque is None else Image.merge("LA", (grey, Image.fromarray(opaque)))


def strips(image: Any) -> Iterator[tuple[int, int, np.ndarray]]:
    """A picture of more than 8 bits in strips: first row, end row, and values as float64."""
    rows = max(1, STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        yield top, bottom, np.asarray(image.crop((0, top, image.width, bottom)), dtype=np.float64)


def array(image: Any, rules: Rules, where: str, grey: bool, side: int | None = None) -> np.ndarray:
    """A picture as uint8 (C, H, W). A box filter resizes it, as in the downsampled-ImageNet release.

    Args:
        side: the side of the resulting square; None keeps the size.
    """
    from PIL import Image

    image = to_8bit(image, rules, where, grey)
    if side is not None and image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BOX)
    pixels = np.asarray(image)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
