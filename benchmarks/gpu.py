"""All measurements for a GPU, the most valuable first, in pieces that resume. They suit a GPU that is lent for minutes.

python benchmarks/gpu.py --data FOLDER --out FOLDER --minutes 8      (again and again, until it says that all is done)
python benchmarks/gpu.py --tiny --out FOLDER                         (all stages in small, on a CPU, as a test)

Stages:
    a  whether it works there and agrees with the CPU
    b  steps and cycles beside the plain loop and the GPU's peak
    c  ImageNet's shapes beside the paper's figure, and TESLA's
    d  CIFAR-10 with 50 images per class, to its end
    e  the set of stage d on other architectures
    f  CIFAR-10 with 10 images per class
    g  500 images per class beside full data
    h  the pixels of stage f as 40 images of half the side per class, without whitening

--data holds CIFAR-10 as parquet shards, `train-*.parquet` and `test-*.parquet`, with the columns `img` and `label`.
--wheels holds packages that are not installed there. Their files are unpacked into OUT. Nothing is downloaded.
Every stage is a file OUT/STAGE.json. It holds the command, seconds and result of each piece, the GPU, and the versions.
A piece is a process of its own with a limit of seconds. At its limit it is told to end. Distilling and evaluating then
save themselves, and go on at the next call. Finished pieces are not repeated.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATIENCE = 20  # seconds that a process has for saving after it was told to end
TINY = 600  # limit of a piece with --tiny, in seconds
LEAST = 10  # a piece begins only if so many seconds are left

# A student learns in two batches of 250. Teachers take a quarter of the paper's epochs, students about a twentieth.
STUDENT = "{arch: convnet3, epochs: 100, lr: 0.03, batch: 250}"
METHOD = "{name: apm, iterations: 600, refresh_every: 6, views: 2, lr_images: 10.0, average: 0.95, student: %s}"
TEACHERS = "{arch: convnet3, count: 5, epochs: 50, lr: 0.05}"
OTHERS = "resnet18_in,vgg11_in,alexnet_in,resnet18,vit_tiny"


@dataclass(frozen=True)
class Piece:
    """One process: its command after the interpreter, and its limit of time."""

    stage: str
    name: str
    limit: float  # seconds
    command: tuple[str, ...]


def pieces(asked: argparse.Namespace) -> list[Piece]:
    """All pieces, in order."""
    measured = partial(_own, asked)
    cycle: tuple[str, ...] = ("distill_cycle.py", "--device", asked.device, "--threads", str(asked.threads))
    shape: tuple[str, ...] = (
        "imagenet_shape.py",
        "--device",
        asked.device,
        "--ipc",
        "50",
        "--chunks",
        "100",
        "250",
        "500",
        "10",
    )
    tesla: tuple[str, ...] = ("tesla_step.py", "--device", asked.device, "--cases", "imagenet")
    tesla += ("--ways", "tesla", "plain", "ddhub@100")
    if asked.tiny:
        few = ("--turns", "1", "--epochs", "5", "--arch", "convnet3_w8", "--ways", "plain", "ddhub")
        ten: tuple[str, ...] = (*cycle, *few)
        fifty = ten
        shape = ("imagenet_shape.py", "--ipc", "10", "--chunks", "10", "--images", "20", "--threads", "1")
        tesla = ("tesla_step.py", "--ways", "ddhub@25", "--turns", "1", "--epochs", "5", "--steps", "1")
    else:
        ten, fifty = (*cycle, "--ipc", "10"), (*cycle, "--ipc", "50", "--turns", "2")
        shape += ("--epochs", "250", "--minutes", "6")
        tesla += ("--steps", "20", "--epochs", "50", "--turns", "2")
    work = asked.out / "work"
    chart = ("--out", str(work / "shape"), "--chart", str(work / "time_memory.png"))
    found = [
        measured("a", "agree", 40),
        measured("a", "resume", 60),
        measured("a", "graph", 30),
        measured("b", "peak", 30),
        measured("b", "ways", 240),
        Piece("b", "cycle, 10 images per class", 180, _script(*ten)),
        Piece("b", "cycle, 50 images per class", 180, _script(*fifty)),
        Piece("c", "ImageNet's shapes", 420, _script(*shape, *chart)),
        Piece("c", "TESLA's step", 240, _script(*tesla)),
    ]
    native, dynamic = ("--protocols", "native"), ("--protocols", "dynamic")
    found += _set(asked, "d", 50, {"native": (*native, *_seeds(asked, 5)), "dynamic": (*dynamic, *_seeds(asked, 5))})
    found += _set(asked, "e", 50, {"others": ("--archs", _others(asked), *_seeds(asked, 3))})
    found += _set(asked, "f", 10, {"native": (*native, *_seeds(asked, 5)), "dynamic": (*dynamic, *_seeds(asked, 5))})
    found += _set(asked, "f", 10, {"others": ("--archs", _others(asked), *_seeds(asked, 3))})
    found += _set(asked, "g", 500, {"native": ("--baselines", "random,full", *_seeds(asked, 3))})
    both = {"native": (*native, *_seeds(asked, 5)), "others": ("--archs", _others(asked), *_seeds(asked, 3))}
    found += _set(asked, "h", 40, both, half=True)
    # A busy machine with two cores takes longer for small pieces than a GPU for large ones.
    return [replace(piece, limit=TINY) for piece in found] if asked.tiny else found


def _script(name: str, *options: str) -> tuple[str, ...]:
    return (str(HERE / name), *options)


def _own(asked: argparse.Namespace, stage: str, name: str, limit: float) -> Piece:
    """A piece that is a function of this file."""
    command = ["--piece", name, "--device", asked.device, "--threads", str(asked.threads), "--out", str(asked.out)]
    return Piece(stage, name, limit, _script("gpu.py", *command, *["--tiny"] * asked.tiny))


def _seeds(asked: argparse.Namespace, count: int) -> tuple[str, ...]:
    return ("--seeds", str(2 if asked.tiny else count))


def _others(asked: argparse.Namespace) -> str:
    return "resnet18_w4,vit_tiny_w12" if asked.tiny else OTHERS


def _set(
    asked: argparse.Namespace, stage: str, ipc: int, evaluations: dict[str, tuple[str, ...]], half: bool = False
) -> list[Piece]:
    """The pieces that distill and evaluate a set. For a finished set the first piece ends at once.

    Args:
        half: store images at half the side. A whitening is of whole images, so there is none then.
    """
    out = str(asked.out / "work" / f"ipc{ipc}")
    common = ("--device", asked.device, "--threads", str(asked.threads))
    change: tuple[str, ...] = ()
    if asked.tiny:
        recipe, ipc = "digits_ipc1", {500: 2}.get(ipc, 1)
        teachers, student = "{arch: convnet2_w8, count: 1, epochs: 2}", "{arch: convnet2_w8, epochs: 5}"
        method = f"{{name: apm, iterations: 4, refresh_every: 2, views: 1, student: {student}}}"
        settings = [f"ipc={ipc}", "evaluate={epochs: 3, packaging_seeds: 1, seeds: 1, full_epochs: 1, min_steps: 0}"]
        change = ("--set", "epochs=3")
    else:
        recipe = f"cifar10_ipc{max(50, ipc)}"
        teachers, method = TEACHERS, METHOD % STUDENT
        settings = [f"ipc={ipc}", f"source.path={asked.data}", "evaluate.packaging_seeds=2"]
        settings += ["method.batch=2500"] * (ipc > 50)
    settings = [f"teachers={teachers}", f"method={method}", *settings]
    settings += ["preprocess={zca: false, factor: 2}", "method.init=easy"] if half else []
    changes = [word for text in settings for word in ("--set", text)]
    made = ("-m", "ddhub", "distill", recipe, "--out", out, *common, *changes)
    known = set(evaluations) == {"others"}  # made by an earlier stage
    found = [] if known else [Piece(stage, f"distill, {ipc} images per class", 480, made)]
    for name, options in evaluations.items():
        command = ("-m", "ddhub", "evaluate", out, "--json", *common, *options, *change)
        found.append(Piece(stage, f"evaluate, {name}", 480, command))
    return found


# The content of a stage


def run(asked: argparse.Namespace) -> bool:
    """Do the remaining pieces while there is time. Return whether all are done."""
    until, all_done = time.monotonic() + 60 * asked.minutes, True
    for piece in pieces(asked):
        if piece.stage not in asked.stages:
            continue
        path = asked.out / f"{piece.stage}.json"
        stage = _read(path)
        known = stage["pieces"].get(piece.name, {})
        if known.get("done") and known["command"] == _shown(piece.command):
            continue
        left = until - time.monotonic()
        if left < LEAST:
            all_done = False
            continue
        print(f"{piece.stage}: {piece.name} ...", file=sys.stderr, flush=True)
        found = attempt(piece, min(piece.limit, left - LEAST / 2), asked)
        found["seconds_in_all"] = round(found["seconds"] + known.get("seconds_in_all", 0), 1)
        stage["pieces"][piece.name] = found
        _write(path, {**stage, **_facts(asked)})
        print(f"{piece.stage}: {piece.name}: {_told(found)} in {found['seconds']} s", file=sys.stderr, flush=True)
        all_done = all_done and found["done"]
    print("all is done" if all_done else "not all is done: the same command again", file=sys.stderr)
    return all_done


def attempt(piece: Piece, limit: float, asked: argparse.Namespace) -> dict[str, Any]:
    """Run a piece for so many seconds at most. Its result is the last JSON document that it prints."""
    begun, log = time.monotonic(), asked.out / "work" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        start = errors.tell()
        process = subprocess.Popen(
            [sys.executable, *piece.command],
            env=environment(asked),
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        try:
            output, stopped = process.communicate(timeout=limit)[0], False
        except subprocess.TimeoutExpired:
            output, stopped = _ended(process), True
    made = Path(piece.command[piece.command.index("--out") + 1]) if "distill" in piece.command else None
    result = _last_json(output.decode(errors="replace")) if made is None else _made(made)
    done = process.returncode == 0 and not stopped and result is not None
    found = {
        "command": _shown(piece.command),
        "done": done,
        "stopped_at_its_limit": stopped,
        "exit": process.returncode,
        "seconds": round(time.monotonic() - begun, 1),
        "result": result,
    }
    if not done:
        found["log"] = log.read_bytes()[start:].decode(errors="replace")[-2000:]
    return found


def _made(folder: Path) -> dict[str, Any] | None:
    """The facts about the making of a set, from its manifest."""
    try:
        record = json.loads((folder / "ddhub.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return {name: record[name] for name in ("name", "ipc", "made", "packaging", "teachers", "bytes")}


def _ended(process: "subprocess.Popen[bytes]") -> bytes:
    """Tell a process to end, kill it and its children if it does not, and return its output."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def environment(asked: argparse.Namespace) -> dict[str, str]:
    """The environment of a piece: the places of ddhub, unpacked wheels and caches."""
    work = asked.out.absolute() / "work"
    paths = [str(HERE.parent), str(work / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "DDHUB_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1"}
    # Compiling takes longer than all pieces with --tiny.
    eager = {"TORCHDYNAMO_DISABLE": "1"} if asked.tiny else {}
    return {**os.environ, **own, **eager, "PYTHONUNBUFFERED": "1"}


def unpack(wheels: Path, site: Path) -> None:
    """Unpack wheels into the folder where pieces find them."""
    for wheel in sorted(wheels.glob("*.whl")):
        if not (site / wheel.stem).exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            (site / wheel.stem).touch()


def _facts(asked: argparse.Namespace) -> dict[str, Any]:
    """The GPU and the versions, from a process that imports torch."""
    told = subprocess.run(
        [sys.executable, *_script("gpu.py", "--piece", "facts", "--device", asked.device, "--out", str(asked.out))],
        env=environment(asked),
        capture_output=True,
        text=True,
    )
    return _last_json(told.stdout) or {"hardware": "unknown"}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {"pieces": {}}
    return found if isinstance(found.get("pieces"), dict) else {"pieces": {}}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, complete or not at all."""
    other = path.with_suffix(".part")
    other.write_text(json.dumps(content, indent=1) + "\n")
    other.replace(path)


def _last_json(text: str) -> Any:
    """The JSON document at the end of a process's output, on one line or many; None if there is none."""
    lines = text.strip().splitlines()
    for start in (start for start, line in enumerate(lines) if line[:1] in "{["):
        try:
            return json.loads("\n".join(lines[start:]))
        except json.JSONDecodeError:
            continue
    return None


def _shown(command: tuple[str, ...]) -> str:
    """A command without the paths of this machine."""
    return " ".join(["python", *(word.replace(f"{HERE}/", "benchmarks/") for word in command)])


def _told(found: dict[str, Any]) -> str:
    return "done" if found["done"] else "stopped at its limit" if found["stopped_at_its_limit"] else "FAILED"


# Pieces that are functions of this file. Each returns its result.

SMALL = (
    "teachers={arch: convnet2_w16, count: 2, epochs: 10}",
    "method={name: apm, iterations: 12, refresh_every: 3, snapshots: 2, views: 1, average: 0.9, "
    "student: {arch: convnet2_w16, epochs: 30, lr: 0.02}}",
    "evaluate={epochs: 20, packaging_seeds: 1, seeds: 1, min_steps: 0}",
)


def facts(asked: argparse.Namespace) -> dict[str, Any]:
    """The GPU, its memory, and the versions of the libraries that compute."""
    import torch

    from ddhub.training import device

    cuda = asked.device.startswith("cuda")
    return {
        "hardware": device.hardware(asked.device),
        "memory_bytes": torch.cuda.mem_get_info(asked.device)[1] if cuda else None,
        "versions": {**device.versions(asked.device), "python": sys.version.split()[0]},
    }


def agree(asked: argparse.Namespace) -> dict[str, Any]:
    """Distill digits_ipc1 in small on the GPU and on the CPU. Compare the disagreement of the updates."""
    from ddhub import api

    found = {}
    for where in dict.fromkeys((asked.device, "cpu")):
        out = _fresh(asked, f"agree-{where}")
        api.distill("digits_ipc1", out=out, overrides=SMALL, device=where, threads=asked.threads)
        lines = [json.loads(line) for line in (out / ".ddhub" / "metrics.jsonl").read_text().splitlines()]
        gaps = [line["disagreement"] for line in lines if line["phase"] == "distill"]
        record = json.loads((out / "ddhub.json").read_text())
        found[where] = {"disagreement": gaps, "decisions": record["made"]["decisions"]}
    first, last = (each["disagreement"] for each in (found[asked.device], found["cpu"]))
    apart = [abs(a - b) / abs(b) for a, b in zip(first, last, strict=True)]
    # The first three updates have one student. Later students learn from images that differ already.
    return {"relative_difference": [round(each, 6) for each in apart], "agree": max(apart[:3]) < 0.05, **found}


def resume(asked: argparse.Namespace) -> dict[str, Any]:
    """Distill a set with --deterministic, once unbroken and once killed with -9. Compare the bytes."""
    import hashlib
    import random

    settings = [word for text in SMALL for word in ("--set", text)]
    longer = ["--set", "method.iterations=60"] if not asked.tiny else []
    command = [sys.executable, "-m", "ddhub", "distill", "digits_ipc1", "--device", asked.device, "--deterministic"]
    command += ["--threads", str(asked.threads), *settings, *longer]
    folders, kills = [_fresh(asked, name) for name in ("unbroken", "killed")], 0
    begun = time.monotonic()
    subprocess.run([*command, "--out", folders[0]], env=environment(asked), check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - begun
    draw = random.Random(0)
    while True:
        process = subprocess.Popen([*command, "--out", folders[1]], env=environment(asked), stdout=subprocess.DEVNULL)
        try:
            if process.wait(timeout=None if kills == 2 else whole * draw.uniform(0.5, 0.95)) == 0:
                break
            raise SystemExit(f"resumed, it ends with {process.returncode}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    hashes = []
    for folder in folders:
        files = sorted((folder / "data").glob("*.parquet"))
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    return {"kills": kills, "same_bytes": hashes[0] == hashes[1], "seconds_unbroken": round(whole, 1)}


def graph(asked: argparse.Namespace) -> dict[str, Any]:
    """Compare a student's weights: by a graph, by single launches, and on the CPU."""
    import torch

    from ddhub.training import device as devices
    from ddhub.training import fit
    from ddhub.training import network as networks
    from ddhub.training.protocol import Protocol

    draw = torch.Generator().manual_seed(0)
    images, targets = torch.randn(100, 3, 32, 32, generator=draw), torch.randn(100, 10, generator=draw)
    protocol = Protocol(loss="l1_logits", lr=0.01, epochs=4 if asked.tiny else 20, batch=50)
    base = devices.decide(asked.device, asked.threads, compile=False)
    ways = {"graph": base, "eager": replace(base, graph=False), "cpu": devices.Decisions(threads=asked.threads)}
    found, weights = {}, {}
    for name, way in ways.items():
        network = networks.network("convnet3_w8" if asked.tiny else "convnet3_w32", 10, 3, 32, way)
        labels = (torch.arange(100) % 10).to(way.device)
        some = fit.Examples(images.to(way.device), labels, targets=targets.to(way.device))
        weights[name] = fit.fit(network, some, protocol, seed=1)[-1]
    for name in ("eager", "cpu"):
        gaps = {key: (value.cpu() - weights[name][key].cpu()).abs().max() for key, value in weights["graph"].items()}
        sizes = {key: value.abs().max().cpu() for key, value in weights["graph"].items()}
        found[f"graph_beside_{name}"] = max(float(gaps[key] / sizes[key]) for key in gaps)
    agreed = found["graph_beside_eager"] < 1e-2
    return {"largest_difference_by_the_largest_weight": found, "agree": agreed, "recorded": bool(base.graph)}


def peak(asked: argparse.Namespace) -> dict[str, Any]:
    """FLOPs per second of large matrix products, by precision, and bytes per second of copies."""
    import torch
    from distilling import clock, matmul_flops

    cuda, found = asked.device.startswith("cuda"), {}
    torch.set_num_threads(asked.threads)
    for name in ("float32", "tf32", "bfloat16") if cuda else ("float32", "bfloat16"):
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        found[name] = matmul_flops(asked.device, dtype, tries=10 if cuda else 2)
    torch.backends.cuda.matmul.allow_tf32 = False
    large = torch.zeros((1 << 30 if cuda else 1 << 24) // 4, device=asked.device)
    best = float("inf")
    for _ in range(5):
        begun = clock(asked.device)
        large.clone()
        best = min(best, clock(asked.device) - begun)
    return {"flops_per_second": found, "copied_bytes_per_second": 2 * large.nbytes / best}


def ways(asked: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step in every way: graph, format, compiler, precision, several at once, deterministic."""
    from ddhub.data.catalog import Shape
    from ddhub.distillation import recipes
    from ddhub.distillation import speed as ways_of
    from ddhub.distillation.plan.work import Outline
    from ddhub.training import device as devices
    from ddhub.training import step_time

    base, found = devices.decide(asked.device, asked.threads, compile=False), {}
    tried = {
        "usual": base,
        "eager": replace(base, graph=False),
        "contiguous": replace(base, channels_last=False),
        "bfloat16": replace(base, precision="bfloat16"),
        "5 at once": replace(base, together=5),
        "deterministic": replace(base, deterministic=True),
        "compiled": replace(base, compile=True),
        "compiled, contiguous": replace(base, compile=True, channels_last=False),
        "compiled, bfloat16": replace(base, compile=True, precision="bfloat16"),
    }
    if asked.tiny:
        tried = {name: tried[name] for name in ("usual", "5 at once")}
    if not devices.has_compiler():
        tried = {name: way for name, way in tried.items() if not way.compile}
    for arch in ("convnet2_w8",) if asked.tiny else ("convnet3", "convnet3_w32"):
        changes = [f"teachers={{arch: {arch}, batch: {16 if asked.tiny else 250}}}", "preprocess.zca=false"]
        outline = Outline(recipes.read("cifar10_ipc50", changes), Shape(50_000, 10, 3, 32), base)
        for name, way in tried.items():
            devices.apply(way)
            rounds: list[float] = []
            for _ in range(1 if asked.tiny else 3):
                rounds += step_time.measured([way], partial(ways_of._seconds, outline)).values()
            found[f"{arch}, {name}"] = [round(1000 * seconds, 3) for seconds in rounds]
        devices.apply(base)
    return {"milliseconds_a_step_of_one_network": found}


def _fresh(asked: argparse.Namespace, name: str) -> Path:
    """An empty folder of this name."""
    import shutil

    folder = asked.out / "work" / name.replace(":", "")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


OWN: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    each.__name__: each for each in (facts, agree, resume, graph, peak, ways)
}


def main() -> None:
    """Do all stages, or one piece in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as parquet shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=8, help="no piece goes on for longer")
    parser.add_argument("--stages", default="abcdefgh", help="which of them")
    parser.add_argument("--tiny", action="store_true", help="small, on noise and digits")
    parser.add_argument("--device", help="[default: cuda, or cpu with --tiny]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wheels", type=Path, help="folder of wheels of what is not installed")
    parser.add_argument("--piece", choices=OWN, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.device = asked.device or ("cpu" if asked.tiny else "cuda")
    asked.out = asked.out.absolute()
    if asked.piece:
        print(json.dumps(OWN[asked.piece](asked)))
        return
    if asked.data is None and not asked.tiny and set(asked.stages) & set("defg"):
        parser.error("--data: stages d to g learn from CIFAR-10")
    if asked.data is not None:
        asked.data = asked.data.absolute()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.wheels is not None:
        unpack(asked.wheels, asked.out / "work" / "site")
    raise SystemExit(0 if run(asked) else 1)


if __name__ == "__main__":
    main()
