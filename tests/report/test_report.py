"""One page that shows a run, and figures by name."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawing import QUICK, know_few
from html_page import Page
from matplotlib.figure import Figure
from synthetic_run import N_TASKS, POST, TRAIN, record

from snn_artsy import plots
from snn_artsy.cli import main
from snn_artsy.plots.comparison import runs_compared
from snn_artsy.plots.style import VERMILLION
from snn_artsy.recording import Run, open_run
from snn_artsy.report import _DPI, write_report
from snn_artsy.report.seen import differing, seen


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [tmp_path_factory.mktemp("runs") / name for name in ("<b>one & two", "other")]
    for folder in made:
        folder.mkdir()
        record(folder)
    return made


@pytest.fixture(scope="module")
def run(folders: list[Path]) -> Run:
    return open_run(folders[0])


def test_a_page_with_every_figure_and_no_network(run: Run, tmp_path: Path) -> None:
    text = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    # the contents lead into the page, and nothing leads out of it
    assert not page.open and page.links and all(link.startswith("#") for link in page.links)
    assert all(f'id="{link[1:]}"' in text for link in page.links)
    assert len(page.images) == len(plots.FIGURES)
    for image in page.images:
        kind, data = image.split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert len(text) < 5e6
    # names are text, whatever is in them
    assert "<b>one" not in text and "&lt;b&gt;one &amp; two" in text
    for learner in run.learners:
        assert learner in page.cells
        assert f"{100 * run.summary(learner)['a_last']:.1f}" in page.cells
    assert "http" not in text.replace("http-equiv", "")
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_several_runs_are_compared(folders: list[Path], tmp_path: Path) -> None:
    runs = [open_run(folder) for folder in folders]
    page = Page(write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(page.images) == 2 * len(plots.FIGURES) + 1  # and the comparison
    for folder in folders:
        assert f"{folder.name}: artsy_snn" in page.cells
    assert "What differs between the configurations" not in page.cells  # nothing does


def test_runs_with_the_same_name_are_told_apart(folders: list[Path], tmp_path: Path) -> None:
    made = [tmp_path / name / "default" for name in "ab"]
    for folder, target in zip(made, folders, strict=True):
        folder.parent.mkdir()
        folder.symlink_to(target)
    runs = [open_run(folder) for folder in made]
    page = write_report(runs, tmp_path / "r.html", figures=False).read_text(encoding="utf-8")
    for name in ("a/default", "b/default"):
        assert f"{name}: artsy_snn" in Page(page).cells and f">{name}</h2>" in page
    labels = [label.get_text() for label in runs_compared(runs).axes[0].get_yticklabels()]
    assert len(set(labels)) == len(labels)


def test_the_folder_where_one_is_has_its_name(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[1])
    written = write_report([open_run(".")], tmp_path / "r.html", figures=False)
    page = written.read_text(encoding="utf-8")
    assert "<title>SNN-Artsy: other</title>" in page and ">other</h2>" in page


def test_what_differs_between_configurations() -> None:
    one = {"seed": 1, "out": "a", "snn": {"a_plus": 0.1, "bounds": [0, 1], "on": True}}
    two = {"seed": 2, "out": "b", "snn": {"a_plus": 0.1, "bounds": [0, 2], "on": True, "x": None}}
    assert differing([one, two]) == [("seed", ["1", "2"]), ("snn.bounds", ["0, 1", "0, 2"])]
    assert differing([one, one]) == []


def test_a_figure_says_what_is_seen(run: Run) -> None:
    """Numbers from what is drawn, against those recorded."""
    counts = run.counts(N_TASKS - 1).counts[-1]
    total = sum(run.counts(t).counts[-1][0] for t in range(N_TASKS))
    assert f"→ {total:,}" in seen(plots.conversion_counts(run)) and counts.sum()
    last = 100 * run.summary("simplecil")["a_last"]
    assert f"→ {last:.3g}" in seen(plots.accuracy_per_step(run))
    matrix = run.summary("artsy_ann")["gate_matrix"]
    own = float(np.diag(matrix).mean())
    assert f"Artsy ANN: mean on the diagonal {own:.3g}" in seen(plots.gate_matrix(run))
    row = 2 * (TRAIN + 4)
    start = run.stimulus.start_ms[row]
    n_on = int((run.group("retina")[run.spikes("retina", start, start + 100).node] == 0).sum())
    assert f"ON: {n_on} marks" in seen(plots.spike_raster(run))
    last = run.counts(N_TASKS - 1).counts[-1]
    assert f"silent, last: {100 * last[0] / last.sum():.3g} %" in seen(plots.state_flow(run))
    for name in plots.FIGURES:
        assert seen(plots.FIGURES[name](run)), name
    assert seen(Figure()) == ""


def test_a_comparison_and_a_sweep(folders: list[Path], tmp_path: Path) -> None:
    measures = {"a_last": {"mean": 0.5, "sd": 0.1, "n": 2, "values": [0.4, 0.6]}}
    pair = {"a": "ease", "b": "simplecil", "difference": 0.1, "interval_95": [0.05, 0.15],
            "values": [0.1, 0.1], "p_holm": 0.01, "cohens_h": 0.2}  # fmt: skip
    summary = {"learners": {"simplecil": measures, "ease": measures}, "pairs": [pair]}
    compared = tmp_path / "compared"
    compared.mkdir()
    (compared / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(compared)])
    assert ended.value.code == 0
    page = Page((compared / "report.html").read_text("utf-8"))
    assert {"50.0 ± 10.0", "ease - simplecil", "+10.00"} <= set(page.cells)
    assert len(page.images) == 1
    again = tmp_path / "again" / "compared"
    again.mkdir(parents=True)
    (again / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(compared), str(again), "--out", str(tmp_path / "two.html")])
    assert ended.value.code == 0
    text = (tmp_path / "two.html").read_text("utf-8")
    assert f">{tmp_path.name}/compared</h2>" in text and ">again/compared</h2>" in text
    swept = tmp_path / "swept"
    (swept / "runs").mkdir(parents=True)
    (swept / "sweep.json").write_text("{}")
    for folder, name in zip(folders, "ab", strict=True):
        (swept / "runs" / name).symlink_to(folder)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(swept), "--out", str(tmp_path / "sweep.html")])
    assert ended.value.code == 0
    page = Page((tmp_path / "sweep.html").read_text("utf-8"))
    assert len(page.images) == 1  # runs compared


def test_a_comparison_of_which_nothing_is_left(tmp_path: Path) -> None:
    summary = {"learners": {}, "pairs": [], "alike": [], "warnings": [], "seeds": [1],
               "failed": {"ease": "seed 1: weights are <not> finite"}}  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path)])
    assert ended.value.code == 0
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "ease failed and is left out: seed 1: weights are &lt;not&gt; finite" in text
    assert not Page(text).images
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"failed": ["ease"]}))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path), "--overwrite"])
    assert ended.value.code == 2


def test_captions_name_no_function() -> None:
    """They are first paragraphs of docstrings, which readers of a report do not know."""
    for name, draw in plots.FIGURES.items():
        caption = (draw.__doc__ or "").split("\n\n")[0]
        assert caption and "`" not in caption.replace("``", ""), name


def test_what_was_not_recorded_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "populations", ())
    text = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(Page(text).images) == len(plots.FIGURES) - 1
    assert "spike raster: not drawn, no recorded spikes" in text


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys, json; from snn_artsy.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as e: print(json.dumps([e.code, 'torch' in sys.modules]))"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_commands(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = command("report", str(folders[1]))
    assert done.stdout.splitlines()[0] == str(folders[1] / "report.html")
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False]
    done = command("plot", str(folders[1]), "weight_map", "--format", "svg", "--out", str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["weight_map.svg"], done.stderr
    with pytest.raises(SystemExit):
        main(["plot", str(folders[1]), "--list"])
    assert capsys.readouterr().out.splitlines() == list(plots.FIGURES)
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(folders[1]), "nonsense"])
    assert ended.value.code == 2
    assert "choose from conversion_counts" in capsys.readouterr().err


def test_a_page_in_a_style(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_few(monkeypatch)
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folders[1]), "--width", "2in", "--out", str(page)])
    assert ended.value.code == 0
    images = [image.split(",", 1)[1] for image in Page(page.read_text("utf-8")).images]
    widths = {int.from_bytes(base64.b64decode(image)[16:20], "big") for image in images}
    assert widths == {2 * _DPI} and len(images) == len(QUICK)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folders[1]), "--style", "none", "--out", str(tmp_path / "no.html")])
    assert ended.value.code == 2 and not (tmp_path / "no.html").exists()


# --- figures: what is drawn is what was recorded --------------------------------------------------


def test_silent_survival(run: Run) -> None:
    lines = plots.silent_survival(run).axes[0].lines
    assert len(lines) == N_TASKS
    for task, line in enumerate(lines):
        counts = run.counts(task).counts
        expected = np.concatenate([[100], 100 * counts[:, 0] / counts.sum(1)])  # born silent
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert list(line.get_xdata()) == list(range(0, TRAIN + 1, 10))


def test_state_flow_boxes_are_shares(run: Run) -> None:
    boxes = plots.state_flow(run).axes[0].patches
    # sub-network u is shown after task u and each later one, three states each
    assert len(boxes) == 3 * sum(range(1, N_TASKS + 1))
    widths = np.array([box.get_width() for box in boxes]).reshape(-1, 3)
    np.testing.assert_allclose(widths.sum(1), 0.92)
    last = run.counts(N_TASKS - 1).counts[-1]
    np.testing.assert_allclose(widths[-1], 0.92 * last / last.sum())


def test_weight_map_is_the_snapshot(run: Run) -> None:
    image = plots.weight_map(run, 1).axes[0].images[0].get_array()
    assert image is not None and image.shape[0] == POST
    moment = run.moments(1)[-1]
    np.testing.assert_allclose(image, run.snapshot(1, moment).ampa.mean(2))
    with pytest.raises(plots.NothingRecorded):
        plots.weight_map(run, 9)


def test_gate_scores_split_own_and_other_tasks(run: Run) -> None:
    axes = plots.gate_scores(run, "artsy_ann").axes[0]
    medians = [line.get_ydata()[0] for line in axes.lines if line.get_color() == VERMILLION]
    answers = run.predictions("artsy_ann", N_TASKS - 1)
    assert answers.gate_scores is not None
    task = answers.label // 2
    own = [np.median(answers.gate_scores[task == t, t]) for t in range(N_TASKS)]
    other = [np.median(answers.gate_scores[task != t, t]) for t in range(N_TASKS)]
    np.testing.assert_allclose(medians, own + other)
    with pytest.raises(plots.NothingRecorded):
        plots.gate_scores(run, "simplecil")
