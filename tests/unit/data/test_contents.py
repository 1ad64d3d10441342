"""A folder of pictures by its names: what is wrong with it, and what is in it that nothing reads, is said at once."""

import shlex
from pathlib import Path

import pytest
from PIL import Image

from ddhub.base.errors import UserError
from ddhub.data import contents, opening, split_words
from ddhub.data.spec import spec_of


@pytest.fixture
def album(tmp_path):
    """A function that fills the folder `album` with files: pictures where the name says so, else the given bytes."""

    def make(*names: str, **content: bytes) -> contents.Contents | None:
        for number, name in enumerate(names):
            path = tmp_path / "album" / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in (".png", ".jpg"):
                Image.new("RGB", (8, 8), (200, number, 0)).save(path)  # no two are copies
            else:
                path.write_bytes(b"...")
        (tmp_path / "album").mkdir(exist_ok=True)
        return contents.contents(tmp_path / "album")

    return make


REGULAR = ("cat/1.png", "cat/2.JPG", "dog/1.png")


def test_a_regular_folder_has_nothing_to_say(album):
    """Files of other programs and documents are no news."""
    held = album(
        *REGULAR, "cat/.DS_Store", "cat/._1.png", "__MACOSX/cat/1.png", "dog/Thumbs.db", "notes.txt", "README.md"
    )
    contents.check(held, "./album", skip_damaged=False)
    assert held.classes == ["cat", "dog"] and contents.notes(held) == []


@pytest.mark.parametrize(
    ("names", "said", "advice"),
    [
        ((), "holds no pictures", "album/CLASS/1.jpg"),
        (("cat/1.heic", "dog/1.heic"), "only files that are not read (.heic)", "convert them"),
        (("cat/1.png", "cat/2.png"), "pictures of one class, or of none", "a folder of its own"),
        (
            ("1.png", "2.png", "labels.csv"),
            "pictures of one class, or of none",
            "write album/metadata.csv, with columns file_name and label, from album/labels.csv",
        ),
        (("images/1.png", "labels.csv"), "pictures of one class, or of none", "write album/images/metadata.csv"),
        (
            ("train/cat.0.jpg", "train/dog.0.jpg", "test/1.jpg"),
            "pictures of one class, or of none",
            "album/train/CLASS",
        ),
        (
            ("train/1.jpg", "test/2.jpg", "train.csv"),
            "pictures of one class, or of none",
            "write album/train/metadata.csv",
        ),
        ((*REGULAR, "cover.png"), "1 picture at another depth than the rest (cat/1.png): cover.png", "move each"),
        (("bus/1.png", "car/1.png", "train/1.png"), "train/1.png is named as the split train", "train to trains"),
        ((*REGULAR, "cat/my test.png"), "so that only splits are read, and not 3 pictures in none", "rename"),
        (("train/cat/1.png", "train/test_tube/1.png"), "is in the splits train and test at once", "test_tube"),
        (
            ("train/cat/1.png", "train/dog/1.png", "test/1.png"),
            "1 picture at another depth than the rest (train/cat/1.png): test/1.png",
            "move each",
        ),
    ],
)
def test_a_folder_that_no_set_can_be_made_of_is_refused(names, said, advice, album):
    """With what to do about it."""
    with pytest.raises(UserError) as fault:
        contents.check(album(*names), "./album", skip_damaged=False)
    assert said in str(fault.value) and advice in fault.value.next


def test_links_to_folders_are_refused(album, tmp_path):
    """`datasets` finds no file behind them."""
    album(*REGULAR)
    (tmp_path / "album" / "owl").symlink_to(tmp_path / "album" / "cat")
    with pytest.raises(UserError, match="links to folders are not followed: owl"):
        contents.check(contents.contents(tmp_path / "album"), "album", skip_damaged=False)


def test_pictures_that_cannot_be_opened_are_refused_unless_they_are_left_out(album, tmp_path):
    """The first is named, the others are counted."""
    held = album(*REGULAR, "dog/2.png")
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / "album" / name).write_bytes(b"")
    with pytest.raises(UserError) as fault:
        contents.check(held, "album", skip_damaged=False)
    assert str(fault.value).startswith("album/cat/1.png: cannot be decoded") and "and 1 more of 4" in str(fault.value)
    assert "skip_damaged" in fault.value.next
    contents.check(held, "album", skip_damaged=True)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((*REGULAR, "owl/"), "empty folders, which are no classes: owl"),
        ((*REGULAR, "labels.csv"), "not read: labels.csv; a table of labels is called metadata.csv"),
        ((*REGULAR, "cat/3.heic", "dog/film.mp4"), "not read: 2 files of other kinds (cat/3.heic, dog/film.mp4)"),
        (("cat/2021/1.png", "cat/2022/1.png", "dog/2021/1.png"), "(2021, 2022), not those above (cat, dog)"),
    ],
)
def test_what_is_in_a_folder_and_in_no_set_is_said(names, said, album):
    """A class that was meant and is none, above all."""
    held = album(*names)
    contents.check(held, "album", skip_damaged=False)
    assert len(contents.notes(held)) == 1 and said in contents.notes(held)[0]


@pytest.mark.parametrize(
    "names",
    [(*REGULAR, "metadata.csv"), ("data.parquet",), ("album.zip",), ("table.csv",), (*REGULAR, "x.arrow")],
)
def test_what_datasets_reads_otherwise_is_left_to_it(names, album):
    """Tables and archives have no classes by folder."""
    assert album(*names) is None


def test_a_header_says_itself_which_files_are_data(album, tmp_path):
    """A README of a Hub dataset."""
    album(*REGULAR)
    (tmp_path / "album" / "README.md").write_text("---\nconfigs: []\n---\n")
    assert contents.contents(tmp_path / "album") is None


def test_splits_are_no_classes(album):
    """Folders or files named as splits: depth and classes are as `datasets` finds them in each."""
    held = album("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "cover.png")
    contents.check(held, "album", skip_damaged=False)
    assert contents.notes(held) == ["not read: 1 picture outside of the splits (cover.png)"]


def test_the_words_of_splits_are_those_of_datasets(album):
    """Each of its keywords is one here, in names of folders and of files."""
    from datasets import data_files

    known = {str(split): "|".join(words) for split, words in data_files.SPLIT_KEYWORDS.items()}
    assert known == split_words.SPLITS and f"[{data_files.NON_WORDS_CHARS}]" == split_words.EDGE
    held = album("train1/cat/1.png", "my-val/cat/1.png", "a_test.b/cat/1.png", "tests/cat/1.png", "Test/cat/1.png")
    assert [held.splits.get(path) for path in sorted(held.pictures)] == [
        None,
        ["test"],
        ["validation"],
        None,
        ["train"],
    ]
    found = data_files.DataFilesDict.from_patterns(data_files.get_data_patterns(str(held.folder)), str(held.folder))
    theirs = {str(Path(each).relative_to(held.folder)): [split] for split, names in found.items() for each in names}
    assert theirs == {str(path): splits for path, splits in held.splits.items()}


def test_the_suffixes_are_those_of_datasets():
    """A picture that `datasets` reads is none of the files that are said to be left out."""
    source = Path(__import__("importlib.util").util.find_spec("datasets").origin).parent
    text = (source / "packaged_modules" / "imagefolder" / "imagefolder.py").read_text()
    listed = {line.strip().strip('",') for line in text.splitlines() if line.startswith('    ".')}
    assert listed == contents.PICTURES


def test_copies_are_counted(album):
    """Those beyond the first; with splits of its own nothing keeps them apart."""
    held = album(*REGULAR)
    first = held.folder / held.pictures[0]
    for number in range(3):
        (first.parent / f"copy{number}.png").write_bytes(first.read_bytes())
    assert contents.notes(contents.contents(held.folder)) == [
        "copies, byte for byte: 3 pictures; none is trained on and tested on"
    ]


MISNAMED = {
    "trainset and testset": (("trainset", "testset"), "mv {0}/testset {0}/test; mv {0}/trainset {0}/train"),
    "capitals": (("Train", "Val"), "mv {0}/Train {0}/train; mv {0}/Val {0}/validation"),
    "several words": (("Training Data", "test images"), "mv '{0}/Training Data' {0}/train"),
    "one of them is read": (("train", "testset"), "mv {0}/testset {0}/test"),
    "another word before it": (("flowersTrain", "flowersTest"), "mv {0}/flowersTest {0}/test"),
    "two of a split": (("trainA", "trainB", "testA"), "mv {0}/trainA {0}/train-trainA; mv {0}/trainB {0}/train-trainB"),
}


@pytest.mark.parametrize("case", MISNAMED)
@pytest.mark.parametrize("inside", ["", "images/"])
def test_folders_meant_as_splits_are_not_read_as_one(case, inside, album, tmp_path):
    """`datasets` would train on all of them; once they are named as the advice says, it reads each."""
    names, advice = MISNAMED[case]
    held = album(*(f"{inside}{name}/{kind}/1.png" for name in names for kind in ("cat", "dog")))
    place = str(tmp_path / "album" / inside).rstrip("/")
    for look in (
        lambda: contents.check(held, "./album", False),
        lambda: opening.split_names(spec_of(str(held.folder))),
    ):
        with pytest.raises(UserError, match="would not be read as splits of their own") as fault:
            look()
        assert advice.format(place) in fault.value.next
    for command in fault.value.next.split("; "):
        _, old, new = shlex.split(command)
        Path(old).rename(new)
    mended = contents.contents(held.folder)
    contents.check(mended, "./album", skip_damaged=False)
    assert set(opening.split_names(spec_of(str(held.folder)))) == {split for [split] in mended.splits.values()}
    assert not mended.outside


@pytest.mark.parametrize(
    ("names", "moved"),
    [
        (("trainA", "trainB", "testA", "testB"), "mv {0}/testA {0}/test/A; mv {0}/testB {0}/test/B; mv {0}/trainA"),
        (("trainA", "trainB", "testA"), "mv {0}/testA {0}/test/A; mv {0}/trainA {0}/train/A; mv {0}/trainB"),
        (
            ("catTrain", "catVal", "dogTrain", "dogVal"),
            "mv {0}/catTrain {0}/train/cat; mv {0}/catVal {0}/validation/cat",
        ),
        (("Train_cat", "Train_dog", "Test_cat"), "mv {0}/Test_cat {0}/test/cat"),
    ],
)
def test_splits_of_classes_are_not_read_as_classes(names, moved, album, tmp_path):
    """The pictures lie directly in such folders. Once they are moved as the advice says, each split has its classes."""
    held, place = album(*(f"{name}/{number}.png" for name in names for number in (1, 2))), tmp_path / "album"
    with pytest.raises(UserError, match="would be read as classes, and their names say splits") as fault:
        contents.check(held, "./album", skip_damaged=False)
    assert moved.format(place) in fault.value.next
    made, *moves = [shlex.split(command) for command in fault.value.next.split("; ")]
    for folder in made[2:]:
        Path(folder).mkdir()
    for _, old, new in moves:
        Path(old).rename(new)
    contents.check(contents.contents(place), "./album", skip_damaged=False)


def test_tables_meant_as_splits_are_not_read_as_one(tmp_path):
    """A README that names the files of each split is heeded."""
    for name in ("cifarTrain.csv", "cifarTest.csv"):
        (tmp_path / name).write_text("image,label\n1.png,cat\n")
    with pytest.raises(UserError, match=r"cifarTest\.csv, cifarTrain\.csv") as fault:
        split_words.refuse_misnamed(tmp_path)
    assert fault.value.next.endswith(f"mv {tmp_path}/cifarTrain.csv {tmp_path}/train.csv")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- data_files: []\n---\n")
    split_words.refuse_misnamed(tmp_path)


@pytest.mark.parametrize(
    ("names", "move"),
    [
        (("data/trainset-00000-of-00002.parquet", "data/trainset-00001-of-00002.parquet"), None),
        (("data/trainset-00000-of-00001.parquet", "data/testset-00000-of-00002.parquet"), "mv h/data/testset-00000"),
        (("Train/a/1.png", "Train/b/1.png", "Test/a/1.png", "Test/b/1.png"), "mv h/Test h/test; mv h/Train h/train"),
        (("images/trainset.zip", "images/testset.zip"), "mv h/images/testset.zip h/images/test.zip"),
        (("trainer/1.png", "tester/1.png", "../trainset/1.png", "/testset/1.png"), None),
    ],
)
def test_files_of_the_hub_that_are_read_as_one_split(names, move):
    """Their names are judged as those of a folder; `..` and `/` lead to nothing here."""
    if move is None:
        return split_words.refuse_merged("g/h", names)
    with pytest.raises(UserError, match=r"g/h.*would not be read as splits of their own") as fault:
        split_words.refuse_merged("g/h", names)
    assert move in fault.value.next
    return None


@pytest.mark.parametrize(
    "names",
    [
        ("trainer/1.png", "tester/1.png"),
        ("Trained/1.png", "Tested/1.png"),
        ("trainA/1.png", "testA/1.png", "car/1.png"),
        ("trainA/1.png", "testB/1.png"),
        ("train-cat/1.png", "test-cat/1.png"),
        ("Train/1.png", "Car/1.png"),
        ("strain/a/1.png", "contest/b/1.png"),
        ("train/valley/1.png", "train/training ground/1.png", "test/valley/1.png"),
        ("latest/1.png", "devil/1.png"),
    ],
)
def test_classes_that_begin_or_end_as_splits_do_are_classes(names, album):
    """Their names share the start of a word, and they are no two parts of the same classes."""
    split_words.refuse_misnamed(album(*names).folder)
