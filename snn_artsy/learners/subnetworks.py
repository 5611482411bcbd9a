"""Sub-networks beside the frozen ViT: one adapter on h_0, or one in every transformer block."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.backbone import FrozenBackbone, pieces_of
from snn_artsy.checks import ConfigError
from snn_artsy.config import ANNConfig
from snn_artsy.files import sha256
from snn_artsy.learners.base import Batch, Task
from snn_artsy.learners.prototypes import class_means, cosine_scores, means_of_answers
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.shelf import Shelf
from snn_artsy.learners.state import modules, set_generator
from snn_artsy.learners.tasks import PartOf, take, whole
from snn_artsy.learners.together import together

# Images in one pass of an adapted ViT when nothing is learnt; bounds memory. On a CPU more would
# leave the processor's caches (`snn_artsy.backbone.features.CPU_PASS`).
ANSWER_BATCH = {"cpu": 16, "cuda": 64}


class Bottleneck(nn.Module):
    """s W_up ReLU(W_down x), without residual (Chen et al. 2022, AdaptFormer); W_up = 0 at start.

    Args:
        dim: D.
        config: ``bottleneck`` r, ``scale`` s, and ``dropout`` of hidden units in training.
        generator: Start of W_down.

    Attributes:
        noise: Draws which hidden units drop out; None: all take part.
    """

    noise: torch.Generator | None = None

    def __init__(self, dim: int, config: ANNConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.scale, self.dropout = config.scale, config.dropout
        self.down = nn.Linear(dim, config.bottleneck)
        self.up = nn.Linear(config.bottleneck, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5, generator=generator)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        hidden = F.relu(self.down(x))
        if self.noise is not None and self.dropout:
            # drawn from a generator in checkpoints, so that a resumed run drops the same units
            mask = torch.rand(hidden.shape, generator=self.noise) >= self.dropout
            hidden = hidden * mask.to(hidden.device) / (1.0 - self.dropout)
        return self.scale * self.up(hidden)


def in_parts(batch: Batch, of_part: Callable[[Batch], Tensor], width: int | None = None) -> Tensor:
    """What a function gives for a batch, a bounded number of images at a time: [B, width], by
    default [B, D]."""
    device = batch.index.device
    rows = torch.arange(len(batch), device=device).split(ANSWER_BATCH[device.type])
    parts = [of_part(take(batch, r)).to(device) for r in rows]
    return torch.cat([batch.features.new_zeros(0, width or batch.features.shape[1]), *parts])


class HeadAdapter(Bottleneck):
    """h_t = a bottleneck's answer to h_0: placement ``head``. No pass of the ViT of its own."""

    vit_passes = 0.0

    def answer(self, batch: Batch) -> Tensor:
        """h_t, what the sub-network adds to h_0: [B, D]."""
        return self(batch.features)

    def mean_answers(self, features: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
        """Mean h_t of each class, [n, D] -> [C, D]. W_up is linear, so that of a class the mean of
        its hidden units, of which there are far fewer, says it all."""

        def hidden(rows: slice) -> Tensor:
            return F.relu(self.down(features[rows]))

        with torch.no_grad():
            answers: Tensor = self.scale * self.up(means_of_answers(hidden, labels, classes))
        return answers


class BlockAdapters(nn.Module):
    """h_t = E_t(x) - h_0 with E_t the ViT with a bottleneck beside the MLP of its last blocks.

    x <- x + MLP(LN(x)) + s W_up ReLU(W_down x) in each of them (``config.blocks``, or all), x being
    the MLP's input before its norm (Chen et al. 2022, AdaptFormer; the placement of EASE, Zhou et
    al. 2024). The ViT itself stays frozen, is shared, and is not part of ``state_dict``. Each
    answer takes a pass through these blocks, but for what comes before the first adapter, which is
    the same for all sub-networks.

    Args:
        shelf: Keeps what was trained and answered, for sub-networks that are equal.

    Attributes:
        vit_passes: Share of the ViT's blocks that an answer computes.
        noise: Draws which patches are left out in training; None: none are.

    Raises:
        ConfigError: The backbone has no transformer blocks with ``norm2`` and ``mlp``, or fewer.
    """

    noise: torch.Generator | None = None

    def __init__(
        self,
        backbone: FrozenBackbone,
        config: ANNConfig,
        generator: torch.Generator,
        shelf: Shelf | None = None,
    ) -> None:
        super().__init__()
        self.shelf = shelf
        self.patch_dropout = config.patch_dropout
        self.first = backbone.first_adapted(config.blocks)
        depth = len(backbone.vit.blocks)  # type: ignore[arg-type]
        self.vit_passes = (depth - self.first) / depth
        # in a tuple, so that the shared ViT is no sub-module of every sub-network
        self._shared = (backbone,)
        width = int(backbone.vit.embed_dim)  # type: ignore[arg-type]
        self.adapters = nn.ModuleList(
            Bottleneck(width, config, generator) for _ in range(self.first, depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """E_t(x) from the tokens at the first adapter: [B, 2, T, D] -> [B, D]."""
        (backbone,) = self._shared
        if self.noise is not None and self.patch_dropout:
            # class and register tokens stay; a batch's images lose the same patches
            kept = int(backbone.vit.num_prefix_tokens)  # type: ignore[arg-type]
            n = tokens.shape[2] - kept
            seen = torch.randperm(n, generator=self.noise)[: n - int(self.patch_dropout * n)]
            tokens = tokens[:, :, torch.cat([torch.arange(kept), kept + seen])]
        return backbone.tail(tokens.to(backbone.device).float(), self.first, list(self.adapters))

    def answer(self, batch: Batch) -> Tensor:
        """h_t, what the sub-network adds to h_0: [B, D]; the tokens are loaded."""
        if torch.is_grad_enabled():
            return self(batch.tokens) - batch.features
        shelf, own = self.shelf, self.shelf and _contents(self)

        def embedded(part: Batch) -> Tensor:
            images = _images(part)
            if shelf is None or images is None:
                return self(part.tokens)
            # a part's images are computed together, whoever asks for them: the same numbers
            return shelf.get(("answer", own, images), lambda: (self(part.tokens),))[0]

        return in_parts(batch, embedded) - batch.features

    def bottleneck(self, batch: Batch) -> Tensor:
        """ReLU(W_down x) of the last block's adapter at the class token, [B, r]; no gradients."""
        seen: list[Tensor] = []
        down: nn.Module = self.adapters[-1].down  # type: ignore[assignment]
        hook = down.register_forward_hook(lambda _m, _x, hidden: seen.append(F.relu(hidden[:, 0])))
        try:
            with torch.no_grad():
                in_parts(batch, lambda part: self(part.tokens))
        finally:
            hook.remove()
        return torch.cat(seen)


SubNetwork = HeadAdapter | BlockAdapters

Build = Callable[[torch.Generator], SubNetwork]
"""A new sub-network of the configured kind, its start drawn from a generator."""


def builder(
    config: ANNConfig,
    dim: int,
    device: torch.device | str,
    backbone: FrozenBackbone | None = None,
    shelf: Shelf | None = None,
) -> Build:
    """Makes sub-networks as ``config.placement`` says; ``blocks`` needs the backbone, and trains
    and asks equal ones once with a shelf."""
    if config.placement == "head":
        return lambda generator: HeadAdapter(dim, config, generator).to(device)
    if backbone is None:
        raise ValueError("adapters in the blocks need the backbone")
    if config.dropout and together() is not None:
        raise ConfigError(
            "ann.dropout",
            "several processes would drop other units than one; use 0, or ann.patch_dropout",
            config.dropout,
        )
    return lambda generator: BlockAdapters(backbone, config, generator, shelf).to(device)


def drawn_from(config: ANNConfig, seed: int, generator: torch.Generator) -> torch.Generator:
    """What sub-networks draw their numbers from: adapters in the blocks from a generator of their
    own, so that learners with the same seed have the same ones, whatever else these draw."""
    if config.placement == "head":
        return generator
    return torch.Generator().manual_seed(seed)


def adapters_of(network: nn.Module) -> BlockAdapters | None:
    """The adapters in the blocks that a sub-network is or holds; None: it sits on h_0."""
    return next((m for m in network.modules() if isinstance(m, BlockAdapters)), None)


def begun(
    build: Build, earlier: Sequence[SubNetwork], config: ANNConfig, generator: torch.Generator
) -> SubNetwork:
    """The sub-network of a new task before it is trained: a fresh one, or with
    ``continue_from_last`` one that starts as the last task's ended (the earlier ones stay)."""
    network = build(generator)
    if config.continue_from_last and earlier:
        network.load_state_dict(earlier[-1].state_dict())
    return network


def train(network: SubNetwork, task: Task, config: ANNConfig, generator: torch.Generator) -> None:
    """Cross-entropy of a cosine classifier on h_0 + h_t over the task's classes; freezes h_t.

    The classifier's weights start at the class means of h_0 and are dropped afterwards; its scale
    is learnt (CosineLinear of the CIL toolboxes). With ``augmentation`` adapters in the blocks see
    every image augmented anew in each epoch. With a shelf (`BlockAdapters`) an equal sub-network
    that was trained on the same images with the same random numbers before is taken from there.
    """
    adapters = adapters_of(network)
    shelf, images = None if adapters is None else adapters.shelf, _images(task.train)
    if shelf is None or images is None:
        _descend(network, task, config, generator)
    else:
        labels, drawn = task.train.labels.cpu(), generator.get_state()
        about = sha256(pieces_of([("labels", labels), ("generator", drawn)]))
        # whatever earlier sub-networks see of the task takes no part in training a new one
        trained_by = astuple(replace(config, earlier="all"))
        key = ("trained", _contents(network), images, about, trained_by)

        def trained() -> tuple[Tensor, ...]:
            _descend(network, task, config, generator)
            values = (value.detach().clone() for value in network.state_dict().values())
            return *values, generator.get_state()

        *values, state = shelf.get(key, trained)
        network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
        set_generator(generator, state)
    network.requires_grad_(False)


def _contents(network: nn.Module) -> str:
    """SHA-256 of a sub-network's parameters."""
    return sha256(pieces_of(network.state_dict().items()))


def _images(batch: Batch) -> Hashable | None:
    """Which images of a run a batch holds, in order; None if their numbers do not tell."""
    load = batch.load_tokens
    if not isinstance(load, PartOf):
        return None
    # validation images are numbered in the training split
    return load.split == "test", load.index.tobytes()


def _descend(
    network: SubNetwork, task: Task, config: ANNConfig, generator: torch.Generator
) -> None:
    data = task.train
    target = data.labels - task.classes[0]
    means = torch.stack([data.features[data.labels == c].mean(0) for c in task.classes])
    weight = nn.Parameter(F.normalize(means, dim=1))
    sigma = nn.Parameter(data.features.new_tensor(10.0))

    adapters = adapters_of(network)

    def embedded(part: Batch) -> Tensor:
        if config.augmentation == "none" or adapters is None:
            return part.features + network.answer(part)
        # E_t(x) itself: nobody needs the h_0 of an augmented image
        augmented: Tensor = adapters(part.augmented(_draw(generator)))
        return augmented

    def loss(rows: Tensor) -> Tensor:
        rows = rows.to(target.device)
        scores = cosine_scores(embedded(take(data, rows)), weight)
        return F.cross_entropy(sigma * scores, target[rows])

    noisy = [m for m in network.modules() if isinstance(m, (Bottleneck, BlockAdapters))]
    for module in noisy:
        module.noise = generator
    parameters = [*network.parameters(), weight, sigma]
    processes = None if adapters is None else together()
    minimise(loss, parameters, len(data), config, generator, config.optimiser, processes=processes)
    for module in noisy:
        module.noise = None


def _draw(generator: torch.Generator) -> int:
    """How a batch's images are augmented: drawn from a generator that checkpoints keep."""
    return int(torch.randint(2**31, (), generator=generator))


def embed(networks: Sequence[SubNetwork], batch: Batch) -> Tensor:
    """h_0 + h_t of each sub-network, [B, N, D], without gradients."""
    with torch.no_grad():
        return torch.stack([batch.features + n.answer(batch) for n in networks], dim=1)


def shown(task: Task, number: int, n_earlier: int, config: ANNConfig) -> Tensor | None:
    """Samples of a new task that an earlier sub-network is shown, or the task's own one.

    Args:
        number: Of the sub-network among those that the task's samples are dealt to; ``n_earlier``
            for the task's own.
        n_earlier: How many there are.

    Returns:
        None: all of them; with ``config.earlier: dealt`` rows int64 [k] of training samples
        followed by validation samples: of each class every n-th, and one at least.
    """
    if config.earlier == "all" or number == n_earlier:
        return None
    rows, before = [], 0
    for part in (task.train, task.validation):
        for c in part.labels.unique():
            own = (part.labels == c).nonzero()[:, 0] + before
            every = own[number::n_earlier]
            rows.append(every if len(every) else own[number % len(own)][None])
        before += len(part)
    return torch.cat(rows).sort().values


def mean_answers(
    network: SubNetwork, task: Task, features: Tensor, labels: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Mean h_t of a task's classes over all its samples (`all_training`), or those that a
    sub-network is `shown`: [C, D]."""
    seen: slice | Tensor = slice(None) if rows is None else rows
    if isinstance(network, HeadAdapter):
        return network.mean_answers(features[seen], labels[seen], task.classes)
    told = embed_training(network, task, rows)
    return class_means(told - features[seen], labels[seen], task.classes)


def embed_training(network: SubNetwork, task: Task, rows: Tensor | None = None) -> Tensor:
    """h_0 + h_t of one sub-network for all of a task's training and validation samples, or for
    those that it is `shown`, [n, D]: of all sub-networks at once it would take N times a task's
    features."""
    if rows is not None:
        return embed([network], take(whole(task), rows))[:, 0]
    return torch.cat([embed([network], part)[:, 0] for part in (task.train, task.validation)])


def parts_of_images(batch: Batch, backbone: FrozenBackbone, n: int) -> Tensor:
    """What is where in each image, from the tokens that sub-networks go on from
    (`FrozenBackbone.grid`): [B, n * n * D]."""
    width = n * n * batch.features.shape[1]
    return in_parts(batch, lambda part: backbone.grid(part.tokens, n), width)


def passes(networks: Sequence[SubNetwork], batch: Batch, with_h0: bool) -> Tensor:
    """Passes of the ViT that each sample took, [B]: the blocks that all sub-networks share, once,
    those of each sub-network that has its own, and once more where h_0 itself is used (or where no
    sub-network has its own)."""
    own = [n.vit_passes for n in networks if n.vit_passes]
    shared = 1.0 if with_h0 or not own else 1.0 - own[0]
    return torch.full((len(batch),), shared + sum(own))


def states(networks: Sequence[SubNetwork]) -> dict[str, Tensor]:
    """Parameters of sub-networks for a learner's state_dict."""
    return {
        f"subnetworks.{t}.{key}": value
        for t, network in enumerate(networks)
        for key, value in network.state_dict().items()
    }


def rebuilt(build: Build, state: dict[str, Tensor]) -> list[SubNetwork]:
    """Rebuild the frozen sub-networks whose parameters `states` has named."""
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
