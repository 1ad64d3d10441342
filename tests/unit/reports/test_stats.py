"""Statistics against numbers worked out by hand or by scipy."""

import math

import pytest
from scipy import stats

from ddhub.evaluation.rows import Row
from ddhub.reports import stats as statistics
from ddhub.reports import summary, tables


def rows(values, arch="convnet", protocol="native", data="distilled", **more):
    """One row per value, seeds 0, 1, ..."""
    keys = {"arch": arch, "protocol": protocol, "data": data, "test_set": TEST, "test": "sha256:1", **more}
    return [Row.model_validate({**keys, "seed": seed, "top1": value}) for seed, value in enumerate(values)]


TEST = "digits test"
OURS, THEIRS = [0.50, 0.52, 0.51], [0.40, 0.44, 0.41]


def test_a_summary_has_mean_spread_and_student_interval():
    """n = 3: the interval is 4.3 standard errors a side."""
    (entry,) = statistics.summarise(rows(OURS))
    low, high = stats.t.interval(0.95, 2, loc=0.51, scale=0.01 / math.sqrt(3))
    assert entry.mean == pytest.approx(0.51) and entry.std == pytest.approx(0.01) and entry.n == 3
    assert entry.ci95 == pytest.approx([low, high])
    assert statistics.summarise(rows([0.5]))[0].ci95 is None


def test_two_kinds_of_data_are_compared_pair_by_pair():
    """The interval is scipy's paired t-test's; a zero in it means that they may not differ."""
    (entry,) = statistics.compare(rows(OURS) + rows(THEIRS, data="random"))
    expected = stats.ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    assert entry.ci95 == pytest.approx([expected.low, expected.high])
    assert entry.differs is True and entry.disjoint is True
    noisy = [0.30, 0.70, 0.45]
    (entry,) = statistics.compare(rows(OURS) + rows(noisy, data="random"))
    assert entry.differs is False and entry.disjoint is False
    (entry,) = statistics.compare(rows(OURS[:1]) + rows(noisy, data="random"))
    assert entry.n == 1 and entry.differs is None
    assert statistics.compare(rows(OURS)) == []


def test_the_share_of_full_data_has_an_interval():
    """0.51 of 0.75 is 68%."""
    (entry,) = statistics.recovery(rows(OURS) + rows([0.74, 0.75, 0.76], protocol="full", data="full"))
    assert entry.share == pytest.approx(0.68)
    relative = math.sqrt(((0.01 / 0.51) ** 2 + (0.01 / 0.75) ** 2) / 3)
    assert entry.ci95[1] - entry.share == pytest.approx(0.68 * relative * stats.t.ppf(0.975, 2))
    assert statistics.recovery(rows(OURS)) == []


def grid(means, data, protocol="native", spread=0.0):
    return [
        row
        for number, mean in enumerate(means)
        for row in rows([mean - spread, mean, mean + spread], f"net{number}", protocol, data)
    ]


def test_rankings_of_architectures_are_compared():
    """The same order gives 1, the reversed one -1; noise widens the interval."""
    full = grid([0.7, 0.8, 0.9, 0.95], "full", "full")
    same = statistics.rank_fidelity(grid([0.3, 0.4, 0.5, 0.6], "distilled") + full, "native", TEST)
    assert same.tau == pytest.approx(1) and same.ci95 == pytest.approx([1, 1])
    turned = statistics.rank_fidelity(grid([0.6, 0.5, 0.4, 0.3], "distilled") + full, "native", TEST)
    assert turned.tau == pytest.approx(-1)
    noisy = statistics.rank_fidelity(grid([0.40, 0.41, 0.42, 0.6], "distilled", spread=0.1) + full, "native", TEST)
    assert noisy.ci95[0] < 0.9 < noisy.ci95[1] + 0.2
    assert statistics.rank_fidelity(grid([0.3, 0.4], "distilled") + full, "native", TEST) is None


def test_a_ranking_at_chance_says_so():
    """Networks that all guess can be ranked as full data does, by a tau of 1."""
    full = grid([0.7, 0.8, 0.9, 0.95], "full", "full")
    for means, low in (([0.09, 0.1, 0.11, 0.5], 3), ([0.09, 0.1, 0.4, 0.5], 2)):
        made = [row.model_copy(update={"classes": 10}) for row in grid(means, "distilled")]
        report = summary.build("set", made + full)
        assert [len(each.near_chance) for each in report.rank_fidelity] == [low]
        told = "3 of 4 are near chance there, so their places are chance too."
        assert (told in " ".join(summary.sentences(report))) == (low == 3)
    old = summary.build("set", grid([0.09, 0.1, 0.11, 0.5], "distilled") + full)  # rows that name no classes
    assert "near_chance" not in summary.content(old)["rank_fidelity"][0]


def test_one_row_per_architecture_has_no_interval():
    """Nothing can be resampled: null, not [1.0, 1.0]."""
    single = [row for row in grid([0.3, 0.4, 0.5], "distilled") if row.seed == 0]
    full = [row for row in grid([0.7, 0.8, 0.9], "full", "full") if row.seed == 0]
    entry = statistics.rank_fidelity(single + full, "native", TEST)
    assert entry.tau == pytest.approx(1) and entry.n == 1 and entry.ci95 is None


def test_versions_of_a_protocol_are_not_averaged():
    """Their rows go by one name and are two lines."""
    old, new = rows([0.5, 0.6]), rows([0.7, 0.8], protocol_version=2)
    assert [entry.mean for entry in statistics.summarise(old + new)] == pytest.approx([0.55, 0.75])


@pytest.mark.parametrize("old", [1, None])
def test_versions_of_a_protocol_are_not_compared(old):
    """Full data by the older version is no measure of rows by the present one: no share, ranking or score."""
    known = {"protocol_version": 2}
    archs = {"a": 0.3, "b": 0.4, "c": 0.5}
    new = [row for arch, top1 in archs.items() for row in rows([top1], arch, **known)]
    new += [row for arch, top1 in archs.items() for row in rows([top1], arch, "hard", **known)]
    real = [row for arch in archs for row in rows([0.2], arch, data="random", protocol_version=old)]
    full = [row for arch in archs for row in rows([0.9], arch, "full", "full", protocol_version=old)]
    report = summary.build("set", new + full + real)
    assert not (report.recovery or report.rank_fidelity or report.dd_ranking or report.comparisons)
    for version in (2, old):
        same = [row.model_copy(update={"protocol_version": version}) for row in new + full + real]
        assert {each.share for each in summary.build("set", same).recovery} == {top1 / 0.9 for top1 in archs.values()}


def test_rows_by_an_older_version_say_so():
    """Beside rows by the present one they are lines of their own, and a sentence says what to type."""
    made = rows(OURS, protocol_version=2) + rows(THEIRS, data="random", protocol_version=2)
    made += rows([0.3, 0.4], protocol_version=1) + rows([0.35, 0.3], data="random", protocol_version=1)
    made += rows([0.9], protocol="full", data="full", protocol_version=1)
    report = summary.build("set", made)
    assert {line.protocol: line.over["random"].n for line in summary.lines(report)} == {
        "native": 3,
        "native version 1": 2,
    }
    assert "full version 1: 90.0 (n=1)" in tables.results(report)
    (said,) = (text for text in summary.sentences(report) if text.startswith("Rows by other rules"))
    assert "full version 1, native version 1." in said and "`ddhub evaluate`" in said
    assert not any(text.startswith("Rows by other rules") for text in summary.sentences(summary.build("set", made[:6])))


@pytest.mark.parametrize(
    "changed", [{"train": "sha256:b"}, {"code": "of an edited file"}, {"decisions": {"precision": "bfloat16"}}]
)
def test_rows_of_other_real_images_or_code_or_another_precision_are_not_averaged(changed):
    """Nor compared: it is not clear which of them the set stands beside. A row without precision is in float32."""
    usual = {"data": "random", "train": "sha256:a"}
    known = rows([0.4], **usual) + rows([0.4, 0.42], decisions={"precision": "float32"}, **usual)[1:]
    other = rows([0.3, 0.32], **{**usual, **changed})
    assert [entry.mean for entry in statistics.summarise(known + other)] == pytest.approx([0.41, 0.31])
    assert [each.mean for each in summary.build("set", rows(OURS) + known).comparisons] == pytest.approx([0.1])
    assert summary.build("set", rows(OURS) + known + other).comparisons == []


def test_trainings_of_another_precision_are_not_compared():
    """Neither with random images nor with full data; the table names both precisions."""
    half = {"decisions": {"precision": "bfloat16"}}
    mixed = rows(OURS) + rows([0.3, 0.31, 0.32], data="random", **half)
    mixed += rows([0.8, 0.81], protocol="full", data="full", **half) + rows([0.4, 0.41], protocol="hard", **half)
    report = summary.build("set", mixed)
    assert report.comparisons == [] and report.dd_ranking == []
    assert [(each.protocol, round(each.share, 2)) for each in report.recovery] == [("hard", 0.5)]
    line = next(line for line in summary.lines(report) if line.protocol == "native")
    assert summary.why_not(line, "random") == "trained in bfloat16, and the set in float32"
    assert any("on no architecture: convnet (trained in bfloat16" in text for text in summary.sentences(report))
    assert "distilled float32: " in tables.texts(report)[1] and "random real bfloat16: 31.0" in tables.texts(report)[1]
    alike = summary.build("set", rows(OURS, **half) + rows([0.3, 0.31, 0.32], data="random", **half))
    assert len(alike.comparisons) == 1 and "bfloat16" not in tables.texts(alike)[0]


def test_architectures_of_two_precisions_are_not_ranked():
    """Where the set's trainings and those of full data differ in it."""
    ours, full = grid([0.3, 0.4, 0.5, 0.6], "distilled"), grid([0.7, 0.8, 0.9, 0.95], "full", "full")
    last = ours[-1].arch
    changed = [
        row.model_copy(update={"decisions": {"precision": "bfloat16"} if row.arch == last else {}}) for row in ours
    ]
    assert last not in statistics.rank_fidelity(changed + full, "native", TEST).archs


def test_rankings_take_one_kind_of_full_data():
    """Of full data with changes of its protocol, the unchanged one counts."""
    archs = {"a": 0.3, "b": 0.4, "c": 0.5}
    made = [row for arch, top1 in archs.items() for row in rows([top1], arch)]
    made += [row for arch, top1 in archs.items() for row in rows([top1 + 0.4], arch, "full", "full")]
    made += [
        row for arch, top1 in archs.items() for row in rows([0.1 - top1 / 9], arch, "full", "full", overrides=["lr=9"])
    ]
    made += [row for row in made if row.overrides] * 20
    assert statistics.rank_fidelity(made, "native", TEST).tau == pytest.approx(1)


def test_dd_rankings_scores_are_those_of_its_documentation_in_fractions():
    """HLR 5 and IOR 15 points give 0.291 and HLR 35, IOR 10 give 0.219; no lead and no loss is 0.269."""

    def score(hlr, ior):
        made = rows([0.8], protocol="full", data="full") + rows([0.8 - hlr], protocol="hard")
        made += rows([0.5 + ior]) + rows([0.5], data="random")
        made += rows([0.4 + ior], protocol="unaugmented") + rows([0.4], protocol="unaugmented", data="random")
        return statistics.dd_ranking(made, "convnet", TEST)

    assert score(0.05, 0.15).lrs == pytest.approx(0.291, abs=5e-4)
    assert score(0.35, 0.10).lrs == pytest.approx(0.219, abs=5e-4)
    assert score(0.0, 0.0).lrs == pytest.approx(0.269, abs=5e-4)
    assert score(0.0, 0.0).ars == pytest.approx(0.269, abs=5e-4)
    assert score(0.0, 0.1).ior == pytest.approx(0.1)
    assert statistics.dd_ranking(rows(OURS), "convnet", TEST).lrs is None
