"""Strangers' texts: manifests, recipes, cards, rows. Each is read, or refused in a sentence; none is believed."""

import ast
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import hypothesis.strategies as st
import pytest
import reports_of_rows
import yaml
from click.testing import CliRunner
from dataset_cards import CASES, DIGITS, case, info, scripts
from hypothesis import given
from strangers import CHANGES, VALUES, fuzzed, mutated, refused, said, spoiled

from ddhub.artifact import manifest
from ddhub.base import limits, redact, strict_json, strict_yaml
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.distillation import recipes
from ddhub.evaluation import rows
from ddhub.reports import card, card_script, charts, compare, html_page, summary, tables, verify
from ddhub.training import architectures

MANIFEST = json.loads(manifest.dump(case()))
RECIPE = {
    **{"name": "x", "seed": 0, "ipc": 2, "source": {"dataset": "digits", "validation": 0.2}, "groups": 2},
    **{"teachers": {"arch": "convnet2_w8", "count": 2}, "method": {"name": "apm", "iterations": 3}, "augment": "flip"},
    **{
        "labels": {"form": "logits", "top_k": 2},
        "memory": "2GB",
        "publish": {"license": "mit"},
        "expected": {"a": 0.5},
    },
}
ROW = {
    **{
        "format": 1,
        "set": "x",
        "arch": "convnet2_w8",
        "protocol": "native",
        "data": "distilled",
        "seed": 0,
        "top1": 0.5,
    },
    **{"test_set": "digits test", "test": "sha256:0", "test_images": 360, "epochs": 2, "lr": 0.02, "seconds": 1.5},
    **{"overrides": ["epochs=2"], "hardware": "cpu", "settings": {"lr": 0.02}, "family": {"lr": None}, "payload": "0"},
    **{"train_images": 10, "device": "cpu", "decisions": {}, "versions": {"torch": "2"}, "tuned": None},
}


def drawn_card(record: manifest.Manifest) -> str:
    """The card of a manifest; it is text that any file holds."""
    text = card.render(record, {}, None, info(record, 10))
    text.encode()
    return text


@fuzzed(80)
@given(mutated(MANIFEST))
def test_a_manifest_is_read_or_refused(content):
    """What is read contradicts itself nowhere, or has a card."""

    def look():
        record = manifest.parse(json.dumps(content).encode("utf-8", "surrogatepass"), "ddhub.json")
        if not manifest.contradictions(record, "ddhub.json"):
            drawn_card(record)
            manifest.parse(manifest.dump(record))

    said(look, "ddhub.json")


@fuzzed(100)
@given(CHANGES)
def test_spoilt_bytes_of_a_manifest_are_read_or_refused(changes):
    said(lambda: manifest.parse(spoiled(json.dumps(MANIFEST).encode(), changes), "ddhub.json"), "ddhub.json")


def deep(levels: int) -> dict:
    """Keys inside keys."""
    return {"a": deep(levels - 1)} if levels else {}


MANIFESTS = {
    "a million classes": ({"classes": [str(n) for n in range(10**6)]}, "classes: list should have at most"),
    "a billion groups": (
        {"groups": 10**9, "ipc": 10**9},
        "groups: expected whole number > 0 and <= 32,768, got 1000000000",
    ),
    "a class twice": ({"classes": ["a", "a", *DIGITS[2:]]}, "classes: a name is there twice"),
    "a class of two lines": ({"classes": ["a\nnext: rm -rf /", *DIGITS[1:]]}, "is no text of one line"),
    "a book for a class": ({"classes": ["a" * 1001, *DIGITS[1:]]}, "1000 characters or less"),
    "an image of a kilometre": (
        {"source": {**MANIFEST["source"], "resolution": 10**6}},
        "expected whole number >= 4 and <= 1,024",
    ),
    "a whitening in a file of no name": (
        {"preprocess": {**MANIFEST["preprocess"], "zca": "x" * 300}},
        "preprocess.zca: string should match pattern",
    ),
    "a deviation of next to nothing": ({"preprocess": {**MANIFEST["preprocess"], "std": [1e-30]}}, "preprocess.std"),
    "a revision that climbs": (
        {"source": {**MANIFEST["source"], "revision": "../../x"}},
        "source.revision: '../../x' is",
    ),
    "no statistics": ({"preprocess": {**MANIFEST["preprocess"], "mean": []}}, "mean and std need 1 values"),
    "a method without a name": ({"method": {}}, "method.name: missing"),
    "a part's method without a name": (
        {
            "merged": [
                {key: MANIFEST[key] for key in ("name", "ipc", "groups", "made")} | {"payload": "0", "method": {}}
            ]
        },
        "merged: 'digits_ipc10': method.name: missing",
    ),
    "an augmentation of no kind": ({"protocol": {**MANIFEST["protocol"], "augment": "os.system"}}, "no operation"),
    "deep": ({"method": {"name": "apm", "a": deep(200)}}, "more than 64 levels deep"),
    "very deep": ({"method": {"name": "apm", "a": deep(900)}}, "ddhub.json: not readable as JSON"),
    "half a character": ({"name": "\ud800"}, "surrogates not allowed"),
    "beyond 64 bits": ({"seed": 2**70}, "is too large"),
    "infinite": ({"method": {"name": "apm", "lr": float("inf")}}, "Infinity is no number"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_each_fault_of_a_manifest_is_named(name):
    """In one sentence that names file and key."""
    change, words = MANIFESTS[name]

    def look():
        record = manifest.parse(json.dumps({**MANIFEST, **change}).encode(), "there/ddhub.json")
        raise UserError("\n".join(manifest.contradictions(record, "there/ddhub.json")))

    assert len(refused(look, "there/ddhub.json", words).splitlines()) == 1


def test_json_has_no_key_twice_and_an_end(tmp_path):
    """Of two values for one key the reader's and the verifier's could differ; files are read up to a size."""
    refused(lambda: strict_json.parse(b'{"a": 1, "a": 2}', "x.json"), "x.json", "key 'a' is there twice")
    (tmp_path / "big.json").write_bytes(b" " * (limits.ROW_BYTES + 1))
    refused(lambda: strict_json.read(tmp_path / "big.json", limits.ROW_BYTES), "big.json", "more than 64000 bytes")
    refused(lambda: strict_json.parse(b"\xff\xfe{", "x.json"), "x.json")


TOKENS = [
    "a",
    "b: ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&x ",
    "*x",
    "<<: ",
    "!!int ",
    "!!python/object:os.system ",
    "? ",
    "| ",
    "\n",
]
TOKENS += [
    "  ",
    "'",
    '"',
    "\\ud800",
    "1e400",
    ".nan",
    "0x" + "f" * 40,
    "2020-13-45",
    "1:99:99",
    "---",
    "#",
    "%TAG ",
    "\t",
    "é",
]


@fuzzed(200)
@given(st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=25).map("".join))
def test_any_yaml_is_read_or_refused(text):
    said(lambda: strict_yaml.parse_yaml(text, "r.yaml"), "r.yaml")


@fuzzed(100)
@given(mutated(RECIPE))
def test_a_recipe_is_read_or_refused(tmp_path_factory, content):
    """What is read comes back from its own YAML with the same hash."""
    path = tmp_path_factory.getbasetemp() / "r.yaml"
    path.write_bytes(yaml.safe_dump(content, allow_unicode=False).encode())

    def look():
        found = recipes.read(str(path))
        path.write_text(found.yaml())
        assert recipes.read(str(path)).hash == found.hash

    said(look, "r.yaml")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{','.join([f'*{chr(97 + n)}'] * 9)}]}}\n" for n in range(9)
)
RECIPES = {
    "aliases that explode": (BOMB, "line 2: aliases"),
    "merges that explode": (MERGES, "aliases"),
    "a tag that runs": ("name: !!python/object/apply:os.system [id]", "tags (tag:yaml.org,2002:python/object/apply"),
    "a tag of YAML's own": ("seed: !!int ''", "tags (tag:yaml.org,2002:int)"),
    "brackets": ("[" * 5000, "not readable as YAML"),
    "a large number": ("seed: 0x" + "f" * 9000, "beyond 64 bits"),
    "half a character": ('name: "\\ud800"', "surrogates"),
    "another's code as a method": ("method: {name: os}", "no method 'os'"),
    "a path as a method": ("method: {name: ../../evil}", "../../evil: no method can be read there"),
    "a module as a method": ("method: {name: _hidden}", "no method '_hidden'"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_each_fault_of_a_recipe_is_named(name, tmp_path):
    """And neither takes memory nor runs anything."""
    text, words = RECIPES[name]
    path = tmp_path / "r.yaml"
    path.write_text(text)
    refused(lambda: recipes.read(str(path)), "r.yaml", words)


def test_a_recipe_of_any_size_or_encoding_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\xfe")
    refused(lambda: recipes.read(str(path)), "r.yaml", "cannot be read")
    path.write_bytes(b"#" * (limits.YAML_BYTES + 2))
    refused(lambda: recipes.read(str(path)), "r.yaml", "more than 4000000")


@fuzzed(40)
@given(changes=CHANGES | st.sampled_from([BOMB, MERGES, "a: !!binary x", "[" * 3000, "configs: [1, {data_files: {}}]"]))
def test_a_cards_header_is_read_or_refused(finished, tmp_path_factory, changes):
    """`verify` names what is wrong with it and goes on."""
    folder = tmp_path_factory.mktemp("card")
    text = (finished / "README.md").read_bytes()
    header = (
        b"---\n%s\n---\nbody" % changes.encode() if isinstance(changes, str) else spoiled(text[:2000], changes) + text
    )
    (folder / "README.md").write_bytes(header)
    found = []
    said(lambda: found.extend(verify._card(folder, manifest.read(finished), None)), "README.md")
    assert all("README.md" in fault or "assets/" in fault for fault in found)


@fuzzed(150)
@given(mutated(ROW))
def test_a_row_is_read_or_refused(tmp_path_factory, content):
    """What is read has a report, a table, a page and verdicts."""
    path = tmp_path_factory.getbasetemp() / "row.json"
    path.write_bytes(json.dumps(content).encode("utf-8", "surrogatepass"))

    def look():
        found = rows.read(path)
        others = reports_of_rows.typed([ROW, {**ROW, "data": "random"}, {**ROW, "seed": 1}])
        built = summary.build("set", [found, *others])
        json.dumps(built.to_dict(), allow_nan=False).encode()
        json.dumps(summary.content(built), allow_nan=False).encode()
        tables.results(built).encode()
        document = compare.build([("set", built.rows), ("other", others[:1])])
        compare.tables(document), compare.sentences(document)
        charts.charts(built)

    said(look, "row.json", "not an evaluation row")


def test_rows_of_any_number_and_length_end_in_time(tmp_path):
    """Pictures have bounds; the table has every row; too many files are refused before they are read."""
    many = [
        {**ROW, "arch": f"net{n}", "protocol": f"p{n % 30}", "data": d}
        for n in range(600)
        for d in ("distilled", "full")
    ]
    built = reports_of_rows.built("set", many)
    drawn = charts.accuracy_panels(built)
    assert len(drawn) == charts.MOST_PANELS and max(len(panel.archs) for panel in drawn) <= charts.MOST_ARCHS
    long = [{**ROW, "arch": "é" * limits.NAME}]
    charts.png(charts.draw_accuracy, charts.accuracy_panels(reports_of_rows.built("set", long)))
    odd = [{"arch": "a" * (limits.NAME + 1)}, {"top1": True}, {"overrides": 3}, {"epochs": "many"}, {"settings": 1}]
    for content in ([], *({**ROW, **change} for change in odd)):
        (tmp_path / "row.json").write_text(json.dumps(content))
        refused(lambda: rows.read(tmp_path / "row.json"), "row.json", "not an evaluation row")


# Strangers' words: nothing that is special in Markdown, HTML, YAML, Jinja or Python is left out.
PIECES = [
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "]]>",
    "{{ 7*7 }}",
    "{% include 'x' %}",
    "```",
    "`",
    "|",
    "---",
    "\n---\n",
    "](x)",
]
PIECES += [
    "![a](b)",
    "$x$",
    "https://evil.example",
    "www.evil.example",
    "a@b.c",
    "&lt;",
    "&#60;",
    "#",
    "**",
    "_a_",
    "\\",
    '"',
    "'",
]
PIECES += [
    "\u202e",
    "\u2028",
    "\x00",
    "\x1b[31m",
    "%",
    ": ",
    "- ",
    "! ",
    "é",
    "\U0001f600",
    "<img src=x onerror=alert(1)>",
    "~~",
]
WORDS = st.lists(
    st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), min_size=1, max_size=6
)
WORD = WORDS.map("".join).filter(bool)  # a line of the card that has nothing to say is left out
TAME = "é"  # a word that is written as text, for it is none that inline code could hold


def hostile(words: list[str]) -> tuple[manifest.Manifest, dict, dict, dict]:
    """A manifest, recipe, report and columns with these words wherever a stranger's words can stand."""
    one, two, three, four = words
    record = case(
        name=one,
        classes=[f"{one}{index}" for index in range(3)],
        source={
            "dataset": f"{TAME}{two}",
            "image": three,
            "label": four,
            "test": one,
            "revision": "0" * 40,
            "license": f"{TAME}{three}",
        },
        method={"name": f"{TAME}{three}", f"{TAME}{four}": one, "student": {"arch": two}},
        init=f"{TAME}{two}",
        made={"device": four, "torch": one, "overrides": [two], "phases": {f"{TAME}{three}": 1.0}},
        imported={"layout": f"{TAME}{one}", "files": {}, "notes": [f"{TAME}{two}"]},
        labels={"form": "logits", "teachers": None},
        teachers=[],
    )
    found = {**ROW, "arch": f"{TAME}{one}", "protocol": f"{TAME}{two}", "test_set": three, "hardware": four}
    built = reports_of_rows.built("set", [found, {**found, "data": "random"}])
    return record, {"publish": {"pretty_name": f"{TAME}{four}"}}, built, info(record, 30)


def bones(text: str) -> tuple[dict[str, int], list[str]]:
    """A card without its words: how often each mark stands in its text, and its scripts without constants."""
    body = text.split("\n---\n", 1)[1]
    code = [ast.parse(script) for script in scripts(text)]
    for tree in code:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
    prose = re.sub(r"^```python\n.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"&#\d+;", "", prose)
    marks = {
        mark: prose.count(mark) for mark in ("<", ">", "|", "`", "*", "[", "]", "{", "}", "$", "://", "@", "#", "\n")
    }
    return marks, [ast.dump(tree) for tree in code]


@fuzzed(12)
@given(st.lists(WORD, min_size=4, max_size=4))
def test_strangers_words_are_inert_in_the_card(words):
    """Its marks and script are those of the card with a plain word in their place; its header repeats them."""
    text, tame = (card.render(*hostile(each)) for each in (words, [TAME] * 4))
    assert bones(text) == bones(tame)
    header = yaml.safe_load(io.StringIO(text.split("\n---\n", 1)[0].removeprefix("---\n")))
    assert header["license"] == TAME + words[2] and header["pretty_name"] == TAME + words[3]
    assert header["configs"] == yaml.safe_load(tame.split("\n---\n", 1)[0].removeprefix("---\n"))["configs"]
    read_by_hub = re.search(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))", text)  # huggingface_hub's
    assert yaml.safe_load(read_by_hub[2]) == header


class Elements(HTMLParser):
    """What a page is made of: its elements in order, those of drawings apart, and the names of all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.drawn: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.inside = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.inside += tag == "svg"
        (self.drawn.add if self.inside else self.elements.append)(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value for name, value in attrs if "href" in name or name == "src"}

    def handle_endtag(self, tag):
        self.inside -= tag == "svg"

    def handle_comment(self, data):
        self.elements.append(f"comment {data}")


def a_page(words: list[str]) -> Elements:
    one, two, three, four = words
    found = [
        {**ROW, "arch": one, "protocol": two, "test_set": three, "hardware": four, "seed": seed, "data": data}
        for seed in (0, 1)
        for data in ("distilled", "random")
    ]
    text = html_page.render(reports_of_rows.compared([(four, found)]))
    text.encode()
    return Elements(text)


@fuzzed(4)
@given(st.lists(WORD.map(lambda word: word[:30]), min_size=4, max_size=4))
def test_strangers_words_are_inert_in_the_page(words):
    """Its elements are those of a page with plain words, its drawings hold nothing new, and it asks for nothing."""
    theirs, tame = a_page(words), a_page([TAME] * 4)
    assert theirs.elements == tame.elements and theirs.elements.count("script") == 1
    assert theirs.drawn <= tame.drawn and theirs.attributes <= tame.attributes
    assert all(link.startswith("#") for link in theirs.links)


@fuzzed(60)
@given(VALUES | WORD)
def test_what_is_shown_is_printable_and_holds_no_token(value):
    """Whatever an error repeats."""
    token = "hf_" + "A" * 30
    text = redact.shown(f"{value} {token} Authorization: Bearer abcdefgh.{token}")
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "A" * 8 not in text and "abcdefgh" not in text
    assert card_script.operations("color_flip];import os") == ["color"]
    assert CASES  # the card's own cases hold hostile ones too


LONG = ("x" * 10**5, "ü" * 10**5, "/".join(["y" * 200] * 500), "a/" + "b" * 10**5, "../" * 10**4)
WORDS = ("verify X", "card X", "report X", "evaluate X", "pull X out", "distill X", "export X --layout mtt", "init X")
SET = ("export SET --layout mtt --out X", "push SET X", "evaluate SET --protocols X", "evaluate SET --baselines X")


@pytest.mark.parametrize("name", LONG, ids=lambda name: name[:4])
def test_a_name_of_any_length_ends_in_a_short_sentence(name, folder, tmp_path, monkeypatch):
    """Names of 100,000 characters were said in full."""
    monkeypatch.chdir(tmp_path)
    for words in (*WORDS, *SET):
        command = [{"X": name, "SET": str(folder)}.get(word, word) for word in words.split()]
        told = CliRunner().invoke(app.main, command)
        assert told.exit_code in (1, 2) and "Traceback" not in told.output, words
        assert len(told.output) < 5000 and "next: " in told.output, words


def test_the_limits_are_those_that_are_promised():
    """SECURITY.md and the code say the same."""
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    promised = {
        **{"JSON_BYTES": "64 MB", "DEPTH": "64 levels deep", "ROW_BYTES": "64 kB,", "NAME": "names of 200 characters"},
        **{"ROW_VALUES": "1,000 values", "ROWS_BYTES": "64 MB of rows"},
        **{"ROWS": "20,000 rows", "YAML_BYTES": "4 MB", "CLASSES": "100,000 classes", "SIDE": "1,024 pixels a side"},
        **{"CLASS_NAME": "names of 1,000 characters", "PIXELS": "89,478,485 pixels", "SET_BYTES": "16 GB"},
        **{"JSON_VALUES": "2,000,000 values", "SCANS": "500 scans of a progressive JPEG"},
        **{"PICKLE_BYTES": "64 MB of pickle", "PICKLE_STEPS": "4,000,000 steps"},
        **{"ANSWER_BYTES": "64 MB and 2,000 pages", "PAGES": "2,000 pages", "DOWNLOAD_BYTES": "50 GB"},
        **{"COUNT": "1,000,000,000 epochs", "NETWORKS": "10,000 networks", "FACTOR": "factors of 1,000,000"},
        **{
            "TILES": "8 times smaller",
            "UNPACKED": "larger than 1 GB unpacked",
            "PACKED": "200 times its packed size",
            "INTEGER": "of 64 bits",
        },
    }
    units = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
    for name, words in promised.items():
        assert words in text
        found = re.search(r"(\d[\d,]*)(?: (kB|MB|GB))?", words)
        number = int(found[1].replace(",", "")) * units.get(found[2], 1)
        assert getattr(limits, name) == (2 ** (number - 1) if name == "INTEGER" else number), name
    assert {name for name in vars(limits) if name.isupper()} == set(promised)
    assert f"{architectures.MOST_WEIGHTS:,} weights" in text
