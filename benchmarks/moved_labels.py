"""What moves teach, the pixels or the labels: validation accuracy of sets whose images and labels are taken apart.

python benchmarks/moved_labels.py SET... --source CIFAR10_FOLDER --log moved_labels.jsonl
python benchmarks/moved_labels.py --log moved_labels.jsonl --print > benchmarks/results/moved_labels.json

A set of `cifar10_ipc40_half_small` that goes the whole way (`method.blend=1`) has the images that it started as, and
moved ones. The teachers label both. So there are four sets: start or moved images with labels of the start or of the
moved ones. Every network trains once on each, as in half_size.py. Only validation data score it. Lines that LOG has
already are not made again.
"""

import argparse
from pathlib import Path

import torch
from every_network_trials import add_log, document, lines, note, prepared
from half_size import RECIPE, WAYS, score

import ddhub
from ddhub.artifact import manifest
from ddhub.base.resources import Resources
from ddhub.data import enlarge


def main() -> None:
    """Train what is missing in the log, or print the log as one document."""
    asked = arguments()
    if asked.print:
        print(document(asked.log, "python benchmarks/moved_labels.py SET... --source FOLDER --log LOG"))
        return
    for folder in asked.sets:
        one_set(folder, asked)


def one_set(folder: Path, asked: argparse.Namespace) -> None:
    """Train on the images and labels of a set, of its start, and crosswise."""
    made, seed = ddhub.load(folder), manifest.read(folder).seed
    done = {(row["seed"], row["images"], row["labels"], row["arch"]) for row in lines(asked.log)}
    with prepared(RECIPE, asked.source, [f"seed={seed}"], Resources(threads=1)) as (task, _):
        start = task.initial_images(torch.arange(len(made.labels)), task.config.init)
        images = {name: enlarge.enlarged(each, task.side) for name, each in (("start", start), ("moved", made.inputs))}
        soft = {name: task.soft_labels(each) for name, each in images.items()}
        for arch in asked.archs:
            for image, label in ((image, label) for image in images for label in soft):
                if (seed, image, label, arch) not in done:
                    row = score(task, images[image], made.labels, arch, soft[label])
                    note(asked.log, {"seed": seed, "images": image, "labels": label, **row})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="*", metavar="SET")
    add_log(parser)
    parser.add_argument("--archs", nargs="+", choices=WAYS, default=["convnet3_w32", "vgg11_in_w16"])
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
