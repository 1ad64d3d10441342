"""xet storage in a local folder: what hf_xet put there, by sha256. The format of its files is that of hf_xet 1.8."""

import shutil
import struct
import tempfile
from pathlib import Path

HEADER = 48  # bytes, and so is every record that follows
END = b"\xff" * 32
HAS_VERIFICATION, HAS_SHA256 = 1 << 31, 1 << 30


def listed(shard: bytes) -> dict[str, tuple[str, int]]:
    """The files in a shard: sha256 -> (xet hash, size in bytes)."""
    found, at = {}, HEADER
    while shard[at : at + 32] != END:
        name, (flags, segments) = shard[at : at + 32], struct.unpack_from("<II", shard, at + 32)
        size = sum(struct.unpack_from("<I", shard, at + 48 * (1 + n) + 36)[0] for n in range(segments))
        at += 48 * (1 + segments * (2 if flags & HAS_VERIFICATION else 1))
        if flags & HAS_SHA256:
            found[printed(shard[at : at + 32])] = printed(name), size
            at += 48
    return found


def printed(hash: bytes) -> str:
    """A hash as people write it; it is stored as four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", hash))


class LocalXet:
    """A folder that hf_xet takes for a storage server when it is told local://<folder>."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, sha256: str) -> tuple[str, bytes] | None:
        """The xet hash and the content of an uploaded file; None if it was not uploaded."""
        found: dict[str, tuple[str, int]] = {}
        for shard in self.folder.rglob("*.mdb"):
            found |= listed(shard.read_bytes())
        if sha256 not in found:
            return None
        xet_hash, size = found[sha256]
        return xet_hash, self._download(xet_hash, size)

    def _download(self, xet_hash: str, size: int) -> bytes:
        from hf_xet import XetFileInfo, XetSession

        # From a copy: the client that uploads has the storage's database open, which one process at a time can.
        with tempfile.TemporaryDirectory() as folder:
            copy, target = Path(folder) / "xet", Path(folder) / "file"
            shutil.copytree(self.folder, copy)
            with XetSession().new_file_download_group(endpoint=f"local://{copy}") as group:
                group.start_download_file(XetFileInfo(xet_hash, size), str(target))
            return target.read_bytes()
