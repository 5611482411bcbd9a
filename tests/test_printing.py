"""What is printed is shown as it is, and never decides how a command ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import quick_environment
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from snn_artsy.printing import (
    SafeStream,
    clean,
    complain,
    make_console,
    names_of,
    quoted,
    say,
)
from snn_artsy.runs.progress import progress_bar
from snn_artsy.runs.tables import info_table, protocols_table

MARKUP = "m[/red]x [bold]y :smile: [link=file:///etc]"
# set a window's title, clear the screen, turn the direction of writing round, a lone byte 0xe9
HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\u202ed\x9be\udce9f\rg\u2028"
SHOWN = r"a\x1b]0;owned\x07b\x1b[2Jc\u202ed\x9be\udce9f\rg\u2028"


def printed(encoding: str, what: object) -> str:
    """What reaches the terminal, decoded."""
    raw = io.BytesIO()
    console = make_console()
    console.file = io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="")
    if isinstance(what, str):
        say(console, what)
    else:
        console.print(what)
    console.file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        (HOSTILE, "utf-8", SHOWN),
        ("naïve – ± 5 µm\t北\xa0e\u0301\n", "utf-8", "naïve – ± 5 µm\t北\xa0e\u0301\n"),
        ("é – ± 北", "latin-1", r"é - +- \u5317"),
        ("é – ± … ×", "ascii", r"\xe9 - +- ... x"),
        ("\U000e0041", "utf-8", r"\U000e0041"),  # an invisible tag character
    ],
)
def test_clean(text: str, encoding: str, shown: str) -> None:
    assert clean(text, encoding) == shown


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp437"])
def test_texts_of_files_are_shown_as_they_are(encoding: str) -> None:
    assert printed(encoding, MARKUP) == MARKUP + "\n"
    assert printed(encoding, HOSTILE) == SHOWN + "\n"
    table = info_table(HOSTILE, {"learners": MARKUP, HOSTILE: "–"}, {})
    text = printed(encoding, table)
    assert "\x1b" not in text and "\x9b" not in text and "\u202e" not in text
    assert MARKUP.split()[0] in text and r"\x1b]0;owned" in text
    widths = {len(line) for line in text.splitlines() if line.startswith(("│", "|"))}
    assert len(widths) == 1  # what is written out is counted


def test_markup_of_a_protocols_table() -> None:
    row = dict.fromkeys(("measured", "published", "tolerance"), 1.0)
    row |= {"name": "[/b]", "check": "[/red]", "pass": False, "source": "OSError: [/x]"}
    text = printed("utf-8", protocols_table([row]))
    assert "[/b]" in text and "[/red] (OSError: [/x])" in text


def test_a_console_of_the_callers_own() -> None:
    """Lines of a run are no markup there, either."""
    raw = io.StringIO()
    say(Console(file=raw, width=20), MARKUP)
    assert raw.getvalue() == MARKUP + "\n"


def test_bars() -> None:
    raw = io.BytesIO()
    console = make_console()
    console.file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    with progress_bar(console) as bar:
        assert isinstance(bar, Progress)
        bar.add_task("m[/red]é\x1b", total=1)
    console.file.flush()
    assert rb"m[/red]\xe9\x1b" in raw.getvalue() and b"\x1b]" not in raw.getvalue()


class Full(io.StringIO):
    """Standard output on a full disk, or whose reader went away."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error, self.tries = error, 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_stream_that_fails_is_left_alone(error: OSError) -> None:
    stream = Full(error)
    safe = SafeStream(stream)
    assert safe.write("one") == 3
    safe.write("two")
    safe.writelines(["three"])
    safe.flush()
    assert safe.lost is error and stream.tries == 1
    console = Console(file=SafeStream(Full(error)))  # type: ignore[arg-type]
    console.print(Table("a"))  # rich ends the program where it meets a broken pipe itself
    closed = io.StringIO()
    closed.close()
    safe = SafeStream(closed)
    safe.write("x")
    assert isinstance(safe.lost, ValueError)


def test_plain_prints_of_others_are_encoded() -> None:
    raw = io.BytesIO()
    safe = SafeStream(io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    print("é", file=safe)  # type: ignore[call-overload]
    safe.flush()
    assert raw.getvalue() == b"\\xe9" + os.linesep.encode() and safe.lost is None


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("x: \x1b[2J\n second   line\r\n")
    assert capsys.readouterr().err == "x: \\x1b[2J second line\n"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("runs/a", "runs/a"),
        ("my runs/a", "'my runs/a'"),
        ("$(id)", "'$(id)'"),
        ("it's", """'it'"'"'s'"""),
        ("-rf", "./-rf"),
    ],
)
def test_quoted(path: str, shown: str) -> None:
    assert quoted(Path(path)) == shown
    words = subprocess.run(
        ["sh", "-c", f"printf %s {quoted(path)}"], capture_output=True, text=True, check=True
    )
    assert os.path.normpath(words.stdout) == path


# --- whole commands -------------------------------------------------------------------------------

FAST = ["--data.train_per_class", "6", "--learners", "simplecil"]


def command(shell: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    artsy = f"{sys.executable} -m snn_artsy"
    return subprocess.run(
        ["bash", "-c", shell.replace("ARTSY", artsy)], cwd=folder,
        env=quick_environment(**variables), capture_output=True, text=True,
        errors="surrogateescape", timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a finished run in `run`."""
    made = tmp_path_factory.mktemp("printing")
    done = command(f"ARTSY run {' '.join(FAST)} --out run", made)
    assert done.returncode == 0, done.stderr
    return made


RUN = f"ARTSY run {' '.join(FAST)} --out"


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        (f"{RUN} $'m[/red]é–北\\xff'", {"PYTHONIOENCODING": "ascii"}),
        (f"set -o pipefail; {RUN} piped | true", {}),
        (f"{RUN} full >/dev/full", {}),
        (f"{RUN} closed <&- >&- 2>&-", {}),
    ],
)
def test_a_run_ends_as_it_went(folder: Path, shell: str, variables: dict[str, str]) -> None:
    before = set(folder.iterdir())
    done = command(shell, folder, **variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    (made,) = set(folder.iterdir()) - before
    assert list(made.rglob("summary.json")) and list(made.rglob("figures"))
    lines = [line for line in done.stderr.splitlines() if "standard output" in line]
    assert len(lines) == (1 if shell.endswith("full >/dev/full") else 0)


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("set -o pipefail; ARTSY info run | true", 0),
        ("set -o pipefail; ARTSY info run --json | head -c 1", 0),
        ("set -o pipefail; ARTSY run --help | true", 0),
        ("set -o pipefail; ARTSY plot run --list | true", 0),
        ("ARTSY info run >/dev/full", 1),
        ("ARTSY --help >/dev/full", 1),
        ("ARTSY plot run --list >/dev/full", 1),
        ("ARTSY info run >&-", 0),
        ("ARTSY info no_run 2>/dev/full", 2),
        ("ARTSY info no_run 2>&-", 2),
        ("PYTHONIOENCODING=ascii ARTSY info run", 0),
    ],
)
def test_commands_that_only_print(folder: Path, shell: str, code: int) -> None:
    done = command(shell, folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if shell.endswith(">/dev/full") and code == 1 else 0)


def test_nothing_of_a_file_steers_the_terminal(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "run" / "run.h5", "r+") as file:
        file.attrs["git_commit"] = "\x1b[2J[/red]\u202e"
    (folder / "run" / "run.h5.sha256").unlink()  # as of a file that somebody changed on purpose
    for options in ("", "--json"):
        done = command(f"ARTSY info run {options}", folder)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout and "\u202e" not in done.stdout
        assert "[2J[/red]" in done.stdout
    done = command("ARTSY info $'no\\x1b[2Jrun'", folder)
    assert done.returncode == 2 and "\x1b" not in done.stderr and r"no\x1b[2Jrun" in done.stderr
    done = command("ARTSY info $'no\\x1b[2Jrun' --debug", folder)
    assert "Traceback" in done.stderr and "\x1b" not in done.stderr


def test_folders_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, expected in (
        (["a/x", "b/x", "y"], ["a/x", "b/x", "y"]),
        (["b/x", "c/b/x"], ["b/x", "c/b/x"]),
        (["a/x", "a/x"], ["x", "x"]),
        ([".", "a/x"], [tmp_path.name, "x"]),
    ):
        assert names_of([Path(each) for each in given]) == expected
