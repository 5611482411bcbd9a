"""The frozen backbone: loading, freezing, features and their cache. No network, random weights."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from snn_artsy.backbone import (
    FrozenBackbone,
    cache_directory,
    extract_features,
    pieces_of,
    settle_precision,
)
from snn_artsy.backbone import features as features_module
from snn_artsy.backbone import precision as precision_module
from snn_artsy.backbone.features import cache_key
from snn_artsy.bundled import WEIGHTS
from snn_artsy.config import BackboneConfig, ConfigError, DataConfig
from snn_artsy.data import ArraySplit, load_source

MODEL = "test_vit"
"""timm's 0.3-million-parameter transformer, 160 px, D = 64."""


def random_images(n: int = 7, seed: int = 0) -> ArraySplit:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 20, 24, 3), dtype=np.uint8)
    return ArraySplit(images, np.zeros(n, dtype=np.int64))


@pytest.fixture
def config(tmp_path: Path) -> BackboneConfig:
    return BackboneConfig(
        name=MODEL, pretrained=False, batch_size=3, cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def backbone(config: BackboneConfig) -> FrozenBackbone:
    return FrozenBackbone.build(config, "cpu")


def refusal(config: BackboneConfig) -> str:
    with pytest.raises(ConfigError) as error:
        FrozenBackbone.build(config, "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


class Counting:
    """A split that counts how often an image is loaded."""

    def __init__(self, split: ArraySplit) -> None:
        self.split = split
        self.labels = split.labels
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return len(self.split)

    def load(self, i: int):  # type: ignore[no-untyped-def]
        self.loaded.append(i)
        return self.split.load(i)

    def name(self, i: int) -> str:
        return self.split.name(i)

    def check(self, index: np.ndarray) -> None:
        self.split.check(index)

    def fingerprint(self) -> str:
        return self.split.fingerprint()


# Loading


def test_random_weights_are_the_same_every_time(config: BackboneConfig) -> None:
    torch.manual_seed(3)
    first = FrozenBackbone.build(config, "cpu").weights_sha256()
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == after  # the caller's generator is left alone
    assert FrozenBackbone.build(config, "cpu").weights_sha256() == first


def test_uses_timms_own_data_configuration(backbone: FrozenBackbone) -> None:
    expected = timm.data.resolve_model_data_config(timm.create_model(MODEL))
    assert expected["mean"] == (0.5, 0.5, 0.5)  # not ImageNet's, so forgetting it shows
    image = random_images().load(0)
    transformed = backbone.transform(image)
    reference = timm.data.create_transform(**expected, is_training=False)(image)
    assert transformed.shape == (3, 160, 160)
    torch.testing.assert_close(transformed, reference, rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_checkpoint_with_its_head(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model(MODEL, num_classes=5).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    backbone = FrozenBackbone.build(BackboneConfig(name=MODEL, checkpoint=str(path)), "cpu")
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(backbone(images), expected, rtol=0, atol=0)
    assert backbone(images).shape == (2, backbone.dim)


def test_training_checkpoint_with_options_and_prefix(tmp_path: Path) -> None:
    from argparse import Namespace

    model = timm.create_model(MODEL, num_classes=5)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    path = tmp_path / "last.pth"
    torch.save({"state_dict": state, "args": Namespace(lr=0.1), "epoch": 3}, path)
    backbone = FrozenBackbone.build(BackboneConfig(name=MODEL, checkpoint=str(path)), "cpu")
    expected = model.state_dict()
    for name, tensor in backbone.vit.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    model = timm.create_model(MODEL, num_classes=0)
    state = model.state_dict()
    removed = state.pop("norm.weight")
    state["stranger"] = torch.zeros(2)
    state["cls_token"] = torch.zeros(1, 1, 9)
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    message = refusal(BackboneConfig(name=MODEL, checkpoint=str(path)))
    for words in (
        "backbone.checkpoint",
        "1 missing (norm.weight)",
        "1 unexpected (stranger)",
        "cls_token [1, 1, 9] instead of [1, 1, 64]",
    ):
        assert words in message
    assert removed.shape == (64,)


class Payload:
    """Would write a file if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo run > '{self.path}'",)


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_checkpoint_is_never_unpickled(save: str, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    path = tmp_path / "bad.pth"
    content = {"state_dict": {}, "hook": Payload(evidence)}
    if save == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    message = refusal(BackboneConfig(name=MODEL, checkpoint=str(path)))
    assert "unpickling" in message
    assert ".safetensors" in message
    assert not evidence.exists()


@pytest.mark.parametrize("name", ["empty.pth", "text.pth", "empty.safetensors", "text.safetensors"])
def test_broken_checkpoint_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if "empty" in name else b"no weights here, only words")
    assert "backbone.checkpoint" in refusal(BackboneConfig(name=MODEL, checkpoint=str(path)))


def test_missing_checkpoint_and_unknown_model() -> None:
    message = refusal(BackboneConfig(name=MODEL, checkpoint="no/such.safetensors"))
    assert "backbone.checkpoint: no file 'no/such.safetensors'" in message
    message = refusal(BackboneConfig(name="deit_tiny_patch16_225"))
    assert "backbone.name" in message
    assert "did you mean" in message
    assert "deit_tiny_patch16_224" in message
    with pytest.raises(ConfigError, match=r"backbone\.checkpoint"):
        BackboneConfig(name="bundled", checkpoint="x.pth")


def test_failed_download_says_to_give_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> nn.Module:
        raise ConnectionError("Name or service not known\nand more lines")

    monkeypatch.setattr(timm, "create_model", no_network)
    message = refusal(BackboneConfig(name=MODEL))
    assert "backbone.checkpoint" in message
    assert "Name or service not known" in message


# Frozen


def test_frozen_and_in_eval_mode_whatever_the_parent_does(backbone: FrozenBackbone) -> None:
    parent = nn.Sequential(backbone, nn.Linear(backbone.dim, 2))
    parent.train()
    assert parent.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(torch.randn(1, 3, 160, 160)).requires_grad


def test_training_around_it_changes_no_byte(backbone: FrozenBackbone) -> None:
    before = backbone.weights_sha256()
    parent = nn.Sequential(backbone, nn.Linear(backbone.dim, 2)).train()
    optimiser = torch.optim.SGD(parent.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        parent(torch.randn(2, 3, 160, 160)).square().sum().backward()
        optimiser.step()
    assert backbone.weights_sha256() == before


def test_weights_hash_sees_one_bit(backbone: FrozenBackbone) -> None:
    before = backbone.weights_sha256()
    weight = backbone.vit.norm.weight  # type: ignore[union-attr]
    with torch.no_grad():
        weight.view(torch.int32)[0] ^= 1  # type: ignore[operator,index]
    assert backbone.weights_sha256() != before


# Features


def test_features_follow_the_index(backbone: FrozenBackbone, config: BackboneConfig) -> None:
    split = random_images()
    index = np.array([5, 0, 3, 0, 6])
    features = extract_features(backbone, split, index, config)
    assert features.dtype == np.float32
    assert features.shape == (5, backbone.dim)
    np.testing.assert_array_equal(features[1], features[3])
    for row, i in enumerate(index):
        alone = backbone(backbone.load_images(split, np.array([i])))[0].numpy()
        # The order of a sum may follow the batch size, so to rounding only.
        np.testing.assert_allclose(features[row], alone, rtol=1e-4, atol=1e-5)


def test_second_run_reuses_the_cache(
    backbone: FrozenBackbone, config: BackboneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "CPU_PASS", 3)
    split = Counting(random_images())
    index = np.arange(7)
    progress: list[tuple[int, int]] = []
    first = extract_features(backbone, split, index, config, lambda *p: progress.append(p))
    assert sorted(split.loaded) == list(range(7))
    assert progress == [(3, 7), (6, 7), (7, 7)]
    split.loaded.clear()
    progress.clear()
    second = extract_features(backbone, split, index, config, lambda *p: progress.append(p))
    assert isinstance(second, np.memmap)
    assert not split.loaded
    assert progress == [(7, 7)]
    np.testing.assert_array_equal(first, second)
    assert not list(cache_directory(config).glob("*.part"))
    about = json.loads(next(cache_directory(config).glob("*.json")).read_text())
    assert about["key"]["weights_sha256"] == backbone.weights_sha256()

    second[:] = 0.0  # in memory only
    third = extract_features(backbone, split, index, config)
    np.testing.assert_array_equal(first, third)


def test_only_the_samples_asked_for_are_embedded(
    backbone: FrozenBackbone, config: BackboneConfig
) -> None:
    split = Counting(random_images())
    extract_features(backbone, split, np.array([4, 2]), config)
    assert sorted(split.loaded) == [2, 4]
    extract_features(backbone, split, np.array([2, 3]), config)
    assert sorted(split.loaded) == [2, 2, 3, 4]


def test_whatever_changes_the_features_changes_the_key(
    backbone: FrozenBackbone, config: BackboneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = np.arange(2)

    def n_cached() -> int:
        return len(list(cache_directory(config).glob("*.npy")))

    extract_features(backbone, random_images(), index, config)
    assert n_cached() == 1
    extract_features(backbone, random_images(seed=1), index, config)  # other images
    assert n_cached() == 2
    extract_features(backbone, random_images(), index + 1, config)  # other samples
    assert n_cached() == 3
    backbone.precision = "bfloat16"
    features = extract_features(backbone, random_images(), index, config)
    assert features.dtype == np.float32
    assert n_cached() == 4
    backbone.precision = "float32"
    backbone.transform.transforms[-1].mean += 0.1  # type: ignore[attr-defined]
    extract_features(backbone, random_images(), index, config)
    assert n_cached() == 5
    with torch.no_grad():
        backbone.vit.norm.weight[0] += 1.0  # type: ignore[union-attr,operator,index]
    extract_features(backbone, random_images(), index, config)
    assert n_cached() == 6
    monkeypatch.setattr(features_module, "version", lambda library: "99.0")
    extract_features(backbone, random_images(), index, config)
    assert n_cached() == 7


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "json", "shape"])
def test_damaged_cache_is_recomputed(
    damage: str, backbone: FrozenBackbone, config: BackboneConfig
) -> None:
    split = Counting(random_images())
    first = np.array(extract_features(backbone, split, np.arange(7), config))
    split.loaded.clear()
    path = next(cache_directory(config).glob("*.npy"))
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[:-10])
    elif damage == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "json":
        path.with_suffix(".json").write_text("{")
    else:
        np.save(path, first[:3])
    with pytest.warns(UserWarning, match="damaged"):
        again = extract_features(backbone, split, np.arange(7), config)
    assert len(split.loaded) == 7
    np.testing.assert_array_equal(first, again)
    split.loaded.clear()
    extract_features(backbone, split, np.arange(7), config)  # repaired
    assert not split.loaded


def test_half_written_pair_is_as_good_as_none(
    backbone: FrozenBackbone, config: BackboneConfig
) -> None:
    split = random_images()
    extract_features(backbone, split, np.arange(2), config)
    next(cache_directory(config).glob("*.json")).unlink()
    extract_features(backbone, split, np.arange(2), config)  # no warning, no failure
    assert len(list(cache_directory(config).glob("*.json"))) == 1


def test_without_cache_nothing_is_written(backbone: FrozenBackbone, tmp_path: Path) -> None:
    config = BackboneConfig(
        name=MODEL, pretrained=False, cache=False, cache_dir=str(tmp_path / "cache")
    )
    extract_features(backbone, random_images(), np.arange(2), config)
    assert not (tmp_path / "cache").exists()


def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_ARTSY_CACHE", str(tmp_path / "by_variable"))
    assert cache_directory(BackboneConfig()) == tmp_path / "by_variable"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"backbone\.cache_dir"):
        cache_directory(BackboneConfig(cache_dir=str(tmp_path / "file")))


def test_full_disk_does_not_cost_the_features(
    backbone: FrozenBackbone, config: BackboneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UserWarning, match="No space left"):
        features = extract_features(backbone, random_images(), np.arange(2), config)
    assert np.isfinite(features).all()
    assert not list(cache_directory(config).iterdir())


def test_unreadable_image_stops_extraction_with_its_name(
    backbone: FrozenBackbone, config: BackboneConfig
) -> None:
    class Broken(Counting):
        def load(self, i: int):  # type: ignore[no-untyped-def]
            if i == 4:
                raise ConfigError("data.root", "cannot read the image four.png; remove it")
            return super().load(i)

    with pytest.raises(ConfigError, match=r"four\.png"):
        extract_features(backbone, Broken(random_images()), np.arange(7), config)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [MODEL, "bundled"])
def test_no_number_of_threads_or_images_changes_a_bit(name: str, precision: str) -> None:
    """Whichever command filled the cache, later results are the same."""
    split, before = random_images(19), torch.get_num_threads()
    config = BackboneConfig(name=name, pretrained=False, cache=False, precision=precision)
    backbone = FrozenBackbone.build(config, "cpu")
    found = []
    try:
        for threads, torch_threads, workers, batch_size in (
            (1, 1, 1, 64), (2, 1, 4, 8), (3, 2, 2, 48), (1, 2, 1, 2),
        ):  # fmt: skip
            torch.set_num_threads(torch_threads)
            changed = replace(config, workers=workers, batch_size=batch_size)
            found.append(extract_features(backbone, split, np.arange(19), changed, threads=threads))
            assert torch.get_num_threads() == torch_threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    # and they are those of the images alone, the filling left out
    alone = torch.cat([backbone(backbone.load_images(split, np.array([i]))) for i in range(19)])
    close = {"float32": 1e-5, "bfloat16": 0.05}[precision]
    np.testing.assert_allclose(found[0], alone.numpy(), rtol=close, atol=close)


def test_a_cache_with_nan_is_computed_again(
    backbone: FrozenBackbone, config: BackboneConfig, tmp_path: Path
) -> None:
    split, index = random_images(), np.arange(3)
    expected = np.array(extract_features(backbone, split, index, config))
    (file,) = (tmp_path / "cache").glob("*.npy")
    wrong = expected.copy()
    wrong[1, 2] = np.nan
    np.save(file, wrong)
    about = file.with_suffix(".json")
    said = json.loads(about.read_text())
    said["features_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    about.write_text(json.dumps(said))
    with pytest.warns(UserWarning, match="NaN"):
        again = extract_features(backbone, split, index, config)
    np.testing.assert_array_equal(again, expected)


def test_bundled_backbone_embeds_digits(tmp_path: Path) -> None:
    if not files("snn_artsy.bundled").joinpath(WEIGHTS).is_file():
        pytest.skip("the bundled weights are not built yet")
    config = BackboneConfig(cache_dir=str(tmp_path))
    backbone = FrozenBackbone.build(config, "cpu")
    source = load_source(DataConfig())
    features = extract_features(backbone, source.train, np.arange(4), config)
    assert features.shape == (4, 192)
    assert np.isfinite(features).all()


def test_deit_tiny() -> None:
    """The development checkpoint loads strictly, where it is at hand."""
    data = os.environ.get("SNN_ARTSY_DATA")
    path = Path(data or "") / "deit_tiny_patch16_224.safetensors"
    if not data or not path.is_file():
        pytest.skip("SNN_ARTSY_DATA does not name a folder with the DeiT-Tiny weights")
    config = BackboneConfig(name="deit_tiny_patch16_224", checkpoint=str(path))
    backbone = FrozenBackbone.build(config, "cpu")
    assert backbone.dim == 192
    assert backbone.transform(random_images().load(0)).shape == (3, 224, 224)


def test_pilot_preprocessing_is_resize_crop_and_no_normalisation() -> None:
    from PIL import Image
    from torchvision import transforms

    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    backbone = FrozenBackbone.build(BackboneConfig(preprocessing="pilot"), "cpu")
    # LAMDA-PILOT, utils/data.py, build_transform(is_train=False), for an input of 64 pixels
    expected = transforms.Compose(
        [
            transforms.Resize(int(256 / 224 * 64), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
        ]
    )(image)
    torch.testing.assert_close(backbone.transform(image), expected)
    own = FrozenBackbone.build(BackboneConfig(), "cpu").transform(image)
    assert not torch.allclose(own, expected)


def test_leftovers_of_killed_extractions_are_removed_at_the_next_one(
    backbone: FrozenBackbone, config: BackboneConfig, tmp_path: Path
) -> None:
    """Of the same features only, and not while a living process writes them."""
    images, index = random_images(), np.arange(3)
    extract_features(backbone, images, index, config)
    file = next(cache_directory(config).glob("*.npy"))
    others = file.with_name(f"{'0' * 32}.npy.part")
    ours = {file.with_name(f"{name}.part") for name in (file.name, f"{file.stem}.json")}
    for part in (*ours, others):
        part.write_bytes(b"half")
    file.with_suffix(".json").unlink()  # as a kill before its end leaves it
    program = (
        "import sys\nfrom pathlib import Path\nfrom snn_artsy.files import Lock\n"
        "with Lock(Path(sys.argv[1])):\n    print(flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file.with_suffix(".lock"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as writing:  # fmt: skip
        assert writing.stdout is not None and writing.stdout.readline() == b"\n"
        extract_features(backbone, images, index, config)
        assert set(file.parent.glob("*.part")) == {*ours, others}
        assert not file.with_suffix(".json").exists()
        writing.kill()
    extract_features(backbone, images, index, config)
    assert set(file.parent.glob("*.part")) == {others}
    assert file.with_suffix(".json").exists() and not file.with_suffix(".lock").exists()


def test_bytes_of_a_tensor_do_not_depend_on_its_strides() -> None:
    """One class in a task leaves tensors of one element whose stride is that of the whole."""
    whole = torch.arange(12.0).reshape(2, 6)
    for odd in (whole[:, 3:4][1:], whole.T, whole[:, ::2], torch.tensor(3.0), whole[:0]):
        plain = torch.tensor(odd.tolist()).reshape(odd.shape)
        found, expected = ([bytes(x) for x in pieces_of([("x", t)])] for t in (odd, plain))
        assert found == expected


# Precision


def cpuinfo(tmp_path: Path, flags: str) -> Path:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\nflags : fpu avx2 {flags}\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("flags", "least", "chosen", "words"),
    [
        ("avx512_bf16", 0.9995, "bfloat16", "cosine with float32 is"),
        ("bf16", 0.9995, "bfloat16", "for the first 7 images"),  # Arm
        ("avx512_bf16", 1.0, "float32", "cosine with float32 is"),  # it changes too much
        ("avx512f", 0.9995, "float32", "this cpu has no bfloat16"),
    ],
)
def test_precision_is_chosen_by_the_processor_and_the_first_images(
    flags: str,
    least: float,
    chosen: str,
    words: str,
    config: BackboneConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision_module, "CPUINFO", cpuinfo(tmp_path, flags))
    monkeypatch.setattr(precision_module, "LEAST_COSINE", least)
    backbone = FrozenBackbone.build(replace(config, precision="auto"), "cpu")
    assert backbone.precision == "float32"
    told = settle_precision(backbone, random_images(), np.arange(7))
    assert backbone.precision == chosen
    assert told.startswith(f"backbone.precision: {chosen}") and words in told
    key = cache_key(backbone, random_images(), np.arange(7), config)
    assert key["precision"] == chosen


def test_a_processor_of_which_nothing_is_known_has_no_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "CPUINFO", tmp_path / "nowhere")
    assert not precision_module.has_bfloat16(torch.device("cpu"))
