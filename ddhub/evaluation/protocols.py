"""Training protocols as data: the changes that each makes to the set's own, and the user's overrides.

The protocols of the field follow their code, at the revisions named in docs/protocols.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddhub.artifact.manifest import Manifest
from ddhub.base.errors import UserError
from ddhub.base.overrides import setting
from ddhub.base.schema import check, did_you_mean
from ddhub.training.protocol import UNMIRRORED, Protocol, refuse_untaught


@dataclass(frozen=True)
class Named:
    """A named protocol: a description, and its changes of the set's own protocol.

    docs/protocols.md describes the source of each and the differences from it. A change that can affect accuracies
    needs a new version, which rows record.
    """

    title: str
    changes: dict[str, Any]
    own: bool = True  # whether it is a variant of the set's own, with optimisation.py's rules for other families
    version: int = 1


FROZEN = "frozen"  # the only protocol of frozen backbones
PROTOCOLS = {
    "native": Named("the set's own: stored labels, the manifest's loss and epochs", {}, version=2),
    "dynamic": Named(
        "the set's own, with each augmented view labelled by the mean of the shipped teachers",
        {"labels": "teachers", "loss": "l1_logits"},
        version=2,
    ),
    "hard": Named(
        "hard labels and cross-entropy, the set's own augmentation", {"labels": "hard", "loss": "ce"}, version=2
    ),
    "plain": Named(
        "ordinary training: hard labels, cross-entropy, flip and crop",
        {"labels": "hard", "loss": "ce", "augment": "flip+crop"},
        version=2,
    ),
    "unaugmented": Named("the set's own without augmentation", {"augment": "none"}, version=2),
    "dc-bench": Named(
        "DC-BENCH: hard labels, DSA, SGD at .01, x0.1 after half of 1000 epochs",
        {"labels": "hard", "loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 256},
        own=False,
    ),
    "datm": Named(
        "DATM: cross-entropy with the softmax of stored logits, DSA, 1000 epochs, batch 128; the set's own rate",
        {"labels": "stored", "loss": "soft_ce", "augment": "dsa", "epochs": 1000, "batch": 128},
        own=False,
    ),
    "rded": Named(
        "RDED: teachers' labels for views by crops, flips and CutMix; KL at temperature 20, times its square; AdamW, a "
        "rate for each architecture, cosine to half of it",
        {
            "labels": "teachers",
            "loss": "kl",
            "temperature": 20.0,
            "augment": "flip+cutmix",
            "optimizer": "adamw",
            "lr": 1e-3,
            "epochs": 300,
        },
        own=False,
        version=2,
    ),
    "rd3": Named(
        "RD3: one protocol for all sets: the first teacher's labels for views by crops, flips and CutMix; KL at "
        "temperature 20, times its square; Adam at .001, cosine, 400 epochs, batch 50",
        {
            "labels": "teacher",
            "loss": "kl",
            "temperature": 20.0,
            "augment": "rrc+flip+cutmix",
            "optimizer": "adam",
            "lr": 1e-3,
            "epochs": 400,
            "batch": 50,
        },
        own=False,
    ),
    FROZEN: Named(
        "linear classifiers on a frozen pretrained backbone's features: hard labels, cross-entropy, Adam at .001, "
        "cosine, 1000 epochs, batch 256, no augmentation",
        {
            "labels": "hard",
            "loss": "ce",
            "augment": "none",
            "optimizer": "adam",
            "lr": 1e-3,
            "epochs": 1000,
            "batch": 256,
        },
        own=False,
    ),
}
# Full data is trained as the paper trains its teachers (arXiv:2312.08912), for the recipe's `evaluate.full_epochs`.
FULL = {"labels": "hard", "loss": "ce", "lr": 0.05, "batch": 256, "optimizer": "sgd"}
EXAMPLE = "epochs=50 or native.lr=0.01"  # examples of overrides
FULL_VERSION = 2
# RDED 3f6453d, argument.py. Batch by images per class: that of the largest key not above it; doubled from 100 classes.
RDED_BATCH = ((1, 10), (10, 50), (50, 100))
RDED_TINY = (200, 64)  # classes and side of Tiny ImageNet, whose batch is always 100
RDED_PATCHES_FROM = 65  # side from which images consist of 2 x 2 patches, which are shuffled and cropped less
RDED_RATES = (
    ("vgg11", 5e-4),
    ("alexnet", 1e-4),
    ("vit", 1e-4),
    ("swin", 1e-4),
    ("efficientnet", 2e-3),
    ("mobilenetv2", 2.5e-3),
)  # by the start of an architecture's name; 1e-3 for others


def own(name: str) -> bool:
    """Whether a protocol follows optimisation.py's rules for networks of other families than the set's."""
    return PROTOCOLS[name].own if name in PROTOCOLS else True


def version(name: str) -> int | None:
    """The present version of a protocol, which rows record; None for a protocol that is not there."""
    return FULL_VERSION if name == "full" else PROTOCOLS[name].version if name in PROTOCOLS else None


def resolve(record: Manifest, names: Sequence[str], full_epochs: int, overrides: Sequence[str]) -> dict[str, Protocol]:
    """The protocols of an evaluation by name, with `full` and the user's overrides.

    Args:
        overrides: `key=value` for all, `NAME.key=value` for one.

    Raises:
        UserError: for a protocol that does not suit the set, or an override that fits no protocol.
    """
    found = {name: _of_set(record, name) for name in names}
    found["full"] = record.protocol.model_copy(update={**FULL, "epochs": full_epochs})
    for text in overrides:
        found = _overridden(found, text)
    return found


def changed(name: str, own: Protocol, ipc: int, classes: int, side: int) -> Protocol:
    """The own protocol of a set of this size, as a named protocol changes it."""
    changes = dict(PROTOCOLS[name].changes)
    if name == "rded":
        changes |= _rded(ipc, classes, side)
    if "augment" in changes and not mirrors(own.augment):
        # If a set's own augmentation has no flips (digits), no protocol mirrors it.
        changes["augment"] = without_flip(str(changes["augment"]))
    return own.model_copy(update=changes)


def _of_set(record: Manifest, name: str) -> Protocol:
    """A named protocol for a set. It is refused if it does not suit the set."""
    protocol = changed(name, record.protocol, record.ipc, len(record.classes), record.source.resolution)
    refuse_untaught(name, protocol, len(record.teachers), f"{record.name} ships")
    if protocol.labels == "stored" and protocol.loss == "soft_ce" and record.labels.form not in _SOFT:
        raise UserError(f"protocol {name}: {record.name} stores no logits or probabilities", next="--protocols native")
    return protocol


_SOFT = ("logits", "probabilities")


def _rded(ipc: int, classes: int, side: int) -> dict[str, Any]:
    """RDED's settings for a set's size."""
    batch = (1 if classes < 100 else 2) * max(batch for least, batch in RDED_BATCH if least <= ipc)
    found: dict[str, Any] = {"batch": 100 if (classes, side) == RDED_TINY else batch}
    if side >= RDED_PATCHES_FROM:
        found["augment"] = "shuffle+rrc50+flip+cutmix"
    return found


def for_architecture(record: Manifest, name: str, protocol: Protocol, arch: str, overrides: Sequence[str]) -> Protocol:
    """A protocol for one architecture. RDED has a rate for each. The user's overrides win."""
    if name != "rded":
        return protocol
    plain = arch.removeprefix("timm:")
    changes = {"lr": next((rate for start, rate in RDED_RATES if plain.startswith(start)), 1e-3)}
    conv3 = plain == record.home_arch == "convnet3"
    if conv3 and (len(record.classes), record.source.resolution) == (100, 32):  # CIFAR-100, a special case of RDED
        changes = {"lr": 2e-3, "batch": 25}
    given = {text.partition("=")[0] for text in overrides_of(name, overrides)}
    return protocol.model_copy(update={key: value for key, value in changes.items() if key not in given})


def mirrors(strategy: str) -> bool:
    """Whether an augmentation strategy flips images."""
    return strategy in ("dsa", "none") or "flip" in strategy


def without_flip(strategy: str) -> str:
    """The same strategy without flips."""
    if strategy == "dsa":
        return UNMIRRORED
    mark = "+" if "+" in strategy else "_"
    return mark.join(part for part in strategy.split(mark) if part != "flip") or "none"


def overrides_of(name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides of one protocol, as `key=value`."""
    found = []
    for text in overrides:
        each = setting(text, EXAMPLE)
        prefix, dot, field = each.key.rpartition(".")
        if (prefix == name) if dot else name != "full":
            found.append(f"{field}={each.value}")
    return found


def _overridden(protocols: dict[str, Protocol], text: str) -> dict[str, Protocol]:
    """Apply one `key=value` or `NAME.key=value`."""
    each = setting(text, EXAMPLE)
    name, dot, field = each.key.rpartition(".")
    of_all = [known for known in protocols if known != "full"]
    if dot and name not in protocols:
        raise UserError(
            f"--set {text}: no protocol '{name}' here{did_you_mean(name, list(protocols))}",
            next=f"--set {field}={each.value}, for all of {', '.join(of_all)}",
        )
    chosen = [name] if dot else of_all
    value, changed = each.parsed(), dict(protocols)
    for known in chosen:
        model, faults = check(Protocol, {**protocols[known].model_dump(), field: value}, "")
        if model is None:
            keys = ", ".join(sorted(Protocol.model_fields))
            raise UserError(
                "\n".join(f"--set {text}: {fault}" for fault in faults),
                next=f"--set {EXAMPLE.partition(' ')[0]}; the keys of a protocol: {keys}",
            )
        changed[known] = model
    return changed
