"""Sphinx: the pages of this folder, and API pages from the docstrings.

`pip install -e ".[docs]"`, then `sphinx-build -W --keep-going docs docs/_build`.
"""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from snn_artsy import __version__

project = "SNN-Artsy"
author = "SNN-Artsy contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
if find_spec("sphinx-mathjax-offline"):  # MathJax beside the pages: they are read without a network
    extensions.append("sphinx-mathjax-offline")
exclude_patterns = ["_build", "notebooks/runs"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext", ".ipynb": "markdown"}
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["equations.css"]
html_title = f"SNN-Artsy {version}"

default_role = "code"  # docstrings write names in single backticks
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures hold them already
add_module_names = False


def equations_as_lines(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep the line breaks of paragraphs that are equations, which docstrings write as text."""
    shown: list[str] = []
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
            continue
        shown += [f"| {part}" for part in paragraph] if _is_equation(paragraph) else paragraph
        shown.append("")
        paragraph = []
    lines[:] = shown


def _is_equation(paragraph: list[str]) -> bool:
    """Whether a paragraph at the left margin has an equation in its first line."""
    if not paragraph or not re.match(r"[\w(]", paragraph[0]) or paragraph[-1].endswith("."):
        return False
    # prose with "=" in it has full stops, a table or directive does not start with a letter
    return " = " in paragraph[0] and not any(re.search(r"[.:] ", line) for line in paragraph)


def skip_aliases(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which their docstring explains."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field") else None


def notebook_as_page(app: Any, name: str, source: list[str]) -> None:
    """Show a notebook, which is kept without results, as its text and its code."""
    if Path(app.env.doc2path(name)).suffix != ".ipynb":
        return
    cells = json.loads(source[0])["cells"]
    parts = ["".join(cell["source"]) for cell in cells]
    for k, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            parts[k] = f"```python\n{parts[k]}\n```"
    link = f"{{download}}`Take this page as a notebook <{Path(name).name}.ipynb>`"
    source[0] = "\n\n".join([parts[0], f"{link}, to run it.", *parts[1:]])


def results_here(app: Any, name: str, source: list[str]) -> None:
    """Point links to the results, which lie outside this folder, to the page that includes them."""
    source[0] = source[0].replace("](../experiments/RESULTS.md", "](results.md")


def number_equations(app: Any, name: str, source: list[str]) -> None:
    """Give each numbered equation an anchor, and link to it wherever its number stands in text."""
    model = (Path(app.srcdir) / "model.md").read_text(encoding="utf-8")
    if name not in ("model", "symbols"):
        return
    tags = sorted(re.findall(r"\\tag\{(\w+)\}", model), key=len, reverse=True)
    number = re.compile(r"(?<!\])\((" + "|".join(tags) + r")\)(?!\()")
    page = "" if name == "model" else "model.md"
    # equations, blocks and code as they are; text in between
    untouched = r"((?:^ *\$\$$.*?^ *\$\$$)|(?:^```.*?^```)|(?:`[^`\n]+`))"
    parts = re.split(untouched, source[0], flags=re.MULTILINE | re.DOTALL)
    for k, part in enumerate(parts):
        found = re.search(r"\\tag\{(\w+)\}", part)
        if k % 2 == 0:
            parts[k] = number.sub(rf"[(\1)]({page}#eq-\1)", part)
        elif found:
            indent = part[: len(part) - len(part.lstrip())]
            parts[k] = f"{indent}(eq-{found[1]})=\n{part}"
    source[0] = "".join(parts)


def keep_lines(app: Any, doctree: nodes.document) -> None:
    """Leave equations of several lines as they are: Sphinx would put them into an environment that
    takes no number."""
    for equation in doctree.findall(nodes.math_block):
        if r"\\" in equation.astext():
            equation["nowrap"] = True


class Parameters(Directive):
    """Every key of a run's configuration: meaning, default, unit, values, source."""

    def run(self) -> list[nodes.Node]:
        from snn_artsy.config import RunConfig
        from snn_artsy.config_builder import keys_of
        from snn_artsy.options import Parser

        parser = Parser(prog="run", configuration=RunConfig)
        known = _units_and_sources()
        shown: list[nodes.Node] = []
        for group in parser._action_groups[2:]:  # those before are argparse's own
            section = nodes.section(ids=[f"section-{group.title}"])
            section += nodes.title("", str(group.title))
            section += nodes.paragraph("", group.description or "")
            listed = nodes.definition_list()
            for action in group._group_actions:
                assert action.dest in keys_of(RunConfig)
                listed += self._entry(action, *known.get(action.dest, ("", "")))
            section += listed
            shown.append(section)
        return shown

    @staticmethod
    def _entry(action: Any, unit: str, source: str) -> nodes.Node:
        key = action.dest
        text, _, default = str(action.help).replace("%%", "%").partition(" (default: ")
        unit = unit or next((u for u in UNITS if key.endswith(f"_{u}")), "")
        facts = [f"Default: {default.removesuffix(')') or 'not set'}"]
        facts += [f"unit: {unit}"] if unit else []
        values = str(action.metavar) if "|" in str(action.metavar) else _range(key)
        facts += [f"values: {values}"] if values else []
        facts += [f"source: {source}"] if source else []
        name = nodes.term("", "", nodes.literal(key, key), ids=[f"key-{key}"])
        body = nodes.definition(
            "", nodes.paragraph("", text), nodes.paragraph("", "; ".join(facts))
        )
        return nodes.definition_list_item("", name, body)


UNITS = ("ms", "mV", "mM", "nS", "pA", "Hz", "hz")


def _range(key: str) -> str:
    """Values that a key takes, as its own checks say when they refuse one."""
    from snn_artsy.checks import ConfigError
    from snn_artsy.config import RunConfig
    from snn_artsy.config_builder import build, choices_of, type_of

    if not {int, float} & set(choices_of(type_of(RunConfig, key))):
        return ""
    refused: Any = -(10**9)
    for part in reversed(key.split(".")):
        refused = {part: refused}
    try:
        build(RunConfig, refused)
    except ConfigError as error:
        return str(error).partition("cannot be used; ")[2].removeprefix("use ")
    return ""


def _units_and_sources() -> dict[str, tuple[str, str]]:
    """Key -> unit and source, from the table of defaults in model.md."""
    text = (Path(__file__).parent / "model.md").read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    for row in re.findall(
        r"^\| (`.*) \|$", text.partition("## Default parameters")[2], re.MULTILINE
    ):
        cells = [cell.strip() for cell in row.split(" | ")]
        if len(cells) != 4:
            continue
        names = re.findall(r"`([\w.]+)`", cells[0])
        units = cells[2].split(", ")
        for k, name in enumerate(names):
            key = name if "." in name or not k else f"{names[0].rpartition('.')[0]}.{name}"
            unit = units[k] if len(units) == len(names) else cells[2]
            found[key] = (
                "" if unit == "--" else unit,
                re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cells[3]),
            )
    return found


class CommandHelp(Directive):
    """The help of a command, as `snn-artsy COMMAND --help` prints it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from snn_artsy.commands import build_parsers

        os.environ["COLUMNS"] = "100"  # argparse asks the terminal
        text = build_parsers(self.arguments[0])[1][self.arguments[0]].format_help()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Any) -> None:
    app.add_directive("command-help", CommandHelp)
    app.add_directive("parameters", Parameters)
    app.connect("source-read", notebook_as_page)
    app.connect("source-read", results_here)
    app.connect("source-read", number_equations)
    app.connect("doctree-read", keep_lines)
    # after napoleon (priority 500)
    app.connect("autodoc-process-docstring", equations_as_lines, priority=600)
    app.connect("autodoc-skip-member", skip_aliases)
