"""Artsy (ANN), its gates, and the baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from snn_artsy.checks import one_of, positive, require, within
from snn_artsy.config_builder import take_types


@dataclass(frozen=True)
class GateConfig:
    """The artificial synapse's threshold and what stands in for other tasks' data.

    Args:
        replay: ``gaussian``: features of tasks that are gone are drawn from per-class Gaussians;
            ``exemplars``: a few training samples of each class are kept, chosen by herding
            (Rebuffi et al. 2017), for adapters in the blocks with their images, which new
            sub-networks see (of ``artsy_best`` and of spiking gates in the blocks, too); ``none``:
            only the current task's data is used.
        pseudo_per_class: Gaussian samples for each class that is gone.
        exemplars_per_class: Samples kept of each class (20: Rebuffi et al. 2017, for 100 classes).
        shrinkage: Shrinkage of the stored covariance towards a multiple of the identity; null: what
            its samples ask for (oracle approximating shrinkage; Chen et al. 2010).
        covariance: Each ``task`` has its own, or all classes so far share one (``pooled``), which
            more samples tell of and which takes less memory.
        threshold: thr_t: ``balanced``: largest balanced accuracy on good against bad features;
            ``quantile``: all but the share ``quantile`` of good features open the gate.
        quantile: That share.
        features: What an MLP gate is trained on: ``good`` features (its own task's), ``bad`` ones
            (other tasks'), ``both`` or ``none``.
    """

    replay: Literal["gaussian", "exemplars", "none"] = "gaussian"
    pseudo_per_class: int = 20
    exemplars_per_class: int = 20
    shrinkage: float | None = 0.3
    covariance: Literal["task", "pooled"] = "task"
    threshold: Literal["balanced", "quantile"] = "balanced"
    quantile: float = 0.05
    features: Literal["both", "good", "bad", "none"] = "both"

    def __post_init__(self) -> None:
        take_types(self, "gate.")
        one_of("gate.replay", self.replay, ("gaussian", "exemplars", "none"))
        one_of("gate.covariance", self.covariance, ("task", "pooled"))
        one_of("gate.threshold", self.threshold, ("balanced", "quantile"))
        one_of("gate.features", self.features, ("both", "good", "bad", "none"))
        for name in ("pseudo_per_class", "exemplars_per_class"):
            within(f"gate.{name}", getattr(self, name), 1, 1_000_000, "samples")
        require(0 <= self.quantile < 1, "gate.quantile", self.quantile, "use a share in [0, 1)")
        if self.shrinkage is not None:
            require(0 < self.shrinkage <= 1, "gate.shrinkage", self.shrinkage, "use (0, 1]")


@dataclass(frozen=True)
class ANNConfig:
    """Artsy (ANN): one sub-network for each task, and an MLP as its gate.

    Args:
        placement: ``head``: a bottleneck adapter on h_0, which is extracted once; ``blocks``: one
            beside the MLP of transformer blocks (EASE's geometry), which takes a pass through
            these in training and for each functional sub-network.
        blocks: With ``blocks``, how many of the ViT's last blocks have adapters; default: all.
            What comes before the first adapter is the same for all sub-networks and is computed
            once an image.
        bottleneck: Hidden units r of the adapter.
        scale: s in h_t = s * W_up ReLU(W_down h_0). In the blocks 0.1 moves h_0 by at most 1 % of
            its norm, 1 by about 10 %.
        dropout: Share of the adapter's hidden units that is set to 0 while a sub-network is trained
            (0.1 in LAMDA-PILOT's EASE).
        patch_dropout: With ``blocks``, share of the image's patches that a sub-network does not see
            in a training step, drawn anew in each (PatchDropout; Liu et al. 2023): an augmentation
            of tokens that are computed once, and as much less work.
        augmentation: With ``blocks``, of training images while a sub-network is trained:
            ``crop``: torchvision's RandomResizedCrop of 5 % to all of an image (LAMDA-PILOT);
            ``crop_flip``: half of the crops are mirrored as well, which is for images whose mirror
            images are of the same class, not for signs or digits. The trunk is computed anew for
            each of them.
        continue_from_last: A task's sub-network starts as that of the task before ended, not anew
            (as in the code of MOS; Sun et al. 2025). The earlier one stays as it is.
        earlier: What sub-networks of earlier tasks see of a new task's images, for its prototypes
            and discriminants: ``all`` of them, so that passes grow with the square of the tasks; or
            they are ``dealt`` out among these sub-networks, class by class, so that an image passes
            one of them and passes grow with the tasks (what it costs: docs/benchmarks.md).
        optimiser: ``sgd`` with momentum 0.9, or ``adamw``, which takes a smaller ``lr``.
        epochs, lr, batch_size, weight_decay: Of the optimiser, with a cosine schedule.
        gate_hidden, gate_epochs, gate_lr: The gate MLP (2 epochs in the paper).
    """

    placement: Literal["head", "blocks"] = "head"
    blocks: int | None = None
    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = 0.0
    patch_dropout: float = 0.0
    augmentation: Literal["none", "crop", "crop_flip"] = "none"
    continue_from_last: bool = False
    earlier: Literal["all", "dealt"] = "all"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    epochs: int = 20
    lr: float = 0.05
    batch_size: int = 48
    weight_decay: float = 5e-4
    gate_hidden: int = 64
    gate_epochs: int = 2
    gate_lr: float = 1e-3

    def __post_init__(self) -> None:
        take_types(self, "ann.")
        one_of("ann.placement", self.placement, ("head", "blocks"))
        within("ann.blocks", self.blocks, 1, 1000)
        one_of("ann.augmentation", self.augmentation, ("none", "crop", "crop_flip"))
        one_of("ann.earlier", self.earlier, ("all", "dealt"))
        one_of("ann.optimiser", self.optimiser, ("sgd", "adamw"))
        for name in ("dropout", "patch_dropout"):
            share = getattr(self, name)
            require(0 <= share < 1, f"ann.{name}", share, "use a share in [0, 1)")
        for name in ("bottleneck", "epochs", "batch_size", "gate_hidden", "gate_epochs"):
            within(f"ann.{name}", getattr(self, name), 1, 1_000_000)
        for name in ("scale", "lr", "gate_lr"):
            positive(f"ann.{name}", getattr(self, name))
        require(self.weight_decay >= 0, "ann.weight_decay", self.weight_decay, "use 0 or more")


@dataclass(frozen=True)
class DiscriminantConfig:
    """Artsy (ANN) with discriminant gates (learner ``artsy_ann_lda``; our definition).

    Args:
        scale: s in h_t in place of ``ann.scale`` where sub-networks sit on h_0: gates that err less
            can afford larger answers. Picked on Tiny-ImageNet classes 0-99, which are not the
            benchmark's.
        shrinkage: Of the covariance that all classes share, towards a multiple of the identity.
    """

    scale: float = 2.0
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        take_types(self, "artsy_lda.")
        positive("artsy_lda.scale", self.scale)
        require(0 < self.shrinkage <= 1, "artsy_lda.shrinkage", self.shrinkage, "use (0, 1]")


@dataclass(frozen=True)
class RidgeGateConfig:
    """Artsy (ANN) with gates from a ridge regression (learner ``artsy_ann_ridge``; our use).

    Args:
        scale: s in h_t, as in ``artsy_lda``.
        projection: Random features M, as in ``ranpac``.
    """

    scale: float = 2.0
    projection: int = 2000

    def __post_init__(self) -> None:
        take_types(self, "artsy_ridge.")
        positive("artsy_ridge.scale", self.scale)
        within("artsy_ridge.projection", self.projection, 1, 1_000_000, "features")


MOST_PARTS = 16
"""Of an image's side: whatever looks at all of them grows with the square."""


@dataclass(frozen=True)
class BestGateConfig:
    """Artsy (ANN) with gates by class evidence, which the answer uses (learner ``artsy_best``; our
    definition).

    Args:
        shrinkage: Of discriminants' covariances, towards a multiple of the identity; null: what
            their samples ask for (oracle approximating shrinkage; Chen et al. 2010).
        grid: Gates also see what is where in the image: the means of the trunk's patch tokens over
            so many times so many parts of it; 0: they do not.
        open: How many gates open, those of the likeliest tasks.
        gates: ``likeliest``; or a control: ``shuffled`` gives the tasks' probabilities to tasks in
            an order drawn for each sample; ``open`` takes all sub-networks, and all tasks for
            equally likely; ``first`` opens none, so that the gates' evidence answers alone; with
            ``shut`` gates do not see the first sub-network either, only h_0.
    """

    shrinkage: float | None = None
    grid: int = 0
    open: int = 3
    gates: Literal["likeliest", "shuffled", "open", "first", "shut"] = "likeliest"

    def __post_init__(self) -> None:
        take_types(self, "artsy_best.")
        if self.shrinkage is not None:
            require(0 < self.shrinkage <= 1, "artsy_best.shrinkage", self.shrinkage, "use (0, 1]")
        within("artsy_best.grid", self.grid, 0, MOST_PARTS, "parts")
        within("artsy_best.open", self.open, 1, 1_000_000, "gates")
        one_of("artsy_best.gates", self.gates, ("likeliest", "shuffled", "open", "first", "shut"))


@dataclass(frozen=True)
class FinetuneConfig:
    """Sequential fine-tuning, of a linear head or of one shared adapter.

    The values are those with which LAMDA-PILOT trains an adapter on CIFAR-100 (its
    ``exps/adam_adapter.json``).

    Args:
        epochs, lr, batch_size, weight_decay: SGD with momentum 0.9 and a cosine schedule, in each
            task anew.
        alignment_epochs: After a task the head alone is trained so many epochs more, on samples
            drawn from Gaussians of all classes so far (classifier alignment of SLCA; Zhang et al.
            2023, which has 5); 0: not at all.
    """

    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 48
    weight_decay: float = 5e-4
    alignment_epochs: int = 0

    def __post_init__(self) -> None:
        take_types(self, "finetune.")
        within("finetune.alignment_epochs", self.alignment_epochs, 0, 1_000_000)
        for name in ("epochs", "batch_size"):
            within(f"finetune.{name}", getattr(self, name), 1, 1_000_000)
        positive("finetune.lr", self.lr)
        require(self.weight_decay >= 0, "finetune.weight_decay", self.weight_decay, "use 0 or more")


@dataclass(frozen=True)
class MemoryConfig:
    """Samples that ``er``, ``derpp`` and ``icarl`` keep of earlier tasks, and the classifier on h_0
    that rehearses them.

    Args:
        per_class: Samples kept of each class: of ``er`` and ``derpp`` the last ones that passed (a
            ring buffer), of ``icarl`` by herding. Default: 20 (Rebuffi et al. 2017, for 100
            classes), unless ``total`` is given.
        total: Samples kept in all: of ``er`` and ``derpp`` a reservoir, in which each one that has
            passed is as likely as the others; of ``icarl`` equally many of each class.
        hidden: Units of an MLP whose answer is added to h_0, below the linear classifier; 0: none,
            for ``er`` and ``derpp``.
        epochs, lr, batch_size, weight_decay: SGD with momentum 0.9 and a cosine schedule, in each
            task anew; a batch is rehearsed with as many kept samples.
    """

    per_class: int | None = None
    total: int | None = None
    hidden: int = 64
    epochs: int = 20
    lr: float = 0.05
    batch_size: int = 48
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        take_types(self, "memory.")
        if self.per_class is None and self.total is None:
            object.__setattr__(self, "per_class", 20)
        require(
            self.per_class is None or self.total is None,
            "memory.total",
            self.total,
            "give either memory.per_class or memory.total, not both",
        )
        for name in ("per_class", "total", "epochs", "batch_size"):
            within(f"memory.{name}", getattr(self, name), 1, 1_000_000)
        within("memory.hidden", self.hidden, 0, 1_000_000, "units")
        positive("memory.lr", self.lr)
        require(self.weight_decay >= 0, "memory.weight_decay", self.weight_decay, "use 0 or more")

    def most(self, n_classes: int) -> int:
        """Samples that are kept of so many classes, at most."""
        return n_classes * self.per_class if self.per_class is not None else self.total or 0


@dataclass(frozen=True)
class DERConfig:
    """DER++; its memory is that of ``memory``.

    Args:
        alpha: Weight of kept logits. Both are those of the authors' code for 200 kept images of
            CIFAR-10.
        beta: Weight of kept labels.
    """

    alpha: float = 0.1
    beta: float = 0.5

    def __post_init__(self) -> None:
        take_types(self, "derpp.")
        for name in ("alpha", "beta"):
            require(getattr(self, name) >= 0, f"derpp.{name}", getattr(self, name), "use 0 or more")


@dataclass(frozen=True)
class JointConfig:
    """Joint linear probe on h_0: logistic regression on all data seen so far.

    Args:
        l2: Penalties to choose from, on validation samples: mean cross-entropy + l2/2 W^2, W^2
            the sum of squared weights (our choice of grid). The first task tries all of them.
        max_iterations: Of L-BFGS for each penalty; 1000 in Radford et al. 2021, ours is smaller
            since each fit starts from the last one. ``joint_gradient`` says how well the last one
            converged.
    """

    l2: list[float] = field(
        default_factory=lambda: [1e2, 1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]
    )
    max_iterations: int = 200

    def __post_init__(self) -> None:
        take_types(self, "joint.")
        require(bool(self.l2) and min(self.l2) > 0, "joint.l2", self.l2, "give values above 0")
        within("joint.max_iterations", self.max_iterations, 1, 1_000_000)
        within("joint.l2", len(self.l2), 1, 1000, "values")


@dataclass(frozen=True)
class BinaryMeanConfig:
    """Binarised class means (learner ``binary_mean``; our definition).

    Args:
        share: Of the ON/OFF units that a class has set to 1; the default is about the share of
            functional contacts of the default spiking learner.
    """

    share: float = 0.39

    def __post_init__(self) -> None:
        take_types(self, "binary_mean.")
        require(0 < self.share < 1, "binary_mean.share", self.share, "use a share in (0, 1)")


@dataclass(frozen=True)
class NestedMeanConfig:
    """Nested binarised class means (learner ``nested_mean``; our definition).

    Args:
        levels: How many, with shares spread evenly between 0 and 1; as many as the spiking learner
            has neurons a class take as many bits.
    """

    levels: int = 8

    def __post_init__(self) -> None:
        take_types(self, "nested_mean.")
        within("nested_mean.levels", self.levels, 1, 10_000)


@dataclass(frozen=True)
class EaseConfig:
    """EASE; its adapters are those of ``ann``.

    Args:
        alpha: Weight of the subspaces other than a class's own (0.1: Zhou et al. 2024).
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        take_types(self, "ease.")
        require(self.alpha >= 0, "ease.alpha", self.alpha, "use 0 or more")


@dataclass(frozen=True)
class RanPACConfig:
    """RanPAC; the adapter of its first task is that of ``ann``.

    Args:
        projection: Random features M (10000 in McDonnell et al. 2023; fewer here, since a solution
            takes M^3 operations in each task and 8 M^2 bytes are kept).
        adapt_first: Train an adapter on the first task before the features are frozen (the paper's
            first phase); false: h_0 alone.
    """

    projection: int = 2000
    adapt_first: bool = True

    def __post_init__(self) -> None:
        take_types(self, "ranpac.")
        within("ranpac.projection", self.projection, 1, 1_000_000, "features")
