"""The public face: `import ddhub` is quick and typed, and what its functions give back shows itself."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK

import ddhub
from ddhub.base.resources import ResourceOptions, Resources

VERBS = [
    "distill",
    "evaluate",
    "export",
    "import_set",
    "init",
    "merge",
    "plan",
    "pull",
    "push",
    "recipes",
    "report",
    "verify",
]
SCRIPT = """
from pathlib import Path

import ddhub

chosen: list[str] = ddhub.init("photos", minutes=5, flips=False).chosen
made = ddhub.distill("digits_ipc1", Path("out"), overrides={"ipc": 2, "method": {"name": "random"}}, threads=1)
record = made.manifest
names: list[str] = record.classes
scored = ddhub.evaluate(made.folder, ["resnet18"], seeds=3, device="cpu", workers=2, precision="auto")
best: float = max(score.mean for score in scored.summary if score.data == "distilled")
rows: list[float] = [row.top1 for row in scored.rows]
seconds: float = ddhub.plan("imagenet_ipc50", overrides=["memory=4GB"]).sum.wall_seconds
faults: list[str] = ddhub.verify(made.folder).faults
url: str = ddhub.push(made.folder, "me/digits").url
commit: str = ddhub.pull("me/digits", "copy").commit
both = ddhub.merge("a", Path("b"), out="ab")
warnings: list[str] = ddhub.report("a", "b", html="page.html").warnings
other = ddhub.import_set("mtt.pt", source="uoft-cs/cifar10", out="mtt", mean=(0.5, 0.5, 0.5), zca=False)
files: list[str] = ddhub.export(made.folder, "datm").files
titles: list[str | None] = [recipe.title for recipe in ddhub.recipes()]
loaded: ddhub.DistilledSet = ddhub.load("me/digits@main")
try:
    ddhub.load("nowhere")
except ddhub.UserError as fault:
    print(fault.next)
"""
WRONG = """
import ddhub

ddhub.distill("digits_ipc1", devise="cpu")
ddhub.evaluate("set", threads="two")
ddhub.verify("set").falts
"""


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_functions_are_named_as_the_commands():
    """Each is there, is documented, and `dir` lists it."""
    from ddhub.cli.app import COMMANDS

    assert {(command.name or "").replace("import", "import_set") for command in COMMANDS} - {"card", "plot"} == set(
        VERBS
    )
    assert {*VERBS, "load", "UserError", "DistilledSet"} <= set(dir(ddhub))
    assert all(inspect.getdoc(getattr(ddhub, name)) for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_parameter_is_explained_on_its_own(name):
    """Under both of its import paths a function is the same; what may go wrong is said too."""
    import ddhub.api

    function = getattr(ddhub, name)
    text, unsaid = inspect.getdoc(function) or "", inspect.signature(function).parameters.keys()
    assert text == inspect.getdoc(getattr(ddhub.api, name))
    assert [given for given in unsaid if f"\n    {given}: " not in text] == []
    assert "\nRaises:\n" in text or name == "recipes"


def test_an_unknown_name_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'destill'"):
        ddhub.destill  # noqa: B018


def test_importing_the_package_imports_nothing_else():
    """No library at all, so that it takes no time."""
    code = "import sys; before = set(sys.modules); import ddhub; print(*sorted(set(sys.modules) - before))"
    extra = set(python(code).split()) - {"ddhub", "__future__"}
    assert not {name.split(".")[0] for name in extra} - set(sys.stdlib_module_names)


def test_every_resource_is_a_keyword_argument():
    """The keyword arguments are the fields of Resources, with their types."""
    assert ResourceOptions.__annotations__ == {k: f.type for k, f in Resources.__dataclass_fields__.items()}


def check_types(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What mypy says of a user's script; libraries are not looked into, which takes a minute."""
    path.write_text(text)
    skipped = ",".join(f"mypy-{name}.*" for name in ("torch", "numpy", "datasets", "PIL", "huggingface_hub", "click"))
    config = path.with_suffix(".ini")
    config.write_text(f"[mypy]\nstrict = True\nignore_missing_imports = True\nfollow_imports = silent\n[{skipped}]\n")
    config.write_text(config.read_text() + "follow_imports = skip\nfollow_imports_for_stubs = True\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(path.parent), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(ddhub.__file__).parents[1])


@pytest.mark.slow
def test_a_users_script_passes_the_strict_type_checker(tmp_path):
    """Every function and result is typed for users, and what is misspelt is found."""
    assert (Path(ddhub.__file__).parent / "py.typed").is_file()
    right = check_types(tmp_path / "right.py", SCRIPT)
    assert right.returncode == 0, right.stdout
    wrong = check_types(tmp_path / "wrong.py", WRONG).stdout
    assert 'Unexpected keyword argument "devise"' in wrong
    assert 'Argument "threads" to "evaluate" has incompatible type "str"' in wrong
    assert 'has no attribute "falts"' in wrong


@pytest.mark.slow
def test_a_set_is_made_and_evaluated_from_python(tmp_path):
    """Objects print in a line, show pictures and tables in notebooks, and are JSON."""
    changes = {"teachers": {"arch": "convnet2_w8", "count": 1, "epochs": 1}, "method.name": "random"}
    changes |= {"evaluate.epochs": 1, "evaluate.packaging_seeds": 1}
    made = ddhub.distill("digits_ipc1", tmp_path / "set", overrides=changes, threads=1)
    assert made.manifest.ipc == 1 and "10 classes, ipc 1>" in repr(made)
    assert made._repr_html_().count("data:image/png;base64,") == 1
    scored = ddhub.evaluate(tmp_path / "set", ["convnet2_w8"], seeds=2, threads=1)
    assert {(row.data, row.seed) for row in scored.rows} == {(d, s) for d in ("distilled", "random") for s in (0, 1)}
    assert {(score.data, score.n) for score in scored.summary} == {("distilled", 2), ("random", 2)}
    assert "Over random: convnet2_w8 native " in repr(scored)
    assert "convnet2_w8 native: distilled " in str(scored) and "n=2" in str(scored)
    assert "<table>" in scored._repr_html_() and "<td>convnet2_w8</td>" in scored._repr_html_()
    assert ddhub.verify(tmp_path / "set").ok
    shown = ddhub.report(tmp_path / "set")
    assert [row.top1 for row in shown.sets[0].rows] == [row.top1 for row in scored.rows]
    for document in (made, scored, shown):
        assert len(repr(document)) < 400 and json.loads(json.dumps(document.to_dict())) == document.to_dict()


@pytest.mark.slow
def test_a_report_is_the_file_that_lies_in_the_folder(tmp_path, folder):
    """`to_dict` loses no key and no digit."""
    ddhub.evaluate(folder, ["convnet2_w8"], seeds=1, threads=1, probe=False)
    kept = json.loads((folder / "report.json").read_text())
    assert {**ddhub.report(folder).to_dict()["sets"][0], "set": kept["set"]} == kept


@pytest.mark.parametrize("make", [ddhub.plan, ddhub.distill])
def test_a_budget_of_memory_is_a_key_of_the_recipe(make):
    """`memory=` was dropped without a word."""
    with pytest.raises(ddhub.UserError, match=r"memory: .*more than the budget"):
        make("digits_ipc1", memory="1KB", threads=1)


def test_a_plan_and_the_recipes_show_themselves():
    """Numbers as people say them."""
    plan = ddhub.plan("digits_ipc1", overrides=QUICK, threads=1)
    assert plan.recipe == "digits_ipc1" and plan.phases[0].phase == "source"
    assert plan.sum.seconds >= plan.sum.wall_seconds > 0
    assert "<td>teachers</td>" in plan._repr_html_() and repr(plan).startswith("<Plan of digits_ipc1: ")
    assert "<Recipe digits_ipc1: " in repr(ddhub.recipes())


def test_strangers_names_are_inert_in_notebooks(folder):
    """Markup in a name is text."""
    from ddhub.outcomes import Verification

    shown = Verification(set="<script>x</script>", faults=["<b>bad</b>"])._repr_html_()
    assert "<script>" not in shown and "<b>" not in shown


@pytest.mark.parametrize(
    ("call", "next"),
    [
        (lambda: ddhub.evaluate("set", "convnet2,convnet3"), "archs=['convnet2', 'convnet3']"),
        (lambda: ddhub.evaluate("set", protocols="native"), "protocols=['native']"),
        (lambda: ddhub.distill("digits_ipc1", overrides="a=[1,2]"), "overrides=['a=[1,2]']"),
        (lambda: ddhub.import_set("a", source="digits", out="b", overrides="c=1"), "overrides=['c=1']"),
    ],
    ids=["archs", "protocols", "overrides", "import_set"],
)
def test_a_text_in_place_of_a_list_is_named(call, next):
    """Its letters were taken for names: "arch 'c': unknown"."""
    with pytest.raises(ddhub.UserError, match=r"a list of texts( or a dict)? belongs here") as caught:
        call()
    assert caught.value.next == next


@pytest.mark.parametrize(
    "call",
    [
        *(lambda rate=rate: ddhub.import_set("a", source="digits", out="b", lr=rate) for rate in (float("nan"), -1, 0)),
        *(
            lambda mean=mean: ddhub.import_set("a", source="digits", out="b", mean=mean, std=[0.3])
            for mean in (0.3, [float("nan")], "0.3", [[0.3]])
        ),
        lambda: ddhub.import_set("a", source="digits", out="b", epochs=0),
        *(lambda minutes=minutes: ddhub.init("a", minutes=minutes) for minutes in (float("nan"), float("inf"), 0)),
    ],
)
def test_numbers_that_are_none_are_refused(call, tmp_path, monkeypatch):
    """The command line takes `nan` for a number too; it ended in a traceback."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ddhub.UserError, match=r"^(--)?(lr|mean|epochs|minutes)\b"):
        call()


@pytest.mark.parametrize("path", ["x" * 300, "/".join(["y" * 200] * 30), "a\0b"], ids=["long", "deep", "NUL"])
def test_paths_that_no_file_can_have_are_sentences(path, folder):
    """Wherever a function takes one; the command line says the same."""
    calls = {
        **{"verify": ddhub.verify, "load": ddhub.load, "report": ddhub.report, "evaluate": ddhub.evaluate},
        **{"plan": ddhub.plan, "distill": ddhub.distill, "init": ddhub.init},
        "distill, out": lambda odd: ddhub.distill("digits_ipc1", out=odd),
        "merge": lambda odd: ddhub.merge(odd, out="out"),
        "merge, out": lambda odd: ddhub.merge(folder, out=odd),
        "import, out": lambda odd: ddhub.import_set(folder, source="digits", out=odd),
        "export, out": lambda odd: ddhub.export(folder, "folder", odd),
        "push": lambda odd: ddhub.push(odd, "owner/name"),
        "pull, out": lambda odd: ddhub.pull("owner/name", odd),
        "report, from": lambda odd: ddhub.report(folder, rows_from=odd),
        "evaluate, source": lambda odd: ddhub.evaluate(folder, source_path=odd),
    }
    for name, call in calls.items():
        with pytest.raises(ddhub.UserError) as caught:
            call(path)
        assert len(str(caught.value)) < 9000 and caught.value.next, name


FUNCTIONS = [*VERBS, "load"]
NEEDED = {  # arguments that each function must have; they are fine
    **{"distill": {"recipe": "digits_ipc1"}, "evaluate": {"set": "set"}, "export": {"folder": "set", "layout": "mtt"}},
    **{"import_set": {"path": "a", "source": "digits", "out": "b"}, "init": {"source": "pictures"}},
    **{"load": {"reference": "set"}, "merge": {"out": "both"}, "plan": {"recipe": "digits_ipc1"}},
    **{"pull": {"set": "owner/name", "out": "b"}, "push": {"folder": "set", "repo_id": "owner/name"}},
    **{"verify": {"set": "set"}},
}


def arguments(name: str) -> list[str]:
    """The arguments that a function takes by name, with those of `**resources` and `**options`."""
    from ddhub.interop.options import ImportOptions

    gathered = {"resources": ResourceOptions.__annotations__, "options": ImportOptions.__annotations__}
    parameters = inspect.signature(getattr(ddhub, name)).parameters
    found = [list(gathered.get(each, [each])) for each in parameters if each != "sets"]
    return [each for some in found for each in some]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_type_in_any_argument_is_a_sentence_that_names_it(name, tmp_path, monkeypatch):
    """It was a TypeError from inside, or nothing at all: precision=5 trained in float32."""
    monkeypatch.chdir(tmp_path)
    for each in arguments(name):
        with pytest.raises(ddhub.UserError, match=f"^{each}=<object .*belongs here") as caught:
            getattr(ddhub, name)(**{**NEEDED.get(name, {}), each: object()})
        assert caught.value.next, each
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_misspelt_missing_and_surplus_arguments_are_sentences(name):
    """Each says what to type next."""
    function, needed = getattr(ddhub, name), NEEDED.get(name, {})
    for each in arguments(name):
        with pytest.raises(ddhub.UserError, match=f"^{each}zz: ddhub.{name} has no such argument; did you") as caught:
            function(**needed, **{f"{each}zz": 1})
        assert caught.value.next == f"{each}=..."
    for each in needed:
        with pytest.raises(ddhub.UserError, match=f"missing a required argument: '{each}'") as caught:
            function(**{other: value for other, value in needed.items() if other != each})
        assert f"ddhub.{name}(" in caught.value.next
    if name not in ("merge", "report"):
        with pytest.raises(ddhub.UserError, match="too many") as caught:
            function(*["a"] * 9)
        assert caught.value.next == f"help(ddhub.{name})"


@pytest.mark.parametrize(
    ("call", "what", "next"),
    [
        (lambda: ddhub.evaluate("set", seeds="2"), "seeds='2': a whole number or None", "seeds=2"),
        (lambda: ddhub.evaluate("set", seeds=True), "seeds=True: a whole number or None", "seeds=1"),
        (
            lambda: ddhub.evaluate("set", precision="half"),
            "'float32', 'bfloat16', 'auto' or None",
            "precision='float32'",
        ),
        (lambda: ddhub.distill("digits_ipc1", flips="no"), "flips='no': True or False or None", "flips=True"),
        (lambda: ddhub.push("set", Path("me/digits")), "a text belongs here", "repo_id='me/digits'"),
        (lambda: ddhub.merge(["a", "b"], out="c"), r"sets=\['a', 'b'\]: a text or a path", "ddhub.merge(*sets)"),
        (lambda: ddhub.evaluate("set", source="digits", importing={"lrr": 1}), "lrr: importing has no", "lr=..."),
        (lambda: ddhub.evaluate("set", source="digits", importing={"lr": "1"}), "lr='1': a number", "lr=1"),
        (lambda: ddhub.import_set("a", source="digits", out="b", range=5), "a list of numbers or None", "range=[5]"),
        (lambda: ddhub.distill("digits_ipc1", overrides={"ipc": object()}), "overrides: ipc=<object", "a text, number"),
        (lambda: ddhub.evaluate("set", workers=-1), "workers=-1: at least 1", "workers=1"),
        (lambda: ddhub.evaluate("set", threads=0), "threads=0: at least 1", "threads=1"),
        (lambda: ddhub.plan("digits_ipc1", classes=-5), "classes=-5: at least 1", "classes=1"),
        (lambda: ddhub.init("pictures", resolution=2), "resolution=2: at least 4", "resolution=4"),
        (lambda: ddhub.distill("digits_ipc1", checkpoint_seconds=-1), "checkpoint_seconds=-1: at least 0", ""),
        (lambda: ddhub.report(), "names no set", "ddhub.report(SET)"),
    ],
)
def test_a_wrong_argument_comes_with_what_to_type(call, what, next, tmp_path, monkeypatch):
    """What is meant is typed out where it can be told."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ddhub.UserError, match=what) as caught:
        call()
    assert next in caught.value.next


def given_to_import(**options):
    return lambda: ddhub.import_set("a", source="digits", out="b", **options)


@pytest.mark.parametrize(
    ("call", "next"),
    [
        (given_to_import(lr=np.float32(0.1)), "lr=0.1"),
        (given_to_import(lr=np.float32(1)), "lr=1"),
        (given_to_import(lr=torch.tensor(0.5)), "lr=0.5"),
        (given_to_import(lr="0.5"), "lr=0.5"),
        (given_to_import(epochs=2.5), "epochs=2"),
        (given_to_import(epochs="12345678901234567891"), "epochs=12345678901234567891"),
        (given_to_import(mean=[np.float32(0.5)], std=[0.3]), "mean=[0.5]"),
        (given_to_import(mean=torch.tensor(0.5), std=[0.3]), "mean=[0.5]"),
        (given_to_import(zca=np.False_), "zca=False"),
        (lambda: ddhub.init("pictures", minutes=np.float32(2.5)), "minutes=2.5"),
        (lambda: ddhub.evaluate("set", precision=np.array(["a", "b"])), "precision='float32'"),
    ],
)
def test_what_is_to_be_typed_means_the_same(call, next, tmp_path, monkeypatch):
    """It was `lr=0` for 0.1 of float32, `zca=True` for numpy's False, and errors of numpy and torch."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ddhub.UserError, match="belongs here") as caught:
        call()
    assert caught.value.next == next


def test_what_works_is_taken(folder, tmp_path):
    """Paths, tuples and whole numbers for others; numpy's whole numbers end in a sentence, and no file holds them."""
    assert ddhub.plan(Path("digits_ipc1"), overrides=QUICK, threads=1, archs=("convnet2_w8",)).phases
    assert ddhub.verify(folder).ok and ddhub.verify(str(folder)).ok
    with pytest.raises(ddhub.UserError, match="none: no such file"):
        ddhub.import_set(tmp_path / "none", source=tmp_path, out=tmp_path / "o", mean=np.full(3, 0.5), std=(1, 1), lr=1)
    with pytest.raises(ddhub.UserError, match="threads=") as caught:
        ddhub.plan("digits_ipc1", threads=np.int64(2))
    assert caught.value.next == "threads=2"
