"""Long runs: resume, checkpoints, metrics, faults; and the files and jobs below them."""

import errno
import json
import os
import signal

import pytest
import torch
from clocks import Clock

from ddhub.base import files, jobs, progress, seeds, stopping
from ddhub.base.errors import UserError
from ddhub.training import loop as loops
from ddhub.training.loop import Run

STEPS = 12


class Crash(Exception):
    """Stands for a kill."""


def loop(folder, crash_at=None, steps=STEPS, bad_at=None, stop_at=None, **how):
    """A small run whose state depends on every step before; gives the state and the steps that were done."""
    how = {"checkpoint_seconds": 0, "report_seconds": 0, **how}
    run, state, done = Run(folder, "work", **how), {"x": torch.ones(5), "list": [], "stop": False}, []
    for step in run.steps(steps, state):
        if step == crash_at:
            raise Crash
        noise = torch.randn(5, generator=seeds.generator(0, "step", step))
        state["x"] = state["x"] * 1.01 + noise
        state["list"] = [*state["list"], {"step": step, "text": "words", "none": None}][-2:]
        state["stop"] = step == stop_at
        run.log(loss=state["x"].sum() if step != bad_at else float("nan"), lr=0.1)
        done.append(step)
    return state, done


def crash(folder, at, **how):
    with pytest.raises(Crash):
        loop(folder, crash_at=at, **how)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pt"))


@pytest.mark.parametrize("every", [0, 1e9])
def test_a_broken_run_ends_as_an_unbroken_one(tmp_path, every):
    """The same state to the bit, whether it resumes at the checkpoint or, having none, at the start."""
    whole, _ = loop(tmp_path / "whole")
    for at in (7, 9):
        crash(tmp_path / "broken", at, checkpoint_seconds=every)
    state, done = loop(tmp_path / "broken", checkpoint_seconds=every)
    assert done == list(range(9 if every == 0 else 0, STEPS))
    assert torch.equal(state.pop("x"), whole.pop("x")) and state == whole
    steps = [line["step"] for line in lines(tmp_path / "broken")]
    assert steps == list(range(1, STEPS + 1))


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    """One to go on from, and one before it."""
    loop(tmp_path)
    assert checkpoints(tmp_path) == ["work-00000011.pt", "work-00000012.pt"]


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage, capsys):
    """It is said, removed, and the run still ends with the bits of a whole one."""
    whole, _ = loop(tmp_path / "whole")
    crash(tmp_path / "broken", 7)
    newest = tmp_path / "broken" / "work-00000007.pt"
    newest.write_bytes(newest.read_bytes()[:-300] if damage is None else damage)
    state, done = loop(tmp_path / "broken")
    assert done[0] == 6 and torch.equal(state["x"], whole["x"])
    assert f"{newest}: damaged" in capsys.readouterr().err
    assert [line["step"] for line in lines(tmp_path / "broken")] == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    "foreign",
    [
        torch.zeros(3),
        {"a": 1},
        {"step": 5, "seconds": 0.0, "state": {"x": torch.zeros(3), "optimizer": None}},
        {"step": 7, "seconds": 0.0, "state": {}},
        {"step": 7, "seconds": 0.0, "state": {"x": torch.zeros(4)}},
    ],
    ids=["no dict", "no checkpoint", "another step", "without weights", "other shapes"],
)
def test_a_checkpoint_of_another_training_is_passed_over(tmp_path, foreign, capsys):
    """A training of an evaluation begins anew, as when the user has edited the network's file since."""
    newest = tmp_path / "work-00000007.pt"
    torch.save(foreign, newest)
    run = Run(tmp_path, "work", checkpoint_seconds=1e9, brief=True)
    assert list(run.steps(3, {"x": torch.zeros(3)})) == [0, 1, 2]
    assert f"{newest}: is of another work" in capsys.readouterr().err


def test_a_brief_phase_goes_on_without_checkpoints(tmp_path, capsys):
    """Its result is smaller. A full disk has room for a row of an evaluation, and none for a network."""
    (tmp_path / "file").write_text("in the way")
    run = Run(tmp_path / "file" / "run", "work", checkpoint_seconds=0, brief=True)
    assert list(run.steps(3, {"x": torch.zeros(3)})) == [0, 1, 2]
    assert capsys.readouterr().err.count("goes on without checkpoints") == 1


def test_checkpoints_hold_no_code(tmp_path):
    """A checkpoint is data: an object that would run on loading counts as damage."""
    (tmp_path / "work-00000003.pt").write_bytes(b"")
    torch.save({"step": 3, "seconds": 0.0, "state": {"x": Crash()}}, tmp_path / "work-00000003.pt")
    assert loop(tmp_path)[1][0] == 0


@pytest.mark.parametrize("every", [0, 1e9])
def test_a_value_that_is_not_finite_stops_the_run(tmp_path, every):
    """The message names the step, also when the value is read later; the last good checkpoint stays."""
    with pytest.raises(UserError, match=r"work: step 6: loss is nan; the last good state is kept in ") as caught:
        loop(tmp_path, bad_at=6, report_seconds=every, checkpoint_seconds=0)
    assert "--set" in str(caught.value)
    assert checkpoints(tmp_path)[-1] == "work-00000006.pt"
    assert loop(tmp_path)[1] == list(range(6, STEPS))


def test_a_value_is_checked_before_it_is_saved(tmp_path):
    """With rare checkpoints the bad value is found at the end at the latest, and no checkpoint holds it."""
    with pytest.raises(UserError, match="work: step 6: loss is nan"):
        loop(tmp_path, bad_at=6, report_seconds=1e9, checkpoint_seconds=1e9)
    assert checkpoints(tmp_path) == []


def test_stop_ends_early_and_for_good(tmp_path):
    """A true `stop` in the state is saved with it: the same command does nothing more."""
    state, done = loop(tmp_path, stop_at=4, checkpoint_seconds=1e9)
    assert done == [0, 1, 2, 3, 4] and checkpoints(tmp_path) == ["work-00000005.pt"]
    again, more = loop(tmp_path, stop_at=4)
    assert more == [] and torch.equal(again["x"], state["x"])


def test_a_finished_run_does_nothing_more(tmp_path):
    """The state comes from the checkpoint, and no line is written twice."""
    state, _ = loop(tmp_path)
    again, more = loop(tmp_path)
    assert more == [] and torch.equal(again["x"], state["x"]) and len(lines(tmp_path)) == STEPS


def test_the_clock_runs_on_over_interruptions(tmp_path):
    """Seconds are those of all resumptions."""
    crash(tmp_path, 5)
    before = lines(tmp_path)[-1]["seconds"]
    run = Run(tmp_path, "work", checkpoint_seconds=0)
    content = torch.load(tmp_path / "work-00000005.pt", weights_only=True)
    files.write_atomic(tmp_path / "work-00000005.pt", lambda file: torch.save({**content, "seconds": 100.0}, file))
    for _ in run.steps(STEPS, {}):
        pass
    assert before < 100 <= run.seconds < 100 + 60


def test_a_torn_last_line_is_dropped(tmp_path):
    """A kill while a metric is written leaves valid JSON lines after the resume, and other phases' lines alone."""
    crash(tmp_path, 7)
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"phase": "other", "step": 99}\n' + path.read_text() + '{"phase": "work", "st')
    loop(tmp_path)
    found = lines(tmp_path)
    assert found[0] == {"phase": "other", "step": 99}
    assert [line["step"] for line in found[1:]] == list(range(1, STEPS + 1))
    assert set(found[1]) == {"phase", "step", "loss", "lr", "seconds"}


@pytest.fixture
def full_disk(monkeypatch):
    """A function (n): the disk is full from the nth flush on; (None) makes room again."""
    real, left = os.fsync, [10**9]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda writes: left.__setitem__(0, 10**9 if writes is None else writes)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, full_disk):
    """Said with the next command; nothing half written stays, and the run goes on once there is room."""
    whole, _ = loop(tmp_path / "whole")
    full_disk(4)
    with pytest.raises(UserError, match="the disk is full") as caught:
        loop(tmp_path / "full")
    assert "df -h" in str(caught.value) and "run the same command again" in str(caught.value)
    assert checkpoints(tmp_path / "full") == ["work-00000003.pt", "work-00000004.pt"]
    assert sorted(os.listdir(tmp_path / "full")) == ["metrics.jsonl", *checkpoints(tmp_path / "full")]
    full_disk(None)
    state, done = loop(tmp_path / "full")
    assert done[0] == 4 and torch.equal(state["x"], whole["x"])


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch, loops, progress)


def test_the_progress_line_says_what_people_ask(tmp_path, capsys, clock):
    """Phase, step, share, values, speed, age of the checkpoint, time to go: on stderr."""
    loop(tmp_path, steps=4)
    out, err = capsys.readouterr()
    assert out == "" and "work: step 2/4 50% | loss " in err and "a step | saved 0s ago | eta 0s" in err


def test_a_value_is_named_for_what_it_is(tmp_path, capsys):
    """The key stays as it is in metrics.jsonl; people read which value it is."""
    run = Run(tmp_path, "work")
    for _ in run.steps(1, {}):
        run.log(largest=2.5)
    assert "| largest |pixel| 2.5 |" in capsys.readouterr().err
    assert '"largest": 2.5' in (tmp_path / "metrics.jsonl").read_text()


def test_saved_means_saved(tmp_path, capsys, monkeypatch):
    """Nothing is said to be saved before there is a checkpoint; its age is the file's, also of an earlier process."""
    monkeypatch.setattr(loops, "SOON", 1e9)
    crash(tmp_path, 3, checkpoint_seconds=1e9)
    assert capsys.readouterr().err.count("not saved yet") == 3 and checkpoints(tmp_path) == []
    crash(tmp_path, 3)
    capsys.readouterr()
    newest = tmp_path / checkpoints(tmp_path)[-1]
    os.utime(newest, (newest.stat().st_atime, newest.stat().st_mtime - 120))
    crash(tmp_path, 5, checkpoint_seconds=1e9)
    assert "work: resuming at step 4 of 12" in (told := capsys.readouterr().err) and "saved 2m0" in told


def test_the_first_checkpoint_comes_soon_and_later_ones_do_not(tmp_path, clock):
    """A run that is killed in its first minutes has not been in vain."""
    run = Run(tmp_path, "work", checkpoint_seconds=1e9)
    for _ in run.steps(20, {"x": torch.ones(1)}):
        clock.sleep(loops.SOON / 5)
    assert checkpoints(tmp_path) == ["work-00000005.pt", "work-00000020.pt"]  # the first and the last


def test_long_steps_are_saved_one_by_one(tmp_path, clock):
    """A step that takes seconds is worth a checkpoint, as long as that costs next to nothing."""
    seen = set()
    for _ in Run(tmp_path, "work", checkpoint_seconds=1e9).steps(5, {"x": torch.ones(1)}):
        clock.sleep(loops.LONG)
        seen |= set(checkpoints(tmp_path))
    assert len(seen | set(checkpoints(tmp_path))) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_loop_after_its_step_with_a_checkpoint(tmp_path, capsys, number):
    """Not a step is done twice, and the bits are those of an unbroken run."""
    whole, _ = loop(tmp_path / "whole")
    run, state = Run(tmp_path / "cut", "work", checkpoint_seconds=1e9), {"x": torch.ones(5), "list": [], "stop": False}
    with stopping.heeded(), pytest.raises(stopping.Stopped) as caught:
        for step in run.steps(STEPS, state):
            if step == 4:
                os.kill(os.getpid(), number)
            state["x"] = state["x"] * 1.01 + torch.randn(5, generator=seeds.generator(0, "step", step))
    assert caught.value.number == number and checkpoints(tmp_path / "cut") == ["work-00000005.pt"]
    assert "work: saved at step 5 of 12" in capsys.readouterr().err
    state, done = loop(tmp_path / "cut")
    assert done == list(range(5, STEPS)) and torch.equal(state["x"], whole["x"])


@pytest.mark.parametrize("place", ["_look", "_show", "_save"])
def test_a_signal_between_steps_loses_nothing_either(tmp_path, monkeypatch, place):
    """While values are noted, a bar is drawn or a checkpoint is written."""
    whole = getattr(Run, place)

    def hit(run, *given):
        if run._step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        whole(run, *given)

    monkeypatch.setattr(Run, place, hit)
    run, seen = Run(tmp_path, "work", checkpoint_seconds=0 if place == "_save" else 1e9), []
    with stopping.heeded(), pytest.raises(stopping.Stopped):
        seen.extend(run.steps(STEPS, {"x": torch.ones(1)}))
    assert checkpoints(tmp_path)[-1] == "work-00000005.pt"


def test_ctrl_c_saves_in_anybody_s_program(tmp_path):
    """A notebook heeds no other signal, and needs to do nothing for this one."""
    state = {"x": torch.ones(1)}
    with pytest.raises(KeyboardInterrupt):
        for step in Run(tmp_path, "work", checkpoint_seconds=1e9).steps(STEPS, state):
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)
            state["x"] += 1
    assert checkpoints(tmp_path) == ["work-00000005.pt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_says_where_it_begins(tmp_path, capsys):
    """And what it need not do again."""
    list(Run(tmp_path, "work", beside="2 teachers from the cache").steps(3, {}))
    list(Run(tmp_path, "work").steps(3, {}))
    list(Run(tmp_path, "work", unit="epoch", beside="2 teachers from the cache").steps(9, {}))
    told = capsys.readouterr().err
    assert "work: 3 steps, 2 teachers from the cache\n" in told and "work: all of 3 steps done before\n" in told
    assert "work: resuming at epoch 4 of 9, 2 teachers from the cache\n" in told


@pytest.mark.parametrize(("steps", "apart"), [(1, 1), (30, 1), (90, 2), (1000, 20)])
def test_a_short_run_has_a_line_of_metrics_at_least_every_second_step(tmp_path, steps, apart):
    """A long one has fifty at least, however fast it is."""
    run = Run(tmp_path, "work", report_seconds=1e9)
    for step in run.steps(steps, {}):
        run.log(loss=step)
    found = [line["step"] for line in lines(tmp_path)]
    assert found[-1] == steps and max(b - a for a, b in zip([0, *found], found, strict=False)) <= apart
    assert all(line["loss"] == line["step"] - 1 for line in lines(tmp_path))


def test_a_phase_removes_its_folder(tmp_path):
    """Once its result is a file of its own, nothing of it stays."""
    run = Run(tmp_path / "phase", "work")
    list(run.steps(2, {"x": torch.ones(1)}))
    run.remove()
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """Readers see the old file or the new one, whole; no temporary file stays."""
    path = tmp_path / "folder" / "file"
    files.write_bytes(path, b"old")

    def half(file):
        file.write(b"half")
        raise Crash

    with pytest.raises(Crash):
        files.write_atomic(path, half)
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["file"]
    files.write_json(path, {"a": "ä"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ä"} and path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, float("nan"))


@pytest.mark.parametrize(("fault", "said"), [(errno.ENOSPC, "full"), (errno.EACCES, "permission"), (errno.EIO, None)])
def test_faults_of_the_disk_are_told_apart(tmp_path, fault, said):
    """What the user can mend is a UserError; the rest stays what it was."""
    with pytest.raises(UserError if said else OSError, match=said), files.disk_errors(tmp_path / "f", "writing"):
        raise OSError(fault, "fault")


def test_a_held_lock_refuses_the_second(tmp_path):
    """With a word for it, at once; an error in the body sets it free."""
    with pytest.raises(Crash), files.locked(tmp_path / "lock", busy="busy here"):
        with pytest.raises(UserError, match="busy here"), files.locked(tmp_path / "lock", busy="busy here"):
            pass
        raise Crash
    with files.locked(tmp_path / "lock", busy="busy here"):
        pass


def test_equal_values_have_equal_digests(tmp_path):
    """Whatever the order of keys; a file's hash is that of its bytes."""
    assert files.digest({"a": 1, "b": [2]}) == files.digest({"b": [2], "a": 1}) != files.digest({"a": 1, "b": [3]})
    (tmp_path / "f").write_bytes(b"abc")
    assert files.sha256(tmp_path / "f").startswith("ba7816bf8f01cfea")


def test_one_failed_job_leaves_the_others_done(tmp_path):
    """All are tried; what failed is told at the end; the next call does what is missing and nothing twice."""
    calls = []

    def job(fails):
        def work(path):
            calls.append(path.name)
            if fails:
                raise UserError(f"{path.name}: no luck")
            files.write_bytes(path, b"done")

        return work

    paths = [tmp_path / name for name in "abcd"]
    with pytest.raises(UserError) as caught:
        jobs.run_all({path: job(path.name in "bc") for path in paths})
    assert str(caught.value) == "2 of 4 jobs failed:\nb: no luck\nc: no luck"
    assert sorted(os.listdir(tmp_path)) == ["a", "d"]
    with pytest.raises(UserError, match=r"^c: no luck$"):
        jobs.run_all({path: job(path.name == "c") for path in paths})
    jobs.run_all({path: job(False) for path in paths})
    assert "".join(calls) == "abcd" + "bc" + "c"
    assert sorted(os.listdir(tmp_path)) == list("abcd")


def test_a_short_run_has_a_line_of_metrics_for_every_step(tmp_path):
    """So that a curve can be drawn of it; a long one has hundreds, not one for each step."""
    for steps, least, most in ((7, 7, 7), (400, 400, 400), (900, 450, 900), (5000, 500, 600)):
        run = Run(tmp_path / str(steps), "work", report_seconds=1000)
        for step in run.steps(steps, {}):
            run.log(value=float(step))
        entries = lines(tmp_path / str(steps))
        assert least <= len(entries) <= most
        assert entries[-1]["step"] == steps and entries[-1]["value"] == steps - 1
