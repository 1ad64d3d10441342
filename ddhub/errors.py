"""The one exception that users see."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """A fault that the user can mend: what is wrong and where, and the next command to type.

    The command line prints it without a traceback and exits with 1. Errors of ours stay assertions.
    """

    def __init__(self, message: str, *, next: str | None = None) -> None:
        super().__init__(message)
        self.next = next

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  next: {self.next}" if self.next else message


@contextlib.contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Turn running out of memory, the CPU's or a device's, into a UserError."""
    try:
        yield
    except (MemoryError, RuntimeError) as fault:
        # torch's error is told by its name, so that nobody has to import torch to know it.
        if not isinstance(fault, MemoryError) and type(fault).__name__ != "OutOfMemoryError":
            raise
        raise UserError(
            f"{doing}: out of memory",
            next="a smaller batch (teachers.batch, evaluate.batch, method.chunk), or --device cpu",
        ) from fault
