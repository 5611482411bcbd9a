"""Wrong versions of the code that once passed the tests named for it, and the tests that refuse
them now: each is made in a copy of the package, and one of its tests has to fail.

    python experiments/mutation/named.py [NAME ...]

prints one line for each (killed or SURVIVED) and ends with 1 if one survived, 2 if a change no
longer applies: then the code has moved, and the change has to be written anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# what a test needs beside itself
COPIED = ("snn_artsy", "tests", "pyproject.toml")
SECONDS = 900


@dataclass(frozen=True)
class Mutant:
    """A wrong version.

    Args:
        name: What is wrong with it.
        file: The file that is changed, below ``snn_artsy/``.
        old, new: What stands there, once, and what takes its place.
        tests: Which tests refuse it.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


SNN = "learners/artsy_snn.py"
TEACHING = "learners/wake_and_sleep.py"
ANN = "learners/artsy_ann.py"
SNN_ANSWERS = ("tests/learners/test_spiking_learner_by_hand.py",)
ANN_ANSWERS = ("tests/learners/test_artsy_ann_by_hand.py",)
EVALUATE = ("tests/runs/test_evaluate.py",)
COMPARE = ("tests/runs/test_compare.py",)
CONSOLIDATION = ("tests/synapses/test_consolidation_in_steps.py",)
LOOP = "synapses/loops/contacts.py"

MUTANTS = (
    Mutant(
        "an honest evaluation is given the true task",
        "runs/evaluate.py",
        "in _in_parts(learner, samples):",
        "in _in_parts(learner, replace(samples, true_task="
        "torch.from_numpy(task_of_label)[samples.labels])):",
        EVALUATE,
    ),
    Mutant(
        "the oracle-gate measure goes without the oracle",
        "runs/evaluate.py",
        "_in_parts(learner, replace(samples, true_task=task))",
        "_in_parts(learner, samples)",
        EVALUATE,
    ),
    Mutant(
        "h_t = 0: the readout is never used",
        SNN,
        "[self.config.readout * r @ m for",
        "[0 * r @ m for",
        SNN_ANSWERS,
    ),
    Mutant(
        "h_t does not reach the answer",
        SNN,
        "self.prototypes.scores(batch.features, gates, gained)",
        "self.prototypes.scores(batch.features, gates, 0 * gained)",
        SNN_ANSWERS,
    ),
    Mutant(
        "recall means of the wrong class",
        TEACHING,
        "means = class_means(train.features, train.labels, task.classes)",
        "means = class_means(train.features, train.labels, task.classes[::-1])",
        SNN_ANSWERS,
    ),
    Mutant(
        "recall means of another sub-network",
        SNN,
        "recall = [self.recall[t] for t in chosen]",
        "recall = [self.recall[0] for t in chosen]",
        SNN_ANSWERS,
    ),
    Mutant(
        "no lateral inhibition in the readout",
        SNN,
        "(r - r.mean(1, keepdim=True)).clamp_min(0)",
        "r",
        SNN_ANSWERS,
    ),
    Mutant(
        "S_t is the mean of the votes",
        SNN,
        "torch.where(counts.sum(1) > 0, votes.max(1).values, 0.0)",
        "torch.where(counts.sum(1) > 0, votes.mean(1), 0.0)",
        SNN_ANSWERS,
    ),
    Mutant(
        "thresholds of spiking gates are not updated with later tasks",
        SNN,
        "            self.thresholds.add_bad(u, scores[:, u])\n",
        "            pass\n",
        SNN_ANSWERS,
    ),
    Mutant(
        "thresholds of spiking gates are calibrated on training samples",
        SNN,
        "t, validation = task.number, task.validation",
        "t, validation = task.number, task.train",
        SNN_ANSWERS,
    ),
    Mutant(
        "stand-ins for old tasks are left out of a new gate's calibration",
        SNN,
        "self.thresholds.add_task(scores[:, t], bad)",
        "self.thresholds.add_task(scores[:, t], bad[:0])",
        SNN_ANSWERS,
    ),
    Mutant(
        "spiking gates are calibrated on samples that their contacts were taught",
        "learners/spiking_gates.py",
        "validation=take(held, held.index[:0])",
        "validation=held",
        ("tests/learners/test_spiking_gates.py",),
    ),
    Mutant(
        "a sub-network opens though its neurons are silent",
        "learners/spiking_gates.py",
        "            self._fired(responses),\n",
        "            None,\n",
        ("tests/learners/test_spiking_gates.py",),
    ),
    Mutant(
        "thresholds of ANN gates are not updated with later tasks",
        ANN,
        "for u, scores in own.items() if u != gate]",
        "for u, scores in own.items() if u < gate]",
        ANN_ANSWERS,
    ),
    Mutant(
        "thresholds of ANN gates are calibrated on training samples",
        ANN,
        "self._gate_scores(task.validation.features)",
        "self._gate_scores(task.train.features)",
        ANN_ANSWERS,
    ),
    Mutant(
        "older ANN gates are never refreshed",
        ANN,
        "            self._train_gate(self.gates[u], good, real)\n",
        "            pass\n",
        ANN_ANSWERS,
    ),
    Mutant(
        "older ANN gates are refreshed the wrong way round",
        ANN,
        "self._train_gate(self.gates[u], good, real)",
        "self._train_gate(self.gates[u], real, good)",
        ANN_ANSWERS,
    ),
    Mutant(
        "plastic_old does nothing",
        TEACHING,
        "_, change = old.pair(pre, None, duration, draws=draws)",
        "change = old._change_to(old.state, old.functional_ms)",
        SNN_ANSWERS,
    ),
    Mutant(
        "old sub-networks are taught by the newest one's teacher",
        TEACHING,
        "old.pair(pre, None, duration, draws=draws)",
        "old.pair(pre, fires * teacher.current, duration, draws=draws)",
        SNN_ANSWERS,
    ),
    Mutant(
        "every epoch has the first one's noise",
        TEACHING,
        "n_batches, epoch)\n            offset = EPOCH_STRIDE * epoch",
        "n_batches, epoch)\n            offset = 0 * epoch",
        SNN_ANSWERS,
    ),
    Mutant(
        "the timing index has the other sign",
        "learners/shuffled.py",
        'lost = accuracy - controls["shuffled_timing"]["a_last_spikes_only"]',
        'lost = controls["shuffled_timing"]["a_last_spikes_only"] - accuracy',
        ("tests/runs/test_run.py::test_the_synapses_do_the_work",),
    ),
    Mutant(
        "answers are not aligned with their images in a comparison",
        "runs/compare.py",
        "(last.predicted == last.labels)[order],\n        spikes,",
        "(last.predicted == last.labels),\n        spikes,",
        COMPARE,
    ),
    Mutant(
        "no consolidation in the compiled loop",
        "synapses/engine_numba.py",
        "min(f(c.consolidate_ms), records.NEVER) if c.consolidation",
        "records.NEVER if c.consolidation",
        CONSOLIDATION,
    ),
    Mutant(
        "consolidation in the compiled loop though it is switched off",
        "synapses/engine_numba.py",
        "min(f(c.consolidate_ms), records.NEVER) if c.consolidation",
        "min(f(c.consolidate_ms), records.NEVER) if True",
        CONSOLIDATION,
    ),
    Mutant(
        "no consolidation in the compiled loop at a presentation's end",
        LOOP,
        "            if now >= d.consolidate_ms:\n",
        "            if False:\n",
        CONSOLIDATION,
    ),
    Mutant(
        "no consolidation in the compiled loop before a contact is emptied",
        LOOP,
        "        if clock[k] + (np.float32(t) - since[k]) * d.elapsed_ms >= d",
        "        if 0.0 * clock[k] - 1.0 >= d",
        CONSOLIDATION,
    ),
    Mutant(
        "no consolidation in the compiled loop since an earlier step",
        LOOP,
        "due = functional if before >= d.consolidate_ms else zero",
        "due = zero",
        CONSOLIDATION,
    ),
)


def apply(mutant: Mutant, package: Path) -> None:
    """Change the package in place.

    Raises:
        ValueError: What is to be changed does not stand there exactly once.
    """
    file = package / mutant.file
    text = file.read_text(encoding="utf-8")
    if (found := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} has {found} times {mutant.old!r}, not 1")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def is_killed(mutant: Mutant, directory: Path) -> bool:
    """Whether one of its tests fails where it was made: not the collection, a test."""
    env = os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests],
        cwd=directory, env=env, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name}: pytest ended with {done.returncode}\n{done.stdout}")
    return done.returncode == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="only those whose name contains one of these")
    names = parser.parse_args().names
    chosen = [m for m in MUTANTS if not names or any(name in m.name for name in names)]
    survived = 0
    for mutant in chosen:
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary)
            for name in COPIED:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
                copy(ROOT / name, directory / name)
            try:
                apply(mutant, directory / "snn_artsy")
            except ValueError as error:
                print(error, file=sys.stderr)
                return 2
            killed = is_killed(mutant, directory)
        survived += not killed
        print(f"{'killed  ' if killed else 'SURVIVED'}  {mutant.name}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} killed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
