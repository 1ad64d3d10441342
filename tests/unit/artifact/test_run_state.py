"""What lies beside a set about how its run was begun."""

import pytest

from ddhub.artifact import run_state
from ddhub.artifact.run_state import RunState
from ddhub.base.errors import UserError

BEGUN = RunState(
    recipe_hash="a", recipe={"ipc": 1}, source_path="/here", revision=None, fingerprint="sha256:b", decisions={}
)


def test_how_a_run_began_is_read_back(tmp_path):
    """Nothing where none has begun."""
    assert run_state.begun(tmp_path) is None
    run_state.begin(tmp_path, BEGUN)
    assert run_state.begun(tmp_path) == BEGUN


@pytest.mark.parametrize("text", ["{", "[]", '{"recipe_hash": 1}', '{"recipe": {}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    """With the command that starts over."""
    (tmp_path / ".ddhub").mkdir()
    (tmp_path / ".ddhub" / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        run_state.begun(tmp_path)
