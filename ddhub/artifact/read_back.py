"""Comparison after a push: the Hub's files are downloaded past all caches and hashed."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from ddhub.base import files, hub_client, limits, strict_json
from ddhub.base.errors import UserError, quoted
from ddhub.base.log import say


def check(api: Any, repo_id: str, commit: str, wanted: dict[str, str]) -> None:
    """Compare the files that the Hub serves at a commit with the pushed ones.

    Files that were right once count by their hash. An interrupted check continues after them.

    Args:
        wanted: path in the repo -> sha256 of the content.

    Raises:
        UserError: naming a file that the Hub does not serve or serves with other bytes.
    """
    note = _note(api, repo_id)
    known = strict_json.known(note, limits.JSON_BYTES).get("served")
    served = {each for each in known if isinstance(each, str)} if isinstance(known, list) else set()
    left = [name for name, sha256 in wanted.items() if sha256 not in served]
    if not left:
        return
    say(f"{repo_id}: reading back what the Hub serves at {commit[:12]}: {len(left)} files")
    served &= set(wanted.values())  # files of earlier pushes are forgotten

    wrong: list[str] = []
    doing = f"{repo_id}: published at {commit}, but reading it back"
    try:
        with hub_client.errors(doing, repo_id):
            for name, sha256 in hub_client.at_once(partial(_sha256, api, repo_id, commit), left):
                if sha256 == wanted[name]:
                    served.add(sha256)
                else:
                    wrong.append(name)
    finally:
        files.write_json(note, {"repo": repo_id, "served": sorted(served)})
    if wrong:
        raise UserError(
            f"{repo_id}: published at {commit}, but the Hub serves other bytes for {', '.join(sorted(wrong)[:3])}",
            next=f"the same command again, and if that says the same: ddhub verify {quoted(repo_id)}@{quoted(commit)}",
        )


def _note(api: Any, repo_id: str) -> Path:
    return files.home() / "read-back" / f"{files.digest([api.endpoint, repo_id])[:32]}.json"


def _sha256(api: Any, repo_id: str, commit: str, name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="ddhub-") as folder:
        path = api.hf_hub_download(repo_id, name, revision=commit, repo_type="dataset", local_dir=folder)
        return files.sha256(Path(path))
