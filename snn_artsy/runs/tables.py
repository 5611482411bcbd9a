"""What a run prints: rich tables of ``summary.json`` and of what a run file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

ABSENT = "–"

# key in summary.json, heading, format
_LEARNER_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("a_last", "A_last", "percent"),
    ("a_avg", "A_avg", "percent"),
    ("a_last_spikes_only", "spikes", "percent"),
    ("task_identification", "task", "percent"),
    ("oracle_task_accuracy", "oracle", "percent"),
    ("forgetting_max_last", "forget", "percent"),
    ("functional_share", "contacts", "percent"),
    ("mean_open_gates", "gates", "number"),
    ("gate_precision", "prec.", "percent"),
    ("seconds", "s", "number"),
)
LEARNER_CAPTION = (
    "Percent, but for gates (mean number open a sample) and s (seconds). spikes: A_last from "
    "postsynaptic spikes, h_0 not added; task: task identified; oracle: accuracy given the true "
    "task; contacts: functional or consolidated ones; prec.: share of open gates that are the "
    "sample's own."
)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """One row a learner; shares in percent, a dash where a measure does not apply."""
    learners: Mapping[str, Mapping[str, Any]] = summary["learners"]
    table = Table(
        title=_title(summary),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),  # ten columns fit a terminal of 80 characters
    )
    table.add_column("learner", no_wrap=True)
    headings, rows = learner_cells(learners)
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, cells in rows:
        table.add_row(name, *cells)
    table.caption = LEARNER_CAPTION
    if "chance" in summary:
        table.caption += f" Chance: {_cell(summary['chance'], 'percent')}."
    return table


def learner_cells(
    learners: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings, and the cells of each learner's row; measures that nobody has are left out."""
    shown = [c for c in _LEARNER_COLUMNS if any(c[0] in measures for measures in learners.values())]
    rows = [
        (name, [_cell(measures.get(key), form) for key, _, form in shown])
        for name, measures in learners.items()
    ]
    return [heading for _, heading, _ in shown], rows


def controls_table(summary: Mapping[str, Any]) -> Table:
    """One row a control of the spiking learner, beside the learner itself and chance."""
    controls: Mapping[str, Mapping[str, Any]] = summary["controls"]
    chance = summary.get("chance")
    reference = summary["learners"].get("artsy_snn", {})
    rows: dict[str, Mapping[str, Any]] = {"artsy_snn": reference} if reference else {}
    rows |= controls
    # What every control reports besides the decision from spikes (timing_index, ...).
    others = sorted(
        {
            key
            for measures in controls.values()
            for key, value in measures.items()
            if key != "a_last_spikes_only" and isinstance(value, (int, float))
        }
    )
    table = Table(title="Controls of the spiking learner", title_justify="left")
    table.add_column("control", no_wrap=True)
    table.add_column("A_last %, spikes only", justify="right")
    table.add_column("times chance", justify="right")
    for key in others:
        table.add_column(key.replace("_", " "), justify="right")
    for name, measures in rows.items():
        value = measures.get("a_last_spikes_only")
        ratio = value / chance if value is not None and chance else None
        cells = [_cell(measures.get(key), "share") for key in others]
        table.add_row(name, _cell(value, "percent"), _cell(ratio, "number"), *cells)
    return table


def info_table(file: str, facts: Mapping[str, str], sizes: Mapping[str, str]) -> Table:
    """What a run file says of itself, then how much it holds."""
    table = Table(title=file, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for key, value in facts.items():
        table.add_row(key, value)
    table.add_section()
    for key, value in sizes.items():
        table.add_row(key, value)
    return table


def _title(summary: Mapping[str, Any]) -> str:
    config = summary.get("config")
    if not isinstance(config, Mapping):
        return "Learners"
    data, backbone = config.get("data", {}), config.get("backbone", {})
    seeds = summary.get("seeds", [config.get("seed")])
    shown = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}-{seeds[-1]}"
    return f"{data.get('name')}, {backbone.get('name')}, {shown}"


def _cell(value: object, form: str) -> str:
    if (
        not isinstance(value, (int, float, np.integer, np.floating)) or value != value
    ):  # None, or NaN for "does not apply"
        return ABSENT
    if form == "percent":
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if form == "share" else f"{value:.1f}"


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """One row a learner: mean and standard deviation over seeds."""
    table = Table(title=_title(summary), title_justify="left", caption_justify="left",
                  box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fmt: skip
    for heading in ("learner", "A_last", "95 %", "A_avg", "spikes", "ViT", "kparam", "MB", "s"):
        table.add_column(heading, justify="left" if heading == "learner" else "right", no_wrap=True)
    for name, measures in summary["learners"].items():
        low, high = measures["a_last"]["interval_95"]
        table.add_row(
            name,
            _spread(measures, "a_last", 100),
            f"{100 * low:.1f}-{100 * high:.1f}",
            _spread(measures, "a_avg", 100),
            _spread(measures, "a_last_spikes_only", 100),
            _mean(measures, "vit_passes_per_image", 1),
            _mean(measures, "parameters", 1e-3),
            _mean(measures, "stored_bytes", 1e-6),
            _mean(measures, "seconds", 1),
        )
    table.caption = (
        f"Mean ± sd over {len(summary['seeds'])} seeds (class order, training images, noise), "
        "percent. 95 %: of mean A_last, over seeds and test images. spikes: "
        "A_last from postsynaptic spikes alone. ViT: passes of the ViT an image. kparam: trained "
        "parameters, thousands; MB: stored; s: wall time."
    )
    return table


def pairs_table(summary: Mapping[str, Any]) -> Table:
    """One row a pair: difference of A_last, its interval, Holm-corrected p."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    for heading in ("a - b", "difference", "95 %", "h", "p (Holm)"):
        left = heading == "a - b"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for pair in summary["pairs"]:
        low, high = (100 * bound for bound in pair["interval_95"])
        table.add_row(
            f"{pair['a']} - {pair['b']}",
            f"{100 * pair['difference']:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{pair['cohens_h']:+.2f}",
            shown_p(pair["p_holm"]),
        )
    table.caption = " ".join(
        [
            "Points of A_last, paired over seeds and test images; t intervals and p over both. "
            "h: Cohen's, of the two accuracies.",
            *(
                f"{', '.join(others)} answered as {name} did everywhere and is counted once."
                for name, *others in summary["alike"]
            ),
            *(f"{text[0].upper()}{text[1:]}." for text in summary["warnings"]),
        ]
    )
    return table


def shown_p(p: float) -> str:
    """A p value with four digits; smaller ones are not told apart."""
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def _spread(measures: Mapping[str, Any], key: str, scale: float) -> str:
    if key not in measures:
        return ABSENT
    found = measures[key]
    sd = "" if found["sd"] is None else f" ± {scale * found['sd']:.1f}"
    return f"{scale * found['mean']:.1f}{sd}"


def _mean(measures: Mapping[str, Any], key: str, scale: float) -> str:
    return f"{scale * measures[key]['mean']:.1f}" if key in measures else ABSENT


def protocols_table(rows: list[dict[str, Any]]) -> Table:
    """Measured beside published, one row a check; sources are in ``protocols.json``."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("protocol, check")
    for title in ("measured", "published", "+-"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    sign = {"at_most": "<= ", "at_least": ">= "}
    shown = None
    for row in rows:
        bound = sign.get(row.get("kind", ""), "")
        measured, published, tolerance = (
            _short(row[key]) for key in ("measured", "published", "tolerance")
        )
        if row["name"] != shown:
            table.add_row(Text(row["name"], style="bold"))
        table.add_row(
            "  " + (row["check"] if row["pass"] else f"{row['check']} ({row['source']})"),
            measured,
            bound + published,
            "" if bound else tolerance,
            "pass" if row["pass"] else "FAIL",
        )
        shown = row["name"]
    return table


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
