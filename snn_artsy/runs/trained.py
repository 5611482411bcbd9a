"""Learners of finished runs, to predict with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from snn_artsy.checks import ConfigError, in_short, require_finite
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.learners import build_snn
from snn_artsy.learners.tasks import take
from snn_artsy.learners.wake_and_sleep import TaughtSubnetworks
from snn_artsy.recording.schema import RecordingError
from snn_artsy.runs import checkpoint
from snn_artsy.runs.checkpoint import state_path
from snn_artsy.runs.facts import Facts, differences
from snn_artsy.runs.features import FeatureStream, choose_device, prepare
from snn_artsy.runs.foreign import as_found
from snn_artsy.yaml_file import read_mapping


@dataclass(frozen=True)
class Trained:
    """A spiking learner as its run left it, with the run's tasks."""

    config: RunConfig
    features: FeatureStream
    learner: TaughtSubnetworks
    device: str


def load_trained(directory: str | Path) -> Trained:
    """The spiking learner of a finished run; its features come from the cache or are made anew.

    Raises:
        ConfigError: No such run, or it holds no trained spiking learner.
    """
    directory = Path(directory).expanduser()
    file, config_file = state_path(directory, "artsy_snn"), directory / "config.yaml"
    if not (file.is_file() and config_file.is_file()):
        raise ConfigError(
            "run",
            f'no trained artsy_snn at "{directory}"; give the directory of a finished '
            "`snn-artsy run` whose learners include artsy_snn",
        )
    config = build(RunConfig, read_mapping(config_file, "run", f'"{config_file}"'))
    config = as_found(config, directory)
    facts, digest = _summarised(directory / "summary.json")
    device = choose_device(config.device)
    features = prepare(config, device, Console(quiet=True))
    # what it has learnt may be used by other versions and on another device
    now = replace(features.facts(config, device), versions=facts.versions, device=facts.device)
    if changed := differences(facts, now):
        raise ConfigError(
            "run",
            f'"{directory}" was made with something else: {"; ".join(changed)}; give it that back',
        )
    try:
        state, header = checkpoint.read_tensors(file)
    except RecordingError as error:
        raise ConfigError("run", f"{error}; run it anew") from error
    if header["sha256"] != digest:
        raise ConfigError(
            "run",
            f'"{file}" is not what the run in "{directory}" has learnt; put its own back, or '
            "run it anew",
        )
    learner = build_snn(features.setting(config, device))
    try:
        learner.load_state_dict({name: tensor.to(device) for name, tensor in state.items()})
        _check_fits(learner, state, features)
    except Exception as error:  # tensors of another name, shape or kind fail anywhere
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            "run",
            f'"{file}" does not fit the learner of this run ({in_short(reason)}); put its own '
            "back, or run it anew",
        ) from error
    return Trained(config, features, learner, device)


def _check_fits(
    learner: TaughtSubnetworks, state: Mapping[str, torch.Tensor], features: FeatureStream
) -> None:
    """A learner took over all that a state holds, has learnt all tasks, and can answer."""
    taken = {name: tensor.shape for name, tensor in learner.state_dict().items()}
    given = {name: tensor.shape for name, tensor in state.items()}
    if taken != given:
        raise ValueError(f"{', '.join(sorted(taken.keys() ^ given.keys())) or 'a shape'} differs")
    if len(learner.layers) != len(features.tasks):
        raise ValueError(f"{len(learner.layers)} sub-networks for {len(features.tasks)} tasks")
    _, test = features.tasks[-1]
    require_finite("state", state)
    answers = learner.predict(take(test, torch.arange(1, device=test.index.device)))
    if answers.scores.shape[1] != len(features.stream.class_order):
        raise ValueError(f"{answers.scores.shape[1]} classes")


def _summarised(file: Path) -> tuple[Facts, str]:
    """What a finished run depended on, and the checksum of its spiking learner's state."""
    name = f'"{file}"'
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            "run", f"{name} cannot be read ({error}); finish the run first"
        ) from error
    facts = Facts.read(summary, "run", name)
    states = summary.get("states")
    digest = states.get("artsy_snn") if isinstance(states, dict) else None
    if not isinstance(digest, str):
        raise ConfigError("run", f"{name} names no state of artsy_snn; run it anew")
    return facts, digest
