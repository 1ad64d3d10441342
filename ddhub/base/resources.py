"""What a command may use of a machine, as asked for: `--device`, `--threads`, `--workers` and the like."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from ddhub.base.errors import UserError
from ddhub.base.units import memory_bytes

Precision = Literal["float32", "bfloat16"]
AskedPrecision = Literal["float32", "bfloat16", "auto"]  # auto: bfloat16 where it is measured to be faster


@dataclass(frozen=True)
class Resources:
    """What was asked for; None leaves a choice to ddhub."""

    device: str | None = None  #: a torch device, such as `cpu` or `cuda`
    threads: int | None = None  #: CPU threads, of one worker where there are several
    compile: bool | None = None  #: whether torch.compile is used
    precision: AskedPrecision | None = None  #: of the forward pass in training
    together: int | None = None  #: seeds that one program trains
    deterministic: bool | None = None  #: the same bits from a card at every run
    workers: int | None = None  #: processes on this machine
    shard: str | None = None  #: the I-th part of N as `I/N`, counted from 0
    ray: str | None = None  #: the address of a Ray cluster; `local` starts one here
    memory: str | None = None  #: what an evaluation's batches may take, such as `4GB`; a recipe has a budget of its own

    def __post_init__(self) -> None:
        _ = self.budget  # before work, not in the middle of it

    @property
    def budget(self) -> int | None:
        """`memory` in bytes.

        Raises:
            UserError: for what is no amount.
        """
        try:
            return None if self.memory is None else memory_bytes(self.memory)
        except ValueError as fault:
            raise UserError(f"--memory {self.memory}: {fault}", next="--memory 4GB") from fault


class ResourceOptions(TypedDict, total=False):
    """The fields of Resources as keyword arguments of the Python functions."""

    device: str | None
    threads: int | None
    compile: bool | None
    precision: AskedPrecision | None
    together: int | None
    deterministic: bool | None
    workers: int | None
    shard: str | None
    ray: str | None
    memory: str | None
