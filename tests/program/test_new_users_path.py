"""What a new user does first, from the installation to intervals, as the pages say it.

The steps are read out of README and a page that it links to; each is at most five lines of code
(not counted: imports and empty lines). `pytest -s tests/program/test_new_users_path.py` prints how
long each step takes.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snn_artsy.cli import main

ROOT = Path(__file__).resolve().parents[2]
README, STARTED = ROOT / "README.md", ROOT / "docs" / "getting_started.md"
MOST_LINES = 5
# step: page, what its block comes after, and how a line of the command line begins
STEPS = {
    "install": (README, "## Install and run", "pip install"),
    "run": (README, "## Install and run", "snn-artsy run"),
    "open traces": (README, "## Install and run", ""),
    "own figure": (STARTED, "**Your own figure**", ""),
    "own rule": (STARTED, "**Your own rule**", ""),
    "own learner": (STARTED, "**Your own learner**", ""),
    "predict a new image": (README, "## Install and run", "snn-artsy predict"),
    "compare with intervals": (STARTED, "**Compared**", ""),
}


def code(page: Path, after: str, begins: str) -> str:
    """The first block of Python after some text, or the first such line of those in bash."""
    _, found, rest = page.read_text("utf-8").partition(after)
    assert found, f"{page.name} has no {after}"
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", rest, re.DOTALL | re.MULTILINE)
    if not begins:
        return next(text for language, text in blocks if language == "python")
    lines = [line for language, text in blocks if language == "bash" for line in text.splitlines()]
    return next(line for line in lines if line.startswith(begins))


def lines(text: str) -> int:
    written = [line for line in text.splitlines() if line.strip()]
    return sum(not line.startswith(("import ", "from ")) for line in written)


def test_lines_are_counted() -> None:
    assert lines("import a\nfrom b import c\n\nd = 1\nif d:\n    # why\n    d = 2\n") == 4


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_short(step: str) -> None:
    assert 1 <= lines(code(*STEPS[step])) <= MOST_LINES


def test_the_second_page_is_linked() -> None:
    assert f"](docs/{STARTED.name})" in README.read_text("utf-8")


def perform(command: str) -> None:
    """A line of the command line; of the run fewer images, for time."""
    words = shlex.split(command, comments=True)
    if words[0] == "pip":  # of a fresh environment; here it is done
        assert words == ["pip", "install", "."] and find_spec("snn_artsy")
        return
    words = ["digit.png" if word == "IMAGE" else word for word in words[1:]]
    more = ["--data.train_per_class", "30"] if words[0] == "run" else []
    with pytest.raises(SystemExit) as ended:
        main([*words, *more])
    assert ended.value.code == 0, command


@pytest.mark.filterwarnings("ignore")
def test_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.pad(np.full((20, 6), 255, np.uint8), ((4, 4), (11, 11)))).save("digit.png")
    module = types.ModuleType("new_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    seconds, said = {}, {}
    for step, where in STEPS.items():
        started = time.perf_counter()
        if where[2]:
            perform(code(*where))
        else:
            exec(compile(code(*where), step, "exec"), module.__dict__)
        seconds[step] = time.perf_counter() - started
        said[step] = capsys.readouterr().out
    for step, needed in seconds.items():
        print(f"{step:24} {needed:6.1f} s")
    assert "artsy_snn" in said["run"] and said["open traces"].strip()
    for figure in ("one_synapse.pdf", "my_figure.pdf"):
        assert Path(figure).read_bytes().startswith(b"%PDF")
    assert module.own_rule.summary["learners"]["artsy_snn"]["converted_share"] > 0
    assert "digit.png" in said["predict a new image"]
    low, high = module.comparison.summary["pairs"][0]["interval_95"]
    assert low < high and f"[{low}, {high}]" in said["compare with intervals"]
