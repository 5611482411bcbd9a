"""Figures of protocols in the sizes of print: nothing is cut off, nothing lies on other text."""

from __future__ import annotations

from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure
from print_faults import faults

from snn_artsy import plots, protocols
from snn_artsy.protocols import PROTOCOLS

# Their figures are tested with invented numbers (tests/plots/test_print.py), since they train.
ELSEWHERE = ("lesion", "pharmacology", "retention")
FEW: dict[
    str, dict[str, Any]
] = {  # what takes seconds otherwise; a new protocol needs nothing here
    "bimodal-weights": {"duration_s": 1, "control_s": 1, "n_inputs": 100},
    "calcium-window": {"contacts": 20},
    "capacity": {"n_inputs": 400, "n_neurons": 2},
    "critical-period": {"n_contacts": 100, "n_pairings": 6},
    "filopodium-spine": {"n_inputs": 100, "a_s": 20.0, "b_s": 20.0},
    "lead-lag": {"n_inputs": 40, "n_volleys": 12, "early_volleys": 3},
    "minimal-stimulation": {"n_trials": 200},
    "nmda-gate": {"n_replicates": 1, "n_volleys": 6, "early_volleys": 2},
    "pairing-frequency": {"n_taus": 11, "n_trains": 2, "voltage_dt_ms": 0.5},
    "probe-silencing": {"n_contacts": 100, "n_pairings": 30},
    "protection": {"n_inputs": 10, "n_pairings": 30},
    "re-silencing": {"n_contacts": 200},
    "silent-synapse-pairing": {"n_pairings": 12, "n_sweeps": 20},
    "stdp-window": {"n_pairs": 2},
}
WIDTHS_MM = (85, 180)


def drawing_in_print(module: ModuleType, patch: pytest.MonkeyPatch) -> list[Figure]:
    """From now on what a module draws is drawn in the sizes of print, too; these figures."""
    figures: list[Figure] = []

    def also(draw: Any) -> Any:
        @wraps(draw)
        def drawn(*given: Any, **named: Any) -> Figure:
            for width in WIDTHS_MM:
                with plots.look(width=width):
                    figures.append(draw(*given, **named))
            return figures[-1]

        return drawn

    for name, thing in list(vars(module).items()):
        if name.startswith("draw") and getattr(thing, "__module__", "") == module.__name__:
            patch.setattr(module, name, also(thing))
    return figures


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name not in ELSEWHERE])
def test_nothing_is_cut_or_covered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(str(PROTOCOLS.entries[name].target).partition(":")[0])
    figures = drawing_in_print(module, monkeypatch)
    protocols.run(name, **FEW.get(name, {}))
    widths = [figure.get_figwidth() * 25.4 for figure in figures]
    assert widths == [pytest.approx(mm) for mm in WIDTHS_MM], "a protocol's figure is made by draw*"
    assert [faults(figure) for figure in figures] == [[], []]
