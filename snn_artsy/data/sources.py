"""Image data sets: one function each, chosen by name (`snn_artsy.registry.DATA`).

A source has a training and a test split; a split gives labels at once and images one at a time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig
from snn_artsy.data.folders import (
    FolderSplit,
    LeftOut,
    list_classes,
    list_images,
    shared_images,
    shown,
)
from snn_artsy.files import at_home, sha256
from snn_artsy.registry import DATA, TORCHVISION

DIGITS_TEST = np.unpackbits(np.frombuffer(bytes.fromhex(
    "000004883526104000164101934205001a00080102240028062c1e081108960a009019120420f8a0028110e040"
    "080a9a304415244942c0a00a2030804004d821408b8020004885c400104008a0900005486800301000020ec409"
    "001224840083b8013c21a69c0a0204000f48400804a4184902124061e5008024604e94376a8192160154800048"
    "42a0a4180a5000a40b8561e688108049124c80c02205068e000109f202c141398813c009190000148e01008410"
    "a0e10033282900c144c8c0680a0102930292030922a6402c26042108a8608198c8a01412861202128138a41500"
), np.uint8)).astype(bool)  # fmt: skip
"""Which of scikit-learn's digits are test images (75/25, the same in every run): those that its
``train_test_split`` chooses by class with seed 0. To import it takes longer than all the rest of a
small run."""

UNSPLIT_SEED = 0
"""Seed of the fixed 80/20 split of data sets that have none of their own."""


class ImageSplit(Protocol):
    """Labelled images, numbered from 0; the number identifies a sample everywhere else."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers of the source, int64 [n]."""
        ...

    def __len__(self) -> int: ...

    def load(self, i: int) -> Image.Image:
        """Image ``i`` as RGB, in its stored size."""
        ...

    def name(self, i: int) -> str:
        """What image ``i`` is called in messages."""
        ...

    def check(self, index: NDArray[np.int64]) -> None:
        """Find out at once, and not after hours, whether these images can be read.

        Raises:
            ConfigError: Names those that cannot.
        """
        ...

    def fingerprint(self) -> str:
        """Hex digest that changes with the images, never with dates or the place on disk."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """A data set: its class names in the order of the class numbers, and its two splits.

    ``notes``: lines about what was found beside the images, for whoever runs it. ``parts``: the
    data sets that it is made of, one after the other; none, if it is one itself.
    """

    name: str
    class_names: tuple[str, ...]
    train: ImageSplit
    test: ImageSplit
    notes: tuple[str, ...] = ()
    parts: tuple[ImageSource, ...] = ()


class ArraySplit:
    """Images held in memory: uint8 [n, H, W] (grey) or [n, H, W, 3], labels int64 [n]."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
            raise ValueError(
                f"images {images.dtype} {images.shape} with {len(labels)} labels: expected uint8 "
                "[n, H, W] or [n, H, W, 3] and one label an image"
            )
        self.images = images
        self.labels: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i]).convert("RGB")

    def name(self, i: int) -> str:
        return f"image {i}"

    def check(self, index: NDArray[np.int64]) -> None:
        """Nothing can go wrong with what is in memory."""

    def fingerprint(self) -> str:
        """SHA-256 of shape, images and labels."""
        images = np.ascontiguousarray(self.images)
        return sha256([repr(images.shape).encode(), images.data, self.labels.tobytes()])


def load_source(config: DataConfig) -> ImageSource:
    """The data set that ``config`` names; :class:`ConfigError` if it is unknown or not there."""
    name = DATA.require("data.name", config.name)
    source: ImageSource = DATA[name](config)
    if DATA.origin(name):
        _check_added(name, source)
    return source


def _check_added(name: str, source: object) -> None:
    """Whether a function that was added to the registry gives images with classes."""
    if not isinstance(source, ImageSource):
        given = type(source).__name__
        raise ConfigError("data.name", f"{name!r} gives a {given}; give an ImageSource")
    n = len(source.class_names)
    for split in (source.train, source.test):
        labels = np.asarray(split.labels)
        if len(labels) and not (labels.min() >= 0 and labels.max() < n):
            raise ConfigError(
                "data.name",
                f"{name!r} has labels from {labels.min()} to {labels.max()} for {n} class names; "
                f"number the classes 0 to {n - 1}",
            )


def digits(config: DataConfig) -> ImageSource:
    """scikit-learn's 1,797 handwritten digits, 8 x 8, split 75/25 by class (`DIGITS_TEST`)."""
    numbers = _read_digits()
    images = np.rint(numbers[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = numbers[:, -1].astype(np.int64)
    test = DIGITS_TEST[: len(labels)]
    return ImageSource(
        "digits",
        tuple(str(digit) for digit in range(10)),
        ArraySplit(images[~test], labels[~test]),
        ArraySplit(images[test], labels[test]),
    )


def _read_digits() -> NDArray[np.float64]:
    """A row for each digit, 64 pixels of 0 to 16 and the label: from scikit-learn's file, where it
    is in its place, since to import scikit-learn takes longer than to learn the digits."""
    found = find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])


def imagefolder(config: DataConfig) -> ImageSource:
    """Any directory with train/ and test/ or val/, one folder a class, classes by name."""
    root = _existing_root(config, "give the directory that holds train/ and test/ or val/")
    _check_folder(root / "train", root, "train/")
    test_name = next((name for name in ("test", "val") if os.path.isdir(root / name)), "test")
    _check_folder(root / test_name, root, "test/ or val/")

    left_out = LeftOut()
    names = list_classes(root / "train", left_out)
    test_names = list_classes(root / test_name, left_out)
    if not names:
        raise ConfigError(
            "data.root", f"no class folders in {root / 'train'}; make one folder a class there"
        )
    for present, absent, missing in (
        ("train", test_name, sorted(set(names) - set(test_names))),
        (test_name, "train", sorted(set(test_names) - set(names))),
    ):
        if missing:
            raise ConfigError(
                "data.root",
                f"class folders of {root / present} that are not in {absent}/: "
                f"{len(missing)} ({_some(missing)}); every class needs a folder in both",
            )
    train = list_images(root / "train", names, left_out)
    test = list_images(root / test_name, names, left_out)
    return ImageSource(
        "imagefolder", tuple(names), train, test, (*left_out.notes(), *_shared(train, test))
    )


def tiny_imagenet(config: DataConfig) -> ImageSource:
    """Tiny-ImageNet as published: train/<wnid>/images/, val/images/ with val_annotations.txt.

    Its validation images are the test split, as is customary: the test labels are not public.
    """
    root = _existing_root(config, "give the directory tiny-imagenet-200")
    _check_folder(root / "train", root, "train/", "give the directory tiny-imagenet-200")
    names = list_classes(root / "train")
    number = {name: label for label, name in enumerate(names)}
    paths, labels = [], []
    for line, (image, wnid) in _columns(root / "val" / "val_annotations.txt", 2):
        if wnid not in number:
            raise ConfigError(
                "data.root",
                f"line {line} of {root / 'val' / 'val_annotations.txt'} names the class "
                f"{wnid!r}, which has no folder in train/; the copy is not whole",
            )
        paths.append(f"images/{_inside(image, root / 'val' / 'val_annotations.txt')}")
        labels.append(number[wnid])
    left_out = LeftOut()
    train = list_images(root / "train", names, left_out)
    test = FolderSplit(root / "val", paths, np.asarray(labels, dtype=np.int64))
    notes = (*left_out.notes(), *_shared(train, test))
    return ImageSource("tiny_imagenet", tuple(names), train, test, notes)


def cub200(config: DataConfig) -> ImageSource:
    """CUB-200-2011 as published, with its own split (``train_test_split.txt``); a copy that is cut
    into train/ and test/ (as the class-incremental toolboxes distribute it) is taken as it is."""
    root = _existing_root(config, "give the directory CUB_200_2011")
    if os.path.isdir(root / "train"):
        return replace(imagefolder(config), name="cub200")
    names = [name for _, (_, name) in _columns(root / "classes.txt", 2)]
    image = {
        i: _inside(path, root / "images.txt") for _, (i, path) in _columns(root / "images.txt", 2)
    }
    label = {}
    for line, (i, c) in _columns(root / "image_class_labels.txt", 2):
        if not (c.isascii() and c.isdigit() and 1 <= int(c) <= len(names)):
            raise ConfigError(
                "data.root",
                f"line {line} of {root / 'image_class_labels.txt'} names class {c!r}, "
                f"but classes.txt has 1 to {len(names)}; the copy is not whole",
            )
        label[i] = int(c) - 1
    training = {i: flag == "1" for _, (i, flag) in _columns(root / "train_test_split.txt", 2)}
    if not image.keys() == label.keys() == training.keys():
        raise ConfigError(
            "data.root",
            f"images.txt, image_class_labels.txt and train_test_split.txt in "
            f"{str(root)!r} do not list the same images; the copy is not whole",
        )

    def split(train: bool) -> FolderSplit:
        chosen = [i for i in image if training[i] == train]
        numbers = np.asarray([label[i] for i in chosen], dtype=np.int64)
        return FolderSplit(root / "images", [image[i] for i in chosen], numbers)

    train, test = split(True), split(False)
    return ImageSource("cub200", tuple(names), train, test, tuple(_shared(train, test)))


def unsplit(config: DataConfig) -> ImageSource:
    """ImageNet-R or ImageNet-A: one folder a class and no split of their own.

    A copy that is cut into train/ and test/ (as the class-incremental toolboxes distribute them) is
    taken as it is; else a fifth of each class's images is for testing, drawn with a fixed seed (our
    definition).
    """
    root = _existing_root(config, "give the directory with one folder a class, or train/ and test/")
    if os.path.isdir(root / "train"):
        return replace(imagefolder(config), name=config.name)
    left_out = LeftOut()
    names = list_classes(root, left_out)
    if not names:
        raise ConfigError("data.root", f"no class folders in {str(root)!r}; give their directory")
    everything = list_images(root, names, left_out)
    drawn = np.random.default_rng(UNSPLIT_SEED).permutation(len(everything))
    testing = np.zeros(len(everything), dtype=bool)
    for number, name in enumerate(names):
        own = drawn[everything.labels[drawn] == number]
        if len(own) < 2:
            raise ConfigError("data.root", f"class {name!r} has one image; it needs 2 to be split")
        testing[own[: max(1, len(own) // 5)]] = True

    def split(chosen: NDArray[np.bool_]) -> FolderSplit:
        paths = [path for path, take in zip(everything.paths, chosen, strict=True) if take]
        return FolderSplit(root, paths, everything.labels[chosen])

    train, test = split(~testing), split(testing)
    notes = (*left_out.notes(), *_shared(train, test))
    return ImageSource(config.name, tuple(names), train, test, notes)


def _columns(file: Path, n: int) -> list[tuple[int, list[str]]]:
    """Line numbers and first ``n`` words of a published list."""
    if not os.path.isfile(file):
        raise ConfigError("data.root", f"no file {str(file)!r}; give the data set's own directory")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError("data.root", f"cannot read {str(file)!r} ({e}); copy it again") from e
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words and len(words) < n:
            raise ConfigError("data.root", f"line {number} of {file} has fewer than {n} words")
        if words:
            rows.append((number, words[:n]))
    return rows


def _inside(path: str, listed_in: Path) -> str:
    """A path of a published list, which must stay below the data set's folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ConfigError(
            "data.root",
            f"{listed_in} names {shown(path)}, outside of the data set; the copy is not "
            "the published one",
        )
    return path


def _shared(train: FolderSplit, test: FolderSplit) -> list[str]:
    """A line about test images that are training images, too."""
    n = shared_images(train, test)
    if not n:
        return []
    return [f"data: {n} of {len(test)} test images are also training images, byte by byte"]


def torchvision(config: DataConfig) -> ImageSource:
    """A data set of torchvision, most of which hold their images as arrays, by ``train=``."""
    if config.name == "svhn":
        return _svhn(config)
    train, test = (_open_torchvision(config, train=train) for train in (True, False))
    return ImageSource(
        config.name,
        tuple(train.classes),
        ArraySplit(np.asarray(train.data), np.asarray(train.targets, dtype=np.int64)),
        ArraySplit(np.asarray(test.data), np.asarray(test.targets, dtype=np.int64)),
    )


def _svhn(config: DataConfig) -> ImageSource:
    """Street View House Numbers: torchvision gives [n, 3, 32, 32] and ``split=``."""

    def split(name: str) -> ArraySplit:
        data = _open_torchvision(config, split=name)
        return ArraySplit(data.data.transpose(0, 2, 3, 1), data.labels.astype(np.int64))

    return ImageSource(
        "svhn", tuple(str(digit) for digit in range(10)), split("train"), split("test")
    )


def _existing_root(config: DataConfig, remedy: str) -> Path:
    if config.root is None:
        raise ConfigError("data.root", f"not given, but data.name is {config.name!r}; {remedy}")
    root = Path(os.path.expanduser(config.root))
    if not os.path.isdir(root):  # False, too, where the system refuses to look
        raise ConfigError("data.root", f"no folder {str(root)!r} here; {remedy}")
    return root


def _check_folder(
    folder: Path,
    root: Path,
    wanted: str,
    remedy: str = "give the directory that holds train/ and test/ or val/",
) -> None:
    if os.path.isdir(folder):
        return
    held = [f"{name}/" for name in list_classes(root)]
    raise ConfigError(
        "data.root",
        f"no {wanted} in {str(root)!r} (it holds: {_some(held) or 'no folders'}); {remedy}",
    )


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown + (", ..." if len(names) > limit else "")


def _open_torchvision(config: DataConfig, **split: Any) -> Any:
    from torchvision import datasets

    remedy = "give the directory of torchvision's files, with data.download: true to fetch them"
    if config.root is None:
        raise ConfigError("data.root", f"not given, but data.name is {config.name!r}; {remedy}")
    root = at_home(config.root)
    try:
        return getattr(datasets, TORCHVISION[config.name])(
            root=str(root), download=config.download, **split
        )
    except (OSError, RuntimeError) as e:
        # RuntimeError: not there, or a checksum is wrong; OSError (URLError): no network.
        problem = "could not be downloaded to" if config.download else "is not, or not whole, in"
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ConfigError(
            "data.root", f"{config.name} {problem} {str(root)!r} ({reason}); {remedy}"
        ) from e
