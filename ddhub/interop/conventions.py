"""Conventions of other tools that their files do not state: statistics, whitening, class order, protocols.

Sources, each as read in its repository: DD_APM 53c8847, dc_benchmark 071901d, DatasetCondensation 53f63a6,
mtt-distillation 0c42493, TESLA 488842e, DATM 97ae510, google-research/kip, SRe2L 8d00cba, RDED 3f6453d,
Rethinking-Dataset-Compression 91d1ef0, Efficient-Dataset-Condensation 086273c, NCFM 34a81d7. Other facts are
from the tools' papers. The user is asked for anything that is missing here.
"""

from dataclasses import dataclass
from typing import Any

from ddhub.data.catalog import IDS
from ddhub.data.preprocess import CIFAR10, FASHION, IMAGENET, MNIST, SVHN
from ddhub.training.protocol import UNMIRRORED, Protocol


@dataclass(frozen=True)
class Statistics:
    """How a family of tools made network inputs from a dataset's pixels."""

    mean: tuple[float, ...] | None  # of pixels in [0, 1]; None if fitted on the source's train split
    std: tuple[float, ...] | None
    zca: bool | None  # None if only some sets of the family are whitened
    source: str


CIFAR100 = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
_DC = "DatasetCondensation and dc_benchmark"
_IDC = "Efficient-Dataset-Condensation and NCFM"
STATISTICS = {
    # CIFAR-100 with CIFAR-10's statistics is correct: these families do so.
    ("apm", "cifar10"): Statistics(*CIFAR10, None, "DD_APM"),
    ("apm", "cifar100"): Statistics(*CIFAR10, None, "DD_APM"),
    ("apm", "tiny"): Statistics(*IMAGENET, None, "DD_APM"),
    ("apm", "imagenet"): Statistics(*IMAGENET, False, "DD_APM"),
    ("mtt", "cifar10"): Statistics(*CIFAR10, None, "mtt-distillation"),
    ("mtt", "cifar100"): Statistics(*CIFAR10, None, "mtt-distillation"),
    ("mtt", "tiny"): Statistics(*IMAGENET, None, "mtt-distillation"),
    ("datm", "cifar10"): Statistics(*CIFAR10, True, "DATM's shipped configurations"),
    ("datm", "cifar100"): Statistics(*CIFAR10, True, "DATM's shipped configurations"),
    ("datm", "tiny"): Statistics(*IMAGENET, True, "DATM's shipped configurations"),
    ("dc", "cifar10"): Statistics(*CIFAR10, False, _DC),
    ("dc", "cifar100"): Statistics(
        *CIFAR100, False, f"{_DC}; early revisions of the former used CIFAR-10's: --mean and --std for their files"
    ),
    ("dc", "tiny"): Statistics(*IMAGENET, False, "dc_benchmark"),
    ("dc", "mnist"): Statistics(*MNIST, False, _DC),
    ("dc", "fashion"): Statistics(*FASHION, False, _DC),
    ("dc", "svhn"): Statistics(*SVHN, False, _DC),
    # NCFM's table. IDC's has the same values for its datasets.
    ("idc", "cifar10"): Statistics(*CIFAR10, False, _IDC),
    ("idc", "cifar100"): Statistics(*CIFAR10, False, _IDC),
    ("idc", "tiny"): Statistics(*IMAGENET, False, _IDC),
    ("idc", "imagenet"): Statistics(*IMAGENET, False, _IDC),
    ("idc", "mnist"): Statistics(*MNIST, False, _IDC),
    ("idc", "fashion"): Statistics(*FASHION, False, _IDC),
    ("idc", "svhn"): Statistics(*SVHN, False, _IDC),
    ("eccv24", "cifar100"): Statistics(*CIFAR100, False, "the ECCV 2024 dataset distillation challenge"),
}
# KIP uses the training images' own statistics. Sets of pixels can be normalised in any way.
ANY_DATASET = {
    "kip": Statistics(None, None, None, "google-research/kip, nn_training.ipynb"),
    "folder": Statistics(None, None, False, "the set holds pixels: the source's own statistics serve"),
    "idc": Statistics(None, None, False, "the set holds pixels: the source's own statistics serve"),
    "hub": Statistics(None, None, False, "the set holds pixels: the source's own statistics serve"),
}
# Tiny ImageNet exists in the order of wnids and in that of wnids.txt. Downsampled ImageNet has its own order.
ORDERS = {
    "tiny": "Tiny ImageNet goes about in two class orders (RDED issue 4, CV-DD issue 5)",
    ("apm", "imagenet"): "downsampled ImageNet has a class order of its own, not that of wnids",
}
# A mirrored digit is another digit or none, so DSA goes without flips (IDC's and DSA's own code).
DIGITS = ("mnist", "svhn", "digits")
PROTOCOLS: dict[str, dict[str, Any]] = {
    "apm": {"loss": "l1_logits", "augment": "dsa", "lr": 0.02, "epochs": 1000, "batch": 256},
    "dc": {"loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 256},
    "mtt": {"loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 256},
    "datm": {"loss": "soft_ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 128},
    "kip": {"loss": "mse", "augment": "none", "lr": 0.01, "epochs": 1000, "batch": 100},
    "eccv24": {"loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 256},
    "idc": {"loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 64},
    "folder": {"loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 300, "batch": 128},
    "hub": {"loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 300, "batch": 128},
}
# arXiv:2312.08912, Table A9: differences from the row above.
APM: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar10", 1000): {"epochs": 600},
    ("cifar100", 50): {"lr": 0.04},
    ("cifar100", 100): {"lr": 0.04, "epochs": 600},
    ("tiny", 10): {"lr": 0.1},
    ("tiny", 50): {"lr": 0.1},
    ("tiny", 100): {"lr": 0.1, "epochs": 600},
    ("imagenet", 10): {"lr": 0.1},
    ("imagenet", 50): {"lr": 0.1, "epochs": 600},
    ("imagenet", 100): {"lr": 0.1, "epochs": 600},
}
ABOUT = {
    "mtt": "the learned rate that its own evaluation uses is not in the files",
    "kip": "SGD in place of its own 5,000 steps at a rate found from the tangent kernel",
    "idc": "without CutMix, which its own evaluation mixes hard labels by",
    "folder": "hard labels: its own protocol learns from a teacher's labels, which are not in the files",
    "hub": "hard labels: the set's own protocol, if it has one, is not in the files",
}


def statistics(family: str, name: str) -> Statistics | None:
    """A family's statistics for a dataset; None if they are not documented."""
    return STATISTICS.get((family, IDS.get(name, "")), ANY_DATASET.get(family))


def disputed_order(family: str, name: str) -> str | None:
    """The reason why the class order of a family's files on a dataset is uncertain, or None."""
    known = IDS.get(name, "")
    return ORDERS.get((family, known), ORDERS.get(known))


def protocol(family: str, name: str, ipc: int, form: str, lr: float | None) -> tuple[Protocol, list[str]]:
    """The protocol for a family's sets, and notes on the facts from the table.

    Args:
        lr: the known learning rate; None takes the table's.
    """
    values = PROTOCOLS[family] | (APM.get((IDS.get(name, ""), ipc), {}) if family == "apm" else {})
    if IDS.get(name, name) in DIGITS and values["augment"] == "dsa":
        values = values | {"augment": UNMIRRORED}
    if form == "probabilities":
        values = values | {"loss": "soft_ce"}
    about = f" ({ABOUT[family]})" if family in ABOUT and not (family == "mtt" and lr is not None) else ""
    if lr is not None:
        values = values | {"lr": lr}
    shown = ", ".join(f"{key} {value}" for key, value in values.items() if key != "lr" or lr is None)
    return Protocol(**values), [f"protocol from the importer's table: {shown}{about}"]
