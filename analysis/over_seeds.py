"""Scripts that measure a run's configuration over seeds: what they are asked, keep and print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from snn_artsy.api import COMPARED
from snn_artsy.checks import ConfigError, within
from snn_artsy.config import MOST_SEEDS, RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import assignments, complete, read_config
from snn_artsy.evaluation.statistics import crossed_mean, holm
from snn_artsy.provenance import provenance
from snn_artsy.runs.compare import few_seeds
from snn_artsy.runs.features import choose_device
from snn_artsy.runs.tables import ABSENT, shown_p

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert, page_with


@dataclass(frozen=True)
class Asked:
    """What the command line says, checked before anything is computed.

    Args:
        given: Options as they were parsed.
        config: Of a run of a comparison.
        seeds: Of its runs.
        device: Where tensors live.
    """

    given: argparse.Namespace
    config: RunConfig
    seeds: list[int]
    device: str

    def configs(self) -> Iterator[RunConfig]:
        """One for each seed."""
        return (replace(self.config, seed=seed) for seed in self.seeds)

    def keep(self, values: Mapping[str, Any]) -> None:
        """Write every value with what it was made from."""
        data, backbone = self.config.data.name, self.config.backbone.name
        kept = {"data": data, "backbone": backbone, "seeds": self.seeds, **values}
        kept |= provenance(torch.get_num_threads())
        self.given.out.parent.mkdir(parents=True, exist_ok=True)
        self.given.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    def tell(self, table: str, rest: str) -> None:
        """Print the table with a caption that ends in ``rest``, and put it into the page."""
        data = self.config.data
        text = (
            f"{table}\n\n{data.name}, {self.config.backbone.name}, seeds {self.seeds[0]}-"
            f"{self.seeds[-1]} (class order, images for validation, {100 * data.train_share:.0f} % "
            f"of the training images, noise), {rest}"
        )
        text += "".join(f"\n{warning}." for warning in few_seeds(len(self.seeds)))
        print(text)
        if self.given.into is not None:
            insert(self.given.into, self.given.name, text)


def asked(parser: argparse.ArgumentParser, words: Sequence[str] | None, name: str) -> Asked:
    """Options that such scripts share are added to ``parser``, and all are read.

    Args:
        name: Of the page's markers, unless ``--name`` says otherwise.

    Raises:
        ConfigError: A value cannot be used, ``--out`` is there, or the page has no such markers.
    """
    parser.add_argument("--config", help="of a run; default: that of a run without options")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="file of all values (JSON)")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default=name)
    given = parser.parse_args(words)
    base: dict[str, Any] = read_config(given.config) if given.config else {}
    config = build(RunConfig, complete(COMPARED, base, assignments(given.set)))
    within("seeds", given.seeds, 1, MOST_SEEDS)
    if given.out.exists():
        raise ConfigError("out", f'"{given.out}" is there; give another name')
    if given.into is not None:
        page_with(given.into, given.name)
    seeds = list(range(config.seed, config.seed + given.seeds))
    return Asked(given, config, seeds, choose_device(config.device))


Key = TypeVar("Key")


def interval(right: NDArray[np.float64]) -> str:
    """95 % interval of an accuracy, in percent: right or wrong at each seed and image [S, I]."""
    low, high = crossed_mean(right).interval()
    return f"{100 * max(low, 0.0):.1f} to {100 * min(high, 1.0):.1f}"


def differences(
    pairs: Mapping[Key, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[dict[Key, list[str]], int]:
    """Cells of each pair a, b, right or wrong at the same seeds and images, [S, I] each: a - b in
    points with its 95 % interval, and p; then how many tests p was corrected for (Holm 1979).

    Intervals and p are a comparison's: t, with seeds and images crossed (`crossed_mean`). A pair
    that answered alike everywhere is no test.
    """
    tested = {key: crossed_mean(a - b) for key, (a, b) in pairs.items() if not np.array_equal(a, b)}
    corrected = dict(zip(tested, holm([d.p_value() for d in tested.values()]), strict=True))
    cells = {}
    for key in pairs:
        if key in tested:
            low, high = tested[key].interval()
            points = f"{100 * tested[key].mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            cells[key] = [points, shown_p(corrected[key])]
        else:
            cells[key] = ["the same answers", ABSENT]
    return cells, len(tested)
