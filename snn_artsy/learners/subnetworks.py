"""Sub-networks beside the frozen ViT: one adapter on h_0, or one in every transformer block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import ConfigError
from snn_artsy.config import ANNConfig
from snn_artsy.learners.base import Batch, Task
from snn_artsy.learners.prototypes import cosine_scores
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.state import modules
from snn_artsy.learners.tasks import take

# Images in one pass of an adapted ViT when nothing is learnt; bounds memory.
ANSWER_BATCH = 64


class Bottleneck(nn.Module):
    """s W_up ReLU(W_down x), without residual (Chen et al. 2022, AdaptFormer); W_up = 0 at start.

    Args:
        dim: D.
        config: ``bottleneck`` r and ``scale`` s.
        generator: Start of W_down.
    """

    def __init__(self, dim: int, config: ANNConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = config.scale
        self.down = nn.Linear(dim, config.bottleneck)
        self.up = nn.Linear(config.bottleneck, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5, generator=generator)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.scale * self.up(F.relu(self.down(x)))


class HeadAdapter(Bottleneck):
    """h_t = a bottleneck's answer to h_0: placement ``head``. No pass of the ViT of its own."""

    vit_passes = 0

    def answer(self, batch: Batch) -> Tensor:
        """h_t, what the sub-network adds to h_0: [B, D]."""
        return self(batch.features)


class BlockAdapters(nn.Module):
    """h_t = E_t(x) - h_0 with E_t the ViT with a bottleneck beside the MLP of each block.

    x <- x + MLP(LN(x)) + s W_up ReLU(W_down x) in every block, x being the MLP's input before its
    norm (Chen et al. 2022, AdaptFormer; the placement of EASE, Zhou et al. 2024). The ViT itself
    stays frozen, is shared, and is not part of ``state_dict``. Each answer takes a pass of its own.

    Raises:
        ConfigError: The backbone has no transformer blocks with ``norm2`` and ``mlp``.
    """

    vit_passes = 1

    def __init__(
        self, backbone: FrozenBackbone, config: ANNConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        blocks: Any = getattr(backbone.vit, "blocks", None)
        if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not all(
            hasattr(block, "norm2") and hasattr(block, "mlp") for block in blocks
        ):
            raise ConfigError(
                "ann.placement",
                f"{backbone.name!r} has no transformer blocks with norm2 and mlp to "
                "put adapters in; use 'head', or one of timm's vit_* or deit_* models",
            )
        # in a tuple, so that the shared ViT is no sub-module of every sub-network
        self._shared = (backbone, list(blocks))
        width = int(backbone.vit.embed_dim)  # type: ignore[arg-type]
        self.adapters = nn.ModuleList(Bottleneck(width, config, generator) for _ in blocks)

    def forward(self, images: Tensor) -> Tensor:
        """E_t(x) of transformed images: [B, 3, H, W] -> [B, D]."""
        backbone, _ = self._shared
        with self._in_place():
            return backbone.embed(images.to(backbone.device))

    def answer(self, batch: Batch) -> Tensor:
        """h_t, what the sub-network adds to h_0: [B, D]; the images are loaded."""
        if torch.is_grad_enabled():
            return self(batch.images) - batch.features
        rows = torch.arange(len(batch), device=batch.index.device).split(ANSWER_BATCH)
        parts = [self(take(batch, r).images) for r in rows]
        return torch.cat([batch.features[:0], *parts]) - batch.features

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """The adapters at work in the shared ViT; it is as before afterwards."""
        blocks: list[Any] = self._shared[1]
        entered: dict[int, Tensor] = {}  # x before the norm of each block's MLP

        def keep(number: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entered[number] = inputs[0]

        def add(number: int, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output + self.adapters[number](entered.pop(number))

        hooks = [b.norm2.register_forward_pre_hook(partial(keep, i)) for i, b in enumerate(blocks)]
        hooks += [b.register_forward_hook(partial(add, i)) for i, b in enumerate(blocks)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


SubNetwork = HeadAdapter | BlockAdapters

Build = Callable[[torch.Generator], SubNetwork]
"""A new sub-network of the configured kind, its start drawn from a generator."""


def builder(
    config: ANNConfig, dim: int, device: torch.device | str, backbone: FrozenBackbone | None = None
) -> Build:
    """Makes sub-networks as ``config.placement`` says; ``blocks`` needs the backbone."""
    if config.placement == "head":
        return lambda generator: HeadAdapter(dim, config, generator).to(device)
    if backbone is None:
        raise ValueError("adapters in the blocks need the backbone")
    return lambda generator: BlockAdapters(backbone, config, generator).to(device)


def train(network: SubNetwork, task: Task, config: ANNConfig, generator: torch.Generator) -> None:
    """Cross-entropy of a cosine classifier on h_0 + h_t over the task's classes; freezes h_t.

    The classifier's weights start at the class means of h_0 and are dropped afterwards; its scale
    is learnt (CosineLinear of the CIL toolboxes). Images are not augmented (our definition).
    """
    data = task.train
    target = data.labels - task.classes[0]
    means = torch.stack([data.features[data.labels == c].mean(0) for c in task.classes])
    weight = nn.Parameter(F.normalize(means, dim=1))
    sigma = nn.Parameter(data.features.new_tensor(10.0))

    def loss(rows: Tensor) -> Tensor:
        rows = rows.to(target.device)
        part = take(data, rows)
        scores = cosine_scores(part.features + network.answer(part), weight)
        return F.cross_entropy(sigma * scores, target[rows])

    minimise(loss, [*network.parameters(), weight, sigma], len(data), config, generator)
    network.requires_grad_(False)


def embed(networks: Sequence[SubNetwork], batch: Batch) -> Tensor:
    """h_0 + h_t of each sub-network, [B, N, D], without gradients."""
    with torch.no_grad():
        return torch.stack([batch.features + n.answer(batch) for n in networks], dim=1)


def embed_training(networks: Sequence[SubNetwork], task: Task) -> tuple[Tensor, Tensor]:
    """`embed` of all of a task's training and validation samples: [n, N, D], labels [n]."""
    parts = (task.train, task.validation)
    return torch.cat([embed(networks, p) for p in parts]), torch.cat([p.labels for p in parts])


def passes(networks: Sequence[SubNetwork], batch: Batch, with_h0: bool) -> Tensor:
    """Passes of the ViT that each sample took, int64 [B]: one in each sub-network that has its own,
    and one more where h_0 itself is used (or where no sub-network has its own)."""
    own = sum(n.vit_passes for n in networks)
    return torch.full((len(batch),), max(own + with_h0, 1))


def states(networks: Sequence[SubNetwork]) -> dict[str, Tensor]:
    """Parameters of sub-networks for a learner's state_dict."""
    return {
        f"subnetworks.{t}.{key}": value
        for t, network in enumerate(networks)
        for key, value in network.state_dict().items()
    }


def rebuilt(build: Build, state: dict[str, Tensor]) -> list[SubNetwork]:
    """Sub-networks that `states` took apart, on the device where they are built; frozen."""
    networks = []
    for own in modules(state, "subnetworks."):
        network = build(torch.Generator())  # what is drawn here is replaced at once
        network.load_state_dict(own)
        networks.append(network.requires_grad_(False))
    return networks


def n_products(module: nn.Module) -> int:
    """Products of one sample's pass through a module's linear layers."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def n_parameters(networks: Sequence[SubNetwork]) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())
