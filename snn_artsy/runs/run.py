"""The one loop: tasks -> learner -> evaluation -> recorder."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.jupyter import JupyterMixin

from snn_artsy.checks import ConfigError, NotFinite, in_short, require_finite
from snn_artsy.config import RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build
from snn_artsy.evaluation.measures import StepAnswers, measure
from snn_artsy.learners import build as build_learner
from snn_artsy.learners import build_snn
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import LabelledBatch, Learner, Prediction
from snn_artsy.learners.tasks import join, take
from snn_artsy.printing import quoted, say
from snn_artsy.recording import storage
from snn_artsy.recording.estimate import TaskSize, check_disk, in_words, listed
from snn_artsy.recording.lock import WriterLock
from snn_artsy.recording.reader import Run, open_run
from snn_artsy.recording.schema import DamageError, RecordingError
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.runs import checkpoint
from snn_artsy.runs.begun import Begun, begin, locked, read_begun, withdraw
from snn_artsy.runs.directory import check_out, claim, give_back, is_empty
from snn_artsy.runs.facts import Facts, config_differences, differences, remarks
from snn_artsy.runs.features import Frozen, choose_device, prepare
from snn_artsy.runs.foreign import as_found, refuse_links
from snn_artsy.runs.keeper import Keeper
from snn_artsy.runs.progress import progress_bar
from snn_artsy.runs.tables import controls_table, summary_table
from snn_artsy.synapses.pairing import make_schedule
from snn_artsy.threads import computing_with, threads_of
from snn_artsy.yaml_file import read_mapping

# Test samples given to a learner at a time; no answer depends on it.
TEST_BATCH = 500


@dataclass(frozen=True)
class RunResult(JupyterMixin):
    """Where a run lies and what came out of it (``summary.json``); shown as its tables."""

    directory: Path
    summary: dict[str, Any] = field(repr=False)

    def open(self) -> Run:
        """Its recording; to be used in ``with``."""
        return open_run(self.directory)

    def __rich__(self) -> Group:
        found = [summary_table(self.summary)]
        if self.summary.get("controls"):
            found.append(controls_table(self.summary))
        return Group(*found)


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
    check_used(config)
    make_schedule(config.snn.encoding, config.snn.teacher)  # refuse before anything is computed
    directory, made = claim(config.out, config.data.name)
    refuse_links(directory, "out")
    config = replace(config, out=str(directory))
    try:
        with locked(directory, "out") as lock, _telling_how_to_go_on(directory):
            if is_empty(directory):
                begin(directory, config)
                try:
                    return _go_on(Begun(config), directory, lock, console)
                except Exception:
                    withdraw(directory)
                    raise
            check_out(config.out)
            begun = read_begun(directory)
            if changed := config_differences(asdict(begun.config), asdict(config)):
                raise ConfigError(
                    f'out: "{directory}" holds a run that was begun otherwise: '
                    f"{'; '.join(changed)}; give another directory"
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
    with locked(directory, "run") as lock, _telling_how_to_go_on(directory):
        begun = read_begun(directory)
        begun = replace(begun, config=as_found(begun.config, directory))
        return _go_on(begun, directory, lock, console)


@contextmanager
def _telling_how_to_go_on(directory: Path) -> Iterator[None]:
    """An interrupt says how the run goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (f"; `snn-artsy resume {quoted(directory)}` goes on from there",)
        raise


def _go_on(begun: Begun, directory: Path, lock: WriterLock, console: Console) -> RunResult:
    """From what is there to the end; the directory's lock is held."""
    config = begun.config
    device = choose_device(config.device)
    if begun.facts is not None:
        # what takes no time first: versions, device
        _check(begun.facts, Facts.gather(config, begun.facts.images, begun.facts.backbone_sha256,
                                         device, begun.facts.threads))  # fmt: skip
    frozen = prepare(config, device, console)
    with computing_with(threads_of(config) if begun.facts is None else begun.facts.threads):
        facts = now = frozen.facts(config, device)
        if begun.facts is not None:
            facts = begun.facts
            _check(facts, now)
            for remark in remarks(facts, now):
                say(console, f"{remark}: last digits can differ")
        return _carry_out(begun, facts, directory, device, frozen, lock, console)


def _check(facts: Facts, now: Facts) -> None:
    if changed := differences(facts, now):
        raise ConfigError(
            f"run: not what it began with: {'; '.join(changed)}; give it that back, or start a new "
            "run"
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
    for kept in begun.checkpoints:
        try:
            steps = checkpoint.load_answers(directory, kept)
            recorder = RunRecorder(
                directory, text, attributes, record, recorded=kept.recorded, lock=lock
            )
            return recorder, kept, steps
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
    frozen: Frozen,
    lock: WriterLock,
    console: Console,
) -> RunResult:
    """Everything after the features."""
    config = begun.config
    sizes = [TaskSize(len(t.classes), len(t.train), len(t.test)) for t in frozen.stream.tasks]
    expected, free = check_disk(config, frozen.dim, sizes, directory)
    say(
        console,
        f"run.h5: about {in_words(sum(expected.values()))} before compression "
        f"({listed(expected)}); {in_words(free)} free",
    )
    recorder, kept, steps = _recorder(begun, facts, directory, lock, console)
    with recorder:
        keeper = Keeper(directory, recorder, kept, device, steps=steps)
        for name in config.learners:
            if name in kept.finished or name in kept.failed:
                continue
            file = state_path(directory, name)
            try:
                measures = run_learner(
                    name, config, frozen, device, console, recorder, file, keeper=keeper
                )
                kept.finish(_plain(measures))
            except NotFinite as error:
                kept.fail(str(error))
            keeper.save()
        learners, failed = kept.finished, dict(kept.failed)
        controls: dict[str, dict[str, float]] = {}
        if config.controls:
            try:
                controls = run_controls(config, frozen, device, console, keeper)
            except NotFinite as error:
                failed["controls"] = str(error)
        if controls and "artsy_snn" in learners:
            reference = learners["artsy_snn"]["a_last_spikes_only"]
            shuffled = controls["shuffled_timing"]["a_last_spikes_only"]
            learners["artsy_snn"]["timing_index"] = reference - shuffled
    summary = {
        "learners": learners,
        "chance": 1.0 / len(frozen.stream.class_order),
        "class_order": frozen.stream.class_order.tolist(),
        **facts.plain(),
        "states": kept.states,
        "feature_seconds": frozen.seconds,
    }
    if controls:
        summary["controls"] = controls
    if failed:
        summary["failed"] = failed
    summary = _plain(summary)
    text = json.dumps(summary, indent=2, allow_nan=False)
    storage.write_text(directory / "summary.json", text + "\n")
    _draw(directory, console)
    for why in failed.values():
        say(console, f"failed: {why}")
    checkpoint.remove(directory)
    for name, measures in summary["learners"].items():
        if tasks := measures.get("unconverted_tasks"):
            say(
                console,
                f"{name}: no silent synapse converted in {len(tasks)} of {len(frozen.tasks)} tasks "
                f"({', '.join(map(str, tasks))}), so that spikes alone cannot tell their classes; "
                "it takes more training images, or more epochs (snn.plasticity.epochs)",
            )
        if measures.get("gates_uninformative"):
            say(
                console,
                f"{name}: gates uninformative, {measures['mean_open_gates']:.1f} of "
                f"{len(frozen.tasks)} open on average",
            )
    return RunResult(directory, summary)


def state_path(directory: Path, learner: str) -> Path:
    """Where a run keeps what a learner has learnt."""
    return directory / "state" / f"{learner}.safetensors"


@dataclass(frozen=True)
class Trained:
    """A spiking learner as its run left it, with the run's tasks."""

    config: RunConfig
    frozen: Frozen
    learner: ArtsySNN
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
            f'run: no trained artsy_snn at "{directory}"; give the directory of a finished '
            "`snn-artsy run` whose learners include artsy_snn"
        )
    config = build(RunConfig, read_mapping(config_file, f'run: "{config_file}"'))
    config = as_found(config, directory)
    facts, digest = _summarised(directory / "summary.json")
    device = choose_device(config.device)
    frozen = prepare(config, device, Console(quiet=True))
    # what it has learnt may be used by other versions and on another device
    now = replace(frozen.facts(config, device), versions=facts.versions, device=facts.device)
    if changed := differences(facts, now):
        raise ConfigError(
            f'run: "{directory}" was made with something else: {"; ".join(changed)}; give it that '
            "back"
        )
    try:
        state, header = checkpoint.read_tensors(file)
    except RecordingError as error:
        raise ConfigError(f"run: {error}; run it anew") from error
    if header["sha256"] != digest:
        raise ConfigError(
            f'run: "{file}" is not what the run in "{directory}" has learnt; put its own back, or '
            "run it anew"
        )
    learner = build_snn(frozen.setting(config, device))
    try:
        learner.load_state_dict(state)
        _check_fits(learner, state, frozen)
    except Exception as error:  # tensors of another name, shape or kind fail anywhere
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f'run: "{file}" does not fit the learner of this run ({in_short(reason)}); put its own '
            "back, or run it anew"
        ) from error
    return Trained(config, frozen, learner, device)


def _check_fits(learner: ArtsySNN, state: Mapping[str, torch.Tensor], frozen: Frozen) -> None:
    """A learner took over all that a state holds, has learnt all tasks, and can answer."""
    taken = {name: tensor.shape for name, tensor in learner.state_dict().items()}
    given = {name: tensor.shape for name, tensor in state.items()}
    if taken != given:
        raise ValueError(f"{', '.join(sorted(taken.keys() ^ given.keys())) or 'a shape'} differs")
    if len(learner.layers) != len(frozen.tasks):
        raise ValueError(f"{len(learner.layers)} sub-networks for {len(frozen.tasks)} tasks")
    _, test = frozen.tasks[-1]
    require_finite("state", state)
    answers = learner.predict(take(test, torch.arange(1, device=test.index.device)))
    if answers.scores.shape[1] != len(frozen.stream.class_order):
        raise ValueError(f"{answers.scores.shape[1]} classes")


def _summarised(file: Path) -> tuple[Facts, str]:
    """What a finished run depended on, and the checksum of its spiking learner's state."""
    where = f'run: "{file}"'
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be read ({error}); finish the run first") from error
    facts = Facts.read(summary, where)
    states = summary.get("states")
    digest = states.get("artsy_snn") if isinstance(states, dict) else None
    if not isinstance(digest, str):
        raise ConfigError(f"{where} names no state of artsy_snn; run it anew")
    return facts, digest


def run_learner(
    name: str,
    config: RunConfig,
    frozen: Frozen,
    device: str,
    console: Console,
    recorder: RunRecorder | None = None,
    state_file: Path | None = None,
    keep: list[StepAnswers] | None = None,
    keeper: Keeper | None = None,
) -> dict[str, Any]:
    """Learn all tasks and evaluate on all seen classes after each: the measures of one learner.

    What it has learnt goes to ``state_file`` (safetensors), its answers are added to ``keep``;
    ``keeper`` makes checkpoints, and has it go on from its own."""
    torch.manual_seed(config.seed)
    learner = build_learner(name, frozen.setting(config, device, recorder))
    steps = [] if keeper is None else keeper.begin(name, learner, frozen)
    # as if what was taken before an interruption had been taken just now
    learning = 0.0 if keeper is None else keeper.kept.seconds_learning
    started = time.perf_counter() - (0.0 if keeper is None else keeper.kept.seconds)
    done = len(steps)

    def elapsed() -> float:
        return time.perf_counter() - started

    with progress_bar(console) as progress:
        bar = progress.add_task(name, total=len(frozen.tasks), completed=done)
        for step, (task, _) in enumerate(frozen.tasks[done:], start=done):
            begun = elapsed() - learning
            if keeper is not None:
                learner.after_epoch = lambda begun=begun: keeper.learnt(
                    learner, elapsed(), elapsed() - begun, None
                )
            require_finite(f"{name}, task {step}", {"its features": task.train.features})
            with _finite(learner, f"{name}, task {step}"):
                learner.learn(task)
            learning = elapsed() - begun
            if config.record.snapshots:
                learner.snapshot(f"after_task_{step}")
            seen = join([test for _, test in frozen.tasks[: step + 1]])
            last = step == len(frozen.tasks) - 1
            with _finite(learner, f"{name}, task {step}"):
                answers = evaluate(learner, seen, frozen.stream.task_of_label, oracle=last)
            steps.append(answers)
            if recorder is not None:
                recorder.evaluation(
                    name,
                    step,
                    seen.index.cpu().numpy(),
                    answers.labels,
                    answers.predicted,
                    gates=answers.gates,
                    gate_scores=answers.gate_scores,
                    spike_predicted=answers.spike_predicted,
                    scores=answers.scores,
                )
            if keeper is not None:
                keeper.learnt(learner, elapsed(), learning, answers)
            progress.advance(bar)
    if state_file is not None:
        digest = checkpoint.write_tensors(state_file, learner.state_dict())
        if keeper is not None:
            keeper.kept.states[name] = digest
    if keep is not None:
        keep += steps
    measures = measure(steps, frozen.stream.task_of_label)
    measures |= learner.report()
    measures |= {"seconds": elapsed(), "seconds_learning": learning}
    if recorder is not None:
        recorder.summary(name, _recordable(measures))
    return measures


def run_controls(
    config: RunConfig, frozen: Frozen, device: str, console: Console, keeper: Keeper
) -> dict[str, dict[str, float]]:
    """Controls of the spiking learner: its accuracy from spikes alone after the last task."""
    found = keeper.kept.controls
    learners = build_snn(frozen.setting(config, device)).controls()
    missing = {name: learner for name, learner in learners.items() if name not in found}
    with progress_bar(console) as progress:
        bar = progress.add_task("controls", total=len(missing) * len(frozen.tasks))
        for name in list(missing):
            learner = missing.pop(name)  # what one has learnt is let go before the next
            with _finite(learner, f"control {name}"):
                for task, _ in frozen.tasks:
                    learner.learn(task)
                    progress.advance(bar)
                seen = join([test for _, test in frozen.tasks])
                answers = evaluate(learner, seen, frozen.stream.task_of_label, oracle=False)
            assert answers.spike_predicted is not None
            found[name] = {
                "a_last_spikes_only": float(np.mean(answers.spike_predicted == answers.labels)),
                "functional_share": learner.report()["functional_share"],
                "spikes_per_image": learner.report()["spikes_per_image"],
            }
            keeper.save()
    return found


def evaluate(
    learner: Learner, seen: LabelledBatch, task_of_label: NDArray[np.int64], oracle: bool
) -> StepAnswers:
    """A learner's answers for test samples; ``oracle``: also with the true task's gate.

    Raises:
        NotFinite: A score is not.
    """
    at = time.perf_counter()
    prediction = predict(learner, seen)
    if seen.features.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - at
    given = {"scores": prediction.scores, "gate_scores": prediction.gate_scores}
    require_finite("answers", {k: v for k, v in given.items() if v is not None})
    predicted = prediction.scores.argmax(1)
    spike_predicted = None
    if prediction.spike_scores is not None:
        silent = torch.isneginf(prediction.spike_scores).all(1)
        require_finite("answers", {"spike_scores": prediction.spike_scores[~silent]})
        spike_predicted = prediction.spike_scores.argmax(1).masked_fill(silent, -1).cpu().numpy()
    oracle_predicted = None
    if oracle and prediction.gates is not None:
        task = torch.from_numpy(task_of_label).to(seen.labels.device)[seen.labels]
        oracle_scores = predict(learner, replace(seen, true_task=task)).scores
        oracle_predicted = oracle_scores.argmax(1).cpu().numpy()
    return StepAnswers(
        labels=seen.labels.cpu().numpy(),
        predicted=predicted.cpu().numpy(),
        scores=prediction.scores.cpu().numpy(),
        gates=None if prediction.gates is None else prediction.gates.cpu().numpy(),
        gate_scores=(
            None if prediction.gate_scores is None else prediction.gate_scores.cpu().numpy()
        ),
        spike_predicted=spike_predicted,
        oracle_gate_predicted=oracle_predicted,
        vit_passes=None if prediction.vit_passes is None else prediction.vit_passes.cpu().numpy(),
        operations=None if prediction.operations is None else prediction.operations.cpu().numpy(),
        seconds=seconds,
    )


@contextmanager
def _finite(learner: Learner, where: str) -> Iterator[None]:
    """What a learner has learnt must be finite afterwards; ``where`` begins the message if not.

    Raises:
        NotFinite: A number is not, there or in the answers. LAPACK's failures are the same thing:
            with finite numbers of a usual size it has none.
    """
    try:
        yield
        require_finite("state", learner.state_dict())
    except (NotFinite, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise NotFinite(f"{where}: {error}") from error


def predict(learner: Learner, batch: LabelledBatch) -> Prediction:
    """`Learner.predict` in parts, so that memory does not grow with the test set."""
    rows = torch.arange(len(batch), device=batch.index.device).split(TEST_BATCH)
    return Prediction.concatenate([learner.predict(take(batch, r)) for r in rows])


def _draw(directory: Path, console: Console) -> None:
    skipped: dict[str, str] = {}
    try:
        # matplotlib is slow to import and only needed at the end
        from snn_artsy.plots import save_figures

        with open_run(directory) as run, console.status("drawing figures", spinner="line"):
            save_figures(
                run, directory / "figures", skipped=skipped, failed=skipped, overwrite=True
            )
    except Exception as error:  # the run is done, whatever becomes of its figures
        say(console, f"figures left out: {error}")
    for name, reason in skipped.items():
        say(console, " ".join(f"figure {name} left out: {reason}".split()))


def _recordable(measures: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in measures.items() if v is not None}


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
