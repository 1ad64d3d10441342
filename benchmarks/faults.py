"""Let every command of ddhub meet every kind of fault, run it again without the fault, and report losses.

python benchmarks/faults.py --times 10 --out FOLDER       (again and again; finished trials are not repeated)

Commands run on digits and tiny networks. Each is a process of its own, forked from one that has loaded the libraries.
After the fault the same command runs again. It must end with the files of an undisturbed run, byte for byte. Records
of seconds and memory are not compared. Before the second run three things are checked. A folder that `ddhub verify`
accepts must be a complete set. A fault that a command can detect must end it with exit code 1 and `error: ...`. Inputs
must be unchanged. The kinds of fault:

    killed                  SIGKILL at a random moment
    killed at a chosen one  before or after the n-th rename, or before the n-th flush of a file to the disk
    terminated, interrupted SIGTERM, SIGINT at a random moment
    full disk               a tmpfs (mounting needs root) with room for a random part of the command's output
    no permission           folders without write permission, also for root
    two at once             the same command twice at the same time

`ddhub push` and `pull` talk to a Hub on this machine (tests/support/hub_server.py). Results are lines of
FOLDER/trials.jsonl. Each call writes benchmarks/results/faults.json and the table benchmarks/faults.md from them.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

import faulty
import fuzz
import greedy_inputs
from hub_server import HubServer

HERE = Path(__file__).parent
TINY = [
    "--threads=1",
    "--set=teachers={arch: convnet2_w8, count: 2, epochs: 4}",
    "--set=method.student={arch: convnet2_w8, epochs: 6, lr: 0.02}",
    "--set=method.iterations=12",
    "--set=evaluate.epochs=10",
    "--set=evaluate.packaging_seeds=1",
]
# Keys whose values differ from trial to trial: clocks, memory, and the name of the repo.
VOLATILE = {"seconds", "phases", "peak_bytes", "milliseconds_per_step", "repo_id"}
SEEN_FAULTS = ("full disk", "no permission")
FAULTS = ("killed", *faulty.CALLS, "terminated", "interrupted", *SEEN_FAULTS, "two at once")
MINUTE = 60


@dataclass(frozen=True)
class Verb:
    """A command: its words, its inputs, and the place of its result."""

    words: list[str]
    needs: dict[str, str] = field(default_factory=dict)  # name in the folder -> prepared folder
    result: str = "set"
    teachers: bool = True  # whether teachers are in the cache before the command runs


VERBS = {
    "distill": Verb(["distill", "digits_ipc1", "--out=set", *TINY], teachers=False),
    "distill, in groups": Verb(["distill", "digits_ipc1", "--out=set", *TINY, "--set=ipc=2", "--set=groups=2"]),
    "evaluate": Verb(["evaluate", "set", "--archs=convnet2_w8", "--seeds=2", "--threads=1"], {"set": "first"}),
    "merge": Verb(["merge", "a", "b", "--out=set"], {"a": "first", "b": "second"}),
    "import": Verb(
        [
            "import",
            "files",
            "--source=digits",
            "--layout=mtt",
            "--lr=0.02",
            "--mean=0.3",
            "--std=0.4",
            "--no-zca",
            "--order=source",
            "--out=set",
        ],
        {"files": "files"},
    ),
    "export": Verb(["export", "a", "--layout=mtt", "--out=set"], {"a": "first"}),
    "push": Verb(["push", "set", "alice/{trial}"], {"set": "first"}),
    "pull": Verb(["pull", "alice/there", "set"]),
}


class Scene:
    """The shared parts of all trials: inputs, a Hub, and the results of undisturbed commands."""

    def __init__(self, folder: Path, hub: HubServer, context: Any) -> None:
        self.folder, self.hub, self.context = folder, hub, context
        self.prepared, self.home = folder / "prepared", folder / "prepared" / "home"
        self.whole: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, dict[str, int]] = {}
        self.bytes: dict[str, int] = {}

    def prepare(self) -> None:
        """Make the inputs, once."""
        if not (self.prepared / "files").exists():
            shutil.rmtree(self.prepared, ignore_errors=True)
            self.home.mkdir(parents=True)
            distill = ["distill", "digits_ipc1", *TINY]
            self.must([*distill, "--out=first"])
            self.must([*distill, "--out=second", "--set=seed=1"])
            self.must(["export", "first", "--layout=mtt", "--out=files"])
        self.hub.create_repo("alice/there")
        self.must(["push", "first", "alice/there"])

    def must(self, words: list[str]) -> None:
        """Run a command in the folder of inputs. It has to succeed."""
        said = self.folder / "said.txt"
        process = self.start(words, self.prepared, self.home, said)
        process.join()
        if process.exitcode:
            raise SystemExit(f"{' '.join(words)}\n{said.read_text()[-3000:]}")

    def start(
        self,
        words: list[str],
        folder: Path,
        home: Path,
        said: Path,
        chosen: faulty.Chosen | None = None,
        powerless: bool = False,
    ) -> Any:
        """Begin a command in a process of its own."""
        process = self.context.Process(target=faulty.command, args=(words, folder, home, said, chosen, powerless))
        process.start()
        return process

    def undisturbed(self, name: str) -> None:
        """Run a command without a fault. Note its files, seconds, bytes, renames and flushes."""
        trial = Trial(self, name, f"{name.replace(', ', '-').replace(' ', '-')}-whole")
        counts = trial.folder / "counts.txt"
        before, begun = used(trial.folder), time.monotonic()
        process = trial.start(chosen=faulty.Chosen(counts=counts))
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name}: {trial.said}")
        self.seconds[name] = time.monotonic() - begun
        self.bytes[name] = used(trial.folder) - before
        self.calls[name] = {kind: int(count) for kind, count in map(str.split, counts.read_text().splitlines())}
        self.whole[name] = trial.result()
        trial.remove()


class Trial:
    """One command in a folder of its own."""

    def __init__(self, scene: Scene, name: str, label: str) -> None:
        self.scene, self.name, self.verb, self.label = scene, name, VERBS[name], label
        self.folder = scene.folder / "trials" / label
        self.work, self.home = self.folder / "work", self.folder / "home"
        self.words = [word.replace("{trial}", label) for word in self.verb.words]
        self.output = self.folder.with_name(f"{label}.txt")
        self.remove()
        self.folder.mkdir(parents=True)
        self.fill()

    def fill(self) -> None:
        """Copy the command's inputs."""
        self.work.mkdir()
        for needed, source in self.verb.needs.items():
            shutil.copytree(self.scene.prepared / source, self.work / needed)
        hidden = () if self.verb.teachers else ("teachers",)
        shutil.copytree(self.scene.home, self.home, ignore=shutil.ignore_patterns(*hidden))
        self.inputs = {name: digests(self.work / name) for name in self.verb.needs}

    def start(self, **how: Any) -> Any:
        """Begin the command."""
        return self.scene.start(self.words, self.work, self.home, self.output, **how)

    @property
    def said(self) -> str:
        """The output of all runs of the command."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def result(self) -> dict[str, str]:
        """Name and hash of every file that a user gets. For `push` the files are on the Hub."""
        if self.name != "push":
            return digests(self.work / self.verb.result)
        repos = self.scene.hub.store.repos
        files = self.scene.hub.files(f"alice/{self.label}") if f"alice/{self.label}" in repos else {}
        return {name: stable(Path(name), content) for name, content in files.items() if hidden_or_shown(Path(name))}

    def torn(self) -> str | None:
        """The incomplete result that is accepted after the fault; None if there is none."""
        found = self.result()
        if self.name == "push":
            return "half a commit" if "ddhub.json" in found and found != self.scene.whole[self.name] else None
        folder = self.work / self.verb.result
        if self.name in ("evaluate", "export") or not (folder / "ddhub.json").exists():
            wrong = {name for name, sha in found.items() if self.scene.whole[self.name].get(name, sha) != sha}
            own = self.inputs.get(self.verb.result, {})
            # A report summarises the existing rows, so it can differ.
            wrong = {name for name in wrong if own.get(name) != found[name] and name != "report.json"}
            return f"a file that is another: {min(wrong)}" if wrong and self.name != "export" else None
        checked = subprocess.run(
            [sys.executable, "-m", "ddhub.cli.app", "verify", str(folder)],
            env={**os.environ, "DDHUB_HOME": str(self.home)},
            capture_output=True,
            text=True,
        )
        payload = {name: sha for name, sha in found.items() if name.startswith(("data/", "teachers/"))}
        expected = {name: self.scene.whole[self.name].get(name) for name in payload}
        return "verify accepts another set" if checked.returncode == 0 and payload != expected else None

    def lost(self) -> str | None:
        """A changed file of an input; None if there is none. Files that a command adds do not count."""
        for name, before in self.inputs.items():
            now = digests(self.work / name)
            changed = [file for file, sha in before.items() if now.get(file) != sha and not rewritten(file)]
            if changed:
                return f"{name}/{min(changed)}"
        return None

    def remove(self) -> None:
        """Remove the trial's folder and output."""
        subprocess.run(["umount", "-q", str(self.folder)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.output.unlink(missing_ok=True)


def hidden_or_shown(path: Path) -> bool:
    """Whether a file is compared. Pictures and card are made from other files, and running state is not shipped."""
    return not any(part.startswith(".") or part == "assets" for part in path.parts) and path.suffix not in (
        ".md",
        ".lock",
        ".png",
    )


def rewritten(file: str) -> bool:
    """Whether an evaluation writes this file of its set again."""
    return file == "report.json" or file.startswith("evaluation/")


def digests(folder: Path) -> dict[str, str]:
    """Name and hash of every compared file of a folder."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        name = path.relative_to(folder)
        if path.is_file() and hidden_or_shown(name):
            found[str(name)] = stable(name, path.read_bytes())
    return found


def stable(name: Path, content: bytes) -> str:
    """The hash of a file. JSON is hashed without the keys that differ from run to run."""
    if name.suffix == ".json":
        try:
            content = json.dumps(_without(json.loads(content)), sort_keys=True).encode()
        except ValueError:
            content = b"torn " + content
    return hashlib.sha256(content).hexdigest()


def _without(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without(value) for key, value in content.items() if key not in VOLATILE}
    return [_without(each) for each in content] if isinstance(content, list) else content


def used(folder: Path) -> int:
    """The bytes of all files of a folder."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def strike(trial: Trial, fault: str, draw: random.Random) -> tuple[str, list[int | None]] | None:
    """Run a command into a fault. Return its moment and the exit codes; None if the fault is impossible here."""
    scene, name = trial.scene, trial.name
    if fault in faulty.CALLS:
        most = scene.calls[name][faulty.CALLS[fault]]
        if not most:
            return None
        number = draw.randint(1, most)
        process = trial.start(chosen=faulty.Chosen(cast("faulty.Where", fault), number))
        process.join()
        return f"{number} of {most}", [process.exitcode]
    if fault == "two at once":
        processes = [trial.start(), trial.start()]
        for process in processes:
            process.join()
        return "", [process.exitcode for process in processes]
    if fault == "no permission":
        return _forbidden(trial)
    if fault == "full disk":
        return _full(trial, draw)
    kinds = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "interrupted": signal.SIGINT}
    moment = draw.random() * scene.seconds[name]
    process = trial.start()
    process.join(moment)
    if process.exitcode is None:
        os.kill(process.pid, kinds[fault])
    process.join()
    return f"{moment:.2f} s", [process.exitcode]


def _forbidden(trial: Trial) -> tuple[str, list[int | None]]:
    """Run the command while its folder and the cache have no write permission."""
    folders = [path for path in (trial.work, *trial.work.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    process = trial.start(powerless=True)
    process.join()
    for path in folders:
        path.chmod(0o755)
    return "", [process.exitcode]


def _full(trial: Trial, draw: random.Random) -> tuple[str, list[int | None]] | None:
    """Run the command while its folder and the cache are on a disk with too little room. The disk grows afterwards."""
    room = int(trial.scene.bytes[trial.name] * draw.random())
    shutil.rmtree(trial.folder)
    trial.folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(trial.folder)], capture_output=True
    ).returncode:
        return None
    trial.fill()
    size = used(trial.folder) + 4 * sum(1 for _ in trial.folder.rglob("*")) * 4096 // 4 + room
    subprocess.run(["mount", "-o", f"remount,size={size}", str(trial.folder)], check=True)
    process = trial.start()
    process.join()
    subprocess.run(["mount", "-o", "remount,size=1g", str(trial.folder)], check=True)
    return f"{room} bytes of {trial.scene.bytes[trial.name]}", [process.exitcode]


def attempt(scene: Scene, name: str, fault: str, number: int) -> dict[str, Any] | None:
    """Do one trial: the fault, the checks after it, and the same command again."""
    label = f"{name.replace(', ', '-').replace(' ', '-')}-{FAULTS.index(fault)}-{number}"
    trial, draw = Trial(scene, name, label), random.Random(label)
    try:
        struck = strike(trial, fault, draw)
        if struck is None:
            return None
        moment, codes = struck
        said, torn, lost = trial.said, trial.torn(), trial.lost()
        again = trial.start()
        again.join()
        found = trial.result()
        different = sorted(
            file for file in found.keys() | scene.whole[name].keys() if found.get(file) != scene.whole[name].get(file)
        )
        words = [line for line in said.splitlines() if line.startswith("error: ")]
        clear = "Traceback" not in said and all(code != 1 or words or fault == "interrupted" for code in codes)
        if fault in SEEN_FAULTS:
            clear = clear and codes[0] in (0, 1)
        return {
            "command": name,
            "fault": fault,
            "number": number,
            "moment": moment,
            "codes": codes,
            "said": words[-1:] if clear else said.splitlines()[-12:],
            "clear": clear,
            "torn": torn,
            "lost": lost or trial.lost(),
            "again": again.exitcode,
            "different": different,
            "said_again": [] if again.exitcode == 0 else trial.said.splitlines()[-12:],
        }
    finally:
        trial.remove()


def fine(row: dict[str, Any]) -> bool:
    """Whether nothing was lost and every message was clear. Some commands refuse to repeat finished work."""
    done = row["again"] == 0 or any(line.startswith("error: ") for line in row["said_again"])
    return row["clear"] and not row["torn"] and not row["lost"] and done and not row["different"]


def table(rows: list[dict[str, Any]]) -> str:
    """A table of faults by commands: the number of trials, and of good ones if some were not good."""
    counts: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
    for row in rows:
        counts[row["fault"], row["command"]][fine(row)] += 1
    commands = [name for name in VERBS if any(row["command"] == name for row in rows)]
    lines = ["| fault | " + " | ".join(commands) + " |", "| --- " * (len(commands) + 1) + "|"]
    for fault in FAULTS:
        cells = [counts[fault, name] for name in commands]
        shown = [f"{cell[True]} of {cell.total()}" if cell[False] else str(cell.total() or "-") for cell in cells]
        lines.append(f"| {fault} | {' | '.join(shown)} |")
    return "\n".join(lines)


def report(rows: list[dict[str, Any]], times: int) -> None:
    """Write the table and the rows."""
    from distilling import facts

    command = f"python benchmarks/faults.py --times {times} --out FOLDER"
    bad = [row for row in rows if not fine(row)]
    text = f"""# What faults cost

Made by `{command}`: {len(rows)} trials, after each of which the same command was run again. A number is how often a
command was put through a fault and lost nothing: the second run ended with the files of an undisturbed one, nothing
torn was accepted in between, inputs were as before, and what a command can see it said in one sentence. Where that was
not always so the cell says how often it was. {len(bad) or "None"} of the trials went wrong.

{table(rows)}
{fuzz.section()}{greedy_inputs.section()}"""
    (HERE / "faults.md").write_text(text)
    ended = Counter(str(row["codes"][0]) for row in rows)
    document = {**facts("cpu", command), "trials": len(rows), "wrong": bad, "exit_codes": ended, "rows": rows}
    (HERE / "results" / "faults.json").write_text(json.dumps(document, indent=1) + "\n")


def server(folder: Path) -> HubServer:
    """A Hub on this machine. Every process that is started from now on uses it as the real Hub."""
    hub = HubServer(folder / "hub")
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        del os.environ[name]
    os.environ.update(hub.client_env(folder / "huggingface", hub.add_user("alice")))
    return hub


def trials(scene: Scene, asked: argparse.Namespace, note: Callable[[dict[str, Any]], None], done: set[tuple]) -> None:
    """Do one trial of every kind, then one more of each, until all are done or the time is over."""
    until = time.monotonic() + asked.minutes * MINUTE
    for number in range(asked.times):
        for name in asked.commands:
            for fault in asked.faults:
                if (name, fault, number) in done or time.monotonic() > until:
                    continue
                if name not in scene.whole:
                    scene.undisturbed(name)
                row = attempt(scene, name, fault, number)
                if row is not None:
                    note(row)


def main() -> None:
    """Do the trials, note them, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=lambda name: Path(name).absolute(), required=True)
    parser.add_argument("--times", type=int, default=10, help="trials of each kind")
    parser.add_argument("--minutes", type=float, default=600, help="no trial begins later")
    parser.add_argument("--commands", type=lambda text: text.split(";"), default=list(VERBS), help="parted by ;")
    parser.add_argument("--faults", type=lambda text: text.split(";"), default=list(FAULTS), help="likewise")
    asked = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    path = asked.out / "trials.jsonl"
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{'ok   ' if fine(row) else 'WRONG'} {row['command']}: {row['fault']} {row['moment']}", file=sys.stderr)

    with server(asked.out) as hub:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            [
                "ddhub.api",
                "ddhub.cli.app",
                "ddhub.distillation.methods.apm.loop",
                "sklearn.datasets",
                "datasets",
                "scipy.stats",
                "faulty",
            ]
        )
        scene = Scene(asked.out, hub, context)
        scene.prepare()
        trials(scene, asked, note, {(row["command"], row["fault"], row["number"]) for row in rows})
    report(rows, asked.times)


if __name__ == "__main__":
    main()
