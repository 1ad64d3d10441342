"""Manifests and reports that cards are rendered from, and the scripts that a card holds."""

import re
from typing import Any

import reports_of_rows

from ddhub.artifact.manifest import Manifest
from ddhub.reports.documents import Evaluation

DIGITS = [str(digit) for digit in range(10)]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HOSTILE = [
    "<script>alert(1)</script>",
    "[click](https://evil.example) ![x](x)",
    "a | b\n| c | d |",
    "{{ 7 * 7 }} {% raw %}",
    "`code` *bold* $x$",
    "---\nlicense: mit",
    "1e3",
    "```\nimport os",
    "'; import os #",
    "yes",
]


def case(**changes: Any) -> Manifest:
    """The manifest of a made set of digits, with sections changed."""
    sha = "0" * 64
    values: dict[str, Any] = {
        "name": "digits_ipc10",
        "ipc": 10,
        "classes": DIGITS,
        "source": {
            **{"dataset": "digits", "revision": None, "fingerprint": f"sha256:{sha}", "image": "image"},
            **{"label": "label", "train": "train", "test": "test", "validation": 0.1, "split_seed": 0},
            **{"resolution": 8, "channels": 1, "license": None},
        },
        "preprocess": {"mean": [0.305685], "std": [0.376347], "clipped": 0.014},
        "labels": {"form": "logits", "teachers": "mean"},
        "teachers": [
            {"arch": "convnet2_w32", "file": f"teachers/0{index}.safetensors", "validation_top1": 0.98}
            for index in range(2)
        ],
        "protocol": {
            **{"loss": "l1_logits", "augment": "color_crop_cutout_scale_rotate", "lr": 0.02, "epochs": 100},
            **{"batch": 50},
        },
        "method": {"name": "apm", "iterations": 90, "batch": None, "student": {"arch": "convnet2_w32", "epochs": 100}},
        "seed": 0,
        "init": "real",
        "packaging": {
            **{"arch": "convnet2_w32", "seeds": 3, "validation_top1_float": 0.95, "validation_top1_8bit": 0.948},
            **{"validation_top1_packaged": 0.948},
        },
        "memorisation": {
            "checked": 100,
            "pixels": {"median": 0.1, "median_held_out": 0.13, "copies": 0.02},
            "features": {"median": 0.01, "median_held_out": 0.02, "copies": 0.0},
        },
        "made": {
            **{"ddhub": "0.1.0", "torch": "2.8.0", "device": "cpu (x86_64, 2 cores)", "seconds": 130.0},
            **{"phases": {"source": 1.0, "teachers": 60.0, "distill": 69.0}, "peak_bytes": 10**9},
            **{"recipe_hash": sha, "overrides": ["method.iterations=90"]},
        },
        "files": {"data/train-00000-of-00001.parquet": {"sha256": sha, "bytes": 14110}},
        "bytes": {"images": 12110, "labels": 2000, "preprocess": 0, "teachers": 88900},
    }
    for name, change in changes.items():
        values[name] = {**values[name], **change} if isinstance(change, dict) and values.get(name) else change
    return Manifest.model_validate(values)


def rows(dataset: str = "digits test", arch: str = "convnet2_w32", version: int | None = 2) -> Evaluation:
    """A report of three seeds on distilled and on random data."""
    found = [
        {
            **{"arch": arch, "protocol": "native", "data": data, "seed": seed, "top1": top1 + step * seed},
            **{
                "protocol_version": version,
                "test_set": dataset,
                "test": "sha256:0",
                "hardware": "cpu (x86_64, 2 cores)",
                "seconds": 2.0,
            },
        }
        for data, top1, step in (("distilled", 0.95, 0.01), ("random", 0.9, 0.012))
        for seed in range(3)
    ]
    return reports_of_rows.built("set", found)


def info(manifest: Manifest, images: int = 100) -> dict[str, Any]:
    """A `dataset_info` with the classes."""
    names = {str(index): name for index, name in enumerate(manifest.classes)}
    return {
        "features": [
            {"name": "image", "dtype": "image"},
            {"name": "label", "dtype": {"class_label": {"names": names}}},
        ],
        "splits": [{"name": "train", "num_bytes": 16613, "num_examples": images}],
        "download_size": 14110,
        "dataset_size": 16613,
    }


CIFAR_SOURCE = {
    **{"dataset": "uoft-cs/cifar10", "revision": "0" * 40, "image": "img", "resolution": 32, "channels": 3},
}
CASES: dict[str, tuple[Manifest, dict[str, Any] | None]] = {
    "digits_apm": (case(), rows()),
    "imported_datm": (
        case(
            name="datm_cifar10_ipc10",
            classes=CIFAR,
            source=CIFAR_SOURCE,
            preprocess={
                **{"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
                **{"zca": "preprocess.safetensors", "pixels_space": "input", "clipped": 0.2},
            },
            labels={"teachers": None},
            teachers=[],
            protocol={"loss": "soft_ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 256},
            method={"name": "datm", "iterations": None, "student": None},
            seed=None,
            init=None,
            packaging=None,
            memorisation=None,
            imported={
                "layout": "datm",
                "files": {"images_best.pt": {"sha256": "1" * 64, "bytes": 1229000}},
                "notes": ["statistics and whitening: as the authors' code fits them"],
            },
            made={
                **{"device": None, "seconds": None, "phases": {}, "peak_bytes": None},
                **{"recipe_hash": None, "overrides": []},
            },
            bytes={"images": 1330000, "labels": 4000, "preprocess": 37761168, "teachers": 0},
        ),
        None,
    ),
    "random_hard": (
        case(
            name="leaves",
            classes=["elm", "oak"],
            source={"dataset": "./leaves", "resolution": 12, "license": "mit"},
            labels={"form": "hard", "teachers": None},
            teachers=[],
            protocol={"loss": "ce", "augment": "none"},
            method={"name": "random", "iterations": None, "student": None, "batch": None},
            packaging={"arch": "resnet18", "validation_top1_8bit": None},
            memorisation={
                **{"checked": 20, "features": None},
                **{"pixels": {"median": 0.0, "median_held_out": 0.13, "copies": 1.0}},
            },
            init=None,
            bytes={"images": 2100, "labels": 0, "teachers": 0},
        ),
        rows("leaves test", "resnet18"),
    ),
    "hostile": (
        case(
            name="evil`name`",
            classes=HOSTILE,
            source={"dataset": 'me/"); import os #', "image": '"]; import os', "label": "la`bel\n```"},
            labels={"form": "probabilities", "teachers": None, "top_k": 3, "rest": 0.001},
            protocol={"loss": "soft_ce", "augment": "color_flip];import os"},
            method={"name": "<b>|method", "key`": "<i>"},
            made={"device": "<u>", "overrides": ["publish.pretty_name=<b>|x"]},
            repo_id="me/a-set",
        ),
        rows("<b> | test", "<i>|arch"),
    ),
}


def scripts(text: str) -> list[str]:
    """The card's training script, and the same with labels made on the fly where the card has that."""
    _, script, *dynamic = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    before, _, after = script.partition("def loss(")
    after = after.partition("\n\n\n")[2]
    return [script, *(f"{before}{block}\n\n{after}" for block in dynamic)]
