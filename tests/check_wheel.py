"""Check that the newest wheel in a folder holds every recipe and card: `python tests/check_wheel.py dist`."""

import sys
import zipfile
from pathlib import Path


def missing(wheel: Path, root: Path) -> list[str]:
    """Files of recipes/ and cards/ in the checkout that the wheel does not hold byte for byte."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    wanted = [path for folder in ("recipes", "cards") for path in sorted((root / folder).iterdir()) if path.is_file()]
    names = {f"ddhub/{path.relative_to(root).as_posix()}": path.read_bytes() for path in wanted}
    return [name for name, content in names.items() if held.get(name) != content]


if __name__ == "__main__":
    newest = max(Path(sys.argv[1]).glob("ddhub-*.whl"), key=lambda path: path.stat().st_mtime)
    absent = missing(newest, Path(__file__).parent.parent)
    print(f"{newest.name}: " + (f"lacks {', '.join(absent)}" if absent else "holds all recipes and cards"))
    sys.exit(bool(absent))
