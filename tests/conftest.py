"""What every test shares: temporary caches, no network, one thread, and a small local dataset of images."""

import os
import shlex
import tempfile
from pathlib import Path

# Tests compare commands that are printed with paths below this folder, and a shell has to quote some names.
if shlex.quote(tempfile.gettempdir()) != tempfile.gettempdir():
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"

# Libraries read these when they are imported, so they are set before any of them is.
_SESSION = tempfile.TemporaryDirectory(prefix="ddhub-tests-")
os.environ["HF_HOME"] = f"{_SESSION.name}/huggingface"
os.environ["HF_DATASETS_CACHE"] = f"{_SESSION.name}/datasets"
os.environ["DDHUB_HOME"] = f"{_SESSION.name}/ddhub"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_USERS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "XDG_CACHE_HOME")
_TERMINALS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")  # width and colour of what is compared
_CLUSTERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
for _name in (*_USERS, *_TERMINALS, *_CLUSTERS):
    os.environ.pop(_name, None)

import io  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Journeys, and what strangers and faults do, are slow as a whole; modules of tests/unit say so themselves."""
    for item in items:
        if {"journeys", "hostile"} & set(item.path.parts):
            item.add_marker(pytest.mark.slow)


COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def usual_signals() -> None:
    """Signals end a process as usual also where the tests run in the background or by nohup, which ignore some."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for every test, one thread, and no way out to the network (this machine is allowed).

    A slow machine's commands do not say what they are doing, between the lines that a test looks at.
    """
    from ddhub.base import hub_client, log, progress

    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "ddhub-home"))
    log.to_stderr()  # as the command line has it
    monkeypatch.setattr(progress, "SILENCE", 3600.0)
    monkeypatch.setattr(hub_client, "_found_silent", {})  # a server of an earlier test may have had the same port
    torch.set_num_threads(1)
    torch.default_generator.manual_seed(0)  # what a test draws does not hang on the tests before it
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


def refused(function: Callable[..., Any], *arguments: Any) -> str:
    """What a call is refused with."""
    from ddhub.base.errors import UserError

    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def encode(image: Image.Image) -> dict[str, Any]:
    """A PIL image as datasets stores it, in the file format that keeps its mode."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def write_folder(
    folder: Path,
    splits: dict[str, tuple[Sequence[Image.Image], Sequence[Any]]],
    names: Sequence[str] | None = ("red", "green", "blue"),
    columns: tuple[str, str] = ("image", "label"),
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write a folder that `datasets.load_dataset` reads: one parquet file per split.

    Args:
        splits: name -> (images, labels).
        names: of the classes; None stores the labels as plain values.
        columns: names of the image and the label column.
        extra: more features, name -> feature, filled with nulls.
    """
    import datasets

    for split, (images, labels) in splits.items():
        features: dict[str, Any] = {columns[0]: datasets.Image()}
        content: dict[str, list[Any]] = {columns[0]: [encode(image) for image in images]}
        if names is not None:
            features[columns[1]] = datasets.ClassLabel(names=list(names))
        else:
            features[columns[1]] = datasets.Value("string" if isinstance(labels[0], str) else "int64")
        content[columns[1]] = list(labels)
        for name, feature in (extra or {}).items():
            features[name], content[name] = feature, [None] * len(images)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        rows = datasets.Dataset.from_dict(content, features=datasets.Features(features))
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def parquet_files(folder: Path) -> dict[str, bytes]:
    """What `write_folder` wrote, as a commit to the tests' Hub takes it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


def coloured(count: int, seed: int, side: int = 12) -> tuple[list[Image.Image], list[int]]:
    """`count` noisy RGB images of three classes that their colour tells apart, and their labels."""
    noise = np.random.default_rng(seed)
    labels = [index % 3 for index in range(count)]
    base = [np.array(list(COLOURS.values())[label]) for label in labels]
    pixels = [noise.integers(-35, 36, (side, side, 3)) + colour for colour in base]
    return [Image.fromarray(image.clip(0, 255).astype(np.uint8)) for image in pixels], labels


CLASSES, SIDE = 3, 8  # of `examples`


def examples(count: int = 20, seed: int = 0) -> Any:
    """A train.Examples of noise: network inputs (count, 1, SIDE, SIDE), labels of CLASSES in turn, soft targets."""
    from ddhub.training import fit

    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, SIDE, SIDE, generator=draw)
    targets = torch.randn(count, CLASSES, generator=draw)
    return fit.Examples(images, torch.arange(count) % CLASSES, targets=targets)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes told apart by colour, 12x12 RGB: 60 training and 30 test images. Not to be written to."""
    folder = tmp_path_factory.mktemp("images") / "colours"
    return write_folder(folder, {"train": coloured(60, 0), "test": coloured(30, 1)})


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A function (splits, ...) -> folder with the given images; see write_folder."""

    def make(splits: dict[str, Any], name: str = "source", **options: Any) -> Path:
        return write_folder(tmp_path / name, splits, **options)

    return make


QUICK = [
    "teachers={arch: convnet2_w8, count: 1, epochs: 1}",
    "method={name: random}",
    "evaluate={epochs: 2, packaging_seeds: 1, seeds: 1, min_steps: 0}",
]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact: random digits, one teacher. Not to be written to."""
    from ddhub import api

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("finished") / "set"
        api.distill("digits_ipc1", out=folder, overrides=QUICK, threads=1)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of that artifact, to push and to change."""
    return Path(shutil.copytree(finished, tmp_path / "set"))


@pytest.fixture
def hub(tmp_path: Path) -> Any:
    """A Hub without users. No client knows of it."""
    from hub_server import HubServer

    with HubServer(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def server(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Hub with users alice and bob; the client in this process logs in as alice, with a cache of its own."""
    from huggingface_hub import constants

    hub.token = hub.add_user("alice")
    hub.add_user("bob")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    # The client waits seconds between its tries; the tries are what is tested.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return hub
