"""Checks of the names that an evaluation is given: protocols, baselines, architectures. They need no torch."""

from collections.abc import Sequence

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean, nearest
from ddhub.evaluation import source_settings
from ddhub.evaluation.baselines import BASELINES
from ddhub.evaluation.protocols import FROZEN, PROTOCOLS
from ddhub.training import arch_names

NAMES = {"protocols": tuple(PROTOCOLS), "baselines": tuple(BASELINES)}


def check(
    protocols: Sequence[str], baselines: Sequence[str], archs: Sequence[str] = (), test_settings: Sequence[str] = ()
) -> None:
    """Refuse unknown protocols, baselines, architectures and settings, before anything is read."""
    source_settings.settings(test_settings)
    for kind, given, known in (("protocol", protocols, PROTOCOLS), ("baseline", baselines, BASELINES)):
        for name in given:
            if name not in known:
                raise UserError(
                    f"{kind} '{name}': unknown{did_you_mean(name, list(known))}",
                    next=f"--{kind}s {(nearest(name, list(known)) or list(known))[0]}",
                )
    for arch in archs:
        arch_names.check(arch)
    if archs:
        from ddhub.training import architectures

        for arch in archs:
            architectures.resolve(arch)
    if FROZEN in protocols and not any(arch.startswith(f"{FROZEN}:") for arch in archs):
        raise UserError(
            f"protocol {FROZEN}: is for frozen backbones", next=f"--archs {FROZEN}:NAME, NAME one of timm's"
        )
