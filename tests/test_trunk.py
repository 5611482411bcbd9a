"""The trunk that sub-networks share: computed once an image, kept whole or not at all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from small_vit import small_vit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone, Trunk, extract_features
from snn_artsy.backbone import trunk as trunk_module
from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import ANNConfig, BackboneConfig, DataConfig, RunConfig
from snn_artsy.data import ArraySplit
from snn_artsy.files import Lock
from snn_artsy.runs.features import prepare
from snn_artsy.runs.loop import run_learner

INDEX = np.array([9, 1, 4, 5, 7, 0])
DATA_CONFIG = {"input_size": (3, 16, 16), "interpolation": "bicubic", "mean": (0.5,) * 3,
               "std": (0.5,) * 3, "crop_pct": 1.0}  # fmt: skip
ROW = 2 * 2 * 5 * 8  # bytes of an image's tokens: 5 before and 5 after an MLP, of 8 numbers


class Counting(ArraySplit):
    """A split that says which images were loaded."""

    def __init__(self, seed: int = 0) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
        super().__init__(pixels, np.zeros(10, dtype=np.int64))
        self.loaded: list[int] = []

    def load(self, i: int) -> Any:
        self.loaded.append(i)
        return super().load(i)


@pytest.fixture
def backbone() -> FrozenBackbone:
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=3, num_heads=2, num_classes=0
    )
    return FrozenBackbone(vit, DATA_CONFIG, "small")


@pytest.fixture
def split() -> Counting:
    return Counting()


Make = Callable[..., Trunk]


@pytest.fixture
def make(backbone: FrozenBackbone, split: Counting, tmp_path: Path) -> Make:
    def made(room: int = 10**6, first: int = 1, cache: bool = True) -> Trunk:
        config = BackboneConfig(cache_dir=str(tmp_path / "cache"), cache=cache)
        return Trunk(backbone, split, INDEX, first, config, room, threads=1)

    return made


def files(tmp_path: Path, suffix: str) -> list[Path]:
    return sorted((tmp_path / "cache").glob(f"*{suffix}"))


def expected(backbone: FrozenBackbone, split: ArraySplit, first: int = 1) -> tuple[Tensor, Tensor]:
    return backbone.split(backbone.load_images(split, INDEX), first)


def test_one_pass_gives_features_and_tokens_and_the_next_run_none(
    make: Make, backbone: FrozenBackbone, split: Counting
) -> None:
    h0, tokens = expected(backbone, split)
    split.loaded.clear()
    seen: list[tuple[int, int]] = []
    for times in (1, 0):
        trunk = make()
        features = torch.from_numpy(trunk.features(lambda *done: seen.append(done)))
        torch.testing.assert_close(features[[5, 1, 2, 3, 4, 0]], h0, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(trunk.tokens(INDEX), tokens, atol=1e-2, rtol=1e-3)
        assert torch.equal(trunk.tokens(INDEX[[3, 0, 3]]), trunk.tokens(INDEX)[[3, 0, 3]])
        assert sorted(split.loaded) == times * [0, 1, 4, 5, 7, 9]
        assert seen == [(6, 6)] and trunk.bytes == 6 * ROW
        split.loaded.clear()
        seen.clear()


@pytest.mark.parametrize(
    "room, cache, loaded",
    [(6 * ROW, True, 0), (6 * ROW, False, 0), (3 * ROW, True, 3), (0, True, 6), (0, False, 6)],
)
def test_numbers_do_not_depend_on_what_is_kept(
    room: int, cache: bool, loaded: int, make: Make, split: Counting
) -> None:
    whole = make()
    features, tokens = whole.features(), whole.tokens(INDEX)
    trunk = make(room, cache=cache)
    np.testing.assert_array_equal(trunk.features(), features)
    half = INDEX[:3]
    if not loaded:
        split.loaded.clear()
    for _ in range(2):  # the second time from what there was room for
        assert torch.equal(trunk.tokens(half), tokens[:3])
    split.loaded.clear()
    assert torch.equal(trunk.tokens(INDEX), tokens)
    assert len(split.loaded) == loaded
    assert torch.equal(trunk.tokens(INDEX[::-1]), tokens.flip(0))


def test_where_all_fits_but_is_not_kept_for_the_next_run_an_image_is_loaded_once(
    make: Make, split: Counting
) -> None:
    trunk = make(cache=False)
    trunk.features()
    trunk.tokens(INDEX)
    assert sorted(split.loaded) == sorted(INDEX)


def test_a_number_that_is_put_twice_keeps_its_slot() -> None:
    newest = trunk_module._Newest(BackboneConfig(cache=False), 3 * 4, (2,))  # of 4 bytes each
    tokens = {number: torch.full((2,), float(number), dtype=torch.float16) for number in range(5)}
    for number in (1, 1, 2, 3, 2):
        newest.put(number, tokens[number])
    assert all(torch.equal(newest.get(number), tokens[number]) for number in (1, 2, 3))
    newest.put(4, tokens[4])
    assert [number for number in range(5) if number in newest] == [2, 3, 4]
    assert all(torch.equal(newest.get(number), tokens[number]) for number in (2, 3, 4))
    newest.put(0, tokens[0])  # the oldest is what was not put in again
    assert [number for number in range(5) if number in newest] == [0, 2, 4]


def test_what_changes_the_tokens_changes_where_they_are_kept(
    make: Make, backbone: FrozenBackbone, tmp_path: Path
) -> None:
    def kept() -> int:
        return len([p for p in files(tmp_path, ".npy") if np.load(p).dtype == np.float16])

    make().features()
    assert kept() == 1
    make(first=0).features()
    assert kept() == 2
    backbone.precision = "bfloat16"
    make().features()
    assert kept() == 3
    backbone.transform.transforms[-1].mean += 0.1  # type: ignore[attr-defined]
    make().features()
    assert kept() == 4
    with torch.no_grad():
        backbone.vit.pos_embed[0] += 1.0  # type: ignore[index,operator]
    make().features()
    assert kept() == 5


def test_rounded_features_are_not_taken_for_exact_ones(
    make: Make, backbone: FrozenBackbone, split: Counting
) -> None:
    trunk = make()
    rounded = trunk.features()
    exact = extract_features(backbone, split, np.sort(INDEX), trunk.config)
    assert not np.array_equal(rounded, exact)
    again = extract_features(backbone, split, np.sort(INDEX), trunk.config, first=1)
    np.testing.assert_array_equal(rounded, again)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "unsigned"])
def test_damaged_tokens_are_computed_again(
    damage: str, make: Make, split: Counting, tmp_path: Path
) -> None:
    first = make()
    first.features()
    tokens = first.tokens(INDEX)
    (path,) = (p for p in files(tmp_path, ".npy") if np.load(p).dtype == np.float16)
    content = path.read_bytes()
    if damage == "unsigned":
        path.with_suffix(".json").unlink()
    else:
        path.write_bytes(content[:-4] if damage == "truncated" else content[:-1] + b"\x7f")
    split.loaded.clear()
    again = make()
    if damage == "unsigned":
        again.features()
    else:
        with pytest.warns(UserWarning, match="damaged"):
            again.features()
    assert len(split.loaded) == 6
    assert torch.equal(again.tokens(INDEX), tokens)
    assert path.read_bytes() == content


def test_tokens_of_an_interrupted_run_are_not_used(
    make: Make, split: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, written = trunk_module._write, []

    def stopped(file: Any, tokens: Tensor) -> None:
        honest(file, tokens[:2])
        written.append(files(tmp_path, ".part"))
        raise KeyboardInterrupt

    monkeypatch.setattr(trunk_module, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        make().features()
    assert len(written[0]) == 1 and not list((tmp_path / "cache").iterdir())
    # and so are those of a process that was killed on the way
    (tmp_path / "cache" / written[0][0].name).write_bytes(b"half")
    monkeypatch.setattr(trunk_module, "_write", honest)
    split.loaded.clear()
    make().features()
    assert len(split.loaded) == 6 and not files(tmp_path, ".part")


def test_a_full_disk_costs_time_and_no_run(
    make: Make, split: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = make(cache=False)
    tokens.features()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trunk_module, "_write", full)
    trunk = make()
    split.loaded.clear()
    with pytest.warns(UserWarning, match="could not be kept.*No space left"):
        trunk.features()
    assert len(split.loaded) == 6  # and nothing was computed again
    assert torch.equal(trunk.tokens(INDEX), tokens.tokens(INDEX))
    assert [np.load(path).dtype for path in files(tmp_path, ".npy")] == [np.float32]


def test_an_image_that_cannot_be_read_is_no_full_disk(
    make: Make, split: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(i: int) -> Any:
        split.loaded.append(i)
        raise kind(5, "Input/output error", "image.png")

    monkeypatch.setattr(split, "load", unreadable)
    for kind in (OSError, TimeoutError):  # the latter is what a folder of a network can say
        split.loaded.clear()
        with warnings.catch_warnings(), pytest.raises(kind, match=r"image\.png"):
            warnings.filterwarnings("error", message=".*could not be kept")
            make().features()
        assert len(split.loaded) <= 6
    assert not files(tmp_path, ".npy")


def test_two_processes_do_not_write_the_same(make: Make, split: Counting, tmp_path: Path) -> None:
    first = make()
    first.features()
    (path,) = (p for p in files(tmp_path, ".npy") if np.load(p).dtype == np.float16)
    path.with_suffix(".json").unlink()
    before = path.read_bytes()
    split.loaded.clear()
    with Lock(path.with_suffix(".lock")):
        second = make()
        second.features()
    assert torch.equal(second.tokens(INDEX), first.tokens(INDEX))
    assert path.read_bytes() == before and len(split.loaded) == 6


@pytest.mark.parametrize("room", [10**6, 0])
def test_tokens_beyond_float16_are_refused(
    room: int, make: Make, backbone: FrozenBackbone, tmp_path: Path
) -> None:
    with torch.no_grad():
        backbone.vit.blocks[0].mlp.fc2.bias[3] = 1e5  # type: ignore[index,union-attr]
    with pytest.raises(NotFinite, match="beyond 65504"):
        trunk = make(room)
        trunk.features()
        trunk.tokens(INDEX)
    assert not [p for p in files(tmp_path, ".npy") if np.load(p).dtype == np.float16]


def test_learners_have_the_same_numbers_however_much_is_kept(tmp_path: Path) -> None:
    """Two tasks of digits, adapters in the last of the bundled ViT's six blocks."""
    console = Console(file=io.StringIO(), width=200)
    found, names = [], ["ease", "artsy_ann_lda", "finetune_adapter"]
    for gb in (1.0, 0.0):
        config = RunConfig(
            data=DataConfig(class_range=[0, 4], n_tasks=2, train_per_class=4, test_per_class=2),
            ann=ANNConfig(placement="blocks", blocks=1, epochs=2, bottleneck=4),
            backbone=BackboneConfig(cache_gb=gb, cache_dir=str(tmp_path)),
            learners=names,
            threads=1,
        )
        features = prepare(config, "cpu", console)
        found.append([run_learner(name, config, features, "cpu", console) for name in names])
    for kept, again in zip(*found, strict=True):
        for key in ("a_last", "a_t", "accuracy_matrix", "vit_passes_per_image"):
            np.testing.assert_array_equal(kept[key], again[key])
    passes = [measures["vit_passes_per_image"] for measures in found[0]]
    one_gate = 1 + 1 / 6  # of two
    assert passes == pytest.approx([5 / 6 + 2 / 6, one_gate, 1.0])
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "tokens at block 6 of 24 images: 18.4 kB, kept in" in said
    assert "18.4 kB, of which backbone.cache_gb keeps 0 B; the others are computed again" in said


def test_parts_of_an_image_are_means_of_its_patches() -> None:
    vit = small_vit()  # 2 x 2 patches
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = vit.trunk(images, 0)
    found = vit.grid(tokens.half(), 2)
    assert found.shape == (3, 2 * 2 * 16) and found.dtype == torch.float32
    for image in range(3):
        for row in range(2):
            for column in range(2):
                patch = tokens[image, 1, 1 + 2 * row + column].half().float()
                part = found[image].reshape(2, 2, 16)[row, column]
                torch.testing.assert_close(part, patch)
    torch.testing.assert_close(vit.grid(tokens, 1), tokens[:, 1, 1:].mean(1))


@pytest.mark.parametrize(("first", "n", "reason"), [(2, 1, "at least 2 blocks"), (0, 3, "2 x 2")])
def test_parts_that_cannot_be_had_are_refused(first: int, n: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        small_vit().require_grid(first, n, "snn.tap")
