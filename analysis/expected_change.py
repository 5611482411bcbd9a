"""Expected change of every rule under the pairing protocol -> a Markdown table.

    python analysis/expected_change.py [--into docs/model.md]

The rules are those of ``experiments/studies/rules.yaml``. Inputs have an activity p in the images
of the class that the neuron is taught, and 0.3 on average over the task's images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from snn_artsy.cli import script
from snn_artsy.config import EncodingConfig, RunConfig, TeacherConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.rules import GatedSTDP, Signals
from snn_artsy.rules.base import ProductRule, Rule, all_factors
from snn_artsy.synapses.expectation import sampled_change
from snn_artsy.synapses.pairing import Schedule, make_schedule

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "experiments"))
from results_table import insert

RULES = Path(__file__).resolve().parent.parent / "experiments" / "studies" / "rules.yaml"
ACTIVITIES = (0.0, 0.1, 0.3, 0.4, 0.6, 1.0)
AVERAGE = 0.3


def table() -> str:
    encoding, teacher = EncodingConfig(), TeacherConfig()
    schedule = make_schedule(encoding, teacher)
    most = encoding.rate_hz * encoding.dt / 1000.0  # probability of a spike in a step at p = 1
    p = torch.tensor(ACTIVITIES, dtype=torch.float64)
    reliability = torch.tensor([teacher.reliability], dtype=torch.float64)
    silent = torch.zeros(1, len(p), dtype=torch.float64)
    lines = ["| rule | " + " | ".join(f"p = {value:g}" for value in ACTIVITIES) + " |"]
    lines.append("|---|" + "---:|" * len(ACTIVITIES))
    for name, over in yaml.safe_load(RULES.read_text(encoding="utf-8")).items():
        plasticity = build(RunConfig, complete(over)).snn.plasticity
        rule = plasticity.build()
        if rule is None or plasticity.insertion == "bernoulli":  # no mean without its noise
            continue
        mean, error = sampled_change(
            rule,
            silent,
            most * p,
            reliability,
            schedule,
            encoding.dt,
            torch.Generator().manual_seed(1993),
            slow=slow_average(rule, most * AVERAGE, len(p), schedule, encoding.dt),
        )
        pairs = zip(mean[0], error[0], strict=True)
        cells = [f"{1000 * change:+.1f} ± {1000 * e:.1f}" for change, e in pairs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def slow_average(
    rule: Rule, q: float, n_pre: int, schedule: Schedule, dt_ms: float
) -> torch.Tensor | None:
    """Mean presynaptic factor of a gated rule for inputs of probability ``q``."""
    if not (isinstance(rule, GatedSTDP) and isinstance(rule.base, ProductRule)):
        return None
    pre = q * schedule.volley.double()[:, None, None].expand(-1, 1, n_pre)
    quiet = torch.zeros(len(pre), 1, 1, dtype=torch.float64)
    seen = Signals(pre, quiet, quiet, quiet)
    factors, _ = all_factors(rule.base, rule.base.start(pre[0], quiet[0]), seen, dt_ms)
    return factors.gain_pre.mean((0, 1))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--into", type=Path)
    given = parser.parse_args(words)
    text = table()
    print(text)
    if given.into is not None:
        insert(given.into, "expected_change", text)


if __name__ == "__main__":
    script(main)
