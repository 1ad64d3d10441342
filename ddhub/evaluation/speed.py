"""Choice of the fastest way of training: measured once over a few steps, fixed beside the rows, and then reused.

Ways of training change the last bits of scores, so a grid of rows has one way per architecture and kind of machine.
bfloat16 is tried for ConvNets, where it was measured to cost no accuracy (benchmarks/README.md), and if it is allowed
(`precision=auto`).
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddhub.artifact import manifest
from ddhub.base import files, progress, seeds, strict_json
from ddhub.base.log import say
from ddhub.evaluation import rows, workbench
from ddhub.evaluation.request import Cell
from ddhub.evaluation.workbench import Bench
from ddhub.training import device, fit, step_time
from ddhub.training.device import Decisions
from ddhub.training.field_networks import ConvNet

FROM_STEPS = 1000  # steps of the grid above which measuring pays
BFLOAT16_FROM = 2e13  # FLOPs of the grid above which a second compilation for comparison pays on a CPU
AT_ONCE = 5  # number of seeds tried in one program
FROZEN = ("compile", "precision", "together")  # without device and threads, which each machine chooses
FORMAT = "channels_last"  # fixed too, on a GPU


def settle(bench: Bench, out: Path, sharded: bool = False) -> Bench:
    """The bench with the fastest decisions for each architecture, fixed in the folder of its rows.

    Shards divide one list of jobs. All shards that share the folder therefore train as many seeds at once as the first
    one chose.
    """
    chosen = {arch: _settled(bench, arch, out, sharded) for arch in bench.decisions}
    request = replace(bench.request, decided=tuple(chosen.items()))
    return replace(bench, request=request, decisions=chosen)


def _settled(bench: Bench, arch: str, out: Path, sharded: bool) -> Decisions:
    """The fixed decisions, those of earlier rows, or measured ones. Requests always win."""
    base, asked = bench.decisions[arch], bench.request.asked
    key = {
        "payload": manifest.identity(bench.set.manifest.files),
        "arch": arch,
        "hardware": device.hardware(base.device),
    }
    name = files.safe_name(arch)
    path = out / "decisions" / f"{name}-{files.digest(key)[:8]}.json"
    with files.locked(path.with_name(f"{name}.lock")):
        agreed = _agreed(path.parent, key) if sharded else {}
        found = _read(path) or _of_rows(bench, arch, key["hardware"], out)
        if found is None and _steps(bench, arch) >= FROM_STEPS:
            ways = candidates(bench, arch)
            with progress.busy(f"{arch}: measuring which way of training is fastest"):
                timed = functools.partial(_seconds, bench, arch)
                measured = step_time.measured(ways, timed) if len(ways) > 1 else {}
            best = replace(step_time.fastest(measured) if measured else base, **agreed)
            found = {name: best.record()[name] for name in (*FROZEN, *([FORMAT] if best.device != "cpu" else []))}
            times = {way.title: round(1000 * seconds, 2) for way, seconds in measured.items()}
            files.write_json(path, {**key, "decisions": found, "milliseconds_per_step": times})
            shown = ", ".join(f"{title} {spent:.1f} ms" for title, spent in times.items())
            say(f"{arch}: {best.title}{f', the fastest of a step measured: {shown}' if shown else ''}")
    told = {name: value for name, value in asked.items() if value not in (None, "auto")}
    return replace(base, **{**(found or {}), **agreed, **told})


def candidates(bench: Bench, arch: str) -> list[Decisions]:
    """The ways worth measuring, the usual one first."""
    base, asked, network = bench.decisions[arch], bench.request.asked, bench.network(arch)
    convnet, gpu = isinstance(network.skeleton, ConvNet), not base.device.startswith("cpu")
    ways = [base, replace(base, channels_last=False)] if gpu else [base]
    if base.compile and asked["compile"] is None:
        ways.append(replace(base, compile=False))
    pays = workbench.flops(bench, arch) >= BFLOAT16_FROM
    if (pays and asked["precision"] is None and convnet) or (
        asked["precision"] == "auto" and (pays or not base.compile)
    ):
        ways += [replace(way, precision="bfloat16") for way in (ways if gpu else [base])]
    several = min(AT_ONCE, len({cell.seed for cell in bench.request.cells}))
    if base.micro_batch:  # a single network is too large already
        several = 1
    # On a CPU, a program of several ConvNets uses grouped convolutions. It wins only if calls cost more than
    # arithmetic, and never when compiled.
    if several > 1 and asked["together"] is None and not network.draws and (gpu or (convnet and not base.compile)):
        ways += [replace(way, together=several) for way in ways if gpu or not way.compile]
    return ways


def _seconds(bench: Bench, arch: str, way: Decisions) -> float:
    """Seconds of one step of one network in this way: the best of ROUNDS, after one that compiles."""
    cell = next(cell for cell in bench.request.cells if cell.arch == arch)
    protocol = bench.protocol(cell).model_copy(update={"min_steps": 0})
    examples = workbench.examples(bench, replace(cell, seed=0))
    network, several = workbench.network(bench.set, arch, way), way.together
    _, steps = fit.plan(len(examples), protocol, fit.family_of(network, protocol))
    examples = replace(examples, index=_first(examples, len(examples) // steps))
    asked = [seeds.derive(number, "calibrate") for number in range(several)]

    def train(epochs: int) -> None:
        brief = protocol.model_copy(update={"epochs": epochs})
        fit.fit_many(network, [examples] * several, brief, asked, teach=workbench.teach(bench, cell))

    return step_time.step_seconds(train, way.device) / several


def _first(examples: fit.Examples, count: int) -> Any:
    """The rows of the first batch."""
    import torch

    return torch.arange(count) if examples.index is None else examples.index[:count]


def _steps(bench: Bench, arch: str) -> int:
    """The steps of all rows of an architecture."""
    total = 0
    for cell in bench.request.cells:
        if cell.arch == arch:
            protocol = bench.protocol(cell)
            family = fit.family_of(bench.network(arch), protocol)
            epochs, steps = fit.plan(len(bench.set.labels), protocol, family)
            total += epochs * steps
    return total


def _read(path: Path) -> dict[str, Any] | None:
    return _sound(strict_json.known(path).get("decisions"))


def _sound(found: Any, most: int = AT_ONCE) -> dict[str, Any] | None:
    """Fixed decisions from a file, if they are valid. The folder may be a stranger's.

    Args:
        most: the largest valid number of seeds at once.
    """
    if not isinstance(found, dict) or not set(FROZEN) <= found.keys():
        return None
    together, precision = found["together"], found["precision"]
    if type(found["compile"]) is not bool or precision not in ("float32", "bfloat16"):
        return None
    if type(together) is not int or not 1 <= together <= most:
        return None
    return {name: found[name] for name in (*FROZEN, *([FORMAT] if type(found.get(FORMAT)) is bool else []))}


def _agreed(folder: Path, key: dict[str, Any]) -> dict[str, Any]:
    """The number of seeds at once that is fixed for an architecture on any kind of machine; empty if none is."""
    for path in sorted(folder.glob("*.json")):
        found, about = _read(path), strict_json.known(path)
        if found and all(about.get(name) == key[name] for name in ("payload", "arch")):
            return {"together": found["together"]}
    return {}


def _of_rows(bench: Bench, arch: str, hardware: str, out: Path) -> dict[str, Any] | None:
    """The decisions of existing rows in a grid without a file of decisions."""
    for row in rows.of(bench.set.manifest, out):
        if row.arch == arch and row.hardware == hardware and "decisions" in row.content:
            seeds_asked = len({cell.seed for cell in bench.request.cells})
            sound = _sound({**Decisions().record(), **row.decisions}, max(AT_ONCE, seeds_asked))
            if sound is not None:
                return sound
    return None


def together(cells: list[Cell], size: int) -> list[list[Cell]]:
    """Cells that one program trains: equal except for seeds, which are cut into runs of `size` from 0."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(replace(cell, seed=cell.seed // size), []).append(cell)
    return list(groups.values())
