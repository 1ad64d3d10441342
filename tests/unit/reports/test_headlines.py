"""Verdicts: one plain sentence first, and a loud one for everything that makes a set or its numbers doubtful."""

import pytest
import reports_of_rows

from ddhub.artifact import doubts, manifest
from ddhub.artifact.manifest_parts import Memorisation, Nearness, Packaging, TeacherRecord
from ddhub.reports import compare, tables
from ddhub.reports import headlines as first_sentences

ABOVE, SAME, BELOW = [0.60, 0.61, 0.62], [0.50, 0.51, 0.52], [0.40, 0.41, 0.42]


def rows(data, values, arch="convnet", protocol="native", test_set="digits test"):
    """Rows of one architecture, as far as a report looks at them."""
    shared = {"format": 1, "arch": arch, "protocol": protocol, "data": data, "test_set": test_set, "test": "sha256:1"}
    return [{**shared, "seed": seed, "top1": top1, "train_images": 10} for seed, top1 in enumerate(values)]


def pair(ours, theirs, **where):
    return rows("distilled", ours, **where) + rows("random", theirs, **where)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (pair(ABOVE, SAME), "The set is better than random real images on convnet, by 10.0 points."),
        (
            pair(ABOVE, SAME) + pair(ABOVE, BELOW, arch="vit"),
            "The set is better than random real images on all 2 architectures, by 10.0 to 20.0 points.",
        ),
        (
            pair(ABOVE, SAME) + pair(SAME, SAME[::-1], arch="vit"),
            "The set is better than random real images on 1 of 2 architectures."
            " On the others it is not shown to be better.",
        ),
        (
            pair(ABOVE, SAME) + pair(BELOW, SAME, arch="vit"),
            "The set is worse than random real images on vit (1 of 2 architectures).",
        ),
        (
            pair(SAME, SAME[::-1]),
            "The set is not shown to be better than random real images: n=3, equal, intervals overlap.",
        ),
        (
            pair(SAME, SAME[::-1]) + pair(SAME, [0.47, 0.50, 0.54], arch="vit") + pair(SAME[:1], BELOW[:1], arch="vgg"),
            "The set is not shown to be better than random real images on any of 3 architectures."
            " It differs from them by +0.0 to +10.0 points, and intervals overlap or are missing.",
        ),
        (
            pair(SAME, [0.47, 0.50, 0.54]) + rows("distilled", SAME, arch="vit") + rows("random", SAME, arch="vit")[3:],
            "The set is not shown to be better than random real images: n=3, 0.7 points above, intervals overlap.",
        ),
        (
            pair([0.5, 0.6], [0.5003, 0.6001]),
            "The set is not shown to be better than random real images:"
            " n=2, less than 0.1 points below, intervals overlap.",
        ),
        (
            rows("distilled", SAME),
            "Random real images were not run, so it is unknown whether the set is better.",
        ),
        (rows("random", SAME), "No network was trained on the set itself."),
    ],
    ids=[
        "better",
        "all better",
        "some better",
        "worse somewhere",
        "not shown",
        "none shown",
        "one compared",
        "almost equal",
        "not compared",
        "baseline alone",
    ],
)
def test_the_first_sentence_says_what_is_shown(of, said):
    """Nothing is called better without disjoint intervals, nor worse without a difference."""
    assert first_sentences.first(reports_of_rows.built("set", of)) == said


def test_a_printed_evaluation_begins_with_the_verdict():
    """Then come accuracies and differences. Its repr is one line with both."""
    built = reports_of_rows.built("set", pair(ABOVE, SAME) + pair(BELOW, SAME, arch="v\x1bit"))
    verdict, warning, first, second = str(built).splitlines()
    assert verdict == "The set is worse than random real images on v it (1 of 2 architectures)."
    assert warning.startswith("WARNING: v it native: 10.0 points below")
    assert first.startswith(
        "convnet native: distilled 61.0 ± 1.0 (n=3), random real 51.0 ± 1.0 (n=3), over random +10.0 ("
    )
    assert second.startswith("v it native: ") and "over random -10.0 (" in second
    assert repr(built).startswith(f"<Evaluation of set: {verdict} Over random: convnet native +10.0 (")
    assert len(repr(built).splitlines()) == 1 and "v it native -10.0 (" in repr(built)
    assert str(reports_of_rows.built("set", [])) == "No network was trained on the set itself."


def test_worse_than_random_and_untested_classes_are_loud():
    """Each names its line; a set that is well has no warning."""
    assert first_sentences.warnings(reports_of_rows.built("set", pair(ABOVE, SAME))) == []
    bad = reports_of_rows.built("set", pair(BELOW, SAME, test_set="leaves test (7 of 10 classes)"))
    assert first_sentences.warnings(bad) == [
        "convnet native: 10.0 points below random real images.",
        "The test images have 7 of 10 classes: the others are not tested.",
    ]


def test_one_training_below_random_is_told_too():
    """There is no interval, and the number is all that there is."""
    assert first_sentences.first(reports_of_rows.built("set", pair([0.4], [0.5]))).startswith(
        "In one training of each, the set is below random real images"
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_report_begins_with_them(count, capsys):
    """Then comes the table, then the small print; of several sets each has its own."""
    compare.show(reports_of_rows.compared([(f"set{number}", pair(BELOW, SAME)) for number in range(count)]))
    told = capsys.readouterr().out.splitlines()
    names = [f"set{number}: " for number in range(count)] if count > 1 else [""]
    for number, name in enumerate(names):
        assert told[2 * number] == f"{name}The set is worse than random real images on convnet (1 of 1 architectures)."
        assert told[2 * number + 1] == f"{name}WARNING: convnet native: 10.0 points below random real images."
    table, small = "\n".join(told).index("┏"), "\n".join(told).index("Under native")
    assert "\n".join(told).rindex("WARNING") < table < small


def test_words_of_strangers_above_a_table_stay_on_their_line(capsys):
    """An architecture's name is a stranger's word."""
    built = reports_of_rows.built("set", pair(BELOW, SAME, arch="a\x1b[2Jb"))
    tables.show([], first=first_sentences.above(built))
    assert "\x1b[2J" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("top1", "classes", "near"),
    [
        *[(0.05, 10, True), (0.10, 10, True), (0.18, 10, True), (0.20, 10, False)],
        *[(0.54, 2, True), (0.56, 2, False), (0.0019, 1000, True), (0.0021, 1000, False)],
    ],
)
def test_chance_is_told_from_learning(top1, classes, near):
    """By how much is left to learn, and never at more than twice chance."""
    assert doubts.near_chance(top1, classes) is near


@pytest.fixture
def record(finished):
    """The manifest of a set of ten classes, as if it were a good one."""
    good = Packaging(arch="convnet", seeds=1, validation_top1_float=0.9, validation_top1_packaged=0.9)
    update = {"packaging": good, "teachers": [], "memorisation": None, "method": {"name": "apm"}}
    return manifest.read(finished).model_copy(update=update)


def test_a_good_set_has_nothing_against_it(record):
    """No news is good news."""
    assert doubts.of_set(record) == []


def test_copies_poor_teachers_and_a_set_that_teaches_nothing_are_told(record):
    """Each in one sentence with its numbers."""
    near = Nearness(median=0.0, median_held_out=0.2, copies=0.5)
    bad = record.model_copy(
        update={
            "memorisation": Memorisation(checked=10, pixels=near),
            "teachers": [TeacherRecord(arch="convnet", file="a", validation_top1=top1) for top1 in (0.12, 0.9)],
            "packaging": record.packaging.model_copy(update={"validation_top1_packaged": 0.08}),
        }
    )
    copies, teachers, own = doubts.of_set(bad)
    assert copies.startswith("50% of 10 images are copies of training images")
    assert teachers.startswith("1 of 2 teachers learned next to nothing") and "12.0%, and guessing" in teachers
    assert "validation accuracy is below chance. It is 8.0%, and guessing reaches 10.0%" in own


@pytest.mark.parametrize(("starts", "median", "alarm"), [(1.0, 0.05, False), (0.5, 0.05, True), (1.0, 0.0, True)])
def test_images_near_their_start_are_noted_and_no_alarm(record, starts, median, alarm):
    """A warning is for images near others' training images, and for those that did not move."""
    near = Nearness(median=median, median_held_out=0.168, copies=1.0)
    seen = record.model_copy(update={"memorisation": Memorisation(checked=100, pixels=near, starts=starts)})
    assert bool(doubts.of_set(seen)) == alarm
    assert bool(doubts.notes(seen)) != alarm
    if not alarm:
        assert "100% of 100 images still look like" in doubts.notes(seen)[0] and "0.050" in doubts.notes(seen)[0]


def test_one_image_that_happens_to_be_near_is_no_copy(record):
    """One in ten is a matter of luck where one in a hundred held-out images is as near."""
    near = Nearness(median=0.1, median_held_out=0.2, copies=0.1)
    assert doubts.of_set(record.model_copy(update={"memorisation": Memorisation(checked=10, pixels=near)})) == []


def test_chosen_images_are_copies_by_construction(record):
    """Whatever was looked up."""
    (told,) = doubts.of_set(record.model_copy(update={"method": {"name": "random"}}))
    assert told.startswith("Every image is a copy of a training image")
