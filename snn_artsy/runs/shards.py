"""Features extracted in parts, by several workers of this machine or of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.backbone import FrozenBackbone, extract_features
from snn_artsy.backbone.features import (
    cache_key,
    cache_path,
    images_per_pass,
    kept_under,
    read_cache,
    read_kept,
)
from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.data import load_source
from snn_artsy.data.joined import parts_of
from snn_artsy.files import remove
from snn_artsy.runs.features import choose_device, images_of
from snn_artsy.runs.workers import Resources, carry_out

IMAGES = 2048
"""Of a shard, about: a worker loads images and weights anew for each."""


@dataclass(frozen=True)
class _Whole:
    """A file of the cache that is to be made, and the files of the cache that it is made of, each
    with its rows."""

    path: Path
    key: dict[str, Any]
    rows: int
    shards: dict[str, tuple[Path, int]]


def extract_in_shards(
    config: RunConfig, resources: Resources, console: Console, images: int = IMAGES
) -> None:
    """Put the features of a run's images into the cache, as far as they are not there.

    Workers extract shards of them, each into a file of the cache, which must be a folder that all
    of them reach. At the end there is one file for each data set, bit for bit what one process
    would have made, and no shard any more. A shard whose worker is lost is given to another one;
    after an interruption the shards that are there are used.

    Nothing is done without a cache, and with sub-networks in the blocks, which want tokens, too.

    Args:
        images: Of a shard, about.

    Raises:
        ConfigError: There is no cluster that can be used, or a shard is not in the cache.
        RuntimeError: A shard failed or is damaged, or a worker's processor is of another kind.
    """
    if not config.backbone.cache or config.ann.placement == "blocks":
        return
    device = choose_device(config.device)
    backbone = FrozenBackbone.build(config.backbone, device)
    source = load_source(config.data)
    used = images_of(config, source, backbone, console)
    # what `auto` has settled on here holds for everybody
    settled: Any = backbone.precision
    config = replace(config, backbone=replace(config.backbone, precision=settled))
    # passes are of the same images as in one process, since what is in them changes last bits
    size = images_per_pass(backbone, config.backbone)
    step = max(images // size, 1) * size
    wholes: list[_Whole] = []
    work: dict[str, dict[str, Any]] = {}
    for name, number, part, own in used:
        key = cache_key(backbone, part, own, config.backbone)
        path = cache_path(key, config.backbone)
        if read_cache(path, (len(own), backbone.dim), np.float32) is not None:
            continue
        shards = {}
        for start in range(0, len(own), step):
            index = own[start : start + step]
            piece = f"{name} {number}, images {start} to {start + len(index)}"
            kept = cache_key(backbone, part, index, config.backbone)
            shards[piece] = cache_path(kept, config.backbone), len(index)
            work[piece] = {"config": asdict(config), "split": name, "part": number}
            work[piece] |= {"index": index.tolist()}
        wholes.append(_Whole(path, key, len(own), shards))
    if not work:
        return
    outcomes = carry_out(extract_shard, work, [], resources, console, "shards of features")
    for piece, outcome in outcomes.items():
        if outcome.refused:
            raise ConfigError(*outcome.refused)
        if outcome.error is not None:
            raise RuntimeError(f"features of {piece}: {outcome.error}; the same command goes on")
    for each in wholes:
        _join(each, {piece: outcomes[piece].result for piece in each.shards}, backbone.dim)


def extract_shard(given: Mapping[str, Any]) -> str:
    """Extract the features of some images into the cache; returns the name of their file.

    Args:
        given: ``config``; ``split``, ``part`` and numbers (``index``) of the images.
    """
    config = build(RunConfig, given["config"])
    backbone = FrozenBackbone.build(config.backbone, choose_device(config.device))
    source = load_source(config.data)
    part = parts_of(source.train if given["split"] == "train" else source.test)[given["part"]]
    index: NDArray[np.int64] = np.array(given["index"], dtype=np.int64)
    extract_features(backbone, part, index, config.backbone, threads=config.threads)
    return cache_path(cache_key(backbone, part, index, config.backbone), config.backbone).name


def _join(whole: _Whole, made: Mapping[str, str], dim: int) -> None:
    for piece, (path, _) in whole.shards.items():
        if made[piece] != path.name:
            raise RuntimeError(
                f"features of {piece} were made under another name, {made[piece]}, which is what "
                "happens with another processor, GPU or version of a library; use workers that "
                "are as this machine"
            )
    if [path for path, _ in whole.shards.values()] == [whole.path]:
        (piece,) = whole.shards
        _shard(whole, piece, dim)
        return
    header = {"descr": "<f4", "fortran_order": False, "shape": (whole.rows, dim)}
    try:
        with kept_under(whole.path, whole.key) as file:
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            for piece in whole.shards:
                file.write(np.ascontiguousarray(_shard(whole, piece, dim), dtype="<f4").data)
    except TimeoutError:
        return  # another process is joining the same shards
    except ConfigError:
        # or has joined and removed them
        if read_cache(whole.path, (whole.rows, dim), np.float32) is None:
            raise
        return
    for path, _ in whole.shards.values():
        for file_of in (path, path.with_suffix(".json")):
            remove(file_of)


def _shard(whole: _Whole, piece: str, dim: int) -> NDArray[np.float32]:
    path, rows = whole.shards[piece]
    try:
        return read_kept(path, (rows, dim), np.float32)
    except FileNotFoundError as error:
        raise ConfigError(
            "backbone.cache_dir",
            f'the features of {piece} are not in "{path.parent}"; all workers have to share this '
            "folder, and its disk needs room for them: give such a folder",
        ) from error
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f'the features of {piece} in "{path}" are damaged ({error}); the same command computes '
            "them again"
        ) from error
