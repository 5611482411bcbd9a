"""What an electrode would see of a run's contacts: EPSCs, AMPA/NMDA ratio, failures, membranes.

Contacts are those of the last snapshot, and as they were born: what each was before its first
change of state. Currents follow from them by the run's receptors (`snn.receptors`) under voltage
clamp, whatever fidelity the run had.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.observer import SILENT
from snn_artsy.physiology import Receptors
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    COLUMN_INCHES,
    GREY,
    Canvas,
    NothingRecorded,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run

Values = NDArray[np.float64]

REST_MV, ABOVE_MV = -70.0, 40.0
"""Holding potentials: AMPA alone, since magnesium blocks NMDA receptors; both."""
LATE_MS = 50.0
"""After release, when AMPA receptors have closed (our definition)."""


@dataclass(frozen=True)
class RecordedContacts:
    """Contacts of a sub-network before and after what it learnt.

    Args:
        task: The sub-network.
        before, after: AMPA receptors that each contact opens, in contacts (0: it is silent),
            [n_post, n_pre, n_contacts].
        occupancy_before, occupancy_after: Of AMPA receptors, alike.
        n: How many there are; absent ones look silent in the arrays.
        release: Probability of release at a spike after rest.
        receptors: Of each contact.
    """

    task: int
    before: Values
    after: Values
    occupancy_before: Values
    occupancy_after: Values
    n: int
    release: float
    receptors: Receptors

    @property
    def all_there(self) -> bool:
        """Whether every pair of neurons has its contacts."""
        return self.n == self.after.size

    def a_neuron(self, opened: Values) -> Values:
        """Open AMPA receptors of a contact of each neuron, means [n_post]."""
        return np.asarray(opened.sum((1, 2)) * len(opened) / self.n)


def contacts(run: Run, task: int | None = None) -> RecordedContacts:
    """Contacts of a recorded run.

    Args:
        task: The sub-network; default: the first with snapshots.

    Raises:
        NothingRecorded: Snapshots or changes of state are missing, or contacts have no states.
    """
    known = [t for t in run.synapse_tasks if run.moments(t)]
    if not known or task not in (None, *known):
        raise NothingRecorded("no snapshot of occupancy (record.snapshots)")
    task = known[0] if task is None else task
    config = section(run, "contacts")
    transmission = config.get("transmission", "binary")
    if transmission == "plain":
        raise NothingRecorded("contacts without states (snn.contacts.transmission: plain)")
    last = run.snapshot(task, run.moments(task)[-1])
    counts = run.counts(task).counts
    changed = len(counts) and bool(np.diff(counts, axis=0).any())
    if changed and not run.n_events(task):
        raise NothingRecorded("what contacts were before is not known (record.conversions)")
    born = last.state.copy()
    seen = np.zeros(born.shape, dtype=bool)
    for events in run.event_blocks(task):
        place = np.ravel_multi_index((events.post, events.pre, events.contact), born.shape)
        places, first = np.unique(place, return_index=True)
        new = ~seen.flat[places]
        born.flat[places[new]] = events.old[first][new]
        seen.flat[places] = True
    functional = (last.state != SILENT).astype(np.float64)
    before = (born != SILENT).astype(np.float64)
    occupancy = np.clip(last.ampa.astype(np.float64), 0.0, 1.0)
    return RecordedContacts(
        task,
        before,
        functional * occupancy if transmission == "graded" else functional,
        before,  # contacts are born with all of their AMPA receptors or none
        occupancy,
        int(counts[-1].sum()) if len(counts) else born.size,
        float(config.get("release_probability", 1.0)),
        _receptors(run),
    )


def section(run: Run, name: str) -> dict[str, Any]:
    """A section of ``snn`` in a run's configuration; empty where it says nothing."""
    try:
        found: Any = run.settings["snn"][name]
    except (ConfigError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _receptors(run: Run) -> Receptors:
    given = section(run, "receptors")
    own = {f.name: float(given[f.name]) for f in fields(Receptors) if f.name in given}
    return Receptors(**own)


# --- EPSCs ----------------------------------------------------------------------------------------


@styled
def epsc_averages(run: Run, task: int | None = None, *, figure: Canvas | None = None) -> Canvas:
    """Average EPSC of a sub-network's contacts at -70 and +40 mV, as born and after learning.

    Args:
        task: The sub-network; default: the first with snapshots.

    Raises:
        NothingRecorded: `contacts`.
    """
    found = contacts(run, task)
    figure = new_figure(COLUMN_INCHES, 2.3, figure)
    panels = figure.subplots(1, 2)
    for axes, v_mV in zip(panels, (REST_MV, ABOVE_MV), strict=True):
        epsc_lines(axes, found, v_mV)
    legend_below(figure, panels[0].get_legend_handles_labels(), 2)
    return figure


def epsc_lines(axes: Axes, found: RecordedContacts, v_mV: float) -> None:
    """Average EPSCs at one potential, with scale bars, drawn into axes of your own."""
    time_ms = np.linspace(-10.0, 100.0, 1101)
    largest = 0.0
    for name, opened, colour in (("as born", found.before, GREY), ("learnt", found.after, BLUE)):
        current = found.release * found.receptors.epsc_pA(
            time_ms, v_mV, float(opened.sum()) / found.n
        )
        axes.plot(time_ms, current, color=colour, label=name)
        largest = max(largest, float(np.abs(current).max()))
    axes.set_title(f"{v_mV:+.0f} mV")
    scale_bars(axes, 20.0, "ms", rounded(largest / 3), "pA")


def ratios(found: RecordedContacts, opened: Values) -> Values:
    """AMPA/NMDA ratio of each neuron: peak at -70 mV over the current `LATE_MS` after release at
    +40 mV, [n_post].

    Args:
        opened: ``found.before`` or ``found.after``.
    """
    early = np.array([0.0, *np.geomspace(1e-3, LATE_MS, 400)])
    each = []
    for ampa in found.a_neuron(opened).tolist():
        peak = np.abs(found.receptors.epsc_pA(early, REST_MV, ampa)).max()
        each.append(peak / abs(float(found.receptors.epsc_pA(LATE_MS, ABOVE_MV, ampa))))
    return np.array(each)


@styled
def ampa_nmda_ratio(run: Run, task: int | None = None, *, figure: Canvas | None = None) -> Canvas:
    """AMPA/NMDA ratio of each neuron of a sub-network, as born and after learning, with its mean:
    the peak current at -70 mV over the current at +40 mV when AMPA receptors have closed.

    Args:
        task: The sub-network; default: the first with snapshots.

    Raises:
        NothingRecorded: `contacts`, or there are no NMDA receptors.
    """
    found = contacts(run, task)
    if found.receptors.g_nmda_nS == 0:
        raise NothingRecorded("no NMDA receptors (snn.receptors.g_nmda_nS is 0)")
    figure = new_figure(2.2, 2.4, figure)
    axes = figure.add_subplot()
    both = [ratios(found, opened) for opened in (found.before, found.after)]
    axes.plot([0, 1], both, color=GREY, linewidth=0.4, alpha=0.5)
    for x, values in enumerate(both):
        axes.plot(np.full(len(values), x), values, ".", color=GREY, markersize=3)
        axes.plot(x, values.mean(), "o", color=BLUE if x else BLACK, markersize=5)
    axes.set_xticks([0, 1], ["as born", "learnt"])
    axes.set(xlim=(-0.4, 1.4), ylabel="AMPA/NMDA ratio")
    axes.set_ylim(bottom=0)
    return figure


# --- release --------------------------------------------------------------------------------------


def failure_rates(found: RecordedContacts, opened: Values) -> tuple[Values, Values]:
    """How often a connection's stimulation shows nothing, at -70 and at +40 mV, [n_post, n_pre].

    Contacts release independently, (1 - p)^n of n: at -70 mV those with open AMPA receptors, at +40
    mV all, since all have NMDA receptors.
    """
    silent = 1.0 - found.release
    return silent ** np.count_nonzero(opened, axis=2), np.full(
        opened.shape[:2], silent ** opened.shape[2]
    )


def variation(found: RecordedContacts, opened: Values) -> Values:
    """Coefficient of variation of each connection's EPSC at -70 mV, failures included,
    [n_post, n_pre]: sqrt(p (1 - p) sum a^2) / (p sum a) over its contacts, which is
    sqrt((1 - p) / (n p)) of n equal ones; NaN without any."""
    p = found.release
    total = opened.sum(2)
    spread = np.sqrt(p * (1 - p) * np.square(opened).sum(2))
    return np.divide(spread, p * total, out=np.full(total.shape, np.nan), where=total > 0)


@styled
def release_failures(run: Run, task: int | None = None, *, figure: Canvas | None = None) -> Canvas:
    """Failure rates of a sub-network's connections at both potentials, and the coefficient of
    variation of their EPSCs, as born and after learning. The first spike after rest: neither
    depressed nor facilitated.

    Args:
        task: The sub-network; default: the first with snapshots.

    Raises:
        NothingRecorded: `contacts`, or every spike releases, or some connections are missing.
    """
    found = contacts(run, task)
    if found.release >= 1.0:
        raise NothingRecorded("nothing fails (snn.contacts.release_probability is 1)")
    if not found.all_there:
        raise NothingRecorded("pairs without a contact look silent (snn.contacts.probability)")
    figure = new_figure(4.6, 2.6, figure)
    rates, spread = figure.subplots(1, 2)
    bars, names = [], []
    for name, opened in (("as born", found.before), ("learnt", found.after)):
        at_rest, above = failure_rates(found, opened)
        bars += [at_rest.mean()]
        names += [f"-70 mV\n{name}"]
    bars, names = [*bars, above.mean()], [*names, "+40 mV"]
    rates.bar(range(3), bars, 0.6, color=[GREY, BLUE, BLACK])
    rates.set_xticks(range(3), names)
    rates.set(ylabel="failure rate", ylim=(0, 1))
    largest = float(np.sqrt((1.0 - found.release) / found.release))
    edges = np.linspace(0.0, 1.05 * largest, 22)
    for name, opened, colour in (("as born", found.before, GREY), ("learnt", found.after, BLUE)):
        values = variation(found, opened)
        values = values[np.isfinite(values)]
        if len(values):
            share = np.histogram(values, edges)[0] / opened[..., 0].size
            spread.stairs(100 * share, edges, color=colour, label=name, fill=True, alpha=0.6)
    spread.set(xlabel="CV of EPSCs, -70 mV", ylabel="connections (%)")
    if spread.patches:  # below, since bars stand wherever (1 - p) / (n p) puts them
        legend_below(figure, spread.get_legend_handles_labels(), 2)
    return figure


# --- occupancy ------------------------------------------------------------------------------------


@styled
def occupancy_before_after(
    run: Run, task: int | None = None, *, figure: Canvas | None = None
) -> Canvas:
    """Distribution of AMPA occupancy over a sub-network's contacts, as born and after learning.

    Args:
        task: The sub-network; default: the first with snapshots.

    Raises:
        NothingRecorded: `contacts`.
    """
    found = contacts(run, task)
    figure = new_figure(COLUMN_INCHES, 2.6, figure)
    axes = figure.add_subplot()
    edges = np.linspace(0.0, 1.0, 41)
    absent = found.after.size - found.n
    for name, values, colour in (
        ("as born", found.occupancy_before, GREY),
        ("learnt", found.occupancy_after, BLUE),
    ):
        n = np.histogram(values, edges)[0]
        n[0] -= absent  # they look empty
        axes.stairs(100 * n / found.n, edges, color=colour, label=name, fill=True, alpha=0.6)
    axes.set_yscale("log")
    axes.set(xlim=(0, 1), xlabel="AMPA occupancy a", ylabel="contacts (%)")
    legend_below(figure, axes.get_legend_handles_labels(), 2)
    return figure


# --- membranes ------------------------------------------------------------------------------------


def spike_triggered(
    time_ms: Values, v_mV: Values, presentation: NDArray[np.int64], threshold_mV: float, reach: int
) -> Values:
    """Potentials around each spike, [n_spikes, 2 reach + 1], NaN where another presentation or no
    sample is; the middle one is the spike's.

    Args:
        time_ms: Of the samples [n], in even steps within a presentation.
        v_mV: Potential [n], spikes at their peak.
        presentation: Of each sample [n].
        threshold_mV: A sample at or above it is a spike.
        reach: Steps on either side.
    """
    spikes = np.flatnonzero(v_mV >= threshold_mV)
    at = spikes[:, None] + np.arange(-reach, reach + 1)
    inside = (at >= 0) & (at < len(v_mV))
    at = np.clip(at, 0, len(v_mV) - 1)
    dt_ms = float(np.median(np.diff(time_ms))) if len(time_ms) > 1 else 1.0
    expected = dt_ms * np.arange(-reach, reach + 1)
    even = np.abs(time_ms[at] - time_ms[spikes][:, None] - expected) < 0.5 * dt_ms
    same = presentation[at] == presentation[spikes][:, None]
    return np.where(inside & even & same, v_mV[at], np.nan)


@styled
def spike_triggered_membrane(
    run: Run, task: int | None = None, reach_ms: float = 40.0, *, figure: Canvas | None = None
) -> Canvas:
    """Membrane potential around the spikes of a sub-network's traced neurons: each neuron's mean
    thin, that of all spikes thick, with scale bars.

    Args:
        task: The sub-network; default: the first with such traces.
        reach_ms: So far on either side.

    Raises:
        NothingRecorded: Membranes were not traced step by step, or no traced neuron fired.
    """
    wanted = "snn.plasticity.update: step, record.trace_windows and membrane_mV in trace_variables"
    known = [t for t in run.synapse_tasks if run.traced(t) is not None] if task is None else [task]
    traces = run.traces(known[0]) if known else None
    in_steps = section(run, "plasticity").get("update", "presentation") == "step"
    if traces is None or not in_steps or "membrane_mV" not in traces.variables:
        raise NothingRecorded(f"no membranes step by step ({wanted})")
    time_ms = traces.time_ms
    presentation = np.searchsorted(run.stimulus.start_ms, time_ms, side="right")
    dt_ms = float(np.median(np.diff(time_ms)))
    reach = max(1, round(reach_ms / dt_ms))
    threshold_mV = float(section(run, "neuron").get("v_th_mV", -50.0))
    neurons, columns = np.unique(traces.synapse[:, 1], return_index=True)
    v_mV = traces.variables["membrane_mV"].astype(np.float64)
    around = {
        int(neuron): spike_triggered(time_ms, v_mV[:, column], presentation, threshold_mV, reach)
        for neuron, column in zip(neurons, columns, strict=True)
    }
    around = {neuron: each for neuron, each in around.items() if len(each)}
    if not around:
        raise NothingRecorded("no traced neuron fired in the traced windows (record.trace_windows)")
    figure = new_figure(COLUMN_INCHES, 2.4, figure)
    axes = figure.add_subplot()
    lag_ms = dt_ms * np.arange(-reach, reach + 1)
    for each in around.values():
        axes.plot(lag_ms, _mean(each), color=GREY, linewidth=0.5)
    every = np.concatenate(list(around.values()))
    axes.plot(lag_ms, _mean(every), color=BLUE, linewidth=1.6)
    axes.set_title(f"sub-network {known[0] + 1}: {len(every)} spikes of {len(around)} neurons")
    axes.set_xlim(lag_ms[0], lag_ms[-1])
    scale_bars(axes, rounded(reach_ms / 2), "ms", 20.0, "mV")
    return figure


def _mean(values: Values) -> Values:
    """Mean over rows of what is known, NaN where nothing is."""
    known = np.isfinite(values)
    n = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)


# --- scale bars -----------------------------------------------------------------------------------


def scale_bars(axes: Axes, x: float, x_unit: str, y: float, y_unit: str) -> None:
    """Take the frame away and draw an L of scale bars in the corner that is emptiest.

    Args:
        x, y: Their lengths in the units of the axes.
    """
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    lines = [line.get_xydata() for line in axes.lines]
    known = np.concatenate([np.asarray(points) for points in lines])
    known = known[np.isfinite(known).all(1)]
    late = known[known[:, 0] > left + 0.6 * (right - left), 1]
    up = not len(late) or late.mean() < (low + high) / 2
    x0 = right - 1.15 * x
    y0 = high - 1.6 * y if up else low + 0.12 * (high - low)
    axes.plot([x0, x0, x0 + x], [y0 + y, y0, y0], color=BLACK, linewidth=1.2,
              solid_capstyle="butt", solid_joinstyle="miter")  # fmt: skip
    axes.annotate(f"{x:g} {x_unit}", (x0 + x / 2, y0), xytext=(0, -2), va="top", ha="center",
                  textcoords="offset points", fontsize=6)  # fmt: skip
    axes.annotate(f"{y:g} {y_unit}", (x0, y0 + y / 2), xytext=(-2, 0), va="center", ha="right",
                  textcoords="offset points", fontsize=6)  # fmt: skip
    axes.set_axis_off()


def rounded(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is no more."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(k for k in (1, 2, 5) if k * power <= value * (1 + 1e-9)))
