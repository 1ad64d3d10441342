"""What the user decides of pictures that have no recipe yet; nothing is imported that looks at them."""

import re
import unicodedata
from dataclasses import dataclass, field

from ddhub.artifact.set_name import check_name, is_name
from ddhub.base.files import safe_name
from ddhub.base.resources import Resources
from ddhub.data.spec import SourceSpec

MINUTES = 15.0


@dataclass(frozen=True)
class PictureOptions:
    """What the user decided; None and empty leave it to ddhub."""

    minutes: float = MINUTES  # that distilling may take here
    flips: bool | None = None  # whether mirrored images are used in training; None: yes
    name: str | None = None
    ipc: int | None = None
    resolution: int | None = None  # pixels
    resources: Resources = field(default_factory=Resources)


def name_of(spec: SourceSpec, asked: PictureOptions) -> str:
    """A valid name: as asked, or as near to the source's as one can be."""
    if asked.name is not None:
        return check_name(asked.name)
    bare = unicodedata.normalize("NFKD", spec.dataset.rpartition("/")[2])
    bare = "".join(letter for letter in bare if not unicodedata.combining(letter))  # accents go, their letters stay
    plain = re.sub("__+", "_", safe_name(bare)).strip("._-")
    return plain if is_name(plain) else "pictures"
