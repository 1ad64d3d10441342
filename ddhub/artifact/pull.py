"""Pulling: the copy of a Hub set in a new folder, complete and verified."""

import shutil
from pathlib import Path

from ddhub.artifact import folder as folders
from ddhub.artifact import hub
from ddhub.base import files, new_folder
from ddhub.base.errors import UserError, quoted


def pull(set: str, out: Path) -> tuple[str, str]:
    """Copy a set into `out`, which must be missing or empty. Return its repo and commit.

    Raises:
        UserError: if there is no such set on the Hub, or if `out` holds files.
    """
    out = new_folder.untaken(out)
    place = hub.fetch(set)
    if place.repo_id is None or place.commit is None:
        raise UserError(f"{set}: is a folder here already", next=f"cp -r {quoted(set)} {quoted(out)}")
    with files.disk_errors(out, "pulling"), new_folder.whole(out) as staging:
        for name, path in hub.published(place.folder).items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / name)
        folders.read(staging, lasting=set)
    return place.repo_id, place.commit
