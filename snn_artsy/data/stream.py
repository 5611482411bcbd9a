"""The class-incremental stream: which classes arrive when, and which images belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError, require
from snn_artsy.config import DataConfig
from snn_artsy.config.data import SEQUENCE
from snn_artsy.data.online import si_blurry
from snn_artsy.data.sources import ImageSource

_TRAIN, _VALIDATION, _TEST, _ONLINE = range(4)
"""Keys of the independent random choices made for each class."""


@dataclass(frozen=True)
class SampleSet:
    """Some samples of one source split.

    Args:
        index: Sample numbers in the source's split, int64 [n].
        labels: Positions of their classes in the class order, int64 [n].
    """

    index: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class TaskSplit:
    """One task: ``train`` and ``validation`` index the source's train split, ``test`` its test.

    Args:
        number: Counted from 0.
        classes: Labels of the task, contiguous positions in the class order.
        domain: The data set that it comes from.
    """

    number: int
    classes: tuple[int, ...]
    train: SampleSet
    validation: SampleSet
    test: SampleSet
    domain: str = ""


@dataclass(frozen=True)
class TaskStream:
    """All tasks in order of arrival; online, the pieces after which learners are asked, whose
    classes are those that came for the first time, or none.

    Args:
        class_order: The source's class number of each label, int64 [C].
        class_names: The name of each label.
        tasks: The tasks.
        class_of_label: Domain-incremental: the class that each label stands for, int64 [C]; a class
            has a label in every task, so that learners see new labels in each. None: labels are
            classes.
    """

    class_order: NDArray[np.int64]
    class_names: tuple[str, ...]
    tasks: tuple[TaskSplit, ...]
    class_of_label: NDArray[np.int64] | None = None

    @property
    def n_classes(self) -> int:
        """How many different answers there are."""
        return len(self.class_order if self.class_of_label is None else set(self.class_of_label))

    @property
    def task_of_label(self) -> NDArray[np.int64]:
        """Task number of each label, int64 [C]."""
        return np.repeat(np.arange(len(self.tasks)), [len(task.classes) for task in self.tasks])

    @property
    def domains(self) -> tuple[str, ...]:
        """The data sets that tasks come from, in order of arrival."""
        return tuple(dict.fromkeys(task.domain for task in self.tasks))

    def by_domain(self) -> list[dict[str, Any]]:
        """Of each data set, in order of arrival: its ``name``, the numbers of its ``tasks``, their
        ``labels`` and ``class_names``, and how many ``test_images`` it has."""
        found = []
        for name in self.domains:
            tasks = [task for task in self.tasks if task.domain == name]
            labels = [label for task in tasks for label in task.classes]
            found.append(
                {
                    "name": name,
                    "tasks": [task.number for task in tasks],
                    "labels": labels,
                    "class_names": [self.class_names[label] for label in labels],
                    "test_images": sum(len(task.test) for task in tasks),
                }
            )
        return found

    @property
    def train_index(self) -> NDArray[np.int64]:
        """Every sample of the source's train split that is used, sorted; validation included."""
        parts = [s.index for task in self.tasks for s in (task.train, task.validation)]
        return np.sort(np.concatenate(parts))

    @property
    def test_index(self) -> NDArray[np.int64]:
        """Every sample of the source's test split that is used, sorted."""
        return np.sort(np.concatenate([task.test.index for task in self.tasks]))


def build_stream(config: DataConfig, source: ImageSource, seed: int) -> TaskStream:
    """Cut ``source`` into tasks; a sequence into those of its sources, each as if it were alone, so
    that a class has the same images there.

    The class order comes from ``config.class_order``, or is
    ``numpy.random.RandomState(s).permutation(n)`` with s = ``config.order_seed`` or else ``seed``:
    the legacy generator, so that the order is the one PyCIL and PILOT draw from the same seed
    (1993 there). Which images are kept and which validate depends on ``seed`` and the class alone,
    not on the class order or on the other classes. ``config.task_order`` mixed is drawn from the
    same s.

    Raises:
        ConfigError: The classes do not divide as asked, or a class has too few images.
    """
    if config.name == SEQUENCE:
        return _joined_stream(config, source, seed)
    if config.stream == "online":
        return _online_stream(config, source, seed)
    start, stop = _class_range(config, len(source.class_names))
    n_classes = stop - start
    sizes = _task_sizes(config, n_classes)
    class_order = start + _class_order(config.class_order, n_classes, _order_seed(config, seed))

    tasks = []
    first = 0
    for number, size in enumerate(sizes):
        labels = range(first, first + size)
        first += size
        train, validation, test = [], [], []
        for label in labels:
            class_number = int(class_order[label])
            name = source.class_names[class_number]
            train_images = np.flatnonzero(source.train.labels == class_number)
            training, held_out = _train_validation(config, train_images, seed, class_number, name)
            train.append((label, training))
            validation.append((label, held_out))
            test_images = np.flatnonzero(source.test.labels == class_number)
            if len(test_images) == 0:
                raise ConfigError(
                    f"data.{'name' if config.root is None else 'root'}",
                    f"class {name!r} has no test images; add some, or leave the class out with "
                    "data.class_range",
                )
            test_seed = seed if config.test_seed is None else config.test_seed
            chosen = _choose(test_images, config.test_per_class, test_seed, _TEST, class_number)
            test.append((label, chosen))
        samples = (_sample_set(train), _sample_set(validation), _sample_set(test))
        tasks.append(TaskSplit(number, tuple(labels), *samples, source.name))
    names = tuple(source.class_names[number] for number in class_order)
    return TaskStream(class_order, names, tuple(tasks))


def _joined_stream(config: DataConfig, source: ImageSource, seed: int) -> TaskStream:
    """Streams of a sequence's sources, in one row: classes, images and tasks are numbered anew."""
    assert config.sources is not None
    tasks: list[TaskSplit] = []
    class_numbers: list[NDArray[np.int64]] = []  # of each task
    first_class = first_train = first_test = 0
    for number, part in enumerate(source.parts):
        with config.keys_of_source(number):
            stream = build_stream(config.alone(number), part, seed)
        for task in stream.tasks:
            class_numbers.append(first_class + stream.class_order[list(task.classes)])
            tasks.append(
                replace(
                    task,
                    domain=str(config.sources[number].domain),
                    train=replace(task.train, index=first_train + task.train.index),
                    validation=replace(task.validation, index=first_train + task.validation.index),
                    test=replace(task.test, index=first_test + task.test.index),
                )
            )
        first_class += len(part.class_names)
        first_train += len(part.train)
        first_test += len(part.test)
    order = np.arange(len(tasks))
    if config.task_order == "mixed":
        order = np.random.RandomState(_order_seed(config, seed)).permutation(len(tasks))
    arriving: list[TaskSplit] = []
    n_classes = 0
    for number, place in enumerate(order):
        arriving.append(_renumbered(tasks[place], number, n_classes))
        n_classes += len(tasks[place].classes)
    class_order = np.concatenate([class_numbers[place] for place in order])
    names = tuple(source.class_names[number] for number in class_order)
    shared = None
    if config.scenario == "domain":
        own = np.concatenate([part.class_names for part in source.parts])[class_order]
        shared = np.unique(own, return_inverse=True)[1].astype(np.int64)
    return TaskStream(class_order, names, tuple(arriving), shared)


def _online_stream(config: DataConfig, source: ImageSource, seed: int) -> TaskStream:
    """The samples of one task with all classes, in the order of an online stream and in pieces.

    Validation samples come among the others. Labels count classes in the order in which they come.
    """
    whole = build_stream(replace(config, stream="tasks", n_tasks=1), source, seed)
    [task] = whole.tasks
    labels = np.concatenate([task.train.labels, task.validation.labels])
    index = np.concatenate([task.train.index, task.validation.index])
    require(
        config.evaluations <= len(labels),
        "data.evaluations",
        config.evaluations,
        f"the stream has {len(labels)} images; use at most that many",
    )
    assert config.n_tasks is not None  # DataConfig sees to it
    rng = np.random.default_rng([_order_seed(config, seed), _ONLINE])
    arrives = si_blurry(labels, config.n_tasks, config.disjoint_share, config.blurry_share, rng)
    order = np.lexsort((rng.permutation(len(labels)), arrives))
    pieces = np.array_split(order, config.evaluations)
    piece_of = np.empty(len(labels), dtype=np.int64)
    piece_of[order] = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    first = np.array([piece_of[labels == c].min() for c in range(len(whole.class_order))])
    old_labels = np.argsort(first, kind="stable")  # by new label
    new_labels = np.argsort(old_labels, kind="stable")  # by old label

    tasks = []
    for number, piece in enumerate(pieces):
        training, held_out = (piece[piece < len(task.train)], piece[piece >= len(task.train)])
        new = new_labels[np.flatnonzero(first == number)]
        testing = np.isin(new_labels[task.test.labels], new)
        train, validation = (
            SampleSet(index[rows], new_labels[labels[rows]]) for rows in (training, held_out)
        )
        test = SampleSet(task.test.index[testing], new_labels[task.test.labels[testing]])
        tasks.append(
            TaskSplit(number, tuple(sorted(new.tolist())), train, validation, test, source.name)
        )
    names = tuple(whole.class_names[label] for label in old_labels)
    return TaskStream(whole.class_order[old_labels], names, tuple(tasks))


def _renumbered(task: TaskSplit, number: int, first_label: int) -> TaskSplit:
    """The task as task ``number``, whose labels begin with ``first_label``."""
    more = first_label - task.classes[0]

    def labelled(samples: SampleSet) -> SampleSet:
        return replace(samples, labels=samples.labels + more)

    return replace(
        task,
        number=number,
        classes=tuple(label + more for label in task.classes),
        train=labelled(task.train),
        validation=labelled(task.validation),
        test=labelled(task.test),
    )


def _order_seed(config: DataConfig, seed: int) -> int:
    return seed if config.order_seed is None else config.order_seed


def _class_range(config: DataConfig, n_classes: int) -> tuple[int, int]:
    if config.class_range is None:
        return 0, n_classes
    start, stop = config.class_range
    require(
        stop <= n_classes,
        "data.class_range",
        config.class_range,
        f"the data set has {n_classes} classes, so use 0 <= start < stop <= {n_classes}",
    )
    return start, stop


def _task_sizes(config: DataConfig, n_classes: int) -> list[int]:
    if config.n_tasks is not None:
        require(
            n_classes % config.n_tasks == 0,
            "data.n_tasks",
            config.n_tasks,
            f"{n_classes} classes divide equally into {_divisors(n_classes)} tasks; with "
            "data.increment the last task may be smaller",
        )
        return [n_classes // config.n_tasks] * config.n_tasks
    assert config.increment is not None  # DataConfig sees to it that one of the two is given
    require(
        config.base <= n_classes,
        "data.base",
        config.base,
        f"there are {n_classes} classes; use at most that many",
    )
    rest = n_classes - config.base
    after = f" after the first {config.base}" if config.base else ""
    require(
        not rest or config.increment <= rest,
        "data.increment",
        config.increment,
        f"there are {rest} classes{after}; use at most that many",
    )
    n_whole, left = divmod(rest, config.increment)
    return [config.base] * (config.base > 0) + [config.increment] * n_whole + [left] * (left > 0)


def _divisors(n: int) -> str:
    divisors = [str(d) for d in range(1, n + 1) if n % d == 0]
    return " or ".join([", ".join(divisors[:-1]), divisors[-1]] if len(divisors) > 1 else divisors)


def _class_order(given: Sequence[int] | None, n_classes: int, seed: int) -> NDArray[np.int64]:
    if given is None:
        return np.random.RandomState(seed).permutation(n_classes).astype(np.int64)
    if sorted(given) != list(range(n_classes)):
        missing = sorted(set(range(n_classes)) - set(given))
        raise ConfigError(
            "data.class_order",
            f"{len(given)} entries, missing {missing[:5]}; name each of the "
            f"{n_classes} chosen classes, 0 to {n_classes - 1}, exactly once",
        )
    return np.asarray(given, dtype=np.int64)


def _train_validation(
    config: DataConfig, images: NDArray[np.int64], seed: int, class_number: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, validation) of one class: at least one image each."""
    if len(images) < 2:
        raise ConfigError(
            f"data.{'name' if config.root is None else 'root'}",
            f"class {name!r} has {len(images)} training image{'s' * (len(images) != 1)}; it needs "
            "2, one to learn from and one for validation: add some, or leave the class out with "
            "data.class_range",
        )
    n_used = max(2, round(config.train_share * len(images)))
    if config.train_per_class is not None:
        n_used = min(n_used, config.train_per_class)
    images = _choose(images, n_used, seed, _TRAIN, class_number)
    n_validation = max(1, round(config.validation_share * len(images)))
    if n_validation >= len(images):
        raise ConfigError(
            "data.validation_share",
            f"{config.validation_share!r} of the {len(images)} training "
            f"images of class {name!r} leaves none to train on; use a smaller share, more images "
            "(data.train_per_class), or leave the class out with data.class_range",
        )
    validation = _choose(images, n_validation, seed, _VALIDATION, class_number)
    return np.setdiff1d(images, validation), validation


def _choose(
    images: NDArray[np.int64], n: int | None, seed: int, purpose: int, class_number: int
) -> NDArray[np.int64]:
    """At most ``n`` of the images, sorted; keyed by class, so other classes change nothing."""
    if n is None or n >= len(images):
        return images
    rng = np.random.default_rng([seed, purpose, class_number])
    return np.sort(rng.choice(images, size=n, replace=False))


def _sample_set(parts: Sequence[tuple[int, NDArray[np.int64]]]) -> SampleSet:
    index = np.concatenate([images for _, images in parts])
    labels = np.repeat([label for label, _ in parts], [len(images) for _, images in parts])
    return SampleSet(index.astype(np.int64), labels.astype(np.int64))
