"""Linear contrasts of the settings of an experiment: differences from a reference, and slopes.

A contrast is a weight for each setting that takes part; its value is the weighted sum of their
means. Where right and wrong answers at the same seeds and images are known, seeds and images are
crossed (`snn_artsy.evaluation.statistics.crossed_mean`); of other measures there is one value a
seed, and seeds are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.evaluation.statistics import CrossedMean, crossed_mean, holm, seeds_mean

Varied = Mapping[str, Any]
"""Values of a setting by key."""


@dataclass(frozen=True)
class Contrast:
    """A question to a measure.

    Args:
        kind: ``difference`` of two settings, or ``slope`` over the values of a key.
        name: In words.
        weights: By setting; they sum to 0.
    """

    kind: str
    name: str
    weights: dict[str, float]


def differences(settings: Mapping[str, Varied]) -> list[Contrast]:
    """Each setting less the one that has a key's first value in its place, all else equal; of
    settings without such keys, each less the first.

    Args:
        settings: Name -> values by key, the same keys in all.
    """
    names = list(settings)
    keys = list(settings[names[0]])
    pairs: list[tuple[str, str, str]] = []
    if not keys:
        pairs = [(f"{name} - {names[0]}", name, names[0]) for name in names[1:]]
    for key in keys:
        first = settings[names[0]][key]
        for name, values in settings.items():
            wanted = {**values, key: first}
            reference = next((n for n, each in settings.items() if each == wanted), name)
            if reference != name:
                what = f"{in_short(key)} {shown_value(values[key])} - {shown_value(first)}"
                pairs.append((what + _beside(values, key), name, reference))
    return [Contrast("difference", what, {a: 1.0, b: -1.0}) for what, a, b in pairs]


def slopes(settings: Mapping[str, Varied]) -> list[Contrast]:
    """The least-squares slope over each key with three numbers or more, per unit of it, wherever
    all else is equal."""
    names = list(settings)
    found = []
    for key in settings[names[0]]:
        groups: dict[str, list[str]] = {}
        for name, values in settings.items():
            groups.setdefault(_beside(values, key), []).append(name)
        for others, members in groups.items():
            numbers = [settings[name][key] for name in members]
            if len(numbers) < 3 or not all(is_number(number) for number in numbers):
                continue
            x = np.array(numbers, dtype=np.float64) - np.mean(numbers)
            weights = dict(zip(members, (x / (x @ x)).tolist(), strict=True))
            found.append(Contrast("slope", f"per {in_short(key)}{others}", weights))
    return found


def is_number(value: object) -> bool:
    """Whether values of this kind lie on an axis; true and false do not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _beside(values: Varied, key: str) -> str:
    """The values of the other keys, in words."""
    others = [f"{in_short(k)} {shown_value(v)}" for k, v in values.items() if k != key]
    return f" ({', '.join(others)})" if others else ""


def shown_value(value: object) -> str:
    """A value as tables and figures show it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)  # values that differ look different
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def in_short(key: str) -> str:
    """The last part of a dotted key."""
    return key.rpartition(".")[2]


def answered(
    contrasts: Sequence[Contrast],
    values: Mapping[str, Sequence[float]],
    correct: Mapping[str, NDArray[np.float64]] | None = None,
) -> list[dict[str, Any]]:
    """Value, interval and p of each contrast whose settings all have the measure; Holm's correction
    is over the contrasts of one kind.

    Args:
        values: The measure of each setting, seed by seed.
        correct: Right (1) or wrong (0) answers of each setting, [n_seeds, n_images], the same
            images in all; None: the measure is no share of them.

    Returns:
        Entries with ``kind``, ``name``, ``value``, ``interval_95``, ``p``, ``p_holm``, ``over``
        (``seeds and images`` or ``seeds``) and ``values`` seed by seed. With one seed and no
        images there is neither interval nor p (None).
    """
    entries: list[dict[str, Any]] = []
    for contrast in contrasts:
        if any(name not in values for name in contrast.weights):
            continue
        each = sum(w * np.asarray(values[name]) for name, w in contrast.weights.items())
        assert isinstance(each, np.ndarray)
        tested: CrossedMean | None = None
        if correct is not None:
            total = sum(w * correct[name] for name, w in contrast.weights.items())
            assert isinstance(total, np.ndarray)
            tested = crossed_mean(total)
        elif len(each) > 1:
            tested = seeds_mean(each.tolist())
        entries.append(
            {
                "kind": contrast.kind,
                "name": contrast.name,
                "value": float(each.mean()),
                "interval_95": None if tested is None else list(tested.interval()),
                "p": None if tested is None else tested.p_value(),
                "over": "seeds" if correct is None else "seeds and images",
                "values": each.tolist(),
            }
        )
    for kind in dict.fromkeys(entry["kind"] for entry in entries):
        family = [e for e in entries if e["kind"] == kind]
        known = [e for e in family if e["p"] is not None]
        for entry, p in zip(known, holm([e["p"] for e in known]), strict=True):
            entry["p_holm"] = p
        for entry in family:
            entry.setdefault("p_holm", None)
    return entries
