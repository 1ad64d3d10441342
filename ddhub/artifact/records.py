"""The parts of a manifest: source, preprocessing, labels, teachers, packaging, files, and the sets it was merged of."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ddhub.base import limits
from ddhub.base.schema import Count, Strict, Temperature
from ddhub.data.picture_settings import PictureSettings
from ddhub.data.spec import Revision

MOST_GROUPS = 2**15  # column `group` counts in 16 bits


ON_THE_FLY = ("teachers", "teacher")  # labels that are made of every augmented view
Fraction = Annotated[float, Field(ge=0, le=1)]
FILE_NAME = r"^[ -~]{1,200}$"  # of what a set consists of: what every file system can hold
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Statistic = Annotated[float, Field(ge=-limits.FACTOR, le=limits.FACTOR)]
Deviation = Annotated[float, Field(ge=1 / limits.FACTOR, le=limits.FACTOR)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Groups = Annotated[int, Field(gt=0, le=MOST_GROUPS)]


class SourceRecord(PictureSettings):
    """Which real data the set was made from."""

    dataset: str = Field(min_length=1, description="Hub id, `digits`, or the folder as the recipe names it.")
    revision: Revision | None = Field(description="Commit of the Hub repo.")
    config: str | None = Field(default=None, description="Subset of a Hub dataset that has several.")
    fingerprint: str = Field(description="Hash of the decoded images and labels.")
    image: str = Field(description="Column of the images.")
    label: str = Field(description="Column of the classes.")
    train: str = Field(description="Split that was distilled.")
    hold_out: float | None = Field(
        default=None, gt=0, lt=0.9, description="Share of `train` to test on. null: `test` is tested on."
    )
    test: str = Field(description="Split to test on.")
    validation: float = Field(gt=0, lt=0.9, description="Share held out for choices, of what was trained on.")
    split_seed: int = Field(description="Draws these shares.")
    resolution: int = Field(ge=4, le=limits.SIDE, description="Side in pixels.")
    channels: Literal[1, 3] = Field(description="1 is grey, 3 is RGB.")
    license: str | None = Field(description="Licence of the source, where it is known.")

    @field_validator("test")
    @classmethod
    def _splits_differ(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("train") and info.data.get("hold_out") is None:
            raise ValueError(f"trains and tests on the same split, {value[:60]!r}")
        return value


class PreprocessRecord(Strict):
    """How pixels become network inputs: (x - mean) / std, or the whitening in the file named by `zca`."""

    mean: list[Statistic] = Field(description="Mean of each channel, of pixels in [0, 1].")
    std: list[Deviation] = Field(description="Standard deviation of each channel, of pixels in [0, 1].")
    statistics: Literal["fitted", "field"] = Field(
        default="fitted",
        description="Mean and standard deviation: of the training images, or the constants of published numbers.",
    )
    zca: FileName | None = Field(default=None, description="File of the whitening, with `mean` and `matrix`.")
    per_image: bool = Field(
        default=False, description="After mean and std, every image is centred and of norm 1, then whitened (KIP)."
    )
    pixels_space: Literal["input"] | None = Field(
        default=None, description="Space of column `pixels`, where there is one: network inputs."
    )
    clipped: Fraction = Field(description="Share of values that 8-bit pixels clip.")


class LabelRecord(Strict):
    """What column `soft_label` holds; `regression` are targets that are neither logits nor probabilities (KIP's)."""

    form: Literal["logits", "probabilities", "regression", "hard"] = Field(
        description="Kind of the values. With `hard` there is no column `soft_label`."
    )
    temperature: Temperature = Field(default=1.0, description="Divides logits before a softmax.")
    teachers: Literal["mean", "one"] | None = Field(default=None, description="Whose logits are stored.")
    top_k: int | None = Field(
        default=None,
        gt=0,
        le=limits.CLASSES,
        description="Classes that `soft_index` names of an image. null: all are stored.",
    )
    rest: Statistic | None = Field(
        default=None, description="What the other classes count as: their mean over the set."
    )


class TeacherRecord(Strict):
    """One shipped teacher."""

    arch: str = Field(description="Architecture.")
    file: FileName = Field(description="File of the weights (safetensors).")
    validation_top1: Fraction = Field(description="Accuracy on the validation part.")


class Packaging(Strict):
    """Validation accuracy of the set before and after packaging, mean over `seeds` networks."""

    arch: str = Field(description="Architecture that was trained.")
    seeds: Count = Field(description="Trainings per number.")
    validation_top1_float: Fraction = Field(description="Accuracy with the floats in memory.")
    validation_top1_8bit: Fraction | None = Field(default=None, description="Accuracy with 8-bit pixels alone.")
    validation_top1_packaged: Fraction = Field(description="Accuracy with what is shipped.")


class Making(Strict):
    """Where, with what and how fast the set was made."""

    ddhub: str = Field(description="Version of ddhub.")
    torch: str = Field(description="Version of torch.")
    device: str | None = Field(default=None, description="Hardware. null, as all that follows, of imported sets.")
    versions: dict[str, str] = Field(
        default_factory=dict,
        exclude_if=lambda versions: not versions,
        description="Versions of a GPU's CUDA, cuDNN and driver.",
    )
    seconds: Seconds | None = Field(default=None, description="Seconds of the whole run.")
    phases: dict[str, Seconds] = Field(
        default_factory=dict, description="Seconds of each phase. Cached teachers count as they took when trained."
    )
    peak_bytes: int | None = Field(default=None, description="Most resident memory, or most memory of the GPU.")
    recipe_hash: str | None = Field(default=None, description="Hash of the recipe, before revision and columns.")
    overrides: list[str] = Field(default_factory=list, description="What `--set` changed in the recipe.")
    decisions: dict[str, Any] = Field(
        default_factory=dict, description="What the machine decided: device, threads, precision, chunks."
    )
    method_code: str | None = Field(
        default=None, description="Whose code the method is: a package, or a file with its hash. null: ddhub's own."
    )


class FileRecord(Strict):
    """Hash and size of one payload file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the content.")
    bytes: int = Field(ge=0, description="Size.")


class Imported(Strict):
    """Where a set that was made elsewhere came from."""

    layout: str = Field(description="Layout of the files.")
    files: dict[str, FileRecord] = Field(description="What was read, by name.")
    notes: list[str] = Field(default_factory=list, description="What the importer knew that the files do not say.")


class Nearness(Strict):
    """How far synthetic images are from their nearest training image, beside held-out real images' distances."""

    median: Statistic = Field(description="Median distance of synthetic images.")
    median_held_out: Statistic = Field(description="Median distance of the validation part's real images.")
    copies: Fraction = Field(description="Share of synthetic images nearer than 99% of the held-out ones.")


class Memorisation(Strict):
    """The nearest-training-image check; `assets/nearest.png` shows the nearest pairs."""

    checked: int = Field(description="Synthetic images that were looked at.")
    pixels: Nearness = Field(description="By root mean square difference of pixels in [0, 1].")
    features: Nearness | None = Field(default=None, description="By cosine distance of the first teacher's features.")
    starts: Fraction | None = Field(
        default=None,
        description="Share of synthetic images whose nearest training image, by pixels, is one that the set's images "
        "started as. null: they did not start as training images, or it was not looked up.",
    )


# How many images each class has, in the order of the classes; None where all have `ipc`.
Unequal = Annotated[list[int] | None, Field(max_length=limits.CLASSES)]


class Part(Strict):
    """One of the sets that a set was merged of: what its own manifest said."""

    name: str = Field(description="Name of the set.")
    hub: str | None = Field(default=None, description="`owner/name@commit`, where it came from the Hub.")
    payload: str = Field(description="Digest of its files' hashes.")
    ipc: Count = Field(description="Images of every class; where they differ, of the largest.")
    unequal: Unequal = Field(default=None, description="Images of every class, where they differ.")
    groups: Groups = Field(default=1, description="Parts that were made apart.")
    seed: int | None = Field(default=None, description="Seed of its recipe.")
    init: str | None = Field(default=None, description="What its images started as.")
    method: dict[str, Any] = Field(description="Method and settings.")
    packaging: Packaging | None = Field(default=None, description="What packaging cost.")
    memorisation: Memorisation | None = Field(default=None, description="Check for copies.")
    made: Making = Field(description="Where and with what it was made.")


class ByteCounts(Strict):
    """Storage by purpose, in bytes."""

    images: int = Field(description="Images, `pixels` and classes.")
    labels: int = Field(description="Soft labels.")
    preprocess: int = Field(description="Whitening.")
    teachers: int = Field(description="Teachers.")
