"""Package description of snn-artsy; pyproject.toml holds the build system and tool settings."""

import re
import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent


def version() -> str:
    """Read the version as text: importing the package would need its dependencies."""
    text = (ROOT / "snn_artsy" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("no __version__ in snn_artsy/__init__.py")
    return found[1]


def readme() -> str:
    """Read the README, the long description."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def commit() -> str:
    """The checkout's commit, with -dirty if files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if not (ROOT / ".git").exists():
        return ""
    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def record_commit(package: Path, found: str) -> None:
    """Put the commit into a copy of the package, for `snn_artsy.provenance`. Where there is no
    checkout, a source distribution has brought the file along."""
    if found:
        (package / "commit.txt").write_text(f"{found}\n", encoding="utf-8")


class BuildWithCommit(build_py):
    """Wheels and installations say which commit they are of; the source tree is left alone."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            record_commit(Path(self.build_lib) / "snn_artsy", commit())


class SourceWithCommit(sdist):
    """A source distribution says which commit it is of."""

    def run(self) -> None:
        self.commit = commit()  # before the tree below lies in the checkout and makes it dirty
        super().run()

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        record_commit(Path(base_dir) / "snn_artsy", self.commit)


setup(
    name="snn-artsy",
    version=version(),
    description="Continual learning with silent synapses between a frozen ViT and its sub-networks",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="SNN-Artsy contributors",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["snn_artsy", "snn_artsy.*"]),
    package_data={
        "snn_artsy": ["py.typed", "commit.txt"],
        "snn_artsy.bundled": ["*.safetensors", "*.json"],
        "snn_artsy.report": ["*.html"],
    },
    install_requires=[
        "torch>=2.5",
        "torchvision>=0.20",
        "timm>=1.0.9",
        "snntorch>=0.9.1",
        "numba>=0.60",
        "numpy>=1.26",
        "pillow>=10.0",
        "platformdirs>=4.0",
        "filelock>=3.21",
        "h5py>=3.10",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "scikit-learn>=1.4",
        "threadpoolctl>=3.1",
        "scipy>=1.11",
        "docstring-parser>=0.15",
        "rich>=13.0",
        "safetensors>=0.4.3",
        "PyYAML>=6.0.1",
    ],
    extras_require={
        "test": [
            "accelerate>=1.0",
            "brian2>=2.9",
            "hypothesis>=6.100",
            "elephant>=1.1",
            "ipykernel>=6.0",
            "libsonata>=0.1.30",
            "nbclient>=0.10",
            "neo>=0.13",
            "nir>=1.0.6",
            "nirtorch>=2.0",
            "nwbinspector>=0.6",
            "openvino>=2025.0",
            "numpy<2.4",  # brian2 2.9 does not import with NumPy 2.4
            "pynwb>=3.0",
            "pandas>=2.2",
            "pytest>=8.0",
            "pytest-mpl>=0.17",
            "pytest-xdist>=3.6",
            "ray>=2.52",
            "selenium>=4.20",
            "setuptools>=77",
            "tensorboard>=2.15",
            "xarray>=2024.6",
        ],
        "dev": [
            "build>=1.2",
            "import-linter>=2.5",
            "mypy>=1.13",
            "ruff>=0.12",
            "types-PyYAML>=6.0",
        ],
        "mutation": ["mutmut>=3.8; platform_system == 'Linux'"],
        "docs": [
            "furo>=2024.8.6",
            "myst-parser>=4.0",
            "sphinx>=8.0",
            "sphinx-mathjax-offline>=0.0.2",
        ],
        "nir": ["nir>=1.0.6", "nirtorch>=2.0"],  # nirtorch: what snnTorch reads graphs with
        "nwb": ["pynwb>=3.0"],
        "openvino": ["openvino>=2025.0"],
        "parallel": ["accelerate>=1.0"],
        "sweep": ["ray>=2.52"],
        "tensorboard": ["tensorboard>=2.15"],
        "bench": ["brian2>=2.9", "numpy<2.4"],
        "nest": ["nest-simulator>=3.8; platform_system == 'Linux'"],
    },
    cmdclass={"build_py": BuildWithCommit, "sdist": SourceWithCommit},
    entry_points={"console_scripts": ["snn-artsy = snn_artsy.cli:main"]},
    zip_safe=False,
)
