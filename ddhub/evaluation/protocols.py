"""Training protocols as data: what each changes in the set's own, and in what a user may override.

Sources of the field's protocols: their code, as read for docs; revisions stand in ddhub/interop/conventions.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddhub.artifact.manifest import Manifest
from ddhub.base.errors import UserError
from ddhub.base.overrides import setting
from ddhub.base.schema import check, did_you_mean
from ddhub.training.protocol import Protocol


@dataclass(frozen=True)
class Named:
    """A protocol by name: what it is, and what it changes in the set's own."""

    title: str
    changes: dict[str, Any]


PROTOCOLS = {
    "native": Named("the set's own: stored labels, the manifest's loss and epochs", {}),
    "dynamic": Named(
        "the set's own, but the mean of the shipped teachers labels every augmented view on the fly",
        {"labels": "teachers", "loss": "l1_logits"},
    ),
    "hard": Named("hard labels and cross-entropy, the set's own augmentation", {"labels": "hard", "loss": "ce"}),
    "plain": Named(
        "what a plain user does: hard labels, cross-entropy, flip and crop",
        {"labels": "hard", "loss": "ce", "augment": "flip+crop"},
    ),
    "unaugmented": Named("the set's own without augmentation", {"augment": "none"}),
    "dc-bench": Named(
        "DC-BENCH: hard labels, DSA, SGD at .01, x0.1 after half of 1000 epochs",
        {"labels": "hard", "loss": "ce", "augment": "dsa", "lr": 0.01, "epochs": 1000, "batch": 256},
    ),
    "datm": Named(
        "DATM: cross-entropy with the softmax of stored logits, DSA, 1000 epochs, batch 128; the set's own rate",
        {"labels": "stored", "loss": "soft_ce", "augment": "dsa", "epochs": 1000, "batch": 128},
    ),
    "rded": Named(
        "RDED: the teachers' view of crops, flips and CutMix, KL at temperature 20, AdamW, cosine to half the rate",
        {
            "labels": "teachers",
            "loss": "kl",
            "temperature": 20.0,
            "augment": "rrc+flip+cutmix",
            "optimizer": "adamw",
            "lr": 1e-3,
            "epochs": 300,
        },
    ),
}
# Full data is trained as the paper trains its teachers (arXiv:2312.08912), for the recipe's `evaluate.full_epochs`.
FULL = {"labels": "hard", "loss": "ce", "lr": 0.05, "batch": 256, "optimizer": "sgd"}
EXAMPLE = "epochs=50 or native.lr=0.01"  # of an override
RDED_BATCH = ((1, 10), (10, 50), (50, 100))  # by images per class: the largest that is not above


def resolve(record: Manifest, names: Sequence[str], full_epochs: int, overrides: Sequence[str]) -> dict[str, Protocol]:
    """The protocols of an evaluation by name, `full` included, with the user's overrides.

    Args:
        overrides: `key=value` for all, `NAME.key=value` for one.

    Raises:
        UserError: for a protocol that the set cannot serve, or an override that fits none.
    """
    found = {name: _changed(record, name) for name in names}
    found["full"] = record.protocol.model_copy(update={**FULL, "epochs": full_epochs})
    for text in overrides:
        found = _overridden(found, text)
    return found


def _changed(record: Manifest, name: str) -> Protocol:
    changes = dict(PROTOCOLS[name].changes)
    own = record.protocol
    if name == "rded":
        factor = 1 if len(record.classes) < 100 else 2
        changes["batch"] = factor * max(b for ipc, b in RDED_BATCH if ipc <= max(record.ipc, 1))
    if "augment" in changes and not mirrors(own.augment):
        # A set whose own augmentation leaves flips out (digits) is not mirrored by anybody's protocol.
        changes["augment"] = without_flip(str(changes["augment"]))
    protocol = own.model_copy(update=changes)
    if protocol.labels == "teachers" and not record.teachers:
        raise UserError(
            f"protocol {name}: {record.name} ships no teachers, so nothing can label on the fly",
            next="--protocols native",
        )
    if protocol.labels == "stored" and protocol.loss == "soft_ce" and record.labels.form not in _SOFT:
        raise UserError(f"protocol {name}: {record.name} stores no logits or probabilities", next="--protocols native")
    return protocol


_SOFT = ("logits", "probabilities")


def mirrors(strategy: str) -> bool:
    """Whether an augmentation strategy flips images."""
    return strategy in ("dsa", "none") or "flip" in strategy


def without_flip(strategy: str) -> str:
    """The same strategy without flips."""
    if strategy == "dsa":
        return "color_crop_cutout_scale_rotate"
    mark = "+" if "+" in strategy else "_"
    return mark.join(part for part in strategy.split(mark) if part != "flip") or "none"


def of(name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides that change one protocol, as `key=value`."""
    found = []
    for text in overrides:
        each = setting(text, EXAMPLE)
        prefix, dot, field = each.key.rpartition(".")
        if (prefix == name) if dot else name != "full":
            found.append(f"{field}={each.value}")
    return found


def _overridden(protocols: dict[str, Protocol], text: str) -> dict[str, Protocol]:
    """One `key=value` or `NAME.key=value` applied."""
    each = setting(text, EXAMPLE)
    name, dot, field = each.key.rpartition(".")
    if dot and name not in protocols:
        raise UserError(f"--set {text}: no protocol '{name}' here{did_you_mean(name, list(protocols))}")
    chosen = [name] if dot else [known for known in protocols if known != "full"]
    value, changed = each.parsed(), dict(protocols)
    for known in chosen:
        model, faults = check(Protocol, {**protocols[known].model_dump(), field: value}, "")
        if model is None:
            raise UserError("\n".join(f"--set {text}: {fault}" for fault in faults))
        changed[known] = model
    return changed
