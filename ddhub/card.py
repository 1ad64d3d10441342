"""The dataset card: manifest and report in, README.md out; a pure function, strict about what is missing."""

from typing import Any

import jinja2
import yaml

from ddhub import report as reports
from ddhub.files import shipped
from ddhub.log import duration, size
from ddhub.manifest import Manifest

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render(manifest: Manifest, recipe: dict[str, Any], report: dict[str, Any] | None, images: int) -> str:
    """The card of an artifact.

    Args:
        recipe: the resolved recipe's values, for the card's name and licence.
        report: report.json's content, or None before any evaluation.
        images: the number of synthetic images.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("cards")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML; names are made inert by `plain`
    )
    environment.filters |= {"size": size, "duration": duration, "percent": lambda x: f"{100 * x:.1f}%", "plain": plain}
    template = environment.get_template("dataset.md.j2")
    results = reports.markdown(report) if report and report["rows"] else None
    hardware = sorted({row["hardware"] for row in report["rows"]}) if report and report["rows"] else []
    return template.render(
        header=_header(manifest, recipe, images),
        title=recipe["publish"]["pretty_name"] or manifest.name,
        m=manifest,
        images=images,
        results=results,
        hardware=", ".join(hardware),
    )


def _header(manifest: Manifest, recipe: dict[str, Any], images: int) -> str:
    """The YAML header, without its fences."""
    content: dict[str, Any] = {
        "pretty_name": recipe["publish"]["pretty_name"] or manifest.name,
        "task_categories": ["image-classification"],
        "size_categories": [next((name for limit, name in SIZES if images < limit), "n>1M")],
        "tags": ["dataset-distillation", f"ipc-{manifest.ipc}", manifest.method["name"], "ddhub"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    if manifest.source.license is not None:
        content["license"] = manifest.source.license
    if "/" in manifest.source.dataset and not manifest.source.dataset.startswith((".", "/", "~")):
        content["source_datasets"] = [manifest.source.dataset]
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).rstrip()


def plain(text: str) -> str:
    """A stranger's words, inert in Markdown and HTML."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"&#{ord(letter)};" if letter in "<>&|`*_[]{}#\\" else letter for letter in kept)
