"""What commands print, safely: nothing that is shown decides how a command ends.

Paths and texts of files are shown as they are: square brackets are no markup, characters that
would steer a terminal (escape sequences, changes of writing direction) are written out as
``\\x1b``, characters that the output's encoding lacks are replaced. A reader that went away
(``| head``) or a full disk behind standard output loses what is printed and nothing else.
"""

from __future__ import annotations

import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment

# What tables and messages of this package hold beyond ASCII, for encodings that lack it.
_PLAIN = {"–": "-", "±": "+-", "×": "x", "…": "...", "µ": "u", "−": "-"}


def make_console(stderr: bool = False) -> Console:
    """A console of rich on standard output (or error), for tables and bars of any text."""
    return _Console(markup=False, emoji=False, highlight=False, stderr=stderr)


def say(console: Console, text: str) -> None:
    """Print a line as it is, on any console: no markup, no wrapping."""
    shown = clean(text, console.encoding)
    console.print(shown, markup=False, emoji=False, highlight=False, soft_wrap=True)


def show(console: Console, content: RenderableType) -> None:
    """Print tables with nothing cut: a narrow terminal wraps their lines, a pipe takes any."""
    options = console.options.update(max_width=10_000)
    console.width = max(console.width, Measurement.get(console, options, content).minimum)
    console.print(content)


def complain(text: str, indent: bool = False) -> None:
    """Print one line on standard error; ``indent``: white space in it stays."""
    if sys.stderr is not None:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        line = text if indent else " ".join(text.split())
        print(clean(line, encoding), file=sys.stderr)


def clean(text: str, encoding: str = "utf-8") -> str:
    """Write out what would steer a terminal, and what ``encoding`` lacks; new lines stay."""
    if not text.isprintable():
        text = "".join(map(_visible, text))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for character, plain in _PLAIN.items():
            text = text.replace(character, plain)
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def as_text(name: str) -> str:
    """A name that any file can hold: those of folders can have bytes that are no text."""
    return name.encode("utf-8", "replace").decode()


def names_of(folders: Sequence[Path]) -> list[str]:
    """What folders are called: their own names, and where different ones have the same, as much of
    what leads to them as tells them apart."""
    # "." and ".." say nothing of themselves
    told = [each.resolve() if each.name in ("", "..") else each for each in folders]
    names = []
    for each in told:
        alike, n = {other for other in told if other.name == each.name}, 1
        while n < len(each.parts) and len({other.parts[-n:] for other in alike}) < len(alike):
            n += 1
        names.append(as_text(str(Path(*each.parts[-n:]))))
    return names


def quoted(path: str | Path) -> str:
    """A path as an argument of a command line that can be pasted into a shell."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


@contextmanager
def safe_streams() -> Iterator[SafeStream]:
    """While a command runs, printing never fails; yields its standard output.

    Where a standard stream was closed (``>&-``), its number is taken, so that no file of ours is
    opened under it and written into by a library that prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    before = sys.stdout, sys.stderr
    out, error = (SafeStream(stream or _nowhere()) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, error)
    try:
        yield out
    finally:
        out.flush()
        error.flush()
        sys.stdout, sys.stderr = before


class SafeStream:
    """A text stream that takes whatever is written to it.

    Attributes:
        lost: Why it can no longer be written, or None. What follows goes nowhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: Exception | None = None

    def write(self, text: str) -> int:
        self._try(self._put, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            encodable = text.encode(error.encoding, "backslashreplace")
            self._stream.write(encodable.decode(error.encoding))

    def _try(self, act: Callable[..., object], *arguments: str) -> None:
        if self.lost is not None:
            return
        try:
            act(*arguments)
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.lost = error
            # What is still buffered would fail again when the interpreter ends, and change the
            # exit code.
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Console(Console):
    """Every piece of text is cleaned before its width is counted."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(clean(segment.text, self.encoding), segment.style)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
