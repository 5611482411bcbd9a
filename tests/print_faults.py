"""What is wrong with the texts of a figure: cut off, or on each other."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text


def faults(figure: Figure) -> list[tuple[str, ...]]:
    """Texts that leave the figure, and pairs of texts that touch."""
    drawn: list[Text] = []
    draw = Text.draw

    def noted(self: Text, *given: object, **named: object) -> object:
        drawn.append(self)  # ticks out of view are not drawn
        return draw(self, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.draw_without_rendering()
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in dict.fromkeys(drawn)
        if text.get_visible() and text.get_text().strip()
    ]
    width, height = figure.bbox.width, figure.bbox.height
    found = [
        (text,)
        for text, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    found += [
        (one, other)
        for (one, a), (other, b) in combinations(boxes, 2)
        if a.x0 + 1 < b.x1 and b.x0 + 1 < a.x1 and a.y0 + 1 < b.y1 and b.y0 + 1 < a.y1
    ]
    return found
