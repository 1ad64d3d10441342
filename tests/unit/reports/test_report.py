"""The report: what rows say in tables, sentences, pictures and a page; sets side by side; results brought to a repo."""

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import browser
import pytest
import reports_of_rows
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from ddhub import api
from ddhub.artifact import manifest
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.evaluation.protocols import PROTOCOLS
from ddhub.reports import charts, compare, html_page, image_grid, summary, tables, verify
from ddhub.reports.documents import Report

pytestmark = pytest.mark.slow

ID = "alice/digits"
ABOVE, SAME, BELOW = [0.60, 0.61, 0.62], [0.50, 0.51, 0.52], [0.40, 0.41, 0.42]
EVIL = '<img src=x onerror=alert(1)> "[bold]q" $x$ | `b` https://evil.example \x1b[31m\u202e'


def made(data: str, values: list[float], arch: str = "convnet", protocol: str = "native", **more: Any) -> list[Any]:
    """One row per value, seeds 0, 1, ..."""
    keys = {"arch": arch, "protocol": protocol, "data": data, "test_set": "digits test", "test": "sha256:1"}
    keys |= {"seconds": 300.0 if data == "full" else 2.0, "hardware": "cpu (2 cores)", "settings": {"epochs": 100}}
    return [{**keys, "seed": seed, "top1": value, **more} for seed, value in enumerate(values)]


def everything(archs: list[str], seeds: int = 3, protocols: Sequence[str] = tuple(PROTOCOLS)) -> list[Any]:
    """Rows of every protocol and every baseline."""
    found = []
    for number, arch in enumerate(archs):
        base = [0.2 + 0.05 * number + 0.01 * seed for seed in range(seeds)]
        for protocol in protocols:
            for data in ("distilled", *summary.REAL):
                values = [value + 0.1 * (data == "distilled") for value in base]
                found += made(data, values, arch, protocol)
        found += made("full", [value + 0.4 for value in base], arch, "full")
    return found


def printed(rows: list[Any], capsys, **how: Any) -> str:
    built = reports_of_rows.built("set", rows)
    tables.show([tables.of_report(built, brief=True)], summary.sentences(built), **how)
    return capsys.readouterr().out


def test_report_json_has_what_rows_can_say_and_no_empty_keys():
    """One architecture without baselines says little; three with full data have a ranking."""
    assert set(reports_of_rows.built("a", made("distilled", ABOVE)).to_dict()) == {"format", "set", "rows", "summary"}
    built = reports_of_rows.built("a", everything(["convnet", "resnet18", "vit_tiny"]))
    assert {each.b for each in built.comparisons} == set(summary.REAL)
    assert {each.protocol for each in built.rank_fidelity} == set(PROTOCOLS)
    assert [each.arch for each in built.dd_ranking] == ["convnet", "resnet18", "vit_tiny"]
    assert len(built.recovery) == 3 * len(PROTOCOLS)
    files.json_bytes(built.to_dict())  # no NaN


def test_one_training_of_each_ranks_architectures_without_an_interval():
    """Three architectures, one seed: a ranking, no interval, and a document that says so."""
    built = reports_of_rows.built("a", everything(["convnet", "resnet18", "vit_tiny"], 1, ["native"]))
    ranked = [(each.data, each.tau, each.ci95, each.n) for each in built.rank_fidelity]
    assert ranked == [("distilled", 1.0, None, 1), ("random", 1.0, None, 1)]
    told = " ".join(summary.sentences(built))
    assert "the set ranks architectures" in told and "random real images rank architectures" in told
    assert summary.content(built)["rank_fidelity"][0]["ci95"] is None


def test_test_sets_are_ranked_apart():
    """Rankings and scores never mix two test sets."""
    rows = everything(["convnet", "resnet18", "vit_tiny"])
    other = [{**row, "test_set": "other", "test": "sha256:2", "top1": 1 - row["top1"]} for row in rows]
    alone, both = reports_of_rows.built("a", rows), reports_of_rows.built("a", rows + other)
    assert [e for e in both.rank_fidelity if e.test_set == "digits test"] == alone.rank_fidelity
    assert [e for e in both.dd_ranking if e.test_set == "digits test"] == alone.dd_ranking


def test_rows_of_several_settings_under_one_name_are_shown_and_not_compared(capsys):
    """An upgrade may have changed what a name means."""
    rows = made("distilled", ABOVE) + made("distilled", BELOW, family={"lr": 1}) + made("random", SAME)
    text = printed(rows, capsys)
    assert "61.0 ± 1.0 / 41.0 ± 1.0" in text
    assert "on no architecture: convnet (rows of several settings or real images under one name)" in " ".join(
        text.split()
    )
    assert not reports_of_rows.built("set", rows).comparisons


@pytest.mark.parametrize("plain_too", [True, False])
def test_changes_of_full_data_s_protocol_are_named(plain_too, capsys):
    """`full.epochs=5` is another full data. Shares and rankings are of the unchanged one, or of the only one."""
    archs = ("a", "b", "c")
    changed = {"protocol": "full", "overrides": ["epochs=5"], "settings": {"epochs": 5}}
    rows = [row for arch in archs for row in made("distilled", ABOVE, arch) + made("full", BELOW, arch, **changed)]
    rows += [row for arch in archs for row in made("full", [0.8, 0.9], arch, "full")] if plain_too else []
    built = reports_of_rows.built("set", rows)
    whole = 0.85 if plain_too else 0.41
    assert [each.share for each in built.recovery] == pytest.approx([0.61 / whole] * 3)
    assert {score.protocol for score in built.summary} == {"native", "full epochs=5", *(["full"] if plain_too else [])}
    cell = next(cell for cell in tables.of_report(built).lines[0] if "epochs=5" in cell.text)
    assert cell.text.endswith("full epochs=5: 41.0 ± 1.0 (n=3)")
    assert cell.text.startswith("85.0 ± 7.1 (n=2) / " if plain_too else "full epochs=5")
    assert "share of full" in printed(rows, capsys)


def test_costs_of_changed_full_data_are_drawn():
    """Under its own name."""
    rows = made("distilled", ABOVE) + made("full", BELOW, protocol="full", overrides=["epochs=5"])
    assert [series.title for series in charts.cost_panels(reports_of_rows.built("set", rows))[0].series] == [
        "distilled",
        "full data",
    ]


def test_no_name_or_number_is_ever_cut(capsys):
    """Eight protocols, six kinds of data and full data fit 110 columns; a name that cannot fit is wider, and whole."""
    archs = ["timm:mobilenetv3_small_050", "convnet3_w128", "vit_tiny"]
    text = printed(everything(archs), capsys)
    assert max(map(len, text.splitlines())) <= tables.WIDTH
    assert "…" not in text and "..." not in text
    built = reports_of_rows.built("set", everything(archs))
    table = tables.of_report(built, brief=True)
    for line in table.lines:
        assert all(cell.text in text for cell in line)
    assert all(head in text for head in table.heads)
    long = "timm:" + "a_very_long_name_of_an_architecture_" * 4
    text = printed(everything([long], seeds=2), capsys)
    assert f"│ {long} │" in text
    narrow = tables.parts(table, 40)
    assert [at for part in narrow for at in part if at >= table.lead] == list(range(table.lead, len(table.heads)))
    assert all(part[: table.lead] == [0, 1] for part in narrow)


def test_long_settings_of_a_protocol_are_broken_between_words_where_they_make_a_table_wide(monkeypatch, capsys):
    """Then fewer tables stand below each other, and none is wider than the terminal."""
    overrides = ["epochs=250", "batch=25", "min_steps=1000", "lr=0.1"]
    rows = made("distilled", ABOVE, overrides=overrides) + made("random", SAME, overrides=overrides)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = printed(rows, capsys).splitlines()
    assert max(map(len, narrow)) <= 80 and sum(line.startswith("┏") for line in narrow) == 2
    assert any("│ min_steps=1000 │" in line for line in narrow)
    monkeypatch.setenv("COLUMNS", "200")
    wide = printed(rows, capsys)
    assert "native epochs=250 batch=25 min_steps=1000 lr=0.1 │" in wide and wide.count("┏") == 1


def test_strangers_words_do_not_reach_the_terminal_or_markdown(capsys):
    """No markup, no escape sequences, no text turned around."""
    rows = made("distilled", ABOVE, arch=EVIL) + made("random", SAME, arch=EVIL)
    text = printed(rows, capsys)
    assert "[bold]q" in text and "\x1b" not in text and "\u202e" not in text
    markdown = tables.results(reports_of_rows.built("set", rows))
    assert "<img" not in markdown and "https://" not in markdown
    assert all(line.count(" | ") == markdown.splitlines()[0].count(" | ") for line in markdown.splitlines()[:3])


def test_the_claim_holds_where_intervals_are_disjoint_and_the_sentence_says_where_not():
    """Above and apart on a; overlapping on b; below and apart on c; one seed on d; nothing to compare with on e, f."""
    rows = made("distilled", ABOVE, "a") + made("random", SAME, "a")
    rows += made("distilled", SAME, "b") + made("random", [0.47, 0.50, 0.54], "b")
    rows += made("distilled", BELOW, "c") + made("random", SAME, "c")
    rows += made("distilled", [0.6], "d") + made("random", [0.5], "d")
    rows += made("distilled", ABOVE, "e") + made("distilled", ABOVE[:1], "f") + made("random", SAME, "f", seed=9)
    first, *_, note = summary.sentences(reports_of_rows.built("set", rows))
    assert first == (
        "Under native, distilled is above random real images with disjoint 95% intervals on a; not on "
        "b (n=3, 0.7 points above, intervals overlap), c (n=3, 10.0 points below, intervals disjoint), "
        "d (n=1, 10.0 points above, no interval), e (random real images not run), f (no seed in common)."
    )
    assert note == summary.NOTE
    every = summary.sentences(reports_of_rows.built("set", rows[:6]))[0]
    assert every.endswith("with disjoint 95% intervals on every architecture: a.")
    alone = summary.sentences(reports_of_rows.built("set", made("distilled", ABOVE)))
    assert "not run, so the gain of distilling" in alone[0]


def test_the_table_says_differs_and_disjoint():
    """The numbers are those of a paired t-test and of two intervals."""
    noisy = [0.55, 0.51, 0.58]
    table = tables.of_report(reports_of_rows.built("set", made("distilled", ABOVE) + made("random", SAME, top1=0)[:0]))
    assert table.heads == ["architecture", "protocol", "distilled"]
    rows = made("distilled", ABOVE) + made("random", noisy) + made("full", [0.8, 0.9], protocol="full")
    cells = dict(zip((t := tables.of_report(reports_of_rows.built("set", rows))).heads, t.lines[0], strict=True))
    low, high = stats.ttest_rel(ABOVE, noisy).confidence_interval(0.95)
    mean = 100 * (0.61 - sum(noisy) / 3)
    assert cells["over random"].text == f"{mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    assert cells["intervals"].text == "overlap"
    assert cells["share of full"].text.startswith("71.8% (")
    rows = made("distilled", ABOVE) + made("random", [value - 0.1 for value in ABOVE])
    cells = dict(zip((t := tables.of_report(reports_of_rows.built("set", rows))).heads, t.lines[0], strict=True))
    assert cells["over random"].text.endswith("≠ 0") and cells["intervals"].text == "disjoint"


def test_a_report_may_differ_in_last_digits_and_no_further():
    """Another machine's arithmetic is no fault; another number, key or row is."""
    built = reports_of_rows.built("set", everything(["a", "b", "c"]))
    kept = json.loads(json.dumps(summary.content(built)))
    kept["summary"][0]["mean"] += 1e-14
    kept["rank_fidelity"][0]["ci95"] = [0.0, 1.0]
    assert summary.agrees(kept, built)
    kept["summary"][0]["mean"] += 1e-6
    assert not summary.agrees(kept, built)
    assert not summary.agrees({**json.loads(json.dumps(summary.content(built))), "claims": []}, built)
    assert not summary.agrees({**json.loads(json.dumps(summary.content(built))), "rank_fidelity": 3}, built)
    assert not summary.agrees([], built)


def test_charts_are_the_same_bytes_and_show_every_panel(tmp_path):
    """PNG and SVG; a chart that says nothing is not written, and an old one goes."""
    built = reports_of_rows.built("set", everything(["a", "_b$x$"], protocols=["native", "hard"]))
    for draw, panels in charts.charts(built).values():
        assert charts.png(draw, panels) == charts.png(draw, panels)
        assert charts.svg(draw, panels[0], "x") == charts.svg(draw, panels[0], "x")
    limits = {panel.span for _, panels in charts.charts(built).values() for panel in panels}
    assert len(limits) == 2  # one axis for all accuracies with intervals, one for all costs
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in made("distilled", [0.5]) + made("full", [0.9])]
    assert charts.save(reports_of_rows.built("set", rows), tmp_path) == ["accuracy.png"]
    assert Image.open(io.BytesIO((tmp_path / "accuracy.png").read_bytes())).size[0] > 300
    assert charts.save(reports_of_rows.built("set", []), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_accuracy_stands_against_seconds_flops_and_bytes():
    """A panel for each cost that rows name; beside seconds, one that is the same for all says nothing."""
    ours = made("distilled", ABOVE, flops=2e9, train_bytes=1000)
    several = ours + made("full", SAME, protocol="full", flops=3e12, train_bytes=400_000)
    panels = charts.cost_panels(reports_of_rows.built("set", several))
    assert [panel.cost.key for panel in panels] == ["seconds", "flops", "train_bytes"]
    assert panels[1].series[0].points == {"convnet": (2e9, pytest.approx(0.61))}
    assert [panel.cost.key for panel in charts.cost_panels(reports_of_rows.built("set", ours))] == ["seconds"]
    drawn = charts.svg(charts.draw_cost, panels[2], "x")
    assert "bytes of the training data" in drawn and "kB" in drawn


@pytest.mark.parametrize("ends", [(59, 158), (328e3, 890e3), (0.9e12, 8e12), (1, 1e9), (0.011, 0.028), (95, 96)])
def test_a_logarithmic_axis_has_round_numbers(ends):
    """Three to seven of them, however near or far its ends are; at most so many where no round one lies between."""
    found = charts.ticks(ends[0] / 1.6, ends[1] * 1.6)
    assert 3 <= len(found) <= 7 and found == sorted(found)
    assert all(f"{number:.1e}"[:3] in ("1.0", "1.5", "2.0", "3.0", "4.0", "5.0", "6.0", "8.0") for number in found)


def test_an_architecture_has_one_marker_in_all_panels():
    """Also where it is the first of several panels."""
    ours = made("distilled", ABOVE, arch="a", overrides=["lr=0.1"]) + made("distilled", ABOVE, arch="b")
    panels = charts.cost_panels(reports_of_rows.built("set", ours))
    assert len(panels) == 2 and all(panel.marks == panels[0].marks for panel in panels)
    assert len(set(panels[0].marks.values())) == 2


def test_no_column_of_a_page_is_dashes_alone():
    """A set without random images has no column among what is above random."""
    alone = [("a", made("distilled", ABOVE) + made("random", SAME)), ("b", made("distilled", BELOW))]
    for table in compare.tables(reports_of_rows.compared(alone)):
        assert all(any(line[at].text != "-" for line in table.lines) for at in range(len(table.heads)))
    assert compare.tables(reports_of_rows.compared(alone))[1].heads == ["architecture", "protocol", "a"]


def pair() -> Report:
    """Two sets on one architecture, the second under other settings and on other test images too."""
    ours = made("distilled", ABOVE) + made("random", SAME)
    theirs = made("distilled", [0.55, 0.50, 0.53], settings={"epochs": 1000})
    elsewhere = made("distilled", BELOW, test_set="other test", test="sha256:2", settings={"epochs": 1000})
    return reports_of_rows.compared([("ours", ours), ("theirs", theirs + elsewhere)])


def test_two_sets_differ_where_a_paired_test_says_so():
    """On the same test images alone; the interval is scipy's."""
    (entry,) = pair().differences
    low, high = stats.ttest_rel(ABOVE, [0.55, 0.50, 0.53]).confidence_interval(0.95)
    assert entry.ci95 == pytest.approx([low, high])
    assert (entry.a, entry.b, entry.n) == ("ours", "theirs", 3)
    assert entry.differs == (low > 0) and entry.same_settings is False
    same = reports_of_rows.compared([("a", made("distilled", ABOVE)), ("b", made("distilled", SAME[:1]))])
    assert same.differences[0].differs is None and same.differences[0].same_settings is True
    assert same.warnings == []


def test_what_cannot_be_compared_is_said(capsys):
    """Other test images stand on lines of their own; other settings are named with their values."""
    document = pair()
    tests, protocol = document.warnings
    assert "ours on digits test (1); theirs on digits test (1), other test (2)" in tests
    assert "epochs 100 (ours), 1000 (theirs)" in protocol
    first = compare.tables(document)[0]
    assert first.heads == ["architecture", "protocol", "test set", "ours", "theirs"]
    assert [[cell.text for cell in line[2:]] for line in first.lines] == [
        ["digits test", "61.0 ± 1.0 (n=3)", "52.7 ± 2.5 (n=3)"],
        ["other test", "-", "41.0 ± 1.0 (n=3)"],
    ]
    compare.show(document)
    text = " ".join(capsys.readouterr().out.split())
    assert "Warning: not tested on the same images" in text and "other protocol" in text
    twins = [("a", made("distilled", ABOVE)), ("b", made("distilled", SAME, test="sha256:2"))]
    document = reports_of_rows.compared(twins)  # one name, other images
    assert document.differences == []
    assert [line[2].text for line in compare.tables(document)[0].lines] == ["digits test (1)", "digits test (2)"]


class Reader(html.parser.HTMLParser):
    """The elements of a page, whether they close, and the text of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open[-1:]:
            self.text[tag] = self.text.get(tag, "") + data


def evil() -> str:
    """A page whose every name is a stranger's."""
    rows = [made(data, values, EVIL, EVIL, test_set=EVIL, hardware=EVIL) for data, values in (("distilled", ABOVE),)]
    other = made("distilled", SAME, EVIL, EVIL, test_set=EVIL, settings={EVIL: EVIL})
    shown = {EVIL: [image_grid.Pictured(EVIL, [image_grid.address(torch.zeros(1, 8, 8, dtype=torch.uint8))])]}
    return html_page.render(reports_of_rows.compared([(EVIL, rows[0]), ("</title></script>b", other)]), shown)


def test_the_page_asks_for_nothing_and_strangers_words_are_inert():
    """No address in it is loaded, no style or script but its own may run, every element closes."""
    several = reports_of_rows.compared([("set", everything(["a", "b", "c"], protocols=["native", "hard"]))])
    hostile = evil()
    for text in (hostile, html_page.render(pair()), html_page.render(several)):
        found = Reader(text)
        assert found.open == []
        names = {tag for tag, _ in found.elements}
        assert not names & {"link", "iframe", "object", "embed", "base", "form", "a"}
        assert sum(tag == "script" for tag, _ in found.elements) == 1
        for _, attributes in found.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            links = [value for name, value in attributes.items() if name in ("src", "href", "xlink:href", "data")]
            assert all((value or "").startswith(("#", "data:image/png;base64,")) for value in links)
            assert all(re.fullmatch(r"url\(#\w+\)", v) for v in attributes.values() if v and v.startswith("url("))
        identities = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
        assert len(identities) == len(set(identities))
        policy = next(a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
        for kind in ("script", "style"):
            digest = base64.b64encode(hashlib.sha256(found.text[kind].encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in str(policy)
        assert str(policy).startswith("default-src 'none';") and "unsafe" not in str(policy)
    assert "\x1b" not in hostile and "<img src=x" not in hostile


def test_the_page_has_a_table_that_sorts_and_reads_without_a_script():
    """Numbers carry their value; the viewport is a phone's; dark mode has its colours."""
    text = html_page.render(
        reports_of_rows.compared([("set", everything(["convnet", "vit_tiny"], protocols=["native", "hard"]))])
    )
    found = Reader(text)
    values = [float(a["data-value"] or "") for tag, a in found.elements if tag == "td" and "data-value" in a]
    assert len(values) > 30 and all(-1 <= value <= 2 for value in values)
    assert "58.0" not in found.text["th"] and "vit_tiny" in found.text["th"] and "26.0 ± 1.0" in found.text["td"]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in found.elements
    assert "prefers-color-scheme: dark" in found.text["style"] and "overflow-x: auto" in found.text["style"]
    assert sum(tag == "svg" for tag, _ in found.elements) == 4


@pytest.mark.skipif(browser.FOUND is None, reason="no Chromium here")
def test_the_page_in_chromium(tmp_path):
    """Nothing asked for, nothing blocked; a phone scrolls the table alone; dark is dark; a click sorts, and back."""
    path, hostile = tmp_path / "page.html", tmp_path / "evil.html"
    path.write_text(
        html_page.render(reports_of_rows.compared([("set", everything(["resnet18", "convnet"], protocols=["native"]))]))
    )
    hostile.write_text(evil())
    with browser.chromium(tmp_path / "home") as shown:
        for each, width, dark in ((path, 1200, False), (path, 400, True), (hostile, 400, False)):
            shown.open(each, width, dark)
            assert [url for url in shown.requests() if not url.startswith("data:")] == [each.as_uri()]
            assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
            assert shown.complaints() == []
        assert shown.evaluate("document.querySelectorAll('script').length") == 1
        assert shown.evaluate("[...document.images].map(i => [i.naturalWidth, i.src.slice(0, 5)])") == [[8, "data:"]]
        shown.open(path, 400)
        assert shown.evaluate("(s => s.scrollWidth > s.clientWidth)(document.querySelector('.scroll'))")
        column = "[...document.querySelectorAll('tbody tr')].map(r => Number(r.cells[2].dataset.value))"
        before = shown.evaluate(column)
        for direction, wanted in (("ascending", sorted(before)), ("descending", sorted(before, reverse=True))):
            shown.evaluate("document.querySelectorAll('thead button')[2].click()")
            assert shown.evaluate(column) == wanted
            assert shown.evaluate("document.querySelectorAll('thead th')[2].getAttribute('aria-sort')") == direction
        shown.evaluate("document.querySelectorAll('thead button')[0].click()")
        assert shown.evaluate("document.querySelector('tbody tr').cells[0].textContent") == "convnet"
        assert shown.complaints() == []


def evaluated(
    folder: Path, out: Path | None = None, values: list[float] = ABOVE, archs: tuple[str, ...] = ("a",)
) -> Path:
    """Rows of the set in `folder`, as an evaluation leaves them in its folder or in `out`."""
    payload = manifest.identity(manifest.read(folder).files)
    place = (out or folder) / "evaluation"
    for arch in archs:
        for row in made("distilled", values, arch) + made("random", SAME, arch):
            row |= {"payload": payload, "set": "set", "test_images": 360, "train_images": 10}
            files.write_json(place / f"{arch}-native-{row['data']}-s{row['seed']}-00000000.json", row)
    if out is None:
        api.card(folder)
    return out or folder


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app.main, ["report", *arguments])


def test_an_evaluated_set_has_report_card_and_charts_that_agree(folder):
    """verify holds card, sentences and pictures to the rows."""
    evaluated(folder)
    text = (folder / "README.md").read_text()
    assert "disjoint 95% intervals on every architecture: a." in text
    assert "assets/accuracy.png" in text and "assets/cost.png" in text
    assert verify.faults(folder) == []
    (folder / "assets" / "cost.png").unlink()
    assert verify.faults(folder) == [f"{folder}/assets/cost.png: missing, and the card shows it"]
    (folder / "README.md").write_text(text.replace("on every architecture", "on every  architecture"))
    assert any("its results are not those" in fault for fault in verify.faults(folder))


def test_report_reads_folders_and_evaluations(folder, tmp_path):
    """Artifacts and folders of evaluations, one or many; JSON on stdout alone; a page where asked."""
    evaluated(folder)
    outside = evaluated(folder, tmp_path / "out", values=BELOW)
    one = run(str(folder), "--html", str(tmp_path / "page.html"))
    assert one.exit_code == 0 and "disjoint" in one.stdout
    page = Reader((tmp_path / "page.html").read_text())
    assert page.open == []
    assert [a["alt"] for tag, a in page.elements if tag == "img"][:2] == ["image 1 of 0", "image 1 of 1"]
    assert "better than random real images" in page.text["p"]
    two = run(str(folder), str(outside), "--json")
    document = json.loads(two.stdout)
    assert [each["set"] for each in document["sets"]] == [str(folder), str(outside)]
    assert document["differences"][0]["mean"] == pytest.approx(0.2)
    more = evaluated(folder, tmp_path / "more", archs=("b",))
    joined = json.loads(run(str(folder), "--from", str(more), "--json").stdout)
    assert {row["arch"] for row in joined["sets"][0]["rows"]} == {"a", "b"}


def test_what_cannot_be_reported_is_said(folder, tmp_path):
    """One sentence and the next command."""
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([str(folder)], "not evaluated yet"),
        ([str(tmp_path / "empty")], "neither a set"),
        (
            [str(folder / "ddhub.json")],
            f"ddhub.json: is a file of the set {folder}\n  next: the same command with {folder}",
        ),
        ([str(folder / "data")], f"data: is a folder of the set {folder}"),
        (["nowhere"], "no such folder"),
        ([str(folder), str(folder), "--push"], "of one set"),
        ([str(folder), "--from", str(tmp_path / "empty")], "holds no folder evaluation/"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and words in result.output and "next:" in result.output, result.output
    evaluated(folder)
    assert "was never pushed" in run(str(folder), "--push").output
    outside = evaluated(folder, tmp_path / "out")
    assert "no set to push" in run(str(outside), "--push").output
    path = folder / "evaluation" / "torn.json"
    row = json.loads(next((folder / "evaluation").glob("*.json")).read_text())
    for content in ("{", json.dumps({**row, "arch": ["a"]}), json.dumps({**row, "top1": float("nan")})):
        path.write_text(content)
        assert "not an evaluation row" in run(str(folder)).output


def test_results_go_back_to_the_repo_in_one_commit(server, folder, tmp_path):
    """From the set's own folder: rows, report, card and charts, and nothing else changes."""
    api.push(folder, ID)
    before, commits = server.files(ID), len(server.commits(ID))
    evaluated(folder)
    done = run(str(folder), "--push")
    assert done.exit_code == 0 and done.stdout.splitlines()[-1] == f"{server.url}/datasets/{ID}"
    after = server.files(ID)
    assert len(server.commits(ID)) == commits + 1
    changed = {name for name in after if after[name] != before.get(name)}
    rows = {f"evaluation/a-native-{d}-s{seed}-00000000.json" for d in ("distilled", "random") for seed in range(3)}
    assert changed == {*rows, "README.md", "report.json", "assets/accuracy.png", "assets/cost.png"}
    assert set(before) <= set(after)
    assert api.verify(ID).ok


def test_rows_of_a_set_on_the_hub_join_its_own_in_one_commit(server, folder, tmp_path, monkeypatch):
    """Evaluated elsewhere: what the repo has stays, rows of another set stay out, and --create-pr only proposes."""
    monkeypatch.chdir(tmp_path)
    evaluated(folder)
    api.push(folder, ID)
    published, commits = server.files(ID), len(server.commits(ID))
    assert not api.report(ID, push=True).to_dict()["pushed"]["changed"] and len(server.commits(ID)) == commits
    out = evaluated(folder, tmp_path / "ddhub-evaluations" / "alice--digits", values=BELOW, archs=("a", "b"))
    stranger = next((out / "evaluation").glob("b-*-s0-*.json"))
    files.write_json(out / "evaluation" / "other.json", {**json.loads(stranger.read_text()), "payload": "another"})
    proposed = api.report(ID, push=True, create_pr=True).to_dict()
    assert proposed["pushed"]["url"] and server.files(ID) == published
    shutil.copytree(out, tmp_path / "elsewhere")
    done = api.report(ID, push=True, rows_from=tmp_path / "elsewhere").to_dict()
    after = server.files(ID)
    assert len(server.commits(ID)) == commits + 1 and server.commits(ID)[0].id == done["pushed"]["commit"]
    assert {name for name in after if name not in published} == {
        f"evaluation/b-native-{d}-s{seed}-00000000.json" for d in ("distilled", "random") for seed in range(3)
    }
    assert {name: after[name] for name in published if name.startswith("evaluation/a-")} == {
        name: data for name, data in published.items() if name.startswith("evaluation/a-")
    }
    assert "on a; not on b (n=3, 10.0 points below, intervals disjoint)" in after["README.md"].decode()
    assert api.verify(ID).ok
    with pytest.raises(UserError, match="a commit is not changed"):
        api.report(*[f"{ID}@{done['pushed']['commit']}"], push=True)


def test_a_copied_row_is_no_second_seed(folder, capsys):
    """A cloud drive's copy would double n and narrow every interval. Another precision is another training."""
    evaluated(folder)
    before = api.report(folder).to_dict()
    for path in sorted((folder / "evaluation").glob("*-distilled-*.json")):
        shutil.copyfile(path, path.with_name(f"{path.stem} (copy).json"))
    capsys.readouterr()
    assert api.report(folder).to_dict() == before
    told = "3 of 9 rows are copies of others, and are not counted (a native distilled seed 0, a native distilled seed 1"
    assert told in capsys.readouterr().err
    api.card(folder)
    (fault,) = verify.faults(folder)
    assert told in fault and str(folder / "evaluation") in fault
    rows = made("distilled", ABOVE)
    other = made("distilled", ABOVE, decisions={"precision": "bfloat16"})
    assert len(reports_of_rows.built("set", [*rows, *other]).rows) == 6
