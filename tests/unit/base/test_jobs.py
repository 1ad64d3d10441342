"""Many jobs, many processes: every engine does every job once, and what dies loses only its own."""

import hashlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from clocks import Clock
from some_jobs import break_ as broken
from some_jobs import die, fail, hold, noted, signed, write

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import hub, manifest
from ddhub.base import jobs, progress, stopping
from ddhub.base.errors import UserError
from ddhub.base.jobs import Engine, board, claims, tally, workers
from ddhub.base.resources import Resources
from ddhub.evaluation import grid, rows
from ddhub.evaluation.request import EvaluationRequest, Grid
from ddhub.training import device

pytestmark = pytest.mark.slow

CODE = "import sys; sys.path.insert(0, sys.argv[1]); import some_jobs; some_jobs.run_eight(*sys.argv[2:])"
ENGINES = {"loop": Engine(), "workers": Engine(workers=2)}


def waited(reached, seconds=240):
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def _listen() -> None:
    """Undo what a shell does to commands in its background: they are started deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder, log, count=1, kind="write"):
    """A process that runs eight jobs."""
    told = [str(Path(__file__).parents[2] / "support"), str(folder), str(log), str(count), kind]
    return subprocess.Popen([sys.executable, "-c", CODE, *told], preexec_fn=_listen)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_does_every_job_and_none_that_is_done(name, out, log):
    """Nothing but the outputs stays; the second call begins nothing."""
    every = {out / f"{index}.json": partial(write, log) for index in range(5)}
    (out / "3.json").write_bytes(b"done before")
    for _ in range(2):
        jobs.run_all(every, ENGINES[name])
    assert sorted(noted(log)) == ["0.json", "1.json", "2.json", "4.json"]
    assert names(out) == [f"{index}.json" for index in range(5)]
    assert (out / "3.json").read_bytes() == b"done before" and (out / "4.json").read_bytes() == b"4.json"


@pytest.mark.parametrize("name", ENGINES)
def test_a_failed_job_is_named_and_leaves_the_others_done(name, out, log, capfd):
    """The user's faults in one message; a fault of ours is raised as one, with its traceback."""
    every = {out / "a": partial(fail, log), out / "b": partial(write, log), out / "c": partial(fail, log)}
    with pytest.raises(UserError) as caught:
        jobs.run_all(every, ENGINES[name])
    assert str(caught.value) == "2 of 3 jobs failed:\na: no luck\n  next: try again\nc: no luck\n  next: try again"
    with pytest.raises(ExceptionGroup, match="2 of 3 jobs failed") as group:
        jobs.run_all({**every, out / "c": partial(broken, log)}, ENGINES[name])
    assert "a fault of ours" in str(group.value.exceptions)
    assert names(out) == ["b"] and "failed: c" in capfd.readouterr().err


def test_a_killed_worker_loses_only_its_own_job(out, log, capfd):
    """kill -9 in the middle: that job is run again, the others once."""
    every = {out / f"{index}": partial(die if index == 1 else write, log) for index in range(4)}
    jobs.run_all(every, ENGINES["workers"])
    assert sorted(noted(log)) == ["0", "1", "1", "2", "3"] and names(out) == ["0", "1", "2", "3"]
    assert "1: its worker process ended by SIGKILL; it is run again" in capfd.readouterr().err


def test_a_job_that_kills_every_worker_is_reported(out, log):
    """After a few times, with what to do; the others are done."""
    every = {out / "bad": partial(die, log, times=99), out / "good": partial(write, log)}
    with pytest.raises(
        UserError, match=rf"bad: its worker process ended by SIGKILL, {workers.ATTEMPTS} times"
    ) as caught:
        jobs.run_all(every, ENGINES["workers"])
    assert "fewer --workers" in str(caught.value)
    assert noted(log).count("bad") == workers.ATTEMPTS and names(out) == ["good"]


@pytest.mark.parametrize("count", [1, 2])
def test_processes_on_one_folder_share_the_jobs(out, log, count):
    """No flags, no double work; each ends when all is done."""
    together = [start(out, log, count) for _ in range(2)]
    assert [process.wait(240) for process in together] == [0, 0]
    assert sorted(noted(log)) == names(out) == [f"{index}.json" for index in range(8)]


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_workers_end_with_the_process_that_started_them(out, log, kill):
    """Nobody goes on in the dark, and the next process takes over at once."""
    first = start(out, log, 2, "hold")
    waited(lambda: len(noted(log)) == 2)
    pids = [int(line.split()[1]) for line in log.read_text().splitlines()]
    first.send_signal(kill)
    assert first.wait(240) != 0
    waited(lambda: not any(claims._began(pid) for pid in pids))
    assert any(out.glob(".*.claim")) == (kill == signal.SIGKILL)
    (out / "go").touch()
    jobs.run_all({out / f"{index}.json": partial(write, log) for index in range(8)})
    assert len(noted(log)) == 2 + 8 and len(names(out)) == 8 + 1


def test_one_waits_for_what_another_has_claimed(out, log, capfd, monkeypatch):
    """It ends when the row is there, without having begun it, and says whom it waited for."""
    wait = board.Board.wait
    begun = threading.Thread(target=jobs.run_all, args=({out / "a": partial(hold, log, out / "go")},))
    begun.start()
    waited(lambda: noted(log))
    monkeypatch.setattr(board.Board, "wait", lambda self: (wait(self), (out / "go").touch()))
    jobs.run_all({out / "a": partial(write, log), out / "b": partial(write, log)})
    begun.join()
    assert noted(log) == ["a", "b"] and names(out) == ["a", "b", "go"]
    assert f"waiting for 1 done elsewhere, the first by process {os.getpid()} on " in capfd.readouterr().err


def test_a_claim_of_a_dead_process_here_is_taken_at_once(out):
    """Also where another process has its number by now."""
    ended = subprocess.Popen(["sleep", "60"])
    began = claims._began(ended.pid)
    ended.kill()
    ended.wait()
    with claims.Claims() as ours:
        for index, dead in enumerate([{"pid": ended.pid, "began": began}, {"began": "long ago"}]):
            signed(out / str(index), **dead)
            assert ours.take(out / str(index))
        signed(out / "alive")
        assert not ours.take(out / "alive")
    assert names(out) == [".alive.claim"]


@pytest.mark.parametrize("content", [{"host": "another"}, {"boot": "before"}, None], ids=["host", "reboot", "unsigned"])
def test_a_claim_elsewhere_expires_when_its_heart_stops(out, content):
    """Nobody can look at that machine's processes; the heartbeat tells."""
    path = signed(out / "a", **(content or {}))
    if content is None:
        path.write_text("")
    with claims.Claims() as ours:
        assert not ours.take(out / "a")
        stopped = time.time() - claims.EXPIRY - 60
        os.utime(path, (stopped, stopped))
        assert ours.take(out / "a")
    assert names(out) == []


def test_only_one_takes_an_expired_claim_over(out):
    """Whoever comes at the same moment."""
    for attempt in range(20):
        signed(out / str(attempt), began="long ago")
        everybody, together = [claims.Claims() for _ in range(4)], threading.Barrier(4)
        got = []

        def take(one, attempt=attempt, together=together, got=got):
            together.wait()
            got.append(one.take(out / str(attempt)))

        threads = [threading.Thread(target=take, args=(one,)) for one in everybody]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [False, False, False, True]


def test_a_heart_beats_while_a_claim_is_held(out, monkeypatch):
    """And a claim that fell to another is not taken from it."""
    monkeypatch.setattr(claims, "HEARTBEAT", 0.05)
    with claims.Claims() as ours:
        assert ours.take(out / "a")
        path = claims.path_of(out / "a")
        os.utime(path, (1, 1))
        waited(lambda: path.stat().st_mtime > 1)
        signed(out / "a", token="another's")
    assert path.exists()


def test_a_heart_beats_no_claim_that_is_only_asked_for(out, monkeypatch):
    """A dead machine's claim would never expire while others wait for it."""
    monkeypatch.setattr(claims, "HEARTBEAT", 0.02)
    path, expired = signed(out / "a", host="another"), claims.expired
    monkeypatch.setattr(claims, "expired", lambda path: time.sleep(0.3) or expired(path))
    beaten = path.stat().st_mtime_ns
    with claims.Claims() as ours:
        assert not ours.take(out / "a")
    assert path.stat().st_mtime_ns == beaten


def test_a_signal_while_a_claim_is_created_leaves_no_claim(out, monkeypatch):
    """It comes when the file exists and nobody has signed it."""
    create = Path.open

    def interrupted(path, *args, **named):
        file = create(path, *args, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        return file

    monkeypatch.setattr(Path, "open", interrupted)
    with pytest.raises(stopping.Stopped), stopping.heeded(), claims.Claims() as ours:
        ours.take(out / "a")
    assert names(out) == []


def test_a_claim_is_no_row_and_is_not_published(folder):
    """Nor is the lock of the report."""
    (folder / "evaluation").mkdir(exist_ok=True)
    before = hub.published(folder)
    for path in (signed(folder / "evaluation" / "a.json"), folder / "evaluation" / ".report.lock"):
        path.touch()
    assert hub.published(folder) == before
    assert rows.of(manifest.read(folder), folder / "evaluation") == []


@pytest.mark.parametrize("count", range(1, 8))
def test_shards_are_disjoint_and_complete(count):
    """For any number of jobs, in whatever order they are given."""
    for size in range(12):
        every = {Path(f"{index:02d}"): print for index in range(size)}
        parts = [Engine(shard=(index, count)).part(every) for index in range(count)]
        assert sorted(path for part in parts for path in part) == sorted(every)
        backwards = dict(reversed(every.items()))
        assert [set(part) for part in parts] == [set(Engine(shard=(i, count)).part(backwards)) for i in range(count)]


def test_torchrun_is_a_shard(monkeypatch):
    """Its variables count where nothing else is said; half of them, or nonsense, do not."""
    assert jobs.choose() == Engine()
    monkeypatch.setenv("RANK", "2")
    assert jobs.choose() == Engine()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert jobs.choose(workers=3) == Engine(workers=3, shard=(2, 4))
    assert jobs.choose(shard="0/3") == Engine(shard=(0, 3))
    monkeypatch.setenv("RANK", "4")
    assert jobs.choose() == Engine()


@pytest.mark.parametrize("text", ["1", "3/3", "-1/3", "a/b", "0/0", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text):
    """With what it should look like."""
    with pytest.raises(UserError, match="i from 0 to n - 1"):
        jobs.choose(shard=text)


def test_ray_asks_for_itself_and_for_ray(monkeypatch):
    """Options that contradict each other, and the package to install."""
    with pytest.raises(UserError, match="spreads the jobs by itself"):
        jobs.choose(ray="local", shard="0/2")
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install ray"):
        jobs.choose(ray="local")


def test_processes_share_threads_and_gpus(monkeypatch):
    """Threads are divided; of several GPUs each process has its own."""
    monkeypatch.setattr(device, "OWN_THREADS", 8)
    assert [device.threads_each(count) for count in (1, 3, 8, 9)] == [8, 2, 1, 1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert device.own_device() == "cuda:2"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device.own_device() == "cuda"


def without_clock(folder):
    """The rows of a set, but for how long they took."""
    found = {path.name: json.loads(path.read_text()) for path in sorted((folder / "evaluation").glob("*.json"))}
    return {name: {**row, "seconds": 0, "set": ""} for name, row in found.items()}


def test_shards_do_an_evaluation_together(folder, capsys):
    """Each returns the rows that exist and says what is left; the last one's report has all."""
    asked = {"archs": ["convnet2_w8"], "seeds": 2, "threads": 1}
    first = api.evaluate(str(folder), shard="0/2", **asked).to_dict()
    assert len(first["rows"]) == 2 and "shard 0/2: done; rows left to other shards: 2" in capsys.readouterr().err
    second = api.evaluate(str(folder), shard="1/2", **asked).to_dict()
    assert len(second["rows"]) == 4 and "left to" not in capsys.readouterr().err
    assert json.loads((folder / "report.json").read_text())["summary"] == second["summary"]
    assert api.verify(str(folder)).ok


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_row_is_made_of_what_was_asked_for_or_not_at_all(folder, tmp_path, monkeypatch, change):
    """A machine that cannot read the set, or has another one in its place, says so instead of writing a row."""
    there, every = tmp_path / "there", {}
    if change == "another":
        shutil.copytree(folder, there)
        (there / "recipe.yaml").write_text((there / "recipe.yaml").read_text() + "# changed\n")
        record = json.loads((there / "ddhub.json").read_text())
        content = (there / "recipe.yaml").read_bytes()
        record["files"]["recipe.yaml"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        (there / "ddhub.json").write_text(json.dumps(record))
    monkeypatch.setattr(jobs, "run_all", lambda given, engine, **named: every.update(given))
    shard = Resources(threads=1, shard="0/2")  # which may leave rows to others
    asked = EvaluationRequest(str(there), hub.fetch_folder, "set", resources=shard)
    grid.evaluate(folders.read(folder), tmp_path / "rows", Grid(["convnet2_w8"], baselines=(), seeds=1), asked)
    ((path, job),) = every.items()
    fault = board.attempt_pickled(pickle.dumps(job), path)
    assert isinstance(fault, UserError) and socket.gethostname() in str(fault)
    said = {"gone": f"cannot build what the rows need: {there}: no such folder", "another": "not what was asked for"}
    assert said[change] in str(fault) and not path.exists()


def test_rows_of_killed_workers_equal_the_loops_to_the_bit(folder, tmp_path, monkeypatch, capfd):
    """`workers=2` with one worker killed in the middle gives the rows that one process gives."""
    asked = {"archs": ["convnet2_w8"], "seeds": 2, "threads": 1}
    api.evaluate(str(folder), out=tmp_path / "loop", **asked)
    team, claimed, start = [], tmp_path / "team" / "evaluation", workers.Worker.start

    def noted(index):
        team.append(start(index))
        return team[-1]

    def kill():
        waited(lambda: any(claimed.glob(".*.claim")))
        team[0].process.kill()

    monkeypatch.setattr(workers.Worker, "start", noted)
    killer = threading.Thread(target=kill)
    killer.start()
    api.evaluate(str(folder), out=tmp_path / "team", workers=2, **asked)
    killer.join()
    assert len(team) == 3 and "ended by SIGKILL; it is run again" in capfd.readouterr().err
    assert without_clock(tmp_path / "team") == without_clock(tmp_path / "loop")


def test_outputs_are_counted_as_they_come_with_the_time_that_is_left(tmp_path, capsys, monkeypatch):
    """By what they cost, whoever makes them; what was there before is counted and not worked for."""
    monkeypatch.setattr(progress, "LINE", 0.0)
    clock = Clock(monkeypatch, tally, progress)
    paths = [tmp_path / name for name in "abcde"]

    def slow(path):
        clock.sleep(0.5)
        path.touch()

    paths[0].touch()
    costs = dict(zip(paths, (100.0, 1.0, 1.0, 1.0, 41.0), strict=True))
    jobs.run_all(dict.fromkeys(paths, slow), name="rows", costs=costs)
    told = [(2, "eta 22s"), (3, "eta 21s"), (4, "eta 20s"), (5, "in 2s")]
    assert capsys.readouterr().err.splitlines() == [f"rows {n}/5 {20 * n}% | {rest}" for n, rest in told]


def test_one_output_is_not_counted(tmp_path, capsys):
    """The job itself says that it is done."""
    jobs.run_all({tmp_path / "a": lambda path: path.touch()})
    assert capsys.readouterr().err == ""


def test_workers_save_what_they_are_at_when_the_command_is_stopped(tmp_path):
    """They are asked to end before they are ended; the claims are given back."""
    script = (
        "import sys, pathlib\n"
        "from ddhub.base import jobs, log, stopping\n"
        "import some_jobs\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "log.to_stderr()\n"
        "with stopping.heeded():\n"
        "    jobs.run_all({folder / name: some_jobs.long for name in 'ab'}, jobs.Engine(workers=2))\n"
    )
    support = Path(__file__).parents[2] / "support"
    paths = os.pathsep.join([str(support), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    waited(lambda: len(list(tmp_path.glob("*.run/metrics.jsonl"))) == 2)
    process.terminate()
    told = process.communicate()[1]
    assert process.returncode != 0 and "saved at step" in told
    assert {path.parent.name for path in tmp_path.glob("?.run/*.pt")} == {"a.run", "b.run"}
    assert list(tmp_path.glob(".*.claim")) == []


def test_a_stop_right_after_an_output_says_where_it_goes_on(tmp_path):
    """The signal comes while the job still runs, and its output is there already."""

    def stopped_late(path):
        path.write_text("")
        signal.raise_signal(signal.SIGTERM)

    said = []
    with pytest.raises(stopping.Stopped), stopping.heeded():
        try:
            jobs.run_all({tmp_path / "a": stopped_late})
        finally:
            said.append(stopping.last_words())
    assert said == ["stopped; the same command goes on with what is left"]


def test_a_stopped_command_says_where_it_goes_on_only_where_it_does(tmp_path):
    """Not before anything was done; after an output, or with one that was there, it is with what is left."""
    paths = [tmp_path / "a", tmp_path / "b"]
    with stopping.heeded():
        assert stopping.last_words() == "stopped"
        jobs.run_all({paths[0]: lambda path: path.write_text("")})
        assert stopping.last_words() == "stopped; the same command goes on with what is left"
    with stopping.heeded():
        assert stopping.last_words() == "stopped"
        jobs.run_all({path: lambda path: path.write_text("") for path in paths[:1]})
        assert stopping.last_words() == "stopped; the same command goes on with what is left"
