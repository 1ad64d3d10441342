"""Where real images come from, and how they become network inputs: the recipe's `source` and `preprocess`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ddhub.base import limits
from ddhub.base.schema import Strict


def absolute(place: str) -> str:
    """A local path from the root, because other processes may start elsewhere; a Hub id as it is."""
    return str(Path(place).expanduser().absolute()) if is_local(place) else place


def is_local(place: str) -> bool:
    """Whether a place is a folder here, or is written as one; otherwise it is a Hub id."""
    return Path(place).is_dir() or place.startswith((".", "/", "~"))


class SourceSpec(Strict):
    """Where the real images come from and how they are read."""

    dataset: str = Field(min_length=1)  # Hub id, `digits`, or a folder that datasets.load_dataset reads
    path: str | None = None  # a local copy to read instead; never recorded in an artifact
    revision: str | None = None  # commit of the Hub repo; null resolves the newest and records it
    config: str | None = None  # the subset of a Hub dataset that has several
    image: str | None = None  # column names; null finds them
    label: str | None = None
    train: str = "train"
    test: str = "test"
    validation: float = Field(default=0.1, gt=0, lt=0.9)  # stratified share held out of train
    # Share of every class of `train` that is kept for testing, where there is no test split; `test` is not read then.
    hold_out: float | None = Field(default=None, gt=0, lt=0.9)
    split_seed: int = 0  # draws these shares; apart from `seed`, so that runs with several seeds share their teachers
    resolution: int | None = Field(default=None, ge=4, le=limits.SIDE)  # side in pixels; null keeps the source's own
    channels: Literal[1, 3] | None = None  # null: 1 where every probed image is grey, otherwise 3


class PreprocessSpec(Strict):
    """How pixels become network inputs."""

    zca: bool = False
    statistics: Literal["fitted", "field"] = "fitted"  # without whitening: field takes the published numbers' constants


def elsewhere(spec: SourceSpec, test: str) -> SourceSpec:
    """The spec that reads its test split from another Hub id or folder, the columns found anew."""
    dataset, _, revision = test.partition("@")
    where: dict[str, Any] = {"path": test}
    if not is_local(test):
        where = {"dataset": dataset, "revision": revision or None}
    return spec.model_copy(update={**where, "config": None, "image": None, "label": None, "hold_out": None})


def local_folder(spec: SourceSpec) -> str | None:
    """The folder here that a user's source is read from; None for the Hub's and for digits."""
    return spec.path or (spec.dataset if spec.dataset != "digits" and is_local(spec.dataset) else None)
