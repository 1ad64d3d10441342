"""Folders in use, while the garbage collector ends abandoned blocks in the same thread."""

import contextlib
import gc
import threading

import pytest
from descriptors import open_below

from ddhub.base import same_folder
from ddhub.base.errors import UserError


@pytest.fixture
def collected(monkeypatch):
    """Collects garbage at the end of a function, and nowhere else. State and lock are the test's own."""
    monkeypatch.setattr(same_folder, "_held", {})
    plain = isinstance(same_folder._lock, type(threading.Lock()))
    monkeypatch.setattr(same_folder, "_lock", threading.Lock() if plain else threading.RLock())  # a fault locks it

    def after(module, name):
        function = getattr(module, name)

        def collecting(*given):
            found = function(*given)
            gc.collect()
            return found

        monkeypatch.setattr(module, name, collecting)

    gc.collect()
    gc.disable()
    yield after
    gc.enable()


def abandon(folder):
    """A block that keeps a folder, and that only the garbage collector can end."""

    def keeping():
        with same_folder.kept(folder):
            yield

    cycle = [keeping()]
    next(cycle[0])
    cycle.append(cycle)


def in_time(work):
    """What a thread returns, unless it waits for itself."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(600)
    assert not thread.is_alive(), "the thread waits for itself"
    return found


def use(folder):
    with same_folder.kept(folder):
        return folder in same_folder._held


def test_a_thread_that_takes_a_folder_may_end_an_abandoned_use(tmp_path, collected):
    """It waited for itself for ever."""
    abandon(tmp_path / "a")
    collected(same_folder, "_opened")
    assert in_time(lambda: use(tmp_path / "b")) == [True]
    assert same_folder._held == {}


def test_a_folder_whose_only_use_ends_while_it_is_taken_is_taken_anew(tmp_path, collected, monkeypatch):
    """The new use would count in what is no longer known."""

    class Collecting(dict):
        def get(self, key):
            found = super().get(key)
            gc.collect()
            return found

    before = open_below(tmp_path)
    monkeypatch.setattr(same_folder, "_held", Collecting())
    abandon(tmp_path)
    assert in_time(lambda: use(tmp_path)) == [True]
    assert same_folder._held == {} and open_below(tmp_path) == before


def test_a_made_folder_whose_only_use_ends_while_it_is_noted_is_closed(tmp_path, collected):
    """Its descriptor would stay for the life of the process."""
    abandon(tmp_path / "a")
    (tmp_path / "a").mkdir()
    before = open_below(tmp_path)
    collected(same_folder, "_opened")
    in_time(lambda: same_folder.note_made(tmp_path / "a" / "file"))
    assert same_folder._held == {} and open_below(tmp_path) == before


@pytest.mark.parametrize("lost", [False, True])
def test_a_folder_whose_only_use_ends_while_it_is_compared_is_compared_all_the_same(tmp_path, collected, lost):
    """Its descriptor is closed by then, or another file's."""
    folder = tmp_path / "a"
    folder.mkdir()
    abandon(folder)
    if lost:
        folder.rename(tmp_path / "renamed")
    collected(same_folder, "number_of")
    with pytest.raises(UserError, match="deleted or renamed") if lost else contextlib.nullcontext():
        same_folder.refuse_other(folder / "file")
    assert same_folder._held == {}
