"""Parts of a user's own that a command line names, imported before its options are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from snn_artsy.config_builder import convert
from snn_artsy.registry import DATA, ENCODERS, LEARNERS, NEURONS, RULES, load

# Options under which module:Name may be typed.
_NAMING = {
    "learners": LEARNERS,
    "data.name": DATA,
    "snn.plasticity.rule": RULES,
    "snn.plasticity.base": RULES,
    "snn.encoding.code": ENCODERS,
    "snn.neuron.model": NEURONS,
}


def load_own(words: Sequence[str]) -> list[str]:
    """Import what is named as module:Name on this command line, before its options are looked at,
    which may be those of a learner; names in files are left alone.

    Returns:
        The words, with ``--own_rules``, as the option was called once, as ``--own``.
    """
    words = [re.sub(r"^--own_rules(?=$|=)", "--own", word) for word in words]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        given: dict[str, Any] = {option.removeprefix("--"): value if equals else following}
        if option in ("--grid", "--vary"):
            from snn_artsy.runs.sweep import read_grid

            key = option.removeprefix("--")
            given = read_grid(given[key], key)
        for key, values in given.items():
            if option.startswith("--") and key in (*_NAMING, "own"):
                texts = values if isinstance(values, list) else [values]
                for name in (n for each in texts for n in convert(list[str], each, key)):
                    if ":" in name:
                        _NAMING[key].load(name) if key in _NAMING else load(name)
    return words
