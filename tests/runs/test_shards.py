"""Features extracted in shards: the same bits as in one process, whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import command_line, marked, marked_environment
from rich.console import Console
from test_workers import LINUX, ray_head, until

from snn_artsy.backbone.features import kept_under
from snn_artsy.checks import ConfigError
from snn_artsy.config import BackboneConfig, DataConfig, RunConfig
from snn_artsy.files import Lock
from snn_artsy.runs import shards
from snn_artsy.runs.features import prepare
from snn_artsy.runs.shards import extract_in_shards
from snn_artsy.runs.workers import Resources, WorkOutcome

QUIET = Console(quiet=True)
N_TRAIN, N_TEST = 1800, 200


def of_noise(root: Path, n_train: int = N_TRAIN, n_test: int = N_TEST) -> Path:
    """Two classes of small pictures."""
    rng = np.random.default_rng(0)
    for split, n in (("train", n_train), ("test", n_test)):
        for c in range(2):
            folder = root / split / f"class_{c}"
            folder.mkdir(parents=True)
            for i in range(n // 2):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:04}.png", compress_level=0)
    return root


def configured(root: Path, cache: Path) -> RunConfig:
    data = DataConfig(name="imagefolder", root=str(root), n_tasks=2)
    # timm's smallest ViT, with random weights
    backbone = BackboneConfig(name="test_vit", pretrained=False, cache_dir=str(cache))
    return RunConfig(data=data, backbone=backbone, learners=["simplecil"], device="cpu")


def files(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(cache.iterdir())}


def test_shards_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function, work, own, resources, console, what):  # type: ignore[no-untyped-def]
        return {name: WorkOutcome(function(given)) for name, given in work.items()}

    monkeypatch.setattr(shards, "carry_out", here)
    root = of_noise(tmp_path / "images", 60, 26)
    one, several = (configured(root, tmp_path / name) for name in ("one", "several"))
    # 60 images are shards of 24, 24 and 12, 26 of 24 and 2: passes are of 8 images
    extract_in_shards(several, Resources(workers=2), QUIET, images=30)
    kept = files(tmp_path / "several")
    prepare(several, "cpu", QUIET)
    assert files(tmp_path / "several") == kept  # and nothing was computed again
    prepare(one, "cpu", QUIET)
    assert files(tmp_path / "one") == kept
    extract_in_shards(several, Resources(workers=2), QUIET, images=30)
    assert files(tmp_path / "several") == kept

    # features of a processor of another kind are no part of this cache
    def elsewhere(function, work, own, resources, console, what):  # type: ignore[no-untyped-def]
        return {name: WorkOutcome("other.npy") for name in work}

    monkeypatch.setattr(shards, "carry_out", elsewhere)
    third = replace(several, backbone=replace(several.backbone, cache_dir=str(tmp_path / "third")))
    with pytest.raises(RuntimeError, match=r"another processor.*as this machine"):
        extract_in_shards(third, Resources(workers=2), QUIET, images=30)


@pytest.fixture
def joined(tmp_path: Path) -> shards._Whole:
    """Two shards in a folder, of 2 and 3 images, that are to be one file."""
    rows = np.arange(20, dtype=np.float32).reshape(5, 4)
    parts = {}
    for piece, part in (("train 0, images 0 to 2", rows[:2]), ("images 2 to 5", rows[2:])):
        path = tmp_path / f"{len(part)}.npy"
        with kept_under(path, {}) as file:
            np.save(file, part)
        parts[piece] = path, len(part)
    return shards._Whole(tmp_path / "whole.npy", {"of": "both"}, 5, parts)


def join(whole: shards._Whole) -> None:
    shards._join(whole, {piece: path.name for piece, (path, _) in whole.shards.items()}, 4)


def test_a_shard_that_is_not_there_is_named(joined: shards._Whole, tmp_path: Path) -> None:
    single = replace(joined, path=tmp_path / "2.npy", shards=dict([*joined.shards.items()][:1]))
    join(single)
    (tmp_path / "2.json").unlink()
    (tmp_path / "2.npy").unlink()
    words = "^backbone.cache_dir: the features of train 0, images 0 to 2 are not in .*all workers"
    for whole in (single, joined):
        with pytest.raises(ConfigError, match=words):
            join(whole)
    assert sorted(files(tmp_path)) == ["3.json", "3.npy"]
    # or another process has joined them meanwhile
    with kept_under(joined.path, joined.key) as file:
        np.save(file, np.zeros((5, 4), dtype=np.float32))
    before = files(tmp_path)
    join(joined)
    assert files(tmp_path) == before


def test_a_damaged_shard_is_noticed(joined: shards._Whole, tmp_path: Path) -> None:
    path = tmp_path / "3.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(RuntimeError, match=r"images 2 to 5 in .*damaged .checksum.*same command"):
        join(joined)
    assert not joined.path.exists() and len(files(tmp_path)) == 4
    path.write_bytes(content)
    join(joined)
    np.testing.assert_array_equal(np.load(joined.path).ravel(), np.arange(20))
    assert sorted(files(tmp_path)) == ["whole.json", "whole.npy"]


def test_shards_that_another_process_joins_are_left_to_it(
    joined: shards._Whole, tmp_path: Path
) -> None:
    with Lock(joined.path.with_suffix(".lock")):
        join(joined)
    assert sorted(files(tmp_path)) == ["2.json", "2.npy", "3.json", "3.npy"]


@contextmanager
def a_worker_killed(environment: dict[str, str], cache: Path, name: str) -> Iterator[None]:
    """Kills one worker once a shard is there."""
    killed = []

    def kill() -> None:
        until(lambda: any(cache.glob("*.json")), 600)
        workers = (p for p in marked(environment) if name in command_line(p))
        os.kill(next(workers), signal.SIGKILL)
        killed.append(len(list(cache.glob("*.npy"))))

    thread = threading.Thread(target=kill, daemon=True)  # which keeps no failed test waiting
    thread.start()
    yield
    thread.join()
    assert killed and killed[0] < N_TRAIN // 256  # on the way


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("on_ray", [False, True])
def test_a_lost_worker_changes_nothing(
    on_ray: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}
    environment = marked_environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1", **secret)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = of_noise(tmp_path / "images")
    one, several = (configured(root, tmp_path / name) for name in ("one", "several"))
    (tmp_path / "several").mkdir()
    cache = tmp_path / "several"
    if on_ray:
        pytest.importorskip("ray")
        with ray_head(environment) as address, a_worker_killed(environment, cache, "ray::attempt"):
            extract_in_shards(several, Resources(address=address), QUIET, images=256)
    else:
        with a_worker_killed(environment, cache, "workers import main"):
            extract_in_shards(several, Resources(workers=2), QUIET, images=256)
    prepare(one, "cpu", QUIET)
    assert files(tmp_path / "one") == files(tmp_path / "several")
    assert len(files(tmp_path / "one")) == 4  # training and test images, each with its .json
