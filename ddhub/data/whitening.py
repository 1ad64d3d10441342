"""The file of a ZCA whitening, `preprocess.safetensors`, as arrays without torch. D is the values of one image."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.base.redact import one_line


def read(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Read mean (D,) and matrix (D, D), float32.

    Args:
        size: the expected D, checked before the tensors are read.

    Raises:
        UserError: if the file holds no such whitening.
    """
    try:
        files.refuse_odd(path)
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in ("mean", "matrix")}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            if shapes != {"mean": (size,), "matrix": (size, size)}:
                raise UserError(f"{path}: mean and matrix are not of {size} values a side")
            if any(part.get_dtype() != "F32" for part in slices.values()):
                raise UserError(f"{path}: mean and matrix are not float32")
            mean, matrix = file.get_tensor("mean"), file.get_tensor("matrix")
    except (OSError, SafetensorError, KeyError) as fault:
        raise UserError(f"{path}: holds no whitening ({one_line(fault, 100)})") from fault
    if not (np.isfinite(matrix).all() and np.isfinite(mean).all()):
        raise UserError(f"{path}: holds values that are not finite")
    return mean, matrix
