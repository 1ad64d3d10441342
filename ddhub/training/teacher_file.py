"""The metadata of a teacher's file, read without torch."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ddhub.base import files, strict_json
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line

FACTS = {"arch": str, "classes": int, "channels": int, "side": int, "validation_top1": float}


def facts(path: Path) -> dict[str, Any]:
    """The metadata of a teacher's file: arch, classes, channels, side, validation_top1.

    Raises:
        UserError: naming a file that is no teacher's.
    """
    try:
        files.refuse_odd(path)
        with safe_open(path, "np") as file:
            content = (file.metadata() or {})["ddhub"]
        found: dict[str, Any] = strict_json.parse(content, f"{path}: its facts")
        return {name: kind(found[name]) for name, kind in FACTS.items()}
    except UserError:
        raise
    except (OSError, SafetensorError, ArithmeticError, LookupError, ValueError, TypeError) as fault:
        raise UserError(f"{path}: not a teacher's file ({one_line(fault, 100)})") from fault
