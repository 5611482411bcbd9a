"""Learners x seeds on one protocol, compared pair by pair (``snn-artsy compare``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.checks import ConfigError, NotFinite, require
from snn_artsy.config import RecordConfig, RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.evaluation.statistics import FEW_SEEDS, cohens_h, crossed_mean, holm, spread
from snn_artsy.export.measures import KINDS, tables
from snn_artsy.files import CONFIG_FILE, LOCK_FILE, SUMMARY_FILE
from snn_artsy.learners.tasks import join
from snn_artsy.printing import quoted, say
from snn_artsy.recording.schema import DamageError
from snn_artsy.recording.storage import write_text
from snn_artsy.runs.begun import going_on, locked
from snn_artsy.runs.cells import FOLDER, MATRICES, Cell, cell_file, read_cell, write_cell
from snn_artsy.runs.directory import claim, give_back
from snn_artsy.runs.facts import Facts, added, config_differences, differences
from snn_artsy.runs.features import FeatureStream, choose_device, fingerprints, prepare
from snn_artsy.runs.foreign import refuse_links
from snn_artsy.runs.loop import run_learner
from snn_artsy.runs.shards import extract_in_shards
from snn_artsy.runs.workers import HERE, Resources, carry_out
from snn_artsy.synapses.pairing import make_schedule
from snn_artsy.threads import computing_with, threads_of
from snn_artsy.yaml_file import read_mapping, yaml_text

SPIKES_ONLY = " (spikes)"
CURVES = (
    "a_t", "new_accuracy", "old_accuracy", "til_a_t", "a_t_spikes_only",
    "new_accuracy_spikes_only", "old_accuracy_spikes_only",
)  # fmt: skip
"""Measures of every step that a comparison keeps."""

_PARTS = {f"{CONFIG_FILE}.part", f"{SUMMARY_FILE}.part", "cells.csv.part"}
_PARTS |= {f"{kind}.csv.part" for kind in KINDS}


def compare(
    config: RunConfig, n_seeds: int, console: Console, resources: Resources = HERE
) -> tuple[Path, dict[str, Any]]:
    """Run every learner with seeds ``config.seed``, +1, ...: the directory and its summary.

    A seed draws the class order, the training images (``data.train_share``) and all noise. Test
    images of which not all take part (``data.test_per_class``) are drawn once, by the first seed.
    Finished cells are kept in ``cells/`` and not run again; a damaged one is named and run again.
    A learner whose numbers are not finite with some seed is named in the summary as ``failed``, and
    takes part in nothing else there; the others go on.

    Args:
        resources: With several workers, or on a cluster, each seed has a process of its own. The
            numbers are the same.

    Raises:
        ConfigError: The directory holds another comparison, or cells made from other images,
            weights or versions, or another process writes there.
        RuntimeError: The process of a seed failed; the cells of the others are kept.
    """
    check_comparable(config, n_seeds)
    config = with_same_test_images(config)
    device = choose_device(config.device)
    # images and weights are found before anything is written
    images, weights, precision = fingerprints(config, device)
    facts = Facts.gather(config, images, weights, device, threads_of(config), precision)
    directory, made = claim(config.out, f"compare-{config.data.name}")
    refuse_links(directory, "out")
    try:
        how = f"finished cells are kept, the same command with --out {quoted(directory)} goes on"
        with locked(directory, "out"), going_on(how):
            check_directory(directory, config)
            seeds = range(config.seed, config.seed + n_seeds)
            seeded = [replace(config, seed=seed, out=str(directory)) for seed in seeds]
            # all cells that exist are checked before a missing one is run
            missing = [(each, _missing(each, facts, console)) for each in seeded]
            work = [replace(each, learners=names) for each, names in missing if names]
            failed = _carry_out(work, config, facts, console, resources) if work else {}
            cells = {
                name: [read_cell(cell_file(directory, name, seed))[0] for seed in seeds]
                for name in config.learners
                if name not in failed
            }
            summary = summarise(cells) | {"seeds": list(seeds)} | facts.plain()
            if failed:
                summary["failed"] = failed
            del summary["git_commit"]  # cells may come from several
            summary["git_commits"] = sorted({c.commit for each in cells.values() for c in each})
            text = json.dumps(summary, indent=2, allow_nan=False)
            write_text(directory / SUMMARY_FILE, text + "\n")
            _write_tables(directory, cells, seeds)
            for name, why in failed.items():
                say(console, f"failed: {why}; {name} is left out")
    except Exception:
        give_back(made)
        raise
    return directory, summary


def check_comparable(config: RunConfig, n_seeds: int) -> None:
    """Refuse a configuration that a comparison with so many seeds cannot use.

    Raises:
        ConfigError: It has values that do nothing in one, or that no run can use.
    """
    check_used(config)
    if config.controls:
        raise ConfigError(
            "controls", "true does nothing in a comparison; give it to `snn-artsy run`"
        )
    if config.record != RecordConfig():
        raise ConfigError("record", "a comparison records nothing; leave the section out")
    require(
        config.seed + n_seeds <= 2**31,
        "seeds",
        n_seeds,
        f"the last one would be {config.seed + n_seeds - 1}, beyond 2147483647",
    )
    make_schedule(config.snn.encoding, config.snn.teacher, config.snn.neuron.per_class)


def _write_tables(directory: Path, cells: Mapping[str, Sequence[Cell]], seeds: range) -> None:
    """What every cell measured, as CSV files in the comparison's directory."""
    measured = [
        ({"learner": name, "seed": seed}, {**cell.measures, **cell.matrices})
        for name, of_seed in cells.items()
        for seed, cell in zip(seeds, of_seed, strict=True)
    ]
    for name, text in tables(measured).items():
        write_text(directory / name, text)


def with_same_test_images(config: RunConfig) -> RunConfig:
    """The configuration for every seed: intervals over seeds and test images need the same images
    with each, so that where not all take part the first seed draws them."""
    data = config.data
    if not data.draws_test_images or data.test_seed is not None:
        return config
    return replace(config, data=replace(data, test_seed=config.seed))


def _missing(config: RunConfig, facts: Facts, console: Console) -> list[str]:
    """The learners that have no whole cell with the configuration's seed.

    Raises:
        ConfigError: A cell that is there was made otherwise.
    """
    missing = []
    for name in config.learners:
        file = cell_file(Path(str(config.out)), name, config.seed)
        try:
            made_with = read_cell(file)[1] if file.is_file() else None
        except DamageError as error:
            say(console, f"{error}; it is run again")
            made_with = None
        if made_with is None:
            missing.append(name)
        elif changed := differences(made_with, _facts_of(name, config, facts)):
            raise ConfigError(
                "out",
                f'"{file}" was made otherwise: {"; ".join(changed)}; choose another '
                "directory, or remove this cell to have it run again",
            )
    return missing


def _carry_out(
    seeded: Sequence[RunConfig],
    whole: RunConfig,
    facts: Facts,
    console: Console,
    resources: Resources,
) -> dict[str, str]:
    """Make the cells of each configuration's seed and learners; of learners that failed, why."""
    if resources.address is not None:
        extract_in_shards(seeded[0], resources, console)
    features = _prepared(
        seeded[0], facts, console
    )  # the features of other seeds are then kept, too
    file = Path(str(seeded[0].out)) / CONFIG_FILE
    if not file.exists():
        write_text(file, yaml_text(asdict(_shared(whole))))
    failed: dict[int, dict[str, str]] = {}
    if resources == HERE:
        for config in seeded:
            say(console, f"seed {config.seed}")
            if config is not seeded[0]:
                features = _prepared(config, facts, Console(quiet=True))
            failed[config.seed] = _run_seed(config, features, facts, console)
    else:
        work = {str(c.seed): {"config": asdict(c), "facts": facts.plain()} for c in seeded}
        own = [registry.origin(name) for registry, name in added(whole)]
        outcomes = carry_out(run_seed, work, own, resources, console)
        for seed, outcome in outcomes.items():
            if outcome.refused:
                raise ConfigError(*outcome.refused)
            if outcome.error is not None:
                raise RuntimeError(f"seed {seed}: {outcome.error}; the same command goes on")
            failed[int(seed)] = outcome.result
    reasons: dict[str, list[str]] = {}
    for config in seeded:
        for name, why in failed[config.seed].items():
            reasons.setdefault(name, []).append(f"seed {config.seed}: {why}")
    return {name: "; ".join(each) for name, each in reasons.items()}


def run_seed(given: Mapping[str, Any]) -> dict[str, str]:
    """Make the cells of one seed, in a process of its own; of learners that failed, why."""
    config, facts = build(RunConfig, given["config"]), Facts(**given["facts"])
    quiet = Console(quiet=True)
    if not (names := _missing(config, facts, quiet)):  # a process that died may have made some
        return {}
    config = replace(config, learners=names)
    return _run_seed(config, _prepared(config, facts, quiet), facts, quiet)


def _prepared(config: RunConfig, facts: Facts, console: Console) -> FeatureStream:
    features = prepare(config, facts.device, console)
    if changed := differences(facts.of_config(config), features.facts(config, facts.device)):
        raise ConfigError("out", f"{'; '.join(changed)} while the comparison ran; start it anew")
    return features


def _run_seed(
    config: RunConfig, features: FeatureStream, facts: Facts, console: Console
) -> dict[str, str]:
    failed = {}
    for name in config.learners:
        try:
            with computing_with(facts.threads):
                cell = _run(name, config, features, facts, console)
        except NotFinite as error:
            failed[name] = str(error)
            continue
        file = cell_file(Path(str(config.out)), name, config.seed)
        write_cell(file, cell, _facts_of(name, config, facts))
    return failed


def _facts_of(name: str, config: RunConfig, facts: Facts) -> Facts:
    """What the cell of one learner with the configuration's seed depends on."""
    return facts.of_config(replace(_shared(config), learners=[name]))


def summarise(cells: dict[str, list[Cell]]) -> dict[str, Any]:
    """``{"learners": {name: {measure: {mean, sd, values}}}, "pairs": [...], ...}``.

    ``a_last`` and ``a_last_spikes_only`` also have ``interval_95`` (`crossed_mean`); ``curves`` has
    mean, sd and values of `CURVES` at each step. Pairs are of A_last; a decision from spikes alone
    takes part as an entry of its own. Entries that gave the very same answers (``alike``, the first
    of each group stands for it) are counted once, or p would be corrected for tests that nobody
    made. ``warnings`` says what the seeds are too few for.
    """
    if not cells:
        return {"learners": {}, "pairs": [], "alike": [], "warnings": []}
    first = next(iter(cells.values()))[0]
    correct: dict[str, NDArray[np.float64]] = {}
    for name, each in cells.items():
        if any(not np.array_equal(cell.image, first.image) for cell in each):
            raise ConfigError("data", "test images differ between seeds or learners")
        correct[name] = np.stack([cell.correct for cell in each]).astype(np.float64)
        spikes = [cell.spikes_correct for cell in each if cell.spikes_correct is not None]
        if spikes:
            correct[name + SPIKES_ONLY] = np.stack(spikes).astype(np.float64)
    learners: dict[str, dict[str, Any]] = {}
    for name, each in cells.items():
        shared = [k for k in each[0].measures if all(k in cell.measures for cell in each)]
        learners[name] = {k: spread([cell.measures[k] for cell in each]) for k in shared}
        learners[name]["curves"] = {
            key: _curve([cell.curves[key] for cell in each]) for key in each[0].curves
        }
        learners[name]["a_last"]["interval_95"] = accuracy_interval(correct[name])
        if name + SPIKES_ONLY in correct:
            interval = accuracy_interval(correct[name + SPIKES_ONLY])
            learners[name]["a_last_spikes_only"]["interval_95"] = interval
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
        "warnings": few_seeds(len(correct[next(iter(correct))])),
    }


def accuracy_interval(correct: NDArray[np.float64]) -> list[float]:
    """95 % interval of an accuracy, which lies between 0 and 1."""
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


def few_seeds(n: int) -> list[str]:
    """What so many seeds are too few for."""
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


def _curve(values: list[list[float | None]]) -> dict[str, Any]:
    """Values of each seed -> mean and sd of each step; None where it does not apply."""
    steps = [[v for v in step if v is not None] for step in zip(*values, strict=True)]
    return {
        "mean": [mean(step) if step else None for step in steps],
        "sd": [stdev(step) if len(step) > 1 else None for step in steps],
        "values": values,
    }


def _run(
    name: str, config: RunConfig, features: FeatureStream, facts: Facts, console: Console
) -> Cell:
    steps: list[StepAnswers] = []
    measures = run_learner(name, config, features, facts.device, console, keep=steps)
    last = steps[-1]
    image = join([test for _, test in features.tasks]).index.cpu().numpy()
    order = np.argsort(image)
    spikes = None
    if last.spike_predicted is not None:
        spikes = (last.spike_predicted == last.labels)[order]
    scalars = {
        key: float(value)
        for key, value in measures.items()
        if isinstance(value, (bool, int, float, np.integer, np.floating)) and np.isfinite(value)
    }
    return Cell(
        scalars,
        facts.git_commit,
        image[order],
        (last.predicted == last.labels)[order],
        spikes,
        {
            key: [float(v) if np.isfinite(v) else None for v in measures[key]]
            for key in CURVES
            if key in measures
        },
        {
            key: [[float(v) if np.isfinite(v) else None for v in row] for row in measures[key]]
            for key in MATRICES
            if key in measures
        },
    )


def _shared(config: RunConfig) -> RunConfig:
    """What cells of one comparison have in common; nothing is recorded."""
    return replace(config, learners=["simplecil"], controls=False, record=RecordConfig(), out=None)


def check_directory(directory: Path, config: RunConfig) -> None:
    """One that is not empty must hold a comparison of the same configuration; leftovers of a
    killed process are removed. The caller holds its lock.

    Raises:
        ConfigError: It holds something else.
    """
    config = with_same_test_images(config)
    file = directory / CONFIG_FILE
    for part in (*directory.glob("*.part"), *directory.glob(f"{FOLDER}/*.part")):
        if part.name in _PARTS or part.parent.name == FOLDER:
            part.unlink()
    if file.is_file():
        written = read_mapping(file, "out", f'"{file}"')
        if changed := config_differences(written, asdict(_shared(config))):
            raise ConfigError(
                "out",
                f'"{file}" is of another comparison: {"; ".join(changed)}; choose another '
                "directory",
            )
    elif any(entry.name not in (LOCK_FILE, FOLDER) for entry in directory.iterdir()):
        raise ConfigError("out", f'"{directory}" holds something else; choose another directory')
