"""Plug-ins: what is found under a name, what a contract refuses and in which words, whose code failed."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import refused

from ddhub.base import plugins
from ddhub.base.errors import UserError
from ddhub.distillation import method
from ddhub.interop import layout
from ddhub.training import arch_names, architectures, teachers
from ddhub.training.protocol import TeacherSpec

METHOD = """
from ddhub.base.schema import Strict
from ddhub.distillation.method import Method

class Inner(Strict):
    arch: str = "convnet"

class Config(Strict):
    inner: Inner = Inner()
    others: list[str] = ["resnet18"]
    none: str | None = None

def distill(task, run):
    pass

"""
WHOLE = METHOD + "METHOD = Method(config=Config, distill=distill, architectures=('inner.arch', 'others', 'none'))\n"
LAYOUT = """
from ddhub.interop.layout import Layout

def detect(path, how):
    return False

def read(path, how):
    pass

"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a file into the current folder and gives its name as a path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "mine.py") -> str:
        Path(name).write_text(text)
        return f"./{name}"

    return write


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes an installed package with one module `theirs.py` and some entry points."""

    def package(module: str, entries: str, name: str = "theirs") -> Path:
        folder = tmp_path / f"site-{name}"
        about = folder / f"{name}-1.2.dist-info"
        about.mkdir(parents=True)
        (folder / f"{name}.py").write_text(module)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(entries)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return folder

    return package


def test_a_file_is_a_method_that_knows_its_hash(write):
    """The same content has the same hash wherever the file lies; what artifacts record has no folder in it."""
    name = write(WHOLE)
    found = method.load(name)
    assert found.code.name == "./mine.py" and len(found.code.sha256) == 64
    assert method.load(str(Path(name).absolute()), found.code.sha256).code == found.code
    assert plugins.public_name("/home/me/mine.py") == "./mine.py" and plugins.public_name("apm") == "apm"


def test_a_file_that_changed_is_not_the_one_that_was_named(write):
    """A run does not go on with other code than it began with."""
    known = method.load(write(WHOLE)).code.sha256
    write(WHOLE + "# a change\n")
    with pytest.raises(UserError, match="is not the file that the recipe was made with"):
        method.load("./mine.py", known)


def test_a_method_names_its_architectures(write):
    """One name, a list of names or none, at any depth, by declared keys alone."""
    found = method.load(write(WHOLE))
    assert found.architectures_of(found.config()) == {"convnet", "resnet18"}


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        ("", "./mine.py: defines no METHOD"),
        ("METHOD = distill", "is function, not Method(config=Config, distill=distill) of ddhub.distillation.method"),
        ("METHOD = Method(config=Config)", "missing 1 required keyword-only argument: 'distill' (mine.py, line 17)"),
        ("METHOD = Method(config=dict, distill=distill)", "config: is no class derived from ddhub.base.schema.Strict"),
        (
            "METHOD = Method(config=Config, distill=lambda task: 1)",
            "distill: takes (task), and is called with (task,",
        ),
        ("METHOD = Method(config=Config, distill=3)", "distill: is no function of (task, run), but int"),
        (
            "METHOD = Method(config=Config, distill=distill, work=distill)",
            "work: takes (task, run), and is called wit",
        ),
        ("METHOD = Method(config=Config, distill=distill, architectures='arch')", "architectures: is no tuple of keys"),
        (
            "METHOD = Method(config=Config, distill=distill, architectures=('inner.arc',))",
            "architectures: config has no key 'inner.arc'",
        ),
        (
            "class Bad(Strict):\n    sha256: str = ''\nMETHOD = Method(config=Bad, distill=distill)",
            "config: key 'sha256' is taken",
        ),
        (
            "import nothing_of_this_name",
            "cannot be loaded: ModuleNotFoundError: No module named 'nothing_of_this_n",
        ),
        ("def (", "cannot be loaded: SyntaxError: invalid syntax (mine.py, line 17)"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3 (mine.py, line 17)"),
    ],
)
def test_a_method_that_breaks_the_contract_is_refused_with_what_is_wrong(write, end, fault):
    assert fault in refused(method.load, write(METHOD.rstrip() + "\n\n\n" + end + "\n"))


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        ("", "defines no LAYOUT"),
        ("LAYOUT = 3", "is int, not Layout(detect=detect, read=read) of ddhub.interop.layout"),
        ("LAYOUT = Layout(detect=detect, read=lambda path: 1)", "read: takes (path), and is called with (path, how)"),
        ("LAYOUT = Layout(detect=detect, read=read, write=1)", "write: is no function of (found, folder), but int"),
        ("LAYOUT = Layout(detect=detect, read=read, holds='hard')", "holds: is no tuple of some of logits, "),
    ],
)
def test_a_layout_that_breaks_the_contract_is_refused_with_what_is_wrong(write, end, fault):
    assert fault in refused(layout.load, write(LAYOUT + end))


def test_a_name_that_nobody_has_is_answered_with_what_there_is(write, package):
    """Installed packages' names are among the guesses; a file without `./` is told from a name."""
    package(WHOLE, "[ddhub.methods]\nmean = theirs:METHOD\n")
    assert "no method 'meen'; did you mean 'mean'?" in refused(method.load, "meen")
    assert "choose from: apm, datm" in refused(layout.load, "zzz")
    assert "no method 'mine.py'; a file is written ./mine.py" in refused(method.load, "mine.py")
    assert "./mine.py: no method can be read there (No such file or directory)" in refused(method.load, "./mine.py")


def test_an_installed_package_offers_all_three_kinds(package):
    """Each under the name of its entry point; whose code it is goes with it."""
    built = "from torch import nn\ndef build(classes, channels, side):\n    return nn.Identity()\n"
    entries = "[ddhub.methods]\nmean = theirs:METHOD\n[ddhub.layouts]\nours = theirs:LAYOUT\n"
    module = WHOLE + LAYOUT + "LAYOUT = Layout(detect=detect, read=read)\n" + built
    package(module, entries + "[ddhub.architectures]\nour_net = theirs:build\n")
    assert method.load("mean").code == layout.load("ours").code == plugins.Code("theirs 1.2")
    assert "mean" in plugins.METHODS.names() and "ours" in plugins.LAYOUTS.names()
    assert "our_net" in arch_names.names() and architectures.resolve("our_net")(10, 1, 8) is not None
    assert "did you mean 'our_net'" in refused(architectures.resolve, "our_ne")


def test_an_edited_network_of_a_package_has_other_teachers(package):
    """Weights of the same names went on as those of the new network, from the cache or a checkpoint."""
    source = "from torch import nn\ndef build(classes, channels, side):\n    return nn.Identity()\n"
    folder = package(source, "[ddhub.architectures]\nedited_net = theirs:build\n")
    network = SimpleNamespace(arch="edited_net", classes=3, family=SimpleNamespace(patient=False))
    spec = TeacherSpec(arch="edited_net", count=1)
    lessons = teachers.Lessons(spec, [network], None, None, "none", None)
    before, paths = architectures.code_of("edited_net"), lessons.paths
    assert before and lessons.paths == paths
    (folder / "theirs.py").write_text(source.replace("Identity", "Flatten"))
    assert lessons.paths == paths  # this process has loaded the former one
    architectures.code_of.cache_clear()
    assert architectures.code_of("edited_net") not in (None, before) and lessons.paths != paths
    assert architectures.code_of("convnet") is architectures.code_of("timm:resnet18") is None


def test_a_package_cannot_take_the_place_of_ddhubs_own(package):
    package(WHOLE, "[ddhub.methods]\napm = theirs:METHOD\n")
    assert method.load("apm").code is None and plugins.METHODS.names().count("apm") == 1


def test_two_packages_with_one_name_are_both_named(package):
    for name in ("theirs", "others"):
        package(WHOLE, f"[ddhub.methods]\nmean = {name}:METHOD\n", name)
    assert "method mean: is in two packages, others 1.2 and theirs 1.2" in refused(method.load, "mean")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("theirs", "method mean of theirs 1.2: is module, not Method("),
        ("theirs:MISSING", "method mean of theirs 1.2: cannot be loaded: AttributeError: module 'theirs' has no attri"),
        ("gone:METHOD", "method mean of theirs 1.2: cannot be loaded: ModuleNotFoundError: No module named 'gone'"),
    ],
)
def test_a_broken_package_is_named(package, entry, fault):
    package(WHOLE, f"[ddhub.methods]\nmean = {entry}\n")
    assert fault in refused(method.load, "mean")


def test_a_faulty_architecture_of_a_package_is_refused(package):
    package("def build(width):\n    pass\n", "[ddhub.architectures]\nfaulty_net = theirs:build\n")
    assert "architecture faulty_net of theirs 1.2: takes (width), and is called with (classes, channels" in refused(
        architectures.resolve, "faulty_net"
    )


def test_a_fault_of_somebody_elses_code_names_the_code_after_its_lines(capfd):
    """A fault of ddhub's own stays one, and so does a UserError."""
    code = plugins.Code("./mine.py", "0" * 64)
    said = r"^\./mine\.py: its code failed: ZeroDivisionError: division by zero \(test_plugins\.py, line "
    with pytest.raises(UserError, match=said), plugins.blame_plugin(code):
        1 / 0  # noqa: B018
    assert "Traceback" in capfd.readouterr().err
    with pytest.raises(ZeroDivisionError), plugins.blame_plugin(None):
        1 / 0  # noqa: B018
    with pytest.raises(UserError, match="said"), plugins.blame_plugin(code):
        raise UserError("said")


def test_threads_that_load_one_file_get_one_module(tmp_path):
    """Its classes would have two identities, and pickle refuses those of the first."""
    content = b"import time\ntime.sleep(0.2)\nclass Own:\n    pass\n"
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: plugins._executed(tmp_path / "own.py", content, "a" * 64), range(2))
    assert first is second
