"""Sets fed in the wrong space or class order are caught and named; good ones are fine, noise and ignorance never."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest
from ddhub.base import files
from ddhub.base.resources import Resources
from ddhub.data import preprocess, source
from ddhub.data.spec import SourceSpec
from ddhub.evaluation.probe import check, verdict
from ddhub.evaluation.probe.outcome import Outcome
from ddhub.evaluation.probe.verdict import SpaceReading
from ddhub.reports import headlines

pytestmark = pytest.mark.slow

MADE = [
    "teachers={arch: convnet2_w16, count: 1, epochs: 15, batch: 128}",
    "method={name: random}",
    "evaluate={epochs: 2, packaging_seeds: 1, seeds: 1}",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache, and in it the teachers of two good sets: `plain` and `whitened`, ten real digits of each class."""
    root = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(root / "home"))
        for name, zca in (("plain", "false"), ("whitened", "true")):
            overrides = [*MADE, f"name={name}", f"preprocess={{zca: {zca}}}"]
            api.distill("digits_ipc10", out=root / name, overrides=overrides, threads=1)
            api.export(root / name, "mtt", root / f"{name}_mtt")
    return root


@pytest.fixture
def cached(home, monkeypatch):
    """The cache that has teachers of the source."""
    monkeypatch.setenv("DDHUB_HOME", str(home / "home"))
    return home


def own():
    """The statistics that `plain` was made with."""
    split, training, _ = source.load_train(SourceSpec(dataset="digits"))
    return preprocess.fit(split.images, training, zca=False)


def bring(path, out, **told):
    """Import a stripped copy, and probe it."""
    api.import_set(path, out=out, source="digits", **told)
    return check.probe(folders.read(out), out / "probing")


def right():
    return {"mean": own().mean, "std": own().std}


def test_stripped_copies_that_are_fed_as_they_were_made_are_fine(cached, tmp_path):
    """With the right statistics, the right whitening."""
    plain = bring(cached / "plain_mtt", tmp_path / "a", **right())
    whitened = bring(cached / "whitened_mtt", tmp_path / "b", zca=True)
    assert (plain.verdict, whitened.verdict) == ("fine", "fine")
    assert plain.teacher.kind == "cached" and plain.next is None
    assert plain.spaces[0].recognised > 0.9 and plain.images == 100


def test_a_cached_teacher_of_a_package_that_is_gone_is_passed_over(cached, tmp_path, monkeypatch):
    """It ended every evaluation of a foreign set of its source."""
    monkeypatch.setenv("DDHUB_HOME", str(shutil.copytree(cached / "home", tmp_path / "home")))
    for path in (tmp_path / "home" / "teachers").glob("*-00.safetensors"):
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["ddhub"])
        gone = path.with_name(f"gone{path.name}")
        save_file(load_file(path), gone, {"ddhub": json.dumps({**facts, "arch": "gone"})})
        about = json.loads(path.with_suffix(".about.json").read_text())
        gone.with_suffix(".about.json").write_text(json.dumps({**about, "sha256": files.sha256(gone)}))
    found = bring(cached / "plain_mtt", tmp_path / "set", **right())
    assert (found.verdict, found.teacher.kind) == ("fine", "cached")


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.5,)), ((0.0,), (1.0,)), ((0.1307,), (0.2,)), ((0.9,), (0.1,)), ((0.3,), (0.01,))]
)
def test_wrong_mean_or_std_is_caught_and_named(mean, std, cached, tmp_path, capsys):
    """Also where a teacher that normalises by itself recognises every image: brightness and contrast betray it."""
    found = bring(cached / "plain_mtt", tmp_path / "set", mean=mean, std=std)
    assert found.verdict == "wrong space"
    assert "source's own mean and standard deviation" in found.sentence
    assert "--mean 0.30" in found.next and "--std 0.37" in found.next
    assert "WARNING: wrong space" in capsys.readouterr().err


def test_missing_whitening_is_caught_and_named(cached, tmp_path):
    """Whitened floats read as normalised ones, and the other way round."""
    missing = bring(cached / "whitened_mtt", tmp_path / "a", **right())
    assert missing.verdict == "wrong space" and "whitened by ZCA" in missing.sentence
    assert missing.next.endswith("with --zca")
    needless = bring(cached / "plain_mtt", tmp_path / "b", zca=True)
    assert needless.verdict == "wrong space" and "--no-zca --mean 0.30" in needless.next


def test_permuted_classes_are_caught_and_the_order_is_written(cached, tmp_path):
    """By labels in the files and by --classes; the file that is written for it makes it fine."""
    theirs = shutil.copytree(cached / "plain_mtt", tmp_path / "theirs")
    turned = (torch.load(theirs / "labels_best.pt") + 3) % 10
    torch.save(turned, theirs / "labels_best.pt")
    found = bring(theirs, tmp_path / "a", **right())
    assert found.verdict == "permuted classes" and found.order["3"] == "0" and len(found.order) == 10
    assert "'0' shows '7'" in found.sentence and "classes.txt" in found.next
    order = tmp_path / "a" / "probing" / "classes.txt"
    assert bring(theirs, tmp_path / "b", classes=str(order), **right()).verdict == "fine"
    swapped = tmp_path / "swapped.txt"
    swapped.write_text("".join(f"{name}\n" for name in "0124356789"))
    two = bring(cached / "plain_mtt", tmp_path / "c", classes=str(swapped), **right())
    assert two.verdict == "permuted classes" and two.order == {"3": "4", "4": "3"}


def test_two_sets_of_one_place_keep_their_verdicts(cached, tmp_path):
    """The second set's verdict, and its class order, took the place of the first's."""
    out, sets = tmp_path / "out", []
    for turn in (0, 3, 4):
        theirs = shutil.copytree(cached / "plain_mtt", tmp_path / f"theirs{turn}")
        torch.save((torch.load(theirs / "labels_best.pt") + turn) % 10, theirs / "labels_best.pt")
        sets.append(tmp_path / f"set{turn}")
        api.import_set(theirs, out=sets[-1], source="digits", **right())
    told = [check.probe(folders.read(each), out) for each in sets]
    kept = [Outcome.beside(out, manifest.identity(manifest.read(each).files)) for each in sets]
    assert [each.verdict for each in kept] == ["fine", "permuted classes", "permuted classes"]
    assert kept[1].order["3"] == "0" and kept[2].order["4"] == "0"
    orders = [path for path in out.glob("classes*.txt") if path.read_text().split()[3] in ("0", "9")]
    assert len(orders) == 2 and all(any(str(path) in each.next for each in told[1:]) for path in orders)


def test_both_wrong_is_said(cached, tmp_path):
    """Whitening is named, and the class order after it."""
    theirs = shutil.copytree(cached / "whitened_mtt", tmp_path / "theirs")
    torch.save((torch.load(theirs / "labels_best.pt") + 1) % 10, theirs / "labels_best.pt")
    found = bring(theirs, tmp_path / "set", **right())
    assert found.verdict in ("wrong space", "permuted classes") and found.order
    again = bring(theirs, tmp_path / "again", zca=True)
    assert again.verdict == "permuted classes"


@pytest.mark.parametrize(("count", "expected"), [(100, "unrecognised"), (10, "unknown")])
def test_noise_is_never_fine(count, expected, cached, tmp_path):
    """Ten images are too few to say even that."""
    for seed in range(3):
        theirs = tmp_path / f"theirs{seed}"
        theirs.mkdir()
        torch.save(
            torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)), theirs / "images_best.pt"
        )
        torch.save(torch.arange(10).repeat_interleave(count // 10), theirs / "labels_best.pt")
        assert bring(theirs, tmp_path / f"set{seed}", **right()).verdict in (expected, "unrecognised")


def test_without_a_teacher_nothing_is_known_and_probe_trains_one(home, tmp_path, capsys):
    """`unknown`, not `fine`; --probe says how long it will take, trains, and finds its teacher again."""
    api.import_set(home / "plain_mtt", out=tmp_path / "set", source="digits", mean=(0.5,), std=(0.5,))
    found = folders.read(tmp_path / "set")
    unknown = check.probe(found, tmp_path / "out")
    assert unknown.verdict == "unknown" and "--probe" in unknown.next
    assert "WARNING" not in capsys.readouterr().err
    asked = check.probe(found, tmp_path / "out", train=True, resources=Resources(threads=1))
    assert asked.verdict == "wrong space" and asked.teacher.kind == "trained"
    assert "takes about" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["verdict"] == "wrong space"
    assert check.probe(found, tmp_path / "out").teacher.kind == "cached"


def test_a_source_that_cannot_be_read_is_no_reason_to_call_a_set_fine(cached, tmp_path):
    """Without its source there is no cached teacher to be had."""
    api.import_set(cached / "plain_mtt", out=tmp_path / "set", source="digits", **right())
    found = folders.read(tmp_path / "set")
    assert check.probe(found, tmp_path / "out", str(tmp_path / "nowhere")).verdict == "unknown"


@pytest.mark.parametrize(("name", "expected"), [("plain", "fine"), ("whitened", "fine")])
def test_a_native_set_gives_its_own_logits_again(name, expected, home, tmp_path):
    """Shipped teachers and stored labels agree to float16, whether or not the source can be read."""
    found = check.probe(folders.read(home / name), tmp_path / "out", str(tmp_path / "nowhere"))
    assert check.probe(folders.read(home / name), tmp_path / "again").verdict == expected
    assert found.verdict == expected and found.teacher.kind == "shipped" and found.logits < 0.002


@pytest.mark.parametrize(
    ("name", "changed"),
    [("plain", {"mean": [0.5], "std": [0.1]}), ("plain", {"std": [0.2]}), ("whitened", {"zca": None})],
)
def test_a_native_set_with_a_wrong_manifest_is_caught(name, changed, home, tmp_path):
    """The shipped teachers no longer give the stored labels; a teacher blind to contrast is not what is gone by."""
    folder = shutil.copytree(home / name, tmp_path / "set")
    record = manifest.read(folder)
    known = {**record.files}
    if "zca" in changed:
        known.pop("preprocess.safetensors")
        (folder / "preprocess.safetensors").unlink()
    record = record.model_copy(update={"files": known, "preprocess": record.preprocess.model_copy(update=changed)})
    files.write_bytes(folder / "ddhub.json", manifest.dump(record))
    found = check.probe(folders.read(folder), tmp_path / "out")
    assert found.verdict == "wrong space" and "ddhub verify" in found.next


def predictions(labels, classes, rate, seed=0):
    """Predictions that are right at a rate, and any class otherwise."""
    noise = torch.Generator().manual_seed(seed)
    wild = torch.randint(classes, labels.shape, generator=noise)
    return torch.where(torch.rand(labels.shape, generator=noise) < rate, labels, wild)


def test_judging_keeps_its_error_rates():
    """Of 300 sets of random predictions none is fine, permuted or in another space; of 100 good ones nearly all are."""
    labels = torch.arange(10).repeat_interleave(10)
    for seed in range(300):
        readings = [SpaceReading(str(i), None, predictions(labels, 10, 0, 9 * seed + i)) for i in range(5)]
        assert verdict.judge(labels, 10, readings, 0.9).verdict == "unrecognised"
    good = [
        verdict.judge(labels, 10, [SpaceReading("as fed", None, predictions(labels, 10, 0.75, seed))], 0.9).verdict
        for seed in range(100)
    ]
    assert good.count("fine") >= 99
    few = torch.arange(3)
    assert verdict.judge(few, 3, [SpaceReading("as fed", None, few)], 0.99).verdict == "unknown"
    one_each = torch.arange(10)
    assert verdict.judge(one_each, 10, [SpaceReading("as fed", None, one_each)], 0.99).verdict == "fine"
    assert verdict.judge(one_each, 10, [SpaceReading("as fed", None, (one_each + 1) % 10)], 0.99).verdict != "fine"


def test_a_report_repeats_a_bad_verdict(cached, tmp_path):
    """A table of scores without it would blame the set for how it was fed. Another payload's verdict is not taken."""
    wrong = {"mean": (0.5,), "std": (0.05,)}
    out, quick = tmp_path / "out", {"baselines": [], "seeds": 1, "threads": 1}
    importing = {**wrong, "epochs": 1}
    done = api.evaluate(
        str(cached / "plain_mtt"), ["convnet2_w8"], source="digits", out=out, importing=importing, **quick
    )
    assert done.probe.verdict == "wrong space"
    (shown,) = api.report(out, html=tmp_path / "page.html").sets
    told = f"wrong space: {done.probe.sentence}."
    assert headlines.warnings(shown) == headlines.warnings(done) == [told]
    assert "wrong space" in (tmp_path / "page.html").read_text()
    kept = json.loads((out / "probe.json").read_text())
    (out / "probe.json").write_text(json.dumps({**kept, "payload": "0" * 64}))
    (shown,) = api.report(out).sets
    assert shown.probe is None and headlines.warnings(shown) == []
