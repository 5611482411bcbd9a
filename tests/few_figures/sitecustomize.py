"""Python reads this at its start where the folder is in PYTHONPATH (`processes.quick_environment`):
a run draws two figures, as in the tests' own process, since all take most of a small run's time."""

from snn_artsy.registry import FIGURES

FIGURES.entries = {name: FIGURES.entries[name] for name in ("accuracy_per_step", "gate_matrix")}
