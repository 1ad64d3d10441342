"""Checks of the names that an evaluation is given: protocols, baselines, architectures. They need no torch."""

from collections.abc import Sequence

from ddhub.base.errors import UserError
from ddhub.base.overrides import setting
from ddhub.base.schema import did_you_mean, nearest
from ddhub.evaluation import source_settings
from ddhub.evaluation.baselines import BASELINES
from ddhub.evaluation.protocols import EXAMPLE, FROZEN, PROTOCOLS
from ddhub.training import arch_names

NAMES = {"protocols": tuple(PROTOCOLS), "baselines": tuple(BASELINES)}
BACKBONES = f"ddhub evaluate SET --archs {FROZEN}:NAME, NAME one of timm's"


def check(
    protocols: Sequence[str],
    baselines: Sequence[str],
    archs: Sequence[str] = (),
    test_settings: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> None:
    """Refuse unknown protocols, baselines, architectures and settings, before anything is read.

    An evaluation without a protocol is refused too, and a change of a protocol that it does not run.
    """
    source_settings.settings(test_settings)
    if not protocols:
        raise UserError("--protocols: names no protocol, so nothing would be trained", next="--protocols native")
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
    probed = any(arch.startswith(f"{FROZEN}:") for arch in archs)
    if FROZEN in protocols and not probed:
        raise UserError(f"protocol {FROZEN}: is for frozen backbones", next=BACKBONES)
    _check_overrides(overrides, [name for name in protocols if name != FROZEN], baselines, probed)


def _check_overrides(
    overrides: Sequence[str], protocols: Sequence[str], baselines: Sequence[str], probed: bool
) -> None:
    """Refuse a change of a known protocol, or of full data, that is not run. It would have no effect."""
    for text in overrides:
        name = setting(text, EXAMPLE).key.rpartition(".")[0]
        if name == "full" and "full" not in baselines:
            raise UserError(
                f"--set {text}: full data is not trained here", next=f"--baselines {','.join([*baselines, 'full'])}"
            )
        if name in PROTOCOLS and name not in protocols and not (name == FROZEN and probed):
            raise UserError(
                f"--set {text}: protocol {name} is not run here",
                next=BACKBONES if name == FROZEN else f"--protocols {','.join([*protocols, name])}",
            )
