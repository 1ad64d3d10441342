"""Fuzz strangers' input: manifests, recipes, pickles, headers, claims, rows and pipes. Count how each case ends.

    python benchmarks/fuzz.py --times 1000

Every case is a seeded change of a good file, of its bytes or its values. It ends well if the file is read, or refused
in one sentence, within 10 seconds. Nothing outside of its folder may be opened. The counts are the second table of
benchmarks/faults.md. They are also in benchmarks/results/fuzz.json.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECONDS = 10  # the limit of a case
PIPES = (
    *("ddhub.json", "recipe.yaml", "README.md", "report.json", "data/train-00000-of-00001.parquet"),
    *("teachers/00.safetensors", "evaluation/row.json", "assets/images.png", "probe.json", ".ddhub/run.json"),
)
ROW = {"arch": "a", "protocol": "native", "data": "distilled", "seed": 0, "top1": 0.5, "test_set": "t", "test": "x"}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**70,
    1e308,
    "",
    "\ud800",
    "\x1b[31m",
    "x" * 300,
    [],
    {},
    [[]],
    {"a": 1},
    float("nan"),
]
REACHES = ("/etc/passwd", "../../x.parquet", "data/*", "file:///etc/passwd", "http://127.0.0.1:9/x", "~", "hf://a/b/c")
WELL = ("read", "refused")
Case = Callable[[], object]


def spoiled(content: bytes, draw: random.Random) -> bytes:
    """Bytes with one to four pieces replaced, removed or inserted."""
    for _ in range(draw.randint(1, 4)):
        at, piece = draw.randrange(len(content) + 1), draw.randbytes(draw.randint(1, 8))
        kind = draw.choice(("set", "cut", "put"))
        rest = content[at:] if kind == "put" else content[at + len(piece) :]
        content = content[:at] + (b"" if kind == "cut" else piece) + rest
    return content


def row(folder: Path, draw: random.Random) -> Case:
    """A row of an evaluation with odd values or damaged bytes."""
    from ddhub.evaluation import rows
    from ddhub.reports import summary

    told: dict[str, Any] = {**ROW, "settings": {"lr": 0.1}, "decisions": {"together": 1}}
    for _ in range(draw.randint(1, 3)):
        told[draw.choice(list(told))] = draw.choice(ODD)
    content = json.dumps(told).encode()
    (folder / "row.json").write_bytes(content if draw.random() < 0.5 else spoiled(content, draw))
    return lambda: summary.build("set", [rows.read(folder / "row.json"), rows.Row.model_validate(ROW)])


def changed(value: Any, draw: random.Random) -> Any:
    """The same lists and keys with one value changed, removed, or under another key."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return draw.choice(ODD)
    content = list(value.items() if isinstance(value, dict) else enumerate(value))
    at = draw.randrange(len(content))
    key, inner = content[at]
    kind = draw.random()
    content[at : at + 1] = [] if kind < 0.1 else [("x" if kind < 0.2 else key, changed(inner, draw))]
    return dict(content) if isinstance(value, dict) else [each for _, each in content]


def recipe(folder: Path, draw: random.Random) -> Case:
    """A shipped recipe with odd values or damaged bytes."""
    import yaml

    from ddhub.base.files import shipped, shipped_recipes
    from ddhub.distillation import recipes

    content = (shipped("recipes") / f"{draw.choice(shipped_recipes())}.yaml").read_bytes()
    if draw.random() < 0.5:
        content = yaml.safe_dump(changed(yaml.safe_load(content), draw)).encode()
    else:
        content = spoiled(content, draw)
    (folder / "r.yaml").write_bytes(content)
    return lambda: recipes.read(str(folder / "r.yaml")).hash


def record(folder: Path, draw: random.Random) -> Case:
    """The manifest of a set with odd values or damaged bytes. The set is verified, or its card is made."""
    from ddhub import api

    place = Path(shutil.copytree(os.environ["STRANGERS_SET"], folder / "set"))
    path = place / "ddhub.json"
    content = path.read_bytes()
    values = json.dumps(changed(json.loads(content), draw)).encode()
    path.write_bytes(values if draw.random() < 0.7 else spoiled(content, draw))
    verb = draw.choice([api.verify, api.card])
    return lambda: verb(place)


def claim(folder: Path, draw: random.Random) -> Case:
    """A claim of an output with odd content and an odd time."""
    from ddhub.base.jobs import claims

    path = claims.path_of(folder / "a.json")
    told = {"host": "h", "boot": "b", "pid": 1, "began": 1, "token": "t"}
    told[draw.choice(list(told))] = draw.choice(ODD)
    content = json.dumps(draw.choice([told, *ODD])).encode()
    path.write_bytes(content if draw.random() < 0.5 else spoiled(content, draw))
    when = draw.choice([0, 2**32, 4_102_444_800, path.stat().st_mtime])
    os.utime(path, (when, when))

    def take() -> None:
        with claims.Claims() as held:
            held.take(folder / "a.json")
            claims.holder(folder / "a.json")

    return take


def header(folder: Path, draw: random.Random) -> Case:
    """The header of a folder's README with paths out of it, odd values and classes, or damaged YAML. It is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    from ddhub.data import opening
    from ddhub.data.spec import SourceSpec

    label = {"class_label": {"names": {"0": "a", "1": "b"}}}
    pq.write_table(pa.table({"image": [1, 2], "label": [0, 1]}), folder / "train.parquet")
    features = [{"name": "image", "dtype": "int64"}, {"name": "label", "dtype": label}]
    info = {"features": features, "splits": [{"name": "train", "num_bytes": 16, "num_examples": 2}]}
    value = draw.choice([*REACHES, *(each for each in ODD if each == each and each != "\ud800")])
    paths = draw.choice([value, [value], [{"split": "train", "path": value}], {"train": value}])
    config = {"config_name": "default", draw.choice(["data_files", "data_dir"]): paths}
    told = draw.choice([{"configs": [config]}, {"dataset_info": changed(info, draw)}])
    content = f"---\n{yaml.safe_dump(told)}---\n".encode("utf-8", "surrogatepass")
    (folder / "README.md").write_bytes(content if draw.random() < 0.5 else spoiled(content, draw))
    spec = SourceSpec(dataset=str(folder))
    return lambda: opening.rows(spec, "train", ("train", "test"), theirs=True)


def pickled(folder: Path, draw: random.Random) -> Case:
    """A torch file with a damaged pickle or damaged bytes."""
    import io
    import zipfile

    import torch

    from ddhub.interop import reading
    from ddhub.interop.reading import Reading

    buffer = io.BytesIO()
    torch.save({"data": [[torch.zeros(2, 1, 4, 4), torch.zeros(2)]]}, buffer)
    whole = buffer.getvalue()
    if draw.random() < 0.7:  # the pickle is damaged, and the archive around it is sound
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members.items():
                archive.writestr(name, spoiled(content, draw) if name.endswith("data.pkl") else content)
        whole = made.getvalue()
    else:
        whole = spoiled(whole, draw)
    (folder / "a.pt").write_bytes(whole)
    return lambda: reading.load(folder / "a.pt", Reading())


def pipe(folder: Path, draw: random.Random) -> Case:
    """A set with a pipe in the place of one of its files."""
    import ddhub
    from ddhub import api

    place = Path(shutil.copytree(os.environ["STRANGERS_SET"], folder / "set")) / draw.choice(PIPES)
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    verbs: list[Callable[[Path], object]] = [api.verify, api.report, api.card, ddhub.load]
    verb = draw.choice(verbs)
    return lambda: verb(folder / "set")


KINDS: dict[str, Callable[[Path, random.Random], Case]] = {
    "manifests": record,
    "recipes": recipe,
    "rows": row,
    "claims": claim,
    "README headers": header,
    "pickles": pickled,
    "pipes": pipe,
}
SLOW = {"pipes": 20, "manifests": 5, "recipes": 5, "README headers": 5}  # divisors of the number of cases


def ended(case: Case) -> str:
    """How a case ends: read, refused, or the name of its fault."""
    from ddhub.base.errors import UserError

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        case()
        return "read"
    except UserError as fault:
        return "refused" if str(fault).isprintable() or "\n" in str(fault) else "unprintable"
    except Exception as fault:  # the search is for such exceptions
        return type(fault).__name__
    finally:
        signal.alarm(0)


def tried(kind: str, times: int, seed: int) -> Counter[str]:
    """Try so many cases of a kind, each in a folder of its own. Count the endings."""
    found: Counter[str] = Counter()
    for number in range(times):
        with tempfile.TemporaryDirectory(prefix="ddhub-") as folder:
            case = KINDS[kind](Path(folder), random.Random(f"{seed} {kind} {number}"))
            end = ended(case)
            found[end] += 1
            if end not in WELL:
                print(f"{kind} {number}: {end}", file=sys.stderr)
    return found


def section() -> str:
    """The table of the newest counts, for benchmarks/faults.md; empty if there are none."""
    path = HERE / "results" / "fuzz.json"
    if not path.is_file():
        return ""
    told = json.loads(path.read_text())
    lines = [
        "| what is sent | tried | read | refused in a sentence | went wrong |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, counts in told["endings"].items():
        well = [counts.get(end, 0) for end in WELL]
        cells = (sum(counts.values()), *well, sum(counts.values()) - sum(well))
        lines.append(f"| {kind} | {' | '.join(map(str, cells))} |")
    made = f"Made by `{told['command']}` on {told['date']}; a case may take {SECONDS} seconds."
    return f"\n# What strangers send\n\n{made}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Try the cases, count the endings, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    times, seed = asked.times, asked.seed
    import faults_page
    from distilling import facts

    from ddhub import api

    with tempfile.TemporaryDirectory(prefix="ddhub-") as home:
        os.environ.update(DDHUB_HOME=home, HF_HOME=home, HF_HUB_OFFLINE="1")
        logging.disable()  # `datasets` warns about its input
        quick = ["teachers={arch: convnet2_w8, count: 1, epochs: 1}", "method={name: random}"]
        settings = "evaluate={epochs: 2, packaging_seeds: 1, seeds: 1, min_steps: 0}"
        api.distill("digits_ipc1", out=f"{home}/set", overrides=[*quick, settings], threads=1)
        os.environ["STRANGERS_SET"] = f"{home}/set"
        endings = {kind: dict(tried(kind, max(1, times // SLOW.get(kind, 1)), seed)) for kind in KINDS}
    command = f"python benchmarks/fuzz.py --times {times} --seed {seed}"
    told = {**facts("cpu", command), "date": date.today().isoformat(), "endings": endings}
    (HERE / "results" / "fuzz.json").write_text(json.dumps(told, indent=1) + "\n")
    faults_page.put(section())
    print(json.dumps(endings, indent=1))


if __name__ == "__main__":
    main()
