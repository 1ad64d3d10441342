"""A card's training scripts as files, run where ddhub cannot be imported."""

import json
import re
import subprocess
import sys
from pathlib import Path

from dataset_cards import scripts

RUNNER = """
import json, runpy, sys, torch
sys.modules["ddhub"] = None  # importing it fails from here on
torch.set_num_threads(1)
for path, *arguments in json.loads(sys.argv[1]):
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
"""


def run(folder: Path, jobs: list[list[str]], env: dict[str, str] | None = None) -> list[float]:
    """Run scripts in a clean folder in a process that cannot import ddhub, and return the accuracies they print."""
    command = [sys.executable, "-I", "-c", RUNNER, json.dumps(jobs)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(found) for found in re.findall(r"^test accuracy: ([0-9.]+)%$", done.stdout, re.MULTILINE)]


def written(folder: Path, text: str) -> list[str]:
    """The card's scripts as files in a folder; their paths."""
    folder.mkdir()
    paths = []
    for number, script in enumerate(scripts(text)):
        path = folder / f"train{number}.py"
        path.write_text(script)
        paths.append(str(path))
    return paths
