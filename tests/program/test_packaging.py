"""What an installation brings: files, version, imports, provenance."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest
import setuptools

import snn_artsy
from snn_artsy import provenance

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arguments() -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    caught: dict[str, Any] = {}
    patch = pytest.MonkeyPatch()
    patch.setattr(setuptools, "setup", lambda **given: caught.update(given))
    patch.chdir(ROOT)  # find_packages looks in the working directory
    try:
        path = ROOT / "setup.py"
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), {"__file__": str(path)})
    finally:
        patch.undo()
    return caught


def test_version_is_the_same_everywhere(arguments: dict[str, Any]) -> None:
    assert arguments["version"] == snn_artsy.__version__
    assert f"version: {snn_artsy.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {snn_artsy.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_the_installed_version() -> None:
    try:
        installed = metadata.version("snn-artsy")
    except metadata.PackageNotFoundError:
        pytest.skip("runs from a checkout that is not installed")
    assert installed == snn_artsy.__version__


def test_every_package_and_data_file_is_packed(arguments: dict[str, Any]) -> None:
    folders = {path.parent for path in (ROOT / "snn_artsy").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert names == set(arguments["packages"])  # a folder without __init__.py would be left out
    packed = {
        path
        for package, patterns in arguments["package_data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    data = {
        path
        for path in (ROOT / "snn_artsy").rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }
    assert data == packed
    assert ROOT / "snn_artsy" / "py.typed" in packed


def test_the_weights_are_a_resource() -> None:
    from snn_artsy.bundled import WEIGHTS

    weights = resources.files("snn_artsy.bundled") / WEIGHTS
    assert weights.is_file()
    assert len(weights.read_bytes()) <= 12 * 2**20


def test_requirements_state_lower_bounds(arguments: dict[str, Any]) -> None:
    assert arguments["python_requires"] == ">=3.10"
    extras = {
        "test",
        "dev",
        "docs",
        "nwb",
        "parallel",
        "sweep",
        "bench",
        "nest",
        "mutation",
        "nir",
        "openvino",
        "tensorboard",
    }
    assert set(arguments["extras_require"]) == extras
    groups = [arguments["install_requires"], *arguments["extras_require"].values()]
    known_bad = {"numpy<2.4"}  # an upper bound needs a reason in setup.py
    bounded = r"[\w.-]+(\[\w+\])?>=[\d.]+(; platform_system == 'Linux')?"
    for requirement in (requirement for group in groups for requirement in group):
        assert re.fullmatch(bounded, requirement) or requirement in known_bad, requirement


@pytest.mark.parametrize(
    "module", ["snn_artsy.cli", "snn_artsy.recording", "snn_artsy.evaluation", "snn_artsy.plots"]
)
def test_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_provenance_is_plain_and_complete() -> None:
    found = provenance.provenance(threads=2)
    assert found["threads"] == 2
    assert found["cpus"] >= 1
    assert found["versions"]["snn-artsy"] == snn_artsy.__version__
    assert found["versions"]["torch"] == metadata.version("torch")


def test_git_state(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) == (None, False)  # no checkout
    (tmp_path / "setup.py").touch()
    (tmp_path / ".git").mkdir()
    assert provenance.git_state(tmp_path) == (None, False)  # not one git can read


def test_git_state_of_a_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *who, *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "setup.py").touch()
    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert provenance.git_state(tmp_path) == (None, False)  # no commit yet
    git("add", ".")
    git("commit", "-m", "first")
    commit, dirty = provenance.git_state(tmp_path)
    assert commit is not None
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert not dirty
    (tmp_path / "setup.py").write_text("changed")
    assert provenance.git_state(tmp_path) == (commit, True)


def test_built_from(tmp_path: Path) -> None:
    assert provenance.built_from(tmp_path) == (None, False)
    (tmp_path / "commit.txt").write_text("abc\n")
    assert provenance.built_from(tmp_path) == ("abc", False)
    (tmp_path / "commit.txt").write_text("abc-dirty\n")
    assert provenance.built_from(tmp_path) == ("abc", True)


@pytest.mark.slow
def test_wheel_and_source_distribution_name_their_commit(tmp_path: Path) -> None:
    """Each built without git in reach of the next step, and without a trace in the source."""
    source, made = tmp_path / "source", tmp_path / "made"
    names = ("snn_artsy", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE",
             ".gitignore")  # fmt: skip
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (source / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)

    def run(*command: str, cwd: Path = source) -> str:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    run("git", "init")
    run("git", *who, "add", ".")
    run("git", *who, "commit", "-m", "first")
    commit = run("git", "rev-parse", "HEAD")

    run(sys.executable, "setup.py", "-q", "sdist", "-d", str(made))
    assert not (source / "snn_artsy" / "commit.txt").exists()
    assert run("git", "status", "--porcelain") == ""
    (archive,) = made.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("snn_artsy-*")
    assert not (unpacked / ".git").exists()
    for folder in (source, unpacked):
        shutil.rmtree(made)
        wheel = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
        run(*wheel, "--no-index", "-w", str(made), ".", cwd=folder)
        (file,) = made.glob("*.whl")
        with zipfile.ZipFile(file) as packed_wheel:
            assert packed_wheel.read("snn_artsy/commit.txt").decode().strip() == commit
    assert run("git", "status", "--porcelain") == ""


def test_git_state_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance.subprocess, "run", missing)
    assert provenance.git_state(ROOT) == (None, False)
