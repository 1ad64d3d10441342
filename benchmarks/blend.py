"""How far images should go: validation accuracy of points on the way from start images to moved ones.

python benchmarks/blend.py --source CIFAR10_FOLDER --log blend.jsonl --seeds 0 1
python benchmarks/blend.py --log blend.jsonl --print > benchmarks/results/blend.json
python benchmarks/blend.py --recipe cifar10_ipc10_small --source CIFAR10_FOLDER --log blend_whole.jsonl --seeds 0 1
python benchmarks/blend.py --recipe cifar10_ipc10_small --log blend_whole.jsonl --print > \
    benchmarks/results/blend_whole.json
python benchmarks/blend.py --name families --set 'teachers.arch=[convnet3_w32,vgg11_in_w16]' --set teachers.count=4 \
    --source CIFAR10_FOLDER --log families.jsonl --seeds 0 1 2
python benchmarks/blend.py --name families --set 'teachers.arch=[convnet3_w32,vgg11_in_w16]' --set teachers.count=4 \
    --log families.jsonl --print > benchmarks/results/blend_families.json

The same with `--name mean` and `--set method.teacher=mean` in both commands makes `blend_families_mean.json`.

A set of `cifar10_ipc40_half_small`, or of another recipe, is distilled to its end (`method.blend=1`) and kept in OUT. A
point is a share of the way: 0 is the start, 1 the moved images. The teachers label it. `label_change` is the mean
absolute difference of its logits from those of the start, beside `label_size`, the mean absolute logit of the start.
Every network trains once, as in half_size.py. Only validation data score it. Lines that LOG has already are not made
again.
"""

import argparse
import shlex
from pathlib import Path

import torch
from every_network_trials import add_log, distilled, document, lines, note, prepared, values
from half_size import RECIPE, WAYS, score

from ddhub.base.resources import Resources
from ddhub.data import enlarge


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        print(document(asked.log, remade_by(asked)))
        return
    for seed in asked.seeds:
        one_set(seed, asked)


def remade_by(asked: argparse.Namespace) -> str:
    """The command that makes the lines of the log."""
    rows = [row for row in lines(asked.log) if "blend" in row]
    seeds, blends = values(rows, "seed"), values(rows, "blend")
    other = "" if asked.recipe == RECIPE else f" --recipe {asked.recipe}"
    other += f" --name {asked.name}" if asked.name else ""
    other += "".join(f" --set {shlex.quote(each)}" for each in asked.overrides)
    return f"python benchmarks/blend.py{other} --source FOLDER --log LOG --seeds {seeds} --blends {blends}"


def one_set(seed: int, asked: argparse.Namespace) -> None:
    """Distill the set of a seed, or read it, and train on points of its way."""
    done = {(row["seed"], row["blend"], row["arch"]) for row in lines(asked.log)}
    overrides = [f"seed={seed}", "method.blend=1", *asked.overrides]
    with prepared(asked.recipe, asked.source, overrides, Resources(threads=1)) as (task, folder):
        labels = task.initial_labels()
        start = task.initial_images(torch.arange(len(labels)), task.config.init)
        kept = asked.out / f"{asked.name or asked.recipe}-{seed}.pt"
        moved = distilled(task, kept, folder, "whole", asked.log).images
        first = task.need_teachers().label(start)
        for blend in asked.blends:
            inputs = enlarge.enlarged(start.lerp(moved, blend), task.side)
            change = float((task.need_teachers().label(inputs) - first).abs().mean())
            about = {"seed": seed, "blend": blend, "label_change": round(change, 3)}
            about["label_size"] = round(float(first.abs().mean()), 3)
            for arch in asked.archs:
                if (seed, blend, arch) not in done:
                    note(asked.log, {**about, **score(task, inputs, labels, arch)})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_log(parser)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--name", help="of the sets, where --set makes others than the recipe")
    parser.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[])
    add_points(parser, [0.0, 0.25, 0.5, 1.0])
    asked = parser.parse_args()
    if asked.overrides and not asked.name:
        parser.error("--set: makes other sets than the recipe: give them a --name")
    return asked


def add_points(parser: argparse.ArgumentParser, blends: list[float]) -> None:
    """Add the options of a script that trains networks on points of the way of sets."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--blends", type=float, nargs="+", default=blends)
    parser.add_argument("--archs", nargs="+", choices=WAYS, default=["convnet3_w32", "vgg11_in_w16", "alexnet_in_w32"])
    parser.add_argument("--out", type=Path, default=Path("trials"), help="folder of the sets")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
