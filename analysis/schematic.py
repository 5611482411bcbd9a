"""Draw the model: what happens to an image, and what becomes of a contact.

python analysis/schematic.py --out docs/figures/model.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from snn_artsy.cli import script
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PAGE_INCHES,
    STATE_COLOURS,
    VERMILLION,
    new_figure,
    rendered,
    styled,
)

ROOT = Path(__file__).resolve().parents[1]


@styled
def draw() -> Figure:
    """Above, the way of an image; below, the three states of a contact."""
    figure = new_figure(PAGE_INCHES, 3.7)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 144), ylim=(0, 75))
    axes.set_axis_off()
    _image(axes, 3, 47)
    _box(axes, 18, 44, 17, 16, "frozen ViT\n$E_0$", "0.9")
    _arrow(axes, (13, 52), (18, 52))
    _arrow(axes, (35, 52), (42, 52))
    axes.text(38.5, 53.5, "$h_0$", ha="center")
    _spikes(axes, 42, 44)
    axes.text(48.5, 62, "ON and OFF spikes", ha="center", size=7)
    for k, (y, state) in enumerate(((62, "consolidated"), (48, "functional"), (34, "silent"))):
        _arrow(axes, (56, 52), (70, y + 4), STATE_COLOURS[state])
        _contact(axes, 63, 52 + 0.5 * (y + 4 - 52), state)
        _box(axes, 70, y, 20, 9, f"sub-network {k + 1}", "white")
        is_open = state != "silent"
        _arrow(axes, (90, y + 4.5), (104, y + 4.5 if k == 1 else 52.5), BLACK if is_open else GREY)
        shift = {0: 2.4, 1: 1.2, 2: -4.2}[k]
        gate = f"$m_{k + 1} = {int(is_open)}$"
        axes.text(
            99.0 if k != 1 else 96.0, (y + 4.5 + (y + 4.5 if k == 1 else 52.5)) / 2 + shift, gate,
            ha="center", size=7, color=BLACK if is_open else GREY,
        )  # fmt: skip
    _box(axes, 104, 47, 21, 11, "$z = h_0 + \\sum_t m_t h_t$", "0.9")
    _arrow(axes, (125, 52.5), (130, 52.5))
    axes.text(137, 52.5, "nearest\nclass\nprototype", ha="center", va="center", size=7)
    axes.plot([38.5, 38.5, 114.5], [52, 29, 29], color=BLACK, linewidth=1.0)
    _arrow(axes, (114.5, 29), (114.5, 47))
    axes.text(72, 72.6, "each task adds a sub-network, joined by synapses that are born silent",
              ha="center", va="center", size=7)  # fmt: skip
    _states(axes)
    return figure


def _states(axes: Axes) -> None:
    """Silent, functional and consolidated, with what moves a contact between them."""
    axes.plot([3, 141], [24, 24], color="0.8", linewidth=0.6)
    places = {"silent": 18, "functional": 72, "consolidated": 126}
    texts = {
        "silent": "silent: NMDA receptors only,\npasses nothing",
        "functional": "functional: AMPA receptors,\npasses spikes",
        "consolidated": "consolidated: is kept while\nlater tasks are learnt",
    }
    for state, x in places.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - 7, 10), 14, 3, boxstyle="round,pad=0.8", fc="0.95", ec=BLACK, lw=0.8
            )
        )
        for at in (-4, 4):
            axes.add_patch(Rectangle((x + at - 1, 12.6), 2, 3.4, color=VERMILLION))
        for at in (-1.6, 1.6) if state != "silent" else ():
            axes.add_patch(Circle((x + at, 14.4), 1.3, color=STATE_COLOURS[state]))
        axes.text(x, 7.2, texts[state], ha="center", va="top", size=7)
    _arrow(axes, (29, 14), (61, 14), BLUE)
    axes.text(45, 15.6, "inputs and teacher together (STDP)", ha="center", size=6)
    _arrow(axes, (61, 10.5), (29, 10.5), VERMILLION)
    axes.text(45, 7.2, "depression", ha="center", size=6)
    _arrow(axes, (83, 12), (115, 12), GREEN)
    axes.text(99, 13.6, "capture at the task's end, or time", ha="center", size=6)
    axes.text(3, 20.4, "a contact", size=7, weight="bold")
    axes.text(3, 69.6, "an image", size=7, weight="bold")


def _image(axes: Axes, x: float, y: float) -> None:
    pixels = np.array([[0, 2, 3, 1], [1, 0, 3, 0], [0, 1, 3, 0], [0, 2, 2, 0]]) / 3.0
    axes.imshow(pixels, extent=(x, x + 10, y, y + 10), cmap="Greys", aspect="auto", zorder=1)
    axes.add_patch(Rectangle((x, y), 10, 10, fill=False, lw=0.8))


def _spikes(axes: Axes, x: float, y: float) -> None:
    random = np.random.default_rng(3)
    for row in range(8):
        times = x + 14 * np.sort(random.random(5))
        colour = BLUE if row >= 4 else VERMILLION
        axes.vlines(times, y + 2 * row, y + 2 * row + 1.4, color=colour, linewidth=0.8)


def _contact(axes: Axes, x: float, y: float, state: str) -> None:
    filled = state != "silent"
    axes.add_patch(
        Circle((x, y), 1.5, fc=STATE_COLOURS[state] if filled else "white",
               ec=STATE_COLOURS[state], lw=1.0, zorder=3)
    )  # fmt: skip


def _box(axes: Axes, x: float, y: float, width: float, height: float, text: str, fill: str) -> None:
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1.5", fc=fill,
                       ec=BLACK, lw=0.8)
    )  # fmt: skip
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", size=8)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = BLACK
) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, color=colour, linewidth=1.0,
                        shrinkA=0, shrinkB=0)
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "model.svg")
    out = parser.parse_args(words).out
    out.write_bytes(rendered(draw(), out.suffix[1:], dpi=150))
    print(out)


if __name__ == "__main__":
    script(main)
