"""Signals: the first waits for the end of a step, the second does not, and none is lost."""

import contextlib
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from descriptors import open_below

from ddhub.base import files, new_folder, same_folder, stopping
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


def test_what_a_signal_ends_may_take_its_time():
    """Saving is not cut short by the time limit of the step before it; the gate stays closed meanwhile."""
    with stopping.heeded(), stopping.Gate() as gate:
        gate.close(0.1)
        send()
        limit = gate._timer
        assert gate.heard() == signal.SIGTERM
        ended = limit.finished.is_set()
        limit.cancel()
        with pytest.raises(stopping.Stopped):
            send()
    assert ended  # out here, because a signal would replace the fault


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


def test_a_signal_that_nobody_heard_ends_the_command_at_the_end_of_the_gate():
    """It came after the loop's last look, and the next work would begin."""
    with pytest.raises(stopping.Stopped), stopping.heeded(), stopping.Gate() as gate:
        gate.close(0)
        assert gate.heard() is None
        send()


@pytest.mark.parametrize("kind", [ValueError, UserError])
@pytest.mark.parametrize(
    ("around", "number"), [(stopping.heeded, signal.SIGTERM), (contextlib.nullcontext, signal.SIGINT)]
)
def test_a_signal_that_a_fault_left_unheard_replaces_the_fault(kind, around, number):
    """Whoever catches the fault, as of one row of many, is stopped nevertheless; and the fault is not lost."""
    fault = kind("diverged")
    with around():
        try:
            with stopping.Gate() as gate:
                gate.close(0)
                send(number)
                raise fault
        except BaseException as out:
            found = out
    assert type(found) is stopping.Stopped and found.number == number and found.__cause__ is fault


def test_a_signal_that_a_fault_left_unheard_goes_to_the_gate_around():
    """The fault comes out of the inner gate, and the step around it hears the signal."""
    with stopping.heeded(), stopping.Gate() as outer:
        outer.close(0)
        with pytest.raises(ValueError, match="diverged"), stopping.Gate() as gate:
            gate.close(0)
            send()
            raise ValueError("diverged")
        assert outer.heard() == signal.SIGTERM


@pytest.mark.parametrize(
    ("around", "number"), [(stopping.heeded, signal.SIGTERM), (contextlib.nullcontext, signal.SIGINT)]
)
def test_a_signal_that_an_abandoned_loop_left_unheard_comes_after_its_end(monkeypatch, around, number):
    """A fault in the loop's body does so. What is raised while the loop is closed would reach nobody."""
    again = []

    def loop():
        with stopping.Gate() as gate:
            gate.close(0)
            yield

    def later(seconds, call, given):
        again.append((call, given))
        return SimpleNamespace(start=lambda: None)

    with around():
        with contextlib.suppress(ValueError):
            for _ in loop():
                send(number)
                monkeypatch.setattr(stopping.threading, "Timer", later)
                raise ValueError("diverged")
        ((call, given),) = again
        with pytest.raises(KeyboardInterrupt):
            call(*given)
            time.sleep(0.01)


def test_a_signal_is_not_sent_again_after_its_command(monkeypatch):
    """It would end the program that called the command."""
    sent = []
    monkeypatch.setattr(stopping.os, "kill", lambda _, number: sent.append(number))
    stopping._again(signal.SIGTERM, True)
    assert sent == []
    stopping._again(signal.SIGINT, False)  # the program's own loop
    monkeypatch.setattr(stopping, "_arrivals", [signal.SIGTERM])
    stopping._again(signal.SIGTERM, True)
    assert sent == [signal.SIGINT, signal.SIGTERM]


def test_a_block_that_runs_whole_within_a_step_leaves_a_signal_to_the_step():
    """A checkpoint is written in such blocks, and the step around it is not cut short."""
    with stopping.heeded(), stopping.Gate() as gate:
        gate.close(0)
        with stopping.held_back():
            send()
        assert gate.heard() == signal.SIGTERM


def test_an_abandoned_gate_leaves_the_present_one_in_its_place():
    """The garbage collector may end a loop after another has begun."""
    with stopping.heeded():
        with stopping.Gate() as abandoned, stopping.Gate() as gate:
            gate.close(0)
            abandoned.__exit__(None, None, None)
            send()
            assert gate.heard() == signal.SIGTERM
        with pytest.raises(stopping.Stopped):
            send()


def test_a_signal_at_the_start_of_a_gate_leaves_nothing_of_it(monkeypatch):
    """A notebook would say `stopping` for ever, and take each later fault for a stop."""
    install = signal.signal

    def interrupted(number, handler):
        install(number, handler)
        monkeypatch.undo()
        send(signal.SIGINT)

    monkeypatch.setattr(stopping.signal, "signal", interrupted)
    with pytest.raises(stopping.Stopped), stopping.Gate():
        raise AssertionError("the signal comes first")
    with stopping.Gate() as gate:
        gate.close(0)
        assert not stopping.asked() and gate.heard() is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupting(monkeypatch, module, name, before=False):
    """Let a signal come at the end of a function, or at its beginning; once."""
    function = getattr(module, name)

    def interrupted(*given, **named):
        monkeypatch.setattr(module, name, function)
        if before:
            send()
            return function(*given, **named)
        found = function(*given, **named)
        send()
        return found

    monkeypatch.setattr(module, name, interrupted)


def writes(place):
    files.write_bytes(place / "a", b"content")


def makes(place):
    with new_folder.whole(place / "a") as staging:
        (staging / "b").touch()
        raise ValueError("a fault")


def starts(place):
    with new_folder.no_stub(place / "a" / "b", place / "a" / "b" / "begun"):
        (place / "a" / "b").mkdir(parents=True)
        raise ValueError("a fault")


@pytest.mark.parametrize(
    ("work", "module", "name", "before"),
    [
        (writes, files.tempfile, "mkstemp", False),
        (makes, new_folder.tempfile, "mkdtemp", False),
        (makes, new_folder.shutil, "rmtree", True),
        (starts, new_folder.shutil, "rmtree", True),
    ],
)
def test_a_signal_leaves_no_unfinished_file_or_folder(tmp_path, monkeypatch, work, module, name, before):
    """It comes where the file was just made, or is just removed; its lock would keep it for the life of a notebook."""
    interrupting(monkeypatch, module, name, before)
    with pytest.raises((stopping.Stopped, ValueError)), stopping.heeded():
        work(tmp_path)
        time.sleep(1)
    assert list(tmp_path.iterdir()) == [] and open_below(tmp_path) == []


def test_a_signal_where_a_folder_is_taken_into_use_ends_the_use(tmp_path, monkeypatch):
    """Otherwise the process would refuse another folder of that name for good."""
    interrupting(monkeypatch, same_folder, "_taken")
    with pytest.raises(stopping.Stopped), stopping.heeded(), same_folder.kept(tmp_path / "a"):
        raise AssertionError("the signal comes first")
    with same_folder.kept(tmp_path / "a"):
        files.write_bytes(tmp_path / "a" / "b", b"")
    (tmp_path / "a").rename(tmp_path / "renamed")
    with same_folder.kept(tmp_path / "a"):
        files.write_bytes(tmp_path / "a" / "b", b"")
