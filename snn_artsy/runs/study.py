"""From a hypothesis to its figure (``snn-artsy study``): what is varied, what is measured, seeds.

Every setting is a comparison (`snn_artsy.runs.compare`) of one learner over the same seeds in a
directory of its own, so that finished cells are kept when the same study, or one with more values,
seeds or measures, is asked for again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.checks import ConfigError, named, require, within
from snn_artsy.config import MOST_SEEDS, RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build, convert, unknown_key
from snn_artsy.config_sources import complete, flat
from snn_artsy.data import build_stream, load_source
from snn_artsy.evaluation.contrasts import answered, differences, in_short, shown_value, slopes
from snn_artsy.evaluation.statistics import seeds_mean, spread
from snn_artsy.export.measures import csv_text
from snn_artsy.output import write_outputs
from snn_artsy.printing import quoted, say
from snn_artsy.registry import LEARNERS
from snn_artsy.runs.begun import going_on, locked
from snn_artsy.runs.cells import Cell, cell_file, read_cell
from snn_artsy.runs.compare import (
    accuracy_interval,
    check_comparable,
    check_directory,
    compare,
    few_seeds,
)
from snn_artsy.runs.features import choose_device
from snn_artsy.runs.sweep import grid_cells, read_grid
from snn_artsy.runs.tables import COLUMNS, MeasureColumn, study_markdown
from snn_artsy.runs.workers import HERE, Resources

KEYS = ("hypothesis", "vary", "settings", "measure", "seeds")
"""Of a study's file, beside those of a run that all its settings share."""
MEASURES = ("forgetting_spikes_only", "a_last_spikes_only", "converted_share",
            "forgetting_max_last", "a_last")  # fmt: skip
"""Measured unless others are asked for: those of them that the learner has."""
_NAMES = """
    a_auc a_avg a_avg_spikes_only a_last a_last_new_spikes_only a_last_old_spikes_only
    a_last_spikes_only all_silent_share answers_changed_share backward_transfer converted_share
    domain_identified domain_opened domain_predicted dt_ms forgetting_first_last forgetting_max_last
    forgetting_spikes_only functional_share gate_identification gate_informedness gate_open_share
    gate_precision gate_recall gates_uninformative inference_ms_per_image joint_gradient joint_l2
    kept_samples max_rate_hz mean_open_gates n_born_silent n_consolidated n_contacts n_functional
    n_silent n_steps no_decision_share oracle_gate_accuracy oracle_task_accuracy parameters ridge
    seconds seconds_learning simulated_ms spikes_per_image stored_bytes stored_parameters
    subnetwork_norm_share synaptic_operations_per_image task_identification temperature test_steps
    til_a_avg til_a_last timing_contacts_changed timing_index timing_index_equal_density
    timing_index_equal_parameters vit_passes_per_image
"""
OF_THE_PACKAGE = frozenset(_NAMES.split())
"""Every number that some learner of the package has in a run's summary, those of single data sets
(``a_last:NAME``) aside."""
FORMATS = ("png", "pdf", "svg")
_FILES = ("study.json", "study.csv", "study.md", *(f"study.{kind}" for kind in FORMATS))


@dataclass(frozen=True)
class Setting:
    """One place of a study.

    Args:
        name: As tables show it.
        values: What it has instead of the shared configuration's, by dotted key.
        config: The whole configuration; the first of its learners is measured.
    """

    name: str
    values: dict[str, Any]
    config: RunConfig

    @property
    def learner(self) -> str:
        return self.config.learners[0]

    @property
    def directory(self) -> Path:
        return Path(str(self.config.out))


@dataclass(frozen=True)
class Study:
    """A hypothesis and how it is looked at.

    Args:
        settings: All of them, by name.
        varied: Keys of which every combination of values is a setting; none: settings with names of
            their own, of which the first is the reference.
        measures: Of the summary of a run; none: those of `MEASURES` that there are.
        seeds: How many, from the configuration's ``seed`` on.
        hypothesis: In words.
    """

    settings: dict[str, Setting]
    varied: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    seeds: int = 5
    hypothesis: str = ""


def planned(
    base: Mapping[str, Any], about: Mapping[str, Any], out: Path, typed: Collection[str] = ()
) -> Study:
    """A study with all its settings, checked before anything runs.

    Args:
        base: Values of a configuration that all settings share, nested.
        about: Values of `KEYS`: ``vary`` (dotted key -> its values) or ``settings`` (name -> values
            by key), and optionally ``hypothesis``, ``measure`` and ``seeds``.
        out: Directory of the study; each setting has its own below.
        typed: Keys of ``base`` that stand on the command line.

    Raises:
        ConfigError: Nothing or too much is varied, a value cannot be used or does nothing, or there
            are several learners in a setting.
    """
    for key, value in about.items():
        if key not in KEYS:
            raise unknown_key(key, value, KEYS)
    given = {key: value for key, value in about.items() if value is not None}
    if ("vary" in given) == ("settings" in given):
        raise ConfigError(
            "vary",
            "give what is varied, as KEY: [value, value], or settings, as NAME: {KEY: value}",
        )
    if "vary" in given:
        require(
            isinstance(given["vary"], Mapping), "vary", given["vary"], "give KEY: [value, value]"
        )
        vary = read_grid(given["vary"])
        settings, varied = _combinations(base, vary, out, typed), tuple(vary)
    else:
        settings, varied = _named(base, given["settings"], out, typed), ()
    for name, setting in settings.items():
        if len(setting.config.learners) != 1:
            raise ConfigError(
                "learners", f"a study measures one learner, {name!r} has several; choose one",
                setting.config.learners,
            )  # fmt: skip
    measures = convert(list[str], given.get("measure", []), "measure")
    require(len(set(measures)) == len(measures), "measure", measures, "name each once")
    if not any(LEARNERS.origin(setting.learner) for setting in settings.values()):
        for measure in measures:  # learners of one's own may have any others
            if measure not in OF_THE_PACKAGE and ":" not in measure:
                error = unknown_key(measure, "", OF_THE_PACKAGE)
                raise ConfigError("measure", f"is what no learner has ({error.reason})", measure)
    seeds = convert(int, given.get("seeds", Study.seeds), "seeds")
    within("seeds", seeds, 1, MOST_SEEDS)
    hypothesis = given.get("hypothesis")
    if isinstance(hypothesis, str):  # YAML's folded texts end with a line break
        hypothesis = " ".join(hypothesis.split()) or None
    hypothesis = convert(str | None, hypothesis, "hypothesis")
    for setting in settings.values():
        check_comparable(setting.config, seeds)
    return Study(settings, varied, tuple(measures), seeds, hypothesis or "")


def _combinations(
    base: Mapping[str, Any], vary: Mapping[str, Any], out: Path, typed: Collection[str]
) -> dict[str, Setting]:
    if "seed" in vary:
        raise ConfigError("vary", "seeds are not varied, every setting has all; leave seed out")
    with named("grid", "vary"):
        cells = grid_cells(base, vary, out, typed)
    short = [in_short(key) for key in vary]
    shown = short if len(set(short)) == len(short) else list(vary)
    settings = {}
    for cell in cells:
        values = zip(shown, cell.values.values(), strict=True)
        name = ", ".join(f"{key} {shown_value(value)}" for key, value in values)
        config = replace(cell.config, out=str(out / cell.name))
        settings[name] = Setting(name, cell.values, config)
    return settings


def _named(
    base: Mapping[str, Any], given: Any, out: Path, typed: Collection[str]
) -> dict[str, Setting]:
    whole = isinstance(given, Mapping) and all(
        isinstance(name, str) and (over is None or isinstance(over, Mapping))
        for name, over in given.items()
    )
    require(bool(whole and given), "settings", given, "give NAME: {KEY: value} lines")
    settings: dict[str, Setting] = {}
    folders: dict[str, str] = {}
    for name, over in given.items():
        folder = re.sub(r"[^A-Za-z0-9_.-]+", "_", convert(str, name, "settings"))
        free = not folder.startswith(".") and folder not in _FILES
        require(
            free,
            "settings",
            name,
            "no directory of a setting can be called by it, choose another name",
        )
        own = [key for key, _ in flat(over or {})]
        for key, why in (("seed", "every setting has all seeds"), ("out", "each has its own")):
            if key in own:
                raise ConfigError("settings", f"{name!r} has {key}, but {why}; leave it out")
        if folder in folders:
            both = f"{name!r} and {folders[folder]!r}"
            raise ConfigError("settings", f"{both} would share a directory; rename one")
        folders[folder] = name
        config = build(RunConfig, complete(base, over or {}, {"out": str(out / folder)}))
        check_used(config, typed)
        values = dict(flat(asdict(config)))
        settings[name] = Setting(name, {key: values.get(key) for key in own}, config)
    return settings


def carry_out(
    study: Study, out: Path, console: Console, resources: Resources = HERE
) -> dict[str, Any]:
    """Run the cells that are missing; write and return what was found.

    ``study.json`` holds it all, ``study.csv`` the measures of each cell, ``study.md`` the tables
    and ``study.png``, ``.pdf`` and ``.svg`` the figure.

    Raises:
        ConfigError: ``out`` holds something else or another study, or a measure is none that the
            learner has.
    """
    _check(study, out)
    cells: dict[str, list[Cell]] = {}
    summaries: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    how = f"finished cells are kept, the same command with --out {quoted(out)} goes on"
    with going_on(how):
        _check_first(study)
    for number, (name, setting) in enumerate(study.settings.items(), 1):
        say(console, f"{name} ({number} of {len(study.settings)})")
        with going_on(how):
            _, summary = compare(setting.config, study.seeds, Console(quiet=True), resources)
        summaries[name] = summary
        if setting.learner in summary["learners"]:
            files = [cell_file(setting.directory, setting.learner, s) for s in summary["seeds"]]
            cells[name] = [read_cell(file)[0] for file in files]
            _check_measures(study, cells[name])
        else:
            failed[name] = summary["failed"][setting.learner]
            say(console, f"failed: {failed[name]}; {name} is left out")
    first = next(iter(study.settings.values()))
    found = _found(study, cells) | {
        "data": first.config.data.name,
        "backbone": first.config.backbone.name,
        "failed": failed,
        "commits": sorted({commit for s in summaries.values() for commit in s["git_commits"]}),
        "device": next(iter(summaries.values()))["device"],
    }
    _write(found, out)
    return found


def _check(study: Study, out: Path) -> None:
    """Find out, before anything runs, whether what is in the directory is this study's.

    Raises:
        ConfigError: It is not; what is there stays.
    """
    file = out / "study.json"
    if file.is_file():
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            there = {name: content["settings"][name]["learner"] for name in content["study"]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                "out", f'"{file}" is no study of this version ({error}); choose another --out'
            ) from error
        if gone := [name for name in there if name not in study.settings]:
            raise ConfigError(
                "out", f'"{file}" has the setting {gone[0]!r}, which this study has not; choose '
                "another --out, or keep it"
            )  # fmt: skip
        for name, learner in there.items():
            if learner != study.settings[name].learner:
                raise ConfigError(
                    "out", f'"{file}" measures {learner} in {name!r}; choose another --out'
                )
        if not any(setting.directory.is_dir() for setting in study.settings.values()):
            raise ConfigError(
                "out", f'"{file}" has no cells beside it to go on from; choose another --out'
            )
    elif others := [name for name in _FILES if (out / name).exists()]:
        raise ConfigError("out", f'"{out / others[0]}" is of no study here; choose another --out')
    streams: set[str] = set()
    for setting in study.settings.values():
        choose_device(setting.config.device)
        data = setting.config.data
        if repr(data) not in streams:  # images that are not there, or cannot be cut like this
            build_stream(data, load_source(data), setting.config.seed)
            streams.add(repr(data))
        if setting.directory.is_dir():
            with locked(setting.directory, "out"):
                check_directory(setting.directory, setting.config)


def _check_first(study: Study) -> None:
    """Have one cell made first, where measures are named: it tells whether the learner has them."""
    setting = next(iter(study.settings.values()))
    config = setting.config
    if study.measures and not cell_file(setting.directory, setting.learner, config.seed).exists():
        _, summary = compare(config, 1, Console(quiet=True))
        if setting.learner in summary["learners"]:
            file = cell_file(setting.directory, setting.learner, config.seed)
            _check_measures(study, [read_cell(file)[0]])


def _check_measures(study: Study, cells: Sequence[Cell]) -> None:
    known = {key for cell in cells for key in cell.measures}
    for measure in study.measures:
        if measure not in known:
            error = unknown_key(measure, measure, sorted(known))
            reason = "the learner has no such measure; finished cells are kept"
            raise ConfigError("measure", f"{reason} ({error.reason})", measure)


def _found(study: Study, cells: Mapping[str, list[Cell]]) -> dict[str, Any]:
    """Everything that the cells say, as ``study.json`` has it."""
    seeds = [next(iter(study.settings.values())).config.seed + k for k in range(study.seeds)]
    everywhere = {key for each in cells.values() for key in each[0].measures}
    measures = study.measures or tuple(key for key in MEASURES if key in everywhere)
    columns = {
        key: COLUMNS.get(key, MeasureColumn(key, key.replace("_", " "), 1.0)) for key in measures
    }
    varied = {n: {k: study.settings[n].values[k] for k in study.varied} for n in cells}
    contrasts = [*differences(varied), *slopes(varied)] if cells else []
    settings: dict[str, dict[str, Any]] = {
        name: {
            "values": setting.values,
            "learner": setting.learner,
            "directory": setting.directory.name,
            "measures": {},
        }
        for name, setting in study.settings.items()
    }
    answers = {}
    for measure in measures:
        values = {
            name: [cell.measures[measure] for cell in each]
            for name, each in cells.items()
            if all(measure in cell.measures for cell in each)
        }
        correct = _correct(measure, cells)
        for name, each in values.items():
            interval = _interval(each, None if correct is None else correct[name])
            settings[name]["measures"][measure] = {**spread(each), "interval_95": interval}
        answers[measure] = answered(contrasts, values, correct)
    return {
        "hypothesis": study.hypothesis,
        "varied": list(study.varied),
        "seeds": seeds,
        "measures": {k: {"title": c.title, "scale": c.scale} for k, c in columns.items()},
        "settings": settings,
        "contrasts": answers,
        "warnings": few_seeds(study.seeds),
        "study": {name: setting.values for name, setting in study.settings.items()},
        "cells": {
            f"{name}/{seed}": cell.measures
            for name, each in cells.items()
            for seed, cell in zip(seeds, each, strict=True)
        },
    }


def _correct(
    measure: str, cells: Mapping[str, list[Cell]]
) -> dict[str, NDArray[np.float64]] | None:
    """Right and wrong answers of each setting, [n_seeds, n_images], if the measure is their share
    and all settings have the same images."""
    answers = {
        "a_last": lambda cell: cell.correct,
        "a_last_spikes_only": lambda cell: cell.spikes_correct,
    }.get(measure)
    every = [cell for each in cells.values() for cell in each]
    if answers is None or any(answers(cell) is None for cell in every):
        return None
    if any(not np.array_equal(cell.image, every[0].image) for cell in every):
        return None
    return {
        name: np.stack([answers(cell) for cell in each]).astype(np.float64)
        for name, each in cells.items()
    }


def _interval(values: Sequence[float], correct: NDArray[np.float64] | None) -> list[float] | None:
    if correct is not None:
        return accuracy_interval(correct)
    return list(seeds_mean(values).interval()) if len(values) > 1 else None


def _write(found: Mapping[str, Any], out: Path) -> None:
    """Write the study's files, each whole; those of the same study are replaced."""
    from snn_artsy.plots.study import study_figure
    from snn_artsy.plots.style import rendered

    keys = list(dict.fromkeys(k for s in found["settings"].values() for k in s["values"]))
    rows = []
    for key, cell in found["cells"].items():
        name, _, seed = key.rpartition("/")
        values = dict.fromkeys(keys) | found["settings"][name]["values"]
        rows.append({"setting": name, **values, "seed": seed, **cell})
    files = {
        "study.json": (json.dumps(found, indent=1, allow_nan=False) + "\n").encode(),
        "study.csv": csv_text(rows).encode(),
        "study.md": ("\n".join(study_markdown(found)) + "\n").encode(),
    }
    if found["cells"]:
        figure = study_figure(found)
        files |= {f"study.{kind}": rendered(figure, kind, dpi=200) for kind in FORMATS}
    write_outputs({out / name: content for name, content in files.items()}, overwrite=True)
