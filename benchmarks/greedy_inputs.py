"""The cost of one greedy input from a stranger: seconds and peak memory of the command that meets it.

    python benchmarks/greedy_inputs.py [CASE ...]

Each command runs in a process of its own. Its peak is the resident memory that the kernel counted (ru_maxrss).
benchmarks/faults.md also shows the cost of each input before ddhub had limits, and the wanted cost.
"""

import argparse
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SIDE, SCANS, LIMIT = 9400, 100_000, 600  # pixels of a side, scans of a progressive JPEG, seconds
TINY = ["--set=teachers={arch: convnet2_w8, count: 1, epochs: 1}", "--set=method={name: random}", "--threads=1"]
SHORT = "--set=evaluate={epochs: 2, packaging_seeds: 1, seeds: 1, min_steps: 0}"

# A small process starts the command, because the peak of a child begins with the peak of its parent.
WATCH = """
import os, sys
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss)
"""


class Case(NamedTuple):
    """An input, its cost before, and the wanted cost."""

    what: str
    before: str
    wanted: str
    make: Callable[[Path], list[str]]  # makes the input, and returns the words after `ddhub`


def grey16(side: int) -> bytes:
    """A 16-bit grey PNG of two halves, each of one colour. It is a thousandth of its pixels' bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    halves = ((b"\0" + value * side) * (side // 2) for value in (b"\x12\x34", b"\xff\xff"))
    rows = zlib.compress(b"".join(halves), 9)
    head = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def large_pictures(folder: Path) -> list[str]:
    """A folder of 32 small pictures and six very large ones."""
    small, large = grey16(32), grey16(SIDE)
    for number in range(38):
        path = folder / "pictures" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small if number < 32 else large)
    made = ["--out", str(folder / "made"), "--set=source.resolution=32", "--set=source.range=[0,65535]", SHORT]
    return ["distill", str(folder / "pictures"), *TINY, *made]


def shared_set(folder: Path) -> Path:
    """A copy of a small set."""
    return Path(shutil.copytree(os.environ["GREEDY_SET"], folder / "set"))


def with_manifest(place: Path, **update: Any) -> None:
    """Change a manifest, and make its hashes true."""
    from ddhub.artifact import manifest, payload_hashes

    told = json.loads((place / "ddhub.json").read_text())
    records = {name: record.model_dump() for name, record in payload_hashes.file_records(place).items()}
    data = sum(record["bytes"] for name, record in records.items() if name.startswith("data/"))
    told |= {"files": records, "bytes": {**told["bytes"], "images": data, "labels": 0}, **update}
    (place / manifest.MANIFEST).write_text(json.dumps(told))


def many_scans(folder: Path) -> list[str]:
    """A set of ten progressive JPEGs of 1,024 pixels. Each repeats a scan a hundred thousand times."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    place = shared_set(folder)
    file = io.BytesIO()
    Image.new("L", (1024, 1024), 99).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    first = content.index(b"\xff\xda")
    second = content.index(b"\xff", first + 20)
    while content[second + 1] == 0:
        second = content.index(b"\xff", second + 1)
    bomb = content[:first] + content[first:second] * SCANS + content[second:]
    path = next((place / "data").glob("*.parquet"))
    table = pq.read_table(path)
    images = pa.array([{"bytes": bomb, "path": None}] * len(table), table.schema.field("image").type)
    pq.write_table(table.set_column(0, table.schema.field("image"), images), path, compression="zstd")
    told = json.loads((place / "ddhub.json").read_text())
    with_manifest(place, source={**told["source"], "resolution": 1024})
    return ["verify", str(place)]


def many_seeds(folder: Path) -> list[str]:
    """A set whose recipe asks for two billion trainings."""
    place = shared_set(folder)
    text = (place / "recipe.yaml").read_text()
    (place / "recipe.yaml").write_text(text.replace("  seeds: 1\n", "  seeds: 2000000000\n"))
    with_manifest(place)
    return ["evaluate", str(place), "--archs=convnet2_w8", "--threads=1"]


def large_network(folder: Path) -> list[str]:
    """A set whose teacher is a network of seven billion weights."""
    place = shared_set(folder)
    told = json.loads((place / "ddhub.json").read_text())
    with_manifest(place, teachers=[{**told["teachers"][0], "arch": "timm:vit_7b_patch16_dinov3"}])
    return ["evaluate", str(place), "--threads=1"]


def many_groups(folder: Path) -> list[str]:
    """A set that claims 32,768 groups of 100,000 classes."""
    place = shared_set(folder)
    classes = [f"c{number}" for number in range(100_000)]
    with_manifest(place, groups=32_768, ipc=32_768, classes=classes)
    return ["verify", str(place)]


def large_rows(folder: Path) -> list[str]:
    """A set with sixty rows of 0.96 MB."""
    place = shared_set(folder)
    (place / "evaluation").mkdir()
    row = {"arch": "a", "protocol": "native", "data": "distilled", "top1": 0.5, "test_set": "t", "test": "x"}
    for number in range(60):
        settings = {f"key{at}": at for at in range(60_000)}
        content = json.dumps({**row, "seed": number, "settings": settings})
        (place / "evaluation" / f"{number}.json").write_text(content)
    return ["verify", str(place)]


def large_manifest(folder: Path) -> list[str]:
    """A set whose manifest is 45 MB of empty lists."""
    place = shared_set(folder)
    text = (place / "ddhub.json").read_text().rstrip().removesuffix("}")
    (place / "ddhub.json").write_text(f'{text}, "x": [{"[]," * 15_000_000}[]]}}')
    return ["verify", str(place)]


def many_sets(count: int) -> Callable[[Path], list[str]]:
    """The report on so many sets with artificial rows."""
    return lambda _: [str(HERE / "report_many.py"), str(count)]


def large_images(folder: Path) -> list[str]:
    """A set of fifty images of 224 pixels and ten classes. It is trained on and scored."""
    import numpy as np
    from PIL import Image

    for split, each in (("train", 10), ("test", 30)):
        for label in range(10):
            for number in range(each):
                draw = np.random.default_rng([label, number, each])
                path = folder / "large" / split / f"c{label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(path)
    made = ["--out", str(folder / "made"), "--set=source.resolution=224", "--set=ipc=5", SHORT]
    words = [sys.executable, "-m", "ddhub", "distill", str(folder / "large"), *TINY, *made]
    subprocess.run(words, check=True, capture_output=True, cwd=folder)
    plain = ["--baselines", "none", "--seeds=1", "--set=epochs=1", "--set=min_steps=0", "--threads=1"]
    return ["evaluate", str(folder / "made"), "--archs=convnet5", *plain]


CASES = {
    "pictures": Case("six 16-bit PNGs of 9,400 px after 32 small ones", "10.3 GB", "bounded", large_pictures),
    "scans": Case("ten JPEGs of 100,000 scans", "> 150 s", "scans counted before", many_scans),
    "seeds": Case("`evaluate.seeds: 2000000000`", "4.8 GB, traceback", "a sentence", many_seeds),
    "network": Case("a teacher of 7e9 weights", "4.7 GB, > 60 s", "counted before it is built", large_network),
    "groups": Case("32,768 groups of 100,000 classes", "26 GB asked for", "counted sparsely", many_groups),
    "rows": Case("60 rows of 0.96 MB", "2.6 GB, 194 s", "one at a time", large_rows),
    "manifest": Case("a manifest of 45 MB of `[]`", "> 90 s, 1.7 GB", "a limit", large_manifest),
    "10 sets": Case("report on 10 sets", "66 s", "5 times faster", many_sets(10)),
    "50 sets": Case("report on 50 sets", "256 s, 5.1 MB", "5 times faster", many_sets(50)),
    "224 px": Case("evaluating 50 images of 224 px on a CPU", "> 4 GB", "3 GB", large_images),
}


def measured(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command in a folder. Return its seconds, peak memory, exit code and message."""
    command = [sys.executable, *([] if words[0].endswith(".py") else ["-m", "ddhub"]), *words]
    begun = time.monotonic()
    watched = [sys.executable, "-S", "-c", WATCH, "timeout", str(LIMIT), *command]
    done = subprocess.run(watched, capture_output=True, text=True, errors="replace", cwd=folder)
    seconds = time.monotonic() - begun
    *lines, last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    code, peak = map(int, last.split())
    told = [line for line in lines if line.startswith("error:")] or lines or [""]
    return {
        **{"seconds": round(seconds, 1), "peak_mb": peak // 1000, "code": code},
        **{"traceback": any("Traceback" in line for line in lines), "said": told[0].replace(os.environ["HOME_OF"], "")},
    }


def section() -> str:
    """The table of the newest measurements, for benchmarks/faults.md; empty if there are none."""
    path = HERE / "results" / "greedy_inputs.json"
    if not path.is_file():
        return ""
    told = json.loads(path.read_text())
    lines = ["| input | before | wanted | now |", "| --- | --- | --- | --- |"]
    for name, found in told["cases"].items():
        case = CASES[name]
        now = f"{found['seconds']:g} s, {found['peak_mb'] / 1000:.2f} GB"
        lines.append(f"| {case.what} | {case.before} | {case.wanted} | {now}; exit code {found['code']} |")
    empty = told["empty"]
    made = (
        f"Made by `{told['command']}` on {told['date']}, one command each. Seconds and memory are of a whole process: "
        f"`ddhub verify` of a small set takes {empty['seconds']:g} s and {empty['peak_mb'] / 1000:.2f} GB."
    )
    return f"\n# What one greedy input takes\n\n{made}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Measure each case, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    asked = parser.parse_args().cases or list(CASES)
    import faults_page
    from distilling import facts

    path = HERE / "results" / "greedy_inputs.json"
    known = json.loads(path.read_text())["cases"] if path.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="ddhub-") as home:
        os.environ.update(DDHUB_HOME=f"{home}/home", HF_HOME=f"{home}/hf", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        os.environ.update(GREEDY_SET=f"{home}/set", HOME_OF=f"{home}/")
        words = [sys.executable, "-m", "ddhub", "distill", "digits_ipc1", *TINY, SHORT, "--out", f"{home}/set"]
        subprocess.run(words, check=True, capture_output=True)
        empty = measured(["verify", f"{home}/set"], Path(home))
        for name in asked:
            folder = Path(home) / name.replace(" ", "-")
            folder.mkdir()
            known[name] = measured(CASES[name].make(folder), folder)
            shutil.rmtree(folder)
            print(name, known[name], file=sys.stderr)
    cases = {name: known[name] for name in CASES if name in known}
    told = {**facts("cpu", "python benchmarks/greedy_inputs.py"), "date": date.today().isoformat()}
    path.write_text(json.dumps({**told, "empty": empty, "cases": cases}, indent=1) + "\n")
    faults_page.put(section())


if __name__ == "__main__":
    main()
