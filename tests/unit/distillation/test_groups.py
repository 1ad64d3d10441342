"""Groups: however many processes make them, and whoever dies, the same set comes out; each is a distillation apart."""

import json
import os
import pickle
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from processes import Chosen, distill
from safetensors.torch import load_file
from sets import TINY, payload, rewrite

import ddhub
from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest
from ddhub.base import files, jobs
from ddhub.base.errors import UserError
from ddhub.base.jobs import board
from ddhub.base.resources import Resources
from ddhub.cli import app
from ddhub.data import held_out
from ddhub.distillation import groups, packaging, pipeline, recipes
from ddhub.distillation.methods.dm import loop as dm
from ddhub.reports import verify
from ddhub.training import device, teachers
from ddhub.training.loop import Run

pytestmark = pytest.mark.slow

TWO = [*TINY, "ipc=4", "groups=2"]
BARE = ["teachers={arch: convnet2_w8, count: 0}", "labels.form=hard", "method={name: random}"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache that all runs of this file share, as processes and machines have to."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def shared_home(sandbox, home, monkeypatch):
    monkeypatch.setenv("DDHUB_HOME", str(home))
    groups.rebuild.cache_clear()


@pytest.fixture(scope="module")
def made(home, tmp_path_factory):
    """A set of two groups, made in one loop. Not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(home))
        api.distill("digits_ipc1", out=folder, overrides=TWO, threads=1)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A copy of it, to change."""
    return Path(shutil.copytree(made, tmp_path / "set"))


def task_of(tmp_path, *overrides):
    """The task of a recipe without teachers."""
    found = recipes.read("digits_ipc1", [*BARE, *overrides])
    return pipeline.prepare(found, tmp_path / "out", Resources(threads=1), 120)[0]


@pytest.mark.parametrize("method", ["apm", "dm"])
def test_groups_know_how_many_they_are(tmp_path, method):
    """So that an image moves by its part of the mean over all groups, as it would if they were made together."""
    shared = task_of(tmp_path, "ipc=4", "groups=2", f"method={{name: {method}, iterations: 1}}")
    assert (shared.parts, shared.group(0, 1).parts, shared.group(1, 1).parts) == (1, 2, 2)


def test_distribution_matching_of_groups(tmp_path):
    """One of two groups makes half the step that the same images make alone."""
    alone = task_of(tmp_path, "method={name: dm, iterations: 1, arch: convnet2_w8, real: 8}")
    steps = []
    for parts in (1, 2):
        moved = dm.distill(replace(alone, parts=parts), Run(tmp_path / str(parts), "distill")).images
        steps.append(moved - alone.start("real")[0])
    assert steps[0].abs().max() > 0 and torch.allclose(steps[0], 2 * steps[1], atol=1e-6)


def test_every_reader_sees_the_groups(made):
    """In the files, the manifest, the card and the three ways to read a set; and nothing in it is at fault."""
    expected = [0] * 20 + [1] * 20
    assert verify.faults(made) == []
    table = datasets.load_dataset(str(made), split="train")
    assert table.features["group"] == datasets.Value("int16") and list(table["group"]) == expected
    assert folders.read(made).groups.tolist() == expected
    assert ddhub.load(str(made)).groups.tolist() == expected
    record = manifest.read(made)
    assert (record.ipc, record.groups, record.counts_of_groups, record.merged) == (4, 2, [[2] * 10] * 2, None)
    assert np.bincount(table["label"]).tolist() == [4] * 10
    assert "`group` | the number of the independently made group, 0 to 1" in (made / "README.md").read_text()
    assert "which of the 2 groups an image is of" in api.export(made, "mtt", made.parent / "mtt").to_dict()["left_out"]


def test_the_manifest_adds_up_what_groups_took(made):
    """Seconds of distilling are their sum; threads of a group are there beside those of the rest."""
    every = [groups.read(path) for path in sorted((made / ".ddhub" / "groups").glob("*.safetensors"))]
    record = manifest.read(made).made
    assert len(every) == 2
    assert record.phases["distill"] == pytest.approx(sum(group.seconds for group in every), abs=0.06)
    assert record.decisions["group_threads"] == 1
    assert record.peak_bytes >= max(group.peak_bytes for group in every) > 0
    lines = [(made / ".ddhub" / "groups" / f"group-000{n}.jsonl").read_text() for n in (0, 1)]
    assert [json.loads(text.splitlines()[-1])["step"] for text in lines] == [30, 30]
    assert not list((made / ".ddhub" / "groups").glob("*.run"))


def test_worker_processes_make_the_same_set(made, tmp_path, monkeypatch):
    """`--workers 2`, each with one thread: teachers and groups are both theirs."""
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(teachers.Lessons, "give", lambda *_: pytest.fail("trained here"))  # in this process alone
    api.distill("digits_ipc1", out=tmp_path / "team", overrides=TWO, threads=1, workers=2)
    assert payload(tmp_path / "team") == payload(made)


def test_a_group_that_was_killed_goes_on_from_its_checkpoint(made, tmp_path, home, capfd):
    """kill -9 in the middle of the second group: the first is kept, and the set is that of an unbroken run."""
    out = tmp_path / "set"
    folder = out / ".ddhub" / "groups"
    chosen = Chosen("after a rename", 1, named="group_1-*5.pt")
    assert distill(out, TWO, home, chosen) == -signal.SIGKILL
    assert (folder / "group-0000.safetensors").exists() and not (folder / "group-0001.safetensors").exists()
    before = (folder / "group-0000.safetensors").stat().st_mtime_ns
    capfd.readouterr()
    api.distill("digits_ipc1", out=out, overrides=TWO, threads=1)
    assert "group 1: resuming at step " in capfd.readouterr().err
    assert (folder / "group-0000.safetensors").stat().st_mtime_ns == before
    assert payload(out) == payload(made)


def test_shards_make_it_in_turn_and_the_last_one_packages(made, tmp_path):
    """The first says what is missing and what finishes; that command, typed as it is, does."""
    out, settings = tmp_path / "in turn", [f"--set={text}" for text in TWO]
    asked = ["distill", "digits_ipc1", "--out", str(out), "--threads", "1", *settings]
    first = CliRunner().invoke(app.main, [*asked, "--shard", "0/2"])
    assert first.exit_code == 0 and f"{out}: done here; missing groups: 1\n" in first.stdout
    assert not (out / "ddhub.json").exists() and verify.faults(out)
    as_json = CliRunner().invoke(app.main, [*asked, "--shard", "0/2", "--json"])
    told = json.loads(as_json.stdout)
    assert (told["folder"], told["missing"]) == (str(out), [1]) and f"next: {told['next']}" in first.stdout
    finishing = CliRunner().invoke(app.main, shlex.split(told["next"])[1:])
    assert finishing.exit_code == 0 and f"artifact: {out}" in finishing.stdout
    assert payload(out) == payload(made)


def test_torchrun_is_a_shard(tmp_path, monkeypatch):
    """Its variables say which groups are this process's."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = api.distill("digits_ipc1", out=tmp_path / "set", overrides=[*BARE, "ipc=3", "groups=3"], threads=1).to_dict()
    assert told["missing"] == [0, 2]


def test_processes_on_one_folder_share_the_groups_and_one_of_them_packages(tmp_path, monkeypatch):
    """The same command twice at once: nothing is made twice."""
    made, packaged = [], []
    work, package = groups.work, packaging.package
    monkeypatch.setattr(groups, "work", lambda shared, number, path: (made.append(number), work(shared, number, path)))
    monkeypatch.setattr(packaging, "package", lambda *given: (packaged.append(1), package(*given)))
    found = recipes.read("digits_ipc1", [*BARE, "ipc=6", "groups=6", "evaluate={epochs: 1, packaging_seeds: 1}"])
    returned = []

    def run():
        returned.append(groups.make(found, tmp_path / "set", resources=Resources(threads=1)))

    both = [threading.Thread(target=run) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert returned == [[], []] and sorted(made) == list(range(6)) and packaged == [1]
    assert folders.read(tmp_path / "set").groups.tolist() == [n for n in range(6) for _ in range(10)]


@pytest.mark.parametrize(("ipc", "count"), [(4, 2), (6, 3), (5, 5), (12, 1), (12, 4)])
def test_no_real_image_starts_two_groups(tmp_path, ipc, count):
    """The groups split one draw, the one that a single set of that size starts from."""
    task = task_of(tmp_path, f"ipc={ipc}", f"groups={count}")
    parts = [task.group(number, 1) for number in range(count)]
    rows = torch.cat([part.initial for part in parts])
    drawn = held_out.stratified(task.source.labels[task.training], task.source.classes, ipc, 0, "init")
    assert sorted(rows.tolist()) == sorted(task.training[drawn].tolist()) and len(set(rows.tolist())) == 10 * ipc
    for part in parts:
        assert (part.recipe.ipc, part.recipe.groups) == (ipc // count, 1)
        images, labels = part.start("real")
        assert labels.tolist() == [label for label in range(10) for _ in range(ipc // count)]
        assert torch.equal(images, task.preprocess.inputs(task.source.images[part.initial]))


def test_groups_draw_apart(tmp_path):
    """Noise, students, batches and teachers all come from the seed of a group."""
    task = task_of(tmp_path, "ipc=4", "groups=2")
    first, second = task.group(0, 1), task.group(1, 1)
    assert len({task.recipe.seed, first.recipe.seed, second.recipe.seed}) == 3
    assert first.recipe.seed == task.group(0, 1).recipe.seed
    assert not torch.equal(first.start("noise")[0], second.start("noise")[0])
    other = task_of(tmp_path / "other", "ipc=4", "groups=2", "seed=1")
    assert other.group(0, 1).recipe.seed != first.recipe.seed


def test_groups_ask_their_teachers_in_float32(made, tmp_path):
    """As a single run does, whatever precision they distill in: the logits of teachers are cached for all."""
    found = recipes.read("digits_ipc1", TWO)
    task = pipeline.prepare(found, tmp_path / "out", Resources(threads=1, precision="bfloat16"), 120)[0]
    group = task.group(0, 1)
    assert task.teachers.network.decisions.precision == "float32"
    assert (group.decisions.precision, group.teachers.network.decisions.precision) == ("bfloat16", "float32")


def test_one_group_is_what_it_was_before_there_were_several(tmp_path):
    """The hash of its recipe, the images that it starts from, and no column more."""
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text("name: fixed\nipc: 1\nsource: {dataset: digits}\nmethod: {name: random}\n")
    assert recipes.read(str(fixed)).hash == "59b26ab77b25d91a6244c89a1b958dcf4ffd3611f3e826bc8c03b8f50f8d2171"
    task = task_of(tmp_path, "ipc=3")
    drawn = held_out.stratified(task.source.labels[task.training], task.source.classes, 3, 0, "init")
    images, labels = task.start("real")
    assert torch.equal(images, task.preprocess.inputs(task.source.images[task.training[drawn]]))
    assert torch.equal(labels, task.source.labels[task.training[drawn]])
    api.distill("digits_ipc1", out=tmp_path / "one", overrides=[*BARE, "evaluate={epochs: 1}"], threads=1)
    assert "group" not in datasets.load_dataset(str(tmp_path / "one"), split="train").features
    assert folders.read(tmp_path / "one").groups is None


@pytest.mark.parametrize(
    ("count", "told"), [(3, "groups: 3 does not divide ipc 4; --set groups=2 does"), (0, "groups: ")]
)
def test_groups_that_do_not_come_out_even_are_refused(count, told):
    """With what to type."""
    with pytest.raises(UserError, match=told):
        recipes.read("digits_ipc1", ["ipc=4", f"groups={count}"])


@pytest.mark.parametrize("asked", [{"shard": "0/2"}, "torchrun"], ids=str)
def test_one_group_is_for_one_process(asked, tmp_path, monkeypatch):
    """Said before anything is read."""
    if asked == "torchrun":
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="groups: 1, so one process makes the set") as caught:
        api.distill("digits_ipc1", out=tmp_path / "set", **({} if asked == "torchrun" else asked))
    assert "--set groups=2" in str(caught.value) and not (tmp_path / "set").exists()


def test_a_machine_with_other_teachers_is_refused(made, copied):
    """Groups of one set learn from the same ones."""
    (copied / "ddhub.json").unlink()
    settled = copied / ".ddhub" / "groups.json"
    settled.write_text(json.dumps({**json.loads(settled.read_text()), "teachers": ["another"]}))
    with pytest.raises(UserError, match="begun with other teachers than those in") as caught:
        api.distill("digits_ipc1", out=copied, overrides=TWO, threads=1)
    assert "let DDHUB_HOME be one folder" in str(caught.value)


def test_a_groups_threads_are_those_that_it_was_begun_with(tmp_path, capfd, monkeypatch):
    """Whoever goes on; workers share the machine's, a Ray task has one."""
    monkeypatch.setattr(device, "OWN_THREADS", 8)
    task = task_of(tmp_path, "ipc=2", "groups=2")
    assert groups.threads_each(3, task.decisions.threads, jobs.Engine(workers=4)) == 3
    assert groups.threads_each(None, task.decisions.threads, jobs.Engine(workers=4)) == 2
    assert groups.threads_each(None, task.decisions.threads, jobs.Engine(ray="local")) == 1
    assert groups.threads_each(None, task.decisions.threads, jobs.Engine()) == task.decisions.threads
    assert groups._settled(tmp_path, 2, []) == 2
    assert groups._settled(tmp_path, 4, []) == 2
    assert "with 2 threads each" in capfd.readouterr().err
    assert task.group(0, 2).decisions == replace(task.decisions, threads=2)


def test_a_process_takes_its_own_gpu(monkeypatch):
    """Frozen decisions say some GPU; LOCAL_RANK says which, where there are several."""
    frozen = device.Decisions("cuda", 2)
    assert device.on_own_device(frozen) == frozen
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.on_own_device(frozen).device == "cuda:1"
    assert device.on_own_device(device.Decisions("cpu", 2)).device == "cpu"


@pytest.fixture
def job(made, tmp_path, home):
    """The second group of that set as another machine gets it, which sees nothing of the set's folder."""
    found = recipes.read("digits_ipc1", TWO)
    shared, _ = groups.begin(found, tmp_path / "here", Resources(threads=1), 120, jobs.Engine())
    elsewhere = replace(shared.request, out=tmp_path / "not here")
    return pickle.dumps(list(groups.jobs_of(replace(shared, request=elsewhere)).values())[1])


def test_a_machine_that_does_not_see_the_folder_makes_the_same_group(job, made, tmp_path, home):
    """Its checkpoints lay in the cache, its output where it is told, and nothing where the folder would be."""
    assert len(job) < 10_000
    path = tmp_path / "group-0001.safetensors"
    assert board.attempt_pickled(job, path) is None
    ours, theirs = load_file(made / ".ddhub" / "groups" / path.name), load_file(path)
    assert all(torch.equal(ours[name], theirs[name]) for name in ("images", "labels"))
    assert path.with_suffix(".jsonl").exists() and not (tmp_path / "not here").exists()
    assert [left.name for left in (home / "groups").glob("*/.ddhub/groups/*")] == ["group-0001.lock"]


@pytest.mark.parametrize("change", ["no", "another"])
def test_a_machine_without_the_teachers_says_so(job, tmp_path, monkeypatch, home, change):
    """It does not train others in their place."""
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "theirs"))
    if change == "another":
        for path in (home / "teachers").glob("*.safetensors"):
            files.write_bytes(tmp_path / "theirs" / "teachers" / path.name, b"others")
    fault = board.attempt_pickled(job, tmp_path / "group-0001.safetensors")
    assert isinstance(fault, UserError) and socket.gethostname() in str(fault)
    assert f"has {change} teacher" in str(fault) and "let DDHUB_HOME be one folder" in str(fault)
    assert not (tmp_path / "group-0001.safetensors").exists()


def test_a_damaged_group_is_named(copied):
    """With what makes it again."""
    path = copied / ".ddhub" / "groups" / "group-0001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    (copied / "ddhub.json").unlink()
    with pytest.raises(UserError, match=r"group-0001\.safetensors: not a group's file") as caught:
        api.distill("digits_ipc1", out=copied, overrides=TWO, threads=1)
    assert f"rm {path}" in str(caught.value)


WRONG = {
    "swapped": (lambda group: group.flip(0), "column 'group' is not in order"),
    "outside": (lambda group: group * 2, "column 'group' has values outside 0..1"),
    "lopsided": (lambda group: (torch.arange(40) >= 15).long(), "group 0 has not 2 images of every class"),
    "missing": (lambda group: None, "column 'group' is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_group_column_is_a_fault(copied, name):
    """Whatever the hashes say."""
    change, told = WRONG[name]
    rewrite(copied, lambda rows: replace(rows, group=change(rows.group)))
    assert any(told in fault for fault in verify.faults(copied))


def test_a_group_column_that_the_manifest_does_not_promise_is_a_fault(copied):
    """Nor are groups that the recipe does not name."""
    record = json.loads((copied / "ddhub.json").read_text())
    (copied / "ddhub.json").write_text(json.dumps({**record, "groups": 1}))
    found = verify.faults(copied)
    assert any("column 'group' is there, which the manifest does not say" in fault for fault in found)
    assert any("recipe.yaml: groups is not the manifest's" in fault for fault in found)


def test_more_parts_than_images_are_a_fault(copied):
    """A manifest contradicts itself."""
    record = json.loads((copied / "ddhub.json").read_text())
    (copied / "ddhub.json").write_text(json.dumps({**record, "groups": 3}))
    assert any("groups: do not divide ipc" in fault for fault in verify.faults(copied))


def test_a_group_whose_node_died_goes_on_elsewhere(tmp_path, home):
    """On a Ray cluster: the fresh node resumes at the checkpoint, and the set is that of a loop."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    longer = [*TWO, "method.iterations=80"]
    script = Path(__file__).parents[2] / "support" / "group_nodes.py"
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), str(tmp_path), *longer]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    assert ": resuming at step " in done.stderr
    api.distill("digits_ipc1", out=tmp_path / "loop", overrides=longer, threads=1)
    assert payload(tmp_path / "set") == payload(tmp_path / "loop")
