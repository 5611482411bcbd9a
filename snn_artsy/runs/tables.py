"""What a run prints: rich tables of ``summary.json`` and of what a run file holds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

ABSENT = "–"
WIDTH = 80
"""Columns of a terminal that tables fit, unless a name leaves no room for a number beside it."""


@dataclass(frozen=True)
class MeasureColumn:
    """How tables show a measure of ``summary.json``.

    Args:
        short, title: Its heading where there is little room, and on a page.
        scale: What it is multiplied by; 100 for percent.
    """

    short: str
    title: str
    scale: float = 100.0

    def cell(self, value: object, sd: bool = True) -> str:
        """A number, or the mean of several (with their ``sd``) ± their standard deviation; a dash
        where the measure does not apply."""
        if not isinstance(value, Mapping):
            return shown(value, self.scale)
        text = shown(value.get("mean"), self.scale)  # a summary may be of somebody else's making
        spread = value.get("sd") if sd else None  # None: of one number
        return text if spread is None else f"{text} ± {shown(spread, self.scale)}"


COLUMNS = {
    "a_last": MeasureColumn("A_last", "A_last"),
    "a_last_spikes_only": MeasureColumn("spikes", "A_last, spikes only"),
    "a_avg": MeasureColumn("A_avg", "A_avg"),
    "task_identification": MeasureColumn("task", "task identified"),
    "gate_identification": MeasureColumn("gate", "gate identified"),
    "oracle_task_accuracy": MeasureColumn("oracle", "oracle task"),
    "forgetting_max_last": MeasureColumn("forget", "forgetting"),
    "forgetting_spikes_only": MeasureColumn("forget\nsp.", "forgetting, spikes only"),
    "a_last_old_spikes_only": MeasureColumn("old\nsp.", "A_last of old tasks, spikes only"),
    "a_last_new_spikes_only": MeasureColumn("new\nsp.", "A_last of the new task, spikes only"),
    "functional_share": MeasureColumn("contacts", "functional contacts"),
    "mean_open_gates": MeasureColumn("gates", "open gates", 1),
    "gate_precision": MeasureColumn("prec.", "precision"),
    "gate_recall": MeasureColumn("recall", "recall"),
    "all_silent_share": MeasureColumn("silent", "all silent"),
    "converted_share": MeasureColumn("converted", "converted"),
    "test_steps": MeasureColumn("T", "T", 1),
    "max_rate_hz": MeasureColumn("Hz", "max. rate (Hz)", 1),
    "spikes_per_image": MeasureColumn("spikes/image", "spikes per image", 1),
    "timing_index": MeasureColumn("timing", "timing index"),
    "timing_index_equal_parameters": MeasureColumn("timing", "timing, equal parameters"),
    "timing_index_equal_density": MeasureColumn("at density", "timing, equal density"),
    "timing_contacts_changed": MeasureColumn("changed", "contacts changed"),
    "contacts_changed": MeasureColumn("changed", "contacts changed"),
    "n_contacts": MeasureColumn("kcontacts", "synapses, thousands", 1e-3),
    "parameters": MeasureColumn("kparam", "trained, thousands", 1e-3),
    "stored_bytes": MeasureColumn("MB", "stored, MB", 1e-6),
    "vit_passes_per_image": MeasureColumn("ViT", "ViT passes", 1),
    "synaptic_operations_per_image": MeasureColumn("kops", "synaptic operations, thousands", 1e-3),
    "inference_ms_per_image": MeasureColumn("µs", "µs an image", 1000),
    "seconds_learning": MeasureColumn("s learning", "seconds learning", 1),
    "seconds": MeasureColumn("s", "seconds", 1),
}
"""Measures that some table shows: the one list for consoles, reports and pages."""

_BY_IDEA: tuple[tuple[str, ...], ...] = (
    ("a_last", "a_avg", "task_identification", "oracle_task_accuracy", "forgetting_max_last"),
    ("mean_open_gates", "gate_precision", "seconds"),
    ("a_last_spikes_only", "forgetting_spikes_only", "a_last_old_spikes_only",
     "a_last_new_spikes_only", "functional_share"),
)  # fmt: skip
_OF_A_RUN = tuple(key for keys in _BY_IDEA for key in keys)
LEARNER_CAPTION = (
    "Percent, but for gates (mean number open a sample) and s (seconds). spikes: A_last from "
    "postsynaptic spikes, h_0 not added, and (sp.) its forgetting, and of earlier tasks (old) and "
    "the last one (new); task: task identified; oracle: accuracy given the true task; contacts: "
    "functional or consolidated ones; prec.: share of open gates that are the sample's own."
)

GROUPS_CAPTION = "Mean ± sd over n seeds. spikes: A_last from postsynaptic spikes alone."
_OF_CONTROLS = (
    "a_last_spikes_only", "functional_share", "contacts_changed", "spikes_per_image",
    "timing_index", "timing_index_equal_density",
)  # fmt: skip
CONTROLS_CAPTION = (
    "Percent, but for x chance (times chance) and spikes an image. spikes: A_last from "
    "postsynaptic spikes alone; contacts: functional or consolidated ones; changed: contacts that "
    "are functional there and silent in the learner, or the other way round; timing, at density: "
    "what shuffled spike times take away, and with as many contacts."
)

DOMAIN_COLUMNS = {
    "domain_predicted": "class",
    "domain_identified": "gate",
    "domain_opened": "open",
}
DOMAIN_CAPTION = (
    "Percent. Share of test images for which the right data set was found: class: the predicted "
    "class is one of its own; gate: the gate with the largest score is; open: one of its gates is "
    "open."
)


class _Table(Table):
    """Its numbers stay on a line and nothing is cut, if it has the room that it measures
    (`snn_artsy.printing.show`)."""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        for column in self.columns:
            column.overflow = "fold"
            column.no_wrap = column.no_wrap or column.justify == "right"
            if column.no_wrap:
                texts = "\n".join(map(str, (column.header, *column.cells)))
                column.min_width = max(map(cell_len, texts.split("\n")))
        return super().__rich_measure__(console, options)


@dataclass(frozen=True)
class _Column:
    """Numbers of a table under their heading; with ``new`` an idea begins that stays together."""

    heading: str
    cells: Sequence[str]
    new: bool = True

    @property
    def width(self) -> int:
        return max(map(cell_len, (*self.heading.split("\n"), *self.cells)))


def _stacked(
    title: str,
    names: Mapping[str, Sequence[str]],
    columns: Sequence[_Column],
    caption: str = "",
    wrapped: int | None = None,
) -> Group:
    """As many tables below each other as it takes for each to fit `WIDTH`.

    Args:
        names: What rows are called, in one or more columns that every table has: heading -> cells.
        columns: Of numbers; those of one idea are in one table where they fit.
        wrapped: The first of ``names`` may wrap its words where it is longer than this.
    """
    widths = [max(map(cell_len, (heading, *cells))) for heading, cells in names.items()]
    if wrapped is not None:
        words = " ".join(next(iter(names.values()))).split()
        widths[0] = min(widths[0], max(wrapped, *map(cell_len, words)))
    texts: list[RenderableType] = [Text(title, style="table.title")] if title else []
    parts = _parts(columns, WIDTH - 2 - sum(width + 1 for width in widths))
    for part in parts:
        table = _Table(box=box.SIMPLE_HEAD, padding=(0, 0))  # as narrow as it gets
        for heading, width in zip(names, widths, strict=True):
            table.add_column(heading, width=width)
        for column in part:
            table.add_column(column.heading, justify="right")
        for name, *cells in zip(
            zip(*names.values(), strict=True), *(column.cells for column in part), strict=True
        ):
            # every row is in the first table, in others those that have something there
            if part is parts[0] or set(cells) != {ABSENT}:
                table.add_row(*name, *cells)
        texts.append(table)
    return Group(*texts, *([Text(caption, style="table.caption")] if caption else []))


def _parts(columns: Sequence[_Column], room: int) -> list[list[_Column]]:
    """Columns in their order, ideas kept whole where they fit the room beside the names."""
    ideas: list[list[_Column]] = []
    for column in columns:
        if column.new or not ideas:
            ideas.append([])
        ideas[-1].append(column)
    parts: list[list[_Column]] = [[]]
    for idea in ideas:
        pieces = [idea] if _room(idea) <= room else [[column] for column in idea]
        for piece in pieces:
            if parts[-1] and _room([*parts[-1], *piece]) > room:
                parts.append([])
            parts[-1] += piece
    return parts


def _room(columns: Sequence[_Column]) -> int:
    """What columns take, with a space between two."""
    return sum(column.width + 1 for column in columns) - 1


def _columns(
    keys: Iterable[Sequence[str]], rows: Sequence[Mapping[str, Any]], sd: bool = True
) -> list[_Column]:
    """Measures of `COLUMNS`, by idea; those that no row has are left out.

    Args:
        sd: With standard deviations, where there are some; sizes and times do without.
    """
    columns = []
    for idea in keys:
        used = [key for key in idea if any(key in row for row in rows)]
        for i, key in enumerate(used):
            column = COLUMNS[key]
            cells = [column.cell(row.get(key), sd or column.scale == 100) for row in rows]
            columns.append(_Column(column.short, cells, new=i == 0))
    return columns


def summary_table(summary: Mapping[str, Any]) -> Group:
    """One row a learner; shares in percent, a dash where a measure does not apply."""
    learners: Mapping[str, Mapping[str, Any]] = summary["learners"]
    chance = f" Chance: {shown(summary['chance'], 100)}." if "chance" in summary else ""
    return _stacked(
        _title(summary),
        {"learner": [*learners]},
        _columns(_BY_IDEA, [*learners.values()]),
        LEARNER_CAPTION + chance,
    )


def learner_cells(
    learners: Mapping[str, Mapping[str, Any]], keys: Iterable[str] = _OF_A_RUN, page: bool = False
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings, and the cells of each learner's row; measures that nobody has are left out.

    Args:
        keys: Of `COLUMNS`.
        page: With the headings of a page.
    """
    used = [key for key in keys if any(key in measures for measures in learners.values())]
    rows = [
        (name, [COLUMNS[key].cell(measures.get(key)) for key in used])
        for name, measures in learners.items()
    ]
    return [COLUMNS[key].title if page else COLUMNS[key].short for key in used], rows


def domain_cells(
    learners: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings, and the cells of each learner's row: the domains, A_last of each, and how often the
    right one was found. Nothing where tasks are from one data set."""
    keys = {key: None for measures in learners.values() for key in measures}
    domains = [key.partition(":")[2] for key in keys if key.startswith("a_last:")]
    if not domains:
        return [], []
    used = [f"a_last:{domain}" for domain in domains]
    used += [key for key in DOMAIN_COLUMNS if key in keys]
    rows = [
        (name, [MeasureColumn("", "").cell(measures.get(key)) for key in used])
        for name, measures in learners.items()
    ]
    return [*domains, *(DOMAIN_COLUMNS[key] for key in used[len(domains) :])], rows


def domains_table(summary: Mapping[str, Any]) -> list[Group]:
    """One row a learner, one column a domain; none where tasks are from one data set."""
    headings, rows = domain_cells(summary["learners"])
    if not headings:
        return []
    together = [*DOMAIN_COLUMNS.values()][1:]
    columns = [
        # names of data sets are longer than their numbers: they break at hyphens
        _Column(textwrap.fill(heading, 12, break_long_words=False), cells, heading not in together)
        for heading, *cells in zip(headings, *(cells for _, cells in rows), strict=True)
    ]
    names = {"learner": [name for name, _ in rows]}
    return [_stacked("A_last by data set", names, columns, DOMAIN_CAPTION)]


def markdown(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines of a Markdown table; the first column has no heading."""
    escaped = "\\|"  # which no f-string of Python 3.10 holds
    return [
        f"| | {' | '.join(headings)} |",
        "|---|" + "---:|" * len(headings),
        # a stroke in a name would begin a cell of its own
        *(f"| {name.replace('|', escaped)} | {' | '.join(cells)} |" for name, cells in rows),
    ]


def controls_table(summary: Mapping[str, Any]) -> Group:
    """One row a control of the spiking learner, beside the learner itself and chance."""
    controls: Mapping[str, Mapping[str, Any]] = summary["controls"]
    reference = summary["learners"].get("artsy_snn", {})
    rows = ({"artsy_snn": reference} if reference else {}) | dict(controls)
    columns = _columns([_OF_CONTROLS], [*rows.values()])
    if chance := summary.get("chance"):
        values = [row.get("a_last_spikes_only") for row in rows.values()]
        ratios = [None if value is None else value / chance for value in values]
        columns.insert(1, _Column("x chance", [*map(shown, ratios)], new=False))
    return _stacked(
        "Controls of the spiking learner", {"control": [*rows]}, columns, CONTROLS_CAPTION
    )


def info_table(file: str, facts: Mapping[str, str], sizes: Mapping[str, str]) -> Table:
    """What a run file says of itself, then how much it holds."""
    table = _Table(title=file, title_justify="left", show_header=False)
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


def shown(value: object, scale: float = 1.0, digits: int = 1) -> str:
    """A number; a dash for None, and for NaN, a measure that does not apply."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and value == value
    return f"{scale * value:.{digits}f}" if number else ABSENT  # type: ignore[operator]


def comparison_table(summary: Mapping[str, Any]) -> Group:
    """One row a learner: mean and standard deviation over seeds."""
    learners: Mapping[str, Mapping[str, Any]] = summary["learners"]
    rows = [*learners.values()]
    accuracy = ("a_last", "a_avg", "a_last_spikes_only")
    costs = ("vit_passes_per_image", "parameters", "stored_bytes", "seconds")
    columns = _columns([accuracy, costs], rows, sd=False)
    bounds = [[f"{100 * bound:.1f}" for bound in row["a_last"]["interval_95"]] for row in rows]
    columns.insert(1, _Column("95 %", [*map("-".join, bounds)], new=False))
    caption = (
        f"Mean ± sd over {len(summary['seeds'])} seeds (class order, training images, noise), "
        "percent. 95 %: of mean A_last, over seeds and test images. spikes: "
        "A_last from postsynaptic spikes alone. ViT: passes of the ViT an image. kparam: trained "
        "parameters, thousands; MB: stored; s: wall time."
    )
    return _stacked(_title(summary), {"learner": [*learners]}, columns, caption)


def groups_table(summary: Mapping[str, Any]) -> Group:
    """Of a sweep: one row a combination and learner, mean and sd over seeds in percent."""
    groups: Sequence[Mapping[str, Any]] = summary["groups"]
    settings = [
        ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in group["values"].items())
        for group in groups
    ]
    names = {
        "setting": [setting or "all" for setting in settings],
        "learner": [group["learner"] for group in groups],
        "n": [str(group["n"]) for group in groups],
    }
    keys = ("a_last", "a_avg", "a_last_spikes_only")
    columns = _columns([keys], [group["measures"] for group in groups])
    return _stacked("Over seeds, percent", names, columns, GROUPS_CAPTION, wrapped=20)


def pairs_table(summary: Mapping[str, Any]) -> Group:
    """One row a pair: difference of A_last, its interval, Holm-corrected p."""
    cells = [pair_cells(pair) for pair in summary["pairs"]]
    pairs, *numbers = zip(*cells, strict=True) if cells else [()] * 5
    columns = [
        _Column(heading, column)
        for heading, column in zip(("points", "95 %", "h", "p (Holm)"), numbers, strict=True)
    ]
    caption = " ".join(
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
    return _stacked("", {"a - b": pairs}, columns, caption, wrapped=35)


def pair_cells(pair: Mapping[str, Any], turned: bool = False) -> list[str]:
    """A pair of a comparison: its names, difference, interval, Cohen's h and p; ``turned``: of the
    second less the first."""
    sign = -1 if turned else 1
    a, b = (pair["a"], pair["b"])[::sign]
    # + 0.0 makes a plain zero of -0.0
    difference, h = (sign * value + 0.0 for value in (100 * pair["difference"], pair["cohens_h"]))
    low, high = sorted(sign * 100 * bound + 0.0 for bound in pair["interval_95"])
    interval = f"{low:+.2f} to {high:+.2f}"
    return [f"{a} - {b}", f"{difference:+.2f}", interval, f"{h:+.2f}", shown_p(pair["p_holm"])]


def study_table(found: Mapping[str, Any]) -> Group:
    """Of a study: one row a setting, each measure with its 95 % interval."""
    n = len(found["seeds"])
    headings, rows = study_cells(found)
    columns = [
        _Column(textwrap.fill(heading, 20), cells)
        for heading, *cells in zip(headings, *(cells for _, cells in rows), strict=True)
    ]
    remarks = [f"{text[0].upper()}{text[1:]}." for text in found["warnings"]]
    caption = " ".join([f"Mean over {n} seeds, percent where it is a share. Brackets: 95 %.",
                        *remarks])  # fmt: skip
    names = {"setting": [name for name, _ in rows]}
    return _stacked(_hypothesis(found) or "Study", names, columns, caption, wrapped=30)


def _hypothesis(found: Mapping[str, Any]) -> str:
    """What is asked, which is not what was found."""
    return f"Hypothesis: {found['hypothesis']}" if found["hypothesis"] else ""


def study_cells(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings, and each setting's measures: mean and 95 % interval."""
    measures: Mapping[str, Mapping[str, Any]] = found["measures"]
    rows = []
    for name, setting in found["settings"].items():
        cells = []
        for key, column in measures.items():
            entry, scale = setting["measures"].get(key), column["scale"]
            interval = _bounds(entry["interval_95"], scale) if entry else ""
            mean = shown(entry["mean"] if entry else None, scale)
            cells.append(f"{mean} [{interval}]" if interval else mean)
        rows.append((name, cells))
    return [column["title"] for column in measures.values()], rows


def contrast_cells(found: Mapping[str, Any], measure: str) -> list[tuple[str, list[str]]]:
    """Differences and slopes of one measure: value, 95 % interval, p by Holm."""
    scale = found["measures"][measure]["scale"]
    return [
        (
            entry["name"],
            [
                f"{scale * entry['value'] + 0.0:+.1f}",
                _bounds(entry["interval_95"], scale, "+") or ABSENT,
                ABSENT if entry["p_holm"] is None else shown_p(entry["p_holm"]),
            ],
        )
        for entry in found["contrasts"][measure]
    ]


def contrasts_table(found: Mapping[str, Any]) -> Table:
    """Of a study: one row a difference or slope, measure by measure."""
    table = _Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    for heading in ("difference or slope", "value", "95 %", "p (Holm)"):
        left = heading.startswith("difference")
        table.add_column(heading, justify="left" if left else "right")
    for measure, column in found["measures"].items():
        table.add_row(Text(column["title"], style="bold"))
        for name, cells in contrast_cells(found, measure):
            table.add_row(f"  {name}", *cells)
    table.caption = CONTRASTS
    return table


CONTRASTS = (
    "Points of each measure. Accuracies: over seeds and test images, crossed; others: over seeds, "
    "paired. Holm's correction is over the differences of a measure, and over its slopes."
)


def study_markdown(found: Mapping[str, Any]) -> list[str]:
    """Lines of a page: the settings, then the differences and slopes of each measure."""
    lines = [_hypothesis(found), ""] if found["hypothesis"] else []
    lines += markdown(*study_cells(found))
    commits = ", ".join(commit[:10] for commit in found["commits"])
    seeds = f"{found['seeds'][0]}-{found['seeds'][-1]}"
    lines += ["", f"{found['data']}, {found['backbone']}, seeds {seeds}, {found['device']}, commit "
              f"{commits}; mean [95 % interval], percent where it is a share."]  # fmt: skip
    rows: dict[str, list[str]] = {}
    for column, measure in enumerate(found["measures"]):
        for name, (value, interval, p) in contrast_cells(found, measure):
            row = rows.setdefault(name, [ABSENT] * len(found["measures"]))
            row[column] = f"{value} [{interval}] {p}"
    if rows:
        titles = [column["title"] for column in found["measures"].values()]
        lines += ["", "Differences and slopes, with 95 % intervals and p by Holm:", ""]
        lines += markdown(titles, rows.items())
        lines += ["", CONTRASTS]
    return lines


def _bounds(interval: Sequence[float] | None, scale: float, sign: str = "") -> str:
    """The ends of an interval; nothing where there is none."""
    if interval is None:
        return ""
    low, high = (scale * bound + 0.0 for bound in interval)
    return f"{low:{sign}.1f} to {high:{sign}.1f}"


def shown_p(p: float) -> str:
    """A p value with four digits; smaller ones are not told apart."""
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def protocols_table(rows: list[dict[str, Any]]) -> Table:
    """Measured beside reference, one row a check; sources are in ``protocols.json``.

    References that are numbers of a paper or of another simulator have a star. Where one does not
    hold for what was measured, the row says why.
    """
    n_independent = sum(bool(row.get("independent")) for row in rows)
    table = _Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"*: a number of a paper or of another simulator ({n_independent} of {len(rows)}); "
        "the others follow from the model's own equations, or are bounds of ours",
        caption_justify="left",
    )
    table.add_column("protocol, check")
    for title in ("measured", "reference", "+-"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    sign = {"at_most": "<= ", "at_least": ">= "}
    shown = None
    for row in rows:
        bound = sign.get(row.get("kind", ""), "")
        measured, reference, tolerance = (
            _short(row[key]) for key in ("measured", "published", "tolerance")
        )
        if row["name"] != shown:
            table.add_row(Text(row["name"], style="bold"))
        apart = row.get("not_compared")
        missed = not (apart or row["pass"])
        remark = f" (not compared: {apart})" if apart else f" ({row['source']})" if missed else ""
        table.add_row(
            "  " + row["check"] + remark,
            measured,
            bound + reference + (" *" if row.get("independent") else ""),
            "" if bound else tolerance,
            "FAIL" if missed else "" if apart else "pass",
        )
        shown = row["name"]
    return table


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
