"""The one exception that users see."""


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
