"""The user's choices for pictures without a recipe. The module loads no library."""

import math
import re
import unicodedata
from dataclasses import dataclass, field

from ddhub.artifact.set_name import check_name, is_name
from ddhub.base.errors import UserError, at_least
from ddhub.base.files import safe_name
from ddhub.base.resources import Resources
from ddhub.data.spec import SourceSpec

MINUTES = 15.0


@dataclass(frozen=True)
class PictureOptions:
    """The user's choices. None and empty values leave a choice to ddhub."""

    minutes: float = MINUTES  # minutes that distilling may take here
    flips: bool | None = None  # whether training mirrors images; None means yes
    name: str | None = None
    ipc: int | None = None
    resolution: int | None = None  # side in pixels
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        if not 0 < self.minutes < math.inf:
            raise UserError(f"--minutes {self.minutes:g}: expected minutes above 0", next=f"--minutes {MINUTES:g}")
        at_least(1, ipc=self.ipc)
        at_least(4, resolution=self.resolution)


def name_of(spec: SourceSpec, asked: PictureOptions) -> str:
    """The requested name, or the most similar valid name to the source's."""
    if asked.name is not None:
        return check_name(asked.name)
    bare = unicodedata.normalize("NFKD", spec.dataset.rpartition("/")[2])
    bare = "".join(letter for letter in bare if not unicodedata.combining(letter))  # without accents
    plain = re.sub("__+", "_", safe_name(bare)).strip("._-")
    return plain if is_name(plain) else "pictures"
