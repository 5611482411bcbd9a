"""Sphinx: the pages of this folder, and API pages from the docstrings.

`pip install -e ".[docs]"`, then `sphinx-build -W --keep-going docs docs/_build`.
"""

from __future__ import annotations

import os
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from snn_artsy import __version__

project = "SNN-Artsy"
author = "SNN-Artsy contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
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


def results_here(app: Any, name: str, source: list[str]) -> None:
    """Point links to the results, which lie outside this folder, to the page that includes them."""
    source[0] = source[0].replace("](../experiments/RESULTS.md", "](results.md")


def number_equations(app: Any, name: str, source: list[str]) -> None:
    """Give each numbered equation an anchor, and link to it wherever its number stands in text."""
    tags = set(re.findall(r"\\tag\{(\w+)\}", source[0]))
    if not tags:
        return
    here = re.compile(r"(?<!\])\((" + "|".join(sorted(tags, key=len, reverse=True)) + r")\)(?!\()")
    # equations, blocks and code as they are; text in between
    parts = re.split(
        r"((?:^ *\$\$$.*?^ *\$\$$)|(?:^```.*?^```)|(?:`[^`\n]+`))", source[0], flags=re.M | re.S
    )
    for k, part in enumerate(parts):
        found = re.search(r"\\tag\{(\w+)\}", part)
        if k % 2 and found:
            indent = re.match(" *", part)
            assert indent
            parts[k] = f"{indent[0]}(eq-{found[1]})=\n{part}"
        elif not k % 2:
            parts[k] = here.sub(r"[(\1)](#eq-\1)", part)
    source[0] = "".join(parts)


def keep_lines(app: Any, doctree: nodes.document) -> None:
    """Leave equations of several lines as they are: Sphinx would put them into an environment that
    takes no number."""
    for equation in doctree.findall(nodes.math_block):
        if r"\\" in equation.astext():
            equation["nowrap"] = True


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
    app.connect("source-read", results_here)
    app.connect("source-read", number_equations)
    app.connect("doctree-read", keep_lines)
    # after napoleon (priority 500)
    app.connect("autodoc-process-docstring", equations_as_lines, priority=600)
    app.connect("autodoc-skip-member", skip_aliases)
