"""What was read once is read again without the Hub."""

from conftest import coloured, parquet_files, write_folder
from hub_client import in_client
from hub_server import HubServer


def read_source(offline: bool) -> list:
    """Read a source from the Hub, or from the caches: its commit, and how many images it has."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "1" if offline else "0"
    from ddhub.data import first_look, source
    from ddhub.data.spec import SourceSpec

    spec = SourceSpec(dataset="alice/colours")
    split, _, _ = source.load_train(spec)
    return [split.spec.revision, len(split), len(source.load_test(spec)), first_look.look(spec).tested]


def test_a_source_that_was_read_is_read_offline(tmp_path):
    """With no revision given: the commit that was last seen, train and test split."""
    made = write_folder(tmp_path / "made", {"train": coloured(30, 0), "test": coloured(12, 1)})
    with HubServer(tmp_path / "hub") as server:
        server.create_repo("alice/colours")
        commit = server.commit("alice/colours", parquet_files(made))
        home = str(tmp_path / "home")
        assert in_client(read_source, server, home=home, offline=False) == [commit, 30, 12, True]
        assert in_client(read_source, server, home=home, offline=True) == [commit, 30, 12, True]
