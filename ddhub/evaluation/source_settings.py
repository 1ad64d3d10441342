"""The settings `evaluate --set source.KEY=VALUE` for reading test images, known without torch."""

from collections.abc import Sequence
from typing import Any

from ddhub.base import overrides as changes
from ddhub.base.errors import UserError
from ddhub.base.schema import check
from ddhub.data.spec import SourceSpec

TEST_KEYS = ("test", "config", "image", "label", "range", "background", "skip_damaged")  # of `source.KEY=VALUE`


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """The changes of a spec by `source.KEY=VALUE` strings, for reading the test images.

    Raises:
        UserError: for keys outside of TEST_KEYS. All other keys come from the set.
    """
    data: dict[str, Any] = {}
    changes.override(data, overrides)
    given = data.get("source", {})
    other = next((text for text in overrides if text.split("=")[0].strip() not in _settable()), None)
    if other is not None:
        keys = ", ".join(f"source.{key}" for key in (*TEST_KEYS, "path"))
        raise UserError(f"--set {other}: of the source, only {keys} can be set here", next="--set source.path=FOLDER")
    spec, faults = check(SourceSpec, {"dataset": "test", **given}, "source.")
    if spec is None:
        raise UserError("\n".join(faults), next="ddhub recipes --keys")
    changed = {key: getattr(spec, key) for key in given}
    return {**changed, "hold_out": None} if "test" in changed else changed  # a named split is read whole


def _settable() -> set[str]:
    return {f"source.{key}" for key in TEST_KEYS}
