"""The README's promises: what it shows how to add can be added that way, and its tree names what is there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddhub import api
from ddhub.base import files
from ddhub.training import architectures

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(python)?\n(.*?)```", README, flags=re.DOTALL)
QUICK = [
    "teachers={arch: convnet2_w8, count: 1, epochs: 2}",
    "evaluate={epochs: 2, packaging_seeds: 1, full_epochs: 1}",
]


def block(containing: str) -> str:
    """The only fenced block with these words."""
    found = [text for _, text in BLOCKS if containing in text]
    assert len(found) == 1
    return found[0]


def test_the_method_it_shows_works(tmp_path, monkeypatch):
    """The file is run from where it lies, its command distills, and the result is the class means."""
    monkeypatch.chdir(tmp_path)
    Path("mean.py").write_text(block("the mean of its training images"))
    overrides = re.findall(r"--set (\S+)", block("method.name=./mean.py"))
    made = api.distill("digits_ipc1", out=tmp_path / "mean", overrides=[*overrides, *QUICK], threads=1)
    assert made["manifest"]["method"] == {"name": "./mean.py", "sha256": files.sha256(Path("mean.py"))}
    assert made["manifest"]["packaging"]["validation_top1_packaged"] > 0.1


def test_the_architecture_it_shows_works(monkeypatch):
    """The line goes into the table and builds a network with a stem for small images."""
    line = block("resnet34")
    monkeypatch.setattr(architectures, "TABLE", {**architectures.TABLE, **eval("{" + line + "}", vars(architectures))})
    net = architectures.try_out("resnet34", classes=10, channels=3, side=32)
    assert net.conv1.kernel_size == (3, 3)
    architectures.try_out("timm:mobilenetv3_small_050", classes=10, channels=3, side=32)


def test_the_dataset_it_shows_works(tmp_path, monkeypatch):
    """A folder of pictures is distilled and evaluated by the two commands."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 5)):
        for number, name in enumerate(("elm", "oak")):
            for index in range(count):
                path = tmp_path / "leaves" / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, 120, (16, 16, 3), dtype=np.uint8)
                pixels[..., number] += 100
                Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    distill, _ = block("leaves_ipc10").strip().splitlines()
    overrides = re.findall(r'--set (?:"([^"]+)"|(\S+))', distill)
    quick = [*QUICK, "method.iterations=3", "method.student={arch: convnet2_w8, epochs: 3, lr: 0.02}"]
    made = api.distill("digits_ipc10", overrides=[*(a or b for a, b in overrides), *quick], threads=1)
    assert made["folder"] == "distilled/leaves_ipc10"
    assert made["manifest"]["classes"] == ["elm", "oak"]
    assert made["manifest"]["source"]["dataset"] == "./leaves"
    report = api.evaluation(made["folder"], ["convnet"], seeds=1, threads=1)
    assert {row["data"] for row in report["rows"]} == {"distilled", "random"}


@pytest.mark.parametrize("path", re.findall(r"^(\S+/\S*)  +\S", README, re.M))
def test_its_tree_names_what_is_there(path):
    """Every file and folder in the list of where things are exists, unless it is part of an artifact."""
    assert (ROOT / path).exists() or path.startswith(("data/", "teachers/", "evaluation/"))


def test_its_tree_names_every_module():
    """A stranger finds every file of the package explained."""
    modules = {path.stem for path in (ROOT / "ddhub").glob("*.py")}
    named = set(re.findall(r"^ddhub/(\w+)\.py", README, re.M))
    assert modules - named == {"__init__"}
