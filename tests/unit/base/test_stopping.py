"""Signals: the first waits for the end of a step, the second does not, and none is lost."""

import contextlib
import os
import signal
import threading
import time

import pytest

from ddhub.base import stopping
from ddhub.base.errors import UserError
from ddhub.base.jobs import board


def send(number=signal.SIGTERM):
    """A signal to this very process, which is handled before the call returns."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_outside_of_steps_ends_the_block_at_once(number, code):
    """As Ctrl-C does, so that whoever cleans up after one cleans up after all; the shell is told which it was."""
    with pytest.raises(KeyboardInterrupt) as caught, stopping.heeded():
        send(number)
    assert stopping.exit_code(caught.value) == code


def test_an_interrupt_of_python_s_own_counts_as_ctrl_c():
    """It has no number."""
    assert stopping.exit_code(KeyboardInterrupt()) == 130


def test_a_signal_in_a_step_waits_for_its_end():
    """The loop is told which it was."""
    with stopping.heeded(), stopping.Gate() as gate:
        gate.close(0.1)
        send()
        assert gate.open() == signal.SIGTERM


def test_the_second_signal_does_not_wait():
    """Whoever presses Ctrl-C twice means it."""
    with stopping.heeded(), stopping.Gate() as gate:
        gate.close(0.1)
        send()
        with pytest.raises(stopping.Stopped):
            send(signal.SIGINT)
        gate.open()


def test_a_step_that_takes_too_long_is_not_waited_for(monkeypatch):
    """Whether that was known before or not."""
    with stopping.heeded(), stopping.Gate() as gate:
        gate.close(stopping.PATIENCE + 1)
        with pytest.raises(stopping.Stopped):
            send()
        monkeypatch.setattr(stopping, "PATIENCE", 0.2)
        gate.close(0)
        with pytest.raises(stopping.Stopped):
            send()
            for _ in range(1000):
                time.sleep(0.01)


def test_what_a_signal_ends_may_take_its_time(monkeypatch):
    """Saving is not cut short by the time limit of the step before it; the gate stays closed meanwhile."""
    monkeypatch.setattr(stopping, "PATIENCE", 0.2)
    with stopping.heeded(), stopping.Gate() as gate:
        gate.close(0.1)
        send()
        assert gate.heard() == signal.SIGTERM
        time.sleep(0.4)
        with pytest.raises(stopping.Stopped):
            send()


def test_a_signal_that_a_library_turns_into_its_own_fault_is_a_stop_all_the_same(tmp_path):
    """As pydantic does while it builds a model. A sentence of ours stays one."""

    def turned():
        try:
            send()
        except KeyboardInterrupt as fault:
            raise ValueError("SchemaError: Stopped: 15") from fault

    for block in (turned, lambda: board.attempt(lambda path: turned(), tmp_path / "a")):
        with pytest.raises(stopping.Stopped), stopping.heeded():
            block()
    with pytest.raises(UserError, match="its own"), stopping.heeded():
        with contextlib.suppress(ValueError):
            turned()
        raise UserError("its own")
    with pytest.raises(ValueError, match="before"), stopping.heeded():
        raise ValueError("before any signal")


def test_an_ended_gate_keeps_nothing_back():
    """Nor does one within whose block nothing was closed."""
    with stopping.heeded():
        with stopping.Gate() as gate:
            gate.close(0)
        with pytest.raises(stopping.Stopped):
            send()


def test_handlers_are_as_they_were_afterwards():
    """A program that uses ddhub has its own."""
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with stopping.heeded(), stopping.Gate():
        assert [signal.getsignal(number) for number in stopping.SIGNALS] != before
    with stopping.Gate():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is before[1]
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_a_signal_of_one_loop_says_nothing_of_the_next():
    """A notebook goes on after Ctrl-C."""
    with stopping.Gate() as gate:
        gate.close(0.1)
        send(signal.SIGINT)
        assert stopping.asked() and gate.heard() == signal.SIGINT
    assert not stopping.asked()


def test_what_is_ignored_stays_ignored():
    """nohup means that the closing terminal is nothing to the command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.heeded():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_may_use_it_all():
    """Signals are the main thread's, so there is nothing to keep back."""
    seen = []

    def work():
        with stopping.heeded(), stopping.Gate() as gate:
            gate.close(0)
            seen.append(gate.open())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
