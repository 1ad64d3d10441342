"""Strangers' pickles: every step is looked at before anything is built; what they claim is what their file holds."""

import io
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from strangers import fuzzed, refused, said

from ddhub.base import pickles
from ddhub.interop import reading
from ddhub.interop.reading import Reading

FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOOKS = b"ccollections\nOrderedDict\n)R"
HEAD = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def storage(count: int, key: str = "0", kind: bytes = FLOATS, old: bool = False) -> bytes:
    """The steps that name a storage."""
    return b"(" + text("storage") + kind + text(key) + text("cpu") + whole(count) + (b"N" if old else b"") + b"tQ"


def tensor(stored: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """The steps that make a tensor of a storage."""
    sizes = b"".join(b"(" + b"".join(map(whole, part)) + b"t" for part in (shape, strides))
    return REBUILD + b"(" + stored + whole(offset) + sizes + b"\x89" + HOOKS + b"tR"


def packed(path: Path, steps: bytes, numbers: bytes = b"\0" * 64) -> Path:
    """A file as torch writes it, of any steps."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + steps + b".")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", numbers)
        archive.writestr("a/version", "3\n")
    return path


def old(path: Path, steps: bytes, keys: list[str], numbers: bytes) -> Path:
    """A file as torch wrote it before 1.6."""
    path.write_bytes(b"".join([*HEAD, b"\x80\x02" + steps + b".", pickle.dumps(keys, 2), numbers]))
    return path


CALLS = {
    "torch.Tensor": b"ctorch\nTensor\n(" + whole(10) + whole(1) + whole(8) + whole(8) + b"tR",
    "torch.FloatTensor": b"ctorch\nFloatTensor\n(" + whole(10**7) + b"tR",
    "builtins.bytearray": b"cbuiltins\nbytearray\n(" + whole(8 * 10**9) + b"tR",
    "__builtin__.bytearray": b"c__builtin__\nbytearray\n(" + whole(8 * 10**9) + b"tR",
    "torch.storage.UntypedStorage": b"ctorch.storage\nUntypedStorage\n(" + whole(8 * 10**9) + b"tR",
    "torch.nn.parameter.Parameter": b"ctorch.nn.parameter\nParameter\n)\x81",
    "torch.Size": b"ctorch\nSize\n)R",
    "collections.Counter": b"ccollections\nCounter\n(" + text("a" * 99) + b"tR",
    "torch._utils._rebuild_qtensor": b"ctorch._utils\n_rebuild_qtensor\n)R",
    "torch._utils._rebuild_device_tensor_from_numpy": b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n)R",
    "torch._utils._rebuild_wrapper_subclass": b"ctorch._utils\n_rebuild_wrapper_subclass\n)R",
    "torch._tensor._rebuild_from_type_v2": b"ctorch._tensor\n_rebuild_from_type_v2\n)R",
    "numpy._core.multiarray._reconstruct": b"cnumpy._core.multiarray\n_reconstruct\n)R",
    "os.system": b"cos\nsystem\n(" + text("true") + b"tR",
    "builtins.eval": b"cbuiltins\neval\n(" + text("1") + b"tR",
}


@pytest.mark.parametrize("way", ["packed", "old"])
@pytest.mark.parametrize("name", CALLS)
def test_what_a_pickle_calls_is_refused_by_name_before_it_is_called(name, way, tmp_path, monkeypatch):
    """torch's own reader of weights calls the first ten of these; here it is not even begun."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was loaded"))
    steps = CALLS[name]
    path = packed(tmp_path / "a.pt", steps) if way == "packed" else old(tmp_path / "a.pt", steps, [], b"")
    refused(lambda: reading.load(path, Reading()), "a.pt", f"'{name}', which is not data")


CLAIMS = {
    "more than its file": (tensor(storage(10**9), (10**9,), (1,)), "claims 1000000000 numbers, more than its file"),
    "a tensor beyond its storage": (tensor(storage(16), (64, 64), (64, 1)), "reaches beyond the 16 numbers"),
    "an offset beyond its storage": (tensor(storage(16), (1,), (1,), offset=16), "reaches beyond the 16 numbers"),
    "a negative offset": (tensor(storage(16), (1,), (1,), offset=-1), "makes a tensor as torch does not"),
    "a negative stride": (tensor(storage(16), (4,), (-1,)), "makes a tensor as torch does not"),
    "a storage of less than none": (tensor(storage(-1), (1,), (1,)), "names a storage as torch does not"),
    "a storage of another kind": (tensor(storage(1, kind=b"ctorch\nTensor\n"), (1,), (1,)), "asks for 'torch.Tensor'"),
    "one storage in two ways": (b"(" + storage(16) + storage(8) + b"t", "in two ways"),
    "a tensor of no storage": (tensor(b"N", (1,), (1,)), "makes a tensor as torch does not"),
    "a call of what was made": (tensor(storage(16), (1,), (1,)) + b")R", "calls 'something that was made'"),
    "a call of a storage's type": (FLOATS + b"(" + whole(10**10) + b"tR", "calls 'torch.FloatStorage'"),
    "a state for a tensor": (tensor(storage(16), (1,), (1,)) + b"(tb", "changes what it made"),
    "a method in the way": (HOOKS + b"}" + text("get") + b"K\x01sb", "changes what it made"),
    "a key that takes for ever": (
        b"})" + b"q\x00h\x00\x86" * 40 + b"K\x01s",
        "keys that are neither texts nor numbers",
    ),
    "keys of one hash": (b"}\x8a\x09" + (2**64 + 1).to_bytes(9, "little") + b"K\x01s", "keys that are neither"),
    "a set": (b"\x8f", "takes the step EMPTY_SET"),
    "a name by the stack": (text("os") + text("system") + b"\x93)R", "takes the step STACK_GLOBAL"),
    "an instance": (b"(ios\nsystem\n", "takes the step INST"),
    "an extension": (b"\x82\x01", "takes the step EXT1"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_pickle_claims_is_held_against_its_file(name, tmp_path):
    steps, words = CLAIMS[name]
    refused(lambda: reading.load(packed(tmp_path / "a.pt", steps), Reading()), "a.pt", words)


def test_tensors_are_added_up_against_the_limit_before_they_are_made(tmp_path):
    """Also where each is small: a hundred names for one storage count once, a hundred storages a hundred times."""
    path = tmp_path / "many.pt"
    torch.save([torch.zeros(10**4) for _ in range(100)], path)
    refused(lambda: reading.load(path, Reading(limit=10**6)), "many.pt", "--max-bytes")
    assert len(reading.load(path, Reading(limit=10**7))) == 100
    torch.save([torch.zeros(10**4) for _ in range(100)], path, _use_new_zipfile_serialization=False)
    refused(lambda: reading.load(path, Reading(limit=10**6)), "many.pt", "--max-bytes")
    assert len(reading.load(path, Reading(limit=10**7))) == 100
    same = torch.zeros(10**4)
    torch.save([same] * 1000, path)
    assert len(reading.load(path, Reading(limit=10**6))) == 1000


@pytest.mark.parametrize("case", ["keys left out", "numbers left out", "numbers of another count", "a view", "no keys"])
def test_old_files_give_every_number_that_they_claim(case, tmp_path):
    """Else a tensor would be memory as it lies: the key of its storage is left out, so nothing is read into it."""
    claimed, keys, numbers = storage(16, old=True), ["0"], struct.pack("<q", 16) + b"\0" * 64
    if case == "keys left out":
        keys = []
    elif case == "no keys":
        keys = {"0": 1}
    elif case == "numbers left out":
        numbers = b""
    elif case == "numbers of another count":
        numbers = struct.pack("<q", 4) + b"\0" * 64
    else:
        claimed = claimed.replace(b"NtQ", b"(" + text("1") + whole(0) + whole(10**9) + b"ttQ")
    path = old(tmp_path / "old.pt", tensor(claimed, (16,), (1,)), keys, numbers)
    refused(lambda: reading.load(path, Reading()), "old.pt")
    good = old(
        tmp_path / "good.pt", tensor(storage(16, old=True), (16,), (1,)), ["0"], struct.pack("<q", 16) + b"\0" * 64
    )
    assert reading.load(good, Reading()).tolist() == [0.0] * 16


def test_archives_that_two_readers_see_differently_are_refused(tmp_path):
    """A member twice, an archive behind another file: what was looked at is what is loaded."""
    steps = tensor(storage(16), (16,), (1,))
    twice = packed(tmp_path / "twice.pt", steps)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + CALLS["torch.Tensor"] + b".")
    refused(lambda: reading.load(twice, Reading()), "twice.pt: holds a member twice")
    behind = tmp_path / "behind.pt"
    behind.write_bytes(HEAD[0] + packed(tmp_path / "inner.pt", steps).read_bytes())
    refused(lambda: reading.load(behind, Reading()), "behind.pt")


def test_a_pickle_is_bounded_in_steps_and_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("ddhub.base.limits.PICKLE_STEPS", 1000)
    path = packed(tmp_path / "long.pt", b"(" + b"]" * 2000 + b"t")
    refused(lambda: reading.load(path, Reading()), "long.pt: its pickle has more than 1000 steps")
    monkeypatch.setattr("ddhub.base.limits.PICKLE_BYTES", 1000)
    path = packed(tmp_path / "wide.pt", text("a" * 2000))
    refused(lambda: reading.load(path, Reading()), "wide.pt: its pickle is larger than")


GOOD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)
KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]


@fuzzed(60)
@given(content=GOOD, kind=st.sampled_from(KINDS), new=st.booleans())
def test_plain_data_of_any_shape_passes(content, kind, new, tmp_path_factory):
    """What torch saves of tensors, texts, numbers, lists and dicts comes back, from new files and old ones."""
    path = tmp_path_factory.mktemp("good") / "a.pt"
    images = torch.arange(24).to(kind).view(2, 3, 4)
    views = [images, images[1:, ::2], torch.nn.Parameter(torch.ones(3))]
    torch.save({"content": content, "views": views}, path, _use_new_zipfile_serialization=new)
    found = reading.load(path, Reading())
    assert found["content"] == content
    assert all(torch.equal(a, b) for a, b in zip(found["views"], views, strict=True))


STEPS = [
    *CALLS.values(),
    *(steps for steps, _ in CLAIMS.values()),
    storage(4),
    HOOKS,
    b"(",
    b"t",
    b"R",
    b"b",
    b"}",
    b"]",
]
STEPS += [b"s", b"u", b"a", b"e", b"Q", b"q\x00", b"h\x00", b"K\x05", b"N", b"\x85", b"\x86", b"0", text("get"), b")"]


@fuzzed(150)
@given(parts=st.lists(st.sampled_from(STEPS), min_size=1, max_size=12), way=st.booleans())
def test_pickles_of_any_steps_are_walked_or_refused(parts, way, tmp_path_factory):
    """And what is walked is read by torch as well, or refused by it."""
    path = tmp_path_factory.mktemp("steps") / "a.pt"
    steps = b"".join(parts)
    said(lambda: reading.load(packed(path, steps) if way else old(path, steps, ["0"], b"\0" * 99), Reading()), "a.pt")


def test_the_walk_names_the_storages_of_a_pickle():
    found = pickles.walk(io.BytesIO(b"\x80\x02(" + storage(4) + storage(2, "1", b"ctorch\nLongStorage\n") + b"t."))
    assert Counter(each.bytes for each in found.storages.values()) == Counter({16: 2})
