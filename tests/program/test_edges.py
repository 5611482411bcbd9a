"""A small seeded sample of the campaign of edge values (experiments/robustness/edges.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "robustness" / "edges.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked children")
def test_a_sample_ends_well(tmp_path: Path) -> None:
    out = tmp_path / "edges.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--n", "8", "--seed", "3", "--out", str(out)],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert found["campaign"] == "edges" and found["n"] == sum(found["outcomes"].values()) == 8
    assert found["bad"] == [] and set(found["outcomes"]) >= {"done", "refused"}


def test_the_judge_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import edges

    line = "snn-artsy: seed: -1 cannot be used; use 0 to 2147483647\n"
    assert edges.judged(2, "", line, tmp_path) == ("refused", "")
    assert edges.judged(2, "", line + line, tmp_path)[1]
    assert edges.judged(1, "", "snn-artsy: OSError: no\n", tmp_path)[1]
    assert edges.judged(2, "", "Traceback (most recent call last)\n", tmp_path)[0] == "traceback"
    assert edges.judged(0, "", "", tmp_path) == ("done", "no summary.json")
    assert edges.judged(-11, "", "", tmp_path)[0] == "exit -11"
    run = tmp_path / "run"
    run.mkdir()
    assert "it wrote" in edges.judged(2, "", line, tmp_path)[1]
    (run / "summary.json").write_text('{"learners": {"ease": {"a_last": 0.5}}}')
    assert edges.judged(0, "", "", tmp_path) == ("done", "")
    assert edges.judged(1, "", "ease, task 0: not finite", tmp_path)[1]
    (run / "summary.json").write_text('{"learners": {"ease": {"a_last": NaN}}}')
    assert edges.judged(0, "", "", tmp_path)[1] == "numbers that are not finite"
