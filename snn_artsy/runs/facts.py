"""What the numbers of a run depend on: one record, made at its start and compared as a whole.

``run.h5`` (root attributes), ``summary.json``, checkpoints and the cells of a comparison all carry
this record, so that none of them is taken for a part of another run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from typing import Any

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config.data import SourceConfig
from snn_artsy.config_builder import build
from snn_artsy.provenance import provenance
from snn_artsy.registry import DATA, ENCODERS, KINDS, LEARNERS, NEURONS, RULES, Registry
from snn_artsy.yaml_file import read_mapping, yaml_text

NO_DIFFERENCE = frozenset(
    (
        # where results and images lie; of images and weights, what is in them counts
        "out",
        "data.root",
        "data.sources.root",
        "data.download",
        "backbone.pretrained",
        "backbone.checkpoint",
        # how fast features are made and whether they are kept
        "backbone.workers",
        "backbone.cache",
        "backbone.cache_dir",
        "backbone.cache_gb",
        # recorded as what came of them: `Facts.device`, `Facts.threads` and `Facts.precision`
        "device",
        "threads",
        "backbone.precision",
        # besides what is recorded
        "record.tensorboard",
    )
)
"""Keys of the configuration that cannot change a number; of a section in a list, without its place
there."""

FILES_ONLY = frozenset(("h5py", "safetensors"))
"""Packages that read and write, and compute nothing."""

_ADDED = tuple(f"{registry.one} " for registry in KINDS.values())


@dataclass(frozen=True)
class Facts:
    """What a result depends on, as plain data.

    Args:
        config: The whole configuration, by key; `NO_DIFFERENCE` are no difference.
        images: Fingerprint of each split's images and labels: ``train``, ``test``.
        backbone_sha256: Of the frozen backbone's weights.
        device: ``cpu`` or ``cuda``.
        versions: Package -> version; `FILES_ONLY` are no difference. What was added
            (`snn_artsy.registry`) is there with the SHA-256 of its file.
        threads: Of the computation. Last digits can depend on it, so what goes on takes it over.
        platform: System and machine; recorded, no difference.
        git_commit: Of the checkout, ``-dirty`` if changed, or ``unknown``; no difference.
        precision: Arithmetic that the frozen backbone took.
    """

    config: dict[str, Any]
    images: dict[str, Any]
    backbone_sha256: str
    device: str
    versions: dict[str, Any]
    threads: int
    platform: str
    git_commit: str
    precision: str = "float32"

    @classmethod
    def gather(
        cls,
        config: RunConfig,
        images: Mapping[str, str],
        backbone_sha256: str,
        device: str,
        threads: int,
        precision: str | None = None,
    ) -> Facts:
        """The facts of what is about to run, here and now; ``precision``: default as configured."""
        here = provenance(threads)
        commit = here["git_commit"] or "unknown"
        return cls(
            config=plain(config),
            images=dict(images),
            backbone_sha256=backbone_sha256,
            device=device,
            versions=here["versions"] | _versions(config),
            threads=threads,
            platform=here["platform"],
            git_commit=f"{commit}-dirty" if here["git_dirty"] else commit,
            precision=precision or config.backbone.precision,
        )

    @classmethod
    def read(cls, record: object, key: str, name: str) -> Facts:
        """From a file that holds `plain`, among other things.

        Args:
            record: What the file holds.
            key, name: What it was given as and is called, for errors: ``run``, ``"summary.json"``.

        Raises:
            ConfigError: The record is not whole, or of other types.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(record, Mapping):
            raise ConfigError(
                key, f"{name} holds no record of a run; give one that snn-artsy wrote"
            )
        if "precision" not in record:  # records before 0.1, which had no choice
            config = record.get("config")
            backbone = config.get("backbone") if isinstance(config, Mapping) else None
            precision = backbone.get("precision") if isinstance(backbone, Mapping) else None
            record = {**record, "precision": precision or "float32"}
        if missing := [name for name in names if name not in record]:
            raise ConfigError(
                key,
                f"{name} does not say its {', '.join(missing)}, so nothing can be told from "
                "another run's; it is damaged or older than this program, make it anew",
            )
        try:
            return build(cls, {name: record[name] for name in names})
        except ConfigError as error:
            raise ConfigError(
                key, f"{name} holds a damaged record ({error}); make it anew"
            ) from error

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any], key: str, name: str) -> Facts:
        """From the root attributes of a run.h5 (`attributes`).

        Raises:
            ConfigError: The record is not whole, or of other types.
        """
        record = dict(attributes)
        try:
            for each in ("images", "versions"):
                if each in record:
                    record[each] = json.loads(record[each])
            if "config" in record:
                record["config"] = read_mapping(str(record["config"]), key, f"{name}, its config,")
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                key, f"{name} holds a damaged record ({reason}); make it anew"
            ) from error
        return cls.read(record, key, name)

    def of_config(self, config: RunConfig) -> Facts:
        """The same here and now, for another configuration of the same images and backbone."""
        versions = {k: v for k, v in self.versions.items() if not k.startswith(_ADDED)}
        return replace(self, config=plain(config), versions=versions | _versions(config))

    def plain(self) -> dict[str, Any]:
        """As JSON types, by name."""
        return asdict(self)

    def attributes(self) -> dict[str, Any]:
        """As root attributes of a run.h5: numbers and text."""
        return self.plain() | {
            "config": self.config_yaml(),
            "images": json.dumps(self.images),
            "versions": json.dumps(self.versions),
            "seed": self.config["seed"],
        }

    def config_yaml(self) -> str:
        """The configuration as YAML text, which ``snn-artsy run --config`` takes."""
        return yaml_text(self.config)


def differences(old: Facts, new: Facts) -> list[str]:
    """What can change a number and is not the same, in words; empty if nothing is.

    ``["seed was 1993 and is 4", "the test images changed", "torch was 2.4.0 and is 2.5.1"]``
    """
    return [
        *config_differences(old.config, new.config),
        *(
            f"the {split} images changed"
            for split in sorted({*old.images, *new.images})
            if old.images.get(split) != new.images.get(split)
        ),
        *(["the backbone's weights changed"] if old.backbone_sha256 != new.backbone_sha256 else []),
        *_changed(
            {name: getattr(old, name) for name in ("device", "precision")},
            {name: getattr(new, name) for name in ("device", "precision")},
        ),
        *_changed(
            {k: v for k, v in old.versions.items() if k not in FILES_ONLY},
            {k: v for k, v in new.versions.items() if k not in FILES_ONLY},
        ),
    ]


def remarks(old: Facts, new: Facts) -> list[str]:
    """Differences that are reported but keep nothing from going on."""
    names = ("platform", "git_commit")
    return _changed({n: getattr(old, n) for n in names}, {n: getattr(new, n) for n in names})


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The part of `differences` that two configurations make; the order of learners is none, nor
    are options of learners that were added and take no part. A key that came after ``old`` counts
    there as its default, which is what was done before; one of a data set in a list does where
    ``old`` has this data set."""
    defaults = plain(RunConfig())
    data = old.get("data")
    sources = data.get("sources") if isinstance(data, Mapping) else None
    if isinstance(sources, list):
        defaults["data"]["sources"] = [asdict(SourceConfig())] * len(sources)
    usual, before, now = (dict(_that_matter(each)) for each in (defaults, old, new))
    later = {key: usual[key] for key in usual.keys() & now.keys() - before.keys()}
    return _changed(later | before, now)


def added(config: RunConfig) -> list[tuple[Registry, str]]:
    """What a configuration names that is not part of the package."""
    snn = config.snn
    named = [(LEARNERS, name) for name in config.learners]
    named += [(RULES, snn.plasticity.rule), (RULES, snn.plasticity.base)]
    named += [(DATA, config.data.name), (ENCODERS, snn.encoding.code)]
    named += [(DATA, source.name) for source in config.data.sources or []]
    named.append((NEURONS, snn.neuron.model))
    return [(registry, name) for registry, name in named if registry.origin(name)]


def _versions(config: RunConfig) -> dict[str, str]:
    """SHA-256 of the file of each part that is not of the package, and the version of an engine
    that is not torch."""
    parts = {f"{r.one} {name}": r.source_sha256(name) for r, name in added(config)}
    engine = config.backbone.engine
    return parts if engine == "torch" else parts | {engine: version(engine)}


def plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON gives it back, so that it equals a record that was read."""
    return dict(json.loads(json.dumps(asdict(config))))


def _that_matter(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if not prefix and LEARNERS.options(name) and name not in config.get("learners", ()):
            continue
        if isinstance(value, Mapping):
            yield from _that_matter(value, f"{key}.")
        elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            yield from _that_matter({str(i): each for i, each in enumerate(value)}, f"{key}.")
        elif key == "learners" and isinstance(value, list):
            yield key, sorted(map(str, value))
        elif re.sub(r"\.[0-9]+\.", ".", key) not in NO_DIFFERENCE:
            yield key, value


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
