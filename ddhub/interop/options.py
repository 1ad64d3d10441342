"""The user's statements about a set in another tool's layout, where its files state nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from ddhub.base.overrides import Overrides


class ImportOptions(TypedDict, total=False):
    """The keyword arguments of `ddhub.import_set`, and of `importing` in `ddhub.evaluate`."""

    overrides: Overrides  #: changes of the source, such as `source.path=FOLDER`
    layout: str  #: the name of a layout (`ddhub import --help` lists them), `./NAME.py`, or auto
    name: str | None  #: the set's name; None takes its folder's
    method: str | None  #: the method that made it
    license: str | None  #: the licence for the card
    lr: float | None  #: the learning rate for training
    epochs: int | None  #: the epochs for training
    mean: Sequence[float] | None  #: the mean of pixels in [0, 1], one value per channel
    std: Sequence[float] | None  #: the standard deviation, likewise
    zca: bool | None  #: whether its floats are whitened
    classes: str | Path | None  #: a file with one class name per line, in the set's order
    order: Literal["source"] | None  #: `source` affirms that the set has the source's class order
    experiment: int | None  #: the number of the experiment, in a DC file with several
    factor: int | None  #: tiles per side of an image in the layout idc
    file: str | None  #: the file or folder to take from a Hub repo with several sets
    range: Sequence[float] | None  #: values of black and white, in pictures of more than 8 bits
    background: str | None  #: the colour behind transparent places
    config: str | None  #: the subset, for a Hub dataset with several
    image: str | None  #: the image column of a Hub dataset
    label: str | None  #: its label column
    split: str  #: its split
    limit: int  #: the most bytes read from one file
