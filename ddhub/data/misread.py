"""Pictures that Pillow would read wrongly, and what a file is that it cannot read, by their first and last bytes."""

import os
from pathlib import Path
from typing import Any

from ddhub.base import files
from ddhub.base.errors import UserError

Content = bytes | str | Path

ZEROS = 64  # zero bytes at the end of a file that no compressed picture ends with
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # the last bytes of a whole file
WHITE_IS_ZERO, SIGNED = 0, 2  # values of the TIFF tags PhotometricInterpretation and SampleFormat
PHOTOMETRIC, FORMAT, BITS, EXTRA = 262, 339, 258, 338  # TIFF tags
TO_PNG = "convert it to a PNG of 8 bits"
# Beginnings of files that are pictures to other programs, or no pictures at all.
BEGINNINGS = (
    (0, b"II*\0", "a TIFF of a kind that Pillow does not read, such as colour in floats"),
    (0, b"MM\0*", "a TIFF of a kind that Pillow does not read, such as colour in floats"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF picture"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"PF", "a colour picture in floats"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, in place of the file"),
    (0, b"<", "a web page or other text"),
    (0, b"{", "JSON"),
    (0, bytes(16), "zeros: nothing was written to it"),
)


def refuse(image: Any, where: str, wide: bool, wide_colour: bool) -> None:
    """Refuse an opened picture whose values Pillow takes for others. Nothing is decoded.

    Args:
        wide, wide_colour: whether it has more than 8 bits, in grey or in colour.

    Raises:
        UserError: naming the kind of file.
    """
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if wide and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise UserError(
            f"{where}: a TIFF of more than 8 bits in which 0 is white, which Pillow shows inverted", next=TO_PNG
        )
    if SIGNED in tags.get(FORMAT, ()) and set(tags.get(BITS, ())) == {8}:
        raise UserError(f"{where}: a TIFF of signed 8-bit values, which Pillow takes for unsigned", next=TO_PNG)
    if wide_colour and isinstance(image.info.get("transparency"), tuple):
        raise UserError(
            f"{where}: 16 bits a channel with a transparent colour, which Pillow does not find", next=TO_PNG
        )


def refuse_unsigned(image: Any, low: float, where: str) -> None:
    """Refuse unsigned 32-bit values beyond 2^31, which Pillow takes for negative.

    Args:
        low: the smallest value that was read.

    Raises:
        UserError: naming the file.
    """
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if low < 0 and image.mode == "I" and set(tags.get(BITS, ())) == {32} and SIGNED not in tags.get(FORMAT, ()):
        raise UserError(f"{where}: unsigned 32-bit values beyond 2^31, which Pillow takes for negative", next=TO_PNG)


def refuse_unnamed(image: Any, where: str) -> None:
    """Refuse a decoded TIFF with a fourth channel that it does not name. Pillow takes it for alpha.

    It may be alpha, alpha by which the colours are multiplied already, or no alpha, such as infrared. A channel that is
    opaque everywhere makes no difference.

    Raises:
        UserError: naming the file.
    """
    if image.format != "TIFF" or image.mode != "RGBA" or EXTRA in image.tag_v2:
        return
    if image.getchannel("A").getextrema() != (255, 255):
        raise UserError(
            f"{where}: a TIFF with a fourth channel and no tag ExtraSamples that says whether it is alpha", next=TO_PNG
        )


def is_cut(content: Content, kind: str) -> bool:
    """Whether a file of a compressed format ends in zeros where its end should be. A decoder may pass over that.

    A download that keeps room for the whole file leaves it so when it is broken off.
    """
    if kind not in (*ENDS, "WEBP") or _part(content, -ZEROS).strip(b"\0"):
        return False
    whole = content if isinstance(content, bytes) else Path(content).read_bytes()
    if kind == "WEBP":  # its head says where it ends
        return not whole[: 8 + int.from_bytes(whole[4:8], "little")][-ZEROS:].strip(b"\0")
    return not whole.rstrip(b"\0").endswith(ENDS[kind].rstrip(b"\0"))


def described(content: Content) -> str:
    """What a file is that is no picture of a known format, as a part of a sentence; empty if that is not known."""
    head = _part(content, 64)
    if not head:
        return "it is empty; "
    found = next((name for at, start, name in BEGINNINGS if head[at:].startswith(start)), None)
    return f"it is {found}; " if found else ""


def _part(content: Content, count: int) -> bytes:
    """The first bytes of a file, or its last if `count` is negative."""
    if isinstance(content, bytes):
        return content[:count] if count > 0 else content[count:]
    with files.regular(Path(content)) as file:
        if count < 0:
            file.seek(max(0, os.fstat(file.fileno()).st_size + count))
        return file.read(abs(count))
