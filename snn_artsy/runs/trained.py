"""Learners of finished runs, to predict with."""

from __future__ import annotations

import json
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import ConfigError, in_short, named, one_of, require_finite
from snn_artsy.config import DEVICES, RunConfig, check_threads
from snn_artsy.config_builder import build
from snn_artsy.files import CONFIG_FILE, SUMMARY_FILE, at_home
from snn_artsy.learners import Setting
from snn_artsy.learners import build as build_learner
from snn_artsy.learners.base import Learner
from snn_artsy.recording.schema import RecordingError
from snn_artsy.runs import checkpoint
from snn_artsy.runs.answers import TEST_IMAGES, Answering
from snn_artsy.runs.checkpoint import state_path
from snn_artsy.runs.facts import Facts, config_differences, differences, plain
from snn_artsy.runs.features import FeatureStream, choose_device, prepare
from snn_artsy.runs.foreign import as_found
from snn_artsy.runs.kept import not_kept
from snn_artsy.runs.unpack import unpack
from snn_artsy.yaml_file import read_mapping

WEIGHTS_FILE = "weights.safetensors"
"""The backbone's weights in a run's directory, where it was packed with them."""


@dataclass(frozen=True, eq=False)
class TrainedRun(Mapping[str, Answering]):
    """The learners of a run, by name, as it left them: each is read, checked and kept when it is
    asked for. Made by `load_trained`.

    Args:
        directory: Of the run.
        config: Its configuration.
        facts: What its numbers depend on.
        states: SHA-256 of what each learner has learnt.
        class_names: Name of each label.
        device: Where learners answer.
    """

    directory: Path
    config: RunConfig
    facts: Facts
    states: Mapping[str, str]
    class_names: tuple[str, ...]
    device: str

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.config.learners if name in self.states)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))

    def __getitem__(self, name: str) -> Answering:
        """A learner that answers as it did in the run.

        Raises:
            ConfigError: The run has none of this name, or what it has learnt is not there, damaged,
                or of something else; its backbone's weights are not there.
        """
        if name not in self._learners:
            self._learners[name] = self._loaded(name)
        return self._learners[name]

    @cached_property
    def _learners(self) -> dict[str, Answering]:
        return {}

    @cached_property
    def backbone(self) -> FrozenBackbone:
        """E_0, with the weights that the run had.

        Raises:
            ConfigError: They are not there, or others.
        """
        backbone = FrozenBackbone.build(self.config.backbone, self.device)
        if backbone.weights_sha256() != self.facts.backbone_sha256:
            raise ConfigError(
                "backbone.checkpoint",
                f'the weights are not those that the run in "{self.directory}" had (SHA-256 '
                f"{self.facts.backbone_sha256[:16]}...); give their file as weights",
            )
        backbone.precision = self.facts.precision
        return backbone

    @cached_property
    def features(self) -> FeatureStream:
        """The run's tasks with their features, from the cache or made anew.

        Raises:
            ConfigError: Its images or weights are not there, or have changed.
        """
        features = prepare(self.config, self.device, Console(quiet=True))
        # what it has learnt may be used by other versions and on another device
        now = features.facts(self.config, self.device)
        now = replace(now, versions=self.facts.versions, device=self.facts.device)
        _refuse(self.directory, differences(self.facts, now))
        # that of the learners, whose adapters are in its blocks
        return replace(features, backbone=features.backbone and self.backbone)

    def _loaded(self, name: str) -> Answering:
        file = state_path(self.directory, name)
        if name not in self or not file.is_file():
            raise not_kept(self.directory, name, self)
        try:
            state, header = checkpoint.read_tensors(file)
        except RecordingError as error:
            raise ConfigError("run", f"{error}; run it anew") from error
        if header["sha256"] != self.states[name]:
            raise ConfigError(
                "run",
                f'"{file}" is not what the run in "{self.directory}" has learnt; put its own '
                "back, or run it anew",
            )
        backbone = self.backbone
        shared = backbone if self.config.ann.placement == "blocks" else None
        setting = Setting(self.config, backbone.dim, self.device, backbone=shared)
        known_images = self._known_images  # whose damage is not the learner's
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced at once
            learner = build_learner(name, setting)
        try:
            learner.load_state_dict({key: value.to(self.device) for key, value in state.items()})
            answering = Answering(
                name, learner, self.config, backbone, self.device, self.class_names,
                self.facts.threads, known_images,
            )  # fmt: skip
            _check_fits(answering, state)
        except Exception as error:  # tensors of another name, shape or kind fail anywhere
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                "run",
                f'"{file}" does not fit the learner of this run ({in_short(reason)}); put its own '
                "back, or run it anew",
            ) from error
        return answering

    @cached_property
    def _known_images(self) -> dict[int, int]:
        """Numbers of the run's test images, by their features; none of runs of older releases."""
        file = self.directory / TEST_IMAGES
        if not file.is_file():
            return {}
        try:
            known, _ = checkpoint.read_tensors(file)
            return dict(zip(known["digest"].tolist(), known["number"].tolist(), strict=True))
        except (RecordingError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                "run", f'"{file}" is damaged ({error}); copy it again, or remove it'
            ) from error


def load_trained(
    directory: str | Path, device: str | None = None, weights: str | Path | None = None
) -> TrainedRun:
    """The learners of a finished run, to predict with: ``load_trained(RUN)["artsy_snn"]``.

    Its images are not needed. Tensors are read and nothing is unpickled; the files choose no code:
    learners of one's own must have been added before (docs/add_your_own.md).

    Args:
        directory: Of the run; or a pack of it (``snn-artsy pack``).
        device: ``auto``, ``cpu`` or ``cuda``; default: as the run's configuration says.
        weights: File of the backbone's weights, where it has moved; others are refused.

    Raises:
        ConfigError: No finished run there, its files do not belong together, or one of its learners
            is not known.
    """
    directory = at_home(directory)
    if directory.is_file():
        unpacked = unpack(directory)
        try:
            run = load_trained(unpacked, device, weights)
        except BaseException:
            shutil.rmtree(unpacked, ignore_errors=True)
            raise
        weakref.finalize(run, shutil.rmtree, unpacked, ignore_errors=True)
        return run
    file = directory / CONFIG_FILE
    if not (file.is_file() and (directory / SUMMARY_FILE).is_file()):
        raise ConfigError(
            "run", f'no finished run at "{directory}"; give the directory of a `snn-artsy run`'
        )
    config = as_found(build(RunConfig, read_mapping(file, "run", f'"{file}"')), directory)
    own = directory / WEIGHTS_FILE
    if weights is not None or (own.is_file() and config.backbone.name != "bundled"):
        backbone = replace(config.backbone, checkpoint=str(weights or own))
        config = replace(config, backbone=backbone)
    device = config.device if device is None else device
    one_of("device", device, DEVICES)
    facts, summary = _summarised(directory / SUMMARY_FILE)
    with named("threads", "run"):
        check_threads(facts.threads)
    _refuse(directory, config_differences(facts.config, plain(config)))
    states = summary.get("states")
    known = states if isinstance(states, dict) else {}
    return TrainedRun(
        directory,
        config,
        facts,
        {name: str(digest) for name, digest in known.items()},
        _class_names(summary),
        choose_device(device),
    )


def _refuse(directory: Path, changed: list[str]) -> None:
    if changed:
        raise ConfigError(
            "run",
            f'"{directory}" was made with something else: {"; ".join(changed)}; give it that back',
        )


def _check_fits(answering: Answering, state: Mapping[str, Tensor]) -> None:
    """A learner took over all that a state holds, and can answer for all classes."""
    learner: Learner = answering.learner
    taken = {name: tensor.shape for name, tensor in learner.state_dict().items()}
    given = {name: tensor.shape for name, tensor in state.items()}
    if taken != given:
        raise ValueError(f"{', '.join(sorted(taken.keys() ^ given.keys())) or 'a shape'} differs")
    require_finite("state", state)
    answer = answering.predict(torch.zeros(8, 8, 3, dtype=torch.uint8))
    n_classes = answer.scores.shape[1]
    if n_classes != len(answering.class_names):
        raise ValueError(f"{n_classes} classes, and {len(answering.class_names)} names")


def _summarised(file: Path) -> tuple[Facts, Mapping[str, Any]]:
    """What a finished run depended on, and its whole summary."""
    name = f'"{file}"'
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            "run", f"{name} cannot be read ({error}); finish the run first"
        ) from error
    return Facts.read(summary, "run", name), summary


def _class_names(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """A name of its own for each label: those of older releases have none but their number."""
    order, names = summary.get("class_order"), summary.get("class_names")
    if not isinstance(order, list):
        raise ConfigError("run", "its summary.json has no class_order; it is damaged, run it anew")
    if not (isinstance(names, list) and len(names) == len(order)):
        return tuple(str(label) for label in range(len(order)))
    shared = Counter(map(str, names))
    return tuple(
        str(name) if shared[str(name)] == 1 else f"{name} ({label})"
        for label, name in enumerate(names)
    )
