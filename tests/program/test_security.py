"""What files from somebody else cannot do (SECURITY.md); own rules: test_own_rule.py."""

from __future__ import annotations

import errno
import html
import json
import os
import shlex
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
from drawing import know_few
from html_page import Page
from synthetic_run import record

from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.config import BackboneConfig, DataConfig, RunConfig
from snn_artsy.export import export
from snn_artsy.output import write_outputs
from snn_artsy.plots import save_figures
from snn_artsy.recording import open_run, storage
from snn_artsy.recording.schema import RecordingError
from snn_artsy.report import write_report
from snn_artsy.runs import foreign
from snn_artsy.runs.checkpoint import write_tensors
from snn_artsy.runs.foreign import as_found, refuse_links

SCRIPT = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>"


# --- places ---------------------------------------------------------------------------------------


def test_a_run_directory_does_not_choose_where_is_written(tmp_path: Path) -> None:
    elsewhere, mine = tmp_path / "elsewhere", tmp_path / "mine"
    elsewhere.mkdir()
    mine.mkdir()
    (mine / f"{'0a' * 16}.npy").touch()

    def kept_in(cache: str | None) -> str | None:
        config = RunConfig(backbone=BackboneConfig(cache_dir=cache))
        return as_found(config, tmp_path).backbone.cache_dir

    assert kept_in(None) is None
    assert kept_in(str(mine)) == str(mine)  # that of a run of one's own holds its features
    assert kept_in(str(elsewhere)) is None
    assert kept_in(str(tmp_path / "new" / "folder")) is None
    assert not (tmp_path / "new").exists()


def test_a_run_directory_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(data=DataConfig(name="mnist", root="x", download=True))
    assert not as_found(config, tmp_path).data.download
    hub: dict[str, str] = {}

    def cached(repository: str, file: str, revision: str | None = None) -> str | None:
        assert file == "config.json"
        return hub.get(f"{repository}@{revision}" if revision else repository)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    for name in ("hf-hub:a/b", "hf_hub:a/b", "HF-HUB:a/b", "hf-hub:a/b@v1", " hf-hub:a/b", "x:y"):
        theirs = RunConfig(backbone=BackboneConfig(name=name))
        with pytest.raises(ConfigError, match=r"not fetched because a file says so"):
            as_found(theirs, tmp_path)
    hub["a/b"] = "here"
    assert as_found(RunConfig(backbone=BackboneConfig(name="hf-hub:a/b")), tmp_path)
    for name in ("bundled", "vit_tiny_patch16_224", "local-dir:/x"):
        assert as_found(RunConfig(backbone=BackboneConfig(name=name)), tmp_path)


def test_no_hub_repository_of_an_impossible_name(tmp_path: Path) -> None:
    theirs = RunConfig(backbone=BackboneConfig(name="hf-hub:../../etc"))
    with pytest.raises(ConfigError, match="not fetched"):
        as_found(theirs, tmp_path)


def test_a_run_is_gone_on_with_by_its_own_configuration_only_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resume` uses what `as_found` leaves."""
    from snn_artsy.runs import run as loop
    from snn_artsy.runs.begun import begin

    asked: list[RunConfig] = []

    def stop(config: RunConfig, *_: Any) -> None:
        asked.append(config)
        raise ConfigError("run", "seen")

    monkeypatch.setattr(loop, "prepare", stop)
    backbone = BackboneConfig(cache_dir=str(tmp_path / "theirs"))
    config = RunConfig(backbone=backbone, data=DataConfig(name="mnist", root="x", download=True))
    (tmp_path / "run").mkdir()
    begin(tmp_path / "run", replace(config, out=str(tmp_path / "run")))
    with pytest.raises(ConfigError, match="seen"):
        loop.resume(tmp_path / "run")
    assert asked[0].backbone.cache_dir is None and not asked[0].data.download
    begin(tmp_path / "run", RunConfig(backbone=BackboneConfig(name="hf-hub:nobody/nothing")))
    with pytest.raises(ConfigError, match="not fetched"):
        loop.resume(tmp_path / "run")


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state", "checkpoint", "figures", "run.h5", "segments/0001.h5"])
def test_a_link_out_of_a_run_directory_is_not_written_through(tmp_path: Path, name: str) -> None:
    from snn_artsy.runs.run import execute, resume

    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / name).parent.mkdir(parents=True)
    (run / name).symlink_to(elsewhere)
    (run / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=r"is a link that leads out of the directory"):
        resume(run)
    with pytest.raises(ConfigError, match=r"out: .*is a link that leads out"):
        execute(RunConfig(out=str(run)))
    assert list(elsewhere.iterdir()) == []


def test_links_within_a_directory_and_to_it_are_fine(tmp_path: Path) -> None:
    (tmp_path / "run" / "a").mkdir(parents=True)
    (tmp_path / "run" / "b").symlink_to("a")
    (tmp_path / "alias").symlink_to("run")
    refuse_links(tmp_path / "run")
    refuse_links(tmp_path / "alias")
    (tmp_path / "run" / "broken").symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="broken"):
        refuse_links(tmp_path / "alias")


def test_temporary_names_that_are_links_are_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter").write_text("kept")

    (tmp_path / "page.html.part").symlink_to(victim)
    write_outputs({tmp_path / "page.html": b"new"})
    (tmp_path / "summary.json.part").symlink_to(victim)
    storage.write_text(tmp_path / "summary.json", "new")
    assert victim.read_text() == "kept"
    assert (tmp_path / "page.html").read_bytes() == b"new"
    assert (tmp_path / "summary.json").read_text() == "new"

    (tmp_path / "run").mkdir()
    record(tmp_path / "run")
    (tmp_path / "run" / ".part-sonata").symlink_to(folder)
    with open_run(tmp_path / "run") as run:
        export(run, "sonata")
        (tmp_path / "run" / "run.nwb").symlink_to(victim)
        with pytest.raises(ConfigError, match="is a link"):
            export(run, "nwb", overwrite=True)
    assert (folder / "letter").read_text() == "kept" and victim.read_text() == "kept"


def test_figures_are_not_drawn_through_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    record(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit) as ended:
        cli.main(["plot", str(tmp_path / "run"), "conversion_counts"])
    assert ended.value.code == 2 and "is a link" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- run.h5 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["soft", "external link", "external data", "virtual"])
def test_run_h5_opens_no_other_file(tmp_path: Path, kind: str) -> None:
    record(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 8)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = [0.0]
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        del file["/stimulus/start_ms"]
        if kind == "soft":
            file["/stimulus/start_ms"] = h5py.SoftLink("/stimulus/duration_ms")
        elif kind == "external link":
            file["/stimulus/start_ms"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
        elif kind == "external data":
            file.create_dataset(
                "/stimulus/start_ms", (1,), "f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
            )
        else:
            layout = h5py.VirtualLayout((1,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (1,))
            file.create_virtual_dataset("/stimulus/start_ms", layout)
    (tmp_path / "run.h5.sha256").unlink(missing_ok=True)
    with pytest.raises(RecordingError), open_run(tmp_path) as run:
        run.datasets()


# --- texts ----------------------------------------------------------------------------------------


def test_no_text_of_a_run_is_code_in_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(2)<"
    folder.mkdir()
    record(folder)
    with h5py.File(folder / "run.h5", "r+") as file:
        file.attrs["git_commit"] = SCRIPT
        file.attrs["config"] = f"data: {{name: {json.dumps(SCRIPT)}}}\n"
        evaluation = file["/evaluation"]
        name = next(iter(evaluation))
        evaluation.move(name, SCRIPT.replace("/", "|"))
    (folder / "run.h5.sha256").unlink(missing_ok=True)
    with open_run(folder) as run:
        page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    found = Page(page)
    assert all(source.startswith("data:image/") for source in found.images)
    assert "<script>alert" not in page and "onerror=alert(1)>" not in page
    assert "&lt;script&gt;alert(1)" in page  # it is shown as text
    # only scripts of the template; a name in an attribute does not end it
    assert page.count("<script>") == 1


def test_what_a_report_says_to_paste_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_few(monkeypatch)
    folder = tmp_path / "$(id) run"
    folder.mkdir()
    record(folder)
    with h5py.File(folder / "run.h5", "r+") as file:
        file.attrs["git_commit"] = "abc\nid #"
    (folder / "run.h5.sha256").unlink(missing_ok=True)
    with open_run(folder) as run:
        page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    comment, command = html.unescape(page.split("<pre>")[1].split("</pre>")[0]).splitlines()
    assert comment.startswith("# at commit abc id #,")
    assert shlex.split(command)[:4] == ["snn-artsy", "run", "--config", str(folder / "config.yaml")]


# Figures in which names of learners stand.
NAMING = ("accuracy_per_step", "ann_minus_snn", "accuracy_matrix", "gate_matrix", "gate_scores")


def test_names_in_a_file_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_few(monkeypatch, NAMING)
    (tmp_path / "run").mkdir()
    record(tmp_path / "run")
    with h5py.File(tmp_path / "run" / "run.h5", "r+") as file:
        evaluation = file["/evaluation"]
        evaluation.move(next(iter(evaluation)), "..")
    (tmp_path / "run" / "run.h5.sha256").unlink(missing_ok=True)
    before = {path.name for path in tmp_path.iterdir()}
    with open_run(tmp_path / "run") as run:
        save_figures(run, tmp_path / "run" / "figures", failed={})
        for kind in ("sonata", "nwb"):
            export(run, kind)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_mathematics_in_a_name_breaks_one_figure_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_few(monkeypatch, NAMING)
    record(tmp_path)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        evaluation = file["/evaluation"]
        evaluation.move(next(iter(evaluation)), r"$\frac{" + "{" * 2000)
    (tmp_path / "run.h5.sha256").unlink(missing_ok=True)
    failed: dict[str, str] = {}
    with open_run(tmp_path) as run:
        drawn = save_figures(run, tmp_path / "figures", failed=failed)
    assert drawn


# --- the system's errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, '"a/b": Permission denied'),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), 2, '"a": Is a directory'),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), 2, "File name too long"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 1, "make room"),
        (OSError(errno.EIO, "Input/output error"), 1, "Input/output error"),
        (MemoryError(), 1, "memory: not enough;"),
        (MemoryError("Unable to allocate 8 TiB"), 1, "(Unable to allocate 8 TiB)"),
        (RecordingError("run.h5: cannot be written"), 1, "snn-artsy: run.h5: cannot be written\n"),
    ],
)
@pytest.mark.parametrize("command", ["info", "plot", "report", "export"])
def test_every_error_is_one_line(
    error: Exception,
    code: int,
    words: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(_: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, command, fails)
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "x"])
    said = capsys.readouterr().err
    assert ended.value.code == code and words in said and said.count("\n") == 1


def test_files_have_the_users_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "state" / "a.safetensors", {})
        storage.write_text(tmp_path / "a.json", "{}")
        write_outputs({tmp_path / "a.html": b""})
    finally:
        os.umask(before)
    for name in ("state/a.safetensors", "a.json", "a.html"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640, name


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_few(monkeypatch, ["conversion_counts"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    record(tmp_path / "run")
    for arguments in (
        ["plot", "~/run", "conversion_counts", "--out", "~/plotted"],
        ["report", "~/run", "--out", "~/page.html"],
        ["export", "~/run", "--to", "sonata", "--out", "~/exported"],
        ["info", "~/run"],
        ["protocol", "mg-block", "--out", "~/protocol"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0, arguments
    names = {path.name for path in tmp_path.iterdir()}
    assert {"plotted", "page.html", "exported", "protocol"} <= names and "~" not in names
    assert foreign._holds_features(Path("~").expanduser()) is False
