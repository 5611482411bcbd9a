"""OpenVINO in the place of torch, and torch's resizing in the place of Pillow's."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from rich.console import Console
from timm.data.transforms_factory import create_transform
from timm.models.vision_transformer import VisionTransformer
from torchvision.transforms import Compose, PILToTensor

from snn_artsy.backbone import Augmentation, FrozenBackbone, Trunk, extract_features
from snn_artsy.backbone.exported import ExportedPass
from snn_artsy.backbone.features import cache_key
from snn_artsy.backbone.resizing import ResizedByTorch
from snn_artsy.checks import ConfigError
from snn_artsy.config import BackboneConfig, RunConfig
from snn_artsy.data.sources import ArraySplit
from snn_artsy.runs.facts import Facts
from snn_artsy.runs.features import fingerprints, prepare

CONFIG = BackboneConfig(cache=False)
PREPARED = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3, "crop_pct": 0.9}


@pytest.fixture(autouse=True)
def _untraced(caplog: pytest.LogCaptureFixture) -> None:
    """Torch tells its own log whatever it exports, which takes longer than exporting."""
    caplog.set_level(logging.CRITICAL, logger="torch.__trace")


def require_openvino_here() -> None:
    """Without importing it, which would tell its makers."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")


def images_of(n: int = 5) -> ArraySplit:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 50, 70, 3), dtype=np.uint8)
    return ArraySplit(pixels, np.zeros(n, dtype=np.int64))


def small(engine: str, precision: str = "float32", resizing: str = "pillow") -> FrozenBackbone:
    """A ViT of two blocks, the same whenever it is made."""
    with torch.random.fork_rng(devices=[]):  # a test may have added one
        torch.manual_seed(0)
        vit = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
        )
        for weight in vit.parameters():  # timm's are so small that h_0 hardly knows the image
            torch.nn.init.normal_(weight, std=0.2)
    return FrozenBackbone(vit, PREPARED, "small", precision, engine, resizing)


@pytest.fixture(scope="module")
def both() -> tuple[FrozenBackbone, FrozenBackbone]:
    """The same weights with torch and with OpenVINO."""
    require_openvino_here()
    return small("torch"), small("openvino")


Both = tuple[FrozenBackbone, FrozenBackbone]


def test_openvino_gives_what_torch_gives(both: Both) -> None:
    torchs, openvinos = both
    images = torchs.load_images(images_of(), np.arange(5))
    torch.testing.assert_close(openvinos(images), torchs(images), rtol=1e-4, atol=1e-4)
    assert torchs(images).std(dim=0).mean() > 0.01
    for first in (0, 1):
        expected, found = torchs.trunk(images, first), openvinos.trunk(images, first)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # what goes on from there is torch's, gradients included
    scale = torch.ones((), requires_grad=True)
    openvinos.tail(found * scale, 1).square().sum().backward()
    assert scale.grad is not None and scale.grad != 0


def test_openvino_in_bfloat16_is_near_float32(both: Both) -> None:
    exact, rounded = both[0], small("openvino", "bfloat16")
    images = exact.load_images(images_of(), np.arange(5))
    assert torch.cosine_similarity(exact(images), rounded(images)).min() > 0.999


def test_with_openvino_no_number_of_threads_changes_a_bit(both: Both) -> None:
    backbone, split, found = both[1], images_of(19), []
    for threads in (1, 3):
        found.append(extract_features(backbone, split, np.arange(19), CONFIG, threads=threads))
    np.testing.assert_array_equal(*found)
    trunk = Trunk(backbone, split, np.arange(19), 1, CONFIG, 10**6, threads=2)
    tokens = trunk.tokens(np.arange(19))
    alone = backbone.rounded(backbone.load_images(split, np.array([4])), 1)
    torch.testing.assert_close(tokens[4:5].float(), alone.float(), rtol=1e-2, atol=1e-3)


def test_tokens_that_are_kept_need_no_graph(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, cache=True, cache_dir=str(tmp_path))
    index = np.arange(5)
    first = Trunk(both[1], images_of(), index, 1, config, 10**6)
    expected = first.features()

    def exported(*_: object) -> object:
        raise AssertionError("a graph was made")

    monkeypatch.setattr(ExportedPass, "compile", exported)
    again = Trunk(small("openvino"), images_of(), index, 1, config, 10**6)
    np.testing.assert_array_equal(again.features(), expected)
    assert torch.equal(again.tokens(index), first.tokens(index))


def test_a_graph_of_older_weights_is_not_asked(both: Both) -> None:
    torchs, openvinos = both
    images = torchs.load_images(images_of(), np.arange(2))
    before = openvinos(images)
    with torch.no_grad():
        for backbone in (torchs, openvinos):
            backbone.vit.norm.weight *= 2.0  # type: ignore[union-attr,operator]
    torch.testing.assert_close(openvinos(images), torchs(images), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(openvinos(images), before, atol=1e-2)


def test_engine_and_resizing_tell_features_apart() -> None:
    require_openvino_here()
    torchs, openvinos, resized = small("torch"), small("openvino"), small("torch", resizing="torch")
    keys = [
        cache_key(each, images_of(), np.arange(5), CONFIG) for each in (torchs, openvinos, resized)
    ]
    assert "engine" not in keys[0]  # features of older versions are found again
    assert keys[1].pop("engine")[0].isdigit() and keys[0] == keys[1]
    assert "ResizedByTorch" in keys[2]["transform"] and keys[0] != keys[2]


def test_a_run_says_which_openvino_it_had() -> None:
    require_openvino_here()
    version = metadata.version("openvino")
    config = RunConfig(backbone=BackboneConfig(engine="openvino"))
    assert Facts.gather(config, {}, "", "cpu", 1).versions["openvino"] == version
    assert "openvino" not in Facts.gather(RunConfig(), {}, "", "cpu", 1).versions


def test_nothing_is_told_to_the_makers_of_openvino(tmp_path: Path) -> None:
    """Its package for that would leave a file at home before it sends anything."""
    require_openvino_here()
    program = (
        "import sys, torch; from test_engines import small\n"
        "small('openvino')(torch.zeros(1, 3, 32, 32))\n"
        "sys.exit('openvino' not in sys.modules or sys.modules['openvino_telemetry'] is not None)"
    )
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": places}
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=600)
    assert not [path for path in tmp_path.rglob("*") if "openvino" in path.name]


def test_a_model_that_openvino_does_not_know_is_refused() -> None:
    """It resizes its positions for every image."""
    require_openvino_here()
    config = BackboneConfig(name="test_vit", pretrained=False, engine="openvino")
    backbone = FrozenBackbone.build(config, "cpu")
    with pytest.raises(ConfigError, match=r"cannot take this model .*bicubic.*; use torch"):
        backbone(torch.zeros(1, *backbone.input_size))


def test_openvino_that_cannot_be_had_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = replace(CONFIG, engine="openvino")
    with pytest.raises(ConfigError, match="on the CPU and not on cuda; use torch"):
        FrozenBackbone.build(config, "cuda")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'snn-artsy\[openvino\]'"):
        FrozenBackbone.build(config, "cpu")
    monkeypatch.delitem(sys.modules, "openvino")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "openvino.py").write_text("raise OSError('libopenvino.so: no such file')")
    with pytest.raises(ConfigError, match=r"not installed whole \(libopenvino.so: no such file\);"):
        FrozenBackbone.build(config, "cpu")
    with pytest.raises(ConfigError, match=r"backbone\.engine"):
        BackboneConfig(engine="onnx")  # type: ignore[arg-type]


def test_a_missing_openvino_is_said_before_images_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    nowhere = replace(RunConfig().data, name="imagefolder", root=str(tmp_path / "nowhere"))
    config = RunConfig(data=nowhere, backbone=replace(CONFIG, engine="openvino"))
    for look in (lambda: prepare(config, "cpu", Console(quiet=True)),
                 lambda: fingerprints(config, "cpu")):  # fmt: skip
        with pytest.raises(ConfigError, match=r"backbone\.engine.*not installed;"):
            look()


@pytest.mark.parametrize("size", [(20, 24), (333, 500), (500, 333)])
@pytest.mark.parametrize("preprocessing", ["timm", "pilot"])
def test_torch_resizes_as_pillow_within_roundings(
    size: tuple[int, int], preprocessing: str
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1))
    pillow, by_torch = (
        FrozenBackbone.build(
            BackboneConfig(preprocessing=preprocessing, resizing=resizing), "cpu"  # type: ignore[arg-type]
        ).transform
        for resizing in ("pillow", "torch")
    )  # fmt: skip
    expected, found = pillow(image), by_torch(image)
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert found.is_contiguous()
    steps = (found - expected) * pillow.transforms[-1].std.view(3, 1, 1) * 255  # type: ignore[attr-defined]
    assert 0 < steps.abs().max() < 2.5
    assert steps.abs().mean() < 0.1 and steps.mean().abs() < 0.05


def test_augmented_images_do_not_depend_on_the_resizing() -> None:
    image = images_of().load(0)
    crops = [
        Augmentation(small("torch", resizing=each), True)(image, 3) for each in ("pillow", "torch")
    ]
    assert torch.equal(*crops)


def test_what_torch_cannot_resize_is_refused() -> None:
    with pytest.raises(ConfigError, match="lanczos interpolation, which torch has not; use pillow"):
        ResizedByTorch(create_transform(64, interpolation="lanczos"), "a")
    with pytest.raises(ConfigError, match=r"other steps \(PILToTensor\); use pillow"):
        ResizedByTorch(Compose([PILToTensor()]), "a")


def test_a_run_with_both(tmp_path: Path) -> None:
    """Adapters in the blocks go on from OpenVINO's tokens."""
    require_openvino_here()
    import snn_artsy as sa

    config = RunConfig(
        learners=["artsy_ann"],
        out=str(tmp_path / "run"),
        data=replace(RunConfig().data, train_per_class=4, test_per_class=2),
        backbone=BackboneConfig(engine="openvino", resizing="torch", cache=False),
        ann=replace(RunConfig().ann, placement="blocks", blocks=2, epochs=1),
    )
    with sa.run(config).open() as run:
        assert 0 <= run.summary("artsy_ann")["a_last"] <= 1
