"""Limits on run directories that somebody else made: they choose no code and no place.

A run is gone on with, or used, by what its own config.yaml says. That file names images and weights
to read, which is what it is for. It can have timm fetch the published weights of one of its own
model names, and makes this program fetch nothing else nor write outside the run's directory. (Code
of one's own: `snn_artsy.registry`. See SECURITY.md.)
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.files import at_home

_FEATURES = re.compile(r"[0-9a-f]{32}\.npy")


def as_found(config: RunConfig, directory: Path) -> RunConfig:
    """The configuration of a run in ``directory``, with what only the user may ask for left out.

    Images are not downloaded, and features are kept in ``backbone.cache_dir`` only if there are
    some already, otherwise in the user's own cache; neither changes a number.

    Raises:
        ConfigError: Its backbone would have to be fetched from somebody's repository.
    """
    if not _here(config.backbone.name):
        raise ConfigError(
            "backbone.name",
            f'the run in "{directory}" wants {config.backbone.name!r}, which is not '
            "on this machine and is not fetched because a file says so; if you trust its makers, "
            f"fetch it first: timm.create_model({config.backbone.name!r}, pretrained=True)",
        )
    cache = config.backbone.cache_dir
    if cache is not None and not _holds_features(at_home(cache)):
        cache = None
    return replace(
        config,
        data=replace(config.data, download=False),
        backbone=replace(config.backbone, cache_dir=cache),
    )


def refuse_links(directory: Path, key: str = "run") -> None:
    """Refuse links by which writing in ``directory`` would reach other places.

    Raises:
        ConfigError: A link below it leads out of it.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(directory):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise ConfigError(
                    key,
                    f'"{path}" is a link that leads out of the directory, where nothing is '
                    "written; put what it leads to in its place",
                )


def _here(name: str) -> bool:
    """Whether timm needs nobody's repository for the model: it is its own, local, or cached."""
    source, colon, rest = name.partition(":")
    # timm is lenient in how it reads the source (case, "hf_hub"), so that only two are let through
    if not colon or re.sub(r"[^a-z]", "", source.lower()) in ("timm", "localdir"):
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repository, _, revision = rest.strip("/").partition("@")
    try:
        file = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    except HFValidationError:
        return False
    return isinstance(file, str)


def _holds_features(folder: Path) -> bool:
    try:
        return any(_FEATURES.fullmatch(path.name) for path in folder.iterdir())
    except OSError:
        return False
