"""Plug-ins from outside: a file of the user's own, and the example package; who runs them, and what is recorded."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import ddhub
from ddhub import api
from ddhub.artifact import manifest
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.cli import app

QUICK = [
    "teachers={arch: convnet2_w8, count: 1, epochs: 1}",
    "evaluate={epochs: 2, packaging_seeds: 1, seeds: 1, min_steps: 0}",
]
MINE = '''
"""Real images, made brighter step by step."""

from pathlib import Path

from ddhub.base.schema import Strict
from ddhub.distillation.method import Method
from ddhub.distillation.task import SyntheticSet

with Path(__file__).with_name("ran").open("a") as file:
    file.write("x")


class Config(Strict):
    iterations: int = 3
    step: float = 0.01


def distill(task, run):
    images, labels = task.start("real")
    state = {"images": images}
    for _ in run.steps(task.config.iterations, state):
        state["images"] = state["images"] + task.config.step
    return SyntheticSet(state["images"], labels, task.soft_labels(state["images"]) if task.teachers else None)


METHOD = Method(config=Config, distill=distill)
'''
EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"


def ran() -> int:
    """How often the file in the current folder was run."""
    return len(Path("ran").read_text()) if Path("ran").exists() else 0


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with the file `mine.py`."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    return tmp_path


def made(name: str, *more: str, file: str = "./mine.py", **how) -> Path:
    overrides = [f"method={{name: {file}, iterations: 4}}", *QUICK, *more]
    return Path(api.distill("digits_ipc1", out=Path(name), overrides=overrides, threads=1, **how).folder)


def test_a_file_distills_also_in_other_processes_and_is_recorded_by_name_and_hash(here):
    """Two workers make a group each; neither recipe, manifest nor card tells where the file lay."""
    bare = ["teachers.count=0", "labels.form=hard"]  # workers would train teachers too, in processes of their own
    folder = made("set", "ipc=2", "groups=2", *bare, file=str(here / "mine.py"), workers=2)
    record, sha256 = manifest.read(folder), files.sha256(Path("mine.py"))
    assert record.method == {"name": "./mine.py", "sha256": sha256, "iterations": 4, "step": 0.01}
    assert record.made.method_code == f"./mine.py, sha256 {sha256}"
    assert "method={name: ./mine.py, iterations: 4}" in record.made.overrides
    assert f"The method is not part of ddhub. Its code is `./mine.py, sha256 {sha256}`" in (
        folder / "README.md"
    ).read_text(encoding="utf-8")
    published = [folder / name for name in ("recipe.yaml", "ddhub.json", "README.md")]
    assert not any(str(here) in path.read_text(encoding="utf-8") for path in published)


def test_a_published_recipe_makes_the_set_again_with_that_file_alone(here):
    """The recipe of the set names the file's hash: with the file its bytes come out, with another it is refused."""
    first = made("first")
    again = api.distill(str(first / "recipe.yaml"), out="again", threads=1)
    assert manifest.read(Path(again.folder)).files == manifest.read(first).files
    Path("mine.py").write_text(MINE.replace("+ task", "- task"))
    before = ran()
    with pytest.raises(UserError, match=r"mine\.py: is not the file that the recipe was made with"):
        api.distill(str(first / "recipe.yaml"), out="other", threads=1)
    assert ran() == before
    with pytest.raises(UserError, match=r"belongs to another recipe \(different: method\.sha256\)"):
        made("first")


def test_nothing_but_distilling_runs_the_file(here, server):
    """Looking at a set, measuring, joining, publishing and fetching it never do, wherever the file lies."""
    sets = [made("one"), made("two", "seed=1")]
    shutil.copy("mine.py", sets[0] / "mine.py")
    before = ran()
    assert before > 0
    assert api.verify(str(sets[0])).faults == []
    api.evaluate(str(sets[0]), ["convnet2_w8"], baselines=(), seeds=1, threads=1, probe=False)
    api.report(str(sets[0]))
    api.card(sets[0])
    api.merge(*sets, out="both")
    api.export("one", "mtt", "exported")
    ddhub.load("one")
    api.push("one", "alice/one")
    api.pull("alice/one", "pulled")
    assert ran() == before and not (sets[0] / "ran").exists()
    assert not list(Path("pulled").rglob("*.py"))


@pytest.mark.parametrize(
    "command", ["distill recipe.yaml --dry-run", "plan recipe.yaml", "distill recipe.yaml --out x"]
)
def test_a_file_that_lies_in_a_sets_folder_is_not_run(here, command, monkeypatch):
    """Whoever made the set may have put it there; a copy elsewhere is the reader's own."""
    folder = made("theirs")
    shutil.copy("mine.py", folder / "mine.py")
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app.main, command.split())
    assert result.exit_code == 1 and "lies in the folder of a set" in result.output
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "(task, run):",
            "(task, run):\n    1 / 0",
            "./mine.py: its code failed: ZeroDivisionError: division by zero (min",
        ),
        ('SyntheticSet(state["images"], labels', 'SyntheticSet(state["images"][:3], labels', "returns images of (3, "),
        (
            "return SyntheticSet",
            "return dict",
            "./mine.py: its code failed: TypeError: dict expected at most 1 argument",
        ),
        (
            "    return SyntheticSet",
            "    SyntheticSet",
            "method ./mine.py: returns images of NoneType, not (10, 1, 8, 8)",
        ),
        ("METHOD =", "METHODS =", "method.name: ./mine.py: defines no METHOD"),
    ],
)
def test_a_faulty_file_ends_in_a_sentence_that_names_it(here, old, new, said):
    Path("mine.py").write_text(MINE.replace(old, new))
    with pytest.raises(UserError) as fault:
        made("set")
    assert said in str(fault.value)


def install(project: Path, target: Path) -> None:
    """What an installer makes of a project: its package, and the entry points that its pyproject.toml declares."""
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    package = told["name"].replace("-", "_")
    shutil.copytree(project / package, target / package)
    about = target / f"{package}-{told['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())])
        for group, entries in told["entry-points"].items()
    )
    (about / "entry_points.txt").write_text("\n".join(groups))


def test_the_example_package_adds_a_method_a_layout_and_an_architecture(tmp_path, monkeypatch):
    """They are listed, distilled with, exported and imported with, and the set says whose they are."""
    install(EXAMPLE, tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)

    def said(*command: str) -> str:
        result = CliRunner().invoke(app.main, list(command))
        assert result.exit_code == 0, result.output
        return result.output

    listed = said("recipes")
    assert all(
        f"{what}: of ddhub-example 0.1.0" in listed for what in ("method class_mean", "layout npy", "tecture linear")
    )
    quick = ["--set", "teachers={arch: linear, count: 1, epochs: 2}", "--set", QUICK[1], "--memory", "2GB"]
    said("distill", "digits_ipc1", "--set", "method.name=class_mean", *quick, "--out", "set", "--threads", "1")
    record = manifest.read(Path("set"))
    assert record.method == {"name": "class_mean", "iterations": 10, "rate": 0.1}
    assert (record.made.method_code, record.home_arch) == ("ddhub-example 0.1.0", "linear")
    assert "npy" in said("export", "--help") and "npy" in said("import", "--help")
    done = json.loads(said("export", "set", "--layout", "npy", "--out", "npy", "--json"))
    assert done["files"] == ["images.npy", "labels.npy"]
    mean, std = (str(values[0]) for values in (record.preprocess.mean, record.preprocess.std))
    said("import", "npy", "--source", "digits", "--mean", mean, "--std", std, "--order", "source", "--out", "back")
    imported = manifest.read(Path("back")).imported
    assert imported.layout == "npy" and "read by code of ddhub-example 0.1.0" in imported.notes
    said("evaluate", "set", "--archs", "linear", "--baselines", "none", "--seeds", "1", "--no-probe", "--threads", "1")
    assert api.verify("set").faults == []
