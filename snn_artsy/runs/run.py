"""Runs from their configuration to their summary: start, resume, carry out."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.jupyter import JupyterMixin
from rich.text import Text

from snn_artsy.backbone import require_engine
from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.files import SUMMARY_FILE
from snn_artsy.learners.shuffled import timing_indices
from snn_artsy.printing import as_text, quoted, say
from snn_artsy.provenance import follows, started_together
from snn_artsy.recording import storage
from snn_artsy.recording.estimate import TaskSize, check_disk, in_words, listed
from snn_artsy.recording.lock import WriterLock
from snn_artsy.recording.reader import Run, open_run
from snn_artsy.recording.schema import DamageError
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.runs import checkpoint
from snn_artsy.runs.answers import TEST_IMAGES, known_images
from snn_artsy.runs.begun import Begun, begin, going_on, locked, read_begun, withdraw
from snn_artsy.runs.checkpoint import state_path
from snn_artsy.runs.checkpointer import Checkpointer
from snn_artsy.runs.directory import check_out, claim, give_back, is_empty
from snn_artsy.runs.facts import Facts, config_differences, differences, remarks
from snn_artsy.runs.features import FeatureStream, choose_device, prepare
from snn_artsy.runs.foreign import as_found, refuse_links
from snn_artsy.runs.loop import run_controls, run_learner
from snn_artsy.runs.measure_log import MeasureLog, require_tensorboard
from snn_artsy.runs.tables import controls_table, domains_table, summary_table
from snn_artsy.synapses.pairing import make_schedule
from snn_artsy.threads import computing_with, threads_of


@dataclass(frozen=True)
class RunResult(JupyterMixin):
    """Where a run lies and what came out of it (``summary.json``); shown as its tables."""

    directory: Path
    summary: dict[str, Any] = field(repr=False)

    def open(self) -> Run:
        """Open the recording of the run, to be used in ``with``."""
        return open_run(self.directory)

    def __rich__(self) -> Group:
        tables = [summary_table(self.summary), *domains_table(self.summary)]
        if self.summary.get("controls"):
            tables.append(controls_table(self.summary))
        failed = self.summary.get("failed", {}).values()
        return Group(*tables, *(Text(f"failed: {why}") for why in failed))


def execute(config: RunConfig, console: Console | None = None) -> RunResult:
    """Run the configured learners over the task stream; leaves the run's directory.

    The directory gets ``run.h5`` from the start, ``summary.json`` and ``figures/`` at the end. An
    interrupted run keeps what was recorded until then, marked interrupted; where ``config.out``
    holds one of the same configuration, it goes on as with `resume`. A learner whose numbers are no
    longer finite is given up and named in the summary as ``failed``; the others go on.

    Raises:
        ConfigError: The configuration does not fit the data, the backbone or the machine, or
            ``config.out`` holds something else.
    """
    console = console or Console(quiet=True)
    if follows():  # another process says and keeps what comes out
        with tempfile.TemporaryDirectory() as out:
            return _execute(replace(config, out=str(Path(out, "run"))), Console(quiet=True))
    return _execute(config, console)


def _execute(config: RunConfig, console: Console) -> RunResult:
    check_used(config)
    make_schedule(
        config.snn.encoding, config.snn.teacher, config.snn.neuron.per_class
    )  # refuse before anything is computed
    directory, made = claim(config.out, config.data.name)
    refuse_links(directory, "out")
    config = replace(config, out=str(directory))
    try:
        with locked(directory, "out") as lock, going_on(_how(directory)):
            if is_empty(directory):
                begin(directory, config)
                try:
                    return _go_on(Begun(config), directory, lock, console)
                except Exception:
                    withdraw(directory)
                    raise
            check_out(config.out)
            if started_together():
                raise ConfigError(
                    "out",
                    f'"{directory}" holds a run, which only one process can go on with; '
                    "use resume without torchrun, or give another directory",
                )
            begun = read_begun(directory)
            if changed := config_differences(asdict(begun.config), asdict(config)):
                raise ConfigError(
                    "out",
                    f'"{directory}" holds a run that was begun otherwise: '
                    f"{'; '.join(changed)}; give another directory",
                )
            return _go_on(replace(begun, config=config), directory, lock, console)
    except Exception:
        give_back(made)
        raise


def resume(directory: Path, console: Console | None = None) -> RunResult:
    """Go on with an interrupted run from its checkpoint: after the last task that a learner
    finished, in the spiking learner after the last epoch. Finished learners are not run again.
    What is damaged is named, and computed again from what is whole.

    On the CPU the numbers are those of a run that was never interrupted; it computes with as many
    threads as the run began with.

    Raises:
        ConfigError: No run there, a finished one or one that is still being written, or it began
            with another configuration, other images, weights, device or versions. Whatever is
            there stays as it is.
    """
    console = console or Console(quiet=True)
    refuse_links(directory)
    with locked(directory, "run") as lock, going_on(_how(directory)):
        begun = read_begun(directory)
        begun = replace(begun, config=as_found(begun.config, directory))
        return _go_on(begun, directory, lock, console)


def _how(directory: Path) -> str:
    return f"`snn-artsy resume {quoted(directory)}` goes on from there"


def _go_on(begun: Begun, directory: Path, lock: WriterLock, console: Console) -> RunResult:
    """From what is there to the end; the directory's lock is held."""
    config = begun.config
    if config.record.tensorboard:
        require_tensorboard()
    device = choose_device(config.device)
    require_engine(config.backbone.engine, device)
    if begun.facts is not None:
        # what takes no time first: versions, device
        _check(begun.facts, Facts.gather(config, begun.facts.images, begun.facts.backbone_sha256,
                                         device, begun.facts.threads,
                                         begun.facts.precision))  # fmt: skip
    features = prepare(config, device, console)
    with computing_with(threads_of(config) if begun.facts is None else begun.facts.threads):
        facts = now = features.facts(config, device)
        if begun.facts is not None:
            facts = begun.facts
            _check(facts, now)
            for remark in remarks(facts, now):
                say(console, f"{remark}: last digits can differ")
        return _carry_out(begun, facts, directory, device, features, lock, console)


def _check(facts: Facts, now: Facts) -> None:
    if changed := differences(facts, now):
        raise ConfigError(
            "run",
            f"not what it began with: {'; '.join(changed)}; give it that back, or start a new run",
        )


def _recorder(
    begun: Begun, facts: Facts, directory: Path, lock: WriterLock, console: Console
) -> tuple[RunRecorder, checkpoint.Checkpoint, list[StepAnswers]]:
    """The recorder, and what it goes on from: the newest checkpoint all of whose parts are whole,
    with the answers of its learner."""
    attributes = facts.attributes()
    text = attributes.pop("config")
    record = begun.config.record
    if begun.facts is None:
        recorder = RunRecorder(directory, text, attributes, record, lock=lock)
        return recorder, checkpoint.Checkpoint(facts), []
    for each in begun.damaged:
        _say_damaged(each, console)
    for latest in begun.checkpoints:
        try:
            steps = checkpoint.load_answers(directory, latest)
            recorder = RunRecorder(
                directory, text, attributes, record, recorded=latest.recorded, lock=lock
            )
            return recorder, latest, steps
        except DamageError as error:
            _say_damaged(str(error), console)
    recorder = RunRecorder(directory, text, attributes, record, recorded={}, lock=lock)
    return recorder, checkpoint.Checkpoint(facts), []


def _say_damaged(what: str, console: Console) -> None:
    say(console, f"{what}; what it held is computed again")


def _carry_out(
    begun: Begun,
    facts: Facts,
    directory: Path,
    device: str,
    features: FeatureStream,
    lock: WriterLock,
    console: Console,
) -> RunResult:
    """Carry a run out once its features are there."""
    config = begun.config
    sizes = [TaskSize(len(t.classes), len(t.train), len(t.test)) for t in features.stream.tasks]
    expected, free = check_disk(config, features.dim, sizes, directory)
    say(
        console,
        f"run.h5: about {in_words(sum(expected.values()))} before compression "
        f"({listed(expected)}); {in_words(free)} free",
    )
    recorder, latest, steps = _recorder(begun, facts, directory, lock, console)
    with recorder:
        recorder.classes(features.stream.class_names)
        checkpointer = Checkpointer(directory, recorder, latest, device, steps=steps)
        log = MeasureLog(directory, config.record.tensorboard)
        for name in config.learners:
            if name in latest.finished or name in latest.failed:
                continue
            file = state_path(directory, name)
            try:
                measures = run_learner(
                    name,
                    config,
                    features,
                    device,
                    console,
                    recorder,
                    file,
                    None,
                    checkpointer,
                    log,
                )
                latest.finish(_plain(measures))
            except NotFinite as error:
                latest.fail(str(error))
            checkpointer.save()
        learners, failed = latest.finished, dict(latest.failed)
        controls: dict[str, dict[str, float]] = {}
        if config.controls:
            try:
                controls = run_controls(config, features, device, console, checkpointer)
            except NotFinite as error:
                failed["controls"] = str(error)
        if controls and "artsy_snn" in learners:
            accuracy = learners["artsy_snn"]["a_last_spikes_only"]
            learners["artsy_snn"] |= timing_indices(accuracy, controls)
    summary = {
        "learners": learners,
        "chance": 1.0 / features.stream.n_classes,
        "class_order": features.stream.class_order.tolist(),
        "class_names": [as_text(name) for name in features.stream.class_names],
        **facts.plain(),
        "states": latest.states,
        "feature_seconds": features.seconds,
    }
    if len(features.stream.domains) > 1:
        summary["domains"] = features.stream.by_domain()
    if controls:
        summary["controls"] = controls
    if failed:
        summary["failed"] = failed
    checkpoint.write_tensors(
        directory / TEST_IMAGES, known_images(test for _, test in features.tasks)
    )
    summary = _plain(summary)
    text = json.dumps(summary, indent=2, allow_nan=False)
    storage.write_text(directory / SUMMARY_FILE, text + "\n")
    _draw(directory, console)
    checkpoint.remove(directory)
    for name, measures in summary["learners"].items():
        if tasks := measures.get("unconverted_tasks"):
            say(
                console,
                f"{name}: no silent synapse converted in {len(tasks)} of {len(features.tasks)} "
                f"tasks ({', '.join(str(t + 1) for t in tasks)}), so that spikes alone cannot tell "
                "their classes; it takes more training images or epochs (snn.plasticity.epochs)",
            )
        if reason := measures.get("reference_engine"):
            say(
                console, f"{name}: contacts changed in plain torch and not compiled, since {reason}"
            )
        if name == "artsy_snn" and (coarse := config.snn.coarse_update()):
            say(console, f"{name}: {coarse}")
        if measures.get("gates_uninformative"):
            say(
                console,
                f"{name}: gates uninformative, {measures['mean_open_gates']:.1f} of "
                f"{len(features.tasks)} open on average, hardly more often for their own task "
                f"(by {measures['gate_informedness']:.0%})",
            )
    return RunResult(directory, summary)


def _draw(directory: Path, console: Console) -> None:
    # Figures of what a run did not record are no news at its end; `plot` says why there are none.
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    try:
        # matplotlib is slow to import and only needed at the end
        from snn_artsy.plots import save_figures

        with open_run(directory) as run, console.status("drawing figures", spinner="line"):
            save_figures(run, directory / "figures", skipped=skipped, failed=failed, overwrite=True)
    except Exception as error:  # the run is done, whatever becomes of its figures
        say(console, f"figures left out: {error}")
    for name, reason in failed.items():
        say(console, " ".join(f"figure {name} left out: {reason}".split()))


def _plain(value: Any) -> Any:
    """JSON types only: arrays to lists, NaN (a measure that does not apply) to null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
