"""Files that appear whole or not at all, locks and checksums: the one place of each."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snn_artsy import files
from snn_artsy.files import Lock, file_sha256, publish, remove, sha256, whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with whole(path) as part:
        part.write_text("new")
        assert path.read_text() == "old" and names(tmp_path) == ["page.html", "page.html.part"]
    assert path.read_text() == "new" and names(tmp_path) == ["page.html"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_after_a_failure_everything_is_as_it_was(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(error if isinstance(error, type) else type(error)), whole(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["page.html"]


def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = files.os.fsync, files.os.replace
    monkeypatch.setattr(files.os, "fsync", lambda d: (done.append("sync"), fsync(d)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("name"), replace(a, b)))
    with whole(tmp_path / "a") as part:
        part.write_text("x")
    assert done == ["sync", "name", "sync"]  # the file, its name, the folder that has the name


def test_leftovers_and_links_are_not_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a"
    victim.write_text("keep me")
    (tmp_path / "a.part").symlink_to(victim)
    with whole(path) as part:
        part.write_text("x")
    assert victim.read_text() == "keep me" and path.read_text() == "x"


def test_a_directory_is_made_whole_and_what_is_there_stays(tmp_path: Path) -> None:
    target, part = tmp_path / "out", tmp_path / "elsewhere"
    for k in range(2):
        with whole(target, part) as made:
            assert made == part
            made.mkdir()
            (made / f"{k}").write_text("x")
    assert names(target) == ["0", "1"] and names(tmp_path) == ["out"]
    with pytest.raises(RuntimeError), whole(target, part) as made:
        made.mkdir()
        (made / "2").write_text("x")
        raise RuntimeError
    assert names(target) == ["0", "1"] and names(tmp_path) == ["out"]


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert names(tmp_path) == ["folder"]


def test_what_was_published_is_what_was_written(tmp_path: Path) -> None:
    part, path = tmp_path / "p", tmp_path / "q"
    part.write_bytes(b"\0\1")
    publish(part, path)
    assert path.read_bytes() == b"\0\1" and names(tmp_path) == ["q"]


def test_checksums(tmp_path: Path) -> None:
    # FIPS 180-2, "abc"
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256([b"abc"]) == sha256([b"a", memoryview(b"bc")]) == known
    large = bytes(range(256)) * 10_000  # more than is read at once
    (tmp_path / "large").write_bytes(large)
    assert file_sha256(tmp_path / "large") == hashlib.sha256(large).hexdigest()


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with Lock(path):
        with pytest.raises(TimeoutError):
            Lock(path)
        program = (
            f"from pathlib import Path; from snn_artsy.files import Lock; Lock(Path({str(path)!r}))"
        )
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert other.returncode == 1 and "Timeout" in other.stderr
    assert names(tmp_path) == []
    Lock(path).release()
    with pytest.raises(FileNotFoundError):
        Lock(tmp_path / "gone" / "a.lock")
    assert names(tmp_path) == []


def test_the_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    program = (
        "import os, pathlib\nfrom snn_artsy.files import Lock\n"
        f"lock = Lock(pathlib.Path({str(path)!r}))\nos._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    assert path.exists()
    with Lock(path):
        pass
    assert not path.exists()


def test_names_of_files_are_written_down_once() -> None:
    package = Path(files.__file__).parent
    literal = re.compile(r"""(?<!`)["'](?:config\.yaml|summary\.json)(?:\.part)?["']""")
    found = {
        str(path.relative_to(package)): literals
        for path in sorted(package.rglob("*.py"))
        if (literals := literal.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {"files.py": ['"config.yaml"', '"summary.json"']}
