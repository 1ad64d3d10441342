"""Publishing a set with card and report: verified before, in one commit, and compared after."""

import tempfile
from pathlib import Path

from ddhub.artifact import hub, manifest
from ddhub.artifact import push as pushing
from ddhub.artifact.file_names import CARD, CROISSANT, MANIFEST
from ddhub.base import files, hub_client, same_folder
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say
from ddhub.evaluation import find_rows, rows
from ddhub.evaluation.find_rows import SetRows
from ddhub.reports import croissant, refresh, summary, verify
from ddhub.reports.documents import Push


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
    make: bool = True,
) -> Push:
    """Publish an artifact folder as a Hub dataset repo. The arguments are those of `ddhub.push`.

    If the repo of an earlier push is gone, only `yes` or `private` allows to create it again.

    Args:
        make: create a missing repo.

    Raises:
        UserError: for a set with faults, or if the Hub refuses. Nothing is pushed then.
    """
    with same_folder.kept(folder):
        faults = verify.faults(folder)
        if faults:
            raise UserError(
                "\n".join([*faults, "nothing was pushed"]), next=f"ddhub card {quoted(folder)}, or make it again"
            )
        record = manifest.read(folder)
        make = make and (record.repo_id != repo_id or private or yes)
        record = record.model_copy(update={"repo_id": repo_id})
        report = summary.build(record.name, rows.of(record, folder / "evaluation"))
        described = {
            MANIFEST: manifest.dump(record),
            CROISSANT: croissant.render(record, folder),
            CARD: refresh.card_of(record, folder, report),
        }
        done = pushing.push(
            {**hub.published(folder), **described},
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            yes=yes,
            make=make,
        )
        try:
            for name, content in described.items():  # the folder now names its repo
                files.write_bytes(folder / name, content)
        except UserError as fault:
            raise UserError(f"{done.url}: published; but here {fault.args[0]}", next=fault.next) from fault
        return Push(repo_id=done.repo_id, commit=done.commit, url=done.url, changed=done.changed)


def repo_for(folder: Path) -> str:
    """The repo of a set in a folder: that of an earlier push, or USER/NAME of the logged-in user.

    Raises:
        UserError: if there is no set, or nobody is logged in.
    """
    record = manifest.read(folder)
    return record.repo_id or f"{hub_client.user()}/{record.name}"


def results(found: SetRows, *, create_pr: bool = False, yes: bool = False) -> Push:
    """Commit the rows of a set to its repo, with new card, report and charts. No repo is created.

    Raises:
        UserError: if the set has no repo, or the Hub refuses.
    """
    repo_id, revision = find_rows.destination(found)
    place = found.place
    if place is not None and place.commit is not None and not found.added:
        say(f"{found.label}: no rows here that its repo lacks; nothing to push")
        url = f"{hub_client.client().endpoint}/datasets/{repo_id}"
        return Push(repo_id=repo_id, commit=place.commit, url=url, changed=False)
    with tempfile.TemporaryDirectory(prefix="ddhub-") as name:
        folder = find_rows.gathered(found, Path(name) / "set")
        refresh.write(folder)
        return push(folder, repo_id, revision=revision, create_pr=create_pr, yes=yes, make=False)
