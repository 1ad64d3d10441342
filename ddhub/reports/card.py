"""The dataset card: README.md as a pure function of manifest, report and makers' words. Missing values are errors."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ddhub.artifact import doubts, parquet
from ddhub.artifact.manifest import Manifest, ipc_text
from ddhub.base import files, limits
from ddhub.base.hub_client import REPO_ID
from ddhub.base.units import duration, size
from ddhub.evaluation.baselines import BASELINES
from ddhub.evaluation.protocols import PROTOCOLS, own, version
from ddhub.reports import card_script, charts, summary, tables, templates
from ddhub.reports.documents import Evaluation
from ddhub.reports.escaping import code, literal, plain
from ddhub.reports.summary import DATA
from ddhub.training import optimisation

STARTS = {  # the start of images, in words
    "real": "random real training images",
    "easy": "easy training images, on which the teachers err least",
    "noise": "noise",
}
WORDS = (  # what stands between them is the makers'
    "<!-- Write about your set between these two comments. ddhub keeps that, and rewrites all other lines. -->",
    "<!-- end of your own words -->",
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def own_words(path: Path) -> str:
    """The lines of a card that its makers wrote, with the comments around them; the comments alone for a new card."""
    if path.is_file():
        with files.regular(path) as file:
            text = file.read(2 * limits.YAML_BYTES).decode(errors="replace")
        begin, end = text.find(WORDS[0]), text.rfind(WORDS[1])
        if 0 <= begin < end:
            return text[begin : end + len(WORDS[1])]
    return "\n".join(WORDS)


def describe(folder: Path) -> dict[str, Any]:
    """The `dataset_info` of a set's data files as the Hub writes it: columns, rows, bytes on disk and in memory."""
    import datasets
    import pyarrow.parquet as pq

    features = parquet.column_features(folder)
    files = [pq.ParquetFile(path) for path in parquet.shards(folder)]
    rows = sum(file.metadata.num_rows for file in files)
    in_memory = sum(batch.nbytes for file in files for batch in file.iter_batches(parquet.GROUP_ROWS))
    info = datasets.DatasetInfo(
        features=features,
        splits=datasets.SplitDict({"train": datasets.SplitInfo("train", num_bytes=in_memory, num_examples=rows)}),
        download_size=sum(path.stat().st_size for path in parquet.shards(folder)),
        dataset_size=in_memory,
    )
    content: dict[str, Any] = info._to_yaml_dict()
    content.pop("config_name", None)
    return content


def render(
    manifest: Manifest,
    recipe: dict[str, Any],
    report: Evaluation | None,
    info: dict[str, Any],
    words: str = "\n".join(WORDS),
) -> str:
    """The card of an artifact.

    Args:
        recipe: the resolved recipe's values, for the card's name. Imported sets may have none.
        report: the summary of the rows, or None before any evaluation.
        info: the result of `describe`.
        words: the result of `own_words`.
    """
    title = _title(manifest, recipe)
    rows = report.rows if report else []
    images = info["splits"][0]["num_examples"]
    header = _header(manifest, title, images, info)
    script = card_script.context(manifest)
    return _template().render(
        script,
        header=yaml.dump(header, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31).rstrip(),
        title=title,
        words=words,
        m=manifest,
        notes=doubts.notes(manifest),
        cost_of_8_bits=doubts.cost_of_8_bits(manifest),
        starts=list(dict.fromkeys(part.init for part in manifest.parts)),
        start_words=STARTS,
        images=images,
        settings=_settings(manifest.method),
        own_settings=_own_settings(manifest),
        transformer=optimisation.FAMILIES["transformer"],
        other=optimisation.OTHER,
        native_version=version("native"),
        outdated=any(row.outdated and own(row.protocol) for row in rows),
        license=header["license"],
        hub_source=REPO_ID.fullmatch(manifest.source.dataset) is not None,
        results=tables.results(report) if report and rows else None,
        pictures=[name for name, (_, panels) in charts.charts(report).items() if panels] if report and rows else [],
        corrupted=summary.corrupted(rows),
        kinds={row.data for row in rows},
        protocols={row.protocol for row in rows},
        baselines={DATA[name]: title for name, title in BASELINES.items() if name in {row.data for row in rows}},
        others={
            name: PROTOCOLS[name].title for name in dict.fromkeys(row.protocol for row in rows) if name in PROTOCOLS
        },
        hardware=", ".join(sorted({row.hardware or "hardware not named" for row in rows})),
        expected=_expected(manifest, report, script["home"]),
    )


@cache
def _template() -> jinja2.Template:
    """The card's template, cached because compiling it is slower than rendering."""
    environment = templates.environment(autoescape=False)  # Markdown: `plain`, `code` and `literal` escape names
    environment.filters |= {"size": size, "duration": duration, "percent": _percent}
    environment.filters |= {"plain": plain, "code": code, "literal": literal, "ipc_text": ipc_text}
    return environment.get_template("dataset.md.j2")


def _title(manifest: Manifest, recipe: Any) -> str:
    """The title: the manifest's, or the recipe's. A stranger's recipe can hold anything."""
    if manifest.title:
        return manifest.title
    publish = recipe.get("publish") if isinstance(recipe, dict) else None
    title = publish.get("pretty_name") if isinstance(publish, dict) else None
    return title if isinstance(title, str) and title else manifest.name


def _expected(manifest: Manifest, report: Evaluation | None, home: str) -> str | None:
    """The measured accuracy that the card's script should approach; None if there is none."""
    for score in report.summary if report else []:
        own = score.test_set.startswith(f"{manifest.source.dataset} ")
        if own and (score.arch, score.protocol, score.data) == (home, "native", "distilled"):
            return tables.accuracy(score)
    return None


def _settings(method: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A method's settings as text. Nested keys become `outer.inner`."""
    found: dict[str, str] = {}
    for key, value in method.items():
        if isinstance(value, dict):
            found |= _settings(value, f"{prefix}{key}.")
        elif value is not None and (prefix or key != "name"):
            found[f"{prefix}{key}"] = str(value)
    return found


def _own_settings(manifest: Manifest) -> list[dict[str, str]]:
    """The settings of each part of a merged set that not all parts share; an empty list if they share all.

    A setting of another part with the same method is `unset`: the manifest leaves out those at their default.
    """
    parts, shared = manifest.merged or [], _settings(manifest.method)
    each = [{key: value for key, value in _settings(part.method).items() if key not in shared} for part in parts]
    of_method: dict[str, dict[str, str]] = {}
    for part, unshared in zip(parts, each, strict=True):
        of_method.setdefault(part.method["name"], {}).update(dict.fromkeys(unshared, "unset"))
    found = [of_method[part.method["name"]] | unshared for part, unshared in zip(parts, each, strict=True)]
    return found if any(each) else []


def _header(manifest: Manifest, title: str, images: int, info: dict[str, Any]) -> dict[str, Any]:
    """The content of the YAML header."""
    dataset = manifest.source.dataset
    is_id = REPO_ID.fullmatch(dataset) is not None
    license = manifest.license
    terms = {"license_name": "terms-of-the-source", "license_link": f"https://huggingface.co/datasets/{dataset}"}
    ipc = [] if manifest.unequal else [f"ipc-{manifest.ipc}"]
    tags = ["image", "dataset-distillation", *ipc, str(manifest.method["name"]).removeprefix("./"), "ddhub"]
    return {
        "pretty_name": title,
        "license": license,
        **(terms if license == "other" and is_id else {}),
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-classification"],
        "task_ids": ["multi-class-image-classification"],
        "size_categories": [next((name for limit, name in SIZES if images < limit), "n>1M")],
        "source_datasets": [dataset if is_id else "extended|other"],
        "tags": list(dict.fromkeys(tags)),
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
        "dataset_info": info,
    }


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that quotes everything which a reader could misread: numbers, line breaks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if re.match(r"[A-Za-z]", value) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style if value.isprintable() else '"')


_Dumper.add_representer(str, _text)


def _percent(fraction: float) -> str:
    """`48.1%`."""
    return f"{100 * fraction:.1f}%"
