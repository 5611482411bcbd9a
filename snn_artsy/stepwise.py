"""A stream of tasks, and learners that one takes through it step by step, as in a notebook.

::

    source = sa.data.from_arrays(images, labels)
    stream = sa.stream(source, data={"n_tasks": 5})
    learner = stream.learner("artsy_snn")
    for task in stream:
        learner.learn(task)
        answers = learner.predict(task.seen)
        print(task.number, (answers.predicted == task.seen.labels.numpy()).mean())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.api import Configuration, configured, values_of
from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_sources import layered
from snn_artsy.data import build_stream
from snn_artsy.data.arrays import FeatureSplit
from snn_artsy.data.sources import ImageSource
from snn_artsy.learners import build
from snn_artsy.learners.base import LabelledBatch, Split, Task
from snn_artsy.learners.tasks import feature_task_stream, join
from snn_artsy.observer import SynapseObserver
from snn_artsy.printing import make_console
from snn_artsy.runs.answers import Answering, Answers, known_images
from snn_artsy.runs.features import FeatureStream, choose_device, prepare
from snn_artsy.threads import computing_with, threads_of


@dataclass(frozen=True)
class Step(Task):
    """A task with the samples to test it.

    Args:
        test: Test samples of the task's classes.
        seen: Test samples of all classes so far; ``seen.labels`` are what ``predicted`` of the
            answers should be.
    """

    test: LabelledBatch = None  # type: ignore[assignment]
    seen: LabelledBatch = None  # type: ignore[assignment]


class StepLearner(Answering):
    """A learner that learns when it is told to, and answers for batches, images and features.

    Attributes:
        learnt: Tasks that it has learnt; to be set where its ``learner`` is given another's state.
    """

    learnt = 0

    def learn(self, task: Task) -> None:
        """Learn the next task of its stream.

        Raises:
            ConfigError: It is another task than the next: labels would belong to other classes.
            NotFinite: Training diverged.
        """
        if task.number != self.learnt:
            raise ConfigError(
                "task",
                f"number {task.number} is given where number {self.learnt} is next; give a "
                "learner each task of its stream once, in order",
            )
        own = Task(task.number, task.classes, task.train, task.validation)  # no test samples
        with computing_with(threads_of(self.config)):
            self.learner.learn(own)
        self.learnt += 1

    def predict(self, images: Any, console: Console | None = None) -> Answers:
        """Answer as `Answering.predict` does, for the classes that were learnt.

        Raises:
            ConfigError: Nothing was learnt yet; what is given cannot be answered for.
            NotFinite: A feature or a score is NaN or infinite.
        """
        if not self.learnt:
            raise ConfigError("task", f"{self.name} has learnt none yet; give it the first")
        return super().predict(images, console)


class Stream:
    """Tasks in order of arrival; iterated over as often as one likes. Made by `stream`.

    Attributes:
        config: What tasks and features were made with.
        class_names: Name of each label.
        device: Where features and learners are.
    """

    def __init__(
        self, config: RunConfig, given: Mapping[str, Any], features: FeatureStream, device: str
    ) -> None:
        self.config, self.device = config, device
        self.class_names = features.stream.class_names
        self._given, self._features = given, features

    def __len__(self) -> int:
        return len(self._features.tasks)

    def __iter__(self) -> Iterator[Step]:
        tests = [test for _, test in self._features.tasks]
        for t, (task, test) in enumerate(self._features.tasks):
            seen = join(tests[: t + 1])
            yield Step(task.number, task.classes, task.train, task.validation, test, seen)

    @cached_property
    def backbone(self) -> FrozenBackbone | None:
        """E_0; None where features were given."""
        if not self._features.backbone_sha256:
            return None
        if self._features.backbone is not None:
            return self._features.backbone
        backbone = FrozenBackbone.build(self.config.backbone, self.device)
        backbone.precision = self._features.precision
        return backbone

    def learner(
        self, name: str, *, observer: SynapseObserver | None = None, **options: Any
    ) -> StepLearner:
        """A new learner for this stream, which has learnt nothing yet. With the same options its
        numbers are those of a run.

        Args:
            name: One of ``sa.available("learners")``.
            observer: Told what happens in the synapses, for example a
                `snn_artsy.recording.RunRecorder`.
            options: Keys of a configuration, such as ``snn={"preset": "error"}``.

        Raises:
            ConfigError: A key or a value cannot be used, or would need another stream.
        """
        config = configured(self._given, {**options, "learners": [name]})
        for key in ("data", "backbone", "device"):
            if getattr(config, key) != getattr(self.config, key):
                raise ConfigError(key, "its stream has another one; make a stream with it")
        if not self._features.backbone_sha256:
            _require_head(config)
        torch.manual_seed(config.seed)  # as a run does
        learner = build(config.learners[0], self._features.setting(config, self.device, observer))
        known = known_images(test for _, test in self._features.tasks)
        numbers = dict(zip(known["digest"].tolist(), known["number"].tolist(), strict=True))
        return StepLearner(
            config.learners[0], learner, config, self.backbone, self.device, self.class_names,
            threads_of(config), numbers, self._features.dim,
        )  # fmt: skip


def stream(
    source: ImageSource | None = None,
    config: Configuration | None = None,
    *,
    verbose: bool = False,
    **options: Any,
) -> Stream:
    """Tasks to learn step by step, of images or features.

    Args:
        source: From `snn_artsy.data.from_arrays`, or any other; default: what ``data`` names.
        config: `RunConfig`, a mapping, or a YAML file; default: the embedded one.
        verbose: Print progress.
        options: Keys of a configuration, such as ``data={"n_tasks": 5}``, which beat ``config``.

    Raises:
        ConfigError: A key or a value cannot be used, or it does not fit the samples.
    """
    given = layered(values_of(config), options)
    chosen = configured(given, options)
    device = choose_device(chosen.device)
    if source is not None and isinstance(source.train, FeatureSplit):
        _require_head(chosen)
        return Stream(chosen, given, _of_features(chosen, source, device), device)
    console = make_console() if verbose else Console(quiet=True)
    return Stream(chosen, given, prepare(chosen, device, console, source), device)


def _require_head(config: RunConfig) -> None:
    if config.ann.placement != "head":
        raise ConfigError("ann.placement", "sub-networks in the blocks need images", "blocks")


def _of_features(config: RunConfig, source: ImageSource, device: str) -> FeatureStream:
    """Tasks of features that were given."""
    train, test = source.train, source.test
    assert isinstance(train, FeatureSplit) and isinstance(test, FeatureSplit)
    tasks = build_stream(config.data, source, config.seed)

    given = {"train": train.features, "validation": train.features, "test": test.features}

    def load(split: Split, index: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(given[split][index])

    pairs = feature_task_stream(tasks, load, device)
    return FeatureStream(pairs, tasks, train.features.shape[1], "", {}, 0.0)
