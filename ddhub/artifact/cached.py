"""Files of a set in the Hub client's cache: one that is damaged there is fetched anew."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ddhub.base import checked_files, files, hub_client
from ddhub.base.errors import UserError
from ddhub.base.log import say, warn

BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # the cache names contents by git's hash, or by their sha256


def heal(published: Mapping[str, Path], fetch: Callable[[str], object]) -> None:
    """Fetch anew, once, every file of a set that is not what its name in the cache says it is.

    What cannot be fetched is said; whoever reads the set compares it with the manifest all the same.

    Args:
        published: the files by their path in the repo, as links into the cache.
        fetch: brings one of them anew.
    """
    for name, path in published.items():
        if not damaged(path):
            continue
        say(f"{path.resolve()}: {name} is damaged in the cache; fetching it anew")
        try:
            with hub_client.errors(f"fetching {name} anew", name):
                fetch(name)
        except UserError as fault:
            warn(f"{path.resolve()}: {name} is damaged in the cache, and cannot be had anew: {fault.args[0]}")


def damaged(path: Path) -> bool:
    """Whether a file of the cache has another content than its name says; False where the name says nothing."""
    blob = path.resolve()
    if blob.parent.name != "blobs" or not BLOB.fullmatch(blob.name):
        return False

    def same() -> bool:
        if len(blob.name) == 64:
            return files.sha256(blob) == blob.name
        with files.regular(blob) as file:
            return files.git_hash(file, blob.stat().st_size) == blob.name

    return not checked_files.hold([blob], same)
