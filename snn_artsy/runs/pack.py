"""Trained learners in one file: what it takes to answer, and nothing of the images learnt from."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.files import CONFIG_FILE, SUMMARY_FILE, at_home, whole
from snn_artsy.output import check_free, writing
from snn_artsy.recording.about import read_summary
from snn_artsy.runs.answers import TEST_IMAGES
from snn_artsy.runs.checkpoint import state_path
from snn_artsy.runs.facts import plain
from snn_artsy.runs.trained import WEIGHTS_FILE, load_trained
from snn_artsy.yaml_file import yaml_text

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all members, so that the same run makes the same file: the earliest that the format has."""


def pack(
    directory: str | Path, out: str | Path, with_weights: bool = False, overwrite: bool = False
) -> Path:
    """Pack the learners of a finished run, after a look whether each can be loaded.

    The file holds the configuration without its paths, the summary, what each learner has learnt,
    and fingerprints of the test images' features; no image, no recording.

    Args:
        directory: Of the run.
        out: The .zip to make.
        with_weights: Put the backbone's weights in; else whoever unpacks it needs the same ones,
            which are told by their SHA-256. The bundled backbone's are in the package.
        overwrite: Replace a file that is there.

    Returns:
        What was made; it appears whole or not at all.

    Raises:
        ConfigError: No finished run there, one of its learners cannot be loaded, or the file is
            there already or cannot be written.
    """
    directory, out = at_home(directory), at_home(out)
    if out.suffix != ".zip":
        raise ConfigError("out", f'"{out}" is no name of a pack; give one that ends in .zip')
    check_free(out, overwrite)
    run = load_trained(directory)
    for name in run:
        run[name]
    config = plain(_without_places(run.config))
    summary = {**(read_summary(directory) or {}), "config": config}
    texts = {
        CONFIG_FILE: yaml_text(config),
        SUMMARY_FILE: json.dumps(summary, indent=2, allow_nan=False) + "\n",
    }
    files = [state_path(directory, name) for name in run]
    files += [file for file in [directory / TEST_IMAGES] if file.is_file()]
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory() as scratch,
            whole(out) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, text in texts.items():
                archive.writestr(_member(f"{out.stem}/{name}"), text)
            sources = {file.relative_to(directory).as_posix(): file for file in files}
            if with_weights and run.config.backbone.name != "bundled":
                weights = Path(scratch) / WEIGHTS_FILE
                tensors = run.backbone.vit.state_dict().items()
                save_file({k: v.detach().cpu().clone().contiguous() for k, v in tensors}, weights)
                sources[WEIGHTS_FILE] = weights
            for name, file in sources.items():
                with (
                    file.open("rb") as read,
                    archive.open(_member(f"{out.stem}/{name}"), "w", force_zip64=True) as written,
                ):
                    shutil.copyfileobj(read, written)
    return out


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _without_places(config: RunConfig) -> RunConfig:
    """The configuration without where things lie on this machine (`facts.NO_DIFFERENCE`)."""
    sources = config.data.sources
    return replace(
        config,
        out=None,
        data=replace(
            config.data,
            root=None,
            sources=None if sources is None else [replace(each, root=None) for each in sources],
        ),
        backbone=replace(config.backbone, checkpoint=None, cache_dir=None),
    )
