"""Every figure looks as it did: images compared with those in tests/plots/baseline.

`pytest tests/plots/test_figures_look.py --mpl-generate-path tests/plots/baseline` makes them anew;
look at them before you commit them. Text is left out, since fonts differ between machines.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes._base import _AxesBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from synthetic_run import record

from snn_artsy import plots
from snn_artsy.plots.comparison import differences
from snn_artsy.plots.protocols import lesion_curves, pharmacology_bars
from snn_artsy.recording import Run, open_run

DIFFERENCES = (("ease", -0.01, 0.4), ("artsy_snn (spikes)", 0.03, 0.01), ("joint", 0.05, 0.02))
COMPARISON = {
    "pairs": [
        {
            "a": learner,
            "b": "simplecil",
            "difference": mean,
            "interval_95": [mean - 0.02, mean + 0.01],
            "values": [mean - 0.01, mean, mean + 0.005],
            "p_holm": p,
        }
        for learner, mean, p in DIFFERENCES
    ]
}
SHARES = np.linspace(0, 1, 6)
LESION = {"share_cut": SHARES} | {
    f"{kind}/{measure}": np.stack([1 - SHARES**power, 0.95 - SHARES**power])
    for kind, power in (("random", 3), ("targeted", 1))
    for measure in ("with_h0", "spikes_only", "task_identified")
}

compared = pytest.mark.mpl_image_compare(savefig_kwargs={"dpi": 60})


def bare(figure: Figure) -> Figure:
    """Without text (matplotlib's own remove_text fails on secondary axes)."""
    for axes in figure.findobj(_AxesBase):
        for axis in axes._axis_map.values():
            axis.set_major_formatter(NullFormatter())
    for text in figure.findobj(Text):
        text.set_text("")
    return figure


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("run")
    record(directory)
    return open_run(directory)


@compared
@pytest.mark.parametrize("name", plots.FIGURES)
def test_of_a_run(run: Run, name: str) -> Figure:
    return bare(plots.FIGURES[name](run))


@compared
def test_differences() -> Figure:
    return bare(differences(COMPARISON))


@compared
def test_lesion() -> Figure:
    return bare(lesion_curves(LESION))


@compared
def test_pharmacology() -> Figure:
    accuracy = np.array([[[0.8, 0.7], [0.6, 0], [0.6, 0]]])
    return bare(pharmacology_bars(("control", "APV", "NBQX"), accuracy))


def test_there_are_no_images_of_figures_that_are_gone() -> None:
    kept = {path.stem for path in (Path(__file__).parent / "baseline").glob("*.png")}
    of_runs = {f"test_of_a_run_{name}" for name in plots.FIGURES}
    assert kept == of_runs | {"test_differences", "test_lesion", "test_pharmacology"}
