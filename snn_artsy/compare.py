"""Learners x seeds on one protocol, compared pair by pair (``snn-artsy compare``)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import keys_of
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.evaluation.statistics import FEW_SEEDS, cohens_h, crossed_mean, holm
from snn_artsy.frozen import Frozen, choose_device, prepare
from snn_artsy.learners.tasks import join
from snn_artsy.printing import say
from snn_artsy.provenance import provenance
from snn_artsy.run import run_learner
from snn_artsy.rundir import claim
from snn_artsy.threads import set_threads, threads_of
from snn_artsy.yaml_file import read_mapping, yaml_text

SPIKES_ONLY = " (spikes)"
CURVES = ("a_t", "new_accuracy", "old_accuracy", "til_a_t", "a_t_spikes_only")
"""Measures of every step that a comparison keeps."""


@dataclass(frozen=True)
class Cell:
    """One learner with one seed, after the last task.

    Args:
        measures: Its scalar measures.
        image: Test images in ascending order, [n].
        correct: Whether each was answered rightly, [n]; from spikes alone, or None.
        curves: Measures of each step (`CURVES`); None where one does not apply.
    """

    measures: dict[str, float]
    commit: str
    image: NDArray[np.int64]
    correct: NDArray[np.bool_]
    spikes_correct: NDArray[np.bool_] | None
    curves: dict[str, list[float | None]]


def compare(config: RunConfig, n_seeds: int, console: Console) -> tuple[Path, dict[str, Any]]:
    """Run every learner with seeds ``config.seed``, +1, ...: the directory and its summary.

    A seed draws the class order, the training images (``data.train_share``) and all noise.
    Finished cells are kept in ``cells/`` and not run again.

    Raises:
        ConfigError: The directory holds another comparison, or test images differ between seeds.
    """
    if config.data.test_per_class is not None:
        raise ConfigError(
            "data.test_per_class: a comparison resamples test images, which must be the same for "
            "every seed; leave it out"
        )
    directory = _directory(config)
    device = choose_device(config.device)
    cells: dict[str, list[Cell]] = {name: [] for name in config.learners}
    seeds = list(range(config.seed, config.seed + n_seeds))
    for seed in seeds:
        seeded, frozen = replace(config, seed=seed), None
        for name in config.learners:
            file = directory / "cells" / f"{name}-{seed}.npz"
            if not file.is_file():
                if frozen is None:
                    frozen = prepare(seeded, device, console)
                    set_threads(threads_of(config))
                _write(file, _run(name, seeded, frozen, device, console))
            cells[name].append(_read(file))
    summary = summarise(cells)
    facts = provenance(torch.get_num_threads())
    summary |= {
        "seeds": seeds,
        "config": asdict(config),
        "git_commits": sorted({cell.commit for each in cells.values() for cell in each}),
        "versions": facts["versions"],
        "device": device,
        "platform": facts["platform"],
        "threads": facts["threads"],
    }
    text = json.dumps(summary, indent=2, allow_nan=False)
    (directory / "summary.json").write_text(text + "\n", encoding="utf-8")
    return directory, summary


def summarise(cells: dict[str, list[Cell]]) -> dict[str, Any]:
    """``{"learners": {name: {measure: {mean, sd, values}}}, "pairs": [...], ...}``.

    ``a_last`` and ``a_last_spikes_only`` also have ``interval_95`` (`crossed_mean`); ``curves`` has
    mean, sd and values of `CURVES` at each step. Pairs are of A_last; a decision from spikes alone
    takes part as an entry of its own. Entries that gave the very same answers (``alike``, the first
    of each group stands for it) are counted once, or p would be corrected for tests that nobody
    made. ``warnings`` says what the seeds are too few for.
    """
    first = next(iter(cells.values()))[0]
    correct: dict[str, NDArray[np.float64]] = {}
    for name, each in cells.items():
        if any(not np.array_equal(cell.image, first.image) for cell in each):
            raise ConfigError("data: test images differ between seeds or learners")
        correct[name] = np.stack([cell.correct for cell in each]).astype(np.float64)
        spikes = [cell.spikes_correct for cell in each if cell.spikes_correct is not None]
        if spikes:
            correct[name + SPIKES_ONLY] = np.stack(spikes).astype(np.float64)
    learners: dict[str, dict[str, Any]] = {}
    for name, each in cells.items():
        shared = [k for k in each[0].measures if all(k in cell.measures for cell in each)]
        learners[name] = {k: _spread([cell.measures[k] for cell in each]) for k in shared}
        learners[name]["curves"] = {
            key: _curve([cell.curves[key] for cell in each]) for key in each[0].curves
        }
        learners[name]["a_last"]["interval_95"] = _interval(correct[name])
        if name + SPIKES_ONLY in correct:
            found = _interval(correct[name + SPIKES_ONLY])
            learners[name]["a_last_spikes_only"]["interval_95"] = found
    alike = _alike(correct)
    pairs = [
        _pair(a, b, correct[a], correct[b])
        for a, b in combinations([group[0] for group in alike], 2)
    ]
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = corrected
    return {
        "learners": learners,
        "pairs": pairs,
        "alike": [group for group in alike if len(group) > 1],
        "warnings": _few_seeds(len(correct[next(iter(correct))])),
    }


def _interval(correct: NDArray[np.float64]) -> list[float]:
    """Of an accuracy, which lies between 0 and 1."""
    low, high = crossed_mean(correct).interval()
    return [max(low, 0.0), min(high, 1.0)]


def _pair(a: str, b: str, of_a: NDArray[np.float64], of_b: NDArray[np.float64]) -> dict[str, Any]:
    """The difference of two entries, right or wrong at each seed and image [n_seeds, n_images]."""
    difference = crossed_mean(of_a - of_b)
    return {
        "a": a,
        "b": b,
        "measure": "a_last",
        "difference": difference.mean,
        "values": (of_a.mean(1) - of_b.mean(1)).tolist(),
        "interval_95": list(difference.interval()),
        "cohens_h": cohens_h(float(of_a.mean()), float(of_b.mean())),
        "p": difference.p_value(),
    }


def _alike(correct: dict[str, NDArray[np.float64]]) -> list[list[str]]:
    """Entries in groups of those that were right and wrong at the same seeds and images."""
    groups: list[list[str]] = []
    for name, values in correct.items():
        group = next((g for g in groups if np.array_equal(correct[g[0]], values)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def _few_seeds(n: int) -> list[str]:
    if n == 1:
        return [
            "1 seed: intervals and p are about other test images, and say nothing about other "
            f"class orders, training images and noise; use {FEW_SEEDS} seeds or more"
        ]
    if n < FEW_SEEDS:
        return [
            f"{n} seeds: their spread is hardly known, intervals are wide and less reliable; use "
            f"{FEW_SEEDS} seeds or more"
        ]
    return []


def _spread(values: list[float]) -> dict[str, Any]:
    sd = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values), "sd": sd, "values": values}


def _curve(values: list[list[float | None]]) -> dict[str, Any]:
    """Values of each seed -> mean and sd of each step; None where it does not apply."""
    steps = [[v for v in step if v is not None] for step in zip(*values, strict=True)]
    return {
        "mean": [mean(step) if step else None for step in steps],
        "sd": [stdev(step) if len(step) > 1 else None for step in steps],
        "values": values,
    }


def _run(name: str, config: RunConfig, frozen: Frozen, device: str, console: Console) -> Cell:
    steps: list[StepAnswers] = []
    say(console, f"seed {config.seed}")
    measures = run_learner(name, config, frozen, device, console, keep=steps)
    last = steps[-1]
    image = join([test for _, test in frozen.tasks]).index.cpu().numpy()
    order = np.argsort(image)
    spikes = None
    if last.spike_predicted is not None:
        spikes = (last.spike_predicted == last.labels)[order]
    commit = provenance(torch.get_num_threads())
    scalars = {
        key: float(value)
        for key, value in measures.items()
        if isinstance(value, (bool, int, float, np.integer, np.floating)) and np.isfinite(value)
    }
    return Cell(
        scalars,
        f"{commit['git_commit'] or 'unknown'}{'-dirty' if commit['git_dirty'] else ''}",
        image[order],
        (last.predicted == last.labels)[order],
        spikes,
        {
            key: [float(v) if np.isfinite(v) else None for v in measures[key]]
            for key in CURVES
            if key in measures
        },
    )


def _write(file: Path, cell: Cell) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {"image": cell.image, "correct": cell.correct}
    if cell.spikes_correct is not None:
        arrays["spikes_correct"] = cell.spikes_correct
    arrays["measures"] = np.array(json.dumps(cell.measures))
    arrays["curves"] = np.array(json.dumps(cell.curves))
    arrays["commit"] = np.array(cell.commit)
    part = file.with_suffix(".part")
    with part.open("wb") as target:
        np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    os.replace(part, file)


def _read(file: Path) -> Cell:
    try:
        with np.load(file, allow_pickle=False) as found:
            return Cell(
                json.loads(str(found["measures"])),
                str(found["commit"]),
                found["image"],
                found["correct"],
                found.get("spikes_correct"),
                json.loads(str(found["curves"])),
            )
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(
            f'out: "{file}" cannot be read ({error}); delete it to run it anew'
        ) from error


def _directory(config: RunConfig) -> Path:
    """The comparison's directory; one that exists must be of the same configuration."""
    if config.out is None:
        directory = claim(None, f"compare-{config.data.name}")[0]
    else:
        directory = Path(config.out).expanduser()
    # what may differ: who takes part, and where the results lie
    wanted = asdict(replace(config, learners=["simplecil"], out=None))
    file = directory / "config.yaml"
    if file.is_file():
        kept = read_mapping(file, f'out: "{file}"')
        for key in keys_of(RunConfig):
            if _at(kept, key) != _at(wanted, key) and not isinstance(_at(wanted, key), dict):
                raise ConfigError(
                    f'out: "{directory}" holds a comparison with {key} {_at(kept, key)!r} instead '
                    f"of {_at(wanted, key)!r}; choose another directory"
                )
    elif directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(f'out: "{directory}" holds something else; choose another directory')
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml_text(wanted), encoding="utf-8")
    return directory


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
