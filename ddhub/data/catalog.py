"""Known datasets by name: ids, spellings, licences, gates and shapes."""

from dataclasses import dataclass

# Datasets by their ids.
IDS = {
    "uoft-cs/cifar10": "cifar10",
    "cifar10": "cifar10",
    "uoft-cs/cifar100": "cifar100",
    "cifar100": "cifar100",
    "zh-plus/tiny-imagenet": "tiny",
    "ILSVRC/imagenet-1k": "imagenet",
    "imagenet-1k": "imagenet",
    "ylecun/mnist": "mnist",
    "mnist": "mnist",
    "zalando-datasets/fashion_mnist": "fashion",
    "fashion_mnist": "fashion",
    "ufldl-stanford/svhn": "svhn",
    "svhn": "svhn",
}
# Spellings that other tools use in file names.
SPELLINGS = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "tiny": "Tiny",
    "imagenet": "ImageNet",
    "mnist": "MNIST",
    "fashion": "FashionMNIST",
    "svhn": "SVHN",
}


def dataset(name: str) -> str | None:
    """The catalogue's key of a dataset; None if it has none."""
    return IDS.get(name)


def spelling(name: str) -> str:
    """A dataset's name as other tools write it in file names. Odd characters are replaced."""
    known = IDS.get(name)
    return SPELLINGS[known] if known else "".join(c for c in name if c.isalnum() or c in "-_") or "dataset"


GATED = {
    "ILSVRC/imagenet-1k": "accept the terms at https://huggingface.co/datasets/ILSVRC/imagenet-1k, then: hf auth login"
}
# Licences of sources, in the Hub's words. A card takes it if the recipe names none.
LICENSES = {
    "uoft-cs/cifar10": "unknown",  # neither the Hub nor the authors' page names one
    "uoft-cs/cifar100": "unknown",
    "ILSVRC/imagenet-1k": "other",  # ImageNet's terms of access: research and education only
    "zh-plus/tiny-imagenet": "unknown",  # names none; its images are ImageNet's
    "digits": "cc-by-4.0",  # UCI's "Optical Recognition of Handwritten Digits", of which scikit-learn ships a part
}


@dataclass(frozen=True)
class Shape:
    """Number and size of real images, from which costs follow."""

    images: int  # images of the train split, with the held-out ones
    classes: int
    channels: int
    side: int

    @property
    def values(self) -> int:
        """The number of values in one image."""
        return self.channels * self.side**2


# Train splits by the keys of IDS. ImageNet's images differ in size.
SHAPES = {
    "digits": Shape(1438, 10, 1, 8),
    "mnist": Shape(60_000, 10, 1, 28),
    "fashion": Shape(60_000, 10, 1, 28),
    "svhn": Shape(73_257, 10, 3, 32),
    "cifar10": Shape(50_000, 10, 3, 32),
    "cifar100": Shape(50_000, 100, 3, 32),
    "tiny": Shape(100_000, 200, 3, 64),
    "imagenet": Shape(1_281_167, 1000, 3, 0),
}
