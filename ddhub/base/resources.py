"""The machine resources that a command may use, as requested: `--device`, `--threads`, `--workers` and others."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from ddhub.base.errors import UserError, at_least
from ddhub.base.units import memory_bytes

Precision = Literal["float32", "bfloat16"]
AskedPrecision = Literal["float32", "bfloat16", "auto"]  # auto: bfloat16 if it is measured to be faster


@dataclass(frozen=True)
class Resources:
    """The requested resources. None leaves the choice to ddhub."""

    device: str | None = None  #: a torch device, such as `cpu` or `cuda`
    threads: int | None = None  #: CPU threads, of each worker if there are several
    compile: bool | None = None  #: whether torch.compile is used
    precision: AskedPrecision | None = None  #: of the forward pass in training
    together: int | None = None  #: seeds that are trained together as one program
    deterministic: bool | None = None  #: whether a GPU gives the same bits at every run
    workers: int | None = None  #: processes on this machine
    shard: str | None = None  #: part I of N as `I/N`, counted from 0
    ray: str | None = None  #: the address of a Ray cluster; `local` starts one here
    memory: str | None = None  #: `4GB`, for an evaluation's batches and labels of views; in `distill`, the recipe's key

    def __post_init__(self) -> None:
        _ = self.budget  # a malformed amount is found before work begins
        at_least(1, threads=self.threads, together=self.together, workers=self.workers)

    @property
    def budget(self) -> int | None:
        """The memory in bytes.

        Raises:
            UserError: if it is no amount of memory.
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
