"""The frozen vision transformer E_0 and the features h_0 it gives, kept on disk.

>>> backbone = FrozenBackbone.build(BackboneConfig(), torch.device("cpu"))  # doctest: +SKIP
>>> features = extract_features(backbone, source.train, index, config)      # doctest: +SKIP
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor, nn

from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import BackboneConfig
from snn_artsy.data.sources import ImageSplit
from snn_artsy.files import Lock, file_sha256, sha256, whole
from snn_artsy.threads import cores
from snn_artsy.weights_file import load_weights

CACHE_FORMAT = 2
"""Raise it when a change here changes features that are already on disk."""

RANDOM_WEIGHTS_SEED = 0
"""Seed of the weights when neither published nor local ones are asked for."""

CPU_PASS = 8
"""Images per forward pass on a CPU. Fewer read the weights too often, more leave the processor's
caches: on two cores DeiT-Tiny takes a third less time than with 64."""

_LIBRARIES = ("torch", "torchvision", "timm", "pillow")
"""Libraries whose version may change a feature's last bits, or more."""


class FrozenBackbone(nn.Module):
    """A timm model that never learns: no gradient, and in eval mode whatever its parent does.

    Args:
        vit: The model, already with its weights.
        data_config: timm's data configuration: input_size, interpolation, mean, std, crop_pct.
        name: Its name, for the records and the cache key.
        precision: ``float32`` or ``bfloat16`` arithmetic in the forward pass.

    Attributes:
        vit: The timm model; learners that adapt its blocks hook in here.
        transform: PIL image -> normalised float32 [3, H, W], as timm prepares it.
        dim: D, the size of h_0.
        input_size: (channels, height, width) of transformed images.
    """

    def __init__(
        self,
        vit: nn.Module,
        data_config: Mapping[str, Any],
        name: str,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        from timm.data.transforms_factory import create_transform

        self.vit = vit.requires_grad_(False)
        self.name = name
        self.precision = precision
        self.transform: Callable[[Any], Tensor] = create_transform(
            **dict(data_config), is_training=False
        )
        self.input_size: tuple[int, ...] = tuple(data_config["input_size"])
        self.dim = int(getattr(vit, "head_hidden_size", None) or vit.num_features)  # type: ignore[arg-type]
        self.train(False)

    @classmethod
    def build(cls, config: BackboneConfig, device: torch.device | str) -> FrozenBackbone:
        """The backbone that ``config`` names, on ``device``.

        Raises:
            ConfigError: Unknown model, unreadable or unfitting checkpoint, no download possible,
                weights that are NaN or infinite.
        """
        if config.name == "bundled":
            from snn_artsy.bundled import DATA_CONFIG, bundled_vit

            vit: nn.Module = bundled_vit()
            data_config: Mapping[str, Any] = DATA_CONFIG
        else:
            from timm.data.config import resolve_model_data_config

            vit = _timm_model(config)
            data_config = resolve_model_data_config(vit)  # type: ignore[no-untyped-call]
        _require_finite_weights(vit, config)
        if config.preprocessing == "pilot":
            data_config = {
                "input_size": data_config["input_size"],
                "interpolation": "bicubic",
                "crop_pct": 224 / 256,
                "mean": (0.0, 0.0, 0.0),
                "std": (1.0, 1.0, 1.0),
            }
        return cls(vit, data_config, config.name, config.precision).to(device)

    @property
    def device(self) -> torch.device:
        return next(self.vit.parameters()).device

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in eval mode: a parent's ``train()`` must not change dropout or norms here."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """h_0 of transformed images: [B, 3, H, W] -> float32 [B, D]."""
        with torch.no_grad():
            return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        """As `forward`, but gradients flow through it, to what is put into its blocks."""
        bfloat16 = self.precision == "bfloat16"
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16),
            _exact_convolutions(self.device),
        ):
            features = self.vit.forward_features(images)  # type: ignore[operator]
            embedding: Tensor = self.vit.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return embedding.float()

    def load_images(self, split: ImageSplit, index: NDArray[np.int64]) -> Tensor:
        """Transformed images of these samples, float32 [n, 3, H, W], on the CPU."""
        return torch.stack([self.transform(split.load(int(i))) for i in index])

    def weights_sha256(self) -> str:
        """SHA-256 over name, dtype, shape and bytes of every tensor, buffers included."""
        return sha256(pieces_of(self.vit.state_dict().items()))


def pieces_of(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[bytes | memoryview]:
    """Name, type, shape and bytes of each tensor, in the order of their names, for `sha256`."""
    for name, tensor in sorted(tensors):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        whole = tensor.detach().cpu().contiguous()
        # an axis of one element may have any stride and still count as contiguous
        flat = whole.as_strided((whole.numel(),), (1,))
        yield flat.view(torch.uint8).numpy().data


def extract_features(
    backbone: FrozenBackbone,
    split: ImageSplit,
    index: NDArray[np.int64],
    config: BackboneConfig | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """h_0 of the samples ``index`` of ``split``, row by row: float32 [len(index), D].

    With ``config.cache`` the features are kept below ``cache_directory(config)`` as .npy with a
    .json beside it, and read back by memory map when everything they depend on is the same:
    weights, model name, transform, images, which samples, precision, processor (a CPU's
    instructions, a GPU's model; ``batch_size`` on a GPU), and the versions of torch, torchvision,
    timm and Pillow. What can change the last bits is in this list; ``threads`` (default: all cores)
    and on a CPU ``batch_size`` change none. A damaged file is recomputed, and so is one that holds
    NaN. ``on_progress(done, total)`` counts images; from the cache it is called once.

    Raises:
        NotFinite: A feature is NaN or infinite; nothing is kept then.
    """
    config = config or BackboneConfig()
    index = np.asarray(index, dtype=np.int64)
    wanted, rows = np.unique(index, return_inverse=True)
    features = None
    if config.cache:
        key = _cache_key(backbone, split, wanted, config)
        name = sha256([json.dumps(key, sort_keys=True).encode()])[:32]
        path = cache_directory(config) / f"{name}.npy"
        features = _read_cache(path, (len(wanted), backbone.dim))
        if features is not None and on_progress is not None:
            on_progress(len(wanted), len(wanted))
    if features is None:
        features = _compute(backbone, split, wanted, config, threads or cores(), on_progress)
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
        folder = Path(config.cache_dir).expanduser()
    elif os.environ.get("SNN_ARTSY_CACHE"):
        folder = Path(os.environ["SNN_ARTSY_CACHE"]).expanduser()
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


def _timm_model(config: BackboneConfig) -> nn.Module:
    import timm

    # Names such as hf-hub:owner/model are resolved by timm itself.
    if ":" not in config.name and not timm.is_model(config.name):
        close = difflib.get_close_matches(config.name, timm.list_models(), n=3, cutoff=0.5)
        raise ConfigError(
            "backbone.name",
            f"timm {timm.__version__} has no model {config.name!r}; "
            + (f"did you mean {' or '.join(close)}? " if close else "")
            + "use 'bundled' or a name listed by timm.list_models()",
        )
    download = config.pretrained and config.checkpoint is None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_WEIGHTS_SEED)
            vit: nn.Module = timm.create_model(config.name, pretrained=download, num_classes=0)
    except Exception as e:
        # timm's download ends in errors of several HTTP libraries, without a common base.
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ConfigError(
            "backbone.name",
            f"cannot get {'published weights' if download else 'a model'} for "
            f"{config.name!r} ({type(e).__name__}: {reason}); give a local weights file as "
            "backbone.checkpoint, or set backbone.pretrained to false for random weights",
        ) from e
    if config.checkpoint is not None:
        load_weights(vit, Path(os.path.expanduser(config.checkpoint)))
    return vit


def _require_finite_weights(vit: nn.Module, config: BackboneConfig) -> None:
    bad = [
        f"{name} ({int((~tensor.isfinite()).sum())} of {tensor.numel()})"
        for name, tensor in vit.state_dict().items()
        if not tensor.isfinite().all()
    ]
    if bad:
        more = ", ..." if len(bad) > 3 else ""
        key, remedy = (
            ("name", "get the weights again")
            if config.checkpoint is None
            else ("checkpoint", "give another file, or copy or download it again")
        )
        raise ConfigError(
            f"backbone.{key}",
            f"weights that are NaN or infinite in {len(bad)} tensors of "
            f"{config.name}: {', '.join(bad[:3])}{more}; {remedy}",
        )


@contextmanager
def _exact_convolutions(device: torch.device) -> Iterator[None]:
    """No TF32 in the patch embedding: cuDNN's default keeps 10 bits of each float32 product."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _compute(
    backbone: FrozenBackbone,
    split: ImageSplit,
    index: NDArray[np.int64],
    config: BackboneConfig,
    threads: int,
    on_progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """Features of ``index``, in passes of the same number of images, the last one filled up.

    On a CPU ``threads`` passes run beside each other, each in one thread: how a product of matrices
    is divided among threads, or what is in it, changes its last bits. On a GPU one pass is computed
    while the next one's images are loaded and the last one's features come back.
    """
    on_gpu = backbone.device.type == "cuda"
    size = _pass_size(backbone, config)
    at_a_time = 1 if on_gpu else threads
    features = np.empty((len(index), backbone.dim), dtype=np.float32)

    def load(i: int) -> Tensor:
        return backbone.transform(split.load(i))

    def one_pass(loading: list[Future[Tensor]]) -> Tensor:
        images = [image.result() for image in loading]
        batch = torch.stack(images + [torch.zeros_like(images[0])] * (size - len(images)))
        if on_gpu:
            batch = batch.pin_memory()
        return backbone(batch.to(backbone.device, non_blocking=True))[: len(images)]

    # Threads, not processes: Pillow and torch compute without the interpreter lock, and nothing
    # is forked beside torch's own threads.
    before = torch.get_num_threads()
    loaders = ThreadPoolExecutor(config.workers)
    passes = ThreadPoolExecutor(at_a_time, initializer=torch.set_num_threads, initargs=(1,))
    running: deque[tuple[slice, Future[Tensor]]] = deque()

    def collect() -> None:
        rows, embedding = running.popleft()
        features[rows] = embedding.result().cpu().numpy()
        if on_progress is not None:
            on_progress(rows.stop, len(index))

    try:
        for start in range(0, len(index), size):
            rows = slice(start, min(start + size, len(index)))
            loading = [loaders.submit(load, int(i)) for i in index[rows]]
            running.append((rows, passes.submit(one_pass, loading)))
            if len(running) > at_a_time + 1:
                collect()
        while running:
            collect()
    finally:
        # After an error or a signal what has not begun is dropped.
        loaders.shutdown(cancel_futures=True)
        passes.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # some libraries have one number for all threads
    return features


def _pass_size(backbone: FrozenBackbone, config: BackboneConfig) -> int:
    return config.batch_size if backbone.device.type == "cuda" else CPU_PASS


def _cache_key(
    backbone: FrozenBackbone, split: ImageSplit, index: NDArray[np.int64], config: BackboneConfig
) -> dict[str, Any]:
    """Everything the features depend on, as plain JSON."""
    on_gpu = backbone.device.type == "cuda"
    return {
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
        "images_per_pass": _pass_size(backbone, config),
        "images": split.fingerprint(),
        "n_images": len(index),
        "index_sha256": sha256([index.tobytes()]),
        "versions": {library: version(library) for library in _LIBRARIES},
    }


def _read_cache(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """The cached features, or None if there are none or the file is not what was written."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if about["features_sha256"] != file_sha256(path):
            raise ValueError("checksum differs")
        # Copy on write: torch can take it without a warning, and the file stays as it is.
        features: NDArray[np.float32] = np.load(path, mmap_mode="c", allow_pickle=False)
        if features.shape != shape or features.dtype != np.float32:
            raise ValueError(f"{features.dtype} {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("values that are NaN or infinite")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as e:
        warnings.warn(
            f"cached features {path} are damaged ({e}): computing them again", stacklevel=3
        )
        return None
    return features


def _write_cache(path: Path, features: NDArray[np.float32], key: dict[str, Any]) -> None:
    """Features first, then the .json with their checksum: half a pair never passes the check."""
    try:
        with Lock(path.with_suffix(".lock")):
            with whole(path) as part, part.open("xb") as file:
                np.save(file, features, allow_pickle=False)
            about = {"key": key, "features_sha256": file_sha256(path)}
            with whole(path.with_suffix(".json")) as part:
                part.write_text(json.dumps(about, indent=1), encoding="utf-8")
    except TimeoutError:
        pass  # another process is writing the same features
    except OSError as e:
        # The features themselves are there; a full disk must not cost the run.
        warnings.warn(f"features could not be cached in {path.parent}: {e}", stacklevel=3)
