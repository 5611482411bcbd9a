"""Contrasts of settings: which are made, and their values, intervals and p against SciPy's."""

import numpy as np
import pytest
from scipy import stats

from snn_artsy.evaluation.contrasts import Contrast, answered, differences, slopes
from snn_artsy.evaluation.statistics import crossed_mean

GRID = {
    f"share {share}, kept {kept}": {"a.share": share, "a.kept": kept}
    for share in (0.0, 0.5, 1.0)
    for kept in (True, False)
}


def test_each_value_is_compared_with_the_first_all_else_equal() -> None:
    found = {c.name: c.weights for c in differences(GRID)}
    assert found == {
        "share 0.5 - 0 (kept true)": {"share 0.5, kept True": 1, "share 0.0, kept True": -1},
        "share 0.5 - 0 (kept false)": {"share 0.5, kept False": 1, "share 0.0, kept False": -1},
        "share 1 - 0 (kept true)": {"share 1.0, kept True": 1, "share 0.0, kept True": -1},
        "share 1 - 0 (kept false)": {"share 1.0, kept False": 1, "share 0.0, kept False": -1},
        "kept false - true (share 0)": {"share 0.0, kept False": 1, "share 0.0, kept True": -1},
        "kept false - true (share 0.5)": {"share 0.5, kept False": 1, "share 0.5, kept True": -1},
        "kept false - true (share 1)": {"share 1.0, kept False": 1, "share 1.0, kept True": -1},
    }
    named = differences({"usual": {}, "a": {}, "b": {}})
    assert [c.name for c in named] == ["a - usual", "b - usual"]


def test_slopes_are_those_of_least_squares() -> None:
    found = slopes(GRID)
    assert [c.name for c in found] == ["per share (kept true)", "per share (kept false)"]
    values = {name: [float(k**2)] for k, name in enumerate(GRID)}
    for contrast, members in zip(found, ([0, 2, 4], [1, 3, 5]), strict=True):
        slope = sum(w * values[name][0] for name, w in contrast.weights.items())
        expected = np.polyfit([0.0, 0.5, 1.0], np.square(members), 1)[0]
        assert slope == pytest.approx(expected)
        assert sum(contrast.weights.values()) == pytest.approx(0)
    # truth values have no slope, and neither have two numbers
    two = {"a": {"x": 1}, "b": {"x": 2}}
    assert slopes(two) == [] and slopes({k: {"x": v["a.kept"]} for k, v in GRID.items()}) == []


def test_without_images_seeds_are_paired() -> None:
    values = {"a": [0.1, 0.4, 0.3, 0.5], "b": [0.2, 0.6, 0.4, 0.8], "c": [0.2, 0.5, 0.1, 0.9]}
    contrasts = differences({key: {} for key in values})
    first, second = answered(contrasts, values)
    test = stats.ttest_rel(values["b"], values["a"])
    assert first["value"] == pytest.approx(0.175) and first["over"] == "seeds"
    assert first["p"] == pytest.approx(test.pvalue)
    assert first["interval_95"] == pytest.approx(list(test.confidence_interval()))
    # Holm: the smaller of two is doubled, the larger not less than it
    assert first["p_holm"] == pytest.approx(2 * first["p"])
    assert second["p_holm"] == pytest.approx(max(second["p"], 2 * first["p"]))
    (alone, _) = answered(contrasts, {name: each[:1] for name, each in values.items()})
    assert alone["interval_95"] is None and alone["p"] is None and alone["p_holm"] is None
    assert alone["value"] == pytest.approx(0.1)
    assert answered(contrasts, {"a": values["a"], "c": values["c"]})[0]["name"] == "c - a"


def test_with_images_both_are_crossed() -> None:
    generator = np.random.default_rng(0)
    correct = {
        n: (generator.random((3, 40)) < p).astype(float) for n, p in (("a", 0.4), ("b", 0.8))
    }
    values = {name: each.mean(1).tolist() for name, each in correct.items()}
    contrast = Contrast("difference", "b - a", {"b": 1.0, "a": -1.0})
    (found,) = answered([contrast], values, correct)
    expected = crossed_mean(correct["b"] - correct["a"])
    assert found["value"] == pytest.approx(expected.mean)
    assert found["p"] == found["p_holm"] == pytest.approx(expected.p_value())
    assert found["interval_95"] == pytest.approx(list(expected.interval()))
    assert found["over"] == "seeds and images" and len(found["values"]) == 3
