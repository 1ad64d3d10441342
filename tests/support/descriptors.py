"""What this process has open, without what other tests and threads open and close meanwhile."""

import contextlib
import os
from pathlib import Path


def open_below(folder: Path) -> list[str]:
    """The open files and folders below a folder, deleted ones too."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, as this listing's own is
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(path for path in found if path.startswith(str(folder.resolve())))
