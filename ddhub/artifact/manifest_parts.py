"""The parts of a manifest: source, preprocessing, labels, teachers, packaging, files, and merged sets."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ddhub.base import limits
from ddhub.base.schema import Count, Factor, Strict, Temperature
from ddhub.data.picture_settings import PictureSettings
from ddhub.data.spec import Revision

MOST_GROUPS = 2**15  # column `group` counts in 16 bits


Fraction = Annotated[float, Field(ge=0, le=1)]
FILE_NAME = r"^[ -~]{1,200}$"  # a payload file's name that every file system accepts
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Statistic = Annotated[float, Field(ge=-limits.FACTOR, le=limits.FACTOR)]
Deviation = Annotated[float, Field(ge=1 / limits.FACTOR, le=limits.FACTOR)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Groups = Annotated[int, Field(gt=0, le=MOST_GROUPS)]


class SourceRecord(PictureSettings):
    """The real dataset that the set was made from."""

    dataset: str = Field(min_length=1, description="Hub id, `digits`, or the folder as the recipe names it.")
    revision: Revision | None = Field(description="Commit of the Hub repo.")
    config: str | None = Field(default=None, description="Subset of a Hub dataset that has several.")
    fingerprint: str = Field(description="Hash of the decoded images and labels.")
    image: str = Field(description="Column of the images.")
    label: str = Field(description="Column of the classes.")
    train: str = Field(description="Split that the set was distilled from.")
    hold_out: float | None = Field(
        default=None, gt=0, lt=0.9, description="Share of `train` used as test split. null uses the split `test`."
    )
    test: str = Field(description="Split to test on.")
    validation: float = Field(gt=0, lt=0.9, description="Share of the training images that is held out for choices.")
    split_seed: int = Field(description="Seed that draws these shares.")
    resolution: int = Field(ge=4, le=limits.SIDE, description="Side in pixels.")
    channels: Literal[1, 3] = Field(description="1 is grey, 3 is RGB.")
    license: str | None = Field(description="Licence of the source, if it is known.")

    @field_validator("test")
    @classmethod
    def _splits_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("train") and info.data.get("hold_out") is None:
            raise ValueError(f"trains and tests on the same split, {value[:60]!r}")
        return value


class PreprocessRecord(Strict):
    """How pixels become network inputs: (x - mean) / std, or the whitening in the file `zca`."""

    mean: list[Statistic] = Field(description="Mean of each channel, of pixels in [0, 1].")
    std: list[Deviation] = Field(description="Standard deviation of each channel, of pixels in [0, 1].")
    statistics: Literal["fitted", "field"] = Field(
        default="fitted",
        description="Origin of mean and std: the training images, or the constants of published work.",
    )
    zca: FileName | None = Field(default=None, description="File of the whitening, with `mean` and `matrix`.")
    factor: Factor = Field(
        default=1,
        exclude_if=lambda factor: factor == 1,  # key is newer than published manifests
        description="Images are stored at 1/factor of `source.resolution` per side. Networks see them enlarged, "
        "bilinearly.",
    )
    per_image: bool = Field(
        default=False, description="Each image is centred and scaled to norm 1 after mean and std, then whitened (KIP)."
    )
    pixels_space: Literal["input"] | None = Field(
        default=None, description="Space of column `pixels`, if there is one: network inputs."
    )
    clipped: Fraction = Field(description="Share of values that 8-bit pixels clip.")


class LabelRecord(Strict):
    """The content of column `soft_label`. `regression` are targets that are neither logits nor probabilities (KIP)."""

    form: Literal["logits", "probabilities", "regression", "hard"] = Field(
        description="Kind of the values. With `hard` there is no column `soft_label`."
    )
    temperature: Temperature = Field(default=1.0, description="Divides logits before a softmax.")
    teachers: Literal["mean", "one"] | None = Field(default=None, description="Stored logits: the mean, or one's.")
    top_k: int | None = Field(
        default=None,
        gt=0,
        le=limits.CLASSES,
        description="Number of classes in `soft_index` of each image. null: all classes are stored.",
    )
    rest: Statistic | None = Field(
        default=None, description="Soft label of the other classes: their mean over the set."
    )


class TeacherRecord(Strict):
    """One shipped teacher."""

    arch: str = Field(description="Architecture.")
    file: FileName = Field(description="File of the weights (safetensors).")
    validation_top1: Fraction = Field(description="Accuracy on the validation part.")


class Packaging(Strict):
    """Validation accuracy of the set before and after packaging: means over `seeds` networks."""

    arch: str = Field(description="Architecture that was trained.")
    seeds: Count = Field(description="Trainings per number.")
    validation_top1_float: Fraction = Field(description="Accuracy with the floats in memory.")
    validation_top1_8bit: Fraction | None = Field(default=None, description="Accuracy with 8-bit pixels only.")
    validation_top1_packaged: Fraction = Field(description="Accuracy with the shipped files.")
    uncertainty: Annotated[float, Field(ge=0, le=20)] | None = Field(
        default=None,
        exclude_if=lambda width: width is None,  # key is newer than published manifests
        description="Half the width of the 95% interval of what 8 bits cost, paired by seed. A smaller loss cannot be "
        "told. null: one training, or not recorded.",
    )


class Making(Strict):
    """Machine, software and time of making the set."""

    ddhub: str = Field(description="Version of ddhub.")
    torch: str = Field(description="Version of torch.")
    device: str | None = Field(default=None, description="Hardware. Imported sets have null here and below.")
    versions: dict[str, str] = Field(
        default_factory=dict,
        exclude_if=lambda versions: not versions,
        description="Versions of CUDA, cuDNN and driver of a GPU.",
    )
    seconds: Seconds | None = Field(default=None, description="Seconds of the whole run.")
    phases: dict[str, Seconds] = Field(
        default_factory=dict, description="Seconds of each phase. Cached teachers count with their training time."
    )
    peak_bytes: int | None = Field(default=None, description="Peak of resident memory, or of GPU memory.")
    recipe_hash: str | None = Field(default=None, description="Hash of the recipe, without found revision and columns.")
    overrides: list[str] = Field(default_factory=list, description="Changes by `--set`.")
    decisions: dict[str, Any] = Field(
        default_factory=dict, description="Choices of ddhub: device, threads, precision, chunks."
    )
    method_code: str | None = Field(
        default=None, description="Origin of the method's code: a package, or a file with its hash. null: ddhub."
    )


class FileRecord(Strict):
    """Hash and size of one payload file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the content.")
    bytes: int = Field(ge=0, description="Size.")


class Imported(Strict):
    """Origin of a set that another tool made."""

    layout: str = Field(description="Layout of the files.")
    files: dict[str, FileRecord] = Field(description="Files that were read, by name.")
    notes: list[str] = Field(default_factory=list, description="Facts from the importer that the files do not state.")


class Nearness(Strict):
    """Distances of synthetic images to their nearest training image, beside those of held-out real images."""

    median: Statistic = Field(description="Median distance of synthetic images.")
    median_held_out: Statistic = Field(description="Median distance of the validation part's real images.")
    copies: Fraction = Field(description="Share of synthetic images that are nearer than 99% of held-out images.")


class Memorisation(Strict):
    """The copy check against training images. `assets/nearest.png` shows the nearest pairs."""

    checked: int = Field(description="Number of synthetic images checked.")
    pixels: Nearness = Field(description="By root mean square difference of pixels in [0, 1].")
    features: Nearness | None = Field(default=None, description="By cosine distance of features of the first teacher.")
    starts: Fraction | None = Field(
        default=None,
        description="Share of synthetic images whose nearest training image, by pixels, is a start image of the set. "
        "null: the set had no real start images, or they were not looked up.",
    )


# Images of each class, in the order of the classes; None if all have `ipc`.
Unequal = Annotated[list[int] | None, Field(max_length=limits.CLASSES)]


class Part(Strict):
    """One of the merged sets, as its own manifest describes it."""

    name: str = Field(description="Name of the set.")
    hub: str | None = Field(default=None, description="`owner/name@commit`, if it came from the Hub.")
    payload: str = Field(description="Digest of its files' hashes.")
    ipc: Count = Field(description="Images per class. If classes differ, the largest count.")
    unequal: Unequal = Field(default=None, description="Images of each class, if classes differ.")
    groups: Groups = Field(default=1, description="Parts that were made independently.")
    seed: int | None = Field(default=None, description="Seed of its recipe.")
    init: str | None = Field(default=None, description="Start of its images.")
    method: dict[str, Any] = Field(description="Method and settings.")
    packaging: Packaging | None = Field(default=None, description="Accuracy before and after packaging.")
    memorisation: Memorisation | None = Field(default=None, description="Check for copies.")
    made: Making = Field(description="Machine and software that made it.")


class ByteCounts(Strict):
    """Storage by purpose, in bytes."""

    images: int = Field(description="Images, `pixels` and classes.")
    labels: int = Field(description="Soft labels.")
    preprocess: int = Field(description="Whitening.")
    teachers: int = Field(description="Teachers.")
