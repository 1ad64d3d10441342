"""README and docs keep their promises: what they show works, and every link, command, option and message exists."""

import ast
import itertools
import json
import re
import runpy
import shlex
import shutil
import statistics
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from ddhub import api
from ddhub.base import files
from ddhub.cli.app import main
from ddhub.evaluation import protocols
from ddhub.training import architectures, field_networks, fit
from ddhub.training.optimisation import FAMILIES
from ddhub.training.protocol import Protocol

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *WRITTEN]
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What makes what is shown short enough for a test: settings of a recipe, and options of commands.
RECIPE = [
    "teachers={arch: convnet2_w8, count: 1, epochs: 2}",
    "evaluate={epochs: 2, packaging_seeds: 1, full_epochs: 1}",
]
DM = [*RECIPE, "method.iterations=3"]
APM = ["method.iterations=3", "method.student={arch: convnet2_w8, epochs: 3, lr: 0.02}"]
NETWORKS = {
    "ConvNet-3 of width 32, its own": "convnet3_w32",
    "VGG-11, instance norm, width 16": "vgg11_in_w16",
    "ResNet-18, instance norm, width 16": "resnet18_in_w16",
    "ResNet-18, batch norm, width 16": "resnet18_w16",
    "AlexNet, no norm, width 32": "alexnet_in_w32",
    "ViT-tiny, width 64": "vit_tiny_w64",
}
DEMO = "benchmarks/results/digits_ipc1_dm.json"
EVALUATE = ["--threads", "1", "--set", "epochs=1", "--seeds", "1"]


def settings(*texts):
    """Settings of a recipe as options of `ddhub distill`."""
    return ["--threads", "1", *itertools.chain(*(("--set", text) for text in texts))]


def name(page):
    """A page's path from the top, for the names of tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The fenced blocks of a page in a language; "" are those that name none."""
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


def block(page, language, containing=""):
    """The only such block with these words."""
    (found,) = [text for text in blocks(page, language) if containing in text]
    return found


def prose(page):
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def run(command, *more):
    """Run a shown command here, with more options, and give its output; it has to end well."""
    done = CliRunner().invoke(main, [*shlex.split(command)[1:], *more])
    assert done.exit_code == 0, done.output
    return done.output


def shown_commands(page):
    """The commands of a page's blocks, without comments."""
    lines = itertools.chain(*(text.splitlines() for kind in ("", "bash") for text in blocks(page, kind)))
    return [shlex.join(shlex.split(line.removeprefix("$ "), comments=True)) for line in lines if "ddhub " in line[:8]]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    """Files and headings that a page links to exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        headings = re.findall(r"^#+ (.*)$", FENCE.sub("", found.read_text()), re.M) if anchor else []
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_parses(page):
    """A command in a block is one that ddhub takes: names, options and numbers of arguments."""
    for line in shown_commands(page):
        _, command, *words = shlex.split(line)
        if not command.startswith("-"):
            main.commands[command].make_context(command, [word for word in words if word != "..."])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_and_option_in_a_sentence_exists(page):
    """`ddhub NAME` names a command; an option is one of the command beside it, or of any."""
    of_others = {"--array", "--nproc-per-node", "--version", "--help"}
    every = {option for command in main.commands.values() for option in options(command)} | of_others
    for text in re.findall(r"`([^`]+)`", prose(page)):
        asked = re.match(r"ddhub ([a-z]+)", text)
        if asked:
            assert asked[1] in main.commands, text
        known = options(main.commands[asked[1]]) if asked else every
        assert {word for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)} - known == set(), text


def options(command: click.Command) -> set[str]:
    """What a command's options are called."""
    return {each for one in command.params for each in (*one.opts, *one.secondary_opts) if each.startswith("--")}


def test_every_command_is_shown_somewhere():
    """No command is left to be found by --help alone."""
    shown = {shlex.split(line)[1] for page in PAGES for line in shown_commands(page)}
    named = {command for page in PAGES for command in re.findall(r"`ddhub ([a-z]+)", prose(page))}
    assert set(main.commands) - shown - named == set()


def test_the_readme_fits_on_one_screen_and_names_both_commands():
    text = README.read_text()
    assert 60 <= len(text.splitlines()) <= 100
    assert "make demo" in text and "make test" in text


def table(page, words):
    """The cells of the first table of networks after some words of a page, by architecture."""
    return table_of(page.read_text(), words)


def table_of(text, words):
    """The same of a text."""
    lines = text.partition(words)[2].partition("| network |")[2].splitlines()[2:]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    return {NETWORKS[network]: numbers for network, *numbers in cells}


def rows_of(file):
    """The rows of a result file."""
    return json.loads((ROOT / f"benchmarks/results/{file}.json").read_text())["rows"]


def over_sets(file, protocol):
    """The rows over all sets of one protocol, by architecture."""
    rows = [row for row in rows_of(file) if (row["set"], row["protocol"]) == ("all", protocol)]
    return {row["arch"]: row for row in rows}


def percent(value):
    """A fraction as the tables show it."""
    return f"{100 * value:.1f}"


def gain(row):
    """A difference and its interval, as the tables show them."""
    more, low, high = (f"{100 * (row[name] or 0):+.1f}" for name in ("difference", "low", "high"))
    return [more, "none" if row["low"] is None else f"{low} to {high}"]


def means(row):
    """The accuracies of sets and of random images."""
    return [percent(row["distilled"]), percent(row["random"])]


def trainings(row):
    """How often sets and random images were trained on."""
    return [", ".join(map(str, row["trainings"])), str(row["draws"])]


def beside_real_images(row):
    """The accuracies of sets, random and easy images, and the gains over both."""
    easy = row["beside_easy"]
    return [*means(row), percent(easy["easy"]), *("{} ({})".format(*gain(each)) for each in (row, easy))]


ALONE = "## The same with ConvNets alone as teachers"


@pytest.mark.parametrize(
    ("page", "words", "file"),
    [
        (README, "<!-- results -->", "every_network"),
        (DOCS / "results.md", ALONE, "every_network_convnets"),
    ],
)
def test_the_tables_of_six_networks_are_those_of_the_files(page, words, file):
    """Every number, as the rows of all sets say it."""
    wanted = {arch: beside_real_images(row) for arch, row in over_sets(file, "native").items()}
    assert set(wanted) == set(NETWORKS.values()) and table(page, words) == wanted


def test_labels_of_every_view_teach_what_the_file_says():
    wanted = {}
    for arch, row in over_sets("every_network_dynamic", "dynamic").items():
        distilled, *others = beside_real_images(row)
        sets = f"{distilled} ({sets_of('every_network_dynamic', 'dynamic', arch)})"
        wanted[arch] = [sets, *others, *trainings(row)]
    assert set(wanted) == set(NETWORKS.values())
    assert table(DOCS / "results.md", "### Labels of every view") == wanted


def test_the_demo_in_the_readme_is_what_its_file_says():
    """Networks, accuracies and the number of trainings of `make demo`."""
    shown, made = block(README, "", "is better than"), json.loads((ROOT / DEMO).read_text())
    for row in made["summary"]:
        line = next(line for line in shown.splitlines() if row["arch"] in line)
        assert f"{percent(row['mean'])} ± {percent(row['std'])}" in line and f"n={row['n']}" in shown
    (asked,) = re.findall(r"--archs (\S+)", (ROOT / "Makefile").read_text())
    assert sorted(asked.split(",")) == sorted({row["arch"] for row in made["summary"]})


@pytest.mark.parametrize(("words", "file"), [("# Results", "every_network"), (ALONE, "every_network_convnets")])
def test_how_often_networks_were_trained_is_what_the_file_says(words, file):
    rows = over_sets(file, "native")
    wanted = {arch: [sets_of(file, "native", arch), *trainings(row)] for arch, row in rows.items()}
    page = (DOCS / "results.md").read_text().partition(words)[2]
    assert table_of(page, "How often each was trained") == wanted


@pytest.mark.parametrize(
    ("words", "file", "protocol"),
    [
        ("went the whole way, by the same protocol on test data", "every_network_whole_way", "native"),
        ("Sets that went the whole way, by the same labels", "every_network_whole_way", "dynamic"),
        ("## CIFAR-10, 10 whole images per class", "cifar10_ipc10_small", "native"),
        ("of every view (`dynamic`), the same sets:", "cifar10_ipc10_small", "dynamic"),
    ],
)
def test_the_tables_of_sets_are_those_of_the_files(words, file, protocol):
    """Every network of a file, with the mean of each set."""
    wanted = {}
    for arch, row in over_sets(file, protocol).items():
        distilled, random = means(row)
        wanted[arch] = [f"{distilled} ({sets_of(file, protocol, arch)})", random, *gain(row), *trainings(row)]
    assert table(DOCS / "results.md", words) == wanted


def sets_of(file, protocol, arch):
    """The accuracies of the sets, in their order."""
    sets = [row for row in rows_of(file) if (row["protocol"], row["arch"]) == (protocol, arch) and row["set"] != "all"]
    return ", ".join(percent(row["distilled"]) for row in sets)


def test_the_steps_of_other_networks_are_those_of_their_evaluation():
    """What `evaluate` makes of the overrides of the rows: the ViT takes an epoch more, for `min_steps`."""
    (told,) = {tuple(row["overrides"]) for row in rows_of("every_network") if row.get("overrides")}
    changes = {key: int(value) for key, value in (text.split("=") for text in told)}
    protocol = Protocol(loss="l1_logits", lr=0.02, **changes)
    others, vit = (
        epochs * steps
        for epochs, steps in (fit.plan(400, protocol, FAMILIES[kind]) for kind in ("convnet", "transformer"))
    )
    assert (
        f"for {others:,} steps of {changes['batch']} images, and the ViT for {vit:,}."
        in (DOCS / "results.md").read_text()
    )


def test_how_other_families_are_trained_is_what_the_file_says():
    """Every way that was tried on a network; a dash stands for one that was not."""
    rows = {(row["arch"], row["way"]): percent(row["top1"]) for row in rows_of("other_families")}
    ways = list(dict.fromkeys(way for _, way in rows))
    shown = table(DOCS / "results.md", "### How other families are trained")
    assert {arch for arch, _ in rows} == set(shown)
    assert all(sorted(cells) == sorted(rows.get((arch, way), "-") for way in ways) for arch, cells in shown.items())


def test_points_of_the_way_are_what_the_file_says():
    """The mean over sets at each point; a dash stands for one where no set was tried."""
    shown, blends = table(DOCS / "results.md", "### How far images should go"), (0.0, 0.25, 0.5, 1.0)
    rows = rows_of("blend")
    assert {row["arch"] for row in rows} == set(shown)
    for arch, (*cells, n) in shown.items():
        found = [[row["top1"] for row in rows if (row["arch"], row["blend"]) == (arch, blend)] for blend in blends]
        assert cells == [percent(sum(each) / len(each)) if each else "-" for each in found]
        assert {len(each) for each in found if each} == {int(n)}


def test_points_of_the_way_by_teachers_of_two_families_are_what_the_file_says():
    """The mean over sets at each point, and half less start with Student's interval over sets."""
    rows = [row for row in rows_of("blend_families") if "arch" in row]
    shown = table(DOCS / "results.md", "### Teachers of two families")
    assert {row["arch"] for row in rows} == set(shown)
    for arch, (*cells, more, n) in shown.items():
        found = [
            {row["seed"]: row["top1"] for row in rows if (row["arch"], row["blend"]) == (arch, blend)}
            for blend in (0.0, 0.25, 0.5, 1.0)
        ]
        assert cells == [percent(statistics.fmean(each.values())) for each in found]
        assert [len(each) for each in found] == [int(n), 2, int(n), 2]
        gains = [found[2][seed] - start for seed, start in found[0].items()]
        half = stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
        middle, low, high = (f"{100 * (statistics.fmean(gains) + by):+.1f}" for by in (0, -half, half))
        assert more == f"{middle} ({low} to {high})"


def test_what_moves_teach_is_what_the_file_says():
    """The mean over sets of each pair of images and labels."""
    pairs = list(itertools.product(("start", "moved"), repeat=2))
    for arch, cells in table(DOCS / "results.md", "### Pixels or labels").items():
        rows = [row for row in rows_of("moved_labels") if row["arch"] == arch]
        found = [[row["top1"] for row in rows if (row["images"], row["labels"]) == pair] for pair in pairs]
        sets = len({row["seed"] for row in rows})
        assert {len(each) for each in found} == {sets}
        assert cells == [*(percent(sum(each) / sets) for each in found), str(sets)]


def test_the_readme_maps_every_package():
    """Ten lines say where things are, and what they name is there."""
    lines = block(README, "", "ddhub/base/").splitlines()
    assert len(lines) == 10
    named = {word for line in lines for word in re.findall(r"(?:^|(?<= ))[\w/]+/(?= |$)", line)}
    assert [path for path in named if not (ROOT / path).is_dir()] == []
    packages = {f"ddhub/{path.parent.name}/" for path in (ROOT / "ddhub").glob("*/__init__.py")}
    assert packages - named == set()


def test_every_page_is_in_the_table_of_contents():
    toctree = "\n".join(blocks(DOCS / "index.md", "{toctree}"))
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in WRITTEN} - {"index"}
    assert pages == set(re.findall(r"^[a-z/-]+$", toctree, re.M))


def test_the_reference_has_the_keys_of_every_method():
    page = (DOCS / "reference" / "recipe.md").read_text()
    methods = [path.stem for path in (ROOT / "ddhub/distillation/methods").glob("*.py") if path.stem[0] != "_"]
    assert [name for name in ["recipe", *methods] if f"```{{keys}} {name}\n" not in page] == []


def test_the_messages_of_troubleshooting_are_ours():
    """A message under which help is found is one that ddhub says; `...` stands for names and numbers."""
    said = "\n".join(path.read_text() for path in (ROOT / "ddhub").rglob("*.py"))
    headings = re.findall(r"^### `(.*)`$", (DOCS / "guides" / "troubleshooting.md").read_text(), re.M)
    pieces = [piece.strip() for heading in headings for piece in heading.split("...") if piece.strip()]
    assert len(headings) >= 20
    assert [piece for piece in pieces if piece not in said] == []


def test_the_variables_of_the_environment_are_all_told():
    """Whatever ddhub reads from the environment is on the page."""
    code = "\n".join(path.read_text() for path in (ROOT / "ddhub").rglob("*.py"))
    read = set(re.findall(r"environ(?:\.get|\.setdefault)?[(\[]\"(\w+)\"", code))
    assert {"DDHUB_HOME", "LOCAL_RANK"} <= read
    page = (DOCS / "reference" / "environment.md").read_text()
    assert [variable for variable in read if f"`{variable}" not in page] == []


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The commands of the quickstart, run one after the other in one folder; what each said."""
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DDHUB_HOME", str(folder / "home"))
        more = {"distill": settings(*DM), "evaluate": EVALUATE}
        lines = "".join(blocks(DOCS / "quickstart.md", "bash")).splitlines()
        said = {line: run(line, *more.get(shlex.split(line)[1], [])) for line in lines}
    return folder, said


@pytest.mark.slow
def test_the_quickstart_runs(quickstart, monkeypatch):
    """Its commands do what it says, and its Python runs after them."""
    folder, said = quickstart
    assert (folder / "distilled/digits_ipc1_dm/assets/images.png").is_file()
    assert (folder / "report.html").is_file()
    (table,) = [text for line, text in said.items() if "evaluate" in line]
    assert "over random" in table and "alexnet_in_w32" in table
    monkeypatch.chdir(folder)
    for text in blocks(DOCS / "quickstart.md", "python"):
        exec(text, {})


@pytest.mark.slow
def test_the_readme_python_runs(tmp_path, monkeypatch):
    """Its lines run one after the other."""
    monkeypatch.chdir(tmp_path)
    text = block(README, "python")
    assert len(text.splitlines()) <= 9
    text = text.replace('"digits_ipc1_dm")', '"digits_ipc1_dm", overrides=quick)')
    text = text.replace('"resnet18_w8"])', '"resnet18_w8"], seeds=1, overrides=["epochs=1"])')
    scope = {"quick": DM}
    exec(text, scope)
    assert scope["inputs"].shape == scope["s"].inputs.shape
    assert {row.data for row in scope["result"].rows} == {"distilled", "random"}


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Every cell runs, and what the cells end with shows itself as a notebook would show it."""
    monkeypatch.chdir(tmp_path)
    notebook, scope, shown = json.loads((ROOT / "examples/quickstart.ipynb").read_text()), {}, []
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]).replace("shorter = []", f"shorter = {DM}"))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell", "exec"), scope)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), scope))
    pages = [each._repr_html_() for each in shown if hasattr(each, "_repr_html_")]
    assert len(pages) == 3
    assert "data:image/png" in pages[0] and "random real" in pages[1] and "digits_random" in pages[2]


@pytest.mark.slow
def test_the_script_trains_on_a_set_without_ddhub(quickstart, make_folder, monkeypatch, capsys):
    """Forty lines or so of torch and datasets; test images come from a folder with the source's columns."""
    script = ROOT / "examples/train.py"
    assert "ddhub" not in re.sub(r"ddhub(\.json|\.load| evaluate)", "", script.read_text())
    assert len(script.read_text().splitlines()) <= 51
    set_ = quickstart[0] / "distilled/digits_ipc1_dm"
    images = [Image.fromarray(np.full((8, 8), 25 * k, np.uint8)) for k in range(10)]
    real = make_folder({"test": (images, list(range(10)))}, names=[str(k) for k in range(10)])
    for arguments, told in (([set_], "accuracy on the set itself: "), ([set_, real], "accuracy on the test images: ")):
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script))
        assert capsys.readouterr().out.startswith(told)


@pytest.mark.parametrize("place", ["nowhere", "pictures", "a/b/c"])
def test_the_script_refuses_what_is_no_set(place, tmp_path, monkeypatch):
    """A misspelt path, a folder of pictures, and no name of a repo."""
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    monkeypatch.setattr(sys, "argv", ["train.py", place])
    with pytest.raises(SystemExit, match=f"{place}: is no folder with a ddhub.json"):
        runpy.run_path(str(ROOT / "examples/train.py"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "names", "pictures", "why"),
    [
        ("train", "0123456789", [Image.new("L", (8, 8))], "no split"),
        ("test", "1023456789", [Image.new("L", (8, 8))], "order"),
        ("test", "0123456789", [Image.new("L", (8, 8)), Image.new("L", (9, 8))], "another size"),
        ("test", "0123456789", [Image.new("RGB", (8, 8))], "another size or kind"),
        ("test", "0123456789", [Image.new("I;16", (8, 8))], "another size or kind"),
    ],
    ids=["no test split", "order", "sizes", "colours", "16 bits"],
)
def test_the_script_refuses_test_images_that_it_would_read_wrongly(
    split, names, pictures, why, quickstart, make_folder, monkeypatch
):
    """Own pictures may have no test split, and other files another order of classes: accuracies would be wrong.

    Pictures of several sizes ended in a traceback, and values of 16 bits were divided by 255.
    """
    images = [pictures[index % len(pictures)] for index in range(10)]
    real = make_folder({split: (images, list(range(10)))}, names=list(names))
    monkeypatch.setattr(sys, "argv", ["train.py", str(quickstart[0] / "distilled/digits_ipc1_dm"), str(real)])
    with pytest.raises(SystemExit, match=rf"{why}.*use ddhub evaluate"):
        runpy.run_path(str(ROOT / "examples/train.py"))


@pytest.mark.slow
@pytest.mark.parametrize("labels", [range(1, 11), [str(digit) for digit in range(10)]], ids=["from 1", "texts"])
def test_the_script_refuses_labels_that_are_no_class_numbers(labels, quickstart, make_folder, tmp_path, monkeypatch):
    """A column without class names can count from 1, and every image was then of the next class."""
    made = shutil.copytree(quickstart[0] / "distilled/digits_ipc1_dm", tmp_path / "made")
    record = json.loads((made / "ddhub.json").read_text())
    (made / "ddhub.json").write_text(json.dumps(record | {"classes": [str(label) for label in labels]}))
    real = make_folder({"test": ([Image.new("L", (8, 8))] * 10, list(labels))}, names=None)
    monkeypatch.setattr(sys, "argv", ["train.py", str(made), str(real)])
    with pytest.raises(SystemExit, match=r"other classes.*use ddhub evaluate"):
        runpy.run_path(str(ROOT / "examples/train.py"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_set", "more"),
    [
        ("whitened", ["preprocess.zca=true"]),
        ("of top-k labels", ["labels.top_k=3"]),
        ("of classes alone", ["labels.form=hard"]),
        ("with pixels", []),
    ],
)
def test_the_script_refuses_what_it_would_read_wrongly(of_set, more, tmp_path, monkeypatch):
    """Whitening, network inputs, top-k labels and no logits: in one sentence, not by a training on wrong inputs."""
    if of_set == "with pixels":
        monkeypatch.setattr("ddhub.distillation.packaging.worth_floats", lambda _: True)
    set_ = Path(api.distill("digits_ipc1_dm", out=tmp_path / "set", overrides=[*DM, *more], threads=1).folder)
    monkeypatch.setattr(sys, "argv", ["train.py", str(set_)])
    with pytest.raises(SystemExit, match=r"use ddhub\.load"):
        runpy.run_path(str(ROOT / "examples/train.py"))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1, 2])
def test_the_method_it_shows_works(factor, tmp_path, monkeypatch):
    """The file is run from where it lies, and its command makes the class means, whole or at half the side."""
    page = DOCS / "extending" / "method.md"
    monkeypatch.chdir(tmp_path)
    Path("mean.py").write_text(block(page, "python", "the mean of its training images"))
    run(block(page, "", "method.name=./mean.py"), *settings(*RECIPE, f"preprocess.factor={factor}"))
    made = json.loads(Path("distilled/mean/ddhub.json").read_text())
    assert made["method"] == {"name": "./mean.py", "sha256": files.sha256(Path("mean.py"))}
    assert made["packaging"]["validation_top1_packaged"] > 0.1


@pytest.mark.slow
def test_the_layout_it_shows_works(tmp_path, monkeypatch):
    """A set that its file writes is read back by its command, image for image."""
    page = DOCS / "extending" / "layout.md"
    monkeypatch.chdir(tmp_path)
    Path("pair.py").write_text(block(page, "python", "def detect"))
    images, labels = torch.randn(10, 1, 8, 8), torch.arange(10)
    torch.save({"x": images, "y": labels}, "pair.pt")
    run(block(page, "", "ddhub import"))
    run("ddhub export sets/pair --layout ./pair.py --out there")
    back = torch.load("there/pair.pt", weights_only=True)
    assert torch.equal(back["x"], images) and torch.equal(back["y"], labels)


def test_the_architecture_it_shows_works(monkeypatch):
    """The line goes into the table and builds a network with a stem for small images."""
    line = block(DOCS / "extending" / "architecture.md", "python")
    monkeypatch.setattr(architectures, "TABLE", {**architectures.TABLE, **eval("{" + line + "}", vars(field_networks))})
    net = architectures.try_out("resnet34", classes=10, channels=3, side=32)
    assert net.conv1.kernel_size == (3, 3)
    architectures.try_out("timm:mobilenetv3_small_050", classes=10, channels=3, side=32)


@pytest.mark.slow
def test_the_protocol_it_shows_works(quickstart, monkeypatch):
    """The line goes into the table, and its command trains by it."""
    page = DOCS / "extending" / "protocol.md"
    line = block(page, "python")
    table = {**protocols.PROTOCOLS, **eval("{" + line + "}", vars(protocols))}
    for module in (protocols, sys.modules["ddhub.evaluation.choices"]):
        monkeypatch.setattr(module, "PROTOCOLS", table)
    monkeypatch.chdir(quickstart[0])
    assert "patient epochs=1" in run(block(page, "", "ddhub evaluate"), *EVALUATE, "--baselines", "none")


@pytest.mark.slow
def test_the_folder_it_shows_works(tmp_path, monkeypatch):
    """A folder of pictures is distilled and evaluated by the two commands, and the recipe of one's own is one."""
    page, generator = DOCS / "guides" / "own-data.md", np.random.default_rng(0)
    for number, title in enumerate(("elm", "oak")):
        for index in range(30):
            path = tmp_path / "leaves" / title / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., number] += 100
            Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    distill, evaluate = block(page, "bash").strip().splitlines()
    run(distill, *settings(*RECIPE, *APM))
    made = json.loads(Path("distilled/leaves/ddhub.json").read_text())
    assert (made["classes"], made["source"]["dataset"]) == (["elm", "oak"], "leaves")
    assert "random real" in run(evaluate, *EVALUATE)
    Path("leaves.yaml").write_text(block(page, "yaml"))
    resolved = run("ddhub distill leaves.yaml", "--dry-run")  # of a folder without a test split
    assert "dataset: ./leaves" in resolved and "no split to test on" not in resolved


@pytest.mark.slow
@pytest.mark.parametrize("library", ["transformers", "lightning"])
def test_the_trainers_of_others_learn_from_soft_labels(library, finished, tmp_path, monkeypatch):
    """The page runs as it stands on a set with soft labels, and every weight is another one after it."""
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "distilled" / "digits_ipc1_dm")
    code = block(DOCS / "guides" / "other-trainers.md", "python", f"import {library}")
    before, start, end = code.rpartition("trainer.train()" if library == "transformers" else "lightning.Trainer(")
    scope = {}
    exec(before, scope)
    assert scope["ds"].soft_labels is not None
    weights = {name: value.clone() for name, value in scope["model"].named_parameters()}
    exec(start + end, scope)
    after = dict(scope["model"].named_parameters())
    assert [name for name, value in weights.items() if torch.equal(value, after[name].cpu())] == []
