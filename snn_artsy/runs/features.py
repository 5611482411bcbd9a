"""What every learner of a run is given: images -> task stream -> frozen features."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import TaskID

from snn_artsy.backbone import (
    Augmentation,
    FrozenBackbone,
    Trunk,
    cache_directory,
    extract_features,
    require_engine,
    settle_precision,
)
from snn_artsy.checks import ConfigError
from snn_artsy.chunks import rows_of
from snn_artsy.config import RunConfig
from snn_artsy.config.where_used import with_adapters
from snn_artsy.data import build_stream, load_source
from snn_artsy.data.joined import by_part, parts_of
from snn_artsy.data.sources import ImageSource, ImageSplit
from snn_artsy.data.stream import TaskStream
from snn_artsy.files import sha256
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import LabelledBatch, Split, Task
from snn_artsy.learners.builders import check_stream
from snn_artsy.learners.shelf import Shelf
from snn_artsy.learners.tasks import feature_task_stream
from snn_artsy.observer import SynapseObserver
from snn_artsy.printing import say
from snn_artsy.provenance import available_cores
from snn_artsy.recording.estimate import TaskSize, in_words
from snn_artsy.registry import LEARNERS
from snn_artsy.runs.cost import check_cost, free_memory
from snn_artsy.runs.facts import Facts
from snn_artsy.runs.progress import progress_bar
from snn_artsy.threads import cores

Stream = Sequence[tuple[Task, LabelledBatch]]


@dataclass(frozen=True)
class FeatureStream:
    """Everything that the learners share: the tasks with their frozen features, and the backbone
    if learners put adapters into it; ``images``: fingerprint of each split (`Facts.images`);
    ``shelf``: what adapters in the blocks have learnt and answered, kept from learner to learner.
    """

    tasks: Stream
    stream: TaskStream
    dim: int
    backbone_sha256: str
    images: dict[str, str]
    seconds: float
    backbone: FrozenBackbone | None = None
    precision: str = "float32"
    shelf: Shelf = field(default_factory=Shelf)

    def setting(
        self, config: RunConfig, device: str, observer: SynapseObserver | None = None
    ) -> Setting:
        return Setting(config, self.dim, device, observer, self.backbone, shelf=self.shelf)

    def facts(self, config: RunConfig, device: str) -> Facts:
        """What the numbers of a run on these features depend on."""
        return Facts.gather(
            config,
            self.images,
            self.backbone_sha256,
            device,
            torch.get_num_threads(),
            self.precision,
        )


def choose_device(wanted: str) -> str:
    """Name of the device to compute on: ``auto`` takes a GPU when there is one.

    Raises:
        ConfigError: ``cuda`` is asked for and absent.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "device", "'cuda' cannot be used, torch finds no GPU here; use auto or cpu"
        )
    return "cuda" if available and wanted != "cpu" else "cpu"


def set_by_environment(config: RunConfig) -> list[str]:
    """Remarks on what environment variables decide where the configuration leaves it open."""
    notes = []
    if config.backbone.cache and config.backbone.cache_dir is None:
        for name in ("SNN_ARTSY_CACHE", "XDG_CACHE_HOME"):
            if folder := os.environ.get(name):
                notes.append(f"{name} is set: features are kept below {folder}")
                break
    if config.threads is None and cores() < available_cores():
        most = f"{cores()} thread{'s' * (cores() > 1)}"
        notes.append(f"OMP_NUM_THREADS is set: features are extracted by at most {most}")
    return notes


def prepare(
    config: RunConfig, device: str, console: Console, source: ImageSource | None = None
) -> FeatureStream:
    """Extract the frozen features of a run's images and arrange them as its tasks.

    Args:
        source: The images; default: those that ``config.data`` names.
    """
    started = time.perf_counter()
    require_engine(config.backbone.engine, device)
    for line in set_by_environment(config):
        say(console, line)
    source = source or load_source(config.data)
    for note in source.notes:
        say(console, note)
    stream = build_stream(config.data, source, config.seed)
    every = _every(config, source)
    source.train.check(every)
    source.test.check(stream.test_index)
    backbone = FrozenBackbone.build(config.backbone, device)
    if config.backbone.precision == "auto":
        say(console, settle_precision(backbone, source.train, every))
    sizes = [TaskSize(len(t.classes), len(t.train), len(t.test)) for t in stream.tasks]
    in_blocks = config.ann.placement == "blocks"
    first = backbone.first_adapted(config.ann.blocks) if in_blocks else None
    of_trunk = 0 if first is None else backbone.trunk_products(first)
    check_cost(config, backbone.dim, sizes, free_memory(), of_trunk)
    shared = backbone if in_blocks else None
    for name in config.learners:  # which refuse bad settings here, before it takes time
        if LEARNERS.origin(name):
            check_stream(name, LEARNERS[name], config)
        else:
            build(name, Setting(config, backbone.dim, device, backbone=shared))
    before = backbone.weights_sha256()
    used = {"train": (source.train, every), "test": (source.test, stream.test_index)}
    trunks = _trunks(config, backbone, used, console)
    # of each split's parts: sample numbers and their features, where the cache has them
    features: dict[str, dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]]] = {}
    with progress_bar(console) as progress:
        for name, (split, index) in used.items():
            bar = progress.add_task(f"features ({name})", total=len(index))
            features[name] = {}
            # part by part, so that the cache is shared with a part that is used alone
            for number, rows, own in by_part(split, index):

                def tell(done: int, total: int, bar: TaskID = bar, begun: int = rows[0]) -> None:
                    progress.update(bar, completed=begun + done)

                features[name][number] = (
                    own,
                    trunks[name][number].features(tell)
                    if trunks
                    else extract_features(
                        backbone,
                        parts_of(split)[number],
                        own,
                        config.backbone,
                        tell,
                        config.threads,
                        first,
                    ),
                )
            progress.update(bar, completed=len(index))
    if backbone.weights_sha256() != before:
        raise RuntimeError("the frozen backbone changed while features were extracted")

    def load_features(split: Split, index: NDArray[np.int64]) -> torch.Tensor:
        name = "test" if split == "test" else "train"

        def of_part(number: int, own: NDArray[np.int64]) -> torch.Tensor:
            numbers, kept = features[name][number]
            return torch.from_numpy(rows_of(kept, np.searchsorted(numbers, own)))

        return _of_parts(used[name][0], index, of_part)

    def load_images(split: Split, index: NDArray[np.int64]) -> torch.Tensor:
        return backbone.load_images(source.test if split == "test" else source.train, index)

    def load_tokens(split: Split, index: NDArray[np.int64]) -> torch.Tensor:
        name = "test" if split == "test" else "train"
        return _of_parts(used[name][0], index, lambda part, own: trunks[name][part].tokens(own))

    augmented = bool(trunks) and config.ann.augmentation != "none"
    if augmented:
        augmentation = Augmentation(backbone, config.ann.augmentation == "crop_flip")
        say(console, _told_of_augmentation(config, sum(size.n_train for size in sizes)))

    def load_augmented(split: Split, index: NDArray[np.int64], draw: int) -> torch.Tensor:
        def tokens(part: int, own: NDArray[np.int64]) -> torch.Tensor:
            return trunks["train"][part].augmented(own, augmentation, draw)

        return _of_parts(source.train, index, tokens)

    tasks = feature_task_stream(
        stream,
        load_features,
        device,
        load_images if in_blocks else None,
        load_tokens if trunks else None,
        load_augmented if augmented else None,
    )
    seconds = time.perf_counter() - started
    images = _fingerprints(source)
    return FeatureStream(
        tasks, stream, backbone.dim, before, images, seconds, shared, backbone.precision
    )


def _trunks(
    config: RunConfig,
    backbone: FrozenBackbone,
    splits: dict[str, tuple[ImageSplit, NDArray[np.int64]]],
    console: Console,
) -> dict[str, dict[int, Trunk]]:
    """Trunks of each split's parts, for sub-networks in the blocks; none where no learner has
    any."""
    added = any(LEARNERS.origin(name) for name in config.learners)
    if config.ann.placement != "blocks" or not (with_adapters(config) or added):
        return {}
    first = backbone.first_adapted(config.ann.blocks)
    room = int(1e9 * config.backbone.cache_gb)
    trunks: dict[str, dict[int, Trunk]] = {name: {} for name in splits}
    for name, (split, index) in splits.items():
        for number, _, own in by_part(split, index):
            part = parts_of(split)[number]
            trunk = Trunk(backbone, part, own, first, config.backbone, room, config.threads)
            room = max(room - trunk.bytes, 0)
            trunks[name][number] = trunk
    every = [trunk for parts in trunks.values() for trunk in parts.values()]
    needed, most = sum(t.bytes for t in every), 1e9 * config.backbone.cache_gb
    where = f'"{cache_directory(config.backbone)}"' if config.backbone.cache else "a temporary file"
    if needed <= most:
        storage = f"kept in {where}"
    else:
        kept = f"of which backbone.cache_gb keeps {in_words(most)}"
        storage = f"{kept}; the others are computed again"
    n = sum(len(t.index) for t in every)
    say(
        console,
        f"tokens at block {first + 1} of {n} images: {in_words(needed)}, {storage}",
    )
    return trunks


def _told_of_augmentation(config: RunConfig, n_train: int) -> str:
    epochs = config.ann.epochs
    return (
        f"ann.augmentation {config.ann.augmentation}: nothing kept serves training; a learner with "
        f"an adapter for each task computes the trunk of {epochs * n_train:,} images more "
        f"({epochs} epochs of {n_train:,})"
    )


def _of_parts(
    split: ImageSplit,
    index: NDArray[np.int64],
    of_part: Callable[[int, NDArray[np.int64]], torch.Tensor],
) -> torch.Tensor:
    """What a split's images have, whatever part they are of, [n, ...]: ``of_part`` gives that of
    images of one part by their numbers there."""
    pieces = [(rows, of_part(number, own)) for number, rows, own in by_part(split, index)]
    if len(pieces) == 1:
        return pieces[0][1]
    whole = torch.empty(len(index), *pieces[0][1].shape[1:], dtype=pieces[0][1].dtype)
    for rows, piece in pieces:
        whole[torch.from_numpy(rows)] = piece
    return whole


def images_of(
    config: RunConfig, source: ImageSource, backbone: FrozenBackbone, console: Console
) -> list[tuple[str, int, ImageSplit, NDArray[np.int64]]]:
    """Images whose features `prepare` extracts, in the files of the cache that they come in: split,
    number of the part, the part, and the images' numbers there, in order. The backbone's precision
    is settled on them."""
    every = _every(config, source)
    if config.backbone.precision == "auto":
        say(console, settle_precision(backbone, source.train, every))
    test = build_stream(config.data, source, config.seed).test_index
    splits = (("train", source.train, every), ("test", source.test, test))
    return [
        (name, number, parts_of(split)[number], np.unique(own))
        for name, split, index in splits
        for number, _, own in by_part(split, index)
    ]


def fingerprints(config: RunConfig, device: str) -> tuple[dict[str, str], str, str]:
    """Of a run's images (`Facts.images`) and of its backbone's weights, and the precision that it
    takes; no feature is kept."""
    require_engine(config.backbone.engine, device)
    source = load_source(config.data)
    backbone = FrozenBackbone.build(config.backbone, device)
    if config.backbone.precision == "auto":
        settle_precision(backbone, source.train, _every(config, source))
    return _fingerprints(source), backbone.weights_sha256(), backbone.precision


def _every(config: RunConfig, source: ImageSource) -> NDArray[np.int64]:
    """Training images that some seed could draw, so that seeds share their features in the cache,
    and those of the configuration's own."""
    stream = build_stream(config.data, source, config.seed)
    whole = build_stream(replace(config.data, train_share=1.0), source, config.seed)
    return np.union1d(whole.train_index, stream.train_index)


def _fingerprints(source: ImageSource) -> dict[str, str]:
    return {"train": _fingerprint(source.train), "test": _fingerprint(source.test)}


def _fingerprint(split: ImageSplit) -> str:
    """SHA-256 of a split's images and labels; some data sets keep labels in a list of their own."""
    return sha256([split.fingerprint().encode(), split.labels.tobytes()])
