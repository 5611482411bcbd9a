"""Checkpoints as other programs leave them: they fit, or the remedy does."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import BackboneConfig, ConfigError

MODEL = "test_vit"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model(MODEL, num_classes=5)


@pytest.fixture
def state(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def shifted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + 1.0 for name, tensor in state.items()}


def headless(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}


def built(path: Path) -> FrozenBackbone:
    return FrozenBackbone.build(BackboneConfig(name=MODEL, checkpoint=str(path)), "cpu")


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        built(path)
    message = str(error.value)
    assert message.startswith("backbone.checkpoint: ") and message.isprintable()
    return message


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: under("module.", s),
        lambda s: under("_orig_mod.module.", s),
        lambda s: under("backbone.", s),
        lambda s: under("encoder.vit.", s),
        lambda s: (
            under("module.backbone.", headless(s)) | {"module.head.mlp.0.weight": torch.ones(3)}
        ),
        lambda s: {"state_dict": under("model.", s), "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda s: {"teacher": under("backbone.", headless(s)) | {"head.last": torch.ones(2)}},
        lambda s: {"net": {"weights": s}},
        lambda s: {"model": shifted(s), "model_ema": s},
        lambda s: {"model": s, "student": shifted(s), "teacher": shifted(s)},
        lambda s: {"discriminator": {"a": torch.ones(2)}, "ema": s},
    ],
)
def test_weights_are_found_in_containers_and_under_prefixes(
    wrap: Any, state: dict[str, Tensor], tmp_path: Path
) -> None:
    backbone = built(saved(wrap(state), tmp_path / "w.pth"))
    expected = headless(state)
    found = backbone.vit.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_two_sets_that_fit_are_not_guessed_between(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    content = {
        "student": under("module.backbone.", state),
        "teacher": under("backbone.", shifted(state)),
    }
    message = refusal(saved(content, tmp_path / "dino.pth"))
    assert "holds 2 sets of weights that fit" in message
    assert "'student.module.backbone' and 'teacher.backbone'" in message
    assert "the teacher" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # MAE's pre-training: encoder and decoder in one
        (
            lambda s: {"model": s | under("decoder_", {"embed.weight": torch.ones(2)})},
            ["1 unexpected (decoder_embed.weight)", "own weights are all there", "decoder's"],
        ),
        (
            lambda s: s | {"pos_embed": torch.zeros(1, 5, 64)},
            ["pos_embed [1, 5, 64] instead of", "another image size"],
        ),
        (
            lambda s: under("visual.transformer.", {"resblocks.0.ln_1.weight": torch.ones(64)}),
            ["no name is one of timm's", "hf-hub:"],
        ),
        (
            lambda s: {k: v for k, v in s.items() if "blocks.1" not in k},
            ["missing (blocks.1.", "the timm name of the model"],
        ),
        (lambda s: {"epoch": 3, "state_dict": {}}, ["holds no tensors with names"]),
        (lambda s: {1: torch.ones(3)}, ["holds no tensors with names"]),
        (lambda s: [torch.ones(3)], ["holds a list, not a state dict"]),
        (
            lambda s: s | {"norm.weight": torch.ones(64).to_sparse()},
            ["cannot be copied", "save plain ones"],
        ),
    ],
)
def test_what_does_not_fit_gets_a_remedy_that_does(
    change: Any, words: list[str], state: dict[str, Tensor], tmp_path: Path
) -> None:
    message = refusal(saved(change(state), tmp_path / "w.pth"))
    for word in words:
        assert word in message


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22883104\n"


def tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"), io.BytesIO(b""))
    return target.getvalue()


def npz() -> bytes:
    target = io.BytesIO()
    np.savez(target, cls=np.ones(3))
    return target.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (POINTER, "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "web page"),
        (gzip.compress(b"x", mtime=0), "gzip archive; unpack"),
        (bz2.compress(b"x"), "bzip2 archive; unpack"),
        (lzma.compress(b"x"), "xz archive; unpack"),
        (tar(), "tar archive; unpack"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5 file"),
    ],
)
def test_what_is_no_weights_file_is_called_what_it_is(
    content: bytes, words: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    message = refusal(path)
    assert words in message and "unpickling" not in message


def test_more_that_is_no_weights_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    for name, content, words in (
        ("w.npz", npz(), "NumPy archive"),
        ("w.pth", b'{"error": "Entry not found"}', "is text, not weights (it begins with"),
        ("w.safetensors", b"Entry not found", "not a whole safetensors file"),
        ("nul.pth", bytes(600), "cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        assert words in refusal(tmp_path / name)
    whole = saved(state, tmp_path / "whole.pth").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole)
    assert "call it .pth" in refusal(tmp_path / "w.safetensors")
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "cut.pth' cannot be read" in refusal(tmp_path / "cut.pth")
    assert "no file" in refusal(tmp_path)
    assert "no file" in refusal(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("name", ["model.bin", "model.pth", "model.safetensors"])
def test_safetensors_under_any_name(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / name)
    assert torch.equal(built(tmp_path / name).vit.norm.weight, state["norm.weight"])  # type: ignore[union-attr,arg-type]
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-100])
    assert "not a whole safetensors file" in refusal(tmp_path / name)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(
    value: float, state: dict[str, Tensor], tmp_path: Path
) -> None:
    state["norm.weight"] = torch.full((64,), value)
    state["blocks.0.attn.proj.bias"] = state["blocks.0.attn.proj.bias"].clone()
    state["blocks.0.attn.proj.bias"][3] = value
    message = refusal(saved(state, tmp_path / "w.pth"))
    assert "in 2 tensors of test_vit" in message
    assert "blocks.0.attn.proj.bias (1 of 64), norm.weight (64 of 64); give another" in message
