"""`ddhub plot`: what a run logged becomes a picture, whatever ended it."""

import threading

from click.testing import CliRunner
from PIL import Image

from ddhub.cli.app import main
from ddhub.reports import charts, run_curves

LINES = """{"phase": "distill", "step": 1, "loss": 3.0, "seconds": 0.1}
{"phase": "distill", "step": 2, "loss": 2.0, "seconds": 0.2}
{"phase": "distill", "st"""


def test_a_run_is_drawn_without_its_torn_last_line(tmp_path):
    """Groups are phases of their own; the picture lies beside the metrics, or where it is asked for."""
    for place in (".ddhub", ".ddhub/groups/group-0001.run"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "metrics.jsonl").write_text(LINES)
    points = [(1, 3.0), (2, 2.0)]
    assert run_curves.curves(tmp_path) == {"loss": {"distill": points, "distill group-0001": points}}
    done = CliRunner().invoke(main, ["plot", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, f"picture: {tmp_path}/.ddhub/metrics.png\n")
    assert f"{tmp_path}/.ddhub/metrics.jsonl: left out 1 damaged line: 3\n" in done.stderr
    done = CliRunner().invoke(main, ["plot", str(tmp_path), "--out", str(tmp_path / "mine.png")])
    assert done.exit_code == 0 and Image.open(tmp_path / "mine.png").size[0] > 500


def test_a_folder_without_metrics_is_refused(tmp_path):
    """A sentence and the next command."""
    done = CliRunner().invoke(main, ["plot", str(tmp_path)])
    assert done.exit_code == 1 and "holds no metrics of a run" in done.output and "next: ddhub distill" in done.output


def test_threads_draw_in_turn_and_leave_matplotlib_as_it_was():
    """Its settings are those of the whole process: one thread's picture had another's style, which then stayed."""
    import matplotlib

    before, entered = dict(matplotlib.rcParams), threading.Event()

    def draw():
        with charts.styled(**{"axes.grid": False}):
            entered.set()

    other = threading.Thread(target=draw)
    with charts.styled():
        other.start()
        assert not entered.wait(0.3)
    other.join()
    assert entered.is_set() and dict(matplotlib.rcParams) == before
