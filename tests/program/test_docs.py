"""The code in README and docs runs, and the commands in them are commands."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import types
from itertools import pairwise
from pathlib import Path

import pytest

from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.commands import build_parsers
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.runs.run import execute

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "experiments" / "RESULTS.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    directory = tmp_path_factory.mktemp("docs") / "run"
    execute(RunConfig(data=DataConfig(train_per_class=10), out=str(directory)))
    return directory


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in one namespace, in an empty directory with finished runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("default", "X"):
        shutil.copytree(finished, Path("runs", name))
    module = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look themselves up
    for number, block in enumerate(blocks(page, "python")):
        code = compile(block, f"{page.name}, block {number + 1}", "exec")
        exec(code, module.__dict__)


def commands() -> list[tuple[str, str]]:
    """Every snn-artsy command in a bash block: (page, command line)."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash") + blocks(page, ""):
            joined = re.sub(r"\\\n\s*", " ", block)
            for line in joined.splitlines():
                for part in re.split(r"&&|;\s", line.split(" #")[0]):
                    words = part.strip()
                    if words.startswith("snn-artsy "):
                        found.append((page.name, words))
    return found


def test_commands_are_found() -> None:
    names = {shlex.split(command)[1] for _, command in commands()}
    assert {"run", "compare", "sweep", "export", "protocol"} <= names


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_are_accepted(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed as the command line would; what it does is replaced by nothing."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.split(" > ")[0])[1:]
    words = [re.sub(r"\$\w+", "10", word) for word in words]
    if "my.yaml" in words or "sweep.yaml" in words or "--print_config" in words:
        words = [
            w for w in words if w not in ("--config", "my.yaml", "sweep.yaml", "--print_config")
        ]
    if "--help" in words:
        return
    first = words[0]
    monkeypatch.setitem(cli.COMMANDS, first, lambda arguments: 0)
    try:
        assert cli._dispatch(words) == 0
    except ConfigError as error:
        pytest.fail(f"{page}: `{command}`: {error}")


TO_READ = [ROOT / "README.md", ROOT / "docs" / "getting_started.md"]


@pytest.mark.parametrize("page", TO_READ, ids=lambda page: page.name)
def test_commands_work_from_top_to_bottom(page: Path) -> None:
    """What a command reads, one above it on the page has written; DIR, FILE and X are the reader's.

    Nothing is written twice, which the program would refuse."""
    text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
    found = re.findall(r"(?:^|`|&& )(snn-artsy [^`\n]*)", text, re.MULTILINE)
    written: set[str] = set()
    read = 0
    for command in (part for line in found for part in line.split(" #")[0].split("&&")):
        words = shlex.split(command)
        if len(words) < 3 or words[1] not in ("run", "compare", "sweep", *READING):
            continue
        options = dict(pairwise(words))
        for name in (words[2] if words[1] in READING else "", options.get("--run", ""),
                     options.get("--config", "")):  # fmt: skip
            if name and not re.search("[A-Z]|^--", name) and words[1] != "protocol":
                assert name in written, f"{page.name}: `{command}` reads {name}"
                read += 1
        if words[1] == "protocol" and "--run" in options and "X" not in options["--run"]:
            assert options["--run"] in written, f"{page.name}: `{command}`"
        made = options.get(">", options.get("--out", "")) if words[1] not in READING else ""
        made = words[3] if words[1] == "pack" else made
        assert not made or made not in written, f"{page.name}: `{command}` writes {made} again"
        written |= {made} - {""}
    assert written and read


READING = ("info", "plot", "report", "export", "resume", "protocol", "predict", "pack")


def test_equations_are_mathematics() -> None:
    """Indented text is a block of code, which is cut off at a page's edge and cannot be linked to;
    every numbered equation has a number of its own."""
    text = (ROOT / "docs" / "model.md").read_text("utf-8")
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"\n *\n( {4,}\S.*)", outside), "write $$ ... \\tag{1} $$ instead"
    tags = re.findall(r"\\tag\{(\w+)\}", text)
    assert len(tags) == len(set(tags)) > 45
    assert text.count("$$") == 2 * len(tags)


# --- links ----------------------------------------------------------------------------------------

LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_figure_is_shown_and_can_be_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "analysis"))
    import figures

    from snn_artsy.plots import FIGURES

    drawn = {f"{name}.png" for name in (*figures.FROM_RECORDED, *FIGURES)} | {*figures.ELSEWHERE}
    # the default run records no membranes, and none of its contacts fails
    drawn -= {"spike_triggered_membrane.png", "release_failures.png"}
    kept = {path.name for path in (ROOT / "docs" / "figures").iterdir()}
    assert kept == drawn
    shown = {Path(link).name for page in PAGES for link in LINK.findall(page.read_text("utf-8"))}
    assert drawn <= shown


def test_figures_are_drawn_from_kept_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "analysis"))
    import figures

    monkeypatch.setattr(sys, "argv", ["figures.py", "--out", str(tmp_path)])
    figures.main()
    assert {path.stem for path in tmp_path.iterdir()} == set(figures.FROM_RECORDED)


def test_readme_has_the_numbers_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python analysis/readme_tables.py` makes them so."""
    monkeypatch.syspath_prepend(str(ROOT / "analysis"))
    import readme_tables

    text = (ROOT / "README.md").read_text("utf-8")
    page = tmp_path / "page.md"
    page.write_text(re.sub(r"(<!-- \w+ -->\n).*?(?=<!-- /)", r"\1", text, flags=re.DOTALL), "utf-8")
    readme_tables.main(["--into", str(page)])
    assert page.read_text("utf-8") == text
    row = readme_tables.cells("error_digits", "artsy_snn (spikes) - mean_field")
    assert f"{row['points']} ({row['95 %']})" in text
    assert readme_tables._turned("-1.5 (-3.0 to +0.5)") == "+1.5 (-0.5 to +3.0)"


def test_kept_numbers_name_no_machine() -> None:
    for file in (ROOT / "experiments" / "recorded").rglob("*.json"):
        assert not re.search(r'"/[a-z]', file.read_text("utf-8")), file


def test_every_command_has_its_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    shown = re.findall(r"^```\{command-help\} (\w+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(build_parsers(None)[1])
