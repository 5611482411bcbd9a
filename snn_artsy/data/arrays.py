"""Data sets of arrays that a user has at hand: images, or features that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from snn_artsy.checks import ConfigError, whole_number
from snn_artsy.data.sources import ArraySplit, ImageSource
from snn_artsy.files import sha256

TEST_SHARE = 0.25
"""Of each class's samples, where no test samples are given."""


class FeatureSplit:
    """Features in place of images: float32 [n, D], labels int64 [n]."""

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, i: int) -> Image.Image:
        raise ConfigError("data", "these are features, which have no images")

    def name(self, i: int) -> str:
        return f"sample {i}"

    def check(self, index: NDArray[np.int64]) -> None:
        """Nothing can go wrong with what is in memory."""

    def fingerprint(self) -> str:
        """SHA-256 of shape and numbers."""
        features = np.ascontiguousarray(self.features)
        return sha256([repr(features.shape).encode(), features.data])


def from_arrays(
    samples: ArrayLike,
    labels: ArrayLike,
    test_samples: ArrayLike | None = None,
    test_labels: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> ImageSource:
    """A data set of arrays, for `snn_artsy.stream`.

    Args:
        samples: Images, uint8 [n, H, W] (grey) or [n, H, W, 3], or features, floats [n, D].
        labels: The class of each, whole numbers or texts, [n].
        test_samples, test_labels: Of the same kind; default: a quarter of each class.
        class_names: Of the classes, in the order of their sorted labels; default: the labels.
        seed: Of what is drawn for testing.

    Raises:
        ConfigError: Arrays of other kinds or sizes, numbers that are not finite, or a class that
            is not in both parts.
    """
    x, y = _pair("samples", samples, labels)
    known, numbers = np.unique(y, return_inverse=True)
    if class_names is not None and not isinstance(class_names, Sequence | np.ndarray):
        raise ConfigError("class_names", "are no list of names; give one for each class")
    if class_names is not None and len(class_names) != len(known):
        raise ConfigError(
            "class_names", f"{len(class_names)} names for {len(known)} classes; give one for each"
        )
    names = tuple(str(name) for name in (known if class_names is None else class_names))
    if test_samples is None:
        if test_labels is not None:
            raise ConfigError("test_labels", "given without test_samples; give both, or neither")
        whole_number("seed", seed, 0)
        return _divided(x, numbers.astype(np.int64), names, seed)
    test_x, test_y = _pair("test_samples", test_samples, [] if test_labels is None else test_labels)
    if (
        test_x.dtype != x.dtype
        or test_x.ndim != x.ndim
        or (x.ndim == 2 and test_x.shape[1:] != x.shape[1:])
    ):
        raise ConfigError(
            "test_samples",
            f"{test_x.dtype} {list(test_x.shape)} beside {x.dtype} {list(x.shape)}; give the same "
            "kind",
        )
    if strange := sorted(set(test_y.tolist()) ^ set(known.tolist()), key=str):
        raise ConfigError(
            "test_labels", f"class {strange[0]!r} is not in both parts; give samples of it to both"
        )
    tested = np.searchsorted(known, test_y).astype(np.int64)
    train, test = _split(x, numbers.astype(np.int64)), _split(test_x, tested)
    return ImageSource("arrays", names, train, test)


def _divided(
    x: NDArray[Any], labels: NDArray[np.int64], names: tuple[str, ...], seed: int
) -> ImageSource:
    rng = np.random.default_rng(seed)
    testing = np.zeros(len(labels), dtype=bool)
    for label, name in enumerate(names):
        own = rng.permutation(np.flatnonzero(labels == label))
        if len(own) < 2:
            raise ConfigError("labels", f"class {name!r} has one sample; it needs 2 to be divided")
        testing[own[: max(1, round(TEST_SHARE * len(own)))]] = True
    train, test = (_split(x[rows], labels[rows]) for rows in (~testing, testing))
    return ImageSource("arrays", names, train, test)


def _pair(key: str, samples: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        x, y = np.asarray(samples), np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise ConfigError(key, f"no array can be made of these ({error}); give arrays") from error
    features = x.ndim == 2 and x.dtype.kind == "f"
    images = x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3))
    if not (features or images) or 0 in x.shape[1:]:
        raise ConfigError(
            key,
            f"{x.dtype} {list(x.shape)} are neither images, uint8 [n, H, W] or [n, H, W, 3], nor "
            "features, floats [n, D]",
        )
    if y.shape != (len(x),) or y.dtype.kind not in "iuUb" or not len(x):
        raise ConfigError(
            key.replace("samples", "labels"),
            f"{y.dtype} {list(y.shape)} for {len(x)} samples; give a whole number or a text each",
        )
    if features:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise ConfigError(
                key, "numbers that are NaN or infinite in float32; leave these samples out"
            )
    return x, y


def _split(x: NDArray[Any], labels: NDArray[np.int64]) -> ArraySplit | FeatureSplit:
    return FeatureSplit(x, labels) if x.ndim == 2 else ArraySplit(x, labels)
