"""The store of images: what a checkpoint knows can be had again, whatever was written after it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from strangers import fuzzed

from ddhub.training.image_store import Store
from ddhub.training.loop import Run

SHAPE = (6, 1, 2, 2)


def initial(rows):
    """Row k holds k."""
    images = rows.float().view(-1, 1, 1, 1).expand(-1, *SHAPE[1:])
    return {"images": images.clone(), "velocity": torch.zeros_like(images)}


def content(store):
    return {name: store.column(name).clone() for name in ("images", "velocity")}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


writes = st.lists(
    st.tuples(st.lists(st.integers(0, 5), min_size=1, unique=True), st.integers(-9, 9), st.booleans()), max_size=8
)


@fuzzed(40)
@given(writes, st.integers(0, 8))
def test_any_checkpoint_that_is_kept_can_be_gone_back_to(tmp_path_factory, history, back):
    """Writes and checkpoints in any order; the files as the newest or the last but one checkpoint knows them."""
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder, SHAPE, initial)
    store.rewind(0)
    known, step = {0: content(store)}, 0
    for rows, value, checkpoint in history:
        store.write(torch.tensor(rows), {"images": torch.full((len(rows), 1, 2, 2), float(value))})
        if checkpoint:
            step += 1
            store.flush()
            known[step] = content(store)
            store.mark(step, max(0, step - 1))
    target = max(0, step - back % 2)
    again = Store(folder, SHAPE, initial)  # as after a kill
    again.rewind(target)
    assert same(content(again), known[target])
    again.rewind(target)
    assert same(content(again), known[target])


def test_a_run_brings_its_store_back_with_its_state(tmp_path):
    """Cut after any step, with a checkpoint at every second, the loop ends with the same images."""

    def loop(folder, cut=None):
        store, state = Store(folder / "images", SHAPE, initial), {"sum": 0}
        run = Run(folder, "loop", checkpoint_seconds=0)
        for step in run.steps(6, state, store):
            rows = torch.tensor([step % 6, (step * 2 + 1) % 6]).unique()
            store.write(rows, {"images": store.read(rows)["images"] * 3 + step})
            state["sum"] += step
            if step == cut:
                store.write(torch.arange(6), {"images": torch.full(SHAPE, -1.0)})  # dies in the middle of a step
                return None
        return content(store), state["sum"]

    whole = loop(tmp_path / "whole")
    for cut in range(6):
        assert loop(tmp_path / str(cut), cut) is None
        found = loop(tmp_path / str(cut))
        assert same(found[0], whole[0]) and found[1] == whole[1]


def test_damaged_checkpoints_go_back_further(tmp_path):
    """With the newest checkpoint damaged the one before it is gone back to; with both, the beginning."""
    for damaged in (1, 2):
        folder = tmp_path / str(damaged)
        store = Store(folder / "images", SHAPE, initial)
        for step in Run(folder, "loop", checkpoint_seconds=0).steps(4, {}, store):
            store.write(torch.tensor([step]), {"images": torch.full((1, 1, 2, 2), 100.0 + step)})
        for path in sorted(folder.glob("loop-*.pt"))[-damaged:]:
            path.write_bytes(b"no")
        again = Store(folder / "images", SHAPE, initial)
        next(Run(folder, "loop").steps(9, {}, again))
        expected = initial(torch.arange(6))["images"]
        for step in range(3 if damaged == 1 else 0):
            expected[step] = 100.0 + step
        assert torch.equal(again.column("images"), expected)
