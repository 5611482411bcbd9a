"""The frozen vision transformer E_0, whole or as a trunk and a tail."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_artsy.backbone.exported import AsModule, ExportedPass, require_engine
from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import BackboneConfig
from snn_artsy.data.sources import ImageSplit
from snn_artsy.files import sha256
from snn_artsy.weights_file import load_weights

RANDOM_WEIGHTS_SEED = 0
"""Seed of the weights when neither published nor local ones are asked for."""


class FrozenBackbone(nn.Module):
    """A timm model that never learns: no gradient, and in eval mode whatever its parent does.

    Args:
        vit: The model, already with its weights.
        data_config: timm's data configuration: input_size, interpolation, mean, std, crop_pct.
        name: Its name, for the records and the cache key.
        precision: ``float32`` or ``bfloat16`` arithmetic in the forward pass.
        engine: What passes of images run on: ``torch`` or ``openvino``; what goes on from the
            trunk's tokens is torch's in either case.
        resizing: Whose resizing the transform has: ``pillow`` or ``torch``.

    Attributes:
        vit: The timm model.
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
        engine: str = "torch",
        resizing: str = "pillow",
    ) -> None:
        super().__init__()
        from timm.data.transforms_factory import create_transform

        self.vit = vit.requires_grad_(False)
        self.name = name
        self.precision, self.engine = precision, engine
        self._exported: dict[tuple[int | None, str, int], ExportedPass] = {}
        self.transform: Callable[[Any], Tensor] = create_transform(
            **dict(data_config), is_training=False
        )
        if resizing == "torch":
            from snn_artsy.backbone.resizing import ResizedByTorch

            self.transform = ResizedByTorch(self.transform, name)
        self.input_size: tuple[int, ...] = tuple(data_config["input_size"])
        self.dim = int(getattr(vit, "head_hidden_size", None) or vit.num_features)  # type: ignore[arg-type]
        self.train(False)

    @classmethod
    def build(cls, config: BackboneConfig, device: torch.device | str) -> FrozenBackbone:
        """The backbone that ``config`` names, on ``device``; where it leaves the precision open, in
        float32 until `settle_precision` is asked.

        Raises:
            ConfigError: Unknown model, unreadable or unfitting checkpoint, no download possible,
                weights that are NaN or infinite, an engine or a resizing that cannot be had.
        """
        require_engine(config.engine, device)
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
        precision = "float32" if config.precision == "auto" else config.precision
        return cls(vit, data_config, config.name, precision, config.engine, config.resizing).to(
            device
        )

    @property
    def device(self) -> torch.device:
        return next(self.vit.parameters()).device

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in eval mode: a parent's ``train()`` must not change dropout or norms here."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """h_0 of transformed images: [B, 3, H, W] -> float32 [B, D]."""
        if self.engine == "openvino":
            return self._pass(images, None)
        with torch.no_grad():
            return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        """As `forward`, with whatever torch does about gradients."""
        with self._arithmetic():
            return self._embedded(images).float()

    def first_adapted(self, last: int | None) -> int:
        """Number of the first of the ``last`` blocks, those with adapters; None: all blocks.

        Raises:
            ConfigError: There are fewer, or no blocks whose parts are known.
        """
        from timm.models.vision_transformer import Block, VisionTransformer

        vit, blocks = self.vit, getattr(self.vit, "blocks", ())
        if (
            not isinstance(vit, VisionTransformer)
            or type(vit).forward_features is not VisionTransformer.forward_features
            or not all(type(block) is Block for block in blocks)
        ):
            raise ConfigError(
                "ann.placement",
                f"{self.name!r} has no transformer blocks with norm2 and mlp to "
                "put adapters in; use 'head', or one of timm's vit_* or deit_* models",
            )
        if last is not None and last > len(blocks):
            raise ConfigError(
                "ann.blocks",
                f"{self.name!r} has {len(blocks)} blocks and not {last}; use at most so many",
            )
        return 0 if last is None else len(blocks) - last

    def trunk(self, images: Tensor, first: int) -> Tensor:
        """What all sub-networks with adapters from block ``first`` on share, without gradients.

        Returns:
            [B, 2, T, D]: tokens that enter the MLP of block ``first``, as the adapter beside it
            takes them, and tokens that leave that block, to which the adapter's output is added. T
            counts those that h_0 depends on.
        """
        if self.engine == "openvino":
            return self._pass(images, first)
        with torch.no_grad(), self._arithmetic():
            return self._tokens(images, first).float()

    def trunk_shape(self, first: int) -> tuple[int, ...]:
        """Of an image's `trunk`: (2, T, D); by torch, whatever computes the passes."""
        blank = torch.zeros(1, *self.input_size, device=self.device)
        with torch.no_grad(), self._arithmetic():
            return tuple(self._tokens(blank, first).shape[1:])

    def trunk_products(self, first: int) -> int:
        """Multiplications that an image's `trunk` takes at least: in the linear layers of the
        blocks before ``first``, for every patch."""
        blocks: Any = self.vit.blocks
        weights = sum(p.numel() for block in blocks[:first] for p in block.parameters())
        return weights * int(self.vit.patch_embed.num_patches)  # type: ignore[union-attr, arg-type]

    def rounded(self, images: Tensor, first: int) -> Tensor:
        """`trunk` as it is kept, float16.

        Raises:
            NotFinite: A token is NaN, infinite, or too large for float16.
        """
        tokens = self.trunk(images, first).half()
        if not tokens.isfinite().all():
            raise NotFinite(
                f"backbone: tokens in the blocks of {self.name} are NaN, infinite or beyond 65504, "
                "the most that float16 holds; use ann.placement head, or other weights"
            )
        return tokens

    def split(self, images: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """h_0 float32 [B, D], and the tokens of `trunk`, float16.

        h_0 is that of the rounded tokens, so that a sub-network which goes on from them and adds
        nothing answers exactly h_0.

        Raises:
            NotFinite: As `rounded`.
        """
        tokens = self.rounded(images, first)
        with torch.no_grad():
            return self.tail(tokens.float(), first), tokens

    def tail(self, tokens: Tensor, first: int, beside: Sequence[nn.Module] = ()) -> Tensor:
        """The embedding from the tokens of `trunk`: [B, 2, T, D] -> float32 [B, D].

        Args:
            beside: For each block from there on a module that takes the MLP's input before its
                norm; its output is added to the MLP's, and gradients flow through it.
        """
        vit: Any = self.vit
        x, out = tokens.unbind(1)
        with self._arithmetic():
            for number in range(first, len(vit.blocks)):
                if number > first:
                    x = self._attended(number, out)
                    out = _after_mlp(vit.blocks[number], x)
                if beside:
                    out = out + beside[number - first](x)
            embedding: Tensor = vit.forward_head(vit.norm(out), pre_logits=True)
        return embedding.float()

    def class_token(self, tokens: Tensor, first: int, n: int) -> Tensor:
        """The class token after the first ``n`` blocks, from the tokens of `trunk`, which have
        passed ``first + 1``: [B, 2, T, D] -> float32 [B, D], without gradients."""
        _, out = tokens.unbind(1)
        with torch.no_grad(), self._arithmetic():
            for number in range(first + 1, n):
                x = self._attended(number, out)
                out = _after_mlp(self.vit.blocks[number], x)  # type: ignore[index]
        return out[:, 0].float()

    def grid(self, tokens: Tensor, n: int) -> Tensor:
        """What is where in an image, from the tokens of `trunk`: [B, 2, T, D] -> float32
        [B, n * n * D].

        Means of the patch tokens that leave block ``first`` over n x n equal parts of the image,
        row by row. Parts overlap where n does not divide the patches (adaptive average pooling).
        """
        vit: Any = self.vit
        patches = tokens[:, 1, vit.num_prefix_tokens :].float()
        rows = patches.transpose(1, 2).unflatten(2, tuple(vit.patch_embed.grid_size))
        return F.adaptive_avg_pool2d(rows, n).permute(0, 2, 3, 1).flatten(1)

    def require_grid(self, first: int, n: int, key: str) -> None:
        """Refuse parts of an image that cannot be had from the tokens of `trunk`.

        Args:
            key: Of the configuration, which asks for n x n parts.

        Raises:
            ConfigError: No patch's token is kept, or an image has fewer patches.
        """
        vit: Any = self.vit
        rows, columns = vit.patch_embed.grid_size
        if first == len(vit.blocks) - 1:
            raise ConfigError(
                key, "with ann.blocks 1 no patch's token is kept; use at least 2 blocks", n
            )
        if n > min(rows, columns):
            raise ConfigError(
                key, f"{self.name!r} has {rows} x {columns} patches; use fewer parts", n
            )

    def require_class_token(self, first: int, n: int) -> None:
        """Refuse a block whose class token cannot be had from the tokens of `trunk`.

        Raises:
            ConfigError: There is no such block, it comes before the tokens, or there is no class
                token.
        """
        vit: Any = self.vit
        depth, key, value = len(vit.blocks), "snn.tap", f"block_{n}"
        if vit.cls_token is None:
            reason = f"{self.name!r} has no class token; use h0 or first"
        elif n > depth:
            reason = f"{self.name!r} has {depth} blocks; use at most block_{depth}"
        elif n <= first:
            reason = (
                f"what is kept of an image has passed {first + 1} blocks of {depth} (ann.blocks "
                f"{depth - first}); use block_{first + 1} to block_{depth}, or more ann.blocks"
            )
        else:
            return
        raise ConfigError(key, reason, value)

    def _embedded(self, images: Tensor) -> Tensor:
        vit: Any = self.vit
        embedding: Tensor = vit.forward_head(vit.forward_features(images), pre_logits=True)
        return embedding

    def _tokens(self, images: Tensor, first: int) -> Tensor:
        vit: Any = self.vit
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        for block in vit.blocks[:first]:
            x = block(x)
        x = self._attended(first, x)
        return torch.stack([x, _after_mlp(vit.blocks[first], x)], dim=1)

    def export(self, n_images: int, first: int | None) -> None:
        """Have OpenVINO's graph made for so many images, if that computes and there is none yet.

        torch may fail to export a model while other threads compute.

        Args:
            first: Of `trunk`; None: of `forward`.
        """
        if self.engine == "openvino":
            self._exported_pass(first).compile((n_images, *self.input_size))

    def _pass(self, images: Tensor, first: int | None) -> Tensor:
        """`embed`, or `trunk` up to block ``first``, by OpenVINO, without gradients."""
        return self._exported_pass(first)(images)

    def _exported_pass(self, first: int | None) -> ExportedPass:
        # A graph holds the weights that there were; those that somebody has changed need another.
        changes = sum(weight._version for weight in self.vit.state_dict().values())
        kind = (first, self.precision, changes)
        if kind not in self._exported:
            function = self._embedded if first is None else partial(self._tokens, first=first)
            self._exported[kind] = ExportedPass(AsModule(function, self.vit), self.precision)
        return self._exported[kind]

    def _attended(self, number: int, x: Tensor) -> Tensor:
        """Tokens after a block's attention; of the last block those that h_0 is made of."""
        vit: Any = self.vit
        block = vit.blocks[number]
        x = x + block.ls1(block.attn(block.norm1(x)))
        of_prefix = vit.global_pool == "token" and vit.attn_pool is None
        last = number == len(vit.blocks) - 1
        return x[:, : vit.num_prefix_tokens] if last and of_prefix else x

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        bfloat16 = self.precision == "bfloat16"
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16),
            _exact_convolutions(self.device),
        ):
            yield

    def load_images(self, split: ImageSplit, index: NDArray[np.int64]) -> Tensor:
        """Transformed images of these samples, float32 [n, 3, H, W], on the CPU."""
        return torch.stack([self.transform(split.load(int(i))) for i in index])

    def weights_sha256(self) -> str:
        """SHA-256 over name, dtype, shape and bytes of every tensor, buffers included."""
        return sha256(pieces_of(self.vit.state_dict().items()))


def _after_mlp(block: Any, x: Tensor) -> Tensor:
    return x + block.ls2(block.mlp(block.norm2(x)))


def pieces_of(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[bytes | memoryview]:
    """Name, type, shape and bytes of each tensor, in the order of their names, for `sha256`."""
    for name, tensor in sorted(tensors):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        whole = tensor.detach().cpu().contiguous()
        # an axis of one element may have any stride and still count as contiguous
        flat = whole.as_strided((whole.numel(),), (1,))
        yield flat.view(torch.uint8).numpy().data


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
