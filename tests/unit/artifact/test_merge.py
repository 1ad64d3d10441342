"""Merging: what comes out is the parts, byte for byte, with whose is whose; what keeps sets apart is named."""

import json
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from sets import TINY, rehash, rewrite

import ddhub
from ddhub import api
from ddhub.artifact import folder as folders
from ddhub.artifact import manifest, parquet, source_location
from ddhub.artifact.parquet import Rows
from ddhub.base import files, strict_yaml
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.reports import verify

pytestmark = pytest.mark.slow

HARD = ["teachers={arch: convnet2_w8, count: 0}", "labels.form=hard", "method={name: random}"]
COPIED = ("image", "label", "soft_label", "soft_index", "pixels")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One cache for all sets of this file, so that they have the same teachers."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def make(home, tmp_path_factory):
    """A function (name, settings) -> folder of a distilled set. Not to be written to."""

    def distil(name, *settings):
        folder = tmp_path_factory.mktemp("sets") / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DDHUB_HOME", str(home))
            patch.setattr("ddhub.distillation.packaging.worth_floats", lambda scores: name.startswith("white"))
            api.distill("digits_ipc1", out=folder, overrides=[*settings, f"name={name}"], threads=1)
        return folder

    return distil


@pytest.fixture(scope="module")
def halves(make):
    """Two sets that differ by their seed."""
    return [make(f"half{seed}", *TINY, f"seed={seed}") for seed in range(2)]


@pytest.fixture(scope="module")
def merged(halves, tmp_path_factory):
    """Both as one. Not to be written to."""
    folder = tmp_path_factory.mktemp("merged") / "whole"
    api.merge(*[str(half) for half in halves], out=folder)
    return folder


@pytest.fixture(scope="module")
def white(make, image_folder):
    """Two sets with all that a set can have: whitening, floats, some of the logits; one has twice the images."""
    source = f"source={{dataset: {image_folder}, resolution: 8, validation: 0.3}}"
    settings = [source, "augment=dsa", "preprocess.zca=true", "labels.top_k=2", "method={name: random}", *TINY[::3]]
    return [make(f"white{seed}", *settings, f"seed={seed}", f"ipc={seed + 1}") for seed in range(2)]


def table(folder: Path) -> pa.Table:
    """The rows as they are stored."""
    return pa.concat_tables(pq.read_table(path) for path in parquet.shards(folder))


def test_the_parts_are_there_to_the_byte(halves, merged):
    """PNGs, float16 labels, teachers: copied as they are stored, part after part."""
    whole, parts = table(merged), pa.concat_tables(table(half) for half in halves)
    for name in ("image", "label", "soft_label"):
        assert whole[name].combine_chunks().equals(parts[name].combine_chunks())
    assert whole["group"].to_pylist() == [0] * 10 + [1] * 10
    for half in halves:
        for path in (half / "teachers").iterdir():
            assert (merged / "teachers" / path.name).read_bytes() == path.read_bytes()
    assert verify.faults(merged) == []


def test_whitened_sets_with_floats_and_few_logits_are_copied_too(white, tmp_path):
    """And what the other classes count as is the mean over the whole set; sizes may differ."""
    white = [Path(shutil.copytree(one, tmp_path / one.name)) for one in white]
    changed(white[1], preprocess={"clipped": 0.3})
    api.merge(*[str(one) for one in white], out=tmp_path / "whole")
    whole, parts = table(tmp_path / "whole"), pa.concat_tables(table(one) for one in white)
    assert set(whole.column_names) == {*COPIED, "group"}
    for name in COPIED:
        assert whole[name].to_pylist() == parts[name].to_pylist(), name
    assert (tmp_path / "whole" / "preprocess.safetensors").read_bytes() == (
        white[0] / "preprocess.safetensors"
    ).read_bytes()
    record, records = manifest.read(tmp_path / "whole"), [manifest.read(one) for one in white]
    assert (
        record.counts_of_groups == [[1] * 3, [2] * 3]
        and folders.read(tmp_path / "whole").groups.tolist() == [0] * 3 + [1] * 6
    )
    for mean, each in (
        (record.labels.rest, [one.labels.rest for one in records]),
        (record.preprocess.clipped, [one.preprocess.clipped for one in records]),
    ):
        assert mean == pytest.approx((each[0] + 2 * each[1]) / 3) and each[0] != each[1]
    assert verify.faults(tmp_path / "whole") == []


def test_the_manifest_says_what_it_was_merged_of(halves, merged):
    """Sums and parts; nothing that was not measured; teachers' seconds, which the parts share, once."""
    record, records = manifest.read(merged), [manifest.read(half) for half in halves]
    assert (record.name, record.ipc, record.groups, record.seed, record.init) == ("whole", 2, 2, None, "real")
    assert record.packaging is None and record.memorisation is None and record.made.recipe_hash is None
    assert record.method == records[0].method and record.teachers == records[0].teachers
    assert [part.payload for part in record.merged] == [manifest.identity(one.files) for one in records]
    assert [(part.name, part.seed, part.ipc, part.groups) for part in record.merged] == [
        ("half0", 0, 1, 1),
        ("half1", 1, 1, 1),
    ]
    for name in ("packaging", "memorisation", "method", "made"):
        assert [getattr(part, name) for part in record.merged] == [getattr(one, name) for one in records]
    phases = [one.made.phases for one in records]
    assert record.made.phases["distill"] == pytest.approx(sum(each["distill"] for each in phases), abs=0.06)
    assert record.made.phases["teachers"] == max(each["teachers"] for each in phases)
    assert record.bytes.labels == sum(one.bytes.labels for one in records)


def test_its_recipe_file_holds_the_recipes_of_its_parts(halves, merged):
    """Each makes its part again; the file itself is refused as a recipe, with what to do."""
    listed = strict_yaml.parse_yaml((merged / "recipe.yaml").read_text(), "recipe.yaml")["merged"]
    for entry, half in zip(listed, halves, strict=True):
        own = strict_yaml.parse_yaml((half / "recipe.yaml").read_text(), "recipe.yaml")
        assert entry["recipe"] == own and entry["payload"] == manifest.identity(manifest.read(half).files)
    with pytest.raises(UserError, match="describes a set that was merged, which no recipe makes") as caught:
        api.distill(str(merged / "recipe.yaml"))
    assert "ddhub merge" in str(caught.value)


def test_the_card_says_what_it_was_merged_of(merged):
    """One sentence, the column, and the parts' own figures."""
    card = (merged / "README.md").read_text()
    seeds = "`half0` (1 of each class, seed 0), `half1` (1 of each class, seed 1)"
    assert f"They were merged from 2 sets that were made independently: {seeds}." in card
    assert "| `group` | the number of the independently made group, 0 to 1" in card
    shown = manifest.read(merged).merged[0].packaging.validation_top1_packaged
    assert "| of `half0`" not in card  # the method's settings are the same
    assert f"| `half0` | 1 | 1 | {100 * shown:.1f}% |" in card
    assert "Not measured for the merged set" in card and "makes it again" not in card


def test_the_card_says_which_settings_of_the_parts_differ(make, halves, tmp_path):
    """A blend of one part stood nowhere, as if both were of the whole way; two methods were not cited."""
    quarter = make("quarter", *TINY, "seed=7", "method.blend=0.25")
    api.merge(quarter, halves[1], out=tmp_path / "both")
    card = (tmp_path / "both" / "README.md").read_text()
    assert "\n| of `quarter` | `apm`, blend 0.25 |\n| of `half1` | `apm`, blend unset |\n" in card
    record = manifest.read(tmp_path / "both")
    assert "blend" not in record.method and [part.method.get("blend") for part in record.merged] == [0.25, None]
    matched = make("matched", TINY[0], TINY[3], "method={name: dm, iterations: 2}", "seed=8")
    api.merge(halves[1], matched, out=tmp_path / "methods")
    card = (tmp_path / "methods" / "README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith("| of `")]
    assert (
        "refresh_every 3" in rows[0] and "real " not in rows[0] and "real " in rows[1] and "unset" not in "".join(rows)
    )
    assert "2312.08912" in card and "2110.04181" in card


def test_halves_merged_are_what_one_run_of_two_groups_is(make, merged):
    """The same columns of the same types, the same keys in the manifest, the same files."""
    grouped = make("grouped", *TINY, "ipc=2", "groups=2")
    assert datasets.load_dataset(str(grouped), split="train").features == (
        datasets.load_dataset(str(merged), split="train").features
    )
    assert parquet.kinds(grouped) == parquet.kinds(merged)
    records = [json.loads((folder / "ddhub.json").read_text()) for folder in (grouped, merged)]
    assert records[0].keys() == records[1].keys() and records[0]["groups"] == records[1]["groups"]
    assert records[0]["files"].keys() == records[1]["files"].keys()
    sets = [ddhub.load(str(folder)) for folder in (grouped, merged)]
    assert sets[0].groups.tolist() == sets[1].groups.tolist() and sets[0].labels.tolist() == sets[1].labels.tolist()


def test_merging_again_numbers_the_groups_through(make, merged, tmp_path):
    """A merged set and one of two groups: four groups; its parts are those that were made as a whole."""
    more = make("more", *TINY, "ipc=4", "groups=2", "seed=7")
    api.merge(str(merged), str(more), out=tmp_path / "all", name="all-of-it")
    record = manifest.read(tmp_path / "all")
    assert (record.name, record.ipc, record.groups) == ("all-of-it", 6, 4) and [
        counts[0] for counts in record.counts_of_groups
    ] == [1, 1, 2, 2]
    assert [part.name for part in record.merged] == ["half0", "half1", "more"]
    listed = strict_yaml.parse_yaml((tmp_path / "all" / "recipe.yaml").read_text(), "recipe.yaml")["merged"]
    assert [entry["name"] for entry in listed] == ["half0", "half1", "more"]
    assert table(tmp_path / "all")["group"].to_pylist() == [0] * 10 + [1] * 10 + [2] * 20 + [3] * 20
    assert verify.faults(tmp_path / "all") == []


def test_sets_with_one_seed_are_said_to_begin_alike(make, halves, tmp_path, capsys):
    """Their images differ, so nothing is refused, but they are near copies of each other."""
    longer = make("longer", *TINY, "method.lr_images=2")
    api.merge(*halves, out=tmp_path / "apart")
    assert "began as the same" not in capsys.readouterr().err
    api.merge(halves[0], longer, out=tmp_path / "alike")
    told = capsys.readouterr().err
    assert "WARNING: half0 and longer have seed 0, so their images began as the same training images" in told
    assert "  next: ddhub distill RECIPE --set seed=N" in told
    easy = [make(f"easy{rate}", *TINY, "method.init=easy", f"method.lr_images={rate}") for rate in (1, 2)]
    api.merge(*easy, out=tmp_path / "easy")
    assert "WARNING: easy1 and easy2 have seed 0" in capsys.readouterr().err


def test_a_merged_set_is_evaluated_and_exported(merged, tmp_path):
    """Like any other; the report stands in its card."""
    folder = Path(shutil.copytree(merged, tmp_path / "set"))
    report = api.evaluate(str(folder), seeds=1, threads=1).to_dict()
    assert {row["data"] for row in report["rows"]} == {"distilled", "random"} and verify.faults(folder) == []
    assert api.export(folder, "apm", tmp_path / "apm").to_dict()["files"] == ["digits_ConvNet_2ipc_best.pt"]


def test_its_source_is_read_where_its_parts_read_it(white, home, tmp_path, image_folder, monkeypatch):
    """A local copy is remembered in the cache, and published nowhere; what came with a folder is not asked."""
    local = [Path(shutil.copytree(one, tmp_path / one.name)) for one in white]
    known = json.loads((local[1] / ".ddhub" / "run.json").read_text())
    (local[1] / ".ddhub" / "run.json").write_text(json.dumps({**known, "source_path": "/another's"}))
    api.merge(*[str(one) for one in local], out=tmp_path / "whole")
    whole = manifest.read(tmp_path / "whole")
    assert source_location.remembered(whole) is None  # this cache did not see the parts made
    monkeypatch.setenv("DDHUB_HOME", str(home))
    assert source_location.remembered(manifest.read(local[1])) == str(image_folder)
    monkeypatch.setenv("DDHUB_HOME", str(tmp_path / "third"))
    source_location.remember(manifest.read(local[1]), "/some/where")
    api.merge(*[str(one) for one in local], out=tmp_path / "again")
    assert source_location.remembered(manifest.read(tmp_path / "again")) == "/some/where"
    texts = [(tmp_path / "again" / name).read_text() for name in ("ddhub.json", "recipe.yaml", "README.md")]
    assert not any("/some/where" in text or "/another's" in text for text in texts)


def test_sets_of_the_hub_are_merged_by_their_ids(server, halves, tmp_path):
    """Their commit stands in the manifest; the result is pushed and pulled like any other."""
    sets = [Path(shutil.copytree(half, tmp_path / half.name)) for half in halves]
    commit = api.push(sets[0], "alice/half0").to_dict()["commit"]
    api.merge("alice/half0@main", str(sets[1]), out=tmp_path / "whole")
    record = manifest.read(tmp_path / "whole")
    assert [part.hub for part in record.merged] == [f"alice/half0@{commit}", None]
    api.push(tmp_path / "whole", "alice/whole")
    assert api.verify("alice/whole").ok
    assert f"`alice/half0@{commit}` (1 of each class" in (tmp_path / "whole" / "README.md").read_text()


def changed(path, **sections):
    """Change a set's manifest."""
    record = json.loads((path / "ddhub.json").read_text())
    for name, change in sections.items():
        record[name] = {**(record[name] or {}), **change} if isinstance(change, dict) else change
    (path / "ddhub.json").write_text(json.dumps(record))


DIFFERENT = {
    "dataset": ({"source": {"dataset": "another"}}, "source.dataset: 'digits' against 'another'"),
    "images": ({"source": {"fingerprint": "sha256:1"}}, "source.fingerprint: 'sha256:"),
    "split": ({"source": {"validation": 0.2}}, "source.validation: 0.1 against 0.2"),
    "licence": ({"source": {"license": "mit"}}, "source.license: 'cc-by-4.0' against 'mit'"),
    "mean": ({"preprocess": {"mean": [0.5]}}, "preprocess.mean: 0.30"),
    "class order": ({"classes": list("1023456789")}, "classes: '0' at 0 against '1' at 0"),
    "class count": ({"classes": list("012345678")}, "classes: 10 of them against 9 of them"),
    "form": ({"labels": {"form": "probabilities"}}, "labels.form: 'logits' against 'probabilities'"),
    "temperature": ({"labels": {"temperature": 4.0}}, "labels.temperature: 1.0 against 4.0"),
    "labellers": ({"labels": {"teachers": "one"}}, "labels.teachers: 'mean' against 'one'"),
    "protocol": ({"protocol": {"lr": 0.5}}, "protocol.lr: 0.02 against 0.5"),
    "origin": ({"imported": {"layout": "mtt", "files": {}}}, "imported.layout: nothing against 'mtt'"),
}


@pytest.fixture
def other(halves, tmp_path):
    """A copy of the second half, to change."""
    return Path(shutil.copytree(halves[1], tmp_path / "other"))


def refused(sets, out) -> str:
    """What is said of sets that cannot be merged; nothing is left then."""
    before = sorted(path.name for path in out.parent.iterdir())
    with pytest.raises(UserError) as caught:
        api.merge(*[str(one) for one in sets], out=out)
    assert sorted(path.name for path in out.parent.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_the_manifests_do_not_agree_on_is_named(halves, other, tmp_path, name):
    """Both files, the key, both values."""
    change, told = DIFFERENT[name]
    changed(other, **change)
    fault = refused([halves[0], other], tmp_path / "whole")
    assert fault.startswith(f"{halves[0]}/ddhub.json and {other}/ddhub.json: {told}")


def test_several_differences_are_listed_at_once(halves, other, tmp_path):
    """A line each, and what to do."""
    changed(other, protocol={"lr": 0.5, "epochs": 9}, labels={"temperature": 2.0})
    fault = refused([halves[0], other], tmp_path / "whole")
    assert [line.split(": ")[1] for line in fault.splitlines()[:-1]] == [
        "labels.temperature",
        "protocol.lr",
        "protocol.epochs",
    ]
    assert fault.splitlines()[-1] == "  next: make them of one recipe: ddhub distill RECIPE --set seed=1, 2, ..."


def test_other_teachers_and_other_columns_are_named(halves, other, tmp_path):
    """By the bytes of their files and the types of their columns."""
    path = other / "teachers" / "01.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    rewrite(other, lambda found: Rows(found.images, found.labels, found.soft.float(), None, found.images.half()))
    fault = refused([halves[0], other], tmp_path / "whole")
    assert f"{halves[0]}/teachers/01.safetensors and {other}/teachers/01.safetensors: sha256: " in fault
    assert f"{halves[0]}/data and {other}/data: column 'pixels': nothing against " in fault
    assert "column 'soft_label': 'fixed_size_list<element: halffloat>[10]' against " in fault


def test_another_whitening_is_named(white, tmp_path):
    """To the bit."""
    other = Path(shutil.copytree(white[1], tmp_path / "other"))
    path = other / "preprocess.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    rehash(other)
    fault = refused([white[0], other], tmp_path / "whole")
    assert f"{white[0]}/preprocess.safetensors and {other}/preprocess.safetensors: sha256" in fault


def test_the_same_set_twice_is_refused(halves, merged, tmp_path):
    """By itself, under another name, inside a merged set, or with another label on the same images."""
    told = "both hold the set 'half0'"
    assert told in refused([halves[0], halves[0]], tmp_path / "whole")
    copy = Path(shutil.copytree(halves[0], tmp_path / "copy"))
    changed(copy, name="innocent")
    assert f"{halves[0]} and {copy}: both hold the set 'innocent'" in refused([halves[0], copy], tmp_path / "whole")
    assert told in refused([merged, halves[0]], tmp_path / "whole")
    rewrite(copy, lambda found: Rows(found.images, found.labels, found.soft * 2))
    assert f"{copy}: all of its images are in {merged}" in refused([merged, copy], tmp_path / "whole")


def test_a_damaged_part_is_refused(halves, other, tmp_path):
    """Before anything is joined."""
    path = parquet.shards(other)[0]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert "train-00000-of-00001.parquet: damaged" in refused([halves[0], other], tmp_path / "whole")


def test_what_is_no_merge_is_refused(halves, tmp_path):
    """One set; a name that no repo could have; a folder that holds something, which stays as it is."""
    with pytest.raises(UserError, match="takes two sets or more"):
        api.merge(str(halves[0]), out=tmp_path / "whole")
    with pytest.raises(UserError, match="is no name for a set"):
        api.merge(*[str(half) for half in halves], out=tmp_path / "whole", name="a b")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="thesis: is there already"):
        api.merge(*[str(half) for half in halves], out=tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("write", range(1, 12))
def test_an_interrupted_merge_leaves_nothing(halves, tmp_path, monkeypatch, write):
    """Whichever file was being written: no folder, and the next attempt makes it."""
    atomic, count = files.write_atomic, 0

    def interrupted(path, content):
        nonlocal count
        count += 1
        if count == write:
            raise KeyboardInterrupt
        atomic(path, content)

    monkeypatch.setattr(files, "write_atomic", interrupted)
    whole = tmp_path / "whole"
    try:
        api.merge(*[str(half) for half in halves], out=whole)
    except KeyboardInterrupt:
        assert list(tmp_path.iterdir()) == []
        return
    assert count < write and verify.faults(whole) == []


def test_the_command_says_where_the_set_is(halves, tmp_path):
    """People's words and one JSON document; a fault is a sentence and exit code 1."""
    asked = ["merge", *map(str, halves), "--out", str(tmp_path / "a")]
    assert (
        f"artifact: {tmp_path}/a\npicture:  {tmp_path}/a/assets/images.png\n"
        in CliRunner().invoke(app.main, asked).stdout
    )
    told = json.loads(
        CliRunner().invoke(app.main, [*asked[:-1], str(tmp_path / "b"), "--name", "both", "--json"]).stdout
    )
    assert (told["folder"], told["manifest"]["name"]) == (str(tmp_path / "b"), "both")
    again = CliRunner().invoke(app.main, asked)
    assert again.exit_code == 1 and again.stderr.startswith("error: ") and "is there already" in again.stderr


@pytest.mark.parametrize("lengths", [[3, 4], [7, 7], [1, 20, 2], [14, 1], [5]])
def test_merged_rows_fill_files_and_row_groups_as_written_ones_do(tmp_path, monkeypatch, lengths):
    """Whatever the parts' sizes: the same rows, cut at the same places."""
    monkeypatch.setattr(parquet, "SHARD_ROWS", 7)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3)
    generator = torch.Generator().manual_seed(0)
    total, start = sum(lengths), 0
    images = torch.randint(256, (total, 3, 4, 4), generator=generator).to(torch.uint8)
    soft, pixels = torch.randn(total, 2, generator=generator), torch.randn(total, 3, 4, 4, generator=generator).half()
    labels = torch.arange(total) % 2
    for place, length in enumerate(lengths):
        parquet.write(tmp_path / str(place), Rows(images, labels, soft, None, pixels).part(start, start + length), "ab")
        start += length
    parquet.merge(tmp_path / "merged", [(tmp_path / str(place), 1) for place in range(len(lengths))], "ab")
    group = torch.cat([torch.full((length,), place) for place, length in enumerate(lengths)])
    parquet.write(tmp_path / "written", Rows(images, labels, soft, None, pixels, group), "ab")
    pairs = list(zip(parquet.shards(tmp_path / "merged"), parquet.shards(tmp_path / "written"), strict=True))
    for ours, theirs in pairs:
        assert ours.name == theirs.name and pq.read_table(ours).equals(pq.read_table(theirs), check_metadata=True)
        sizes = [
            [pq.ParquetFile(path).metadata.row_group(n).num_rows for n in range(pq.ParquetFile(path).num_row_groups)]
            for path in (ours, theirs)
        ]
        assert sizes[0] == sizes[1]
    assert len(parquet.pictures(tmp_path / "merged")) == total
