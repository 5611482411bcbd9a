"""Images in files: which files below a folder are images, and how one is read.

Folders come as people have them: with links that lead nowhere or in a circle, files of other kinds,
names of any bytes. Whatever would lose, add or double images without a word is refused by name or
counted.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from snn_artsy.checks import ConfigError
from snn_artsy.files import sha256

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
)

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its name says: other readers start other programs."""

FULL_HASH_BYTES = 256 * 2**20
"""Folders up to this size are fingerprinted by every byte; larger ones by a sample, and by the time
of each file's last change."""

SAMPLED_FILES = 10_000
SAMPLED_BYTES = 4096

_LISTED = 5
"""How many files an error message lists."""


@dataclass
class LeftOut:
    """What a listing leaves out; names that begin with a dot are not even counted.

    Args:
        by_suffix: Files of other kinds, by lower-case suffix.
        twice: Names by which an image of the same class was reached once more, by links.
    """

    by_suffix: Counter[str] = field(default_factory=Counter)
    twice: int = 0

    def notes(self) -> list[str]:
        """A line for each kind; none if nothing was left out."""
        notes = []
        if self.by_suffix:
            counts = ", ".join(f"{suffix} {n}" for suffix, n in sorted(self.by_suffix.items()))
            notes.append(f"data: left out {self.by_suffix.total()} files of other kinds: {counts}")
        if self.twice:
            notes.append(f"data: {self.twice} links lead to images of the same class, counted once")
        return notes


class FolderSplit:
    """Images in files below ``root``: ``paths`` relative to it, labels int64 [n]."""

    def __init__(self, root: Path, paths: Sequence[str], labels: NDArray[np.int64]) -> None:
        self.root = root
        self.paths = tuple(paths)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, i: int) -> Image.Image:
        """Image ``i`` as RGB, upright: turned as its EXIF orientation says.

        Raises:
            ConfigError: The file is not a whole image of a known format.
        """
        path = self.root / self.paths[i]
        try:
            with _opened(path) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return image.convert("RGB")
        except Exception as e:
            # Decoders meet damaged files with errors of many kinds, without a common base.
            raise ConfigError(
                "data.root",
                f"cannot read the image {shown(path)} ({_reason(e)}); replace or remove this file",
            ) from e

    def check(self, index: NDArray[np.int64], decode: bool = False) -> None:
        """Open these images and read their headers, thousands a second.

        Args:
            decode: Decode the pixels, too, hundreds a second.

        Raises:
            ConfigError: Names the files that are missing, no regular files, empty, unreadable, of
                another format or pixel type, or too large.
        """

        def problem(i: int) -> str | None:
            path = self.root / self.paths[i]
            try:
                with _opened(path) as image:
                    if decode:
                        image.load()
            except Exception as e:
                return f"{shown(path)} ({_reason(e)})"
            return None

        with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
            # What Pillow only warns of is refused, too: more pixels than Image.MAX_IMAGE_PIXELS.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # one after the other where headers are all: threads would only wait for each other
            found = (pool.map if decode else map)(problem, index.tolist())
            problems = [each for each in found if each is not None]
        if problems:
            which = "the image" if len(problems) == 1 else f"{len(problems)} images:"
            more = ", ..." if len(problems) > _LISTED else ""
            these = "this file" if len(problems) == 1 else "these files"
            raise ConfigError(
                "data.root",
                f"cannot read {which} {', '.join(problems[:_LISTED])}{more}; replace or "
                f"remove {these}",
            )

    def name(self, i: int) -> str:
        return shown(self.root / self.paths[i])

    def sizes(self) -> list[int]:
        """Size of each file in bytes."""
        with _named(self.root):
            return [(self.root / path).stat().st_size for path in self.paths]

    def fingerprint(self) -> str:
        """SHA-256 over relative paths, sizes and contents.

        Up to 256 MiB in all, every byte counts. A larger folder would take minutes; there each
        file's time of last change counts (a copy must keep it: ``cp -p``, ``rsync -a``), and the
        middle 4 KiB of 10,000 evenly spaced files.
        """
        return sha256(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        with _named(self.root):
            statuses = [(self.root / path).stat() for path in self.paths]
        sizes = [status.st_size for status in statuses]
        whole = sum(sizes) <= FULL_HASH_BYTES
        for path, status in zip(self.paths, statuses, strict=True):
            changed = "" if whole else f"\0{status.st_mtime_ns}"
            yield os.fsencode(path) + f"\0{status.st_size}{changed}\n".encode()
        chosen = np.arange(len(self))
        if not whole:
            n_sampled = min(SAMPLED_FILES, len(self))
            chosen = np.linspace(0, len(self) - 1, n_sampled).astype(np.int64)
        for i in chosen:
            with _named(self.root / self.paths[i]), _regular(self.root / self.paths[i]) as file:
                if not whole:
                    file.seek(max(0, (sizes[i] - SAMPLED_BYTES) // 2))
                yield file.read(-1 if whole else SAMPLED_BYTES)


def list_classes(folder: Path, left_out: LeftOut | None = None) -> list[str]:
    """Names of the class folders in ``folder``, sorted; files beside them are left out.

    Raises:
        ConfigError: The folder cannot be read, or a link in it leads nowhere.
    """
    names = []
    for entry, kind in _entries(folder):
        if kind == "folder":
            names.append(entry.name)
        elif left_out is not None:
            left_out.by_suffix[_suffix(entry.name)] += 1
    return sorted(names)


def list_images(folder: Path, class_names: Sequence[str], left_out: LeftOut) -> FolderSplit:
    """The images below each class's folder, also in its subfolders, sorted by class and name.

    Links are followed, and each folder is entered once: a file that a class has by several links is
    one image.

    Raises:
        ConfigError: Names what cannot be read, is no regular file, leads nowhere, or belongs to two
            classes, and a class folder without images.
    """
    paths: list[str] = []
    labels: list[int] = []
    class_of: dict[str, str] = {}
    for label, name in enumerate(class_names):
        other = LeftOut()
        images = _images_below(folder / name, other)
        if not images:
            held = ", ".join(f"{suffix} {n}" for suffix, n in sorted(other.by_suffix.items()))
            raise ConfigError(
                "data.root",
                f"no images in the class folder {shown(folder / name)}"
                f"{f' (it holds {held})' if held else ''}; add images "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}) or remove the folder",
            )
        for real, path in images.items():
            if real in class_of:
                raise ConfigError(
                    "data.root",
                    f"{shown(folder / name / path)} is also in class "
                    f"{class_of[real]!r}, by a link; remove it from one of the two",
                )
            class_of[real] = name
        paths += [f"{name}/{image}" for image in sorted(images.values())]
        labels += [label] * len(images)
        left_out.by_suffix += other.by_suffix
        left_out.twice += other.twice
    return FolderSplit(folder, paths, np.asarray(labels, dtype=np.int64))


def images_in(folder: Path) -> list[Path]:
    """The images below a folder, also in its subfolders, sorted by name.

    Raises:
        ConfigError: There are none, the folder cannot be read, or a link in it leads nowhere.
    """
    paths = sorted(_images_below(folder, LeftOut()).values())
    if not paths:
        raise ConfigError(
            "data.root",
            f"no images in {shown(folder)}; give a folder of {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return [folder / path for path in paths]


def shared_images(train: FolderSplit, test: FolderSplit) -> int | None:
    """How many test images are also training images, byte by byte; None for large folders, where
    reading every file would take minutes."""
    of_train, of_test = train.sizes(), test.sizes()
    if sum(of_train) + sum(of_test) > FULL_HASH_BYTES:
        return None
    common = set(of_train) & set(of_test)  # of another size, they differ

    def hashes(split: FolderSplit, sizes: list[int]) -> list[str]:
        digests = []
        for path, size in zip(split.paths, sizes, strict=True):
            if size in common:
                with _named(split.root / path), _regular(split.root / path) as file:
                    digests.append(sha256([file.read()]))
        return digests

    known = set(hashes(train, of_train))
    return sum(digest in known for digest in hashes(test, of_test))


def shown(path: Path | str) -> str:
    """A path for a message: whatever bytes its name has, one line that can be printed."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _images_below(top: Path, left_out: LeftOut) -> dict[str, str]:
    """{real path: posix path below ``top``} of each image."""
    files: dict[str, str] = {}
    pending, entered = deque([""]), set()
    while pending:
        below = pending.popleft()
        folder = top / below
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        for entry, kind in _entries(folder):
            path = f"{below}/{entry.name}" if below else entry.name
            linked = entry.is_symlink()
            if kind == "folder":
                # Links wait, so that what they lead to is listed under its own name.
                (pending.append if linked else pending.appendleft)(path)
            elif _suffix(entry.name) not in IMAGE_SUFFIXES:
                left_out.by_suffix[_suffix(entry.name)] += 1
            elif kind == "other":
                raise ConfigError(
                    "data.root", f"{shown(folder / entry.name)} is no regular file; remove it"
                )
            else:
                target = os.path.realpath(entry.path) if linked else os.path.join(real, entry.name)
                left_out.twice += target in files
                if not linked or target not in files:
                    files[target] = path
    return files


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], str]]:
    """What a folder holds, links followed: (entry, folder | file | other); hidden ones not."""
    try:
        with os.scandir(folder) as entries:
            held = sorted(entries, key=lambda entry: entry.name)
    except OSError as e:
        raise ConfigError(
            "data.root",
            f"cannot read the folder {shown(folder)} ({e.strerror}); give yourself "
            "access, or remove it",
        ) from e
    for entry in held:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_symlink():
                entry.stat()  # is_dir() and is_file() are silent about links that lead nowhere
            kind = "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
        except OSError as e:
            raise ConfigError(
                "data.root",
                f"{shown(folder / entry.name)} is a link that leads nowhere "
                f"({e.strerror}); mend or remove it",
            ) from e
        yield entry, kind


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no suffix"


def refuse_deep(image: Image.Image) -> None:
    """Refuse pixels of more than 8 bits, which Pillow would clip to white without a word.

    Raises:
        ValueError: The image has some.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise ValueError(f"{image.mode} pixels are not 8 bits deep")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image with its header read."""
    with _regular(path) as file, Image.open(file, formats=FORMATS) as image:
        refuse_deep(image)
        yield image


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file with something in it, open for reading."""
    # A FIFO must not keep us waiting for somebody who writes into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size == 0:
            raise ValueError("it is empty")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Failures to read ``path``, or a file that the system names, in one line."""
    try:
        yield
    except (OSError, ValueError) as e:
        where = getattr(e, "filename", None) or path
        raise ConfigError(
            "data.root", f"cannot read {shown(where)} ({_reason(e)}); replace or remove this file"
        ) from e


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"its content is none of {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
