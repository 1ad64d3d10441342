"""Functions that bring sets to others and from them: push, pull, import, export."""

from dataclasses import replace
from pathlib import Path
from typing import Unpack

from ddhub.api.places import Folder, Reference
from ddhub.artifact.file_names import MANIFEST
from ddhub.base import files, new_folder
from ddhub.interop.options import ImportOptions
from ddhub.outcomes import Export, Made, Pull, Push
from ddhub.reports import refresh


def push(
    folder: Folder,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> Push:
    """Publish an artifact folder as a Hub dataset repo in one commit. It is verified before and compared after.

    Args:
        folder: the artifact's folder.
        repo_id: the Hub id, `OWNER/NAME`.
        private: make a new repo private.
        revision: the branch to commit to. It is created if it is missing. None takes `main`.
        create_pr: propose the commit as a pull request.
        yes: allow to replace another set, or to delete files of the repo that the folder lacks.

    Raises:
        UserError: for a faulty set, or if the Hub refuses. Nothing is pushed then.
    """
    from ddhub.reports import publish

    return publish.push(Path(folder), repo_id, private=private, revision=revision, create_pr=create_pr, yes=yes)


def pull(set: Reference, out: Folder) -> Pull:
    """Copy a set from the Hub into a new folder. The copy is verified and complete, or nothing is written.

    Args:
        set: `OWNER/NAME` or `OWNER/NAME@REVISION`.
        out: a folder that does not exist yet or is empty.

    Raises:
        UserError: if there is no such set on the Hub, or if `out` holds files.
    """
    from ddhub.artifact import pull as pulling

    repo_id, commit = pulling.pull(str(set), Path(out))
    return Pull(folder=str(out), repo_id=repo_id, commit=commit)


def import_set(path: Folder, *, source: Reference, out: Folder, **options: Unpack[ImportOptions]) -> Made:
    """Import a set in another tool's layout. The artifact is complete, or nothing is written.

    Args:
        path: a file, a folder or a Hub id.
        source: the dataset that it was distilled from: a Hub id, `digits` or a folder.
        out: the folder of the new artifact.
        options: facts that the files do not state: the fields of ImportOptions in ddhub/interop/options.py.

    Raises:
        UserError: if a needed fact is missing or two facts disagree.
    """
    from ddhub.evaluation import find_set
    from ddhub.interop import importing as importings

    out = new_folder.untaken(out)
    where, revision = find_set.split(str(path))
    told = importings.ask(str(source), **options)
    told = replace(told, name=told.name or out.absolute().name, reading=replace(told.reading, revision=revision))
    with new_folder.no_stub(out, out / MANIFEST), files.disk_errors(out, "importing"), new_folder.whole(out) as staging:
        refresh.write(importings.import_set(Path(where), staging, told))
    return Made(folder=str(out), next=importings.evaluation_of(out))


def export(folder: Folder, layout: str, out: Folder | None = None, *, named: bool = False) -> Export:
    """Write an artifact folder in another tool's layout.

    Args:
        folder: the artifact's folder.
        layout: apm, dc, mtt, datm, kip, idc, folder, eccv24, an installed plug-in, or a file such as `./mine.py`.
        out: a new folder; None takes `exported/NAME_LAYOUT`.
        named: name class folders by their classes, if the layout has folders.

    Raises:
        UserError: if the layout cannot hold the set, or if `out` holds files.
    """
    from ddhub.interop import exporting

    place = Path(out) if out is not None else Path("exported") / f"{Path(folder).absolute().name}_{Path(layout).stem}"
    return Export.model_validate(exporting.export(Path(folder), layout, place, named))
