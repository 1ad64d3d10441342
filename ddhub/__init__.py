"""ddhub: distilled image-classification datasets as shareable artifacts.

Heavy libraries are imported by the modules that need them, never here, so that `ddhub --help` answers at once.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddhub.dataset import DistilledSet

__version__ = "0.1.0"


def load(reference: str) -> "DistilledSet":
    """Load a distilled set from a folder or by its Hub id; see `ddhub.dataset.load`."""
    from ddhub import dataset

    return dataset.load(reference)
