"""Packs that may come from anywhere: only what a pack has is taken out of one."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from snn_artsy.checks import ConfigError, in_short
from snn_artsy.files import CONFIG_FILE, SUMMARY_FILE

_NEEDED = (CONFIG_FILE, SUMMARY_FILE)
_FILE = re.compile(
    r"[^/\\]+/(config\.yaml|summary\.json|(?:test_images|weights|state/[\w.:-]+)\.safetensors)"
)
_FOLDER = re.compile(r"[^/\\]+/(?:state/)?")


def unpack(archive: Path) -> Path:
    """Take a pack (`snn_artsy.runs.pack`) apart: the temporary directory with its files.

    Names are compared with those that a pack has, and none of them becomes a path outside of that
    directory; links become plain files.

    Raises:
        ConfigError: No pack, a damaged one, or one that would fill the disk.
    """
    folder = Path(tempfile.mkdtemp(prefix="snn-artsy-"))
    try:
        _take_out(archive, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # what meets damaged streams, unknown methods and passwords has no common base
        if isinstance(error, ConfigError) or not isinstance(error, Exception):
            raise
        raise ConfigError(
            "run", f'"{archive}" is no pack of a run, or damaged ({error}); copy it again'
        ) from error
    return folder


def _take_out(path: Path, folder: Path) -> None:
    taken: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > shutil.disk_usage(folder).free:
            raise ConfigError("run", f'"{path}" needs more room than there is for temporary files')
        for member in members:
            if _FOLDER.fullmatch(member.filename):
                continue
            found = _FILE.fullmatch(member.filename)
            if found is None or found[1] in taken:
                raise ConfigError(
                    "run",
                    f'"{path}" holds {in_short(member.filename)}, which no pack of a run does; '
                    "make it anew with `snn-artsy pack`",
                )
            taken.add(found[1])
            target = folder / found[1]
            target.parent.mkdir(exist_ok=True)
            with archive.open(member) as read, target.open("xb") as written:
                shutil.copyfileobj(read, written)
    if missing := [name for name in _NEEDED if name not in taken]:
        raise ConfigError("run", f'"{path}" is no pack of a run: it has no {missing[0]}')
