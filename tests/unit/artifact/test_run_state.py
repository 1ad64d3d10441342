"""What lies beside a set about how its run was begun."""

import pytest

import ddhub
from ddhub import api
from ddhub.artifact import run_state
from ddhub.artifact.run_state import RunState
from ddhub.base.errors import UserError

BEGUN = RunState(
    recipe_hash="a", recipe={"ipc": 1}, source_path="/here", revision=None, fingerprint="sha256:b", decisions={}
)
VERBS = [
    ddhub.load,
    api.report,
    lambda place: api.export(place, "mtt"),
    lambda place: api.evaluate(place, ["convnet2_w8"]),
]


def test_how_a_run_began_is_read_back(tmp_path):
    """Nothing where none has begun."""
    assert run_state.begun(tmp_path) is None
    run_state.begin(tmp_path, BEGUN)
    assert run_state.begun(tmp_path) == BEGUN


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_is_not_finished_is_no_foreign_set(verb, tmp_path):
    """Whoever opens its folder is told how it goes on, not to state a source or to make another set."""
    run_state.begin(tmp_path, BEGUN)
    with pytest.raises(UserError, match=r"holds a run that is not finished.*\n  next: ddhub distill RECIPE --out"):
        verb(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"recipe_hash": 1}', '{"recipe": {}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    """With the command that starts over."""
    (tmp_path / ".ddhub").mkdir()
    (tmp_path / ".ddhub" / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        run_state.begun(tmp_path)
