"""Runs and comparisons from a script or a notebook: the functions of ``snn_artsy``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.jupyter import JupyterMixin

from snn_artsy.checks import ConfigError, one_of, require, within
from snn_artsy.config import MOST_SEEDS, RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build, convert
from snn_artsy.config_sources import complete, flat, layered, read_config
from snn_artsy.files import at_home
from snn_artsy.printing import make_console
from snn_artsy.registry import KINDS
from snn_artsy.runs.directory import claim, give_back

if TYPE_CHECKING:
    from snn_artsy.runs.run import RunResult

# torch and h5py are imported by the functions that need them

Configuration = RunConfig | Mapping[str, Any] | str | Path


@dataclass(frozen=True)
class Comparison(JupyterMixin):
    """Where a comparison lies, and what came out of it (``summary.json``); shown as its tables."""

    directory: Path
    summary: dict[str, Any] = field(repr=False)

    def __rich__(self) -> Group:
        from snn_artsy.runs.tables import comparison_table, domains_table, pairs_table

        tables = [comparison_table(self.summary)] if self.summary["learners"] else []
        tables += domains_table(self.summary)
        return Group(*tables, *([pairs_table(self.summary)] if self.summary["pairs"] else []))


@dataclass(frozen=True)
class StudyResult(JupyterMixin):
    """Where a study lies, and what came out of it (``study.json``); shown as its tables."""

    directory: Path
    found: dict[str, Any] = field(repr=False)

    def __rich__(self) -> Group:
        from snn_artsy.runs.tables import contrasts_table, study_table

        return Group(study_table(self.found), contrasts_table(self.found))


def configured(
    config: Configuration | None = None,
    options: Mapping[str, Any] | None = None,
    **below: Any,
) -> RunConfig:
    """A configuration from what a user has: an object, a mapping, a YAML file, single options.

    Args:
        config: What options beat; a text or a path is that of a YAML file.
        options: Values by key, nested (``data={"n_tasks": 5}``) or dotted.
        below: Defaults that ``config`` beats.

    Raises:
        ConfigError: An unknown key, a value that cannot be used, or one that does nothing.
    """
    options = options or {}
    whole = build(RunConfig, complete(below, values_of(config), options))
    check_used(whole, [key for key, _ in flat(options)])
    return whole


def values_of(config: Configuration | None) -> Mapping[str, Any]:
    """What a user has given as a configuration, as values by key.

    Raises:
        ConfigError: An unknown key in a file, or something else.
    """
    if isinstance(config, RunConfig):
        return asdict(config)
    if isinstance(config, (str, Path)):
        return read_config(str(config))
    mapping = config is None or isinstance(config, Mapping)
    require(mapping, "config", config, "give a RunConfig, a mapping, or a YAML file")
    return config or {}


def run(config: Configuration | None = None, *, verbose: bool = False, **options: Any) -> RunResult:
    """Learn the tasks, evaluate after each, record: what ``snn-artsy run`` does.

    ``sa.run()`` needs nothing; ``sa.run(learners=["simplecil"], data={"n_tasks": 5}, seed=7)`` sets
    keys, and ``sa.run("my.yaml", out="runs/mine")`` beats a file's.

    Args:
        config: `RunConfig`, a mapping, or a YAML file; default: the embedded one.
        verbose: Print progress and remarks.
        options: Keys of a configuration, which beat ``config``.

    Returns:
        The run's ``directory`` and ``summary``; ``open()`` gives its file, and a notebook shows its
        table.

    Raises:
        ConfigError: A key or a value cannot be used.
    """
    chosen = configured(config, options)
    from snn_artsy.runs.run import execute

    return execute(chosen, _console(verbose))


def resume(directory: str | Path, *, verbose: bool = False) -> RunResult:
    """Go on with an interrupted run, with the numbers of one that was not: ``snn-artsy resume``.

    Raises:
        ConfigError: There is no run to go on with, or something that it depends on has changed.
    """
    from snn_artsy.runs.run import resume

    path = at_home(directory)
    if not path.is_dir():
        raise ConfigError("run", f'no directory "{directory}"; give that of an interrupted run')
    return resume(path, _console(verbose))


def compare(
    config: Configuration | None = None,
    *,
    seeds: int = 5,
    workers: int = 1,
    verbose: bool = False,
    **options: Any,
) -> Comparison:
    """Compare learners over seeds, pair by pair: what ``snn-artsy compare`` does.

    Args:
        config, options: As in `run`; ``data.train_share`` is 0.9 unless given.
        seeds: How many, from the configuration's ``seed`` on.
        workers: Seeds at a time; each has a process of its own if there are several.
        verbose: Print progress and remarks.

    Returns:
        The comparison's ``directory`` and ``summary``; a notebook shows its tables.

    Raises:
        ConfigError: A key or a value cannot be used, or the directory holds something else.
    """
    within("seeds", convert(int, seeds, "seeds"), 1, MOST_SEEDS)
    chosen = configured(config, options, **COMPARED)
    from snn_artsy.runs.compare import compare
    from snn_artsy.runs.workers import Resources

    return Comparison(*compare(chosen, seeds, _console(verbose), Resources(workers=workers)))


COMPARED = {"data.train_share": 0.9}
"""Seeds of a comparison draw their own training images, or SimpleCIL would not vary at all."""

STUDIED: dict[str, Any] = {**COMPARED, "learners": ["artsy_snn"]}
"""Shared by the settings of a study, unless others are given."""


def study(
    about: Mapping[str, Any] | str | Path | None = None,
    *,
    hypothesis: str | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    measure: Sequence[str] | None = None,
    seeds: int | None = None,
    workers: int = 1,
    verbose: bool = False,
    **options: Any,
) -> StudyResult:
    """Vary keys, measure one learner over seeds, test the differences: ``snn-artsy study``.

    Args:
        about: A study's YAML file, or a mapping like one; what else is given beats it.
        hypothesis: In words, for tables.
        vary: Dotted key -> its values; every combination is a setting.
        settings: In place of it: name -> keys of each setting; the first is the reference.
        measure: Measures of a summary; default: forgetting, accuracy and conversions.
        seeds: How many (default: 5), from the configuration's ``seed`` on.
        workers: Seeds at a time; each has a process of its own if there are several.
        verbose: Print progress and remarks.
        options: Keys of a configuration that all settings share; ``learners`` is ``artsy_snn``
            unless given.

    Returns:
        The study's ``directory`` and ``found`` (``study.json``); a notebook shows its tables.

    Raises:
        ConfigError: A key or a value cannot be used, or the directory holds something else.
    """
    from snn_artsy.runs.study import KEYS, carry_out, planned
    from snn_artsy.runs.workers import Resources

    if isinstance(about, (str, Path)):
        about = read_config(str(about), KEYS)
    require(about is None or isinstance(about, Mapping), "about", about, "give a YAML file")
    content = dict(about or {})
    typed = {"hypothesis": hypothesis, "vary": vary, "settings": settings, "measure": measure,
             "seeds": seeds}  # fmt: skip
    own = {key: content.pop(key) for key in KEYS if key in content}
    own |= {key: value for key, value in typed.items() if value is not None}
    base = layered(STUDIED, content, options)
    keys = [key for key, _ in flat(options)]
    where = base.pop("out", None)
    planned(base, own, Path("runs"), keys)  # all is checked before a directory is made
    out, made = claim(where, "study")
    try:
        found = carry_out(
            planned(base, own, out, keys), out, _console(verbose), Resources(workers=workers)
        )
    except Exception:
        give_back(made)
        raise
    return StudyResult(out, found)


def available(kind: str) -> tuple[str, ...]:
    """Names that can be chosen, of one kind: ``learners``, ``rules``, ``data``, ``figures``, ...

    Raises:
        ConfigError: There is no such kind, with those that are.
    """
    one_of("kind", kind, tuple(KINDS))
    return tuple(KINDS[kind])


def _console(verbose: bool) -> Console:
    return make_console() if verbose else Console(quiet=True)
