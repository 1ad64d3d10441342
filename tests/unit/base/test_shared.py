"""State of the whole process: blocks that overlap, as those of threads do, leave it as it was before the first."""

import contextlib
import logging

import datasets
import pytest
from huggingface_hub import constants

from ddhub.base import hub_client, log, progress
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
