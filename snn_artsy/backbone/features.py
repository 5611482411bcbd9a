"""Features h_0 of images, computed pass by pass and kept on disk."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

from snn_artsy.backbone.vit import FrozenBackbone
from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import BackboneConfig
from snn_artsy.data.sources import ImageSplit
from snn_artsy.files import Lock, at_home, file_sha256, sha256, whole
from snn_artsy.threads import cores

CACHE_FORMAT = 2
"""Raise it when a change here changes features that are already on disk."""

CPU_PASS = 8
"""Images per forward pass on a CPU. Fewer read the weights too often, more leave the processor's
caches: on two cores DeiT-Tiny takes a third less time than with 64."""

_LIBRARIES = ("torch", "torchvision", "timm", "pillow")
"""Libraries whose version may change a feature's last bits, or more."""


def extract_features(
    backbone: FrozenBackbone,
    split: ImageSplit,
    index: NDArray[np.int64],
    config: BackboneConfig | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    first: int | None = None,
    tokens_to: Callable[[slice, Tensor], None] | None = None,
) -> NDArray[np.float32]:
    """h_0 of the samples ``index`` of ``split``, row by row: float32 [len(index), D].

    With ``config.cache`` the features are kept below ``cache_directory(config)`` as .npy with a
    .json beside it, and read back by memory map when everything they depend on is the same:
    weights, model name, transform, images, which samples, precision, engine, processor (a CPU's
    instructions, a GPU's model; ``batch_size`` on a GPU), and the versions of torch, torchvision,
    timm and Pillow. What can change the last bits is in this list; ``threads`` (default: all cores)
    and on a CPU ``batch_size`` change none. A damaged file is recomputed, and so is one that holds
    NaN. ``on_progress(done, total)`` counts images; from the cache it is called once.

    Args:
        first: The first block with adapters: h_0 is then that of `FrozenBackbone.split`.
        tokens_to: Takes rows of the sorted samples and their tokens (`FrozenBackbone.split`); with
            it everything is computed.

    Raises:
        NotFinite: A feature is NaN or infinite; nothing is kept then.
    """
    config = config or BackboneConfig()
    index = np.asarray(index, dtype=np.int64)
    wanted, rows = np.unique(index, return_inverse=True)
    features = None
    if config.cache:
        key = cache_key(backbone, split, wanted, config, first)
        path = cache_path(key, config)
        if tokens_to is None:
            features = read_cache(path, (len(wanted), backbone.dim), np.float32)
        if features is not None and on_progress is not None:
            on_progress(len(wanted), len(wanted))
    if features is None:
        features = computed = np.empty((len(wanted), backbone.dim), dtype=np.float32)

        def collect(rows: slice, outputs: Sequence[Tensor]) -> None:
            computed[rows] = outputs[0].cpu().numpy()
            if tokens_to is not None:
                tokens_to(rows, outputs[1])
            if on_progress is not None:
                on_progress(rows.stop, len(wanted))

        def compute(images: Tensor) -> Sequence[Tensor]:
            if first is None:
                return (backbone(images),)
            h0, tokens = backbone.split(images, first)
            return (h0,) if tokens_to is None else (h0, tokens)

        backbone.export(images_per_pass(backbone, config), first)
        in_passes(backbone, split, wanted, config, threads or cores(), compute, collect)
        _require_finite(features, wanted, backbone, split)
        if config.cache:
            _write_cache(path, features, key)
    # Asked for in order, as a task stream does, the memory map itself is handed out.
    return features if np.array_equal(wanted, index) else features[rows]


def _require_finite(
    features: NDArray[np.float32],
    index: NDArray[np.int64],
    backbone: FrozenBackbone,
    split: ImageSplit,
) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise NotFinite(
            f"backbone: {backbone.name} gives features that are NaN or infinite for {len(bad)} of "
            f"{len(features)} images, first for {split.name(int(index[bad[0]]))}; "
            + (
                "use backbone.precision float32"
                if backbone.precision != "float32"
                else "look at these images, or use other weights"
            )
        )


def cache_directory(config: BackboneConfig) -> Path:
    """The folder of cached features, made if need be; :class:`ConfigError` if it cannot be used."""
    if config.cache_dir is not None:
        folder = at_home(config.cache_dir)
    elif os.environ.get("SNN_ARTSY_CACHE"):
        folder = at_home(os.environ["SNN_ARTSY_CACHE"])
    else:
        folder = user_cache_path("snn-artsy", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Found out now, not after an hour of extraction.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise ConfigError(
            "backbone.cache_dir",
            f"cannot write to {str(folder)!r} ({e}); give another folder, "
            "or set backbone.cache to false",
        ) from e
    return folder


def in_passes(
    backbone: FrozenBackbone,
    split: ImageSplit,
    index: NDArray[np.int64],
    config: BackboneConfig,
    threads: int,
    compute: Callable[[Tensor], Sequence[Tensor]],
    collect: Callable[[slice, Sequence[Tensor]], None],
    prepare: Callable[[Any, int], Tensor] | None = None,
) -> None:
    """Compute something of each of these images, and hand it over in order, pass by pass.

    Passes are of the same number of images, the last one filled up. On a CPU ``threads`` passes run
    beside each other, each in one thread: how a product of matrices is divided among threads, or
    what is in it, changes its last bits. On a GPU one pass is computed while the next one's images
    are loaded and the last one's results come back.

    Args:
        compute: Transformed images [size, 3, H, W] on the backbone's device -> results, each with a
            row for every image.
        collect: Takes the rows of ``index`` that a pass had, and its results.
        prepare: Takes an image and its number, and gives what goes in; default: the backbone's own
            transform of the image.
    """
    on_gpu = backbone.device.type == "cuda"
    size = images_per_pass(backbone, config)
    at_a_time = 1 if on_gpu else threads

    def load(i: int) -> Tensor:
        image = split.load(i)
        return backbone.transform(image) if prepare is None else prepare(image, i)

    def one_pass(loading: list[Future[Tensor]]) -> list[Tensor]:
        images = [image.result() for image in loading]
        batch = torch.stack(images + [torch.zeros_like(images[0])] * (size - len(images)))
        if on_gpu:
            batch = batch.pin_memory()
        outputs = compute(batch.to(backbone.device, non_blocking=True))
        return [each[: len(images)] for each in outputs]

    # Threads, not processes: Pillow and torch compute without the interpreter lock, and nothing
    # is forked beside torch's own threads.
    before = torch.get_num_threads()
    loaders = ThreadPoolExecutor(config.workers)
    passes = ThreadPoolExecutor(at_a_time, initializer=torch.set_num_threads, initargs=(1,))
    running: deque[tuple[slice, Future[list[Tensor]]]] = deque()

    def next_one() -> None:
        rows, outputs = running.popleft()
        collect(rows, outputs.result())

    try:
        for start in range(0, len(index), size):
            rows = slice(start, min(start + size, len(index)))
            loading = [loaders.submit(load, int(i)) for i in index[rows]]
            running.append((rows, passes.submit(one_pass, loading)))
            if len(running) > at_a_time + 1:
                next_one()
        while running:
            next_one()
    finally:
        # After an error or a signal what has not begun is dropped.
        loaders.shutdown(cancel_futures=True)
        passes.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # some libraries have one number for all threads


def images_per_pass(backbone: FrozenBackbone, config: BackboneConfig) -> int:
    """Images that go through the backbone at a time, on its device."""
    return config.batch_size if backbone.device.type == "cuda" else CPU_PASS


def cache_key(
    backbone: FrozenBackbone,
    split: ImageSplit,
    index: NDArray[np.int64],
    config: BackboneConfig,
    first: int | None = None,
) -> dict[str, Any]:
    """Everything the features depend on, as plain JSON."""
    on_gpu = backbone.device.type == "cuda"
    rounded = {} if first is None else {"tokens": {"block": first, "type": "float16"}}
    # torch's features have no such entry, as before there was a choice
    engine = {} if backbone.engine == "torch" else {"engine": version(backbone.engine)}
    every = {
        "format": CACHE_FORMAT,
        "model": backbone.name,
        "weights_sha256": backbone.weights_sha256(),
        "transform": str(backbone.transform),
        "precision": backbone.precision,
        "device": backbone.device.type,
        # Instructions of the CPU, or the GPU's model: caches are shared by unlike machines.
        "processor": (
            torch.cuda.get_device_name(backbone.device)
            if on_gpu
            else torch.backends.cpu.get_cpu_capability()
        ),
        "images_per_pass": images_per_pass(backbone, config),
        "images": split.fingerprint(),
        "n_images": len(index),
        "index_sha256": sha256([index.tobytes()]),
        "versions": {library: version(library) for library in _LIBRARIES},
    }
    return rounded | engine | every


def cache_path(key: dict[str, Any], config: BackboneConfig) -> Path:
    """Where what has this key is kept."""
    name = sha256([json.dumps(key, sort_keys=True).encode()])[:32]
    return cache_directory(config) / f"{name}.npy"


def read_cache(path: Path, shape: tuple[int, ...], kind: Any) -> NDArray[Any] | None:
    """The cached numbers, or None if there are none or the file is not what was written."""
    try:
        return read_kept(path, shape, kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        warnings.warn(
            f"cached features {path} are damaged ({e}): computing them again", stacklevel=3
        )
        return None


def read_kept(path: Path, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """The numbers that were written by `kept_under`.

    Raises:
        FileNotFoundError: There are none.
        OSError, ValueError: They can't be read, or are not what was written.
    """
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    said = about.get("features_sha256") if isinstance(about, dict) else None
    if said != file_sha256(path):
        raise ValueError("checksum differs")
    # Copy on write: torch can take it without a warning, and the file stays as it is.
    features: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    if features.shape != shape or features.dtype != kind:
        raise ValueError(f"{features.dtype} {features.shape}")
    if not all(np.isfinite(row).all() for row in features):
        raise ValueError("values that are NaN or infinite")
    return features


@contextmanager
def kept_under(path: Path, key: dict[str, Any]) -> Iterator[IO[bytes]]:
    """The file to write numbers to; at its end it gets its name, and then a .json with its
    checksum: half a pair never passes the check.

    Raises:
        TimeoutError: Another process is writing the same.
        OSError: It can't be written.
    """
    with Lock(path.with_suffix(".lock")):
        with whole(path) as part, part.open("xb") as file:
            yield file
        about = {"key": key, "features_sha256": file_sha256(path)}
        with whole(path.with_suffix(".json")) as part:
            part.write_text(json.dumps(about, indent=1), encoding="utf-8")


def _write_cache(path: Path, features: NDArray[np.float32], key: dict[str, Any]) -> None:
    try:
        with kept_under(path, key) as file:
            np.save(file, features, allow_pickle=False)
    except TimeoutError:
        pass  # another process is writing the same features
    except OSError as e:
        # The features themselves are there; a full disk must not cost the run.
        warnings.warn(f"features could not be cached in {path.parent}: {e}", stacklevel=3)
