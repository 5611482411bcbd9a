"""Where images and features come from."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from snn_artsy.checks import named, one_of, require, within
from snn_artsy.config_builder import take_types

SEQUENCE = "sequence"
"""The data set that is made of others."""


@dataclass(frozen=True)
class SourceConfig:
    """One data set of a sequence (``data.sources``); its classes make tasks of their own.

    Args:
        name: As ``data.name``, but for ``sequence``.
        root: Directory of its images, below ``data.root`` unless absolute; default: ``data.root``.
        domain: What it is called in results; default: the last part of ``root``, or ``name``.
        class_range, class_order, n_tasks, increment, base: As in ``data``, of its own classes; one
            task unless ``n_tasks`` or ``increment`` is given.
        train_per_class, test_per_class: As in ``data``; default: those of ``data``.
    """

    name: str = "imagefolder"
    root: str | None = None
    domain: str | None = None
    class_range: list[int] | None = None
    class_order: list[int] | None = None
    n_tasks: int | None = None
    increment: int | None = None
    base: int = 0
    train_per_class: int | None = None
    test_per_class: int | None = None

    def __post_init__(self) -> None:
        take_types(self, "sources.")
        if self.n_tasks is None and self.increment is None:
            object.__setattr__(self, "n_tasks", 1)
        folder = os.path.basename((self.root or "").rstrip("/" + os.sep))
        # a folder's name can have bytes that are no text, which names of measures must be
        domain = (self.domain or folder or self.name).encode("utf-8", "replace").decode()
        object.__setattr__(self, "domain", domain)


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how their classes arrive as tasks.

    Args:
        name: ``digits`` (scikit-learn's, no download), ``imagefolder`` (any directory with train/
            and test/ or val/, one folder a class), ``tiny_imagenet``, ``cub200``, ``imagenet_a``,
            ``imagenet_r`` (in their published layouts), or a torchvision data set: ``cifar10``,
            ``cifar100``, ``fashion_mnist``, ``kmnist``, ``mnist``, ``svhn``; or ``sequence``, tasks
            from several of them (``sources``).
        root: Directory of the images (imagefolder) or of torchvision's files; of a sequence, that
            of its sources' directories.
        download: Let torchvision download what is missing in ``root``.
        sources: Of a sequence: a list of data sets, each with a ``root``, how many tasks it makes
            (``n_tasks``) and what else it needs (`SourceConfig`), as ``[{root: signs, n_tasks: 5},
            {root: textures, n_tasks: 2}]``.
        task_order: Of a sequence: ``listed``, one data set after the other, or ``mixed``, all tasks
            in an order drawn from ``order_seed``.
        stream: ``tasks``, one after the other, of which a learner may see the images as often as it
            likes; or ``online``: each image comes once, and the boundaries of tasks are blurred by
            ``disjoint_share`` and ``blurry_share`` (Si-Blurry; Moon et al. 2023). Learners are not
            told of tasks then, they get the stream in ``evaluations`` equal pieces.
        disjoint_share: Online: N, share of the classes all of whose images come in one task.
        blurry_share: Online: M, share of the other classes' images that change places, so that they
            come in any task.
        evaluations: Online: how often learners are asked, always after as many images.
        scenario: Of a sequence: ``class``, every data set has classes of its own, or ``domain``,
            each is one task and all have the same classes, which are told apart by their names.
        class_range: ``[start, stop]``: only these classes, counted in name order.
        class_order: Class indices (within the chosen classes) in order of arrival; default: a
            permutation drawn from ``order_seed``.
        order_seed: Seed of the class order; default: the run's seed.
        n_tasks: Number of tasks, of equal size unless online; leave out when ``increment`` is
            given.
        increment: Classes in each task after the first ("Inc"); the last one has what is left.
        base: Classes in the first task ("B"); 0 means ``increment`` (the B0 protocol).
        validation_share: Share of each class's training images set aside for thresholds.
        train_share: Share of each class's training images that is used, drawn by the seed.
        train_per_class: At most so many training images a class (validation included).
        test_per_class: At most so many test images a class.
        test_seed: Seed that draws these; default: the run's seed, in a comparison its first one, so
            that all seeds are asked about the same images.
    """

    name: str = "digits"
    root: str | None = None
    download: bool = False
    sources: list[SourceConfig] | None = None
    task_order: Literal["listed", "mixed"] = "listed"
    scenario: Literal["class", "domain"] = "class"
    stream: Literal["tasks", "online"] = "tasks"
    disjoint_share: float = 0.5
    blurry_share: float = 0.1
    evaluations: int = 20
    class_range: list[int] | None = None
    class_order: list[int] | None = None
    order_seed: int | None = None
    n_tasks: int | None = None
    increment: int | None = None
    base: int = 0
    validation_share: float = 0.1
    train_share: float = 1.0
    train_per_class: int | None = None
    test_per_class: int | None = None
    test_seed: int | None = None

    def __post_init__(self) -> None:
        take_types(self, "data.")
        if self.n_tasks is None and self.increment is None and self.name != SEQUENCE:
            object.__setattr__(self, "n_tasks", 5)
        require(
            self.n_tasks is None or self.increment is None,
            "data.n_tasks",
            self.n_tasks,
            "give either data.n_tasks or data.increment, not both",
        )
        require(
            self.stream == "tasks" or self.name != SEQUENCE,
            "data.stream",
            self.stream,
            "the tasks of a sequence come one after the other: use tasks, or one data set",
        )
        require(
            self.stream == "tasks" or self.increment is None,
            "data.increment",
            self.increment,
            "tasks of data.stream online have any number of classes: give data.n_tasks",
        )
        for name in ("disjoint_share", "blurry_share"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"data.{name}", share, "use a share in [0, 1]")
        within("data.evaluations", self.evaluations, 1, 10_000)
        within("data.n_tasks", self.n_tasks, 1, 100_000, "tasks")
        within("data.increment", self.increment, 1, 1_000_000, "classes")
        within("data.base", self.base, 0, 1_000_000, "classes (0: as many as data.increment)")
        within("data.test_seed", self.test_seed, 0, 2**32 - 1)
        within("data.order_seed", self.order_seed, 0, 2**32 - 1)  # what NumPy takes
        require(
            self.base == 0 or self.increment is not None,
            "data.base",
            self.base,
            "data.base goes with data.increment",
        )
        require(
            0.0 < self.validation_share < 1.0,
            "data.validation_share",
            self.validation_share,
            "use a share between 0 and 1, for example 0.1",
        )
        require(
            self.class_range is None
            or (len(self.class_range) == 2 and 0 <= self.class_range[0] < self.class_range[1]),
            "data.class_range",
            self.class_range,
            "give [start, stop] with 0 <= start < stop",
        )
        require(0 < self.train_share <= 1, "data.train_share", self.train_share, "use (0, 1]")
        require(
            self.train_per_class is None or self.train_per_class >= 2,
            "data.train_per_class",
            self.train_per_class,
            "use 2 or more: one of them is for validation",
        )
        require(
            self.test_per_class is None or self.test_per_class >= 1,
            "data.test_per_class",
            self.test_per_class,
            "use 1 or more",
        )
        require(
            self.name != SEQUENCE or bool(self.sources),
            "data.sources",
            self.sources,
            "list the data sets of the sequence, as [{root: DIR, n_tasks: 5}, ...]",
        )
        self._check_sources()

    def alone(self, number: int) -> DataConfig:
        """One source of a sequence (0, 1, ...) as a data set by itself, with the same images, the
        same tasks and the same class order within it.

        Raises:
            ConfigError: A value cannot be used; its key is that of the source.
        """
        source = (self.sources or [])[number]
        folders = [os.path.expanduser(each) for each in (self.root, source.root) if each]
        with self.keys_of_source(number):
            return DataConfig(
                name=source.name,
                root=os.path.join(*folders) if folders else None,
                download=self.download,
                class_range=source.class_range,
                class_order=source.class_order,
                order_seed=self.order_seed,
                n_tasks=source.n_tasks,
                increment=source.increment,
                base=source.base,
                validation_share=self.validation_share,
                train_share=self.train_share,
                train_per_class=_first(source.train_per_class, self.train_per_class),
                test_per_class=_first(source.test_per_class, self.test_per_class),
                test_seed=self.test_seed,
            )

    @property
    def draws_test_images(self) -> bool:
        """Not all test images take part, of this data set or of a source of the sequence."""
        own = [source.test_per_class for source in self.sources or []]
        return any(each is not None for each in (self.test_per_class, *own))

    @staticmethod
    def keys_of_source(number: int) -> AbstractContextManager[None]:
        """Name the keys of errors as those of a source."""
        return named("data.", f"data.sources.{number}.")

    def _check_sources(self) -> None:
        domains: list[str] = []
        for number, source in enumerate(self.sources or []):
            key = f"data.sources.{number}"
            require(
                source.name != SEQUENCE,
                f"{key}.name",
                source.name,
                "list the data sets of that sequence here",
            )
            several = {
                "n_tasks": source.n_tasks not in (None, 1),
                "increment": bool(source.increment),
            }
            for name, given in several.items():
                require(
                    self.scenario == "class" or not given,
                    f"{key}.{name}",
                    getattr(source, name),
                    "leave it out: with data.scenario domain each data set is one task",
                )
            require(
                source.name != "digits" or source.root is None,
                f"{key}.root",
                source.root,
                "it does nothing here: digits have no folder; leave it out",
            )
            self.alone(number)
            assert source.domain is not None
            require(
                source.domain not in domains,
                f"{key}.domain",
                source.domain,
                "another source is called so, too; give them different ones",
            )
            domains.append(source.domain)


def _first(own: int | None, shared: int | None) -> int | None:
    return shared if own is None else own


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen vision transformer E_0.

    Args:
        name: ``bundled`` (the small ViT shipped with the package) or any timm model name.
        pretrained: Load timm's published weights (downloaded by timm; of no effect for ``bundled``
            and with ``checkpoint``). False without a checkpoint: random weights from a fixed seed.
        checkpoint: Local weights for a timm model: .safetensors, or .pth read with weights_only.
        preprocessing: ``timm``: the model's own resizing, crop, mean and standard deviation;
            ``pilot``: as the toolbox LAMDA-PILOT, shorter side to 256/224 of the input size,
            centre crop, pixels in [0, 1] without normalisation.
        precision: Arithmetic of the forward pass; features are kept as float32 in either case.
            ``bfloat16`` is about 2 times faster on processors that have it, and not exact; ``auto``
            takes it there and on such a GPU if the first images' features hardly change (a cosine
            of .9995 at least), else ``float32``. A run records what it took.
        engine: What runs the transformer on the CPU: ``torch``, or ``openvino``, which fuses its
            steps (``pip install 'snn-artsy[openvino]'``) and gives the same within rounding.
            Adapters are trained by torch in either case.
        resizing: Images are resized by ``pillow``, as timm does, or by ``torch`` as 8-bit tensors:
            several times faster for large images, pixels differ by 1 or 2 of 255 here and there.
        batch_size: Images per forward pass on a GPU, during feature extraction. On a CPU passes are
            of 8 images, and as many run beside each other as ``threads`` allows.
        workers: Threads that load images while the transformer runs.
        cache_dir: Where features are kept; default: ``$SNN_ARTSY_CACHE`` or the user's cache
            folder.
        cache: Keep features on disk and reuse them.
        cache_gb: With adapters in the blocks (``ann.placement``), the most that the tokens before
            the first adapter may take on the disk, in GB (10^9 bytes); those that do not fit
            are computed again when they are needed, with the same numbers.
    """

    name: str = "bundled"
    pretrained: bool = True
    checkpoint: str | None = None
    preprocessing: Literal["timm", "pilot"] = "timm"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    engine: Literal["torch", "openvino"] = "torch"
    resizing: Literal["pillow", "torch"] = "pillow"
    batch_size: int = 64
    workers: int = 2
    cache_dir: str | None = None
    cache: bool = True
    cache_gb: float = 8.0

    def __post_init__(self) -> None:
        take_types(self, "backbone.")
        one_of("backbone.preprocessing", self.preprocessing, ("timm", "pilot"))
        within("backbone.batch_size", self.batch_size, 1, 100_000, "images")
        within("backbone.workers", self.workers, 1, 1024, "threads")
        within("backbone.cache_gb", self.cache_gb, 0, 1e6, "GB")
        one_of("backbone.precision", self.precision, ("float32", "bfloat16", "auto"))
        one_of("backbone.engine", self.engine, ("torch", "openvino"))
        one_of("backbone.resizing", self.resizing, ("pillow", "torch"))
        require(
            self.checkpoint is None or self.name != "bundled",
            "backbone.checkpoint",
            self.checkpoint,
            "it goes with a timm model: set backbone.name to the model these weights belong to",
        )
