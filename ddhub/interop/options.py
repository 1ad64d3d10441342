"""What a user may say of a set in another tool's layout, where its files do not."""

from collections.abc import Sequence
from typing import TypedDict

from ddhub.base.overrides import Overrides


class ImportOptions(TypedDict, total=False):
    """The keyword arguments of `ddhub.import_set`, and of `importing` in `ddhub.evaluate`."""

    overrides: Overrides  #: changes of the source, such as `source.path=FOLDER`
    layout: str  #: the name of a layout (`ddhub import --help` lists them), `./NAME.py`, or auto
    name: str | None  #: of the set; None takes its folder's
    method: str | None  #: that made it
    license: str | None  #: for the card
    lr: float | None  #: the rate to train at
    epochs: int | None  #: to train for
    mean: Sequence[float] | None  #: of pixels in [0, 1], one value a channel
    std: Sequence[float] | None  #: likewise
    zca: bool | None  #: whether its floats are whitened
    classes: str | None  #: a file with one class name per line, in the set's order
    order: str | None  #: `source` affirms that its classes are in the source's order
    experiment: int | None  #: of a DC file that holds several
    factor: int | None  #: tiles a side that an image of the layout idc is made of
    file: str | None  #: the file or folder of a Hub repo that holds several sets
    range: Sequence[float] | None  #: values of black and white, in pictures of more than 8 bits
    background: str | None  #: the colour that shows through transparent places
    config: str | None  #: the subset of a Hub dataset that has several
    image: str | None  #: the column of a Hub dataset
    label: str | None  #: likewise
    split: str  #: likewise
    limit: int  #: bytes that are read of one file
