"""The facts of an evaluated artifact, as one result file.

python benchmarks/summarise.py FOLDER --commands "ddhub distill ..." "ddhub evaluate ..." > benchmarks/results/NAME.json
"""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "timm", "datasets", "huggingface-hub", "numpy")


def summary(folder: Path, commands: list[str]) -> dict:
    """Commands, hardware, versions, cost, and the numbers on validation and test data. Rows are shortened."""
    manifest = json.loads((folder / "ddhub.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    kept = ("arch", "protocol", "overrides", "data", "seed", "top1", "epochs", "lr", "seconds")
    return {
        "commands": commands,
        "hardware": manifest["made"]["device"],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "made": {key: manifest["made"][key] for key in ("seconds", "phases", "peak_bytes", "recipe_hash", "decisions")},
        "teachers_validation_top1": [teacher["validation_top1"] for teacher in manifest["teachers"]],
        "packaging": manifest["packaging"],
        "clipped": manifest["preprocess"]["clipped"],
        "bytes": manifest["bytes"],
        "summary": report["summary"],
        "rank_fidelity": report.get("rank_fidelity", []),
        "rows": [{key: row[key] for key in kept if row.get(key) not in (None, [])} for row in report["rows"]],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commands", nargs="+", required=True)
    arguments = parser.parse_args()
    print(json.dumps(summary(arguments.folder, arguments.commands), indent=1))
