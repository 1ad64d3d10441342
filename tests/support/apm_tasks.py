"""A small task of adversarial prediction matching on random pixels."""

import torch

from ddhub.data.preprocess import Preprocess
from ddhub.data.source import Split
from ddhub.distillation import recipes
from ddhub.distillation.methods.apm.config import Config
from ddhub.distillation.task import Task
from ddhub.training import device
from ddhub.training import network as networks
from ddhub.training.protocol import Protocol
from ddhub.training.teachers import Teachers

ARCH, OTHER, CLASSES, IPC, SIDE = "convnet2_w4", "convnet_w6", 3, 4, 8


def task_of(**settings) -> Task:
    """A task on random pixels with two teachers as they are initialised."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, SIDE, SIDE), dtype=torch.uint8, generator=draw)
    method = {"student": {"arch": ARCH, "epochs": 2}, "snapshots": 2, "lr_images": 3.0, **settings}
    data = {
        **{"name": "t", "ipc": IPC, "source": {"dataset": "none"}, "teachers": {"arch": ARCH, "count": 2}},
        "method": {"name": "apm", **method},
    }
    made = recipes.validate(data, "t")
    names = tuple(str(k) for k in range(CLASSES))
    source = Split(pixels, torch.arange(60) % CLASSES, names, "sha256:none", made.source)
    network = networks.network(ARCH, CLASSES, 1, SIDE, device.Decisions())
    teachers = Teachers([network] * 2, [network.init(seed) for seed in range(2)], [], [])
    protocol = Protocol(loss="l1_logits", augment="dsa", lr=0.02, epochs=1)
    rows = torch.arange(60)
    preprocess = Preprocess((0.5,), (0.25,))
    config = Config.model_validate(method)
    return Task(made, config, source, rows[:48], rows[48:], preprocess, teachers, protocol, device.Decisions())
