"""The recipe's `source` and `preprocess`: where real images come from, and how they become network inputs."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ddhub.base import hub_client, limits, near_paths
from ddhub.base.errors import UserError, quoted
from ddhub.base.files import is_path
from ddhub.base.schema import Factor, Strict
from ddhub.data.picture_settings import PictureSettings


def absolute(place: str) -> str:
    """A local path as absolute, because other processes may start elsewhere; a Hub id unchanged."""
    return str(Path(place).expanduser().absolute()) if is_local(place) else place


def is_local(place: str) -> bool:
    """Whether a place is a local folder or has the form of a path. Otherwise it is a Hub id."""
    return is_path(place) or Path(place).is_dir()


def _is_revision(value: str) -> str:
    """Check a branch, tag or commit by git's rules. The Hub's cache makes file names of them."""
    if not re.fullmatch(r"\w[\w./+-]{0,199}", value, re.ASCII) or ".." in value:
        raise ValueError(f"{value[:60]!r} is no branch, tag or commit")
    return value


Revision = Annotated[str, AfterValidator(_is_revision)]


class SourceSpec(PictureSettings):
    """Where the real images come from, and how they are read."""

    dataset: str = Field(min_length=1, description="Hub id, `digits`, or a folder that `load_dataset` reads.")
    path: str | None = Field(default=None, description="Local copy to read instead. No artifact records it.")
    revision: Revision | None = Field(default=None, description="Commit of the Hub repo. null takes the newest.")
    config: str | None = Field(default=None, description="Subset of a Hub dataset that has several.")
    image: str | None = Field(default=None, description="Column of the images. null finds it.")
    label: str | None = Field(default=None, description="Column of the classes. null finds it.")
    train: str = Field(default="train", description="Split to distill.")
    hold_out: float | None = Field(
        default=None, gt=0, lt=0.9, description="Share of each class of `train` to test on. null uses `test`."
    )
    test: str = Field(default="test", description="Split to test on. Only the evaluator reads it.")
    validation: float = Field(default=0.1, gt=0, lt=0.9, description="Share of each class of `train` held out.")
    split_seed: int = Field(default=0, description="Seed of these shares. Runs with other `seed`s share them.")
    resolution: int | None = Field(
        default=None, ge=4, le=limits.SIDE, description="Side in pixels. null keeps the source's own."
    )
    channels: Literal[1, 3] | None = Field(
        default=None, description="1 is grey, 3 is RGB. null takes 1 if every image is grey."
    )


class PreprocessSpec(Strict):
    """How pixels become network inputs."""

    zca: bool = Field(default=False, description="Whiten images (ZCA) in place of mean and standard deviation.")
    statistics: Literal["fitted", "field"] = Field(
        default="fitted",
        description="Origin of mean and std: the training images, or the constants of published work.",
    )
    factor: Factor = Field(
        default=1,
        description="Images are stored at 1/factor of the resolution per side. Networks see them enlarged.",
    )


def spec_of(place: str) -> SourceSpec:
    """The spec of a local folder, under its own name, or of a Hub id.

    Raises:
        UserError: for anything else.
    """
    if Path(place).expanduser().is_file():
        raise UserError(
            f"{place}: is a file, and a folder is read",
            next=f"mkdir pictures; mv {quoted(place)} pictures; ddhub init pictures",
        )
    if not is_local(place):
        name, _, revision = place.partition("@")
        if name != "digits" and not hub_client.is_id(name):
            what = f"no such folder, and no Hub id{near_paths.instead(Path(name))}"
            raise UserError(f"{place}: {what}", next="ddhub init FOLDER, or OWNER/NAME")
        return SourceSpec(dataset=name, revision=revision or None)
    folder = Path(place).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{place}: no such folder{near_paths.instead(folder)}", next=f"ls {quoted(folder.parent)}")
    if (folder / "ddhub.json").is_file():
        raise UserError(
            f"{place}: is a distilled set, not a folder of pictures", next=f"ddhub evaluate {quoted(place)}"
        )
    return SourceSpec(dataset=folder.resolve().name or "pictures", path=str(folder))


def whole_split(name: str) -> str:
    """The split that a part such as `train[:80%]` belongs to."""
    return name.partition("[")[0]


def elsewhere(spec: SourceSpec, test: str) -> SourceSpec:
    """The spec with its test split in another Hub id or folder. Columns are found again."""
    dataset, _, revision = test.partition("@")
    where: dict[str, Any] = {"path": test}
    if not is_local(test):
        where = {"dataset": dataset, "revision": revision or None}
    return spec.model_copy(
        update={**where, "config": None, "image": None, "label": None, "range": None, "hold_out": None}
    )


def local_folder(spec: SourceSpec) -> str | None:
    """The local folder of a user's source; None for the Hub and for digits."""
    return spec.path or (spec.dataset if spec.dataset != "digits" and is_local(spec.dataset) else None)
