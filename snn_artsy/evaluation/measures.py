"""Measures of a learner, from its answers after every task; NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.evaluation import metrics


@dataclass(frozen=True)
class StepAnswers:
    """Answers for all test samples of the tasks seen so far.

    Args:
        labels, predicted: int64 [n]. Domain-incremental: of the labels that stand for the predicted
            class, the one of the sample's own task.
        within_task: Of the labels of the sample's own task the one with the largest score, [n].
        gates: m, bool [n, N], and calibrated gate scores [n, N]; None without gates.
        spike_predicted: Class decided from spikes alone, -1 where nothing fired, [n]; None if none.
        oracle_gate_predicted: Class predicted with m_t := 1[t = true task], [n]; None without
            gates.
        vit_passes: Passes of the ViT that each sample took, [n]; None: one each.
        operations: Synaptic operations that each sample took from h_0 on, [n]; None: not counted.
        added_norm: ``|sum_t m_t h_t| / |h_0|``, [n]; None without sub-networks that are added to
            h_0.
        shut_predicted: Class predicted with all gates shut, [n]; None without.
        chosen: The label with the largest score, [n], where ``predicted`` can be another one that
            stands for the same class; None: it is not.
        scores: Class scores [n, C]; None: not kept, since those of all steps grow with samples,
            classes and tasks.
        seconds: Wall time of these answers; NaN: not measured.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    within_task: NDArray[np.int64]
    gates: NDArray[np.bool_] | None = None
    gate_scores: NDArray[np.float32] | None = None
    spike_predicted: NDArray[np.int64] | None = None
    oracle_gate_predicted: NDArray[np.int64] | None = None
    vit_passes: NDArray[np.floating] | None = None
    operations: NDArray[np.float32] | None = None
    added_norm: NDArray[np.float32] | None = None
    shut_predicted: NDArray[np.int64] | None = None
    chosen: NDArray[np.int64] | None = None
    scores: NDArray[np.float32] | None = None
    seconds: float = float("nan")

    @property
    def largest(self) -> NDArray[np.int64]:
        """The label with the largest score, [n]; tells of which task a sample was taken to be."""
        return self.predicted if self.chosen is None else self.chosen


def measure(steps: list[StepAnswers], task_of_label: NDArray[np.int64]) -> dict[str, Any]:
    """Every measure that the answers allow, by name; `metrics` has the definitions.

    Args:
        steps: Answers after task 0, 1, ..., N - 1.
        task_of_label: Task of each label.
    """
    last = steps[-1]
    counts = metrics.samples_per_task(last.labels, task_of_label, len(steps))
    acc = metrics.accuracy_matrix(
        [s.predicted for s in steps], [s.labels for s in steps], task_of_label
    )
    a_last = metrics.a_last(acc, counts)
    interval = metrics.wilson_interval(round(a_last * len(last.labels)), len(last.labels))
    # task-incremental: the task of each sample is given, its other classes are ruled out
    til = [metrics.accuracy(s.within_task, s.labels) for s in steps]
    measures: dict[str, Any] = {
        "a_last": a_last,
        "a_avg": metrics.a_avg(acc, counts),
        "a_t": metrics.accuracy_per_step(acc, counts),
        "a_last_interval_95": interval,
        "new_accuracy": metrics.new_accuracy(acc),
        "old_accuracy": metrics.old_accuracy(acc, counts),
        "accuracy_matrix": acc,
        "task_identification": metrics.task_identification(
            last.largest, last.labels, task_of_label
        ),
        "oracle_task_accuracy": til[-1],
        "til_a_t": np.array(til),
        "til_a_last": til[-1],
        "til_a_avg": float(np.mean(til)),
        "forgetting_max_last": metrics.forgetting_max_last(acc),
        "forgetting_first_last": metrics.forgetting_first_last(acc),
        "backward_transfer": metrics.backward_transfer(acc),
        "vit_passes_per_image": 1.0 if last.vit_passes is None else float(last.vit_passes.mean()),
        # from h_0 on: features are extracted beforehand, for all learners alike
        "inference_ms_per_image": 1e3 * last.seconds / len(last.labels),
    }
    if last.operations is not None:
        measures["synaptic_operations_per_image"] = float(last.operations.mean(dtype=np.float64))
    if last.added_norm is not None:
        measures["subnetwork_norm_share"] = float(last.added_norm.mean(dtype=np.float64))
    if last.shut_predicted is not None:
        measures["answers_changed_share"] = float(np.mean(last.predicted != last.shut_predicted))
    true_task = task_of_label[last.labels]
    if last.gates is not None and last.gate_scores is not None:
        measures |= {
            "gate_identification": metrics.gate_identification(last.gate_scores, true_task),
            "gate_matrix": metrics.gate_matrix(last.gates, true_task),
            "gate_precision": metrics.gate_precision(last.gates, true_task),
            "gate_recall": metrics.gate_recall(last.gates, true_task),
            "gate_open_share": metrics.open_share(last.gates),
            "mean_open_gates": metrics.mean_open_gates(last.gates),
            "all_silent_share": metrics.all_silent_share(last.gates),
            "gate_informedness": metrics.gate_informedness(last.gates, true_task),
            "gates_uninformative": metrics.gates_uninformative(last.gates, true_task),
        }
    if last.oracle_gate_predicted is not None:
        measures["oracle_gate_accuracy"] = metrics.accuracy(last.oracle_gate_predicted, last.labels)
    if last.spike_predicted is not None:
        spike_acc = metrics.accuracy_matrix(
            [s.spike_predicted for s in steps if s.spike_predicted is not None],
            [s.labels for s in steps],
            task_of_label,
        )
        measures |= {
            "a_last_spikes_only": metrics.a_last(spike_acc, counts),
            "a_avg_spikes_only": metrics.a_avg(spike_acc, counts),
            "a_t_spikes_only": metrics.accuracy_per_step(spike_acc, counts),
            "new_accuracy_spikes_only": metrics.new_accuracy(spike_acc),
            "old_accuracy_spikes_only": metrics.old_accuracy(spike_acc, counts),
            "a_last_new_spikes_only": float(metrics.new_accuracy(spike_acc)[-1]),
            "a_last_old_spikes_only": float(metrics.old_accuracy(spike_acc, counts)[-1]),
            "spike_accuracy_matrix": spike_acc,
            # forgetting of the synapses themselves, which h_0 would hide
            "forgetting_spikes_only": metrics.forgetting_max_last(spike_acc),
            "no_decision_share": float(np.mean(last.spike_predicted < 0)),
        }
    return measures


def measure_domains(
    last: StepAnswers, task_of_label: NDArray[np.int64], domain_of_task: Sequence[str]
) -> dict[str, float]:
    """Measures of tasks from several data sets, over all test samples and over those of a domain
    (``a_last:signs``).

    ======================= =======================================================================
    ``a_last:DOMAIN``       accuracy on the domain's test samples
    ``domain_predicted``    share of samples whose label with the largest score is of their domain
    ``domain_identified``   the same of the gate with the largest score; with gates only
    ``domain_opened``       share of samples for which a gate of their own domain is open; with
                            gates only
    ======================= =======================================================================

    Args:
        last: Answers after the last task.
        task_of_label: Task of each label, int64 [C].
        domain_of_task: Name of each task's domain.
    """
    names = list(dict.fromkeys(domain_of_task))
    of_task = np.array([names.index(name) for name in domain_of_task])
    true = of_task[task_of_label[last.labels]]
    shares = {"domain_predicted": of_task[task_of_label[last.largest]] == true}
    if last.gates is not None and last.gate_scores is not None:
        shares["domain_identified"] = of_task[last.gate_scores.argmax(1)] == true
        shares["domain_opened"] = (last.gates & (of_task[None, :] == true[:, None])).any(1)
    measures = {key: float(np.mean(share)) for key, share in shares.items()}
    shares = {"a_last": last.predicted == last.labels} | shares
    for number, name in enumerate(names):
        of_domain = {key: float(np.mean(share[true == number])) for key, share in shares.items()}
        measures |= {f"{key}:{name}": value for key, value in of_domain.items()}
    return measures
