"""Figures in the sizes of print: nothing is cut off, nothing lies on other text."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from print_faults import faults
from synthetic_run import record
from test_figures_look import COMPARISON, LESION

from snn_artsy import plots
from snn_artsy.checks import ConfigError
from snn_artsy.cli import main
from snn_artsy.plots.comparison import differences, runs_compared
from snn_artsy.plots.protocols import lesion_curves, pharmacology_bars
from snn_artsy.plots.style import BLUE, WIDTHS_MM, width_inches
from snn_artsy.protocols import retention
from snn_artsy.recording import Run, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("print") / "a_run_with_a_long_name"
    directory.mkdir()
    record(directory)
    return open_run(directory)


@pytest.mark.parametrize("width", [85, 180])
@pytest.mark.parametrize("name", plots.FIGURES)
def test_nothing_is_cut_or_covered(run: Run, name: str, width: float) -> None:
    with plots.look(width=width):
        figure = plots.FIGURES[name](run)
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == pytest.approx(width / 25.4)
    assert faults(figure) == []


@pytest.mark.parametrize("width", [85, 180])
def test_nor_in_figures_of_comparisons_and_protocols(run: Run, width: float) -> None:
    accuracy = np.array([[[0.8, 0.7], [0.6, 0], [0.6, 0]]])
    with plots.look(width=width):
        assert faults(differences(COMPARISON)) == []
        assert faults(runs_compared([run, run])) == []
        assert faults(lesion_curves(LESION)) == []
        assert faults(pharmacology_bars(("control", "APV", "NBQX"), accuracy)) == []
        assert faults(retention.draw(np.full((4, 3, 5), 0.9))) == []


def test_faults_are_found() -> None:
    figure = Figure(figsize=(2, 2))
    for x, text in ((0.4, "one text"), (0.45, "another"), (0.9, "beyond the edge")):
        figure.text(x, 0.5, text)
    assert set(faults(figure)) == {("beyond the edge",), ("one text", "another")}


def test_style_sheets_set_fonts_size_and_colours(run: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text(
        "font.size: 11\nxtick.labelsize: 11\nfigure.figsize: 5, 1\n"
        "axes.prop_cycle: cycler('color', ['112233', '445566'])\n"
    )
    before = dict(matplotlib.rcParams)
    with plots.look(sheet):
        figure = plots.conversion_counts(run)
    assert dict(matplotlib.rcParams) == before
    assert figure.get_figwidth() == 5
    axes = figure.axes[0]
    assert axes.xaxis.get_ticklabels()[0].get_size() == 11
    lines = {line.get_label(): to_hex(line.get_color()) for line in axes.lines}
    # blue is the first colour of a sheet's cycle, green the third, which begins it again
    assert (lines["functional"], lines["consolidated"]) == ("#112233", "#112233")
    assert plots.conversion_counts(run).axes[0].lines[1].get_color() == BLUE
    with plots.look(sheet, width="85mm"):
        assert plots.spike_raster(run).get_figwidth() == pytest.approx(85 / 25.4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense.key: 3", "Bad key nonsense.key"),
        ("font.size: abc", "Bad value in file"),
        ("font.size: 7\nfont.size: 9", "Duplicate key in file"),
        ("hello world", "Missing colon in file"),
        ("backend: svg", "'backend', that is not related to style"),
        ("axes.prop_cycle: __import__('os').getcwd()", "Bad value in file"),
        ("figure.figsize: nan, 1", "'nanin' is no width"),
        ("figure.figsize: 1e9, 1", "use 30 to 500 mm"),
    ],
)
def test_lines_of_a_style_sheet_that_do_nothing_are_refused(
    text: str, said: str, tmp_path: Path
) -> None:
    sheet = tmp_path / "wrong.mplstyle"
    sheet.write_text(text)
    with pytest.raises(ConfigError, match=r"^style: ") as raised, plots.look(sheet):
        pass
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("font.size: nan", "font.size to nan, which is no number"),
        ("font.size: 1e6", "font.size to 1e+06; use 1 to 200 there"),
        ("font.size: 0", "font.size to 0; use 1 to 200 there"),
        ("legend.fontsize: -3", "legend.fontsize to -3; use 1 to 200 there"),
        ("lines.linewidth: inf", "lines.linewidth to inf, which is no number"),
        ("lines.linewidth: -1", "lines.linewidth to -1; use 0 to 200 there"),
        ("axes.labelpad: nan", "axes.labelpad to nan, which is no number"),
        ("savefig.dpi: 1e9", "savefig.dpi to 1e+09; use 0 to 2400 there"),
    ],
)
def test_numbers_of_a_style_sheet_that_no_figure_can_have_are_refused(
    tmp_path: Path, line: str, message: str
) -> None:
    sheet = tmp_path / "wrong.mplstyle"
    sheet.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"^style: ") as raised, plots.look(sheet):
        pytest.fail("drawn")
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["ggplot", "seaborn-v0_8-poster", "fivethirtyeight", "bmh"])
def test_style_sheets_of_matplotlib_are_taken(name: str) -> None:
    with plots.look(name):
        pass


def test_a_style_sheet_without_colours_keeps_ours(run: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("axes.prop_cycle: cycler('linestyle', ['-', '--'])\n")
    with plots.look(sheet):
        assert plots.conversion_counts(run).axes[0].lines[1].get_color() == BLUE


@pytest.mark.parametrize(("text", "mm"), [("85mm", 85), ("8.5 cm", 85), ("2in", 50.8), ("90", 90)])
def test_widths(text: str, mm: float) -> None:
    assert width_inches(text) == pytest.approx(mm / 25.4)


def test_widths_of_journals_and_what_is_none() -> None:
    assert width_inches("nature") == pytest.approx(89 / 25.4)
    assert all(80 <= mm <= 185 for mm in WIDTHS_MM.values())
    for wrong in ("wide", "85px", "3mm", "9000"):
        with pytest.raises(ConfigError, match="width"):
            width_inches(wrong)
    with pytest.raises(ConfigError, match='style: no style sheet "nothing"'), plots.look("nothing"):
        pass


def test_a_figure_is_drawn_into_a_part_of_another(run: Run) -> None:
    figure = Figure(figsize=(7, 3))
    left, right = figure.subfigures(1, 2)
    assert plots.conversion_counts(run, figure=left) is figure
    plots.accuracy_matrix(run, figure=right)
    assert len(left.axes) == 1 and len(right.axes) == 4  # three learners and the scale
    assert faults(figure) == []


def test_panels_of_several_runs(run: Run) -> None:
    figure = plots.panels("conversion_counts", [run, run])
    assert [part.axes[0].get_ylabel() for part in figure.subfigs] == [
        "contacts, all sub-networks"
    ] * 2
    assert [part.get_suptitle() for part in figure.subfigs] == [
        f"{letter}  {run.path.parent.name}" for letter in "ab"
    ]
    assert faults(figure) == []
    with plots.look(width=85):  # no room beside each other
        narrow = plots.panels("conversion_counts", [run, run])
    assert narrow.get_figheight() > 1.8 * figure.get_figheight() and faults(narrow) == []


def test_the_command_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("font.size: 6")
    words = ["plot", str(run.path), "gate_matrix", "--format", "pdf,svg", "--width", "85mm"]
    words += ["--style", str(sheet), "--beside", str(run.path.parent), "--out", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "gate_matrix.pdf", "gate_matrix.svg"
    }  # fmt: skip
    assert 'width="240.9' in (tmp_path / "o" / "gate_matrix.svg").read_text("utf-8")  # points
    for option, value in (("--width", "wide"), ("--style", "none"), ("--format", "bmp"),
                          ("--beside", "nowhere")):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main(["plot", str(run.path), "gate_matrix", option, value])
        assert ended.value.code == 2, option


def test_retention_stays_within_100_percent_and_lines_side_by_side() -> None:
    accuracy = np.ones((4, 3, 5))
    axes = retention.draw(accuracy).axes[0]
    assert max(np.max(line.get_ydata()) for line in axes.lines) == 100
    starts = [line.get_xdata()[0] for line in axes.lines if not line.get_label().startswith("_")]
    assert len(set(starts)) == 4
