"""Names of architectures, known without torch: a misspelt one is refused before any library is loaded."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ddhub.base import plugins
from ddhub.base.errors import UserError
from ddhub.base.schema import did_you_mean, nearest

OWN = (  # the names of field_networks.TABLE
    *("convnet", "convnet2", "convnet3", "convnet4", "convnet5", "convnet6"),
    *("resnet18", "resnet18_in", "alexnet_in", "vgg11", "vgg11_in", "vit_tiny"),
)
SUCH = "an architecture such as convnet, resnet18, vit_tiny or timm:NAME"
PREFIXES = ("timm:", "frozen:")
WIDENED = re.compile(r"(\w+)_w([1-9][0-9]{0,4})")  # a name, and the width of its first stage
REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


def _some(value: str | list[str]) -> str | list[str]:
    if not value:
        raise ValueError("names no architecture")
    return value


Archs = Annotated[str | list[str], AfterValidator(_some)]  # one architecture, or a list that takes turns


def as_list(archs: str | list[str]) -> list[str]:
    """One or several architectures as a list."""
    return [archs] if isinstance(archs, str) else archs


def check(arch: str) -> None:
    """Refuse a name that neither ddhub nor a package nor timm knows. Whatever else is wrong, `resolve` says.

    Raises:
        UserError: with similar names.
    """
    widened = WIDENED.fullmatch(arch)
    ours = (widened[1] if widened else arch) in OWN or arch.startswith(PREFIXES)
    if ours or not re.fullmatch(r"\w+", arch) or arch in plugins.ARCHITECTURES.installed():
        return
    theirs = _of_timm()
    if theirs and arch not in theirs:
        raise unknown(arch)


def names() -> list[str]:
    """The short names of ddhub and of installed packages."""
    return [*OWN, *plugins.ARCHITECTURES.names()]


def unknown(arch: str) -> UserError:
    """The fault of a name that nobody knows."""
    theirs = [] if nearest(arch, names()) else nearest(arch.lower(), sorted(_of_timm()))
    return UserError(
        f"arch '{arch}': unknown{did_you_mean(arch, [f'timm:{each}' for each in theirs] or names())}",
        next=SUCH,
    )


@cache
def _of_timm() -> frozenset[str]:
    """The models of timm by its source, since importing it takes seconds; none where that is not to be found."""
    spec = importlib.util.find_spec("timm")
    places = spec.submodule_search_locations if spec else None
    files = [path for place in places or () for path in Path(place, "models").glob("*.py")]
    return frozenset(name for path in files for name in REGISTERED.findall(path.read_text(encoding="utf-8")))
