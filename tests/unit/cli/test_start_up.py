"""What a command may import before it answers: the heavy libraries, by name, so that quick commands stay quick."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAVY = {
    *("torch", "timm", "torchvision", "datasets", "pandas", "matplotlib", "sklearn", "scipy", "pyarrow", "numpy"),
    *("huggingface_hub", "safetensors", "jinja2", "PIL", "rich", "pydantic", "yaml"),
}
ALWAYS = {"yaml", "pydantic"}  # what recipes, manifests and results are checked with
CODE = """
import json, sys
sys.argv = ["ddhub", *sys.argv[1:]]
from ddhub.cli.app import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(set(name.split(".")[0] for name in sys.modules))]), file=sys.stderr)
"""
NUMBERS = {"numpy", "scipy"}  # the interval's formula
SHOWN = {*NUMBERS, "rich"}
ROWS = {"numpy", "pyarrow", "PIL", "safetensors"}  # what data files, teachers and whitening are read with


@pytest.mark.parametrize(
    ("arguments", "code", "allowed"),
    [
        (["--help"], 0, set()),
        (["--version"], 0, set()),
        (["evaluate", "--help"], 0, set()),
        (["import", "--help"], 0, set()),
        (["recipes"], 0, set()),
        (["recipes", "--json"], 0, set()),
        (["report", "SET"], 0, SHOWN),
        (["report", "SET", "--json"], 0, NUMBERS),
        (
            ["report", "SET", "--html", "page.html"],
            0,
            {*SHOWN, *ROWS, "jinja2", "matplotlib", "torch"},
        ),  # it shows images
        (["verify", "SET"], 0, {*ROWS, *NUMBERS, "torch"}),  # teachers are held against their architecture
        (["distill", "nothing.yaml"], 1, set()),
        (["distill", "digits_ipc2"], 1, set()),
        (["distill", "digits_ipc1", "--set", "ipc"], 1, set()),
        (["distill", "digits_ipc1", "--set", "method.iteration=3"], 1, set()),
        (["distill", "digits_ipc1", "--dry-run"], 0, {"torch", "numpy", "safetensors"}),
        (["distill", "digits_ipc1", "--ray", "local", "--shard", "0/2"], 1, set()),
        (["plan", "nothing"], 1, set()),
        (["evaluate", "nowhere"], 1, set()),
        (["evaluate", "SET", "--protocols", "nativ"], 1, set()),
        (["evaluate", "SET", "--baselines", "rnd"], 1, set()),
        (["evaluate", "."], 1, set()),
        (["evaluate", "SET", "--archs", "convnet,resnet19"], 1, set()),
        (["report", "nowhere"], 1, set()),
        (["report", "."], 1, set()),
        (["verify", "nowhere"], 1, ROWS),
        (["export", "nowhere"], 2, set()),
        (["merge", "nowhere", "--out", "out"], 1, set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_needs(arguments, code, allowed, scored, tmp_path):
    """Neither torch nor timm for what computes nothing."""
    given = [str(scored) if word == "SET" else word for word in arguments]
    done = subprocess.run([sys.executable, "-c", CODE, *given], capture_output=True, text=True, cwd=tmp_path)
    ended, modules = json.loads(done.stderr.splitlines()[-1])
    assert (ended or 0) == code, done.stderr
    assert HEAVY & set(modules) <= ALWAYS | allowed


@pytest.fixture(scope="module")
def scored(tmp_path_factory, finished):
    """A set with rows."""
    import shutil

    import ddhub

    folder = tmp_path_factory.mktemp("scored") / "set"
    shutil.copytree(finished, folder)
    ddhub.evaluate(folder, ["convnet2_w8"], seeds=2, threads=1, probe=False)
    return folder
