"""A data set made of others, whose tasks come one after the other or mixed (`build_stream`)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig
from snn_artsy.data.joined import JoinedSplit
from snn_artsy.data.sources import ImageSource, load_source


def sequence(config: DataConfig) -> ImageSource:
    """The data sets of ``data.sources`` as one. A class's name is that of its own data set, after
    the domain's and a slash where several data sets have one of this name.

    Raises:
        ConfigError: A data set cannot be read, two of them have images in common, or not the same
            classes in a domain-incremental sequence.
    """
    sources = []
    alone = [config.alone(number) for number in range(len(config.sources or []))]
    for number, each in enumerate(alone):
        with config.keys_of_source(number):
            sources.append(load_source(each))
    _refuse_overlap(alone, sources)
    if config.scenario == "domain":
        _require_same_classes(alone, sources)
    domains = [str(source.domain) for source in config.sources or []]
    n_classes = [len(source.class_names) for source in sources]
    starts = np.cumsum([0, *n_classes])
    numbers = [np.arange(start, start + n) for start, n in zip(starts, n_classes, strict=False)]
    return ImageSource(
        config.name,
        _names(domains, sources),
        JoinedSplit([source.train for source in sources], numbers),
        JoinedSplit([source.test for source in sources], numbers),
        tuple(
            f"data ({domain}): {note.removeprefix('data: ')}"
            for domain, source in zip(domains, sources, strict=True)
            for note in source.notes
        ),
        tuple(sources),
    )


def _names(domains: Sequence[str], sources: Sequence[ImageSource]) -> tuple[str, ...]:
    counts = Counter(name for source in sources for name in source.class_names)
    return tuple(
        name if counts[name] == 1 else f"{domain}/{name}"
        for domain, source in zip(domains, sources, strict=True)
        for name in source.class_names
    )


def _refuse_overlap(configs: Sequence[DataConfig], sources: Sequence[ImageSource]) -> None:
    """No image may be in two classes: a folder can be listed twice only with other classes."""
    seen: list[tuple[tuple[str, str | None], set[int]]] = []
    for number, (config, source) in enumerate(zip(configs, sources, strict=True)):
        place = config.name, None if config.root is None else os.path.realpath(config.root)
        chosen = set(_chosen(config, source))
        for other, (where, classes) in enumerate(seen):
            if where == place and chosen & classes:
                raise ConfigError(
                    f"data.sources.{number}.class_range",
                    f"{len(chosen & classes)} of its classes are also those of "
                    f"data.sources.{other}, which has the same images; give each its own",
                )
        seen.append((place, chosen))


def _require_same_classes(configs: Sequence[DataConfig], sources: Sequence[ImageSource]) -> None:
    names = [
        {source.class_names[i] for i in _chosen(config, source)}
        for config, source in zip(configs, sources, strict=True)
    ]
    for number, own in enumerate(names):
        if different := sorted(own ^ names[0]):
            shown = ", ".join(different[:5]) + (", ..." if len(different) > 5 else "")
            raise ConfigError(
                f"data.sources.{number}",
                f"{len(different)} of its classes and of those of data.sources.0 are not in both "
                f"({shown}); with data.scenario domain all data sets have the same class names",
            )


def _chosen(config: DataConfig, source: ImageSource) -> range:
    """Class numbers that a source gives; how many there are is checked with its tasks."""
    start, stop = config.class_range or (0, len(source.class_names))
    return range(start, min(stop, len(source.class_names)))
