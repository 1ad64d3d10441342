"""What `evaluate --set source.KEY=VALUE` may say of the test images; known without torch."""

from collections.abc import Sequence
from typing import Any

from ddhub.base import overrides as changes
from ddhub.base.errors import UserError
from ddhub.base.schema import check
from ddhub.data.spec import SourceSpec

TEST_KEYS = ("test", "config", "image", "label", "range", "background", "skip_damaged")  # of `source.KEY=VALUE`


def settings(overrides: Sequence[str]) -> dict[str, Any]:
    """A spec's changes by `source.KEY=VALUE` strings, which say how the test images are read.

    Raises:
        UserError: for keys of TEST_KEYS alone can be set: all else is the set's own.
    """
    data: dict[str, Any] = {}
    changes.override(data, overrides)
    given = data.get("source", {})
    other = next((text for text in overrides if text.split("=")[0].strip() not in _settable()), None)
    if other is not None:
        keys = ", ".join(f"source.{key}" for key in (*TEST_KEYS, "path"))
        raise UserError(f"--set {other}: of the source, only {keys} can be set here")
    spec, faults = check(SourceSpec, {"dataset": "test", **given}, "source.")
    if spec is None:
        raise UserError("\n".join(faults))
    changed = {key: getattr(spec, key) for key in given}
    return {**changed, "hold_out": None} if "test" in changed else changed  # a split that is named is read whole


def _settable() -> set[str]:
    return {f"source.{key}" for key in TEST_KEYS}
