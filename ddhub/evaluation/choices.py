"""Protocols and baselines by name, known without torch."""

from collections.abc import Sequence

from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean, nearest
from ddhub.evaluation import source_settings
from ddhub.evaluation.protocols import FROZEN, PROTOCOLS
from ddhub.training import arch_names

BASELINES = {
    "random": "random real images, equally many per class, with the set's kind of labels and its protocol",
    "random_bytes": "as many random real images with hard labels as fit into the bytes of the whole set",
    "herding": "real images whose mean feature stays nearest to the class's (Welling, ICML 2009)",
    "kcenter": "real images that leave no other far away: greedy k-center (Sener and Savarese, arXiv:1708.00489)",
    "kmeans": "the real images nearest to k cluster centres of each class",
    "el2n": "the real images with the largest error of the shipped teachers: EL2N (Paul et al., arXiv:2107.07075)",
    "ccs": "real images spread over all EL2N scores except the highest: CCS (Zheng et al., arXiv:2210.15809)",
    "easy": "the tenth of ten times as many random real images with the least error of the shipped teachers (EL2N)",
    "equal_compute": "real images with hard labels, with as many steps and images per step as the set's training",
    "full": "the whole train split with hard labels, trained as the paper trains its teachers",
}
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
