"""A step of trajectory matching as TESLA computes it, and one of adversarial prediction matching, on the same shapes.

python benchmarks/tesla_step.py --threads 2 > benchmarks/results/tesla_step.json

Cui, Wang, Si, Hsieh, "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", arXiv:2211.10586. A student
starts at an expert's weights w_0. It takes N SGD steps of rate b on synthetic batches X_1 .. X_N. It should end at the
expert's later weights w_E. With G the sum of the steps' gradients g_i, the loss is

    |w_0 - b G - w_E|^2 / |w_0 - w_E|^2

Unrolling would keep N graphs. TESLA expands the loss, so that X_i enters through g_i alone. Two passes then need one
graph at a time. The first pass trains the student and sums G without keeping a graph. The second pass trains again. It
takes for each step the gradient of v . g_i with respect to X_i, with v = 2 b (b G + w_E - w_0) / |w_0 - w_E|^2 fixed.
This gradient is of second order, through one step. The steps of the computation:

    pass 1  forward, weights' gradient                                  of every inner batch
    pass 2  forward, weights' gradient with a graph, gradient of v . g  of every inner batch, with respect to its images
            and to b

Soft labels are a teacher's and fixed (the paper assigns them without training). Expert weights are random, because only
shapes matter. Batches may go in chunks, since v . g is a sum over images. Both passes run ddhub's ConvNet eagerly in
float32, where second order is possible. Augmentation is left out, which favours TESLA.

A way is `tesla`, `plain` or `ddhub`, which work on the whole batch at once. With `@N`, as in `tesla@25`, a way works in
chunks of N images. ddhub's students then learn in micro-batches of N.

APM's iteration is an update and a third of a refresh (250 epochs, five snapshots), measured through the method's own
`distill`. `plain` is benchmarks/plain_loop.py, eager like TESLA here. Inner steps and epochs repeat the same work. So
few of them are measured, and scaled to whole ones. Results say what is scaled. Ways take turns, each a process of its
own.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from distilling import Memory, Paced, Worker, answered, clock, distill, facts, load_compiler, noise_source, task_of
from torch import Tensor
from torch.func import functional_call

from ddhub.training import architectures

EPOCHS, REFRESH_EVERY, SNAPSHOTS = 250, 3, 5
WAYS = ("tesla", "tesla@25", "plain", "ddhub", "ddhub@25", "ddhub@10")


@dataclass(frozen=True)
class Case:
    """The shapes of one comparison. `steps` are TESLA's inner steps, chosen by us if the paper is not explicit."""

    arch: str
    classes: int
    side: int
    batch: int  # images of an inner step, and of an update
    steps: int
    recipe: str


CASES = {
    "cifar10": Case("convnet3", 10, 32, 100, 30, "cifar10_ipc50"),
    "imagenet": Case("convnet4", 1000, 64, 500, 20, "imagenet_ipc10"),
}
Answer = Callable[[dict], bool]  # takes seconds by part; False ends the process


class Tesla:
    """The synthetic images and labels, the two ends of a trajectory, and the student's rate."""

    def __init__(self, case: Case, chunk: int, device: str) -> None:
        self.net = architectures.build(case.arch, case.classes, 3, case.side, seed=0).to(device)
        self.start, self.target = (
            {name: value.detach().to(device) for name, value in self._weights(case, seed).items()} for seed in (1, 2)
        )
        self.images = torch.randn(case.batch, 3, case.side, case.side, device=device)
        self.labels = torch.randn(case.batch, case.classes, device=device).softmax(1)
        self.rate = torch.tensor(0.01, device=device)
        self.chunk = chunk

    @staticmethod
    def _weights(case: Case, seed: int) -> dict[str, Tensor]:
        return dict(architectures.build(case.arch, case.classes, 3, case.side, seed).named_parameters())

    def iteration(self, steps: int) -> tuple[list[Tensor], Tensor]:
        """The gradients of the loss with respect to the images of each inner batch, and to the rate."""
        total = {name: torch.zeros_like(value) for name, value in self.start.items()}
        weights = self.start
        for _ in range(steps):
            gradient = self._gradient(weights)
            total = {name: total[name] + gradient[name] for name in total}
            weights = self._moved(weights, gradient)
        v, by_rate = self._direction(total)
        weights, found = self.start, []
        for _ in range(steps):
            gradient, moved = self._second(weights, v)
            weights = self._moved(weights, gradient)
            found.append(moved)
        return found, by_rate

    def _loss(self, weights: dict[str, Tensor], rows: slice, images: Tensor) -> Tensor:
        output = functional_call(self.net, weights, (images,))
        return F.cross_entropy(output, self.labels[rows], reduction="sum") / len(self.images)

    def _parts(self) -> list[slice]:
        return [slice(start, start + self.chunk) for start in range(0, len(self.images), self.chunk)]

    def _gradient(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights' gradient on a batch, chunk by chunk."""
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        total = {name: torch.zeros_like(value) for name, value in weights.items()}
        for rows in self._parts():
            found = torch.autograd.grad(self._loss(leaves, rows, self.images[rows]), list(leaves.values()))
            total = {name: total[name] + part for name, part in zip(total, found, strict=True)}
        return total

    def _second(self, weights: dict[str, Tensor], v: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The weights' gradient on a batch, and the images' gradient of its product with v."""
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        total, pieces = {name: torch.zeros_like(value) for name, value in weights.items()}, []
        for rows in self._parts():
            images = self.images[rows].detach().requires_grad_()
            loss = self._loss(leaves, rows, images)
            found = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
            product = torch.stack([(v[name] * part).sum() for name, part in zip(v, found, strict=True)]).sum()
            pieces.append(torch.autograd.grad(product, images)[0])
            total = {name: total[name] + part.detach() for name, part in zip(total, found, strict=True)}
        return total, torch.cat(pieces)

    def _moved(self, weights: dict[str, Tensor], gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value - self.rate * gradient[name] for name, value in weights.items()}

    def _direction(self, total: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The vector v by which every step's gradient is multiplied, and the derivative of the loss by the rate."""
        apart = {name: self.target[name] - self.start[name] for name in total}
        scale = 2 / sum(value.square().sum() for value in apart.values())
        left = {name: scale * (self.rate * total[name] + apart[name]) for name in total}
        by_rate = torch.stack([(left[name] * total[name]).sum() for name in total]).sum()
        return {name: self.rate * value for name, value in left.items()}, by_rate


def tesla(asked: argparse.Namespace, case: Case, answer: Answer) -> None:
    """Do iterations of few inner steps."""
    made = Tesla(case, chunk_of(asked.way) or case.batch, asked.device)
    seconds: dict[str, float] = {}
    while answer(seconds):
        begun = clock(asked.device)
        made.iteration(asked.steps)
        seconds = {"inner_step": (clock(asked.device) - begun) / asked.steps}


def plain(asked: argparse.Namespace, case: Case, answer: Answer) -> None:
    """Do cycles of the plain loop with few epochs."""
    from plain_loop import PlainLoop

    images = torch.randn(case.batch, 3, case.side, case.side, device=asked.device)
    labels = torch.arange(case.batch, device=asked.device) % case.classes
    loop = PlainLoop(case.arch, case.classes, images, labels, SNAPSHOTS, chunk_of(asked.way))
    seconds: dict[str, float] = {}
    while answer(seconds):
        times = [clock(asked.device)]
        for part in (lambda: loop.refresh(asked.epochs), loop.update):
            part()
            times.append(clock(asked.device))
        seconds = {"epoch": (times[1] - times[0]) / asked.epochs, "update": times[2] - times[1]}


def ddhub(asked: argparse.Namespace, case: Case, answer: Answer) -> None:
    """Do cycles of the method's own loop with few epochs: a refresh with an update, and one more update."""
    from ddhub.distillation import recipes
    from ddhub.training import device as devices

    ipc, chunk = max(1, case.batch // case.classes), chunk_of(asked.way)
    changes = [f"ipc={ipc}", "preprocess.zca=false", f"teachers={{arch: {case.arch}, count: 1}}"]
    changes += [f"method.student={{arch: {case.arch}, epochs: {asked.epochs}, lr: 0.02}}", "method.refresh_every=2"]
    changes += [f"method.snapshots={SNAPSHOTS}", f"method.batch={case.batch}"]
    decisions = devices.decide(asked.device, asked.threads, flops=1e18, precision=asked.precision)
    decisions = replace(decisions, chunk=chunk or case.batch, micro_batch=chunk or 0)
    source = noise_source(case.classes * (ipc + 1), case.classes, case.side)
    task = task_of(recipes.read(case.recipe, changes), source, decisions)

    def between(step: int, state: dict) -> bool:
        if step % 2:
            return True
        both, update = run.seconds_of_steps[-2:] or (0.0, 0.0)
        return answer({"epoch": (both - update) / asked.epochs, "update": update} if step else {})

    with tempfile.TemporaryDirectory() as folder:
        run = Paced(Path(folder), asked.device, between)
        distill(task, run)


def serve(asked: argparse.Namespace) -> None:
    """Do one way in this process: a turn for each line of stdin. Answer with its seconds and peak memory."""
    torch.set_num_threads(asked.threads)
    name = asked.way.partition("@")[0]
    if name == "ddhub":
        load_compiler()
    answer = functools.partial(answered, Memory(asked.device))
    {"tesla": tesla, "plain": plain, "ddhub": ddhub}[name](asked, CASES[asked.case], answer)


def compare(asked: argparse.Namespace, name: str) -> dict:
    """Measure all ways on one case, turn by turn. The first turn is not counted."""
    case, workers = CASES[name], {}
    turns: dict[str, list[dict]] = {way: [] for way in asked.ways}
    for way in asked.ways:
        command = [__file__, *command_of(asked), "--case", name, "--way", way]
        workers[way] = Worker(command)
        workers[way].read()
    for turn in range(asked.turns + 1):
        for way, worker in workers.items():
            turns[way].append(worker.ask())
            print(f"{name}, turn {turn}, {way}: {turns[way][-1]}", file=sys.stderr)
    for worker in workers.values():
        worker.end()
    return {"shapes": vars(case), "ways": _summary(asked, case, turns)}


def _summary(asked: argparse.Namespace, case: Case, turns: dict[str, list[dict]]) -> dict:
    """The seconds of whole iterations and the peak of each way, and TESLA's as multiples of the others."""
    found: dict[str, dict] = {}
    for way, each in turns.items():
        counted = each[1:]
        whole = [iteration(turn["seconds"], case) for turn in counted]
        found[way] = {
            "seconds_an_iteration": {"median": round(statistics.median(whole), 3), "all": [round(s, 3) for s in whole]},
            "extrapolated_from": f"{asked.steps} of {case.steps} inner steps"
            if way.startswith("tesla")
            else f"{asked.epochs} of {EPOCHS} epochs, 1 of {REFRESH_EVERY} updates",
            "measured_seconds": [turn["seconds"] for turn in counted],
            "peak_bytes": max(turn["peak_bytes"] for turn in counted),
        }
    theirs = [way for way in found if way.startswith("tesla")]
    for way in found.keys() - theirs:
        for tesla_way in theirs:
            found[way][f"{tesla_way} takes"] = {
                "times_the_seconds": round(_median(found, tesla_way) / _median(found, way), 2),
                "times_the_bytes": round(found[tesla_way]["peak_bytes"] / found[way]["peak_bytes"], 2),
            }
    return found


def _median(found: dict, way: str) -> float:
    return found[way]["seconds_an_iteration"]["median"]


def chunk_of(way: str) -> int | None:
    """The number of images that a way works on at once; None for the whole batch."""
    return int(way.partition("@")[2] or 0) or None


def known(way: str) -> str:
    """Check the name of a way on the command line."""
    name, _, chunk = way.partition("@")
    if name not in ("tesla", "plain", "ddhub") or (chunk and not chunk.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{way}' is none of tesla, plain, ddhub, or one of them with @IMAGES")
    return way


def iteration(seconds: dict[str, float], case: Case) -> float:
    """The seconds of a whole iteration, from those of its parts."""
    if "inner_step" in seconds:
        return case.steps * seconds["inner_step"]
    return seconds["update"] + EPOCHS * seconds["epoch"] / REFRESH_EVERY


def command_of(asked: argparse.Namespace) -> list[str]:
    """The options as given."""
    given = ["--threads", asked.threads, "--turns", asked.turns, "--steps", asked.steps, "--epochs", asked.epochs]
    given += ["--device", asked.device, "--precision", asked.precision]
    return [str(value) for value in given]


def main() -> None:
    """Measure one way, or compare all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["cifar10"], help="imagenet is meant for a GPU")
    parser.add_argument("--ways", nargs="+", type=known, default=list(WAYS), metavar="WAY")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="inner steps that are measured")
    parser.add_argument("--epochs", type=int, default=5, help="of a student that are measured, 5 or more")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", help="of ddhub's students")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.way:
        serve(asked)
        return
    command = f"python benchmarks/tesla_step.py --cases {' '.join(asked.cases)} --ways {' '.join(asked.ways)}"
    command += f" {' '.join(command_of(asked))}"
    result = {
        **facts(asked.device, command, asked.note),
        "units": "seconds, bytes beyond the libraries",
        "turns": asked.turns,
        "cases": {name: compare(asked, name) for name in asked.cases},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
