"""A row that cannot be trained fails alone: the others are written, and it is named with what to type next."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ddhub import api
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.evaluation import grid, workbench

pytestmark = pytest.mark.slow

ARCH = "convnet2_w8"


@pytest.fixture
def seed_1_diverges(monkeypatch):
    """The images that seed 1 learns from are infinite."""
    examples = workbench.examples

    def poisoned(of, cell):
        found = examples(of, cell)
        return replace(found, images=found.images * float("inf")) if cell.seed == 1 else found

    monkeypatch.setattr(workbench, "examples", poisoned)


def written(folder) -> list[tuple[str, int]]:
    rows = [json.loads(path.read_text()) for path in (folder / "evaluation").glob("*.json")]
    return sorted((row["data"], row["seed"]) for row in rows)


def refused(folder, **asked) -> str:
    with pytest.raises(UserError) as caught:
        api.evaluate(str(folder), [ARCH], seeds=3, **{"threads": 1, "baselines": (), **asked})
    return str(caught.value)


@pytest.mark.parametrize("together", [1, 2, 3])
def test_one_diverging_seed_fails_alone(folder, seed_1_diverges, together):
    """One after another, in one program, last of its program; the report has the others, and again says it again."""
    for _ in range(2):
        assert refused(folder, together=together) == (
            f"{ARCH} native distilled seed 1: training diverged, so there is no row\n"
            "  next: the same command with --set native.lr=0.002"
        )
        assert written(folder) == [("distilled", 0), ("distilled", 2)]
    assert len(json.loads((folder / "report.json").read_text())["rows"]) == 2


def test_every_diverging_row_is_named(folder, seed_1_diverges):
    """In one message."""
    said = refused(folder, baselines=("random",), together=3)
    assert said.startswith("2 of 2 jobs failed:\n")
    assert all(f"{ARCH} native {data} seed 1: training diverged" in said for data in ("distilled", "random"))
    assert written(folder) == [(data, seed) for data in ("distilled", "random") for seed in (0, 2)]


@pytest.mark.parametrize(
    ("arch", "asked", "advice"),
    [
        ("vit_tiny_w12", {"overrides": ["min_steps=0"]}, "the same command with --tune"),
        (ARCH, {"tune": True}, "the same command without --tune"),
    ],
)
def test_the_next_command_is_one_that_changes_the_rate(folder, seed_1_diverges, monkeypatch, arch, asked, advice):
    """A transformer's own rate is not the protocol's, and a tuned one is not what --set says."""
    monkeypatch.setattr("ddhub.evaluation.tuning.RATES", (1.0,))
    monkeypatch.setattr("ddhub.evaluation.tuning.DECAYS", (1.0,))
    with pytest.raises(UserError) as caught:
        api.evaluate(str(folder), [arch], seeds=2, baselines=(), threads=1, probe=False, **asked)
    assert caught.value.next == advice


def test_what_failed_in_another_process_is_not_passed_over(folder, monkeypatch):
    """It wrote the file that its job is done by, and could not write the one beside it."""
    monkeypatch.setattr(grid.jobs, "run_all", lambda *given, **named: None)
    assert "3 rows failed in another process" in refused(folder)


@pytest.mark.parametrize(("count", "kept"), [(1, "1 of 3 jobs failed"), (2, "2 of 3 jobs failed")])
def test_a_fault_of_ours_shows_its_traceback_and_ends_in_a_sentence(folder, monkeypatch, count, kept):
    """What was kept is in it. Of several faults the first one's traceback is shown, and the others are counted."""
    work = grid._work

    def broken(of, cells, path):
        if cells[0].seed < count:
            raise ZeroDivisionError("a fault of ours")
        work(of, cells, path)

    monkeypatch.setattr(grid, "_work", broken)
    told = ["evaluate", str(folder), "--archs", ARCH, "--baselines", "none", "--seeds", "3", "--threads", "1"]
    result = CliRunner().invoke(app.main, told)
    assert result.exit_code == 1
    assert result.stderr.count("ZeroDivisionError: a fault of ours\n") == result.stderr.count("Traceback") == 1
    assert ("... and 1 more\n" in result.stderr) == (count == 2)
    assert result.stderr.splitlines()[-1] == (
        f"error: a fault of ddhub's own; please report the lines above; {kept}; "
        "what the others wrote is kept, and the same command goes on from it"
    )
    assert len(written(folder)) == 3 - count
