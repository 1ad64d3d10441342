"""State of the whole process: blocks that overlap, as those of threads do, leave it as it was before the first."""

import contextlib
import gc
import logging
import signal
import sys

import datasets
import pytest
from huggingface_hub import constants

from ddhub.base import hub_client, log, progress, stopping
from ddhub.base.shared import shared
from ddhub.training import device


def overlap(make, state):
    """The state in each of four parts: before, in the first block, in the second one alone, and after both."""
    first, second, seen = make(), make(), [state()]
    first.__enter__()
    seen.append(state())
    second.__enter__()
    first.__exit__(None, None, None)
    seen.append(state())
    second.__exit__(None, None, None)
    return [*seen, state()]


def test_the_last_block_restores_what_the_first_one_found():
    """Blocks with other arguments have a state of their own."""
    told = []

    @shared
    @contextlib.contextmanager
    def noted(name):
        told.append(f"begin {name}")
        yield
        told.append(f"end {name}")

    with noted("a"):
        overlap(lambda: noted("a"), list)
        with noted("b"):
            pass
    with noted("a"):
        pass
    assert told == ["begin a", "begin b", "end b", "end a", "begin a", "end a"]


def test_a_block_that_cannot_begin_leaves_nothing():
    """The next one begins anew."""
    faults = [ValueError("at first")]

    @shared
    @contextlib.contextmanager
    def failing():
        if faults:
            raise faults.pop()
        yield

    with pytest.raises(ValueError, match="at first"), failing():
        pass
    with failing():
        pass


@pytest.mark.parametrize("moment", ["begin", "end"])
def test_a_signal_where_a_block_begins_or_ends_leaves_nothing(moment):
    """Its state would last for the life of a notebook."""
    told = []

    class Noted:
        def __enter__(self):
            if moment == "begin":
                signal.raise_signal(signal.SIGTERM)
            told.append("begin")

        def __exit__(self, *_):
            if moment == "end":
                signal.raise_signal(signal.SIGTERM)
            told.append("end")

    noted = shared(Noted)
    with pytest.raises(stopping.Stopped), stopping.heeded(), noted():
        told.append("block")
    assert told == (["begin", "end"] if moment == "begin" else ["begin", "block", "end"])


def test_a_signal_right_after_a_block_began_ends_it():
    """It was begun, and nobody ended it."""
    told = []

    def stop():
        signal.raise_signal(signal.SIGTERM)

    class Noted:
        def __enter__(self):
            told.append("begin")

        def __exit__(self, *_):
            told.append("end")

    noted = shared(Noted)
    with pytest.raises(stopping.Stopped), stopping.heeded(), in_begin("return", "begin", stop), noted():
        told.append("block")
    with noted():
        told.append("next")
    assert told == ["begin", "end", "begin", "next", "end"]


@contextlib.contextmanager
def in_begin(event, name, act):
    """Act where a function returns: `begin` within `shared`, or what it calls; once."""

    def watch(frame, happened, called):
        code = frame.f_code
        found = getattr(called, "__name__", None) if event == "c_return" else code.co_name
        where = (code.co_name, code.co_filename) == ("begin", shared.__code__.co_filename)
        if where and (happened, found) == (event, name):
            sys.setprofile(None)
            act()

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_a_block_that_begins_while_the_last_one_is_collected_begins_anew():
    """It would count in a state that has ended."""
    told = []

    @shared
    @contextlib.contextmanager
    def noted():
        told.append("begin")
        yield
        told.append("end")

    def abandoned():
        with noted():
            yield

    gc.collect()
    gc.disable()
    try:
        cycle = [abandoned()]
        next(cycle[0])
        cycle.append(cycle)
        del cycle
        with in_begin("c_return", "get", gc.collect), noted():
            told.append("block")
    finally:
        gc.enable()
    assert told == ["begin", "end", "begin", "block", "end"]


def test_calls_that_overlap_are_shown_and_leave_logging_as_it_was(monkeypatch):
    """The second one was silent once the first had ended, or its level stayed for good."""
    for logger in (logging.root, log.ROOT):  # a program that has configured none, unlike pytest
        monkeypatch.setattr(logger, "handlers", [])
    before = log.ROOT.level
    log.ROOT.setLevel(logging.NOTSET)

    def state():
        return log.ROOT.level, len(log.ROOT.handlers) > 0, progress._screen.wanted

    nothing, shown = (logging.NOTSET, False, False), (logging.INFO, True, True)
    found = overlap(progress.shown_by_default, state)
    log.ROOT.setLevel(before)
    assert found == [nothing, shown, shown, nothing]


def test_a_silent_hub_is_asked_again_after_blocks_that_overlap(monkeypatch):
    """A process stayed offline for good."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_client, "_silent", lambda *_: True)

    def state():
        return constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE

    found = overlap(lambda: hub_client.offline_if_silent("a/b", None), state)
    assert found == [(False, False), (True, True), (True, True), (False, False)]


def test_scores_that_overlap_are_exact_and_training_is_fast_again(monkeypatch):
    """One score was rounded to 10 bits, and no later training was."""
    import torch

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert overlap(lambda: device.full_float32("cuda"), lambda: torch.backends.cudnn.allow_tf32) == [
        *(True, False, False, True),
    ]


def test_bars_stay_hidden_while_one_block_hides_them():
    """Those of the Hub's client would run through the lines of ddhub."""
    hidden = datasets.utils.are_progress_bars_disabled()
    datasets.utils.enable_progress_bars()
    found = overlap(lambda: progress.bars_hidden(datasets.utils), datasets.utils.are_progress_bars_disabled)
    if hidden:
        datasets.utils.disable_progress_bars()
    assert found == [False, True, True, False]
