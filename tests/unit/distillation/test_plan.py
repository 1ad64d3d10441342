"""What a run will take is told before it runs, from fits that are measured here, and compared with what it took."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from PIL import Image

from ddhub import api
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.base.resources import Resources
from ddhub.cli.app import main
from ddhub.data import catalog, source
from ddhub.data.catalog import Shape
from ddhub.distillation import pipeline, recipes
from ddhub.distillation.methods import apm
from ddhub.distillation.plan import costs, forecast, history, planning, trying
from ddhub.distillation.plan import work as work_module
from ddhub.distillation.plan.work import Outline, Rough, Work
from ddhub.training import device

pytestmark = pytest.mark.slow

TINY = ["teachers={arch: convnet2_w8, count: 1, epochs: 2}", "method.iterations=2", "evaluate.packaging_seeds=1"]
TINY += ["method.student={arch: convnet2_w8, epochs: 4, lr: 0.02}", "evaluate.epochs=2"]
RATES = costs.Rates(flops=1e11, bytes=1e10, operation=1e-5)


@pytest.fixture
def steady(monkeypatch):
    """A machine that always does as much."""
    monkeypatch.setattr(costs, "rates", lambda *_: RATES)
    monkeypatch.setattr(costs, "_libraries", lambda: 10**8)


@pytest.fixture
def brief(monkeypatch):
    """Measurements of a few calls, and of none of the libraries that a run loads late."""
    monkeypatch.setattr(costs, "SERIES", 0.02)
    monkeypatch.setattr(costs, "ROUNDS", 1)
    monkeypatch.setattr(trying, "LIBRARIES", ())


def row(found, name):
    """A phase of a plan."""
    return next(each for each in found["phases"] if each["phase"] == name)


@pytest.mark.parametrize("name", files.shipped_recipes())
def test_every_shipped_recipe_is_planned_without_its_source(name, monkeypatch):
    """Nothing is opened; every phase has a time, and the sum is theirs."""
    monkeypatch.setattr(source, "_load", lambda *_: pytest.fail("a plan reads nothing"))
    found = api.plan(name, threads=1).to_dict()
    assert [each["phase"] for each in found["phases"]] == ["source", "teachers", "distill", "packaging", "memorisation"]
    assert all(each["seconds"] > 0 and each["peak_bytes"] > 0 and each["measured"] is None for each in found["phases"])
    assert found["sum"]["seconds"] == pytest.approx(sum(each["seconds"] for each in found["phases"]))
    assert found["sum"]["peak_bytes"] == max(each["peak_bytes"] for each in found["phases"])
    (after,) = found["evaluating"]
    assert after["seconds"] > 0 and after["rows"] >= 2 and after["protocol"] == "native"
    assert not (files.home() / "plan").exists()


def test_a_folder_of_pictures_is_counted(tmp_path, steady):
    """A recipe for one's own pictures needs no option: names and headers tell how many there are."""
    for number in range(24):
        (tmp_path / "leaves" / ["elm", "oak"][number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16)).save(tmp_path / "leaves" / ["elm", "oak"][number % 2] / f"{number}.png")
    mine = [f"source={{dataset: {tmp_path / 'leaves'}, resolution: 8, hold_out: 0.25}}", "ipc=1"]
    found = api.plan("digits_ipc10", overrides=mine, threads=1).to_dict()["source"]
    assert (found["images"], found["classes"], found["side"]) == (18, 2, 8)


def test_a_try_before_a_choice_measures_what_counts_once(steady, brief, monkeypatch):
    """What takes a twentieth of the time or more, unless it was measured here before."""
    tried, measure = [], costs.measure
    monkeypatch.setattr(trying, "BRIEF", 0.02)
    monkeypatch.setattr(
        costs, "measure", lambda works, *rest, **how: tried.append(works[0].name) or measure(works, *rest, **how)
    )
    for _ in range(2):
        planning.try_out(recipes.read("digits_ipc1", TINY), Resources(threads=1), planning.SourceSize())
    assert 0 < len(tried) == len(set(tried)) < 5
    rows = api.plan("digits_ipc1", overrides=TINY, threads=1).to_dict()["phases"]
    assert sum(each["seconds"] for each in rows if each["measured"]) > 0.8 * sum(each["seconds"] for each in rows)


def test_what_is_known_of_digits_is_what_they_are():
    """The table's figures, against the source itself; the other sources cannot be read here."""
    spec = recipes.read("digits_ipc1").source
    assert work_module.shape(spec) == source.load_train(spec)[0].shape


def test_a_source_that_nobody_knows_asks_for_its_shape():
    """The message names the options that are missing, and with them there is a plan."""
    mine = ["source={dataset: ./leaves}"]
    with pytest.raises(UserError, match="not known before it is read") as caught:
        api.plan("digits_ipc10", overrides=mine)
    assert caught.value.next == "--images N --classes K --side S"
    with pytest.raises(UserError) as caught:
        api.plan("digits_ipc10", overrides=["source={dataset: ./leaves, resolution: 16}"], images=900)
    assert caught.value.next == "--classes K"
    found = api.plan("digits_ipc10", overrides=mine, images=900, classes=3, side=16, threads=1).to_dict()
    assert found["source"]["side"] == 16 and found["source"]["training"] == 810 and found["synthetic"] == 30


def test_a_part_of_a_known_source_is_not_known():
    """How many images `train[:10%]` has is asked for."""
    with pytest.raises(UserError) as caught:
        api.plan("cifar10_ipc50", overrides=["source.train='train[:10%]'"])
    assert caught.value.next == "--images N"


def test_more_work_takes_longer(steady):
    """Twice the updates take twice as long, and more images are dearer to package."""
    once, twice = (
        api.plan("cifar10_ipc50", overrides=[f"method.iterations={n}"], threads=1).to_dict() for n in (300, 600)
    )
    bare = [row(found, "distill")["seconds"] - row(found, "distill")["compiling"] for found in (once, twice)]
    assert bare[1] == pytest.approx(2 * bare[0])
    few, many = (row(api.plan(f"imagenet_ipc{ipc}", threads=1).to_dict(), "packaging") for ipc in (10, 100))
    assert many["seconds"] > few["seconds"] and many["disk_bytes"] > few["disk_bytes"]


def test_a_blend_needs_a_file_of_its_own(steady):
    """Its images lie beside the moved ones and the start."""
    whole, part = (api.plan("cifar10_ipc50", overrides=[f"method.blend={share}"], threads=1) for share in (1, 0.5))
    more = row(part.to_dict(), "distill")["disk_bytes"] - row(whole.to_dict(), "distill")["disk_bytes"]
    assert more == 4 * 500 * 3 * 32 * 32


def test_views_and_families_of_students_are_counted(steady):
    """Two views are twice the passes of an update; of two families each is trained at every second refresh."""

    def works(*overrides):
        found = api.plan(
            "digits_ipc10", overrides=["method.iterations=40", "method.refresh_every=4", *overrides], threads=1
        ).to_dict()
        return [each for each in row(found, "distill")["works"] if each["name"] in ("updates", "students")]

    def total(found, name):
        return sum(each["calls"] for each in found if each["name"] == name)

    bare, seen = works(), works("method.views=2")
    assert total(seen, "updates") == 2 * total(bare, "updates") and total(seen, "students") == total(bare, "students")
    drawn = works("method.student.arch=[convnet2_w32, convnet2_w8]")
    assert len(drawn) == 4 and {each["calls"] for each in drawn if each["name"] == "updates"} == {20}
    assert total(drawn, "students") == total(bare, "students")
    both = works("method.student.arch=[convnet2_w32, convnet2_w8]", "method.students=2")
    assert total(both, "updates") == 40 and total(both, "students") == 2 * total(bare, "students")
    seconds = [
        sum(each["seconds"] for each in found if each["name"] == "updates")
        for found in (works("method.student.arch=convnet2_w8"), drawn, bare)
    ]
    assert seconds[0] < seconds[1] < seconds[2]


def test_evaluations_are_forecast_by_network_and_protocol(steady):
    """Each with the steps that it will take: the minimum for another family; and teachers that label every view."""
    asked = {"archs": ["convnet2_w32", "resnet18_w8"], "protocols": ["native", "dynamic", "rded"]}
    found = api.plan("digits_ipc10", **asked, threads=1)
    told = {(each.arch, each.protocol): {work.name: work for work in each.works} for each in found.evaluating}
    assert list(told) == [(arch, protocol) for arch in asked["archs"] for protocol in asked["protocols"]]
    calls = {key: works["trainings"].calls / 10 for key, works in told.items()}  # five seeds of set and random images
    assert calls["convnet2_w32", "native"] == 200 and calls["resnet18_w8", "native"] == 2000  # steps
    assert calls["convnet2_w32", "rded"] == calls["resnet18_w8", "rded"] == 300 * 2  # RDED's epochs, batches of 50
    views = told["resnet18_w8", "dynamic"]["labels of views"]
    assert views.images == 3 * told["resnet18_w8", "dynamic"]["trainings"].images  # by three teachers
    assert "labels of views" not in told["resnet18_w8", "native"]
    assert "<td>evaluate resnet18_w8, dynamic</td>" in found._repr_html_()


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"protocols": ["nativ"]}, "protocol 'nativ': unknown; did you mean 'native'?"),
        ({"archs": ["frozen:resnet18"]}, "a frozen backbone is only for `ddhub evaluate --archs`"),
        ({"archs": ["frozen:resnet18"]}, "next: convnet or resnet18 in its place"),
        (
            {"protocols": ["dynamic"], "overrides": ["teachers.count=0", "labels.form=hard"]},
            "dynamic: the recipe has no teachers",
        ),
    ],
)
def test_evaluations_that_cannot_be_forecast_are_refused(asked, fault, steady):
    with pytest.raises(UserError) as refused:
        api.plan("digits_ipc1_dm", **asked, threads=1)
    assert fault in str(refused.value)


def test_memory_grows_with_the_chunk_and_not_with_the_set(steady):
    """Of ImageNet, whose batches are 500 images however many there are."""

    def peak(ipc, chunk):
        settings = [f"method.chunk={chunk}", "method.student.batch=2"]  # students would be the larger part
        return row(api.plan(f"imagenet_ipc{ipc}", overrides=settings, threads=1).to_dict(), "distill")["peak_bytes"]

    assert peak(10, 100) < peak(10, 250) < peak(10, 500)
    assert peak(100, 100) == peak(10, 100)


def test_a_budget_is_kept_to_as_far_as_can_be_foretold(steady):
    """Chunk and micro-batch are the largest that fit; a smaller budget makes them smaller."""
    large, small = (
        api.plan("imagenet_ipc50", overrides=[f"memory={text}"], threads=1).to_dict() for text in ("4GB", "500MB")
    )
    assert 0 < small["decisions"]["chunk"] < large["decisions"]["chunk"] <= 500
    assert 0 < small["decisions"]["micro_batch"] < large["decisions"]["micro_batch"] <= 256


def test_groups_are_counted_and_shared_by_workers(steady):
    """Four groups by two workers: twice one group on the clock, four times in all."""
    found = api.plan("digits_ipc10", overrides=["ipc=8", "groups=4"], workers=2, threads=1).to_dict()
    group = row(found, "distill")
    assert group["seconds"] == pytest.approx(4 * group["each_seconds"])
    assert group["wall_seconds"] == pytest.approx(2 * group["each_seconds"])
    saved = sum(row(found, phase)["seconds"] - row(found, phase)["wall_seconds"] for phase in ("teachers", "distill"))
    assert found["sum"]["wall_seconds"] == pytest.approx(found["sum"]["seconds"] - saved)


def test_more_workers_than_cores_take_turns(steady, monkeypatch):
    """A machine of two cores does no more with ten processes than with two."""
    monkeypatch.setattr(device.os, "cpu_count", lambda: 2)
    found = api.plan("digits_ipc10", overrides=["groups=10"], workers=10, threads=1).to_dict()
    assert row(found, "distill")["wall_seconds"] == pytest.approx(row(found, "distill")["seconds"] / 2)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["memory=1MB"], "memory: micro_batch of one image takes more than the budget\n  next: --memory 0"),
        (["ipc=5000"], "ipc: 5,000 images per class of about 129\n  next: --set ipc=129"),
        (["labels.top_k=50"], "labels.top_k: 50 of 10 classes"),
    ],
)
def test_what_cannot_be_made_is_not_planned(steady, overrides, fault):
    """As distill would refuse it, before anything is read."""
    with pytest.raises(UserError) as refused:
        api.plan("digits_ipc10", overrides=overrides, threads=1)
    assert fault in str(refused.value)


def test_a_finished_run_is_never_refused_by_an_estimate():
    """A plan takes classes for equal; what was made of unequal ones can be noted all the same."""
    chosen, unequal = recipes.read("digits_ipc1", ["ipc=3", "source.validation=0.35"]), Shape(44, 10, 1, 8)
    outline = Outline(chosen, unequal, device.Decisions())  # as history.note makes it; 4 or 5 images a class leave 3
    assert outline.training // 10 < 3
    with pytest.raises(UserError, match="of about 2"):
        forecast.refuse_impossible(outline)


def test_teachers_are_shared_by_workers(steady):
    """Three teachers by two workers: two of them on the clock, one after the other; what is one job stays one."""
    one, two = (
        api.plan("digits_ipc1", overrides=["teachers.count=3"], workers=workers, threads=1).to_dict()
        for workers in (1, 2)
    )
    alone, shared = row(one, "teachers"), row(two, "teachers")
    work = alone["seconds"] - alone["compiling"]
    assert shared["seconds"] == pytest.approx(alone["seconds"] + alone["compiling"])
    assert shared["wall_seconds"] == pytest.approx(work * 2 / 3 + alone["compiling"])
    assert row(two, "distill")["wall_seconds"] == row(two, "distill")["seconds"] == row(one, "distill")["seconds"]


def test_a_method_that_does_not_say_what_it_does_is_left_out(steady, monkeypatch):
    """And the plan says so."""
    monkeypatch.setattr(apm, "METHOD", replace(apm.METHOD, work=None))
    found = api.plan("digits_ipc1", threads=1).to_dict()
    assert row(found, "distill")["seconds"] is None and found["not_told"] == ["distill"]
    assert found["sum"]["seconds"] > 0
    assert any("declares no work" in text for text in forecast.sentences(found))


class Clock:
    """A machine whose seconds are a formula: 2 to begin with, 0.3 a series, 0.02 a call, 0.001 an image."""

    def __init__(self):
        self.now, self.tried = 0.0, set()

    def __call__(self):
        return self.now

    def run(self, images, calls):
        compiling = 0 if images in self.tried else 2
        self.tried.add(images)
        self.now += compiling + 0.3 + calls * (0.02 + 0.001 * images)


def made_up(clock, at_once=64, **changes):
    """A work of that machine."""
    rough = Rough(flops=1, moved=1, kept=1, operations=1)
    return replace(Work("made up", {"work": "made up"}, 5, 500, 500 * at_once, at_once, clock.run, rough), **changes)


def test_a_fit_finds_what_the_measurements_were_made_of(steady):
    """And is found again for the same machine, threads and work, for no others."""
    clock, decisions = Clock(), device.Decisions()
    work = made_up(clock)
    fit = costs.measure([work, made_up(clock, at_once=10)], decisions, clock)
    assert clock.tried == {10, 64}
    assert (fit.series, fit.call, fit.image) == pytest.approx((0.3, 0.02, 0.001))
    assert fit.compiling == pytest.approx(2) and fit.largest == 64
    assert fit.seconds(5, 500, 32000) == pytest.approx(5 * 0.3 + 500 * 0.02 + 32000 * 0.001)
    assert costs.stored(work, decisions) == fit
    assert costs.stored(work, replace(decisions, threads=2)) is None
    assert costs.stored(replace(work, key={"work": "another"}), decisions) is None
    kept = next((files.home() / "plan" / "fits").iterdir())
    kept.write_text("{")
    assert costs.stored(work, decisions) is None


def test_a_call_that_would_take_long_is_tried_with_fewer_images(steady):
    """The line goes on to the images that there are."""
    clock = Clock()
    slow = Rough(flops=RATES.flops / 10, moved=0, kept=1, operations=0)  # a tenth of a second an image
    fit = costs.measure([made_up(clock, at_once=1000, rough=slow)], device.Decisions(), clock)
    assert max(clock.tried) == 5 and fit.largest == 5
    assert fit.image == pytest.approx(0.001)


def test_bytes_are_a_line_through_both_sizes():
    """Never one that falls."""
    points = [costs.Point(1, 1, 1.0)]
    fit = costs.fitted(points, [(10, 1100.0), (20, 1200.0)])
    assert (fit.fixed, fit.each, fit.bytes(100)) == (1000, 10, 2000)
    assert costs.fitted(points, [(10, 1200.0), (20, 1100.0)]).bytes(100) == 1100
    assert costs.fitted(points, [(1, 500.0)]).bytes(100) == 500


def test_a_measured_plan_is_compared_with_the_run(brief, tmp_path):
    """From `plan --measure` by way of `distill` to the sentence on past predictions."""
    settings = [part for text in TINY for part in ("--set", text)]
    measured = CliRunner().invoke(main, ["plan", "digits_ipc1", "--threads", "1", "--measure", "--json", *settings])
    found = json.loads(measured.stdout)
    assert found["sum"]["measured"] and all(each["measured"] for each in found["phases"])
    assert found["rates"] is None and found["sum"]["rough"] == [] and found["past"]["runs"] == 0
    assert {work["name"] for work in row(found, "distill")["works"]} == {"students", "their labels", "updates"}
    api.distill("digits_ipc1", out=tmp_path / "set", overrides=TINY, threads=1)
    entry = json.loads((files.home() / "plan" / "history.jsonl").read_text())
    assert entry["predicted"].keys() == entry["actual"].keys() == set(history.COMPARED)
    assert entry["predicted"]["distill"] == pytest.approx(row(found, "distill")["seconds"], abs=0.001)
    assert entry["peak_bytes"] > 10**7 and entry["predicted_peak_bytes"] > 10**7
    again = CliRunner().invoke(main, ["plan", "digits_ipc1", "--threads", "1", *settings])
    assert "past predictions: 1 run, actual/predicted seconds median" in again.stdout
    assert "measured 20" in again.stdout and "rough" not in again.stdout


def test_teachers_of_the_cache_are_not_compared(brief, tmp_path):
    """How long they took is another run's story."""
    api.plan("digits_ipc1", overrides=TINY, threads=1, measure=True)
    for name in ("first", "second"):
        api.distill("digits_ipc1", out=tmp_path / name, overrides=[*TINY, f"name={name}"], threads=1)
        seconds = next((files.home() / "teachers").glob("*.seconds.json"))
        seconds.write_text("1000")
    first, second = map(json.loads, (files.home() / "plan" / "history.jsonl").read_text().splitlines())
    assert "teachers" in first["actual"] and "teachers" not in second["actual"]


def test_groups_are_compared_in_all(brief, tmp_path):
    """Their seconds; what their processes held is not known."""
    several = [*TINY, "ipc=2", "groups=2"]
    api.plan("digits_ipc1", overrides=several, threads=1, measure=True)
    made = api.distill("digits_ipc1", out=tmp_path / "set", overrides=several, threads=1).to_dict()
    entry = json.loads((files.home() / "plan" / "history.jsonl").read_text())
    assert entry["actual"]["distill"] == pytest.approx(made["manifest"]["made"]["phases"]["distill"], abs=0.06)
    assert entry["peak_bytes"] is None
    assert history.past("cpu", "apm")["peak_bytes"] is None


def test_a_history_that_cannot_be_written_fails_nothing(steady):
    """Nor is one looked for where nothing was ever measured."""
    task = SimpleNamespace(
        recipe=recipes.read("digits_ipc1"),
        source=source.load_train(recipes.read("digits_ipc1").source)[0],
        decisions=pipeline.decided(recipes.read("digits_ipc1"), catalog.SHAPES["digits"], Resources(threads=1)),
    )
    seconds = dict.fromkeys(history.COMPARED, 1.0)
    history.note(task, seconds, history.Watch())
    assert not (files.home() / "plan").exists()
    outline = Outline(task.recipe, catalog.SHAPES["digits"], task.decisions)
    for phase in forecast.phases(outline).values():
        for work in phase.works:
            fit = {"key": costs.key(work, task.decisions), "fit": {**vars(costs.rough(work, task.decisions))}}
            files.write_json(costs._path(work, task.decisions), fit)
    (files.home() / "plan" / "history.jsonl").mkdir()
    history.note(task, seconds, history.Watch())
    (files.home() / "plan" / "history.jsonl").rmdir()
    history.note(task, seconds, history.Watch())
    assert history.past("cpu", "apm")["runs"] == 1


def test_past_predictions_are_this_machines_and_where_enough_the_methods():
    """Median and range of actual over predicted; a torn line and other machines do not count."""

    def line(actual, method="apm", **changes):
        told = {"method": method, "machine": costs.machine("cpu"), "predicted": {"distill": 10.0, "packaging": 10.0}}
        peaks = {"predicted_peak_bytes": 100, "peak_bytes": 150}
        return json.dumps({**told, "actual": {"distill": actual, "packaging": 10.0}, **peaks, **changes})

    elsewhere = line(1000.0, machine={"hardware": "abacus", "processor": None})
    lines = [line(10.0), line(30.0), line(20.0), line(90.0, method="dm"), elsewhere, '{"torn']
    (files.home() / "plan").mkdir(parents=True)
    (files.home() / "plan" / "history.jsonl").write_text("\n".join(lines))
    past = history.past("cpu", "apm")
    assert past["runs"] == 4 and past["seconds"] == {"median": 1.75, "low": 1.0, "high": 5.0}
    assert past["peak_bytes"]["median"] == 1.5
    assert past["of_method"]["runs"] == 3 and past["of_method"]["seconds"]["median"] == 1.5
    assert history.past("cpu", "dm")["of_method"] is None
    said = history.sentences(past)
    assert said[0].startswith("past predictions: 4 runs, actual/predicted seconds median 1.75 (1.00 to 5.00)")
    assert said[1].startswith("of apm: 3 runs, actual/predicted seconds median 1.50 (1.00 to 2.00)")


@pytest.mark.parametrize("method", ["dm", "random"])
def test_every_shipped_method_says_what_it_does(method, steady):
    """And its steps can be tried."""
    found = api.plan("digits_ipc1", overrides=[f"method.name={method}"], threads=1).to_dict()
    assert found["not_told"] == []
    outline = Outline(recipes.read("digits_ipc1", [f"method.name={method}"]), Shape(99, 10, 1, 8), device.Decisions())
    for work in forecast.phases(outline)["distill"].works:
        work.run(20, 2)
