"""State of the whole process that blocks of several threads need at once."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, _GeneratorContextManager
from dataclasses import dataclass
from typing import Any

from ddhub.base import stopping


@dataclass
class _Entered:
    """A context manager that was entered."""

    leaving: ExitStack
    blocks: int = 1  # that run in it


def shared(make: Callable[..., AbstractContextManager[Any]]) -> Callable[..., _GeneratorContextManager[None]]:
    """Decorate a function that makes context managers. The first of several blocks enters one, and the last leaves it.

    Each block by itself would save what another has set, and restore it at the end for good.
    Blocks with different arguments share nothing. Signals wait while a block begins or ends.
    """
    lock, entered = threading.RLock(), dict[tuple[Any, ...], _Entered]()

    def begin(given: tuple[Any, ...]) -> None:
        with lock:
            if known := entered.get(given):
                known.blocks += 1
                if known.blocks > 1:  # otherwise the garbage collector ended its last block since it was found
                    return
            leaving = ExitStack()
            leaving.enter_context(make(*given))
            entered[given] = _Entered(leaving)

    def end(given: tuple[Any, ...]) -> None:
        with lock:
            known = entered[given]
            known.blocks -= 1
            if not known.blocks:
                del entered[given]
                known.leaving.close()

    @functools.wraps(make)
    @contextlib.contextmanager
    def block(*given: Any) -> Iterator[None]:
        begun = False
        try:
            with stopping.held_back():  # a block that nobody ends would last for good
                begin(given)
                begun = True
            yield
        finally:
            if begun:
                with stopping.held_back():
                    end(given)

    return block
