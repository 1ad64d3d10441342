"""Repair of a set in the Hub client's cache: damaged files are fetched again."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ddhub.base import checked_files, files, hub_client
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn

BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # the cache names a file by its git hash or its sha256


def heal(published: Mapping[str, Path], fetch: Callable[[str], object]) -> None:
    """Fetch once more every file of a set whose content differs from its name in the cache.

    A file that cannot be fetched causes a warning. Reading the set compares it with the manifest in any case.

    Args:
        published: the files by their path in the repo, as links into the cache.
        fetch: fetches one file again.
    """
    for name, path in published.items():
        if not damaged(path):
            continue
        say(f"{path.resolve()}: {name} is damaged in the cache; fetching it again")
        try:
            with hub_client.errors(f"fetching {name} again", name):
                fetch(name)
        except UserError as fault:
            warn(f"{path.resolve()}: {name} is damaged in the cache, and cannot be fetched again: {fault.args[0]}")


def damaged(path: Path) -> bool:
    """Whether a cached file's content differs from the hash in its name; False if the name is no hash."""
    blob = path.resolve()
    if blob.parent.name != "blobs" or not BLOB.fullmatch(blob.name):
        return False

    def same() -> bool:
        if len(blob.name) == 64:
            return files.sha256(blob) == blob.name
        with files.regular(blob) as file:
            return files.git_hash(file, blob.stat().st_size) == blob.name

    return not checked_files.unchanged([blob], same)
