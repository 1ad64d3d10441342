"""The declared lower bounds of datasets, huggingface-hub and timm, and their newest, against a part of the suite.

    make bounds        # or: python tests/bounds.py oldest|newest [PYTEST ARGUMENTS]

Each is installed into a folder of its own, which comes first on PYTHONPATH; torch and the rest stay as they are. Not in
the suite: it needs a package index.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRIED = ("datasets", "huggingface-hub", "timm")
HELD = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "safetensors", *TRIED)
SUBSET = [
    *("journeys/test_end_to_end", "hostile/test_strangers_hub", "unit/artifact/test_hub", "unit/artifact/test_parquet"),
    *("unit/artifact/test_publish", "unit/data/test_sources", "unit/evaluation/test_find_set"),
    *("unit/interop/test_conventions", "unit/interop/test_layouts", "unit/training/test_architectures"),
]
# What the oldest releases do otherwise: the fixture's empty split, at which datasets 4.8 itself divides by zero (ddhub
# writes none by it); timm 1.0.20 refuses images smaller than a patch, in a sentence; huggingface_hub 1.0 sends by LFS
# what newer ones send by xet.
LEFT_OUT = [
    "unit/data/test_sources.py::test_an_empty_split_is_refused",
    "unit/training/test_architectures.py::test_timm_is_told_what_it_needs_of_a_small_image",
    "unit/artifact/test_publish.py::test_a_set_travels_by_xet",
]


def oldest() -> list[str]:
    """The bounds that pyproject.toml declares, as exact versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(found for text in project["dependencies"] if (found := text.split(">=")[:2]) and len(found) == 2)
    return [f"{name}=={bounds[name]}" for name in TRIED]


def install(folder: Path, wanted: list[str]) -> None:
    """Install packages without what they need, then what they need but for what is held."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([*pip, "--no-deps", *wanted], check=True)
    needed = [
        text.split(";")[0].strip()
        for found in metadata.distributions(path=[str(folder)])
        for text in found.requires or ()
        if "extra ==" not in text
    ]
    more = {text for text in needed if re.split(r"[^\w-]", text)[0].lower().replace("_", "-") not in HELD}
    subprocess.run([*pip, *sorted(more)], check=True)


def main() -> int:
    """Install one of the two and run the tests with it; their exit status."""
    which, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="ddhub-bounds-") as name:
        install(Path(name), oldest() if which == "oldest" else list(TRIED))
        told = {found.name: found.version for found in metadata.distributions(path=[name])}
        print(f"{which}: {', '.join(f'{key} {told[key]}' for key in sorted(told))}", flush=True)
        environment = {**os.environ, "PYTHONPATH": name}
        paths = [str(ROOT / "tests" / f"{test}.py") for test in SUBSET]
        left = [f"--deselect=tests/{test}" for test in LEFT_OUT] if which == "oldest" else []
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "", *left, *(arguments or paths)],
            env=environment,
            cwd=ROOT,
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
