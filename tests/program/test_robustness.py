"""The campaigns' own parts: what they count, where they strike, what they take for the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "robustness"
sys.path.insert(0, str(FOLDER))

from campaign import Campaign, differences  # noqa: E402
from flips import judge  # noqa: E402

STRIKE = """
import os, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from kills import install
place = Path({place!r})
install(place / "out", {strike}, {how!r}, place / "counts")
(place / "elsewhere").write_text("not counted")
(place / "out").mkdir()
with open(place / "out" / "part", "w") as file:
    file.write("0123456789")
    file.flush()
    os.fsync(file.fileno())
os.replace(place / "out" / "part", place / "out" / "whole")
"""


@pytest.mark.parametrize(
    ("strike", "how", "left"),
    [
        (None, "", {"whole": "0123456789"}),
        (1, "kill", None),
        (2, "kill", {}),
        (3, "kill", {"part": "0123456789"}),
        (4, "kill", {"part": "0123456789"}),
        (2, "cut", {"part": "01234"}),
        (5, "kill", {"whole": "0123456789"}),
    ],
)
def test_a_kill_strikes_where_it_is_told(
    strike: int | None, how: str, left: dict[str, str] | None, tmp_path: Path
) -> None:
    """Calls: mkdir, open, sync, rename."""
    code = STRIKE.format(folder=str(FOLDER), place=str(tmp_path), strike=strike, how=how)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == (-9 if strike and strike < 5 else 0), done.stderr
    out = tmp_path / "out"
    found = {p.name: p.read_text() for p in out.iterdir()} if out.exists() else None
    assert found == left
    if strike is None:
        assert (tmp_path / "counts").read_text() == "4"


def test_what_is_the_same() -> None:
    a = {"run.h5": {"x": np.array([1.0, np.nan])}, "summary.json": {"a_last": 0.5}}
    assert differences(a, {k: dict(v) for k, v in a.items()}) == []
    assert differences(a, a | {"run.h5": {"x": np.array([1.0, 2.0])}}) == ["run.h5"]
    assert differences(a, a | {"run.h5": {"x": np.array([1.0, np.nan], "f4")}}) == ["run.h5"]
    assert differences(a, a | {"summary.json": {"a_last": 0}}) == ["summary.json"]
    assert differences(a, {"run.h5": a["run.h5"]}) == ["summary.json"]


@pytest.mark.parametrize(
    ("code", "said", "changed", "right"),
    [
        (0, "", [], True),
        (0, "run.h5 is damaged", [], True),
        (0, "run.h5 is damaged", ["run.h5"], False),
        (2, "run.h5 is damaged", [], True),
        (2, "something is damaged", [], False),
        (1, "run.h5: OSError", [], False),
    ],
)
def test_what_a_flip_may_do(code: int, said: str, changed: list[str], right: bool) -> None:
    for file in ("run.h5", "run.h5.sha256"):
        assert judge(code, said, changed, Path(file), clean=True)[1] is right
        assert judge(code, said, changed, Path(file), clean=False)[1] is False


def test_the_page_has_every_count(tmp_path: Path) -> None:
    campaign = Campaign("kills", ["python experiments/robustness/kills.py --out k.json"])
    campaign.count("the same")
    campaign.count("the same")
    campaign.count("lost", "run, kill at 3: exit 1")
    campaign.write(tmp_path / "k.json")
    assert json.loads((tmp_path / "k.json").read_text())["n"] == 3
    command = [sys.executable, str(FOLDER / "page.py"), str(tmp_path / "k.json")]
    command += ["--out", str(tmp_path / "page.md")]
    subprocess.run(command, check=True, env={**os.environ})
    page = (tmp_path / "page.md").read_text()
    for words in ("## Kills: 3", "| the same | 2 |", "| lost | 1 |", "- `run, kill at 3: exit 1`",
                  "python experiments/robustness/kills.py --out k.json"):  # fmt: skip
        assert words in page
