"""Messages of the Python functions name arguments in place of options of the command line."""

import logging

import pytest

import ddhub
from ddhub import api
from ddhub.base import arguments, python_words
from ddhub.base.arguments import checked
from ddhub.base.errors import UserError
from ddhub.base.log import warn


@pytest.mark.parametrize(
    ("function", "message", "python"),
    [
        ("evaluate", "--device cuda:1: not available here", "device='cuda:1': not available here"),
        ("evaluate", "--device cpu", "device='cpu'"),
        ("evaluate", "with --set native.lr=0.002", "with overrides=['native.lr=0.002']"),
        ("evaluate", "--set source.path=FOLDER", "source_path='FOLDER'"),
        ("evaluate", "--set source.test=valid", "test_settings=['source.test=valid']"),
        ("evaluate", "--baselines random,kmeans", "baselines=['random', 'kmeans']"),
        ("evaluate", "--baselines without full", "baselines without full"),
        (
            "evaluate",
            "--mean A,B --std A,B, or --zca",
            "importing={'mean': [A, B], 'std': [A, B]}, or importing={'zca': True}",
        ),
        ("import_set", "--mean A,B --std A,B, or --zca", "mean=[A, B], std=[A, B], or zca=True"),
        ("import_set", "--zca or --no-zca, as its author ran it", "zca=True or zca=False, as its author ran it"),
        ("import_set", "--mean and --std go together", "mean and std go together"),
        (
            "import_set",
            "without --lr; ddhub evaluate S --set native.lr=R",
            "without lr; ddhub evaluate S --set native.lr=R",
        ),
        (
            "import_set",
            "--classes FILE (a name per line), or --order source",
            "classes=FILE (a name per line), or order='source'",
        ),
        ("import_set", "--set source.a=8 --set source.b=1", "overrides=['source.a=8', 'source.b=1']"),
        ("import_set", "--max-bytes 5000, if you trust it", "limit=5000, if you trust it"),
        ("distill", "--memory 4GB, and another --out", "memory='4GB', and another out"),
        ("distill", "--set 'source.range=[0,255]'", "overrides=['source.range=[0,255]']"),
        ("distill", "nothing for --shard, --ray or torchrun to share", "nothing for shard, ray or torchrun to share"),
        ("distill", "pip install --upgrade name", "pip install --upgrade name"),
        ("push", "the same command with --yes replaces them", "the same call with yes=True replaces them"),
        ("merge", "ddhub merge A B --out DIR", "ddhub merge A B --out DIR"),
    ],
)
def test_options_become_arguments(function, message, python):
    """By the function that runs; commands stay."""
    assert python_words.translated(message, arguments._hints(getattr(api, function))) == python


def test_a_fault_and_a_warning_speak_python(caplog):
    """Only while a Python function runs: the command line's words come back after it."""

    def train(device: str, lr: float = 0.1) -> None:
        warn("lower it with --lr 0.01")
        raise UserError(f"--device {device}: not here", next="--device cpu")

    with caplog.at_level(logging.WARNING, "ddhub"):
        with pytest.raises(UserError, match=r"^device='cuda': not here\n  next: device='cpu'$"):
            checked(train)("cuda")
        warn("lower it with --lr 0.01")
    assert caplog.messages == ["lower it with lr=0.01", "lower it with --lr 0.01"]


def test_an_example_can_be_typed(folder):
    """It was `overrides=['epochs=50'] or native.lr=0.01`."""
    with pytest.raises(UserError, match=r"as in epochs=50 or native.lr=0.01") as fault:
        ddhub.evaluate(folder, overrides=["epochs"])
    assert fault.value.next == "overrides=['epochs=50']"


def test_a_budget_of_memory_is_a_key_of_the_recipe(tmp_path):
    """`memory=` of distill and plan was dropped without a word."""
    for make in (ddhub.plan, ddhub.distill):
        with pytest.raises(UserError, match=r"memory: .*more than the budget") as fault:
            make("digits_ipc1", memory="1KB", threads=1)
        assert fault.value.next.startswith("memory='")
