"""What a page says under the mouse lies where the figure shows it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from snn_artsy.report.marks import marks


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), dpi=50)
    return figure


def test_points_lie_where_they_are_drawn() -> None:
    """One dark pixel's worth of marker for each point, found again in the image."""
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.add_subplot()
    x, y = np.array([1.0, 2.0, 5.0]), np.array([3.0, -1.0, 2.0])
    axes.plot(x, y, "s", color="#010203", markersize=3, label="dots")
    target = io.BytesIO()
    figure.savefig(target, format="raw", dpi=100)
    image = np.frombuffer(target.getvalue(), np.uint8).reshape(300, 400, 4)
    found = marks(figure)
    said = [m.text.removeprefix("dots: ").replace("−", "-").split(", ") for m in found]
    np.testing.assert_allclose(np.array(said, dtype=float), np.stack([x, y], axis=1), atol=0.01)
    for mark in found:
        row, column = round(mark.y * 300), round(mark.x * 400)
        near = image[row - 2 : row + 3, column - 2 : column + 3, :3].reshape(-1, 3)
        assert (near == (1, 2, 3)).all(1).any()


def test_error_bars_have_the_name_of_their_curve() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.errorbar([1, 2], [3, 4], [0.1, 0.2], label="accuracy")
    axes.axhline(3.5)  # a rule, not data
    texts = [mark.text for mark in marks(drawn(figure))]
    assert len(texts) == 2 and all(text.startswith("accuracy: ") for text in texts)


@pytest.mark.parametrize("origin", ["upper", "lower"])
def test_cells_of_a_matrix(origin: str) -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.imshow([[0.25, np.nan], [0.5, 0.75]], origin=origin)  # type: ignore[arg-type]
    found = {mark.text: mark for mark in marks(drawn(figure))}
    assert set(found) == {f"row {i}, column {j}: {v}" for i, j, v in
                          ((1, 1, 0.25), (2, 1, 0.5), (2, 2, 0.75))}  # fmt: skip
    first, second = found["row 1, column 1: 0.25"], found["row 2, column 1: 0.5"]
    assert first.x == second.x and (first.y < second.y) == (origin == "upper")


def test_long_curves_are_thinned() -> None:
    figure = Figure()
    figure.add_subplot().plot(np.arange(10_001), np.arange(10_001))
    assert 1000 < len(marks(drawn(figure))) <= 2000
